//! What is wrong, where, and what to do: for people with the line and a caret, for scripts as data.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;
use serde::ser::SerializeStruct;

use super::source::Source;

/// So many errors are shown; the rest is counted.
const SHOWN_MAX: usize = 50;

/// One thing that is wrong with a configuration.
///
/// Serializes as `{file, line, column, message, help}`, where line and column count from 1 and are
/// null, like `help`, where there is none.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    source: Arc<Source>,
    /// On one line of the source; none where the file could not be read at all.
    span: Option<Range<usize>>,
    message: String,
    label: Option<String>,
    note: Option<String>,
    help: Option<String>,
}

impl Diagnostic {
    /// `message` says all that matters in one sentence; the rest only makes it easier.
    pub(super) fn new(
        source: &Arc<Source>,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        Self { span: Some(source.first_line_of(span)), ..Self::about(source, message) }
    }

    /// For what concerns the file as a whole.
    pub(super) fn about(source: &Arc<Source>, message: impl Into<String>) -> Self {
        let source = Arc::clone(source);
        Self { source, span: None, message: message.into(), label: None, note: None, help: None }
    }

    /// A few words at the caret.
    pub(super) fn label(self, label: Option<String>) -> Self {
        Self { label, ..self }
    }

    /// Who says so, or why.
    pub(super) fn note(self, note: String) -> Self {
        Self { note: Some(note), ..self }
    }

    /// What to write instead.
    pub(super) fn help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    /// What is wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line and column it begins at, both from 1.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.span.as_ref().map(|span| self.source.position(span.start))
    }

    /// The file, the line and a caret, as text without a final newline.
    pub fn render(&self, colour: bool) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.message.as_str()));
        group = match &self.span {
            Some(span) => group.element(self.snippet(span)),
            None => group.element(Origin::path(clean(&self.source.name))),
        };
        if let Some(note) = &self.note {
            group = group.element(Level::NOTE.message(clean(note)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(clean(help)));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// Only the line in question: the renderer's work does not grow with the file.
    fn snippet(&self, span: &Range<usize>) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let text = &self.source.text;
        let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[span.end..].find('\n').map_or(text.len(), |newline| span.end + newline);
        let line = text[start..end].trim_end_matches('\r');
        // The renderer panics on a place behind the line, as between CR and LF.
        let within = |at: usize| (at - start).min(line.len());
        let annotation = AnnotationKind::Primary
            .span(within(span.start)..within(span.end))
            .label(self.label.as_deref());
        Snippet::source(line)
            .line_start(self.source.position(span.start).0)
            .path(self.source.name.as_str())
            .annotation(annotation)
    }
}

/// Text that came from a file or a policy must not steer the terminal.
fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(|c: char| c.is_control() && c != '\n') {
        Cow::Owned(annotate_snippets::normalize_untrusted_str(text))
    } else {
        Cow::Borrowed(text)
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.position();
        let mut fields = serializer.serialize_struct("Diagnostic", 5)?;
        fields.serialize_field("file", &self.source.name)?;
        fields.serialize_field("line", &position.map(|(line, _)| line))?;
        fields.serialize_field("column", &position.map(|(_, column)| column))?;
        fields.serialize_field("message", &self.message)?;
        fields.serialize_field("help", &self.help)?;
        fields.end()
    }
}

/// All that is wrong with a configuration: at least one [`Diagnostic`], in the order of the file.
///
/// `Display` renders them plainly; it serializes as a list.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Puts them into the order of the file. Without any there is nothing to refuse: none.
    pub fn of(mut all: Vec<Diagnostic>) -> Option<Self> {
        all.sort_by_key(|one| one.span.as_ref().map(|span| span.start));
        (!all.is_empty()).then_some(Self(all))
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// All of them for people, an empty line between two; the first 50 of many.
    pub fn render(&self, colour: bool) -> String {
        let mut parts: Vec<String> =
            self.iter().take(SHOWN_MAX).map(|one| one.render(colour)).collect();
        if self.0.len() > SHOWN_MAX {
            parts.push(format!("… and {} more", self.0.len() - SHOWN_MAX));
        }
        parts.join("\n\n")
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
