//! From a component's bytes to a version that can decide, or a refusal that says what to do.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use super::bindings::{Host, Setup};
use super::engine::{Engine, TABLE_ELEMENTS_MAX};
use super::{Fault, Kind};
use crate::config::{self, PolicyLimits};

/// The package that a policy is made against.
const PACKAGE: &str = "orchestrator:policy/";

/// The version of it that this gateway offers.
const OFFERED: &str = "0.1.0";

/// A component together with its configuration: what decides, named by the SHA-256 of both.
#[derive(Clone)]
pub struct Version {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    /// The first half of the hash, for WASI's constant seed.
    pub(super) seed: u128,
    pub(super) pre: InstancePre<Host>,
    pub(super) configure: ComponentExportIndex,
    pub(super) decide: ComponentExportIndex,
    pub(super) setup: Arc<Setup>,
    pub(super) limits: PolicyLimits,
    wants_services: bool,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("kind", &self.kind).field("name", &self.name).finish()
    }
}

/// What a policy's `configure` says is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// RFC 6901, into the policy's own configuration.
    pub pointer: String,
    pub message: String,
    pub suggestion: Option<String>,
}

/// Why a component is refused. Each text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the component {path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("{0}")]
    NotAComponent(String),
    #[error("{0}")]
    Contract(String),
    #[error("{0}")]
    Limits(String),
    #[error("its configuration is refused by the policy")]
    Config(Vec<ConfigError>),
    #[error("`configure` failed: {0}")]
    Configure(Fault),
}

impl Version {
    /// Reads, compiles and checks a policy. Its `configure` has not run yet: making the first
    /// instance does that.
    pub fn load(
        engine: &Engine,
        kind: Kind,
        policy: &config::Policy,
        services: &[String],
    ) -> Result<Version, LoadError> {
        let bytes = read(&policy.component)?;
        let config = policy.config.to_string();
        let hash = Sha256::new().chain_update(&*bytes).chain_update(&config).finalize();
        let name: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();

        let component = compile(engine, &bytes)?;
        let interfaces = Interfaces::of(engine, &component);
        interfaces.check_contract(kind, &engine.linker)?;
        check_space(&component, &policy.limits)?;
        let pre = engine.linker.instantiate_pre(&component).map_err(|error| {
            LoadError::Contract(format!(
                "the {} policy does not fit this gateway's `{PACKAGE}*@{OFFERED}`: {}; rebuild it \
                 with SDK 0.1",
                kind.name(),
                error.root_cause()
            ))
        })?;
        let configure = export(&component, "lifecycle", "configure")?;
        let decide = match kind {
            Kind::Routing => export(&component, "routing", "route")?,
            Kind::Retry => export(&component, "retry", "judge")?,
        };
        Ok(Version {
            kind,
            name: name.into(),
            seed: u128::from_le_bytes(hash[..16].try_into().expect("a SHA-256 has 32 bytes")),
            pre,
            configure,
            decide,
            setup: Arc::new(Setup { config, services: services.to_vec() }),
            limits: policy.limits.clone(),
            wants_services: interfaces.imports_service_states(),
        })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The first twelve hexadecimal digits of the SHA-256 of component and configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it may ask for the state of services: what a judge may ask is noted on arrival.
    pub fn wants_services(&self) -> bool {
        self.wants_services
    }
}

fn read(component: &config::Component) -> Result<std::borrow::Cow<'static, [u8]>, LoadError> {
    match component {
        config::Component::BuiltinRouting => {
            Ok(include_bytes!("../../../plugins/dist/routing.wasm").as_slice().into())
        }
        config::Component::BuiltinRetry => {
            Ok(include_bytes!("../../../plugins/dist/retry.wasm").as_slice().into())
        }
        config::Component::File(path) => std::fs::read(path)
            .map(Into::into)
            .map_err(|error| LoadError::Read { path: path.display().to_string(), error }),
    }
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, LoadError> {
    const WASM: &[u8] = b"\0asm";
    const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
    let refuse = |text: String| Err(LoadError::NotAComponent(text));
    match bytes.strip_prefix(WASM) {
        None => {
            return refuse(
                "this is not a WebAssembly file: it does not begin with `\\0asm`".into(),
            );
        }
        Some(rest) if rest.starts_with(CORE_MODULE) => {
            return refuse(
                "this is a core module, not a component: compile it for `wasm32-wasip2`".into(),
            );
        }
        Some(_) => {}
    }
    let cache = engine.cache.as_deref();
    if let Some(compiled) = cache.and_then(|cache| cache.get(&engine.wasmtime, bytes)) {
        return Ok(compiled);
    }
    let compiled = Component::from_binary(&engine.wasmtime, bytes).or_else(|error| {
        refuse(format!("this is not a valid component: {}", error.root_cause()))
    })?;
    if let Some(cache) = cache
        && let Err(error) = cache.put(&engine.wasmtime, bytes, &compiled)
    {
        tracing::warn!(%error, "cannot keep a compiled policy in `server.cache_dir`");
    }
    Ok(compiled)
}

/// What a component imports and exports, by interface.
struct Interfaces {
    imports: Vec<(String, Vec<String>)>,
    exports: Vec<String>,
}

impl Interfaces {
    fn of(engine: &Engine, component: &Component) -> Interfaces {
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

    fn imports_service_states(&self) -> bool {
        self.imports.iter().any(|(name, functions)| {
            name.starts_with("orchestrator:policy/exchange@")
                && functions.iter().any(|function| function == "service")
        })
    }

    fn check_contract(
        &self,
        kind: Kind,
        linker: &wasmtime::component::Linker<Host>,
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
                "this is a {} policy, and it is configured under [policy.{}]: move it to \
                 [policy.{}]",
                other.name(),
                kind.name(),
                other.name()
            ));
        }
        refuse(format!(
            "this component is no policy: it does not export `{PACKAGE}{}@{OFFERED}`; build it \
             against the world `{}-policy` (the SDK does)",
            kind.name(),
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

fn check_space(component: &Component, limits: &PolicyLimits) -> Result<(), LoadError> {
    let refuse = |text: String| Err(LoadError::Limits(text));
    let Some(required) = component.resources_required() else {
        return refuse("the component imports modules, so that its memory cannot be known".into());
    };
    let memory = required.max_initial_memory_size.unwrap_or(0);
    if memory > limits.memory_max as u64 {
        return refuse(format!(
            "it begins with {} of memory, and `memory_max` is {}: raise `memory_max` for this \
             policy",
            bytesize::ByteSize(memory),
            bytesize::ByteSize(limits.memory_max as u64)
        ));
    }
    if required.num_memories > 1 {
        return refuse(format!("it has {} memories; one is allowed", required.num_memories));
    }
    if required.max_initial_table_size.unwrap_or(0) > TABLE_ELEMENTS_MAX as u64 {
        return refuse(format!("it has a table of more than {TABLE_ELEMENTS_MAX} elements"));
    }
    Ok(())
}

fn export(
    component: &Component,
    interface: &str,
    function: &str,
) -> Result<ComponentExportIndex, LoadError> {
    let instance = component.get_export_index(None, format!("{PACKAGE}{interface}@{OFFERED}"));
    instance.and_then(|instance| component.get_export_index(Some(&instance), function)).ok_or_else(
        || LoadError::Contract(format!("it does not export `{PACKAGE}{interface}#{function}`")),
    )
}
