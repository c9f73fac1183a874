//! A Proxy-Wasm filter that decides what the gateway's routing policy decides: by the path, and by one
//! header, which service a request goes to, and which path it gets there. Envoy's routes then match the
//! header that it sets.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

const PREFIX: &str = "/api/writer";

/// Who asks for another version of the service gets none from here.
const VERSION: &str = "x-version";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

#[derive(Debug)]
struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Route))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

#[derive(Debug)]
struct Route;

impl Context for Route {}

impl HttpContext for Route {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        // As bytes: a header may be no UTF-8, and the SDK panics there.
        let header = |name| self.get_http_request_header_bytes(name);
        let (Some(path), version) = (header(":path"), header(VERSION)) else {
            return Action::Continue;
        };
        if let Some(rest) = path.strip_prefix(PREFIX.as_bytes())
            && version.is_none_or(|it| it == b"1")
            && rest.first() == Some(&b'/')
        {
            self.set_http_request_header_bytes(":path", Some(rest));
            self.set_http_request_header("x-service", Some("writer"));
        }
        Action::Continue
    }
}
