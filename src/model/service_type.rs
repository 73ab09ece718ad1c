//! `ServiceType`: the time an instance stays in ZooKeeper.

use std::fmt::{self, Display};

/// Says how long an instance stays in ZooKeeper, and how its node is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceType {
    /// It goes with the session that registered it. This library registers all services like this.
    Dynamic,
    /// It stays until it is removed.
    Static,
    /// It stays until it is removed, like [`Static`](ServiceType::Static).
    Permanent,
    /// It goes with the session that registered it, and ZooKeeper adds ten digits to the name of its node.
    DynamicSequential,
}

impl ServiceType {
    pub(super) fn from_wire(text: &str) -> Option<ServiceType> {
        use ServiceType::{Dynamic, DynamicSequential, Permanent, Static};
        [Dynamic, Static, Permanent, DynamicSequential]
            .into_iter()
            .find(|service_type| service_type.wire_name() == text)
    }

    pub(super) fn wire_name(self) -> &'static str {
        match self {
            ServiceType::Dynamic => "DYNAMIC",
            ServiceType::Static => "STATIC",
            ServiceType::Permanent => "PERMANENT",
            ServiceType::DynamicSequential => "DYNAMIC_SEQUENTIAL",
        }
    }
}

impl Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceType::Dynamic => "dynamic",
            ServiceType::Static => "static",
            ServiceType::Permanent => "permanent",
            ServiceType::DynamicSequential => "dynamic_sequential",
        })
    }
}
