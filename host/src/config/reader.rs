//! Walks the tables of a TOML document by the keys that somebody asks for, and remembers all that
//! is wrong on the way: the keys that nobody asked for, too.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Source;
use super::value::quote;
use super::{Diagnostic, Diagnostics};

/// What is wrong with one value. The message is a predicate, such as "must be a number": whoever
/// knows the key puts it in front.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// The place below the value that was read, such as `[2]`, and its span.
    pub(super) inside: Option<(String, Range<usize>)>,
}

/// A value, or all that is wrong with it: a list can have several faults.
pub(super) type Checked<T> = Result<T, Vec<Fault>>;

/// One fault, with what to write instead.
pub(super) fn refuse<T>(message: impl Into<String>, help: impl Into<String>) -> Checked<T> {
    Err(vec![Fault { message: message.into(), help: Some(help.into()), inside: None }])
}

/// More errors than this are not kept: a file may consist of nothing else.
const PROBLEMS_MAX: usize = 1000;

/// All that was found wrong with a text so far.
#[derive(Debug)]
pub(super) struct Problems {
    pub(super) source: Arc<Source>,
    found: RefCell<Vec<Diagnostic>>,
}

impl Problems {
    pub(super) fn of(source: Arc<Source>) -> Self {
        Self { source, found: RefCell::default() }
    }

    /// Remembers one problem at `span`.
    pub(super) fn add(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        label: Option<&str>,
        help: Option<String>,
    ) {
        let mut found = self.found.borrow_mut();
        if found.len() < PROBLEMS_MAX {
            let diagnostic = Diagnostic::new(&self.source, span, message);
            found.push(diagnostic.label(label.map(str::to_owned)).help(help));
        }
    }

    /// Remembers what is wrong with the value of the key `path`.
    pub(super) fn add_faults(&self, path: &str, span: Range<usize>, faults: Vec<Fault>) {
        for fault in faults {
            let (below, span) = fault.inside.unwrap_or_else(|| (String::new(), span.clone()));
            self.add(span, format!("`{path}{below}` {}", fault.message), None, fault.help);
        }
    }

    /// The end of a walk: everything that was wrong, if anything was.
    pub(super) fn into_diagnostics(self) -> Option<Diagnostics> {
        Diagnostics::of(self.found.into_inner())
    }
}

/// One table of the document, or its absence: then every key in it has its default.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) problems: &'a Problems,
    /// Its dotted name; empty for the document itself.
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// Its header, or where it would be added.
    span: Range<usize>,
    asked_for: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn root(problems: &'a Problems, table: &'a DeTable<'a>) -> Self {
        let span = problems.source.end();
        Self { problems, path: String::new(), table: Some(table), span, asked_for: Vec::new() }
    }

    /// Whether the file has it.
    pub(super) fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key` as `read` understands it, or else `default`. None when it is wrong, or
    /// missing without a default; either has been reported then.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        read: impl FnOnce(&Spanned<DeValue<'a>>) -> Checked<T>,
    ) -> Option<T> {
        let Some(value) = self.ask(key) else {
            if default.is_none() {
                self.missing(key);
            }
            return default;
        };
        match read(value) {
            Ok(value) => Some(value),
            Err(faults) => {
                self.problems.add_faults(&self.path_of(key), value.span(), faults);
                None
            }
        }
    }

    /// The value of `key` as it stands there.
    pub(super) fn ask(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked_for.push(key);
        self.table.and_then(|table| table.get(key))
    }

    /// The table `key` in this one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let value = self.ask(key);
        self.inner(key, value)
    }

    /// All keys with their values, in the order of the file, for tables whose keys are names.
    pub(super) fn entries(
        &self,
    ) -> Vec<(&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        let mut entries: Vec<_> = self.table.into_iter().flat_map(DeTable::iter).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// `value` as a table of the name `key` in this one.
    pub(super) fn inner(&self, key: &str, value: Option<&'a Spanned<DeValue<'a>>>) -> Section<'a> {
        let path = self.path_of(key);
        let table = value.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let message = format!("`{path}` must be a table, not {}", kind_of(value.get_ref()));
                let help = format!("write `[{path}]`, in single brackets, and its keys below it");
                self.problems.add(value.span(), message, None, Some(help));
            }
            table
        });
        let span = value.map_or_else(|| self.span.clone(), Spanned::span);
        Section { problems: self.problems, path, table, span, asked_for: Vec::new() }
    }

    /// Its dotted name.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Its header, or where it would be added.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value of `key` stands; where the key is missing, the section.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        let value = self.table.and_then(|table| table.get(key));
        value.map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Whether the file says anything about `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The section's dotted name with `key` behind it.
    pub(super) fn path_of(&self, key: &str) -> String {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let key =
            if key.is_empty() || !key.chars().all(is_bare) { quote(key) } else { key.to_owned() };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// After all keys were asked for: whatever else is there is unknown.
    pub(super) fn finish(self) {
        for (key, _) in self.entries() {
            if !self.asked_for.contains(&key.get_ref().as_ref()) {
                self.unknown(key.span(), key.get_ref());
            }
        }
    }

    fn missing(&self, key: &str) {
        let message = format!("`{}` is missing", self.path_of(key));
        self.problems.add(
            self.span.clone(),
            message,
            Some("in this table"),
            Some(format!("add `{key} = …`")),
        );
    }

    fn unknown(&self, span: Range<usize>, key: &str) {
        let place = if self.path.is_empty() {
            "at the top of a configuration".to_owned()
        } else {
            format!("in `[{}]`", self.path)
        };
        let known: Vec<String> = self.asked_for.iter().map(|key| format!("`{key}`")).collect();
        let known = format!("known {place}: {}", known.join(", "));
        let help = match nearest(key, &self.asked_for) {
            Some(near) => format!("did you mean `{near}`? {known}"),
            None => known,
        };
        let message = format!("unknown key `{}` {place}", key.escape_debug());
        self.problems.add(span, message, Some("unknown"), Some(help));
    }
}

/// The one of `known` that `word` is most likely a slip of.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    const SIMILAR_ENOUGH: f64 = 0.8;
    // Comparing takes the product of both lengths; nobody mistypes a name of three lines.
    if word.len() > 100 {
        return None;
    }
    let similarity = |one: &str| strsim::jaro_winkler(word, one);
    let best = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(best) >= SIMILAR_ENOUGH).then_some(best)
}

/// What a value is, with its article, for "must be …, not …".
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
