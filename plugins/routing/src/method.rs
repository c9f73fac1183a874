//! Which methods does a route take? The usual ones are a bit each.

/// As they stand in `Allow`.
pub(crate) const KNOWN: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
const GET: u16 = 1;
const HEAD: u16 = 2;

/// The method of a request.
#[derive(Debug)]
pub(crate) enum Method {
    Known(u16),
    Other(String),
}

impl Method {
    pub(crate) fn of(method: String) -> Method {
        match KNOWN.iter().position(|known| *known == method) {
            Some(place) => Method::Known(1 << place),
            None => Method::Other(method),
        }
    }
}

/// The methods of a route. None: any.
#[derive(Debug, Default)]
pub(crate) struct Methods {
    known: u16,
    others: Box<[Box<str>]>,
}

impl Methods {
    pub(crate) fn of(methods: impl IntoIterator<Item = String>) -> Methods {
        let (mut known, mut others) = (0, Vec::new());
        for method in methods {
            match Method::of(method) {
                Method::Known(bit) => known |= bit,
                Method::Other(method) => others.push(method.into_boxed_str()),
            }
        }
        // A HEAD is a GET without its body (RFC 9110 section 9.3.2).
        if known & GET != 0 {
            known |= HEAD;
        }
        Methods { known, others: others.into() }
    }

    /// True where any will do.
    pub(crate) fn any(&self) -> bool {
        self.known == 0 && self.others.is_empty()
    }

    pub(crate) fn take(&self, method: &Method) -> bool {
        match method {
            Method::Known(bit) => self.known & bit != 0,
            Method::Other(method) => self.others.iter().any(|other| **other == **method),
        }
    }

    /// True where each of these is among the others.
    pub(crate) fn within(&self, others: &Methods) -> bool {
        self.known & !others.known == 0
            && self.others.iter().all(|method| others.others.contains(method))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let known = KNOWN.iter().enumerate().filter(|(place, _)| self.known & (1 << place) != 0);
        known.map(|(_, name)| *name).chain(self.others.iter().map(|name| &**name))
    }
}
