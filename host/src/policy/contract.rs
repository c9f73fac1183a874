//! Does a component fit this gateway: does it want what is offered, offer what is wanted, and have
//! room within its limits?
//!
//! A refusal says which interface it wanted, which one is offered, and what to do.

use wasmtime::ResourcesRequired;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Linker};

use super::Kind;
use super::bindings::Host;
use super::engine::Engine;
use super::versions::{LoadError, Step};
use crate::config::PolicyLimits;

/// The package that a policy is made against.
pub(super) const PACKAGE: &str = "orchestrator:policy/";

/// The version of it that this gateway offers.
pub(super) const OFFERED: &str = "0.1.0";

/// What a component imports and exports, by interface.
pub(super) struct Interfaces {
    pub(super) imports: Vec<(String, Vec<String>)>,
    pub(super) exports: Vec<String>,
}

impl Interfaces {
    pub(super) fn of(engine: &Engine, component: &Component) -> Interfaces {
        let component_type = component.component_type();
        let functions = |item: &ComponentItem| match item {
            ComponentItem::ComponentInstance(instance) => {
                instance.exports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect()
            }
            _ => Vec::new(),
        };
        Interfaces {
            imports: component_type
                .imports(&engine.wasmtime)
                .map(|(name, import)| (name.to_owned(), functions(&import.ty)))
                .collect(),
            exports: component_type
                .exports(&engine.wasmtime)
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }

    pub(super) fn imports_service_states(&self) -> bool {
        self.imports.iter().any(|(name, functions)| {
            name.starts_with("orchestrator:policy/exchange@")
                && functions.iter().any(|function| function == "service")
        })
    }

    pub(super) fn check_contract(
        &self,
        kind: Kind,
        linker: &Linker<Host>,
    ) -> Result<(), LoadError> {
        let refuse = |text: String| Err(LoadError::Contract(text));
        let wanted = self.exports.iter().chain(self.imports.iter().map(|(name, _)| name));
        for name in wanted.filter(|name| name.starts_with(PACKAGE)) {
            if !compatible(name) {
                return refuse(format!(
                    "the {} policy wants `{name}`; this gateway offers {OFFERED}: rebuild it with \
                     SDK 0.1",
                    kind.name()
                ));
            }
        }
        for (name, _) in self.imports.iter().filter(|(name, _)| !name.starts_with(PACKAGE)) {
            if linker.clone().instance(name).is_err() || !is_offered_wasi(name) {
                return refuse(format!(
                    "the {} policy wants `{name}`; this gateway offers `{PACKAGE}*@{OFFERED}` and \
                     an empty WASI 0.2: build it without that import",
                    kind.name()
                ));
            }
        }
        if self.exports_interface(kind.name()) && self.exports_interface("lifecycle") {
            return Ok(());
        }
        let other = match kind {
            Kind::Routing => Kind::Retry,
            Kind::Retry => Kind::Routing,
        };
        if self.exports_interface(other.name()) {
            return refuse(format!(
                "this is a {other} policy, not a {} policy: it belongs under [policy.{other}], or is \
                 pushed --as {other}",
                kind.name(),
                other = other.name()
            ));
        }
        let missing = [kind.name(), "lifecycle"];
        let missing = missing.iter().filter(|interface| !self.exports_interface(interface));
        let missing: Vec<String> =
            missing.map(|interface| format!("`{PACKAGE}{interface}@{OFFERED}`")).collect();
        refuse(format!(
            "this component is no policy: it does not export {}; build it against the world \
             `{}-policy` (the SDK does)",
            missing.join(" and "),
            kind.name()
        ))
    }

    fn exports_interface(&self, interface: &str) -> bool {
        self.exports.iter().any(|name| {
            name.strip_prefix(PACKAGE)
                .and_then(|rest| rest.split_once('@'))
                .is_some_and(|(found, _)| found == interface)
        })
    }
}

/// Semantic versioning below 1.0: the same minor version.
fn compatible(interface: &str) -> bool {
    let minor = OFFERED.rsplit_once('.').expect("a version has dots").0;
    let version = interface.rsplit_once('@').map_or("", |(_, version)| version);
    version.rsplit_once('.').is_some_and(|(wanted, _)| wanted == minor)
}

fn is_offered_wasi(name: &str) -> bool {
    ["cli", "clocks", "filesystem", "io", "random", "sockets"]
        .iter()
        .any(|package| name.starts_with(&format!("wasi:{package}/")))
        && name.rsplit_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// In bytes: wasmtime counts pages.
pub(super) fn initial_memory(required: &ResourcesRequired) -> u64 {
    const PAGE_BYTES: u64 = 64 << 10;
    required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES)
}

pub(super) fn check_space(component: &Component, limits: &PolicyLimits) -> Result<(), LoadError> {
    let Some(required) = component.resources_required() else {
        return Err(LoadError::Contract(
            "the component imports modules, so that its memory cannot be known".into(),
        ));
    };
    if required.num_memories > 1 {
        let text = format!("it has {} memories; one is allowed", required.num_memories);
        return Err(LoadError::Contract(text));
    }
    let refuse = |key, what: String, max: String| LoadError::Limit {
        step: Step::Contract,
        key,
        text: format!("it begins with {what}, and `{key}` is {max}: raise `{key}` for this policy"),
    };
    let memory = initial_memory(&required);
    if memory > limits.memory_max as u64 {
        let size = |bytes| bytesize::ByteSize(bytes).to_string();
        let what = format!("{} of memory", size(memory));
        return Err(refuse("memory_max", what, size(limits.memory_max as u64)));
    }
    let elements = required.max_initial_table_size.unwrap_or(0);
    if elements > limits.table_elements_max as u64 {
        let what = format!("a table of {elements} elements");
        return Err(refuse("table_elements_max", what, limits.table_elements_max.to_string()));
    }
    if required.num_tables > limits.tables_max {
        let what = format!("{} tables", required.num_tables);
        return Err(refuse("tables_max", what, limits.tables_max.to_string()));
    }
    Ok(())
}

pub(super) fn export(
    component: &Component,
    interface: &str,
    function: &str,
) -> Result<ComponentExportIndex, LoadError> {
    let instance = component.get_export_index(None, format!("{PACKAGE}{interface}@{OFFERED}"));
    instance.and_then(|instance| component.get_export_index(Some(&instance), function)).ok_or_else(
        || LoadError::Contract(format!("it does not export `{PACKAGE}{interface}#{function}`")),
    )
}
