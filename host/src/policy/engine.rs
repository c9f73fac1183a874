//! The one wasmtime engine of a process, its pool, and the clock that interrupts its guests.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use rustix::process::setpriority_process;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use super::Kind;
use super::bindings::{self, Host};
use super::cache::Cache;
use super::compile::Compiler;
use crate::config::PolicyLimits;

/// One tick of the clock that interrupts guests, and the unit of `decision_timeout`.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The ticker goes before those that it interrupts.
const TICKER_NICE: i32 = -10;

/// The parts of a tick in which guests are interrupted while decisions run away.
pub(super) const EPOCHS_A_TICK: u32 = 8;
pub(super) const EPOCH: Duration = Duration::from_micros(125);

/// So long after the last decision that ran away.
const HURRY_TICKS: u32 = 1000;

/// The ticker rests after so many ticks in which no decision was asked for.
const REST_AFTER_TICKS: u32 = 1000;

/// Routing and retry.
const KINDS: u32 = 2;

/// What a worker may have of each kind, as multiples of what one version may have: the version that
/// decides and the last good one may both be at work on everything; the rest is for the one before, for
/// one that is being set up, and for those that old requests still hold.
const VERSIONS_AT_WORK: u32 = 3;

/// Slots of the pool that keep their memory after an instance has gone, and how much of it: memory that
/// does not come back. Without it, a guest that fills its memory makes the kernel find pages for it, which
/// nothing can interrupt, again and again.
const WARM_SLOTS_MAX: u32 = 8;
const RESIDENT_BYTES_MAX: usize = 8 << 20;

/// What the pool has to hold. Raising it needs a restart: the pool is reserved once.
#[derive(Debug, Clone, Copy)]
pub struct Sizing {
    pub workers: usize,
    instances_max: u32,
    memory_max: usize,
    stack_max: usize,
    table_elements_max: usize,
    tables_max: u32,
    core_instances_max: u32,
}

impl Sizing {
    /// Room for policies within these limits.
    pub fn of<'a>(workers: usize, limits: impl IntoIterator<Item = &'a PolicyLimits>) -> Sizing {
        let nothing = Sizing {
            workers,
            instances_max: 0,
            memory_max: 0,
            stack_max: 0,
            table_elements_max: 0,
            tables_max: 0,
            core_instances_max: 0,
        };
        limits.into_iter().fold(nothing, |sizing, limits| Sizing {
            workers,
            instances_max: sizing.instances_max.max(limits.instances_max),
            memory_max: sizing.memory_max.max(limits.memory_max),
            stack_max: sizing.stack_max.max(limits.stack_max),
            table_elements_max: sizing.table_elements_max.max(limits.table_elements_max),
            tables_max: sizing.tables_max.max(limits.tables_max),
            core_instances_max: sizing.core_instances_max.max(limits.core_instances_max),
        })
    }
}

/// The program that compiles: this one, as it was when it was started.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// Compiles components and offers them the host's functions.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) compiler: Arc<Compiler>,
    pub(super) cache: Option<Arc<Cache>>,
    /// Lines that policies printed and that were not logged, in the order of [`Kind::ALL`].
    pub(super) output_dropped: [Arc<AtomicU64>; 2],
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Reserves the pool and starts the ticker's thread. `program` is one that has the verb
    /// [`COMPILE_VERB`](super::COMPILE_VERB).
    ///
    /// Errors where the address space for the pool cannot be reserved.
    pub fn new(sizing: Sizing, program: PathBuf) -> wasmtime::Result<Engine> {
        let mut config = compile_config();
        // A host overflow aborts the process, so the host's part of the stack is generous.
        config
            .max_wasm_stack(sizing.stack_max)
            .async_stack_size(sizing.stack_max + HOST_STACK_BYTES)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sizing)));
        let wasmtime = wasmtime::Engine::new(&config)?;
        let linker = Arc::new(bindings::linker(&wasmtime)?);
        let ticker = Ticker::start(wasmtime.clone())?;
        let compiler = Arc::new(Compiler::new(program));
        Ok(Engine {
            wasmtime,
            linker,
            ticker,
            compiler,
            cache: None,
            output_dropped: Default::default(),
        })
    }

    /// Keeps what it compiles in this folder, and takes it from there.
    ///
    /// Errors where the folder cannot be made, or others could put code into it.
    pub fn with_cache(mut self, folder: &Path) -> io::Result<Engine> {
        self.cache = Some(Cache::open(folder)?.into());
        Ok(self)
    }

    /// Stops the clock that interrupts guests, for good: for measurements under which a decision takes longer
    /// than a tick.
    pub fn stop_clock(&self) {
        self.ticker.stopped.store(true, Ordering::Relaxed);
    }

    /// Lines that policies of this kind printed and that were not logged, for there were too many.
    pub fn output_dropped(&self, kind: Kind) -> &Arc<AtomicU64> {
        &self.output_dropped[kind as usize]
    }
}

