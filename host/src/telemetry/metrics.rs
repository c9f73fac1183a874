use std::sync::Arc;
use std::time::Duration;
#[derive(Debug)]
pub struct Counters;
pub enum Served { Service(usize), Gateway, None }
pub enum AttemptResult {Response, ConnectFailed, ConnectionLost, Timeout, Client}
pub enum RetryReason {ConnectFailed, ConnectionLost, Timeout, Status}
pub enum RetryRefusal {Ceiling, Deadline, Budget}
pub enum FaultReason {Trap, Timeout, Invalid, CannotDecide, NoInstance}
pub enum Cause {KeepAlive, Header, WriteStall}
impl Counters {
    pub fn new(_: usize) -> Arc<Counters> { Arc::new(Counters) }
    pub fn request(&self, _: Served, _: u16) {}
    pub fn attempt(&self, _: usize, _: AttemptResult) {}
    pub fn retry(&self, _: usize, _: RetryReason) {}
    pub fn retry_refused(&self, _: usize, _: RetryRefusal) {}
    pub fn decision(&self, _: crate::policy::Kind, _: Duration, _: Option<FaultReason>) {}
    pub fn connection_opened(&self) {}
    pub fn connection_closed(&self) {}
    pub fn connection_refused(&self) {}
    pub fn unparsed_request(&self) {}
    pub fn cut(&self, _: Cause) {}
    pub fn log_suppressed(&self) {}
}
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub fn encode(_: &crate::upstream::Services, _: &[Arc<Counters>], _: u64) -> String { String::new() }
