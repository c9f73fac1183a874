//! The text of a configuration, and the way back from a place in it to a line.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Diagnostic;
use crate::policy::Kind;

/// Where a configuration's text comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// What messages call it, usually its path.
    pub name: String,
    /// What relative paths in it count from.
    pub folder: PathBuf,
}

/// A configuration's text, shared by all that is said about it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

impl Source {
    /// The line and column of a byte, both from 1; the column counts characters.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The part of `span` that lies on its first line: what a caret can underline.
    pub(super) fn first_line_of(&self, span: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end.max(start));
        let line_end = self.text[start..end].find(['\n', '\r']).map_or(end, |found| start + found);
        start..line_end
    }

    /// Just behind the last character that is not blank: where something that is missing belongs.
    pub(super) fn end(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        end..end
    }
}

/// What a policy says about its own configuration, mapped back to the lines of the file.
#[derive(Debug, Clone)]
pub struct SourceMap {
    routing: Arc<Source>,
    retry: Arc<Source>,
}

impl SourceMap {
    /// The policies' configurations stand in these texts.
    pub(super) fn new(routing: Arc<Source>, retry: Arc<Source>) -> Self {
        Self { routing, retry }
    }

    /// The text of the file itself, in which the routing policy's configuration always stands.
    pub(super) fn file(&self) -> &Source {
        &self.routing
    }

    /// The texts of the routing and of the retry policy's configuration.
    pub(super) fn into_sources(self) -> (Arc<Source>, Arc<Source>) {
        (self.routing, self.retry)
    }

    /// Why a policy's component is refused, at the line that names it.
    pub fn component_error(&self, kind: Kind, message: &str) -> Diagnostic {
        let source = self.source(kind);
        let path = ["policy", kind.name(), "component"].map(str::to_owned);
        let (root, _) = DeTable::parse_recoverable(&source.text);
        let place = locate(&root, &path);
        Diagnostic::new(source, place.span.unwrap_or_else(|| source.end()), shorten(message))
    }

    fn source(&self, kind: Kind) -> &Arc<Source> {
        match kind {
            Kind::Routing => &self.routing,
            Kind::Retry => &self.retry,
        }
    }

    /// One objection of a policy to its configuration, at the line it is about.
    ///
    /// `pointer` is a JSON pointer (RFC 6901) into the policy's `config`; with a `#` behind it, the
    /// diagnostic stands at the field's name instead of its value. Where it leads nowhere, as when a
    /// field is missing, the diagnostic stands at the deepest part that exists.
    pub fn policy_error(
        &self,
        kind: Kind,
        pointer: &str,
        message: &str,
        suggestion: Option<&str>,
    ) -> Diagnostic {
        let note = format!("the {} policy refuses its configuration", kind.name());
        error_at(self.source(kind), (kind, "config"), pointer, message)
            .note(note)
            .help(suggestion.map(shorten))
    }

    /// What is wrong with a case of a policy's self-test, or with a decision that it is about, at its
    /// line.
    ///
    /// `pointer` is a JSON pointer into the policy's `cases`, as in [`Self::policy_error`]: `/0` is the
    /// first case. Cases that stand in a file of their own have no line here.
    pub fn case_error(&self, kind: Kind, pointer: &str, message: &str) -> Diagnostic {
        // Where the built-in configuration counts for a policy, the file may have cases all the same.
        error_at(&self.routing, (kind, "cases"), pointer, message)
            .note(format!("in the self-test of the {} policy", kind.name()))
    }
}

/// A diagnostic at the place that `pointer` leads to, in `[policy.<kind>.<key>]`.
fn error_at(
    source: &Arc<Source>,
    (kind, key): (Kind, &str),
    pointer: &str,
    message: &str,
) -> Diagnostic {
    let mut path = vec!["policy".to_owned(), kind.name().to_owned(), key.to_owned()];
    path.extend(pointer_tokens(pointer));
    // The text was accepted once, so that it parses again.
    let (root, _) = DeTable::parse_recoverable(&source.text);
    let mut place = locate(&root, &path);
    if place.depth < path.len()
        && let Some(name) = path.last().and_then(|last| last.strip_suffix('#'))
    {
        // Only now: a field's own name may end in `#`.
        let name = name.to_owned();
        path.pop();
        path.push(name);
        let named = locate(&root, &path);
        place = Place { span: named.key.clone().or(named.span.clone()), ..named };
    }
    let label = (place.depth < path.len())
        .then(|| format!("about `{}`, which is not here", pointer.escape_debug()));
    Diagnostic::new(source, place.span.unwrap_or_else(|| source.end()), shorten(message))
        .label(label)
}

/// How far a path could be followed, and where that ended.
struct Place {
    span: Option<Range<usize>>,
    /// Of the last step, where that is a field of a table.
    key: Option<Range<usize>>,
    depth: usize,
}

/// Follows `path` through tables and arrays, as deep as it exists.
fn locate(root: &Spanned<DeTable<'_>>, path: &[String]) -> Place {
    let mut place = Place { span: None, key: None, depth: 0 };
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for step in path {
        let next = match value.map(Spanned::get_ref) {
            None => field(root.get_ref(), step),
            Some(DeValue::Table(table)) => field(table, step),
            Some(DeValue::Array(array)) => {
                step.parse().ok().and_then(|index: usize| array.get(index)).map(|it| (None, it))
            }
            Some(_) => None,
        };
        let Some((key, next)) = next else { break };
        place = Place { span: Some(next.span()), key, depth: place.depth + 1 };
        value = Some(next);
    }
    place
}

/// A field of a table, with the span of its name.
fn field<'t, 'i>(
    table: &'t DeTable<'i>,
    name: &str,
) -> Option<(Option<Range<usize>>, &'t Spanned<DeValue<'i>>)> {
    table.get_key_value(name).map(|(key, value)| (Some(key.span()), value))
}

/// The parts of a JSON pointer, unescaped (`~1` is `/`, `~0` is `~`: RFC 6901 §4).
fn pointer_tokens(pointer: &str) -> impl Iterator<Item = String> {
    let rest = pointer.strip_prefix('/').or((!pointer.is_empty()).then_some(pointer));
    rest.into_iter()
        .flat_map(|rest| rest.split('/'))
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
}

/// A policy may say anything at any length; a line of a message is enough.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 500;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
