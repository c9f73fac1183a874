//! The documentation of the fields against what the reader does with their keys, and `CONFIG.md`
//! against that documentation.
//!
//! Nothing here knows a key by name, but for [`COMPANIONS`] and [`CHOSEN`].

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use toml::de::DeTable;

use super::documented::{Default, Field, Struct, Value, documented};
use super::markdown::markdown;
use super::parse;

/// Keys whose limit is refused while another key has its default, and what to say about that one.
pub(super) const COMPANIONS: &[(&str, &str)] = &[
    ("proxy.attempt_timeout", "proxy.request_timeout = \"1h\""),
    ("services.a.attempt_timeout", "services.a.request_timeout = \"1h\""),
];

/// Keys that not every file has, for others may stand in their place, and how a file has them.
pub(super) const CHOSEN: &[(&str, &str)] = &[
    ("admin.tokens.a.file", "admin.tokens.a.file = \"/run/token\""),
    ("admin.tokens.a.env", "admin.tokens.a.env = \"TOKEN\""),
];

/// A file with this line. Where it is about `services.<name>`, the service is `a`.
pub(super) fn with(line: &str) -> String {
    let routing = "policy.routing.component = \"builtin:routing\"\n";
    let routing = if line.starts_with("policy.routing.component ") { "" } else { routing };
    let endpoints = "services.a.endpoints = [\"http://localhost:8000\"]\n";
    let endpoints = if line.starts_with("services.a.endpoints ") { "" } else { endpoints };
    format!("{line}\n{routing}{endpoints}")
}

fn refusal(text: &str) -> Option<String> {
    parse(text).err().map(|wrong| wrong.to_string())
}

/// One documented key with a place where it can stand.
pub(super) struct Key<'a> {
    pub(super) path: String,
    field: &'a Field,
    pub(super) value: &'a Value,
}

/// All of them; what both policies have is there twice.
pub(super) fn keys(structs: &[Struct]) -> Vec<Key<'_>> {
    let mut keys = Vec::new();
    for one in structs {
        for section in &one.sections {
            let place = section.replace("<name>", "a");
            keys.extend(keys_at(&place, one));
        }
    }
    keys
}

fn keys_at<'a>(place: &str, one: &'a Struct) -> Vec<Key<'a>> {
    let belongs = |field: &&Field| match field.about.strip_prefix("Only in `[") {
        Some(rest) => rest.starts_with(&format!("{place}]`")),
        None => true,
    };
    let fields = one.fields.iter().filter(belongs);
    fields
        .filter_map(|field| {
            let path = format!("{place}.{}", field.name);
            field.value.as_ref().map(|value| Key { path, field, value })
        })
        .collect()
}

/// A value as it stands in TOML: `30s` in quotes, `30` without.
pub(super) fn toml(literal: &str, what: &str) -> String {
    let is_bare = ["A number", "A fraction", "True or false", "A list", "A table"]
        .iter()
        .any(|bare| what.starts_with(bare));
    let is_word = literal.starts_with(|c: char| c.is_ascii_lowercase())
        && !["true", "false"].contains(&literal);
    if literal.starts_with(['"', '[', '{']) || (is_bare && !is_word) {
        literal.to_owned()
    } else {
        format!("{literal:?}")
    }
}

#[test]
fn every_documented_default_is_what_a_file_gets_that_leaves_the_key_out() {
    let structs = documented();
    let mut checked = 0;
    for Key { path, value, .. } in keys(&structs) {
        let Default::Literal(literal) = &value.default else { continue };
        let line = format!("{path} = {}", toml(literal, &value.what));
        let said = parse(&with(&line)).unwrap_or_else(|wrong| panic!("{line}\n{wrong}"));
        let unsaid = parse(&with("")).unwrap();
        assert_eq!(format!("{:?}", said.0), format!("{:?}", unsaid.0), "{line}");
        checked += 1;
    }
    assert!(checked > 30, "the fields of config.rs were found");
}

#[test]
fn every_key_of_the_built_in_file_has_its_documented_default() {
    let text = include_str!("../default.toml");
    let root = DeTable::parse(text).unwrap().into_inner();
    let structs = documented();
    let keys = keys(&structs);
    for (section, table) in root.iter() {
        let section = section.get_ref().as_ref();
        if ["services", "policy"].contains(&section) {
            continue;
        }
        for (key, written) in table.get_ref().as_table().unwrap().iter() {
            let path = format!("{section}.{}", key.get_ref());
            let documented = keys.iter().find(|one| one.path == path);
            let Some(Key { value, .. }) = documented else { panic!("{path} is undocumented") };
            let Default::Literal(literal) = &value.default else {
                panic!("{path} has a default, which its documentation should quote")
            };
            assert_eq!(toml(literal, &value.what), text[written.span()], "{path}");
        }
    }
}

#[test]
fn every_key_that_the_reader_knows_is_documented_and_no_other() {
    let structs = documented();
    for one in &structs {
        for section in &one.sections {
            known_are_documented(&structs, &section.replace("<name>", "a"), one);
        }
    }
}

