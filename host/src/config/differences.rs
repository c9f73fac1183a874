//! Which keys of two configurations differ, where a running gateway cannot change them.

use serde_json::{Map, Value as Json};

use super::Config;

/// The keys of each policy that a running gateway takes over.
const TAKEN_OVER: &[&str] = &["component", "config", "cases"];

impl Config {
    /// The dotted keys, such as `proxy.idle_timeout`, that are not the same in `new` and that nothing
    /// but a restart would bring into effect. A service or token that only one of the two has is one
    /// key: `services.writer`; where only their order has changed, it is `services`.
    ///
    /// What `[policy_limits]` says is part of both policies: `policy.routing.memory_max`.
    pub fn differences_that_need_a_restart(&self, new: &Config) -> Vec<String> {
        let mut keys = Vec::new();
        // What is shown is all that there is: no key can be forgotten here.
        let [old, new] = [self, new].map(without_what_is_taken_over);
        collect("", &old, &new, &mut keys);
        keys
    }
}

fn without_what_is_taken_over(config: &Config) -> Json {
    let mut all = config.to_json();
    for policy in all["policy"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Json::Object(keys) = policy {
            keys.retain(|key, _| !TAKEN_OVER.contains(&key.as_str()));
        }
    }
    all
}

/// `path` is the key of both values, empty for the whole.
fn collect(path: &str, old: &Json, new: &Json, keys: &mut Vec<String>) {
    let (Json::Object(old), Json::Object(new)) = (old, new) else {
        if old != new {
            keys.push(path.to_owned());
        }
        return;
    };
    let before = keys.len();
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => collect(&below, old, new, keys),
            _ => keys.push(below),
        }
    }
    // Their order is one that clients see, at `/`.
    if path == "services" && keys.len() == before && old.keys().ne(new.keys()) {
        keys.push(path.to_owned());
    }
}
