pub mod breaker;
pub mod headers;
pub mod upstream;
