//! What a policy is configured with, and how it says that something is wrong with it.

/// The configuration, and the services it can speak of.
#[derive(Debug, Clone)]
pub struct Setup {
    config: String,
    services: Vec<String>,
}

impl Setup {
    /// Starts a setup for a test: the configuration `{}`, no services.
    pub fn builder() -> SetupBuilder {
        SetupBuilder { setup: Setup { config: "{}".to_owned(), services: Vec::new() } }
    }

    /// The policy's own configuration, as JSON text: always an object. [`crate::config`] reads it.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The names of the configured services, in the order of the gateway's configuration.
    pub fn services(&self) -> &[String] {
        &self.services
    }
}

/// Builds a [`Setup`].
#[derive(Debug, Clone)]
pub struct SetupBuilder {
    setup: Setup,
}

impl SetupBuilder {
    /// The policy's configuration, as JSON text.
    pub fn config(mut self, json: impl Into<String>) -> Self {
        self.setup.config = json.into();
        self
    }

    /// The names of the services.
    pub fn services<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.setup.services = names.into_iter().map(Into::into).collect();
        self
    }

    /// The setup.
    pub fn build(self) -> Setup {
        self.setup
    }
}

/// One thing that is wrong with a configuration: what, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The place, as a JSON pointer (RFC 6901): `/routes/2/service`. Empty for the whole. A `#`
    /// behind it means the field's name instead of its value.
    pub pointer: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it, where the policy knows.
    pub suggestion: Option<String>,
}

impl ConfigError {
    /// An error without a suggestion.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        ConfigError { pointer: pointer.into(), message: message.into(), suggestion: None }
    }

    /// Adds what to do about it.
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}
