//! What else must be true of a request, besides its host, its path and its method?

use std::rc::Rc;

use orchestrator_policy::{Circuit, Health};
use regex_lite::Regex;

use crate::asked::{Asked, Source};

/// The longest value that is held against a pattern: the work grows with both.
const MATCHED_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Value(Source, Test),
    /// The service, by its place, is in this state.
    State(u32, State),
}

/// What a value has to be.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Present,
    Absent,
    Exact(Box<[u8]>),
    /// The whole of it, and so it has to be UTF-8.
    Regex(Rc<Regex>),
}

/// How a service stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    Circuit(Circuit),
    Health(Health),
}

impl Condition {
    pub(crate) fn holds(&self, asked: &Asked<'_>, services: &[String]) -> bool {
        match self {
            Condition::Value(source, test) => {
                asked.with_value(*source, |value| test.accepts(value))
            }
            Condition::State(service, state) => {
                let stands = asked.request.service(&services[*service as usize]);
                stands.is_some_and(|stands| match state {
                    State::Circuit(circuit) => stands.circuit == *circuit,
                    State::Health(health) => stands.health == *health,
                })
            }
        }
    }
}

impl Test {
    fn accepts(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Test::Absent, value) => value.is_none(),
            (_, None) => false,
            (Test::Present, Some(_)) => true,
            (Test::Exact(wanted), Some(value)) => **wanted == *value,
            (Test::Regex(regex), Some(value)) => {
                value.len() <= MATCHED_BYTES_MAX
                    && std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value))
            }
        }
    }
}
