//! `[services.<name>]`: the names and addresses of what stands behind the gateway.

use super::Service;
use super::reader::Section;
use super::value::list;
use super::web::{endpoint, same_address};

const SERVICES_MAX: usize = 1000;
const ENDPOINTS_MAX: usize = 64;

/// All services in the order of the file; none of them has a default.
pub(super) fn services(section: &Section<'_>) -> Option<Vec<Service>> {
    let entries = section.entries();
    if entries.is_empty() || entries.len() > SERVICES_MAX {
        let (message, help) = if entries.is_empty() {
            let help = "add a table like `[services.backend]` with \
                        `endpoints = [\"http://localhost:8000\"]`";
            ("no service is configured".to_owned(), help.to_owned())
        } else {
            let help = format!("at most {SERVICES_MAX} are allowed");
            (format!("{} services are configured", entries.len()), help)
        };
        section.problems.add(section.span(), message, None, Some(help));
        return None;
    }
    let mut services = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let mut inner = section.inner(name.get_ref(), Some(value));
        let name_is_fine = is_name(name.get_ref());
        if !name_is_fine {
            section.problems.add(
                name.span(),
                format!("`{}` is not a service's name", name.get_ref().escape_debug()),
                None,
                Some("a name has 1 to 64 letters, digits, `_` and `-`".to_owned()),
            );
        }
        if !inner.is_given() {
            continue;
        }
        let endpoints = inner.read("endpoints", None, list(endpoint, same_address, ENDPOINTS_MAX));
        if endpoints.as_ref().is_some_and(Vec::is_empty) {
            section.problems.add(
                inner.span_of("endpoints"),
                format!("`{}` is empty", inner.path_of("endpoints")),
                None,
                Some("write at least one address: [\"http://localhost:8000\"]".to_owned()),
            );
        }
        inner.finish();
        if let Some(endpoints) = endpoints.filter(|_| name_is_fine) {
            services.push(Service { name: name.get_ref().to_string(), endpoints });
        }
    }
    Some(services)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}
