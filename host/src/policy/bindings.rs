//! The host's side of `wit/`: what a guest's calls read and write. Each function is one line of the
//! contract; what an answer means is checked later, by `route.rs` and `judge.rs`.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Result, StoreLimits, format_err};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::facts::{
    Answer, Choice, Circuit, FailedAttempt, Health, Outcome, RequestFacts, RetryAnswer, StateOf,
};
use super::wasi::{self, CallSeed};

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package orchestrator:host;
        // Everything a policy of either kind may import; the exports are looked up by name.
        world offered {
            import orchestrator:policy/setup@0.1.0;
            import orchestrator:policy/exchange@0.1.0;
            import orchestrator:policy/answer@0.1.0;
            import orchestrator:policy/failure@0.1.0;
            import orchestrator:policy/retry-answer@0.1.0;
        }
    ",
    world: "orchestrator:host/offered",
    imports: { default: trappable },
});

use self::orchestrator::policy::{answer, exchange, failure, retry_answer, setup};

/// Headers that one answer may set or remove, whatever `result_max` allows: a message has room for
/// no more than some thousands.
const HEADER_EDITS_MAX: usize = 256;

/// What a version is set up with, the same for all its instances.
#[derive(Debug)]
pub(super) struct Setup {
    /// The policy's configuration as JSON.
    pub(super) config: Arc<str>,
    pub(super) services: Vec<String>,
}

/// What a guest is doing, which decides what it may call.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing: between calls.
    Idle,
    Configure,
    Route(Box<RequestFacts>),
    Judge(Box<RequestFacts>, Box<FailedAttempt>),
}

/// How much of its time a call has used.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// Epochs in which the guest itself was running.
    pub(super) used: u32,
    /// Those that it will have used at the end of its slice, unless one instruction keeps it longer.
    pub(super) granted: u32,
    /// The worker's own time ([`thread_time`](super::overrun::thread_time)) when its first slice began, where
    /// somebody looked.
    pub(super) began: Option<std::time::Duration>,
    /// In ticks.
    pub(super) max: u32,
    /// Leave to run a further slice; shared with the future that obtains it.
    pub(super) turn: Arc<Mutex<Option<Turn>>>,
    /// One of the places for decisions that overrun; none while this one does not.
    pub(super) overrun: Option<OwnedSemaphorePermit>,
}

/// Leave to run a further slice.
#[derive(Debug)]
pub(super) struct Turn {
    /// The worker's single place for runaways, which `configure` does without.
    #[expect(dead_code, reason = "its end is what it is for")]
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// The worker's own time when the slice began.
    pub(super) began: std::time::Duration,
}

/// The data of one instance's store.
pub(super) struct Host {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) limits: StoreLimits,
    pub(super) setup: Arc<Setup>,
    pub(super) state_of: StateOf,
    pub(super) phase: Phase,
    /// What a policy has answered so far in this call, which only a phase gives leave to.
    pub(super) answer: Answer,
    pub(super) verdict: RetryAnswer,
    pub(super) slices: Slices,
    /// Bytes handed over in this call, against `result_max`.
    pub(super) handed_over: usize,
    pub(super) result_max: usize,
    /// Headers that this call set or removed, against [`HEADER_EDITS_MAX`].
    pub(super) header_edits: usize,
    /// The state of `exchange.random`.
    pub(super) random: u64,
    /// What WASI's clocks and randomness begin with in this call.
    pub(super) call_seed: Arc<CallSeed>,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A linker that offers the contract, and WASI 0.2 with nothing behind it.
pub(super) fn linker(engine: &wasmtime::Engine) -> Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    Offered::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host)?;
    Ok(linker)
}

impl Host {
    fn request(&self, function: &str) -> Result<&RequestFacts> {
        match &self.phase {
            Phase::Route(request) | Phase::Judge(request, _) => Ok(request),
            Phase::Idle | Phase::Configure => Err(out_of_phase("exchange", function)),
        }
    }

    fn failed(&self, function: &str) -> Result<&FailedAttempt> {
        match &self.phase {
            Phase::Judge(_, failed) => Ok(failed),
            _ => Err(out_of_phase("failure", function)),
        }
    }

    /// The answer to write to, after `bytes` more were handed over.
    fn answer(&mut self, function: &str, bytes: usize) -> Result<&mut Answer> {
        self.handed_over = self.handed_over.saturating_add(bytes);
        if self.handed_over > self.result_max {
            return Err(TooMuch(format!(
                "the answer hands over {} bytes, more than `result_max` ({}) allows",
                self.handed_over, self.result_max
            ))
            .into());
        }
        match self.phase {
            Phase::Route(_) => Ok(&mut self.answer),
            _ => Err(out_of_phase("answer", function)),
        }
    }

