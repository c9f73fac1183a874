//! What a component is and would need, without a gateway that takes it.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasmparser::{Instance, KnownCustom, Parser, Payload};

use super::Kind;
use super::compile::Usage;
use super::contract::{Interfaces, OFFERED, PACKAGE, check_space, initial_memory};
use super::engine::{Engine, Sizing, THIS_PROGRAM};
use super::versions::{LoadError, Step, compile, hex};
use crate::config::{Config, PolicyLimits};

/// Where the SDK for Rust signs what it is part of.
const SDK_SECTION: &str = "orchestrator-policy-sdk";

/// Who made a component, and how long each name may be: more would be no answer.
const PRODUCERS_MAX: usize = 64;
const PRODUCER_LENGTH_MAX: usize = 128;

/// What was found.
#[derive(Debug)]
pub struct Inspection {
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// `routing-policy` or `retry-policy`.
    pub world: Option<String>,
    /// The version of the contract that it wants.
    pub contract: Option<String>,
    /// The one that this gateway has.
    pub offered: &'static str,
    /// Languages and tools, as they have signed it.
    pub made_by: Vec<String>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub needs: Vec<Need>,
    /// Where it would be refused, and why.
    pub wrong: Option<(Step, String)>,
}

/// What a component needs of a limit, and the limit's default.
#[derive(Debug)]
pub struct Need {
    /// In `[policy_limits]`.
    pub key: &'static str,
    pub needed: u64,
    pub default: u64,
    pub unit: Unit,
    pub note: &'static str,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Milliseconds,
    Pieces,
}

impl Need {
    pub fn is_within(&self) -> bool {
        self.needed <= self.default
    }
}

impl Unit {
    pub fn word(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Milliseconds => "ms",
            Unit::Pieces => "pieces",
        }
    }

    /// A number of these, for people.
    pub fn text(self, count: u64) -> String {
        match self {
            Unit::Bytes => bytesize::ByteSize(count).to_string(),
            Unit::Milliseconds => format!("{:.1} s", count as f64 / 1000.0),
            Unit::Pieces => count.to_string(),
        }
    }
}

/// Looks at a component, within limits far beyond the default ones, so that what it needs can be seen.
pub async fn inspect(component: Bytes) -> Inspection {
    let (defaults, _) = Config::builtin();
    let defaults = &defaults.routing.limits;
    let mut found = Inspection {
        sha256: hex(&Sha256::digest(&component)),
        size: component.len() as u64,
        world: None,
        contract: None,
        offered: OFFERED,
        made_by: producers(&component),
        imports: Vec::new(),
        exports: Vec::new(),
        needs: vec![Need {
            key: "component_max",
            needed: component.len() as u64,
            default: defaults.component_max as u64,
            unit: Unit::Bytes,
            note: "",
        }],
        wrong: None,
    };
    if let Err(error) = look(&component, defaults, &mut found).await {
        found.wrong = Some((error.step(), error.to_string()));
    }
    found
}

async fn look(
    bytes: &Bytes,
    defaults: &PolicyLimits,
    found: &mut Inspection,
) -> Result<(), LoadError> {
    let generous = PolicyLimits {
        memory_max: 256 << 20,
        table_elements_max: 1_000_000,
        tables_max: 64,
        core_instances_max: 128,
        component_max: 256 << 20,
        compile_memory_max: 8 << 30,
        compile_cpu: 10 * defaults.compile_cpu,
        ..defaults.clone()
    };
    let engine = Engine::new(Sizing::of(1, [&generous]), THIS_PROGRAM.into())
        .map_err(|error| LoadError::Compile(format!("{error:#}")))?;
    let (component, usage) = compile(&engine, bytes, &generous).await?;
    let required = component.resources_required();
    let (memory, elements, tables) = required.map_or((0, 0, 0), |required| {
        let elements = required.max_initial_table_size.unwrap_or(0);
        (initial_memory(&required), elements, required.num_tables)
    });
    let Usage { cpu, resident } = usage.unwrap_or_default();
    let mib = bytes.len() as f64 / f64::from(1 << 20);
    let allowed = defaults.compile_cpu + defaults.compile_cpu_per_mib.mul_f64(mib);
    let need = |key, needed, default, unit, note| Need { key, needed, default, unit, note };
    let ms = |time: std::time::Duration| time.as_millis() as u64;
    let pieces = Unit::Pieces;
    found.needs.extend([
        need("memory_max", memory, defaults.memory_max as u64, Unit::Bytes, " at first"),
        need(
            "table_elements_max",
            elements,
            defaults.table_elements_max as u64,
            pieces,
            " at first",
        ),
        need("tables_max", tables.into(), defaults.tables_max.into(), pieces, ""),
        need(
            "core_instances_max",
            core_instances(bytes) as u64,
            defaults.core_instances_max.into(),
            pieces,
            "",
        ),
        need("compile_cpu", ms(cpu), ms(allowed), Unit::Milliseconds, ""),
        need("compile_memory_max", resident, defaults.compile_memory_max, Unit::Bytes, " resident"),
    ]);
    let interfaces = Interfaces::of(&engine, &component);
    found.imports = interfaces.imports.iter().map(|(name, _)| name.clone()).collect();
    found.exports.clone_from(&interfaces.exports);
    let all = interfaces.exports.iter().chain(&found.imports);
    found.contract = all
        .filter_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'))
        .map(|(_, version)| version.to_owned())
        .max();
    let kind = Kind::ALL.into_iter().find(|kind| {
        let interface = format!("{PACKAGE}{}@", kind.name());
        interfaces.exports.iter().any(|name| name.starts_with(&interface))
    });
    found.world = kind.map(|kind| format!("{}-policy", kind.name()));
    // Where it is neither, the words for one kind do for both.
    interfaces.check_contract(kind.unwrap_or(Kind::Routing), &engine.linker)?;
    check_space(&component, &generous)
}

/// Modules that are instantiated; one that is so twice counts twice.
fn core_instances(component: &[u8]) -> usize {
    let payloads = Parser::new(0).parse_all(component).map_while(Result::ok);
    let sections = payloads.filter_map(|payload| match payload {
        Payload::InstanceSection(instances) => Some(instances),
        _ => None,
    });
    let instances = sections.flatten().map_while(Result::ok);
    instances.filter(|it| matches!(it, Instance::Instantiate { .. })).count()
}

/// What tools have written into the component, and into the modules within it, of themselves: the first
/// [`PRODUCERS_MAX`].
fn producers(component: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let Ok(Payload::CustomSection(section)) = payload else {
            if payload.is_err() {
                break;
            }
            continue;
        };
        if section.name() == SDK_SECTION {
            let version = String::from_utf8_lossy(section.data());
            add(&mut all, format!("orchestrator-policy {version}"));
        }
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        for field in fields.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                add(&mut all, format!("{} {}", value.name, value.version));
                if all.len() == PRODUCERS_MAX {
                    return all;
                }
            }
        }
    }
    all
}

fn add(all: &mut Vec<String>, made_by: String) {
    let made_by = made_by.chars().take(PRODUCER_LENGTH_MAX).collect();
    if !all.contains(&made_by) {
        all.push(made_by);
    }
}
