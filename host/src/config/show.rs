//! The effective configuration, every key of it: as data, and as TOML that means the same when it is
//! read again.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use toml::de::{DeTable, DeValue};

use super::source::Source;
use super::value::show_size;
use super::{
    AccessLog, AdminListen, AdminToken, Component, Config, Endpoint, Policy, SourceMap, TokenSource,
};

impl Config {
    /// All keys of the configuration with their values, as they stand in TOML.
    pub fn to_json(&self) -> Json {
        // All fields by name: whoever adds one is asked here.
        let Config {
            server,
            admin,
            proxy,
            limits,
            health,
            breaker,
            cors,
            log,
            services,
            routing,
            retry,
        } = self;
        let services = services.iter().map(|service| (service.name.as_str(), data(service)));
        let policy = |policy: &Policy| {
            let mut keys = data(policy);
            // As the last, and so as tables with headers.
            keys["cases"] = policy.cases.clone();
            keys["config"] = policy.config.clone();
            keys
        };
        let policies = Json::from_iter([("routing", policy(routing)), ("retry", policy(retry))]);
        let sections = [
            ("server", data(server)),
            ("admin", data(admin)),
            ("proxy", data(proxy)),
            ("limits", data(limits)),
            ("health", data(health)),
            ("breaker", data(breaker)),
            ("cors", data(cors)),
            ("log", data(log)),
            ("services", Json::from_iter(services)),
            ("policy", policies),
        ];
        Json::from_iter(sections)
    }

    /// The same as TOML. Behind what `source` itself says stands the line that says it.
    pub fn to_toml(&self, source: Option<&SourceMap>) -> String {
        let source = source.map(SourceMap::file);
        let given = source.map(|source| DeTable::parse_recoverable(&source.text).0);
        let mut writer = Writer { source, text: String::new() };
        let Json::Object(all) = self.to_json() else { unreachable!("it is made above") };
        writer.table("", &all, given.as_ref().map(|given| given.get_ref()));
        writer.text
    }
}

fn data(section: &impl Serialize) -> Json {
    let data = serde_json::to_value(section);
    as_written(data.expect("sections have names for keys, and paths are text"))
}

/// From serde's forms to those of the file.
fn as_written(value: Json) -> Json {
    match value {
        // What may be absent is called "off".
        Json::Null => "off".into(),
        Json::Object(fields) => match duration(&fields) {
            Some(duration) => humantime::format_duration(duration).to_string().into(),
            None => Json::Object(
                fields.into_iter().map(|(key, value)| (key, as_written(value))).collect(),
            ),
        },
        other => other,
    }
}

/// What serde makes of a [`Duration`].
fn duration(fields: &Map<String, Json>) -> Option<Duration> {
    let [secs, nanos] = ["secs", "nanos"].map(|name| fields.get(name).and_then(Json::as_u64));
    let is_one = fields.len() == 2;
    Some(Duration::new(secs?, u32::try_from(nanos?).ok()?)).filter(|_| is_one)
}

struct Writer<'a> {
    source: Option<&'a Source>,
    text: String,
}

