//! The labels of a request or an attempt as one number: what [`Series`](super::series::Series) looks
//! up. Each part has its bits, and the highest bit is set, so that no key is 0.

use super::Served;
use super::words::{Method, Why};

const KEY: u64 = 1 << 63;
const STATUS_BITS: u32 = 10;
const SERVICE_BITS: u32 = 11;
const ENDPOINT_BITS: u32 = 9;
const METHOD_BITS: u32 = 4;
const WHY_BITS: u32 = 6;

const _: () = assert!(Method::ALL.len() <= 1 << METHOD_BITS && Why::ALL.len() <= 1 << WHY_BITS);

/// What stands in the place of a service where there is none. A configuration has at most 1000.
const GATEWAY_NUMBER: u64 = (1 << SERVICE_BITS) - 2;
const NOBODY_NUMBER: u64 = (1 << SERVICE_BITS) - 1;

/// The labels of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerKey {
    pub(super) served: Served,
    pub(super) method: Method,
    pub(super) status: Option<u16>,
    pub(super) why: Why,
    /// A number of the worker's [`Names`](super::series::Names).
    pub(super) route: u16,
}

/// The labels of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientKey {
    pub(super) service: usize,
    pub(super) endpoint: usize,
    pub(super) method: Method,
    pub(super) status: Option<u16>,
    pub(super) why: Why,
}

impl ServerKey {
    pub(super) fn pack(&self) -> u64 {
        let service = match self.served {
            Served::Service(service) => service as u64,
            Served::Gateway => GATEWAY_NUMBER,
            Served::None => NOBODY_NUMBER,
        };
        let key =
            KEY >> (METHOD_BITS + WHY_BITS + STATUS_BITS + SERVICE_BITS) | u64::from(self.route);
        let key = key << SERVICE_BITS | service;
        pack_common(key, self.method, self.why, self.status)
    }

    pub(super) fn unpack(key: u64) -> ServerKey {
        let (rest, method, why, status) = unpack_common(key);
        let served = match rest & ((1 << SERVICE_BITS) - 1) {
            GATEWAY_NUMBER => Served::Gateway,
            NOBODY_NUMBER => Served::None,
            service => Served::Service(service as usize),
        };
        ServerKey { served, method, status, why, route: (rest >> SERVICE_BITS) as u16 }
    }
}

impl ClientKey {
    pub(super) fn pack(&self) -> u64 {
        let key =
            KEY >> (METHOD_BITS + WHY_BITS + STATUS_BITS + ENDPOINT_BITS) | self.service as u64;
        let key = key << ENDPOINT_BITS | self.endpoint as u64;
        pack_common(key, self.method, self.why, self.status)
    }

    pub(super) fn unpack(key: u64) -> ClientKey {
        let (rest, method, why, status) = unpack_common(key);
        let service = rest >> ENDPOINT_BITS & ((1 << SERVICE_BITS) - 1);
        let endpoint = rest & ((1 << ENDPOINT_BITS) - 1);
        ClientKey { service: service as usize, endpoint: endpoint as usize, method, status, why }
    }
}

fn pack_common(key: u64, method: Method, why: Why, status: Option<u16>) -> u64 {
    let key = key << METHOD_BITS | method as u64;
    let key = key << WHY_BITS | why as u64;
    // No status has more than three digits.
    key << STATUS_BITS | u64::from(status.unwrap_or(0).min(999))
}

/// What is left of the key, and the parts that were put in last.
fn unpack_common(key: u64) -> (u64, Method, Why, Option<u16>) {
    let status = (key & ((1 << STATUS_BITS) - 1)) as u16;
    let key = key >> STATUS_BITS;
    let why = Why::ALL[(key & ((1 << WHY_BITS) - 1)) as usize];
    let key = key >> WHY_BITS;
    let method = Method::ALL[(key & ((1 << METHOD_BITS) - 1)) as usize];
    (key >> METHOD_BITS, method, why, (status > 0).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_every_part() {
        let mut seen = std::collections::HashSet::new();
        for &method in Method::ALL {
            for &why in Why::ALL {
                for status in [None, Some(100), Some(503), Some(999)] {
                    for number in [0, 1, 255, 999] {
                        for served in [Served::Service(number), Served::Gateway, Served::None] {
                            let route = number as u16 * 2;
                            let key = ServerKey { served, method, status, why, route };
                            assert_eq!(ServerKey::unpack(key.pack()), key);
                            assert_ne!(key.pack(), 0);
                            seen.insert(key.pack());
                        }
                        let endpoint = number % 256;
                        let key = ClientKey { service: number, endpoint, method, status, why };
                        assert_eq!(ClientKey::unpack(key.pack()), key);
                        assert_ne!(key.pack(), 0);
                    }
                }
            }
        }
        assert_eq!(seen.len(), Method::ALL.len() * Why::ALL.len() * 4 * 4 * 3, "no two alike");
    }
}
