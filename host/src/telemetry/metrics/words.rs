//! What is told apart in the metrics, and the word for each in its label.

/// An enum whose values are counted apart, and the word for each in its label.
macro_rules! labelled {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $value,)+ }

        impl $name {
            /// All values, in their order.
            pub const ALL: &'static [$name] = &[$($name::$value),+];

            /// The label of each value, in the order of the values.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            pub fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }
    };
}

/// The same for limits: the key in the configuration, and what comes of reaching it.
macro_rules! limits {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $value:ident = $key:literal => $effect:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $value,)+ }

        impl $name {
            /// Key and effect of each value, in the order of the values.
            pub const WORDS: &'static [(&'static str, &'static str)] = &[$(($key, $effect)),+];
        }
    };
}

labelled! {
    /// A request's method, as far as OpenTelemetry knows it: what clients make up is one value.
    Method {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Connect = "CONNECT",
        Options = "OPTIONS",
        Trace = "TRACE",
        Patch = "PATCH",
        Other = "_OTHER",
    }
}

impl From<&http::Method> for Method {
    fn from(method: &http::Method) -> Method {
        match *method {
            http::Method::GET => Method::Get,
            http::Method::HEAD => Method::Head,
            http::Method::POST => Method::Post,
            http::Method::PUT => Method::Put,
            http::Method::DELETE => Method::Delete,
            http::Method::CONNECT => Method::Connect,
            http::Method::OPTIONS => Method::Options,
            http::Method::TRACE => Method::Trace,
            http::Method::PATCH => Method::Patch,
            _ => Method::Other,
        }
    }
}

labelled! {
    /// Why an exchange ended: `why` in the access log, `error_type` in the metrics.
    Why {
        /// The response went out whole.
        Done = "done",
        /// The client left before that.
        ClientGone = "client_gone",
        /// The service broke off its response.
        UpstreamLost = "upstream_lost",
        /// The service stopped sending its response.
        UpstreamIdle = "upstream_idle",
        /// Nothing moved in the tunnel for too long.
        TunnelIdle = "tunnel_idle",
        /// One side of the tunnel broke off.
        TunnelBroken = "tunnel_broken",
        /// It was not over when the drain had to be.
        DrainTimeout = "drain_timeout",
        // From here on: the gateway's own response went out whole, and this is its reason.
        BadRequest = "bad_request",
        BodyTooLarge = "body_too_large",
        NoRoute = "no_route",
        PolicyFault = "policy_fault",
        NoHealth = "no_health",
        CircuitOpen = "circuit_open",
        ConnectFailed = "connect_failed",
        ConnectionLost = "connection_lost",
        AttemptTimeout = "attempt_timeout",
        RequestTimeout = "request_timeout",
        BodyStalled = "body_stalled",
        ClientStalled = "client_stalled",
        ClientSlow = "client_slow",
        ClientBroke = "client_broke",
    }
}

labelled! {
    /// What came of one attempt at one endpoint.
    AttemptResult {
        /// A response's head, of any status.
        Response = "response",
        ConnectFailed = "connect_failed",
        ConnectionLost = "connection_lost",
        Timeout = "timeout",
        /// The client left or broke off, or its body could not be read.
        Client = "client",
    }
}

labelled! {
    /// What made an attempt be tried again.
    RetryReason {
        ConnectFailed = "connect_failed",
        ConnectionLost = "connection_lost",
        Timeout = "timeout",
        /// The response's status.
        Status = "status",
    }
}

labelled! {
    /// Why a policy gave no usable decision: [`crate::policy::Fault`] without its text.
    FaultReason {
        Trap = "trap",
        Timeout = "timeout",
        WallClock = "wall_clock",
        Memory = "memory",
        Table = "table",
        Stack = "stack",
        Result = "result",
        Invalid = "invalid",
        CannotDecide = "cannot_decide",
        NoInstance = "no_instance",
    }
}

impl FaultReason {
    /// The limit that this is the reaching of.
    pub(super) fn limit(self) -> Option<(&'static str, &'static str)> {
        let key = match self {
            FaultReason::Timeout => "policy_limits.decision_timeout",
            FaultReason::WallClock => "policy_limits.wall_timeout",
            FaultReason::NoInstance => return Some(("policy_limits.wall_timeout", "no_instance")),
            FaultReason::Memory => "policy_limits.memory_max",
            FaultReason::Table => "policy_limits.table_elements_max",
            FaultReason::Stack => "policy_limits.stack_max",
            FaultReason::Result => "policy_limits.result_max",
            FaultReason::Trap | FaultReason::Invalid | FaultReason::CannotDecide => return None,
        };
        Some((key, "decision_failed"))
    }
}

limits! {
    /// A limit that bit, for one client or one worker.
    Limit {
        Connections = "limits.connections" => "connection_refused",
        HeaderBytes = "limits.header_bytes" => "request_refused",
        HeaderCount = "limits.header_count" => "request_refused",
        HeaderTimeout = "limits.header_timeout" => "connection_closed",
        KeepAlive = "limits.keep_alive_timeout" => "connection_closed",
        ClientTookNothing = "proxy.idle_timeout" => "client_took_nothing",
        SlowReader = "limits.body_rate_min" => "client_reads_slowly",
        TunnelIdle = "proxy.tunnel_idle_timeout" => "tunnel_closed",
        Drain = "server.drain_timeout" => "exchange_cut",
        /// Not in the configuration: those who may wait for `/health` at once.
        HealthAskers = "(health askers)" => "request_refused",
    }
}

limits! {
    /// A limit that bit, for one service.
    ServiceLimit {
        RequestTimeout = "proxy.request_timeout" => "attempt_ended",
        /// It would be over before the next attempt.
        NoTimeToRetry = "proxy.request_timeout" => "retry_refused",
        AttemptTimeout = "proxy.attempt_timeout" => "attempt_ended",
        ConnectTimeout = "proxy.connect_timeout" => "attempt_ended",
        ClientSentNothing = "proxy.idle_timeout" => "client_sent_nothing",
        ClientSlow = "limits.body_rate_min" => "client_sends_slowly",
        BodyBytes = "limits.body_bytes" => "request_refused",
        /// A failed attempt could not be made again, for the body was larger than what is kept.
        ReplayBody = "proxy.replay_body_max" => "retry_refused",
        ServiceTookNothing = "proxy.idle_timeout" => "service_took_nothing",
        ServiceSentNothing = "proxy.idle_timeout" => "service_sent_nothing",
        ResponseHead = "limits.header_bytes" => "response_refused",
        /// The policy was not asked.
        RetryAttempts = "proxy.retry_attempts_max" => "retry_refused",
        RetryDelay = "proxy.retry_delay_max" => "delay_shortened",
        /// The policy granted the service's `Retry-After`, which is longer.
        RetryAfter = "proxy.retry_delay_max" => "retry_refused",
        /// The budget of the service, which `proxy.retry_budget_min_per_s` is a part of.
        RetryBudget = "proxy.retry_budget_ratio" => "retry_refused",
        CircuitOpen = "breaker.open_for" => "request_refused",
    }
}
