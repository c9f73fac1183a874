//! `[policy.routing]` and `[policy.retry]`: which component decides, within which limits, its own
//! configuration, which only the component itself understands, and the cases of its self-test.

use std::path::Path;

use serde_json::{Map, Number, Value as Json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::policy_limits::policy_limits;
use super::reader::{Checked, Fault, Section, kind_of, refuse};
use super::value::{list, quote, string, word};
use super::{Component, Instances, OnFailure, Policy, PolicyLimits};
use crate::policy::Kind;

/// In `policy.*.cases`. Each is decided several times before a version becomes active.
const CASES_MAX: usize = 1000;

/// One policy. `limits` are those of `[policy_limits]`; `default_config` is for a built-in
/// component whose table has no `config`.
pub(super) fn policy(
    mut section: Section<'_>,
    kind: Kind,
    limits: Option<&PolicyLimits>,
    default_config: Option<&Json>,
    folder: &Path,
) -> Option<Policy> {
    let builtin = match kind {
        Kind::Routing => Component::BuiltinRouting,
        Kind::Retry => Component::BuiltinRetry,
    };
    let component =
        section.read("component", Some(builtin.clone()), |value| component(value, kind, folder));
    let on_failure = match kind {
        Kind::Routing => {
            let default = Some(OnFailure::Reject);
            section.read("on_failure", default, word(&[("reject", OnFailure::Reject)])).map(Some)
        }
        Kind::Retry => Some(None),
    };
    let words = [("warm", Instances::Warm), ("fresh", Instances::Fresh)];
    let instances = section.read("instances", Some(Instances::Warm), word(&words));
    let limits = policy_limits(&mut section, limits);
    let default_config =
        default_config.filter(|_| component == Some(builtin)).cloned().unwrap_or_else(empty_object);
    let config = section.read("config", Some(default_config), |value| match value.get_ref() {
        DeValue::Table(_) => json(value),
        other => refuse(
            format!("must be a table, not {}", kind_of(other)),
            format!("write `[policy.{}.config]` with keys below it", kind.name()),
        ),
    });
    let case = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Table(_) => json(value),
        other => refuse(
            format!("must be a table, not {}", kind_of(other)),
            format!("write `[[policy.{}.cases]]` for each case, with keys below it", kind.name()),
        ),
    };
    let cases = section.read("cases", Some(Vec::new()), |value| match value.get_ref() {
        DeValue::Table(_) => refuse(
            "must be a list, not a table",
            format!("write `[[policy.{}.cases]]`, in double brackets", kind.name()),
        ),
        // Two alike do no harm.
        _ => list(case, |_, _| false, CASES_MAX)(value),
    });
    section.finish();
    Some(Policy {
        component: component?,
        on_failure: on_failure?,
        instances: instances?,
        limits: limits?,
        config: config?,
        cases: Json::Array(cases?),
    })
}

fn component(value: &Spanned<DeValue<'_>>, kind: Kind, folder: &Path) -> Checked<Component> {
    let builtin = format!("builtin:{}", kind.name());
    let text = string(value, "a policy", &builtin)?;
    match (text, kind) {
        ("builtin:routing", Kind::Routing) => return Ok(Component::BuiltinRouting),
        ("builtin:retry", Kind::Retry) => return Ok(Component::BuiltinRetry),
        ("builtin:routing" | "builtin:retry", _) => {
            let message = format!("is a policy of the other kind: {}", quote(text));
            return refuse(
                message,
                format!("here only \"{builtin}\" fits, or the path of a .wasm"),
            );
        }
        _ if text.starts_with("builtin:") => {
            let message = format!("is not a built-in policy: {}", quote(text));
            return refuse(message, format!("write \"{builtin}\", or the path of a .wasm file"));
        }
        _ => {}
    }
    let path = folder.join(text);
    if path.extension().is_none_or(|extension| extension != "wasm") {
        let message = format!("is not a .wasm file: {}", quote(text));
        return refuse(message, format!("write the path of one, or \"{builtin}\""));
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Component::File(path)),
        Ok(_) => refuse(
            format!("is not a file: {}", quote(text)),
            "a policy is one WebAssembly component, a file that ends in .wasm",
        ),
        Err(error) => refuse(
            format!("names a file that cannot be read: {error}"),
            format!("looked for {}", path.display()),
        ),
    }
}

fn empty_object() -> Json {
    Json::Object(Map::new())
}

/// TOML as JSON. Only what JSON has no word for is refused.
fn json(value: &Spanned<DeValue<'_>>) -> Checked<Json> {
    Ok(match value.get_ref() {
        DeValue::String(it) => Json::String(it.to_string()),
        DeValue::Boolean(it) => Json::Bool(*it),
        DeValue::Datetime(it) => Json::String(it.to_string()),
        DeValue::Integer(it) => match i64::from_str_radix(it.as_str(), it.radix()) {
            Ok(it) => Json::Number(it.into()),
            Err(_) => {
                return refuse("is out of range", "a whole number has up to 64 bits with its sign");
            }
        },
        DeValue::Float(it) => match it.as_str().parse().ok().and_then(Number::from_f64) {
            Some(it) => Json::Number(it),
            None => {
                let help = "it is handed over as JSON, which has finite numbers only";
                return refuse(format!("cannot be {}", quote(it.as_str())), help);
            }
        },
        DeValue::Array(array) => return json_array(array),
        DeValue::Table(table) => return json_object(table),
    })
}

fn json_array(array: &DeArray<'_>) -> Checked<Json> {
    let (mut items, mut faults) = (Vec::with_capacity(array.len()), Vec::new());
    for (index, one) in array.iter().enumerate() {
        match json(one) {
            Ok(it) => items.push(it),
            Err(wrong) => faults.extend(below(&format!("[{index}]"), one, wrong)),
        }
    }
    if faults.is_empty() { Ok(Json::Array(items)) } else { Err(faults) }
}

fn json_object(table: &DeTable<'_>) -> Checked<Json> {
    // In the order of the file, for those who read it again.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let (mut object, mut faults) = (Map::new(), Vec::new());
    for (key, one) in entries {
        match json(one) {
            Ok(it) => {
                object.insert(key.get_ref().to_string(), it);
            }
            Err(wrong) => {
                faults.extend(below(&format!(".{}", key.get_ref().escape_debug()), one, wrong))
            }
        }
    }
    if faults.is_empty() { Ok(Json::Object(object)) } else { Err(faults) }
}

/// The same faults, one step further out.
fn below(
    step: &str,
    value: &Spanned<DeValue<'_>>,
    faults: Vec<Fault>,
) -> impl Iterator<Item = Fault> {
    faults.into_iter().map(move |fault| {
        let (path, span) = fault.inside.unwrap_or_else(|| (String::new(), value.span()));
        Fault { inside: Some((format!("{step}{path}"), span)), ..fault }
    })
}
