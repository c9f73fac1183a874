//! Artefacts that no compiler would produce, as component text: a small routing policy that behaves, but
//! for what an artefact replaces.

use std::fmt::Write as _;

/// The parts of a policy. It declines every request.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Of the component, in front of all others: imports, types, further modules.
    pub(crate) fields: String,
    pub(crate) memory: String,
    /// Of the core module: further functions, tables, a start function.
    pub(crate) core: String,
    /// What `configure` does before it returns `ok`.
    pub(crate) configure: String,
    pub(crate) lifecycle: String,
    pub(crate) routing: String,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            fields: String::new(),
            memory: "(memory (export \"memory\") 1)".into(),
            core: String::new(),
            configure: String::new(),
            lifecycle: LIFECYCLE.into(),
            routing: ROUTING.into(),
        }
    }
}

/// A type that is exported has to have its name where a function uses it: hence the component around it.
const LIFECYCLE: &str = r#"
    (type $config-error
        (record (field "pointer" string) (field "message" string) (field "suggestion" (option string))))
    (func $configure (result (result (error (list $config-error))))
        (canon lift (core func $policy "configure") (memory (core memory $policy "memory"))))
    (component $Lifecycle
        (type $own
            (record (field "pointer" string) (field "message" string) (field "suggestion" (option string))))
        (import "error" (type $imported (eq $own)))
        (import "configure" (func $configure (result (result (error (list $imported))))))
        (export $exported "config-error" (type $own))
        (export "configure" (func $configure) (func (result (result (error (list $exported)))))))
    (instance $lifecycle (instantiate $Lifecycle
        (with "error" (type $config-error)) (with "configure" (func $configure))))
    (export "orchestrator:policy/lifecycle@0.1.0" (instance $lifecycle))"#;

const ROUTING: &str = r#"
    (func $route (result (result (error string)))
        (canon lift (core func $policy "decide") (memory (core memory $policy "memory"))))
    (instance $routing (export "route" (func $route)))
    (export "orchestrator:policy/routing@0.1.0" (instance $routing))"#;

impl Text {
    pub(crate) fn compiled(&self) -> Vec<u8> {
        let Text { fields, memory, core, configure, lifecycle, routing } = self;
        // A result `ok` is at 512: zeros.
        let text = format!(
            r#"(component {fields}
                (core module $Policy {memory} {core}
                    (func (export "configure") (result i32) {configure} (i32.const 512))
                    (func (export "decide") (result i32) (i32.const 512)))
                (core instance $policy (instantiate $Policy))
                {lifecycle} {routing})"#
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn with_fields(fields: &str) -> Vec<u8> {
        Text { fields: fields.into(), ..Text::default() }.compiled()
    }

    pub(crate) fn with_core(core: &str) -> Vec<u8> {
        Text { core: core.into(), ..Text::default() }.compiled()
    }

    pub(crate) fn with_memory(memory: &str) -> Vec<u8> {
        Text { memory: memory.into(), ..Text::default() }.compiled()
    }

    /// `core` is what `configure` calls, besides.
    pub(crate) fn with_configure(configure: &str, core: &str) -> Vec<u8> {
        Text { configure: configure.into(), core: core.into(), ..Text::default() }.compiled()
    }

    pub(crate) fn with_lifecycle(lifecycle: &str) -> Vec<u8> {
        Text { lifecycle: lifecycle.into(), ..Text::default() }.compiled()
    }

    pub(crate) fn with_routing(routing: &str) -> Vec<u8> {
        Text { routing: routing.into(), ..Text::default() }.compiled()
    }
}

/// Imports one function of an interface.
pub(crate) fn import(interface: &str, function: &str, of: &str) -> String {
    format!("(import {interface:?} (instance (export {function:?} (func {of}))))")
}

/// Tuples of two of the one before: to write it is short, to look at it whole is not.
pub(crate) fn doubling_type(times: usize) -> String {
    chained_type(times, |before| format!("(tuple $t{before} $t{before})"))
}

/// Lists of lists.
pub(crate) fn deep_type(depth: usize) -> String {
    chained_type(depth, |before| format!("(list $t{before})"))
}

fn chained_type(count: usize, next: impl Fn(usize) -> String) -> String {
    let mut text = "(type $t0 u8)".to_owned();
    for number in 1..count {
        write!(text, "(type $t{number} {})", next(number - 1)).unwrap();
    }
    text
}

/// Loops within loops, whose values cross all of them: a register allocator's nightmare.
pub(crate) fn nested_loops(depth: usize, values: usize) -> String {
    let mut text = format!("(func (param i32) (result i32) (local {})", "i32 ".repeat(values));
    text += &"(loop ".repeat(depth);
    for number in 0..depth {
        for other in 0..4 {
            write!(
                text,
                "(local.set {} (i32.add (local.get {}) (local.get {})))",
                (number * 5 + other) % values,
                (number + other * 3) % values,
                (number * 7 + other) % values,
            )
            .unwrap();
        }
        write!(text, "(br_if 0 (local.get {})))", number % values).unwrap();
    }
    text + "(local.get 0))"
}

/// So many values that are all needed at the end.
pub(crate) fn many_values(count: usize) -> String {
    let mut text = "(func (param i32) (result i32) ".to_owned();
    for number in 0..count {
        let turn = number % 32;
        write!(text, "(i32.mul (i32.const {number}) (i32.rotl (local.get 0) (i32.const {turn})))")
            .unwrap();
    }
    text + &"i32.add ".repeat(count - 1) + ")"
}

/// Many branches, each of which may have changed one of many locals.
pub(crate) fn many_branches(branches: usize, locals: usize) -> String {
    let mut text = format!("(func (param i32) (result i32) (local {})", "i32 ".repeat(locals - 1));
    for number in 0..branches {
        write!(
            text,
            "(if (local.get {}) (then (local.set {} (i32.add (local.get {}) (i32.const {number})))))",
            number % locals,
            (number * 7 + 1) % locals,
            (number * 3 + 2) % locals,
        )
        .unwrap();
    }
    text + "(local.get 1))"
}

/// Tables of branches to all of the blocks around them.
pub(crate) fn branch_tables(depth: usize) -> String {
    let mut text = "(func (param i32 i32) (result i32) ".to_owned() + &"(block ".repeat(depth);
    for number in 0..depth {
        let targets: String = (0..depth - number).map(|target| format!("{target} ")).collect();
        write!(text, "(br_table {targets}(local.get 0)))").unwrap();
    }
    text + "(local.get 1))"
}