    fn count_edit(&mut self) -> Result<()> {
        self.header_edits += 1;
        if self.header_edits > HEADER_EDITS_MAX {
            let text = format!("the answer edits more than {HEADER_EDITS_MAX} headers");
            return Err(TooMuch(text).into());
        }
        Ok(())
    }

    fn verdict(&mut self, function: &str) -> Result<&mut RetryAnswer> {
        match self.phase {
            Phase::Judge(..) => Ok(&mut self.verdict),
            _ => Err(out_of_phase("retry-answer", function)),
        }
    }
}

/// The answer is larger than it may be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TooMuch(pub(super) String);

fn out_of_phase(interface: &str, function: &str) -> wasmtime::Error {
    format_err!("`{interface}.{function}` was called outside its phase")
}

impl setup::Host for Host {
    fn config(&mut self) -> Result<String> {
        match self.phase {
            Phase::Configure => Ok(self.setup.config.to_string()),
            _ => Err(out_of_phase("setup", "config")),
        }
    }

    fn services(&mut self) -> Result<Vec<String>> {
        match self.phase {
            Phase::Configure => Ok(self.setup.services.clone()),
            _ => Err(out_of_phase("setup", "services")),
        }
    }
}

impl exchange::Host for Host {
    fn method(&mut self) -> Result<String> {
        Ok(self.request("method")?.head.method.as_str().to_owned())
    }

    fn scheme(&mut self) -> Result<String> {
        Ok(self.request("scheme")?.scheme.to_owned())
    }

    fn authority(&mut self) -> Result<String> {
        let head = &self.request("authority")?.head;
        if let Some(authority) = head.uri.authority() {
            return Ok(authority.as_str().to_owned());
        }
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        Ok(host.unwrap_or_default().to_owned())
    }

    fn path(&mut self) -> Result<String> {
        Ok(self.request("path")?.head.uri.path().to_owned())
    }

    fn query(&mut self) -> Result<Option<String>> {
        Ok(self.request("query")?.head.uri.query().map(str::to_owned))
    }

    fn header(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(joined(&self.request("header")?.head.headers, &name))
    }

    fn header_values(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        let values = self.request("header-values")?.head.headers.get_all(&*name);
        Ok(values.iter().map(|value| value.as_bytes().to_vec()).collect())
    }

    fn headers(&mut self) -> Result<Vec<(String, Vec<u8>)>> {
        let headers = &self.request("headers")?.head.headers;
        Ok(headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect())
    }

    fn client(&mut self) -> Result<String> {
        let mut text = String::with_capacity(15);
        write!(text, "{}", self.request("client")?.client).expect("a string takes all");
        Ok(text)
    }

    fn now_ms(&mut self) -> Result<u64> {
        Ok(self.request("now-ms")?.now_ms)
    }

    fn random(&mut self) -> Result<u64> {
        self.request("random")?;
        Ok(wasi::split_mix(&mut self.random))
    }

    fn service(&mut self, name: String) -> Result<Option<exchange::ServiceState>> {
        let (Phase::Route(request) | Phase::Judge(request, _)) = &mut self.phase else {
            return Err(out_of_phase("exchange", "service"));
        };
        let Some(index) = self.setup.services.iter().position(|service| *service == name) else {
            return Ok(None);
        };
        request.services.resize(self.setup.services.len(), None);
        let state = request.services[index].get_or_insert_with(|| (self.state_of)(index));
        Ok(Some(exchange::ServiceState {
            circuit: match state.circuit {
                Circuit::Closed => exchange::Circuit::Closed,
                Circuit::Open => exchange::Circuit::Open,
                Circuit::HalfOpen => exchange::Circuit::HalfOpen,
            },
            health: match state.health {
                Health::Healthy => exchange::Health::Healthy,
                Health::Degraded => exchange::Health::Degraded,
                Health::Unhealthy => exchange::Health::Unhealthy,
                Health::Unknown => exchange::Health::Unknown,
            },
        }))
    }
}

/// The values of a header joined by `, ` (RFC 9110 section 5.3).
fn joined(headers: &http::HeaderMap, name: &str) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).iter();
    let mut all = values.next()?.as_bytes().to_vec();
    for value in values {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value.as_bytes());
    }
    Some(all)
}

impl answer::Host for Host {
    fn forward(&mut self, service: String) -> Result<()> {
        let answer = self.answer("forward", service.len())?;
        answer.choice = Some(Choice::Forward(service));
        Ok(())
    }

