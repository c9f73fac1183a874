//! The ways to misbehave, and what has to come of each.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Routing,
    Retry,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Routing => "routing",
            Kind::Retry => "retry",
        }
    }
}

/// How a guest is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Made {
    /// `tests/guests/examples/hostile-*.rs`, configured with its behaviour.
    WithSdk,
    /// `tests/guests/wat`.
    ByHand,
}

/// What has to come of the calls on evil paths. Reasons are those of
/// `orchestrator_policy_faults_total`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Each ends as a fault, for one of these reasons.
    Fault(&'static [&'static str]),
    /// Every second one does.
    HalfFault(&'static [&'static str]),
    /// Few do.
    SomeFault(&'static [&'static str]),
    /// None does: the answer is one that may be given, or is cut down to one, and what the guest
    /// reached for was not there (it traps where it was).
    Allowed,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    /// What it does, in one sentence.
    pub(crate) mechanism: &'static str,
    pub(crate) made: Made,
    /// What it is called where it is made.
    pub(crate) guest: &'static str,
    only: Option<Kind>,
    pub(crate) end: End,
    /// So many of its evil requests come at one moment; 0: one after the other.
    pub(crate) at_once: u32,
    /// Whether the service answers its evil requests with failures without end, not just the first.
    pub(crate) never_answered: bool,
    /// Whether each decision gets a new instance.
    pub(crate) fresh: bool,
}

impl Behaviour {
    const fn of(name: &'static str, made: Made, end: End, mechanism: &'static str) -> Behaviour {
        Behaviour {
            name,
            mechanism,
            made,
            guest: name,
            only: None,
            end,
            at_once: 0,
            never_answered: false,
            fresh: false,
        }
    }

    const fn only(mut self, kind: Kind) -> Behaviour {
        self.only = Some(kind);
        self
    }

    const fn by(mut self, guest: &'static str) -> Behaviour {
        self.guest = guest;
        self
    }

    const fn at_once(mut self, count: u32) -> Behaviour {
        self.at_once = count;
        self
    }

    const fn never_answered(mut self) -> Behaviour {
        self.never_answered = true;
        self
    }

    const fn fresh(mut self) -> Behaviour {
        self.fresh = true;
        self
    }
}

impl Behaviour {
    /// The `behaviour` that its guest is configured with, where it is told.
    pub(crate) fn config(&self) -> Option<&'static str> {
        match self.made {
            Made::WithSdk => Some(self.guest),
            Made::ByHand => None,
        }
    }
}

/// Those that policies of this kind have.
pub(crate) fn of(kind: Kind) -> Vec<Behaviour> {
    let has = |it: &&Behaviour| it.only.is_none_or(|only| only == kind);
    BEHAVIOURS.iter().filter(has).copied().collect()
}

const fn sdk(name: &'static str, end: End, mechanism: &'static str) -> Behaviour {
    Behaviour::of(name, Made::WithSdk, end, mechanism)
}

const fn hand(name: &'static str, end: End, mechanism: &'static str) -> Behaviour {
    Behaviour::of(name, Made::ByHand, end, mechanism)
}

const TRAP: End = End::Fault(&["trap"]);
/// One that overruns may also meet the cap by the wall clock, where the machine is busy.
const TIMEOUT: End = End::Fault(&["timeout", "wall_clock"]);
/// Of many at once some do not get an instance.
const TIMEOUT_OR_NONE: End = End::Fault(&["timeout", "wall_clock", "no_instance"]);
/// To have memory takes time too, while the machine is busy.
const MEMORY: End = End::Fault(&["memory", "timeout", "wall_clock"]);
const RESULT: End = End::Fault(&["result"]);
const INVALID: End = End::Fault(&["invalid"]);
const CANNOT_DECIDE: End = End::Fault(&["cannot_decide"]);
const ALLOWED: End = End::Allowed;

