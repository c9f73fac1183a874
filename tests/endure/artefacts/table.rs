//! The artefacts: what is wrong with each, where it has to be refused, and a word of the reason.

mod policies;

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bytes;
use super::text::{self, Text};
use crate::versions;

#[derive(Debug)]
pub(crate) struct Artefact {
    /// What it is, and so how it is bad.
    pub(crate) mechanism: &'static str,
    pub(crate) made: Made,
    /// The step at which it is refused, and a word that says why.
    pub(crate) step: &'static str,
    pub(crate) word: &'static str,
    /// What it is pushed as, and with.
    pub(crate) kind: &'static str,
    pub(crate) config: Option<Value>,
    pub(crate) cases: Option<Value>,
}

#[derive(Debug)]
pub(crate) enum Made {
    Bytes(Vec<u8>),
    Zeros {
        bytes: usize,
        /// Without a length beforehand.
        in_chunks: bool,
    },
}

/// A component larger than `component_max` is not even received whole: there is no version to refuse.
pub(crate) const TOO_LARGE: &str = "none, 413";

impl Artefact {
    fn new(
        mechanism: &'static str,
        bytes: impl Into<Vec<u8>>,
        step: &'static str,
        word: &'static str,
    ) -> Artefact {
        Artefact {
            mechanism,
            made: Made::Bytes(bytes.into()),
            step,
            word,
            kind: "routing",
            config: None,
            cases: None,
        }
    }

    fn for_retry(self) -> Artefact {
        Artefact { kind: "retry", ..self }
    }

    fn with(self, config: Value) -> Artefact {
        Artefact { config: Some(config), ..self }
    }

    fn with_cases(self, cases: Value) -> Artefact {
        Artefact { cases: Some(cases), ..self }
    }

    /// More than `component_max`.
    fn zeros(mechanism: &'static str, in_chunks: bool) -> Artefact {
        let made = Made::Zeros { bytes: 200 << 20, in_chunks };
        Artefact { made, ..Artefact::new(mechanism, "", TOO_LARGE, "component_max") }
    }
}

/// All of them; some are made from what this gateway has compiled.
pub(crate) fn all(cache: &Path) -> Vec<Artefact> {
    [no_wasm(cache), broken(), bombs(), policies::all()].into_iter().flatten().collect()
}

fn no_wasm(cache: &Path) -> Vec<Artefact> {
    let native = bytes::native(cache);
    let good = versions::component("routing");
    let script = "export const routing = { route() { return; } };\n";
    let wit = "package orchestrator:policy@0.1.0;\nworld routing-policy {}\n";
    let elf = &fs::read(std::env::current_exe().unwrap()).unwrap()[..1 << 20];
    let no_wasm = "not a WebAssembly";
    vec![
        Artefact::new("no byte at all", "", "receive", no_wasm),
        Artefact::new("one byte", [0], "receive", no_wasm),
        Artefact::new("half of the magic number", "\0a", "receive", no_wasm),
        Artefact::new("a text that says sorry", "404 Not Found\n", "receive", no_wasm),
        Artefact::new("JavaScript", script, "receive", no_wasm),
        Artefact::new("WIT", wit, "receive", no_wasm),
        Artefact::new("a native program", elf, "receive", no_wasm),
        Artefact::new("a gzipped component", bytes::gzipped(&good), "receive", no_wasm),
        Artefact::new("native code of the gateway's own cache", &*native, "receive", no_wasm),
        Artefact::new("the same, altered", bytes::altered(&native), "receive", no_wasm),
        Artefact::new(
            "the same behind a component's head",
            bytes::in_disguise(&native),
            "compile",
            "not a valid component",
        ),
        Artefact::zeros("200 MB of zeros", false),
        Artefact::zeros("the same without a length", true),
    ]
}

fn broken() -> Vec<Artefact> {
    let good = versions::component("routing");
    let invalid = "not a valid component";
    let trailing = [&good[..], b"and something else"].concat();
    vec![
        Artefact::new("the magic number alone", "\0asm", "compile", invalid),
        Artefact::new("a version of WebAssembly to come", b"\0asm\x0e\0\x01\0", "compile", invalid),
        Artefact::new("half a component", &good[..good.len() / 2], "compile", invalid),
        Artefact::new("one without its last byte", &good[..good.len() - 1], "compile", invalid),
        Artefact::new(
            "one without the sections behind its code",
            bytes::cut_behind_a_section(&good),
            "contract",
            "does not export",
        ),
        Artefact::new("one and something behind it", trailing, "compile", invalid),
        Artefact::new("no such instructions", bytes::overwritten(&good, 0xff), "compile", invalid),
        Artefact::new(
            "instructions of no use",
            bytes::overwritten(&good, 0x1a),
            "compile",
            invalid,
        ),
        Artefact::new(
            "lists of lists, 10,000 deep",
            Text::with_fields(&text::deep_type(10_000)),
            "compile",
            "nest",
        ),
        Artefact::new(
            "a type of 2^40 fields",
            Text::with_fields(&text::doubling_type(40)),
            "compile",
            "type size",
        ),
        Artefact::new(
            "shared memory",
            Text::with_memory("(memory (export \"memory\") 1 1 shared)"),
            "compile",
            "threads",
        ),
        Artefact::new("64-bit memory", Text::with_core("(memory i64 1)"), "compile", "memory"),
        Artefact::new(
            "types of the garbage collector",
            Text::with_core("(type (struct (field i32)))"),
            "compile",
            "gc",
        ),
        Artefact::new("exceptions", Text::with_core("(tag)"), "compile", "exceptions"),
        Artefact::new(
            "SIMD whose results differ from machine to machine",
            Text::with_core(
                "(func (result v128) (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0)))",
            ),
            "compile",
            "SIMD",
        ),
        Artefact::new(
            "streams of asynchronous components",
            Text::with_fields("(type (stream u8))"),
            "compile",
            "async",
        ),
    ]
}

/// What compiling them costs without limits is in `tests/README.md`.
fn bombs() -> Vec<Artefact> {
    let function = |text: String| Text::with_core(&text);
    vec![
        Artefact::new(
            "a bomb in time: 20,000 values alive",
            function(text::many_values(20_000)),
            "compile",
            "compile_cpu",
        ),
        Artefact::new(
            "a bomb in time: 500 loops in each other",
            function(text::nested_loops(500, 500)),
            "compile",
            "compile_timeout",
        )
        .for_retry(),
        Artefact::new(
            "a bomb in memory: 5,000 branches over 5,000 locals",
            function(text::many_branches(5_000, 5_000)),
            "compile",
            "compile_memory_max",
        ),
        Artefact::new(
            "a bomb in memory: 20,000 components in each other",
            bytes::nested(20_000),
            "compile",
            "compile_memory_max",
        ),
        Artefact::new(
            "a bomb in memory: two million branch targets",
            function(text::branch_tables(2_000)),
            "compile",
            "compile_memory_max",
        ),
    ]
}
