//! Services, their instances and their URLs, as plain values.
//!
//! Everything in this folder is pure: no I/O, no threads, no clock, no environment and no randomness. A [`Service`]
//! is what a program registers. A [`ServiceInstance`] is what stands in ZooKeeper and what discovery hands out; its
//! bytes are those of Apache Curator's x-discovery. A [`UriSpec`] is the template of the path below an instance.

mod builder;
mod common;
mod exchange;
mod expansion;
#[cfg(test)]
pub(crate) mod golden;
mod host;
pub(crate) mod instance;
mod jackson;
mod json;
mod location;
mod metadata;
mod params;
mod part;
pub(crate) mod path;
mod payload;
mod service;
mod service_type;
mod spring;
pub(crate) mod suffix;
pub(crate) mod switch;
mod traits;
mod uri_spec;
mod wire;

pub use builder::ServiceInstanceBuilder;
pub(crate) use common::Common;
pub(crate) use host::EXPECTED as ADDRESS_EXPECTED;
pub(crate) use instance::Fields;
pub use instance::ServiceInstance;
pub(crate) use location::url_parts;
pub use service::Service;
pub use service_type::ServiceType;
pub use uri_spec::UriSpec;
pub(crate) use uri_spec::UrlPort;

/// Values for the variables of a uri spec.
pub(crate) type Params<'a> = &'a [(&'a str, &'a dyn std::fmt::Display)];

/// Returns the form of an address that is registered: an IP without brackets and scope id, or a host name.
pub(crate) fn address_to_register(address: &str) -> Option<String> {
    host::bare(address).map(str::to_owned)
}
