//! What `config.rs` says about each key, taken from its documentation.
//!
//! The form of that documentation is described at its top.

/// A struct of `config.rs` that stands for a section: its documentation begins with the section's
/// name, as in ``/// `[server]`: …``. Or an enum, where the section has one key of several: each
/// variant is one.
#[derive(Debug)]
pub(super) struct Struct {
    pub(super) name: String,
    /// `server`, `services.<name>`; two for what both policies have.
    pub(super) sections: Vec<String>,
    pub(super) about: String,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) rust_type: String,
    pub(super) about: String,
    /// None where the field is no key of its own: the documentation has neither a default nor
    /// `Required.`
    pub(super) value: Option<Value>,
}

#[derive(Debug)]
pub(super) struct Value {
    /// `A duration or `off``
    pub(super) what: String,
    pub(super) default: Default,
    pub(super) limits: Option<(String, String)>,
}

#[derive(Debug)]
pub(super) enum Default {
    Required,
    /// As in TOML, but for the quotes around text.
    Literal(String),
    /// In words: that of another key, say.
    Words(String),
}

/// All sections, in the order of `config.rs`.
pub(super) fn documented() -> Vec<Struct> {
    let mut structs: Vec<Struct> = Vec::new();
    // None outside of a section's struct.
    let mut current: Option<Struct> = None;
    let mut docs: Vec<String> = Vec::new();
    for line in include_str!("../../config.rs").lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim().to_owned());
            continue;
        }
        let head = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum "));
        if let Some(rest) = head {
            let name = rest.trim_end_matches(" {").to_owned();
            current = section(name, &paragraphs(&docs).join("\n"));
        } else if line == "}" {
            structs.extend(current.take());
        } else if line.starts_with("#[") {
            // Attributes stand between a documentation and what it is about.
            continue;
        } else if let (Some(within), Some((name, rust_type))) = (&mut current, member(line)) {
            within.fields.push(field(name, rust_type, paragraphs(&docs)));
        }
        docs.clear();
    }
    structs
}

/// The name and type of a field, `pub name: Type,`, or of a variant, `Name(Type),`.
fn member(line: &str) -> Option<(String, String)> {
    let (name, rust_type) = match line.strip_prefix("pub ") {
        Some(line) => line.split_once(": ")?,
        None => line.trim_end_matches([')', ',']).split_once('(')?,
    };
    Some((name.to_lowercase(), rust_type.trim_end_matches(',').to_owned()))
}

fn section(name: String, docs: &str) -> Option<Struct> {
    if !docs.starts_with("`[") {
        return None;
    }
    let (heads, about) = docs.split_once("`: ").unwrap_or_else(|| {
        panic!("`{name}` of config.rs: its documentation wants the form `[section]`: …")
    });
    let sections = heads.split('`').filter_map(|head| head.strip_prefix('[')?.strip_suffix(']'));
    let sections = sections.map(str::to_owned).collect();
    Some(Struct { name, sections, about: about.to_owned(), fields: Vec::new() })
}

fn field(name: String, rust_type: String, mut paragraphs: Vec<String>) -> Field {
    let last = paragraphs.last().and_then(|last| value(last));
    if last.is_some() {
        paragraphs.pop();
    }
    Field { name, rust_type, about: paragraphs.join("\n"), value: last }
}

/// `A duration. Default: `30s`. Limits: `1ms` to `1h`.`
fn value(text: &str) -> Option<Value> {
    let (text, limits) = match text.split_once(" Limits: ") {
        Some((text, limits)) => {
            let limits = limits.strip_suffix('.').and_then(|limits| limits.split_once(" to "));
            let (low, high) = limits.unwrap_or_else(|| panic!("no limits: {text}"));
            (text, Some((unquoted(low).to_owned(), unquoted(high).to_owned())))
        }
        None => (text, None),
    };
    let text = text.strip_suffix('.')?;
    let (what, default) = if let Some(what) = text.strip_suffix(". Required") {
        (what, Default::Required)
    } else {
        let (what, default) = text.split_once(". Default: ")?;
        let is_literal =
            default.starts_with('`') && default[1..].find('`') == Some(default.len() - 2);
        let default = match is_literal {
            true => Default::Literal(unquoted(default).to_owned()),
            false => Default::Words(default.to_owned()),
        };
        (what, default)
    };
    Some(Value { what: what.to_owned(), default, limits })
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('`')
}

fn paragraphs(docs: &[String]) -> Vec<String> {
    docs.split(String::is_empty)
        .map(|lines| lines.join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .collect()
}
