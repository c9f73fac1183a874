//! From the configuration to a plan for each service, or to all that is wrong with it.
//!
//! The same fields may stand at the top, in `services.<name>` and in a rule. What a rule leaves out it
//! has from the table around it, and what a service leaves out from the top: so each table is read
//! into [`Said`], which knows what was left out, and they are laid over each other at the end.

use std::ops::RangeInclusive;
use std::time::Duration;

use orchestrator_policy::collections::HashMap;
use orchestrator_policy::config::{Document, Node, Table};
use orchestrator_policy::{ConfigError, Setup};

use crate::{Delay, Outcomes, Plan, Retry, Rule, Terms};

/// A rule may have the first eight, a service `rules` too, and the top all.
const FIELDS: [&str; 10] = [
    "attempts",
    "delay",
    "backoff",
    "on",
    "statuses",
    "methods",
    "retry_after",
    "retry_after_max",
    "rules",
    "services",
];
pub(crate) const OUTCOMES: [&str; 4] = ["connect_failure", "lost_connection", "timeout", "status"];
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
const RULES_MAX: usize = 100;

/// What one table says. None: nothing.
#[derive(Debug, Default, Clone)]
struct Said<'a> {
    attempts: Option<u32>,
    delay: Option<Delay>,
    on: Option<Vec<&'a str>>,
    statuses: Option<Vec<RangeInclusive<u16>>>,
    methods: Option<Vec<String>>,
    honour: Option<bool>,
    retry_after_max: Option<Duration>,
    rules: Option<Vec<Said<'a>>>,
}

pub(crate) fn retry(setup: &Setup) -> Result<Retry, Vec<ConfigError>> {
    let document = Document::parse(setup.config())?;
    let table = document.table(&FIELDS);
    let top = Said::of(&table);
    let names: Vec<&str> = setup.services().iter().map(String::as_str).collect();
    let mut services = HashMap::default();
    if let Some(table) = table.get("services").and_then(|node| node.table(&names)) {
        for name in names {
            if let Some(table) = table.get(name).and_then(|node| node.table(&FIELDS[..9])) {
                services.insert(name.to_owned(), Said::of(&table).over(&top).plan());
            }
        }
    }
    let retry = document.finish(Retry { plan: top.plan(), services });
    retry.map_err(|errors| errors.into_iter().map(with_its_place).collect())
}

impl<'a> Said<'a> {
    fn of(table: &Table<'a>) -> Self {
        let rules = table.get("rules").and_then(|node| read_rules(&node));
        Said { rules, ..Said::without_rules(table) }
    }

    fn without_rules(table: &Table<'a>) -> Self {
        let ways = ["honour", "ignore"];
        let way = table.get("retry_after").and_then(|node| node.one_of(&ways, "a way to take it"));
        let retry_after_max = table.get("retry_after_max").and_then(|node| node.duration());
        let said = Said {
            attempts: table.get("attempts").and_then(|node| read_attempts(&node)),
            delay: read_delay(table),
            statuses: table.get("statuses").and_then(|node| read_statuses(&node)),
            on: table.get("on").and_then(|node| read_outcomes(&node)),
            methods: table.get("methods").and_then(|node| read_methods(&node)),
            // Who names a longest wait means to wait.
            honour: way.map(|way| way == "honour").or(retry_after_max.map(|_| true)),
            retry_after_max,
            rules: None,
        };
        if let (Some(on), Some(node)) = (&said.on, table.get("statuses"))
            && !on.contains(&"status")
        {
            node.report_with("has no effect: `on` lacks `status`", "add \"status\" to `on`");
        }
        if let (Some("ignore"), Some(node)) = (way, table.get("retry_after_max")) {
            node.report_with("has no effect: `retry_after` is \"ignore\"", "remove one of the two");
        }
        said
    }

    /// This, and what it leaves out from `below`.
    fn over(self, below: &Said<'a>) -> Self {
        Said {
            attempts: self.attempts.or(below.attempts),
            delay: self.delay.or(below.delay),
            on: self.on.or_else(|| below.on.clone()),
            statuses: self.statuses.or_else(|| below.statuses.clone()),
            methods: self.methods.or_else(|| below.methods.clone()),
            honour: self.honour.or(below.honour),
            retry_after_max: self.retry_after_max.or(below.retry_after_max),
            rules: self.rules.or_else(|| below.rules.clone()),
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            rules: self.rules.iter().flatten().map(|rule| rule.as_rule(self)).collect(),
            otherwise: Rule {
                methods: self.methods.clone(),
                outcomes: outcomes(
                    self.on.as_deref().unwrap_or(&OUTCOMES),
                    self.statuses.clone().unwrap_or_else(|| vec![502..=504]),
                ),
                terms: self.terms(),
            },
        }
    }

    /// Methods and outcomes say here when the rule counts: without any, always.
    fn as_rule(&self, around: &Said<'a>) -> Rule {
        let on = match (&self.on, &self.statuses) {
            (Some(on), _) => on.as_slice(),
            (None, Some(_)) => &["status"],
            (None, None) => &OUTCOMES,
        };
        Rule {
            methods: self.methods.clone(),
            outcomes: outcomes(on, self.statuses.clone().unwrap_or_else(|| vec![400..=599])),
            terms: self.clone().over(around).terms(),
        }
    }

    fn terms(&self) -> Terms {
        let max = self.retry_after_max.unwrap_or(Duration::from_secs(30));
        Terms {
            attempts: self.attempts.unwrap_or(3),
            delay: self.delay.unwrap_or(Delay::Fixed(Duration::from_secs(1))),
            retry_after_max: self.honour.unwrap_or(true).then_some(max),
        }
    }
}

