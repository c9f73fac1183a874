//! `CONFIG.md`, made from the documentation of `config.rs`.

use std::fmt::Write;

use super::documented::{Default, Field, Struct};

const HEAD: &str = "\
# Configuration

<!-- Made from src/config.rs, where a new key is documented; src/config/tests/reference.rs holds both
     against the reader and says how to make this file again. -->

One TOML file, given by `--config`. Services and a routing policy are needed; every other key has the
default below. A key that is not listed here is unknown, and so refused.
`orchestrator check --config FILE` says all that is wrong with a file, each error at its line;
`orchestrator config show --config FILE` prints all keys with the values that they have then.

- **A duration** is text with a unit: `\"250ms\"`, `\"30s\"`, `\"1m 30s\"`; also `us`, `ns`, `h` and `day`.
- **A size** is text with a unit: `\"500B\"`, `\"64KiB\"` (1024 bytes each), `\"64KB\"` (1000 bytes each);
  also `MiB` and `GiB`.
- **A number** is a whole one, **a fraction** may be, and neither has quotes.
- **A word**, **a path** and **an address** are text.

The built-in configuration, which counts where there is no file, is
[src/config/default.toml](src/config/default.toml).
";

const TAIL: &str = "
## `[policy.routing.config]` and `[policy.retry.config]`

What stands here is the policy's own business: another component has other keys. Those of the two
default policies are in [plugins/README.md](../plugins/README.md):
[builtin:routing](../plugins/README.md#the-default-routing-policy) and
[builtin:retry](../plugins/README.md#the-default-retry-policy).
";

pub(super) fn markdown(structs: &[Struct]) -> String {
    let mut text = HEAD.to_owned();
    for one in structs {
        let heads: Vec<String> =
            one.sections.iter().map(|section| format!("`[{section}]`")).collect();
        let about = sentence(&one.about);
        write!(text, "\n## {}\n\n{about}\n\n", heads.join(" and ")).unwrap();
        text.push_str("| key | | value | default | limits |\n|---|---|---|---|---|\n");
        for field in &one.fields {
            row(&mut text, field);
        }
        for field in &one.fields {
            let inner = structs.iter().find(|inner| inner.name == field.rust_type);
            if field.value.is_none() && inner.is_some() {
                write!(text, "\nBeside these: {}\n", field.about).unwrap();
            }
        }
    }
    text + TAIL
}

fn row(text: &mut String, field: &Field) {
    let Some(value) = &field.value else { return };
    let default = match &value.default {
        Default::Required => "required".to_owned(),
        Default::Literal(literal) => format!("`{literal}`"),
        Default::Words(words) => words.clone(),
    };
    let limits = match &value.limits {
        Some((low, high)) => format!("`{low}` to `{high}`"),
        None => String::new(),
    };
    let what = value.what.strip_prefix("A ").unwrap_or(&value.what);
    let what = what[..1].to_lowercase() + &what[1..];
    let cells = [format!("`{}`", field.name), field.about.clone(), what, default, limits];
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', "<br>"));
    writeln!(text, "| {} |", cells.join(" | ").replace("  ", " ")).unwrap();
}

/// With a capital letter in front.
fn sentence(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}
