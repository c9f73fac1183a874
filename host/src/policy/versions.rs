//! From a component's bytes to a version that can decide, or a refusal that says what to do.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use super::bindings::{Host, Setup};
use super::compile::Usage;
use super::contract::{Interfaces, OFFERED, PACKAGE, check_space, export};
use super::engine::Engine;
use super::overrun::refusal;
use super::stats::Stats;
use super::{Fault, Kind, cache};
use crate::config::{self, Instances, PolicyLimits};

/// A component and its configuration: all that a version is made of.
#[derive(Debug, Clone)]
pub struct Source {
    component: Bytes,
    config: Arc<str>,
    digests: Digests,
}

/// The SHA-256 of component and configuration, each and together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    pub component: [u8; 32],
    pub config: [u8; 32],
    /// Of the other two.
    pub version: [u8; 32],
}

impl Source {
    /// What the configuration names.
    ///
    /// Errors where the file cannot be read, or is larger than `component_max`.
    pub fn named(policy: &config::Policy) -> Result<Source, LoadError> {
        let component = match &policy.component {
            config::Component::BuiltinRouting => {
                Bytes::from_static(include_bytes!("../../../plugins/dist/routing.wasm"))
            }
            config::Component::BuiltinRetry => {
                Bytes::from_static(include_bytes!("../../../plugins/dist/retry.wasm"))
            }
            config::Component::File(path) => {
                let failed = |error| LoadError::Read { path: path.display().to_string(), error };
                // Before a single byte: a file may be larger than memory, and a pipe without end.
                let size = file_size(path).map_err(failed)?;
                check_size(size, &policy.limits)?;
                std::fs::read(path).map_err(failed)?.into()
            }
        };
        Ok(Source::new(component, policy.config.to_string().into()))
    }

    /// `config` is JSON, as the policy gets it. Takes a time in proportion to the component.
    pub fn new(component: Bytes, config: Arc<str>) -> Source {
        let of_component: [u8; 32] = Sha256::digest(&component).into();
        let of_config: [u8; 32] = Sha256::digest(&*config).into();
        let version =
            Sha256::new().chain_update(of_component).chain_update(of_config).finalize().into();
        let digests = Digests { component: of_component, config: of_config, version };
        Source { component, config, digests }
    }

    pub fn component(&self) -> &Bytes {
        &self.component
    }

    pub fn config(&self) -> &Arc<str> {
        &self.config
    }

    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Of both together, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(&self.digests.version)
    }
}

/// The size of a regular file, in bytes; an error where it is something else, which might never end.
pub(crate) fn file_size(path: &Path) -> std::io::Result<u64> {
    let found = std::fs::metadata(path)?;
    match found.is_file() {
        true => Ok(found.len()),
        false => Err(std::io::Error::other("it is not a file")),
    }
}

/// Refuses a component of more than `component_max`.
pub(super) fn check_size(bytes: u64, limits: &PolicyLimits) -> Result<(), LoadError> {
    let max = limits.component_max as u64;
    if bytes > max {
        return Err(LoadError::Limit {
            step: Step::Receive,
            key: "component_max",
            text: format!(
                "the component has {}, and `component_max` is {}: make it smaller, or raise \
                 `component_max`",
                bytesize::ByteSize(bytes),
                bytesize::ByteSize(max)
            ),
        });
    }
    Ok(())
}

/// A component together with its configuration: what decides, named by the SHA-256 of both.
pub struct Version {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    /// The first half of the hash, for WASI's constant seed.
    pub(super) seed: u128,
    pub(super) pre: InstancePre<Host>,
    pub(super) configure: ComponentExportIndex,
    pub(super) decide: ComponentExportIndex,
    pub(super) setup: Arc<Setup>,
    pub(super) limits: PolicyLimits,
    pub(super) instances: Instances,
    wants_services: bool,
    stats: Stats,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("kind", &self.kind).field("name", &self.name).finish()
    }
}

/// What a policy's `configure` says is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// RFC 6901, into the policy's own configuration.
    pub pointer: String,
    pub message: String,
    pub suggestion: Option<String>,
}

impl ConfigError {
    /// The pointer alone: a `#` behind it says that the field's name is meant, not its value.
    pub fn place(&self) -> &str {
        self.pointer.strip_suffix('#').unwrap_or(&self.pointer)
    }
}