fn outcomes(on: &[&str], statuses: Vec<RangeInclusive<u16>>) -> Outcomes {
    Outcomes {
        connect_failure: on.contains(&"connect_failure"),
        lost_connection: on.contains(&"lost_connection"),
        timeout: on.contains(&"timeout"),
        statuses: if on.contains(&"status") { statuses } else { Vec::new() },
    }
}

fn read_rules<'a>(node: &Node<'a>) -> Option<Vec<Said<'a>>> {
    let nodes = node.list()?;
    if nodes.len() > RULES_MAX {
        node.report(format!("{} rules; at most {RULES_MAX} are allowed", nodes.len()));
        return None;
    }
    let mut rules: Vec<Said<'a>> = Vec::with_capacity(nodes.len());
    let mut takes_all = None;
    for (index, node) in nodes.iter().enumerate() {
        let Some(table) = node.table(&FIELDS[..8]) else { continue };
        if let Some(earlier) = takes_all {
            node.report_with(
                format!("no failure comes here: `rules[{earlier}]` takes them all"),
                "give that one `methods`, `on` or `statuses`, or put it last",
            );
        }
        if ["methods", "on", "statuses"].iter().all(|field| table.get(field).is_none()) {
            takes_all = takes_all.or(Some(index));
        }
        rules.push(Said::without_rules(&table));
    }
    Some(rules)
}

fn read_attempts(node: &Node<'_>) -> Option<u32> {
    node.integer(1..=u64::from(u32::MAX)).and_then(|number| number.try_into().ok())
}

fn read_delay(table: &Table<'_>) -> Option<Delay> {
    let fixed = table.get("delay").and_then(|node| node.duration()).map(Delay::Fixed);
    let Some(node) = table.get("backoff") else { return fixed };
    if table.get("delay").is_some() {
        node.report_with("both `delay` and `backoff`", "keep one of the two");
    }
    let backoff = node.table(&["initial", "factor", "max", "jitter"])?;
    let duration = |field, default| match backoff.get(field) {
        Some(node) => node.duration(),
        None => Some(default),
    };
    let initial = duration("initial", Duration::from_millis(100));
    let max = duration("max", Duration::from_secs(10));
    let factor = backoff.get("factor").map_or(Some(2), |node| node.integer(1..=100));
    let jitters = ["full", "none"];
    let jitter =
        backoff.get("jitter").map_or(Some("full"), |node| node.one_of(&jitters, "a jitter"));
    let (initial, max) = (initial?, max?);
    if initial > max {
        node.report_with("`initial` is longer than `max`", "`max` is where growing ends");
    }
    Some(Delay::Backoff {
        initial,
        factor: factor?.try_into().ok()?,
        max,
        jitter: jitter? == "full",
    })
}

fn read_outcomes<'a>(node: &Node<'a>) -> Option<Vec<&'a str>> {
    let nodes = node.list()?;
    let outcomes: Vec<_> =
        nodes.iter().filter_map(|node| node.one_of(&OUTCOMES, "an outcome")).collect();
    // Nobody can say what half of a list has no effect on.
    (outcomes.len() == nodes.len()).then_some(outcomes)
}

/// The statuses of failures: a success is not tried again.
fn read_statuses(node: &Node<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let one = |node: &Node<'_>| {
        if !node.is_text() {
            let status = node.integer(400..=599)?.try_into().ok()?;
            return Some(status..=status);
        }
        match node.text()? {
            "4xx" => Some(400..=499),
            "5xx" => Some(500..=599),
            text => {
                node.report_with(
                    format!("`{text}` is not a class of failures"),
                    "write \"4xx\" or \"5xx\", or single statuses as numbers: 503",
                );
                None
            }
        }
    };
    Some(node.list()?.iter().filter_map(one).collect())
}

fn read_methods(node: &Node<'_>) -> Option<Vec<String>> {
    let nodes = node.list()?;
    if nodes.is_empty() {
        node.report_with("an empty list takes no method", "leave `methods` out to take any");
    }
    let mut methods: Vec<String> = nodes.iter().filter_map(read_method).collect();
    // A HEAD is a GET without its body (RFC 9110 section 9.3.2).
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    Some(methods)
}

fn read_method(node: &Node<'_>) -> Option<String> {
    let method = node.text()?;
    let upper = method.to_ascii_uppercase();
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        node.report(format!("`{method}` is not a method"));
    } else if METHODS.contains(&upper.as_str()) && method != upper {
        node.report_with("methods are case-sensitive", format!("write {upper:?}"));
    }
    Some(method.to_owned())
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// With the field's name in front, as it stands in TOML: `rules[0].delay`. A field that is unknown (its
/// pointer ends in `#`) is named already, so that the table it stands in is enough.
fn with_its_place(mut error: ConfigError) -> ConfigError {
    let mut place = String::new();
    let is_unknown = error.pointer.ends_with('#');
    let pointer = match error.pointer.rsplit_once('/') {
        Some((table, _)) if is_unknown => table,
        _ => &error.pointer,
    };
    for token in pointer.split('/').skip(1) {
        if token.bytes().all(|byte| byte.is_ascii_digit()) {
            place.push_str(&format!("[{token}]"));
        } else {
            if !place.is_empty() {
                place.push('.');
            }
            place.push_str(token);
        }
    }
    if !place.is_empty() {
        error.message = format!("`{place}`: {}", error.message);
    }
    error
}