const BEHAVIOURS: &[Behaviour] = &[
    // Time.
    sdk("spin", TIMEOUT, "loops for ever in the decision"),
    // Together they wait for each other so long that most meet the cap by the wall clock.
    sdk("few-spin", TIMEOUT, "the same in 6 decisions at once").by("spin").at_once(6),
    sdk("many-spin", TIMEOUT_OR_NONE, "the same in 32 decisions at once").by("spin").at_once(32),
    hand("loop-in-realloc", TIMEOUT, "loops for ever in `realloc`, which the host calls"),
    hand("loop-in-post-return", TIMEOUT, "answers, and loops for ever in its post-return"),
    hand("calls-without-end", TIMEOUT, "asks for the path for ever: its time passes in the host"),
    hand("random-without-end", TIMEOUT, "asks for 4 KiB of random bytes for ever"),
    hand("memory-fill", TIMEOUT, "fills its whole memory by one instruction, for ever"),
    sdk("log-flood", TIMEOUT, "prints lines for ever"),
    sdk("line-without-end", TIMEOUT, "prints one line for ever"),
    sdk("sleep", TRAP, "sleeps for a second"),
    sdk("slow", ALLOWED, "takes some milliseconds, which it may"),
    sdk(
        "many-slow",
        End::SomeFault(&["timeout", "wall_clock", "no_instance"]),
        "the same in 32 decisions at once",
    )
    .by("slow")
    .at_once(32),
    // Space.
    sdk("hoard", MEMORY, "allocates and keeps memory until there is no more"),
    sdk("leak", End::SomeFault(&["memory"]), "keeps 64 KiB of each call"),
    hand("memory-growth", MEMORY, "grows its memory page by page for ever"),
    hand("table-growth", End::Fault(&["trap", "table"]), "grows a table for ever"),
    hand("deep-recursion", End::Fault(&["trap", "stack"]), "calls itself until the stack ends"),
    hand("handles-without-end", TRAP, "takes handles of the host for ever"),
    // Traps.
    hand("unreachable", TRAP, "meets `unreachable`"),
    hand("out-of-bounds", TRAP, "reads beyond its memory"),
    hand("wrong-function", TRAP, "calls a function as one of another type"),
    hand("divide-by-zero", TRAP, "divides by zero"),
    sdk("panic", TRAP, "panics, which prints to the log"),
    sdk("exit", TRAP, "calls `exit`"),
    sdk("alternating", End::HalfFault(&["trap"]), "answers well and traps in turn"),
    hand("trap-in-post-return", TRAP, "answers, and traps in its post-return"),
    // What it hands over, below the contract.
    hand("bad-discriminant", TRAP, "returns a result that is neither `ok` nor `err`"),
    hand("bad-utf-8", TRAP, "returns a reason that is not UTF-8"),
    hand("string-beyond-memory", TRAP, "returns a reason of 2 GiB, beyond its memory"),
    hand("result-beyond-memory", TRAP, "returns the address of a result beyond its memory"),
    hand("unaligned-result", TRAP, "returns an odd address of a result"),
    hand("huge-string", RESULT, "returns a reason of 7 MiB"),
    hand("huge-list", RESULT, "hands over a list of 1.7 million handles"),
    hand("huge-name", RESULT, "asks for a header whose name is 7 MiB long"),
    hand("name-not-utf-8", TRAP, "asks for a header whose name is not UTF-8"),
    hand("name-beyond-memory", TRAP, "asks for a header whose name lies beyond its memory"),
    hand("beyond-memory-from-realloc", TRAP, "grants the host memory that is not there"),
    hand("call-in-realloc", TRAP, "calls the host from `realloc`, while the host waits for it"),
    hand("answer-in-post-return", TRAP, "answers again when its answer was read"),
    hand("forged-handle", TRAP, "drops a handle that it was never given"),
    hand("write-beyond-permit", TRAP, "prints 64 KiB at once, more than it was permitted"),
    hand("random-64-mib", TRAP, "asks for 64 MiB of random bytes at once"),
    // The contract.
    sdk("out-of-phase", TRAP, "asks in a decision for what only `configure` may ask for"),
    sdk("wrong-answer", TRAP, "answers what the other kind of policy may answer"),
    sdk("forged-log", CANNOT_DECIDE, "gives a reason that looks like lines of the gateway's log"),
    // What it must not get.
    sdk("remembering", ALLOWED, "keeps a secret of one request for the next").fresh(),
    sdk("files", ALLOWED, "lists folders, opens and writes files"),
    sdk("environment", ALLOWED, "reads its environment and arguments"),
    hand("connects", ALLOWED, "connects to a port of this machine"),
    hand("listens", ALLOWED, "takes a port of this machine"),
    hand("resolves", ALLOWED, "looks up the address of a name"),
    // Answers of routing.
    hand("answers-without-end", RESULT, "forwards for ever").only(Kind::Routing),
    sdk("unknown-service", INVALID, "forwards to a service that is not there").only(Kind::Routing),
    sdk("forged-header", INVALID, "forges `X-Forwarded-For`").only(Kind::Routing),
    sdk("hop-by-hop-header", INVALID, "sets `Transfer-Encoding`").only(Kind::Routing),
    sdk("reserved-header", INVALID, "sets the response's `X-Request-Id`").only(Kind::Routing),
    sdk("smuggled-header", INVALID, "sets a value with CR LF in it").only(Kind::Routing),
    sdk("many-headers", RESULT, "sets 400 headers").only(Kind::Routing),
    sdk("bad-path", INVALID, "forwards under a path that ends the request's line")
        .only(Kind::Routing),
    sdk("bad-status", INVALID, "responds with the status 101").only(Kind::Routing),
    sdk("huge-body", RESULT, "responds with a body of 1 MiB").only(Kind::Routing),
    sdk("no-time", INVALID, "gives the request no time").only(Kind::Routing),
    sdk("all-the-time", ALLOWED, "gives the request half a billion years").only(Kind::Routing),
    sdk("name-of-a-route", ALLOWED, "names another route each time").only(Kind::Routing),
    // Answers of judges.
    hand("judges-without-end", TIMEOUT, "says \"again\" for ever in one verdict")
        .by("answers-without-end")
        .only(Kind::Retry),
    sdk("again-for-ever", ALLOWED, "wants every attempt made again, at once")
        .only(Kind::Retry)
        .never_answered(),
    sdk("longest-delay", ALLOWED, "wants to wait for u32::MAX milliseconds").only(Kind::Retry),
    sdk("huge-reason", RESULT, "gives a reason of 1 MiB").only(Kind::Retry),
];
