use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};
#[derive(Debug)]
pub struct AccessLog;
#[derive(Debug)]
pub struct Producer;
impl AccessLog {
    pub fn start(_: &crate::config::AccessLog, workers: usize) -> std::io::Result<(AccessLog, Vec<Producer>)> { Ok((AccessLog, (0..workers).map(|_| Producer).collect())) }
    pub fn dropped(&self) -> Arc<AtomicU64> { Arc::default() }
    pub fn close(self) {}
}
impl Producer { pub fn write(&mut self, _: &Line<'_>) {} }
pub struct Line<'a> { pub arrived: SystemTime, pub request_id: &'a str, pub client: IpAddr, pub method: &'a str, pub path: &'a str, pub query: Option<&'a str>, pub status: u16, pub bytes_in: u64, pub bytes_out: u64, pub duration: Duration, pub service: Option<&'a str>, pub endpoint: Option<&'a str>, pub route: Option<&'a str>, pub attempts: u32, pub decision: Option<Duration>, pub why: &'static str }