/// Why a component is refused. Each text says what, where and what to do; what the component brought
/// into it, such as names and messages, can neither forge a line of the log nor fill it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the component {path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("{0}")]
    NotAComponent(String),
    #[error("{}", refusal(.0))]
    Compile(String),
    #[error("{}", refusal(.0))]
    Contract(String),
    /// It needs more than the limit of this key allows.
    #[error("{text}")]
    Limit { step: Step, key: &'static str, text: String },
    #[error("it could not be instantiated: {0}")]
    Instantiate(Fault),
    #[error("its configuration is refused by the policy{}", refusal(&told(.0)))]
    Config(Vec<ConfigError>),
    #[error("`configure` failed: {0}")]
    Configure(Fault),
    /// A case that makes no sense, or comes out otherwise, by its place.
    #[error("case {} {}: {}", case + 1, of.words(), refusal(message))]
    Case { of: CasesOf, case: usize, message: String },
    #[error("{0}")]
    SelfTest(String),
    #[error("{}", refusal(.0))]
    Impure(String),
    /// The gateway cannot, which says nothing about the component.
    #[error("{text}")]
    Unable { step: Step, text: String },
}

/// Where a case stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasesOf {
    Configuration,
    /// The file beside the component.
    Component,
    Push,
}

impl CasesOf {
    fn words(self) -> &'static str {
        match self {
            CasesOf::Configuration => "of the gateway's configuration",
            CasesOf::Component => "of the file beside the component",
            CasesOf::Push => "of those that came with it",
        }
    }
}

/// The step of a version's life at which it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Receive,
    Compile,
    Contract,
    Instantiate,
    Configure,
    SelfTest,
    Purity,
    Activate,
    /// While it was serving.
    Decisions,
}

impl Step {
    pub const ALL: &'static [Step] = &[
        Step::Receive,
        Step::Compile,
        Step::Contract,
        Step::Instantiate,
        Step::Configure,
        Step::SelfTest,
        Step::Purity,
        Step::Activate,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Step::Receive => "receive",
            Step::Compile => "compile",
            Step::Contract => "contract",
            Step::Instantiate => "instantiate",
            Step::Configure => "configure",
            Step::SelfTest => "self-test",
            Step::Purity => "purity",
            Step::Activate => "activate",
            Step::Decisions => "decisions",
        }
    }
}

impl LoadError {
    pub fn step(&self) -> Step {
        match self {
            LoadError::Read { .. } | LoadError::NotAComponent(_) => Step::Receive,
            LoadError::Compile(_) => Step::Compile,
            LoadError::Contract(_) => Step::Contract,
            LoadError::Limit { step, .. } => *step,
            LoadError::Instantiate(_) => Step::Instantiate,
            LoadError::Config(_) | LoadError::Configure(_) => Step::Configure,
            LoadError::Case { .. } | LoadError::SelfTest(_) => Step::SelfTest,
            LoadError::Impure(_) => Step::Purity,
            LoadError::Unable { step, .. } => *step,
        }
    }

    pub(crate) fn unable(step: Step, text: impl Into<String>) -> LoadError {
        LoadError::Unable { step, text: text.into() }
    }

    /// Whether it says nothing about the version. Of one that has served before, a time that has run out does
    /// not either.
    pub(crate) fn may_be_the_machines(&self, has_served: bool) -> bool {
        match self {
            LoadError::Unable { .. } => true,
            LoadError::Limit { key: "compile_timeout" | "self_test_timeout", .. } => has_served,
            LoadError::Instantiate(fault) | LoadError::Configure(fault) => {
                has_served && !fault.is_its_own()
            }
            _ => false,
        }
    }

