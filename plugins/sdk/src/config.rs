//! Reads a policy's configuration and finds all that is wrong with it, each error at its place.
//!
//! A [`Document`] collects the errors while a policy walks through it; every reader answers
//! nothing where it has reported something.
//!
//! ```
//! use orchestrator_policy::{ConfigError, config::Document};
//!
//! fn read(json: &str) -> Result<(u64, Vec<String>), Vec<ConfigError>> {
//!     let document = Document::parse(json)?;
//!     let table = document.table(&["share", "users"]);
//!     let share = table.need("share").and_then(|node| node.integer(0..=100));
//!     let users = table.get("users").and_then(|node| node.list()).unwrap_or_default();
//!     let users = users.iter().filter_map(|node| node.text()).map(str::to_owned).collect();
//!     document.finish((share.unwrap_or_default(), users))
//! }
//!
//! assert_eq!(read(r#"{"share": 5, "users": ["ann"]}"#), Ok((5, vec!["ann".to_owned()])));
//!
//! let errors = read(r#"{"shares": 5, "users": ["ann", 7]}"#).unwrap_err();
//! let shown: Vec<_> = errors.iter().map(|e| (e.pointer.as_str(), e.message.as_str())).collect();
//! assert_eq!(
//!     shown,
//!     [
//!         ("/shares#", "`shares` is not known here"),
//!         ("", "`share` is missing"),
//!         ("/users/1", "expected text, found a number"),
//!     ]
//! );
//! assert_eq!(errors[0].suggestion.as_deref(), Some("did you mean `share`?"));
//! ```

mod json;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use self::json::Value;
use crate::ConfigError;

/// A configuration, and what was found wrong with it so far. Borrows from the text.
#[derive(Debug)]
pub struct Document<'a> {
    value: Value<'a>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'a> Document<'a> {
    /// Parses JSON text.
    ///
    /// # Errors
    ///
    /// One, where the text is not JSON.
    pub fn parse(json: &'a str) -> Result<Self, Vec<ConfigError>> {
        match serde_json::from_str(json) {
            Ok(value) => Ok(Document { value, errors: RefCell::default() }),
            Err(error) => Err(vec![ConfigError::new("", format!("not JSON: {error}"))]),
        }
    }

    /// The whole configuration, as a table that may have these fields. Any other is an error.
    pub fn table(&self, fields: &[&str]) -> Table<'_> {
        let root = Node { value: &self.value, pointer: String::new(), errors: &self.errors };
        root.table(fields).unwrap_or(Table { entries: None, node: root })
    }

    /// The value, where nothing was found wrong.
    ///
    /// # Errors
    ///
    /// All that was reported, in the order it was found.
    pub fn finish<T>(&self, value: T) -> Result<T, Vec<ConfigError>> {
        let errors = self.errors.take();
        if errors.is_empty() { Ok(value) } else { Err(errors) }
    }
}

/// One value of a configuration, and where it stands.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    value: &'a Value<'a>,
    pointer: String,
    errors: &'a RefCell<Vec<ConfigError>>,
}

impl<'a> Node<'a> {
    /// The place, as a JSON pointer.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Reports that something is wrong here.
    pub fn report(&self, message: impl Into<String>) {
        self.push(ConfigError::new(&self.pointer, message));
    }

    /// Reports that something is wrong here, and what to do about it.
    pub fn report_with(&self, message: impl Into<String>, suggestion: impl Into<String>) {
        self.push(ConfigError::new(&self.pointer, message).suggest(suggestion));
    }

    /// The text of a field of the table that stands here, for a message: nothing is reported.
    pub fn peek(&self, field: &str) -> Option<&'a str> {
        let Value::Table(entries) = self.value else { return None };
        match entries.iter().find(|(name, _)| name == field) {
            Some((_, Value::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// True where text stands here: for a field that may be text or a table.
    pub fn is_text(&self) -> bool {
        matches!(self.value, Value::Text(_))
    }

    /// A table with any fields: [`Table::names`] has them.
    pub fn map(&self) -> Option<Table<'a>> {
        match self.value {
            Value::Table(entries) => Some(Table { entries: Some(entries), node: self.clone() }),
            _ => self.expected("a table"),
        }
    }

    /// A table that may have these fields. Any other is an error.
    pub fn table(&self, fields: &[&str]) -> Option<Table<'a>> {
        let table = self.map()?;
        for name in table.names().filter(|name| !fields.contains(name)) {
            let suggestion = did_you_mean(name, fields.iter().copied());
            let node = table.at(name, &Value::Null);
            let error = ConfigError::new(
                format!("{}#", node.pointer),
                format!("`{name}` is not known here"),
            );
            let known = || format!("known here: {}", quoted(fields));
            node.push(error.suggest(suggestion.unwrap_or_else(known)));
        }
        Some(table)
    }

    /// The nodes of a list.
    pub fn list(&self) -> Option<Vec<Node<'a>>> {
        let values = match self.value {
            Value::List(values) => values,
            Value::Table(_) => {
                self.report_with(
                    "expected a list, found a table",
                    "of a list of tables each begins with `[[…]]`, in double brackets",
                );
                return None;
            }
            _ => return self.expected("a list"),
        };
        let at = |(index, value): (usize, _)| self.below(&index.to_string(), value);
        Some(values.iter().enumerate().map(at).collect())
    }

