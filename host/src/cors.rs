//! Which pages of other origins may read our responses? Cross-origin resource sharing, as the Fetch
//! standard has it (section 3.3).
//!
//! The gateway answers preflights itself and speaks for its services: their own `Access-Control-…`
//! headers are replaced, since browsers refuse a doubled one. With no `allow_origins` all of this is
//! left to the services.
//!
//! An origin that is not allowed gets its preflight answered as well, 204 without any
//! `Access-Control-…` header: browsers then name the missing header, which is the cause, instead of
//! an odd status.

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, VARY,
};

use crate::config;

#[cfg(test)]
mod tests;

/// The rules of `[cors]`, prepared: no request formats anything.
#[derive(Debug, Clone)]
pub(crate) struct Cors {
    origins: Origins,
    methods: Listed,
    headers: Listed,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
    credentials: bool,
}

#[derive(Debug, Clone)]
enum Origins {
    /// CORS is left to the services.
    Unmanaged,
    /// `*`
    Any,
    Listed(Vec<HeaderValue>),
}

/// What a preflight is answered with.
#[derive(Debug, Clone)]
enum Listed {
    /// The list is empty: the header is left out.
    Nothing,
    /// `*`: what was asked for. The literal `*` would not cover `Authorization`, nor anything at all
    /// beside credentials.
    Echo,
    These(HeaderValue),
}

impl Cors {
    pub(crate) fn new(config: &config::Cors) -> Self {
        let any = config.allow_origins.iter().any(|origin| origin == "*");
        let origins = if config.allow_origins.is_empty() {
            Origins::Unmanaged
        } else if any {
            Origins::Any
        } else {
            Origins::Listed(
                config.allow_origins.iter().filter_map(|origin| value(origin)).collect(),
            )
        };
        Self {
            origins,
            methods: Listed::new(&config.allow_methods),
            headers: Listed::new(&config.allow_headers),
            expose: joined(&config.expose_headers),
            max_age: HeaderValue::from(config.max_age.as_secs()),
            // The configuration refuses the two together. Should it ever not, this is the half that
            // must give way: any page could read what its visitor may.
            credentials: config.allow_credentials && !any,
        }
    }

    /// The headers of the answer (204, without a body) to a preflight: an `OPTIONS` that has
    /// `Origin` and `Access-Control-Request-Method`. `None`: this is none, or the services' to
    /// answer.
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        if method != Method::OPTIONS || matches!(self.origins, Origins::Unmanaged) {
            return None;
        }
        let origin = request.get(ORIGIN)?;
        let method = request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut answer = HeaderMap::with_capacity(8);
        if let Some(allowed) = self.allowed(Some(origin)) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            self.insert_credentials(&mut answer);
            if let Some(methods) = self.methods.answer(Some(method)) {
                answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            }
            let headers = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(headers) = self.headers.answer(headers) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
            }
            answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        // A shared cache that does keep answers to OPTIONS must not mix them up.
        answer.insert(
            VARY,
            HeaderValue::from_static(
                "origin, access-control-request-method, access-control-request-headers",
            ),
        );
        Some(answer)
    }

    /// Puts the gateway's answer to `origin` into a response, in place of the service's own.
    pub(crate) fn apply(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        if matches!(self.origins, Origins::Unmanaged) {
            return;
        }
        strip(response);
        if matches!(self.origins, Origins::Listed(_)) {
            // For responses to requests without an origin as well: a cache may keep those.
            vary_by_origin(response);
        }
        let Some(allowed) = self.allowed(origin) else { return };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        self.insert_credentials(response);
        if let Some(expose) = &self.expose {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// The value of `Access-Control-Allow-Origin`, which with `*` does not depend on the origin.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Unmanaged => None,
            Origins::Any => Some(HeaderValue::from_static("*")),
            // Browsers write an origin in one way only, so that bytes can be compared.
            Origins::Listed(listed) => {
                listed.iter().find(|&listed| origin == Some(listed)).cloned()
            }
        }
    }

    fn insert_credentials(&self, headers: &mut HeaderMap) {
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

impl Listed {
    fn new(names: &[String]) -> Self {
        if names.iter().any(|name| name == "*") {
            return Self::Echo;
        }
        joined(names).map_or(Self::Nothing, Self::These)
    }

    fn answer(&self, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Echo => asked.cloned(),
            Self::These(names) => Some(names.clone()),
        }
    }
}

/// All of the standard's response headers.
const RESPONSE_HEADERS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

fn strip(response: &mut HeaderMap) {
    // Most services send none: one look at each name, and no search.
    if response.keys().any(|name| name.as_str().starts_with("access-control-")) {
        for name in &RESPONSE_HEADERS {
            response.remove(name);
        }
    }
}

fn vary_by_origin(response: &mut HeaderMap) {
    let fields = response.get_all(VARY).iter();
    let fields = fields.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let varies = fields
        .map(<[u8]>::trim_ascii)
        .any(|field| field == b"*" || field.eq_ignore_ascii_case(b"origin"));
    if !varies {
        response.append(VARY, HeaderValue::from_static("origin"));
    }
}

fn joined(names: &[String]) -> Option<HeaderValue> {
    if names.is_empty() { None } else { value(&names.join(", ")) }
}

/// Validated configuration holds nothing that is not a header's value; if it does, it is not sent.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(text).ok()
}
