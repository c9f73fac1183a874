//! The one wasmtime engine of a process, its pool, and the clock that interrupts its guests.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::bindings::{self, Host};
use super::cache::Cache;
use super::instance::INSTANCES_PER_WORKER_MAX;

/// One tick of the clock that interrupts guests, and the unit of `decision_timeout`.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The ticker rests after so many ticks in which no decision was asked for.
const REST_AFTER_TICKS: u32 = 1000;

/// Core instances, tables and memories of one component: a policy made by an SDK has one memory and,
/// with the WASI adapter, three or four core instances.
pub(super) const CORE_INSTANCES_MAX: u32 = 16;
pub(super) const TABLES_MAX: u32 = 8;
pub(super) const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Routing and retry.
const KINDS: u32 = 2;

/// Slots of the pool that keep their memory after an instance has gone: memory that does not come
/// back.
const WARM_SLOTS_MAX: u32 = 16;

/// What the pool has to hold. Raising it needs a restart: the pool is reserved once.
#[derive(Debug, Clone, Copy)]
pub struct Sizing {
    pub workers: usize,
    /// The largest `memory_max` of any policy, in bytes.
    pub memory_max: usize,
}

/// Compiles components and offers them the host's functions.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) cache: Option<Arc<Cache>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Reserves the pool and starts the ticker's thread.
    ///
    /// Errors where the address space for the pool cannot be reserved.
    pub fn new(sizing: Sizing) -> wasmtime::Result<Engine> {
        let mut config = compile_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizing)));
        let wasmtime = wasmtime::Engine::new(&config)?;
        let linker = Arc::new(bindings::linker(&wasmtime)?);
        let ticker = Ticker::start(wasmtime.clone())?;
        Ok(Engine { wasmtime, linker, ticker, cache: None })
    }

    /// Keeps what it compiles in this folder, and takes it from there.
    ///
    /// Errors where the folder cannot be made, or others could put code into it.
    pub fn with_cache(mut self, folder: &Path) -> io::Result<Engine> {
        self.cache = Some(Cache::open(folder)?.into());
        Ok(self)
    }
}

/// What decides about the code that a component compiles to.
fn compile_config() -> Config {
    let mut config = Config::new();
    config
        // Said explicitly: a dependency that enables `component-model-async` would switch it on, and a
        // call would cost five times as much.
        .concurrency_support(false)
        .epoch_interruption(true)
        // A decision has to replay to the same answer on any machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // A host overflow aborts the process, so the host's part of the stack is generous.
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20);
    config
}

fn pool(sizing: Sizing) -> PoolingAllocationConfig {
    let workers = u32::try_from(sizing.workers).unwrap_or(u32::MAX);
    // One more than the workers may have, for a version that is being tried out.
    let instances = workers.saturating_mul(KINDS * INSTANCES_PER_WORKER_MAX).saturating_add(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(sizing.memory_max)
        .max_unused_warm_slots(instances.min(WARM_SLOTS_MAX));
    pool
}

/// Advances the engine's epoch once a tick while decisions are being made, and rests otherwise.
pub(super) struct Ticker {
    /// Set by whoever is about to call a guest, cleared by the ticker once every
    /// [`REST_AFTER_TICKS`].
    wanted: AtomicBool,
    resting: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Arc<Ticker>> {
        let ticker = Arc::new(Ticker {
            wanted: AtomicBool::new(true),
            resting: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        // The thread lives as long as the process, as the engine does.
        let own = ticker.clone();
        let handle = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            loop {
                for _ in 0..REST_AFTER_TICKS {
                    std::thread::park_timeout(TICK);
                    engine.increment_epoch();
                }
                if !own.wanted.swap(false, Ordering::SeqCst) {
                    own.rest();
                }
            }
        })?;
        ticker.thread.set(handle.thread().clone()).expect("set once, here");
        Ok(ticker)
    }

    /// Announce a call. Costs one load while the ticker is running.
    pub(super) fn want(&self) {
        if self.wanted.load(Ordering::Relaxed) {
            return;
        }
        self.wanted.store(true, Ordering::SeqCst);
        if self.resting.load(Ordering::SeqCst) {
            self.thread.get().expect("set before the engine was handed out").unpark();
        }
    }

    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        // `want` sets `wanted` before it looks at `resting`, so one of the two sees the other.
        while !self.wanted.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}