    /// Text.
    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::Text(text) => Some(text),
            _ => self.expected("text"),
        }
    }

    /// A truth value.
    pub fn truth(&self) -> Option<bool> {
        match self.value {
            Value::Truth(truth) => Some(*truth),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number in this range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Value::Number(number) = self.value else {
            return self.expected("a whole number");
        };
        let in_range = number.as_u64().filter(|number| range.contains(number));
        if in_range.is_none() {
            let (least, most) = range.into_inner();
            self.report(match most {
                u64::MAX => format!("expected a whole number of at least {least}, found {number}"),
                _ => format!("expected a whole number from {least} to {most}, found {number}"),
            });
        }
        in_range
    }

    /// A duration: a whole number with a unit, `250ms`, `1s`, `2m` or `1h`.
    pub fn duration(&self) -> Option<Duration> {
        const FORM: &str = "write a whole number and a unit: \"250ms\", \"1s\", \"2m\", \"1h\"";
        self.quantity("a duration", &TIME_UNITS, FORM).map(Duration::from_millis)
    }

    /// A number of bytes: a whole number with a unit, `500B`, `64KiB`, `10MiB` or `1GiB`; also `TiB`, and
    /// `KB`, `MB`, `GB` and `TB`, which are powers of 1000.
    pub fn size(&self) -> Option<u64> {
        const FORM: &str =
            "write a whole number and a unit: \"500B\", \"64KiB\", \"10MiB\", \"1GiB\"";
        self.quantity("a size", &SIZE_UNITS, FORM)
    }

    fn quantity(&self, what: &str, units: &[(&str, u64)], form: &str) -> Option<u64> {
        let Value::Text(text) = self.value else {
            let found = kind(self.value);
            self.report_with(format!("expected {what} as text, found {found}"), form);
            return None;
        };
        let quantity = parse_quantity(text, units);
        if quantity.is_none() {
            self.report_with(format!("`{text}` is not {what}"), form);
        }
        quantity
    }

    /// One of these words; `what` they are goes into the error.
    pub fn one_of<S: AsRef<str>>(&self, words: &[S], what: &str) -> Option<&'a str> {
        let text = self.text()?;
        if words.iter().any(|word| word.as_ref() == text) {
            return Some(text);
        }
        let suggestion = did_you_mean(text, words.iter().map(AsRef::as_ref));
        self.report_with(
            format!("`{text}` is not {what}"),
            suggestion.unwrap_or_else(|| match words {
                [] => "there is none".to_owned(),
                _ => format!("there is {}", quoted(words)),
            }),
        );
        None
    }

    /// The node of an escaped name or of an index.
    fn below(&self, token: &str, value: &'a Value<'a>) -> Node<'a> {
        let mut pointer = String::with_capacity(self.pointer.len() + 1 + token.len());
        pointer.push_str(&self.pointer);
        pointer.push('/');
        pointer.push_str(token);
        Node { value, pointer, errors: self.errors }
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.report(format!("expected {what}, found {}", kind(self.value)));
        None
    }

    fn push(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }
}

/// A table of a configuration.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// None where something else stood in its place, which was reported.
    entries: Option<&'a [(Cow<'a, str>, Value<'a>)]>,
    node: Node<'a>,
}

impl<'a> Table<'a> {
    /// The table itself, to report what is wrong with it as a whole.
    pub fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// A field, where it is there.
    pub fn get(&self, name: &str) -> Option<Node<'a>> {
        let (_, value) = self.entries?.iter().find(|(key, _)| key == name)?;
        Some(self.at(name, value))
    }

    /// The names of all fields, in the order of the text: for a table whose fields are not known
    /// beforehand, such as one of headers.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entries.unwrap_or_default().iter().map(|(name, _)| &**name)
    }

    /// A field that must be there.
    pub fn need(&self, name: &str) -> Option<Node<'a>> {
        let node = self.get(name);
        if node.is_none() && self.entries.is_some() {
            self.node.report(format!("`{name}` is missing"));
        }
        node
    }

    fn at(&self, name: &str, value: &'a Value<'a>) -> Node<'a> {
        // Names that need it are rare, and there may be thousands of tables.
        if name.contains(['~', '/']) {
            self.node.below(&name.replace('~', "~0").replace('/', "~1"), value)
        } else {
            self.node.below(name, value)
        }
    }
}

