//! The documentation of the fields against what the code does with their keys.

use toml::de::{DeTable, DeValue};

use super::{VALID, parse};

/// One documented key: its section, its name and its documentation.
struct Documented {
    section: String,
    key: String,
    docs: String,
}

/// The public fields of `config.rs` that are keys of the gateway's own sections.
fn documented() -> Vec<Documented> {
    let (mut section, mut docs, mut found) = (String::new(), String::new(), Vec::new());
    for line in include_str!("../../config.rs").lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
            continue;
        }
        if let Some(name) = line.strip_prefix("pub struct ") {
            section = match name.trim_end_matches(" {") {
                "PolicyLimits" => "policy_limits".to_owned(),
                name => name.to_lowercase(),
            };
        } else if let Some((key, _)) = line.strip_prefix("pub ").and_then(|it| it.split_once(": "))
            && !["config", "service", "endpoint", "policy"].contains(&section.as_str())
        {
            let (section, key) = (section.clone(), key.to_owned());
            found.push(Documented { section, key, docs: docs.clone() });
        }
        docs.clear();
    }
    found
}

/// The text between `before` and the next backtick.
fn quoted<'a>(docs: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = docs.split_once(before)?;
    rest.split_once('`').map(|(quoted, _)| quoted)
}

#[test]
fn every_documented_default_is_the_built_in_one_and_none_is_undocumented() {
    let text = include_str!("../default.toml");
    let root = DeTable::parse(text).unwrap().into_inner();
    let documented = documented();
    assert!(documented.len() > 30, "the fields of config.rs were found");
    for Documented { section, key, docs } in &documented {
        let section_table = root[section.as_str()].get_ref().as_table().unwrap();
        let value = &section_table[key.as_str()];
        let written = text[value.span()].trim_matches('"');
        assert_eq!(quoted(docs, "Default: `"), Some(written), "{section}.{key}");
    }
    for (section, table) in root.iter() {
        let section = section.get_ref().as_ref();
        if ["services", "policy"].contains(&section) {
            continue;
        }
        for (key, _) in table.get_ref().as_table().unwrap().iter() {
            let is_documented =
                documented.iter().any(|one| one.section == section && one.key == *key.get_ref());
            assert!(is_documented, "{section}.{}", key.get_ref());
        }
    }
}

#[test]
fn every_documented_limit_is_the_one_that_is_kept() {
    let root = DeTable::parse(include_str!("../default.toml")).unwrap().into_inner();
    let refusal = |section: &str, key: &str, value: &str| match parse(&format!(
        "[{section}]\n{key} = {value}{VALID}"
    )) {
        Ok(_) => String::new(),
        Err(wrong) => wrong.to_string(),
    };
    for Documented { section, key, docs } in documented() {
        let Some(low) = quoted(&docs, "Limits: `") else { continue };
        let high = quoted(&docs, &format!("Limits: `{low}` to `")).unwrap();
        let beyond = match root[section.as_str()].get_ref()[key.as_str()].get_ref() {
            DeValue::Integer(_) => "9223372036854775807",
            DeValue::Float(_) => "1e300",
            _ if low.ends_with('B') => "\"1000PiB\"",
            _ => "\"1000years\"",
        };
        let quote = if beyond.starts_with('"') { "\"" } else { "" };
        for limit in [low, high] {
            let refusal = refusal(&section, &key, &format!("{quote}{limit}{quote}"));
            assert!(!refusal.contains("is out of range"), "{section}.{key}: {refusal}");
        }
        let refusal = refusal(&section, &key, beyond);
        assert!(refusal.contains(&format!("from {low} to {high}")), "{section}.{key}: {refusal}");
    }
}
