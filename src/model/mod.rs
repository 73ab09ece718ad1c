//! Services, their instances and their URLs, as plain values.
//!
//! Everything in this folder is pure: no I/O, no threads, no clock, no environment and no randomness. A [`Service`]
//! is what a program registers. A [`ServiceInstance`] is what stands in ZooKeeper and what discovery hands out; its
//! bytes are those of Apache Curator's x-discovery. A [`UriSpec`] is the template of the path below an instance.

mod expansion;
mod host;
pub(crate) mod instance;
pub(crate) mod path;
mod payload;
mod service;
mod uri_spec;
mod wire;

pub use instance::{ServiceInstance, ServiceType};
pub use service::Service;
pub use uri_spec::UriSpec;