/// The candidate that looks like a slip of the keyboard away from the word, as a question.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let distance = |candidate: &str| {
        strsim::osa_distance(&word.to_ascii_lowercase(), &candidate.to_ascii_lowercase())
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        // A third of the word may be wrong; `tag` is not a slip of `app`.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// In milliseconds.
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// In bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let (_, of_one) = units.iter().find(|(name, _)| *name == &text[unit..])?;
    number.checked_mul(*of_one)
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Truth(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn quoted<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(json: &str, read: impl Fn(&Table<'_>)) -> Vec<(String, String, Option<String>)> {
        let document = Document::parse(json).expect("valid JSON");
        read(&document.table(&["a/b", "list", "limit"]));
        let errors = document.finish(()).err().unwrap_or_default();
        errors.into_iter().map(|e| (e.pointer, e.message, e.suggestion)).collect()
    }

    #[test]
    fn what_is_not_json_is_one_error_about_the_whole() {
        let errors = Document::parse("{").unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].pointer, "");
        assert!(errors[0].message.starts_with("not JSON: "), "{}", errors[0].message);
    }

    #[test]
    fn a_configuration_that_is_no_table_is_reported_once() {
        let found = errors("[]", |table| {
            assert!(table.need("limit").is_none());
        });
        assert_eq!(found, [(String::new(), "expected a table, found a list".to_owned(), None)]);
    }

    #[test]
    fn a_table_in_place_of_a_list_says_how_one_is_written() {
        let found = errors(r#"{"list": {}}"#, |table| {
            assert!(table.get("list").and_then(|node| node.list()).is_none());
        });
        let [(pointer, message, Some(help))] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (pointer.as_str(), message.as_str()),
            ("/list", "expected a list, found a table")
        );
        assert!(help.contains("[[…]]"), "{help}");
    }

    #[test]
    fn pointers_are_escaped() {
        let found = errors(r#"{"a/b": 1, "x~y": 2}"#, |table| {
            table.get("a/b").expect("there").text();
        });
        let pointers: Vec<_> = found.iter().map(|(pointer, ..)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/x~0y#", "/a~1b"]);
    }

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, expected) in [
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("1s", Some(1_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("1", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse_quantity(text, &TIME_UNITS), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        for (text, expected) in [
            ("0B", Some(0)),
            ("500B", Some(500)),
            ("64KiB", Some(65_536)),
            ("10MiB", Some(10_485_760)),
            ("1GiB", Some(1_073_741_824)),
            ("1024", None),
            ("1KB", Some(1_000)),
            ("2MB", Some(2_000_000)),
            ("3GB", Some(3_000_000_000)),
            ("1M", None),
            ("1kib", None),
            ("17179869184GiB", None),
        ] {
            assert_eq!(parse_quantity(text, &SIZE_UNITS), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_size_is_told_how_one_is_written() {
        let form = "write a whole number and a unit: \"500B\", \"64KiB\", \"10MiB\", \"1GiB\"";
        for (json, message) in
            [("1024", "expected a size as text, found a number"), ("\"1M\"", "`1M` is not a size")]
        {
            let found = errors(&format!(r#"{{"limit": {json}}}"#), |table| {
                assert_eq!(table.get("limit").and_then(|node| node.size()), None);
            });
            assert_eq!(found, [("/limit".to_owned(), message.to_owned(), Some(form.to_owned()))]);
        }
    }

    #[test]
    fn a_number_out_of_range_is_told_the_range() {
        for (json, message) in [
            ("0", "expected a whole number from 1 to 9, found 0"),
            ("1.5", "expected a whole number from 1 to 9, found 1.5"),
            ("-1", "expected a whole number from 1 to 9, found -1"),
            ("\"1\"", "expected a whole number, found text"),
        ] {
            let found = errors(&format!(r#"{{"limit": {json}}}"#), |table| {
                assert_eq!(table.get("limit").and_then(|node| node.integer(1..=9)), None);
            });
            assert_eq!(found, [("/limit".to_owned(), message.to_owned(), None)]);
        }
    }

    #[test]
    fn did_you_mean_finds_slips_and_nothing_else() {
        for (word, meant) in [
            ("servce", Some("service")),
            ("Service", Some("service")),
            ("pathprefix", Some("path_prefix")),
            ("hsot", Some("host")),
            ("upstream", None),
            ("", None),
        ] {
            let meant = meant.map(|meant| format!("did you mean `{meant}`?"));
            assert_eq!(did_you_mean(word, ["service", "path_prefix", "host"]), meant, "{word:?}");
        }
    }
}