impl Writer<'_> {
    /// `path` is the table's name, empty for the whole; `given` is the table in the file.
    fn table(&mut self, path: &str, table: &Map<String, Json>, given: Option<&DeTable<'_>>) {
        let is_below = |value: &Json| value.is_object() || is_list_of_tables(value);
        // Tables with a header come last; to keep the order, which a policy may see, those that have
        // something else behind them are written inline.
        let inlined = table.values().rposition(|value| !is_below(value)).map_or(0, |last| last + 1);
        for (name, value) in table.iter().take(inlined) {
            let line = format!("{} = {}", key(name), inline(value));
            let mark = given.and_then(|given| self.mark(given.get(name.as_str())?.span().start));
            self.text.push_str(&match mark {
                Some(mark) => format!("{line:<39} # {mark}\n"),
                None => line + "\n",
            });
        }
        for (name, value) in table.iter().skip(inlined) {
            let path = if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) };
            let given = given.and_then(|given| given.get(name.as_str())).map(|it| it.get_ref());
            match value {
                Json::Object(table) => {
                    // A header of its own only where something stands directly below it.
                    if table.is_empty() || !table.values().all(is_below) {
                        self.header(&format!("[{path}]"));
                    }
                    self.table(&path, table, given.and_then(DeValue::as_table));
                }
                _ => self.tables(&path, value, given),
            }
        }
    }

    fn tables(&mut self, path: &str, list: &Json, given: Option<&DeValue<'_>>) {
        for (index, table) in list.as_array().into_iter().flatten().enumerate() {
            let given = given.and_then(DeValue::as_array).and_then(|given| given.get(index));
            self.header(&format!("[[{path}]]"));
            if let Json::Object(table) = table {
                self.table(path, table, given.and_then(|given| given.get_ref().as_table()));
            }
        }
    }

    fn header(&mut self, header: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}{header}"); // A string takes everything.
    }

    fn mark(&self, at: usize) -> Option<String> {
        let source = self.source?;
        Some(format!("{}:{}", source.name.escape_debug(), source.position(at).0))
    }
}

fn is_list_of_tables(value: &Json) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Json::is_object))
}

fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { text(name) }
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(it) => text(it),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(fields) => {
            let field = |(name, value): (&String, _)| format!("{} = {}", key(name), inline(value));
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// JSON's escapes are TOML's too, but for one character that JSON does not escape.
fn text(it: &str) -> String {
    Json::from(it).to_string().replace('\u{7f}', "\\u007f")
}

/// For a key whose value is a number of bytes, and has a unit in the file.
pub(super) fn size<T: Copy + TryInto<u64>, S: Serializer>(
    bytes: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let bytes = (*bytes).try_into().unwrap_or(u64::MAX); // A `usize` has no more bits.
    serializer.serialize_str(&show_size(bytes))
}

pub(super) fn size_or_off<S: Serializer>(
    bytes: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    bytes.map(show_size).serialize(serializer)
}

pub(super) fn path_or_off<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_deref().map(path_text).serialize(serializer)
}

pub(super) fn rate_or_off<S: Serializer>(
    bytes_per_s: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    bytes_per_s.map(|bytes| format!("{}/s", show_size(bytes))).serialize(serializer)
}

pub(super) fn networks<S: Serializer>(
    networks: &[IpNet],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().map(IpNet::to_string))
}

pub(super) fn level<S: Serializer>(
    level: &tracing::Level,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&level.as_str().to_ascii_lowercase())
}

/// A table with the tokens' names for keys.
pub(super) fn tokens<S: Serializer>(
    tokens: &[AdminToken],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tokens.iter().map(|token| (&token.name, &token.source)))
}

/// Where this path leads from whatever folder.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// It may be read again from another folder.
fn path_text(path: &Path) -> String {
    absolute(path).display().to_string()
}

impl Serialize for AdminListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for TokenSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match self {
            TokenSource::File(path) => ("file", path_text(path)),
            TokenSource::Env(name) => ("env", name.clone()),
        };
        serializer.collect_map([(key, value)])
    }
}

impl Serialize for AccessLog {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AccessLog::File(path) => serializer.serialize_str(&path_text(path)),
            word => serializer.collect_str(word),
        }
    }
}

impl Serialize for Component {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Component::BuiltinRouting => serializer.serialize_str("builtin:routing"),
            Component::BuiltinRetry => serializer.serialize_str("builtin:retry"),
            Component::File(path) => serializer.serialize_str(&path_text(path)),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.weight {
            1 => serializer.serialize_str(&self.url),
            weight => Json::from_iter([("url", Json::from(&*self.url)), ("weight", weight.into())])
                .serialize(serializer),
        }
    }
}
