//! Versions that can be told apart from outside, of the default policies: routing says its own number
//! to the service, and what retry does with a failed attempt shows which of two kinds it is.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Of the service whose attempts these judge: of 503 and 502 either is tried again by one half of the
/// versions only, so that one request whose attempts fail with both in turn has three attempts where
/// two versions judged them, and else fewer. All try again on 504.
const EITHER: [u16; 2] = [503, 502];
const BOTH: u16 = 504;

/// Long enough that swaps come between.
const DELAY: &str = "40ms";

/// A version of the routing policy, by its number.
pub(crate) fn routing(number: u32) -> Value {
    json!({ "routes": [{
        "path_prefix": "/",
        "service": "writer",
        "request_headers": { "set": { "x-version": number.to_string() } },
    }] })
}

/// A version of the retry policy: even numbers are of one kind, odd ones of the other.
pub(crate) fn retry(number: u32) -> Value {
    json!({
        "attempts": 5,
        "delay": DELAY,
        // The endpoints never send a Retry-After: this makes versions of one kind differ, no more.
        "retry_after_max": format!("{}s", 30 + number),
        "on": ["status"],
        "statuses": [EITHER[(number % 2) as usize], BOTH],
    })
}

/// The lines of a gateway that begins with version 0 of both.
pub(crate) fn first() -> String {
    format!(
        "policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\", \
         request_headers = {{ set = {{ x-version = \"0\" }} }} }}]\n\
         policy.retry.config = {{ attempts = 5, delay = {DELAY:?}, on = [\"status\"], \
         statuses = [{}, {BOTH}] }}\n",
        EITHER[0]
    )
}

/// What to ask the endpoint for: attempts that all versions judge alike, and that show which of the
/// two kinds judged. The id makes it another request.
pub(crate) fn tried_again(id: u64) -> String {
    format!("/attempts?{BOTH},200&{id}")
}

pub(crate) fn judged(id: u64) -> String {
    let [first, second] = EITHER;
    format!("/attempts?{first},{second},200&{id}")
}

/// The kind (0 or 1) of the retry version that judged; or that several did.
pub(crate) fn kind_of(status: u16, attempts: usize) -> Result<u32, String> {
    match (status, attempts) {
        (status, 2) if status == EITHER[1] => Ok(0),
        (status, 1) if status == EITHER[0] => Ok(1),
        _ => Err(format!("two retry versions: {attempts} attempts and then {status}")),
    }
}

/// The bytes of a default policy, the same that the gateway has.
pub(crate) fn component(kind: &str) -> Vec<u8> {
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist");
    let folder =
        std::env::var_os("ORCHESTRATOR_POLICIES").map_or_else(|| built_in.into(), PathBuf::from);
    std::fs::read(folder.join(format!("{kind}.wasm"))).unwrap()
}

/// The same policy in other bytes: a custom section with this number is added.
pub(crate) fn rebuilt(component: &[u8], number: u32) -> Vec<u8> {
    let name = b"build";
    let mut bytes = component.to_vec();
    bytes.extend_from_slice(&[0, (1 + name.len() + 4) as u8, name.len() as u8]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}