    fn respond(&mut self, status: u16) -> Result<()> {
        self.answer("respond", 0)?.choice = Some(Choice::Respond(status));
        Ok(())
    }

    fn set_body(&mut self, bytes: Vec<u8>) -> Result<()> {
        let answer = self.answer("set-body", bytes.len())?;
        answer.body = Some(bytes);
        Ok(())
    }

    fn set_path(&mut self, path: String) -> Result<()> {
        let answer = self.answer("set-path", path.len())?;
        answer.path = Some(path);
        Ok(())
    }

    fn set_timeout_ms(&mut self, ms: u64) -> Result<()> {
        self.answer("set-timeout-ms", 0)?.timeout_ms = Some(ms);
        Ok(())
    }

    fn set_attempt_timeout_ms(&mut self, ms: u64) -> Result<()> {
        self.answer("set-attempt-timeout-ms", 0)?.attempt_timeout_ms = Some(ms);
        Ok(())
    }

    fn set_request_body_max(&mut self, bytes: u64) -> Result<()> {
        self.answer("set-request-body-max", 0)?.request_body_max = Some(bytes);
        Ok(())
    }

    fn set_request_header(&mut self, name: String, value: Option<Vec<u8>>) -> Result<()> {
        self.count_edit()?;
        let bytes = edit_size(&name, value.as_deref());
        self.answer("set-request-header", bytes)?.request_headers.push((name, value));
        Ok(())
    }

    fn set_response_header(&mut self, name: String, value: Option<Vec<u8>>) -> Result<()> {
        self.count_edit()?;
        let bytes = edit_size(&name, value.as_deref());
        self.answer("set-response-header", bytes)?.response_headers.push((name, value));
        Ok(())
    }

    fn set_affinity(&mut self, key: Vec<u8>) -> Result<()> {
        let answer = self.answer("set-affinity", key.len())?;
        answer.affinity = Some(key);
        Ok(())
    }

    fn set_route_name(&mut self, name: String) -> Result<()> {
        let answer = self.answer("set-route-name", name.len())?;
        answer.route_name = Some(name);
        Ok(())
    }
}

/// What one header edit counts: name, value, and what the host needs to remember it.
fn edit_size(name: &str, value: Option<&[u8]>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + size_of::<(String, Option<Vec<u8>>)>()
}

impl failure::Host for Host {
    fn service(&mut self) -> Result<String> {
        let index = self.failed("service")?.service;
        Ok(self.setup.services[index].clone())
    }

    fn number(&mut self) -> Result<u32> {
        Ok(self.failed("number")?.number)
    }

    fn elapsed_ms(&mut self) -> Result<u64> {
        Ok(self.failed("elapsed-ms")?.elapsed_ms)
    }

    fn remaining_ms(&mut self) -> Result<u64> {
        Ok(self.failed("remaining-ms")?.remaining_ms)
    }

    fn outcome(&mut self) -> Result<failure::AttemptOutcome> {
        Ok(match self.failed("outcome")?.outcome {
            Outcome::ConnectFailed => failure::AttemptOutcome::ConnectFailed,
            Outcome::ConnectionLost => failure::AttemptOutcome::ConnectionLost,
            Outcome::Timeout => failure::AttemptOutcome::Timeout,
            Outcome::Status(status) => failure::AttemptOutcome::Status(status),
        })
    }

    fn sent(&mut self) -> Result<bool> {
        Ok(self.failed("sent")?.sent)
    }

    fn idempotent(&mut self) -> Result<bool> {
        Ok(self.failed("idempotent")?.idempotent)
    }

    fn replayable(&mut self) -> Result<bool> {
        Ok(self.failed("replayable")?.replayable)
    }

    fn others_left(&mut self) -> Result<u32> {
        Ok(self.failed("others-left")?.others_left)
    }

    fn retry_after_ms(&mut self) -> Result<Option<u64>> {
        Ok(self.failed("retry-after-ms")?.retry_after_ms)
    }

    fn response_header(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        let failed = self.failed("response-header")?;
        Ok(failed.headers.as_ref().and_then(|headers| joined(headers, &name)))
    }
}

impl retry_answer::Host for Host {
    fn again(&mut self, delay_ms: u64) -> Result<()> {
        self.verdict("again")?.again_after_ms = Some(delay_ms);
        Ok(())
    }

    fn elsewhere(&mut self) -> Result<()> {
        self.verdict("elsewhere")?.elsewhere = true;
        Ok(())
    }
}
