//! `[policy_limits]`: what a policy may take up, while it decides and before that.

use std::time::Duration;

use super::PolicyLimits;
use super::reader::Section;
use super::value::{GIB, HOUR, KIB, MIB, MINUTE, MS, SECOND, duration, number, or_off, size};

/// The keys of `[policy_limits]`, in a section that may have others too: the caller finishes it.
pub(super) fn policy_limits(
    section: &mut Section<'_>,
    defaults: Option<&PolicyLimits>,
) -> Option<PolicyLimits> {
    let d = defaults;
    // A decision and an instance.
    let decision_timeout =
        section.read("decision_timeout", d.map(|d| d.decision_timeout), duration(MS..=SECOND));
    let wall_timeout =
        section.read("wall_timeout", d.map(|d| d.wall_timeout), duration(MS..=10 * SECOND));
    let configure_timeout =
        section.read("configure_timeout", d.map(|d| d.configure_timeout), duration(MS..=MINUTE));
    let instances_max = section.read("instances_max", d.map(|d| d.instances_max), number(1..=64));
    let memory_max =
        section.read("memory_max", d.map(|d| d.memory_max), size(64 * KIB..=256 * MIB));
    let result_max = section.read("result_max", d.map(|d| d.result_max), size(KIB..=16 * MIB));
    let stack_max = section.read("stack_max", d.map(|d| d.stack_max), size(64 * KIB..=MIB));
    let table_elements_max = section.read(
        "table_elements_max",
        d.map(|d| d.table_elements_max),
        number(100..=1_000_000),
    );
    let tables_max = section.read("tables_max", d.map(|d| d.tables_max), number(1..=64));
    let core_instances_max =
        section.read("core_instances_max", d.map(|d| d.core_instances_max), number(1..=128));
    let log_lines_per_s =
        section.read("log_lines_per_s", d.map(|d| d.log_lines_per_s), number(0..=10_000));

    // A component that is compiled.
    let component_max =
        section.read("component_max", d.map(|d| d.component_max), size(KIB..=256 * MIB));
    let compile_memory_max = section.read(
        "compile_memory_max",
        d.map(|d| d.compile_memory_max),
        size(128 * MIB..=16 * GIB),
    );
    let compile_cpu =
        section.read("compile_cpu", d.map(|d| d.compile_cpu), duration(100 * MS..=10 * MINUTE));
    let compile_cpu_per_mib = section.read(
        "compile_cpu_per_mib",
        d.map(|d| d.compile_cpu_per_mib),
        duration(Duration::ZERO..=MINUTE),
    );
    let compile_timeout =
        section.read("compile_timeout", d.map(|d| d.compile_timeout), duration(100 * MS..=HOUR));
    let self_test_timeout = section.read(
        "self_test_timeout",
        d.map(|d| d.self_test_timeout),
        duration(100 * MS..=HOUR),
    );

    // A version that is active.
    let fault_threshold = section.read(
        "fault_threshold",
        d.map(|d| d.fault_threshold),
        or_off(number(1..=1_000_000)),
    );
    let fault_window =
        section.read("fault_window", d.map(|d| d.fault_window), duration(SECOND..=HOUR));
    Some(PolicyLimits {
        decision_timeout: decision_timeout?,
        wall_timeout: wall_timeout?,
        configure_timeout: configure_timeout?,
        instances_max: instances_max?,
        memory_max: memory_max?,
        result_max: result_max?,
        stack_max: stack_max?,
        table_elements_max: table_elements_max?,
        tables_max: tables_max?,
        core_instances_max: core_instances_max?,
        log_lines_per_s: log_lines_per_s?,
        component_max: component_max?,
        compile_memory_max: compile_memory_max?,
        compile_cpu: compile_cpu?,
        compile_cpu_per_mib: compile_cpu_per_mib?,
        compile_timeout: compile_timeout?,
        self_test_timeout: self_test_timeout?,
        fault_threshold: fault_threshold?,
        fault_window: fault_window?,
    })
}