    /// The key of the limit that it was too much for.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            LoadError::Limit { key, .. } => Some(key),
            LoadError::Configure(fault) | LoadError::Instantiate(fault) => match fault {
                Fault::Timeout(_) | Fault::WallClock { .. } => Some("configure_timeout"),
                Fault::Memory(_) => Some("memory_max"),
                Fault::Table(_) => Some("table_elements_max"),
                Fault::Stack(_) => Some("stack_max"),
                Fault::Result(_) => Some("result_max"),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The first of them, for those who see no lines of a file.
fn told(errors: &[ConfigError]) -> String {
    let Some(first) = errors.first() else { return String::new() };
    let more = match errors.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let suggestion = first.suggestion.as_ref().map_or(String::new(), |it| format!("; {it}"));
    format!(": at `{}`: {}{suggestion}{more}", first.place(), first.message)
}

impl Version {
    /// Compiles and checks a policy. Its `configure` has not run yet: making the first instance does
    /// that. Limits and the way of instances are those of `policy`.
    pub async fn load(
        engine: &Engine,
        kind: Kind,
        source: &Source,
        policy: &config::Policy,
        services: &[String],
    ) -> Result<Version, LoadError> {
        let (component, _) = compile(engine, &source.component, &policy.limits).await?;
        let interfaces = Interfaces::of(engine, &component);
        interfaces.check_contract(kind, &engine.linker)?;
        check_space(&component, &policy.limits)?;
        let pre = engine.linker.instantiate_pre(&component).map_err(|error| {
            LoadError::Contract(format!(
                "the {} policy does not fit this gateway's `{PACKAGE}*@{OFFERED}`: {error:#}; rebuild \
                 it with SDK 0.1",
                kind.name(),
            ))
        })?;
        let configure = export(&component, "lifecycle", "configure")?;
        let decide = match kind {
            Kind::Routing => export(&component, "routing", "route")?,
            Kind::Retry => export(&component, "retry", "judge")?,
        };
        let hash = source.digests.version;
        Ok(Version {
            kind,
            name: short_name(&hash).into(),
            seed: u128::from_le_bytes(hash[..16].try_into().expect("a SHA-256 has 32 bytes")),
            pre,
            configure,
            decide,
            setup: Arc::new(Setup { config: source.config.clone(), services: services.to_vec() }),
            limits: policy.limits.clone(),
            instances: policy.instances,
            wants_services: interfaces.imports_service_states(),
            stats: Stats::default(),
        })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The first twelve hexadecimal digits of the SHA-256 of component and configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its configuration, as JSON.
    pub(crate) fn config(&self) -> &Arc<str> {
        &self.setup.config
    }

    /// Whether it may ask for the state of services: what a judge may ask is noted on arrival.
    pub fn wants_services(&self) -> bool {
        self.wants_services
    }

    /// What it has decided, and how.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn limits(&self) -> &PolicyLimits {
        &self.limits
    }
}

/// What a version is called where people read it.
pub fn short_name(hash: &[u8; 32]) -> String {
    hex(&hash[..6])
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// What a component compiles to, and what that took; nothing where an earlier start has done it.
pub(super) async fn compile(
    engine: &Engine,
    bytes: &[u8],
    limits: &PolicyLimits,
) -> Result<(Component, Option<Usage>), LoadError> {
    const WASM: &[u8] = b"\0asm";
    const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
    let refuse = |text: &str| Err(LoadError::NotAComponent(text.into()));
    check_size(bytes.len() as u64, limits)?;
    match bytes.strip_prefix(WASM) {
        None => {
            return refuse("this is not a WebAssembly file: it does not begin with `\\0asm`");
        }
        Some(rest) if rest.starts_with(CORE_MODULE) => {
            return refuse(
                "this is a core module, not a component: compile it for `wasm32-wasip2`",
            );
        }
        Some(_) => {}
    }
    let cache = engine.cache.as_deref();
    if let Some(compiled) = cache.and_then(|cache| cache.get(&engine.wasmtime, bytes)) {
        return Ok((compiled, None));
    }
    let (code, usage) = engine.compiler.compile(bytes, limits).await?;
    let compiled = cache::component_of(&engine.wasmtime, &code).map_err(|error| no_room(&error))?;
    if let Some(cache) = cache
        && let Err(error) = cache.put(&engine.wasmtime, bytes, &code)
    {
        tracing::warn!(%error, "cannot keep a compiled policy: see `server.cache_dir`");
    }
    Ok((compiled, Some(usage)))
}

/// What was compiled does not fit into the pool, whose slots the limits have sized.
fn no_room(error: &wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    // wasmtime has no types for this.
    let key = match &*text {
        text if text.contains("memories") => {
            return LoadError::Contract("it has several memories; one is allowed".into());
        }
        text if text.contains("core module instances") => "core_instances_max",
        text if text.contains("tables") => "tables_max",
        text if text.contains("table index") => "table_elements_max",
        text if text.contains("memory index") => "memory_max",
        _ => return LoadError::Compile(format!("what came of it does not run: {text}")),
    };
    LoadError::Limit {
        step: Step::Contract,
        key,
        text: format!("{text}: simplify it, or raise `{key}` for this policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_forges_no_line() {
        let forged = "wants `\x1b[31m`\r\n2030-01-01 ERROR all is lost".to_owned();
        let error = ConfigError {
            pointer: "/\n".into(),
            message: forged.clone(),
            suggestion: Some(forged.clone()),
        };
        for refused in [
            LoadError::Compile(forged.clone()),
            LoadError::Contract(forged.repeat(10_000)),
            LoadError::Config(vec![error]),
            LoadError::Case { of: CasesOf::Component, case: 0, message: forged.clone() },
            LoadError::Impure(forged),
        ] {
            let text = refused.to_string();
            assert!(text.contains("all is lost"), "{text:?}");
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() < 2000, "{} bytes", text.len());
        }
    }
}
