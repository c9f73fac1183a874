//! What stands behind the gateway: services and their endpoints, and what protects them.

pub mod balance;
pub mod budget;