/// The host's part of a call's stack.
const HOST_STACK_BYTES: usize = 1536 << 10;

/// What decides about the code that a component compiles to: the same in the child that compiles and in
/// the engine that runs it.
pub(super) fn compile_config() -> Config {
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
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

fn pool(sizing: Sizing) -> PoolingAllocationConfig {
    let workers = u32::try_from(sizing.workers).unwrap_or(u32::MAX);
    // Some more than the workers may have, for versions that are being tried out.
    let instances =
        workers.saturating_mul(KINDS * VERSIONS_AT_WORK * sizing.instances_max).saturating_add(4);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(sizing.core_instances_max))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(sizing.tables_max))
        .total_stacks(instances)
        .max_core_instances_per_component(sizing.core_instances_max)
        .max_memories_per_component(1)
        .max_tables_per_component(sizing.tables_max)
        .table_elements(sizing.table_elements_max)
        .max_memory_size(sizing.memory_max)
        .linear_memory_keep_resident(sizing.memory_max.min(RESIDENT_BYTES_MAX))
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(instances.min(WARM_SLOTS_MAX));
    pool
}

/// Advances the engine's epoch by a tick's worth while decisions are being made, and rests otherwise.
pub(super) struct Ticker {
    /// Set by whoever is about to call a guest, cleared by the ticker once every
    /// [`REST_AFTER_TICKS`].
    wanted: AtomicBool,
    resting: AtomicBool,
    stopped: AtomicBool,
    /// Ticks whose epochs are still to come one by one, counted down by the ticker.
    hurried: AtomicU32,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Arc<Ticker>> {
        let ticker = Arc::new(Ticker {
            wanted: AtomicBool::new(true),
            resting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            hurried: AtomicU32::new(0),
            thread: std::sync::OnceLock::new(),
        });
        // The thread lives as long as the process, as the engine does, or until it is stopped.
        let own = ticker.clone();
        let handle = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            // It sleeps nearly always, and what it wakes for is to end what keeps others waiting. Who may
            // not ask for this has ticks that are longer on a machine that is busy.
            let _ = setpriority_process(None, TICKER_NICE);
            loop {
                for _ in 0..REST_AFTER_TICKS {
                    if own.is_stopped() {
                        return;
                    }
                    let hurries = own.hurries();
                    if hurries {
                        own.hurried.fetch_sub(1, Ordering::Relaxed);
                    } else {
                        std::thread::park_timeout(TICK);
                    }
                    for _ in 0..EPOCHS_A_TICK {
                        if hurries {
                            std::thread::park_timeout(EPOCH);
                        }
                        engine.increment_epoch();
                    }
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

    /// From now on, for a while, the epochs of a tick come one by one: decisions run away, and of each
    /// further one only a part of a tick shall be lost.
    pub(super) fn hurry(&self) {
        self.hurried.store(HURRY_TICKS, Ordering::Relaxed);
    }

    /// No decision is too long then.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn hurries(&self) -> bool {
        self.hurried.load(Ordering::Relaxed) > 0
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
