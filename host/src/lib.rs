pub mod breaker;
pub mod upstream;