fn known_are_documented(structs: &[Struct], place: &str, one: &Struct) {
    let refusal = refusal(&with(&format!("{place}.no_such_key_as_this = 1"))).expect("unknown");
    let list = format!("known in `[{place}]`: ");
    let (_, known) = refusal.split_once(&list).unwrap_or_else(|| panic!("{place}: {refusal}"));
    let known: BTreeSet<String> = known
        .split(['\n', ','])
        .map_while(|key| key.trim().strip_prefix('`')?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    let mut documented: BTreeSet<String> =
        keys_at(place, one).into_iter().map(|key| key.field.name.clone()).collect();
    for field in &one.fields {
        let Some(inner) = structs.iter().find(|inner| inner.name == field.rust_type) else {
            continue;
        };
        match field.value {
            // A table of its own, whose keys are those of another section.
            Some(_) => known_are_documented(structs, &format!("{place}.{}", field.name), inner),
            None => documented.extend(inner.fields.iter().map(|field| field.name.clone())),
        }
    }
    assert_eq!(
        known, documented,
        "`[{place}]`: what the reader knows, and what `{}` of config.rs documents (the last \
         paragraph of a key has its default, or `Required.`)",
        one.name
    );
}

#[test]
fn every_documented_limit_is_kept_and_nothing_beyond_it_is_accepted() {
    let structs = documented();
    let mut checked = 0;
    for Key { path, value, .. } in keys(&structs) {
        let Some((low, high)) = &value.limits else { continue };
        for limit in [low, high] {
            let line = format!("{path} = {}", toml(limit, &value.what));
            let companion = COMPANIONS.iter().find(|(key, _)| *key == path);
            let text = with(&format!("{line}\n{}", companion.map_or("", |(_, line)| line)));
            if let Some(refusal) = refusal(&text) {
                panic!(
                    "{line}\nis refused. If that is because of another key's value, name a fitting \
                     one in COMPANIONS of tests/reference.rs:\n{refusal}"
                );
            }
        }
        for beyond in beyond(low, high, &value.what, &path) {
            let line = format!("{path} = {}", toml(&beyond, &value.what));
            let refusal = refusal(&with(&line)).unwrap_or_else(|| panic!("{line}\nis accepted"));
            let range = format!("from {low} to {high}");
            assert!(refusal.contains(&range), "{line}\nno {range:?} in\n{refusal}");
            checked += 1;
        }
    }
    assert!(checked > 40, "the limits were found");
}

/// The values next to the limits, on the far side, in the smallest step that the unit has. Nothing is
/// below a duration or size of 0.
fn beyond(low: &str, high: &str, what: &str, path: &str) -> Vec<String> {
    if what.starts_with("A number") {
        let [low, high] = [low, high].map(|limit| limit.parse::<i64>().unwrap());
        return vec![(low - 1).to_string(), (high + 1).to_string()];
    }
    if what.starts_with("A fraction") {
        let [low, high] = [low, high].map(|limit| limit.parse::<f64>().unwrap());
        return vec![format!("{:?}", low - 1e-9), format!("{:?}", high + 1e-9)];
    }
    let duration = |text: &str| humantime::parse_duration(text).ok();
    if let (Some(low), Some(high)) = (duration(low), duration(high)) {
        let step = Duration::from_nanos(1);
        let show = |it: Duration| humantime::format_duration(it).to_string();
        return low.checked_sub(step).into_iter().chain([high + step]).map(show).collect();
    }
    // A rate is a size in a second.
    let per = if high.ends_with("/s") { "/s" } else { "" };
    let size = |text: &str| text.strip_suffix(per)?.parse::<ByteSize>().ok();
    if let (Some(ByteSize(low)), Some(ByteSize(high))) = (size(low), size(high)) {
        let bytes = low.checked_sub(1).into_iter().chain([high + 1]);
        return bytes.map(|bytes| format!("{bytes}B{per}")).collect();
    }
    panic!("{path}: what lies beyond `{low}` and `{high}`? Teach `beyond` of tests/reference.rs")
}

#[test]
fn every_documented_length_is_kept() {
    let structs = documented();
    let mut checked = 0;
    for Key { path, value, .. } in keys(&structs) {
        if let Some(count) = value.what.strip_prefix("A list of ") {
            let count = count.strip_prefix("up to ").or(count.strip_prefix("1 to "));
            let most = first_number(count.expect("A list of up to …, or of 1 to …"));
            let items = |count| format!("{path} = [{}]", vec!["1"; count].join(","));
            let too_many = format!("at most {most} are allowed");
            assert!(!refusal(&with(&items(most))).unwrap().contains(&too_many), "{path}");
            let refused = refusal(&with(&items(most + 1))).unwrap();
            assert!(refused.contains(&too_many), "{path}: no {too_many:?} in\n{refused}");
            let empty = parse(&with(&format!("{path} = []")));
            assert_eq!(empty.is_err(), value.what.contains(" 1 to "), "{path} = []");
            checked += 1;
        } else if let Some(length) = value.what.strip_prefix("Up to ") {
            let most = first_number(length);
            let text = |length: usize| format!("{path} = \"/{}\"", "a".repeat(length - 1));
            assert_eq!(refusal(&with(&text(most))), None, "{path}");
            assert!(refusal(&with(&text(most + 1))).is_some(), "{path}: {} accepted", most + 1);
            checked += 1;
        }
    }
    assert!(checked >= 7, "the lists and texts were found");
}

fn first_number(text: &str) -> usize {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn config_md_is_made_from_the_documentation() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFIG.md");
    let made = markdown(&documented());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == made,
        "host/CONFIG.md is stale. Make it again with\n  UPDATE=1 cargo test --release -p \
         orchestrator --lib config::tests::reference\nand commit it with the change that made it so"
    );
}
