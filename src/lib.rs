#![doc = include_str!("../README.md")]

mod address;
mod batches;
mod config;
mod directory;
pub mod discovery;
mod entry;
mod environment;
mod error;
mod excerpt;
mod followed;
mod follower;
mod guard;
mod health;
mod inbox;
mod model;
mod overrides;
mod process;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod provider;
mod reconciler;
mod registrar;
pub mod registration;
mod shared;
mod slot;
mod snapshot;
mod sync;
mod throttle;
mod wanted;
mod zk;

pub use config::Config;
pub use error::{Error, ErrorKind, Result};
pub use guard::{DisconnectGuard, disconnect_on_drop};
pub use health::PendingRegistration;
pub use model::{Service, ServiceInstance, ServiceType, UriSpec};
pub use provider::ServiceProvider;
pub use snapshot::RejectedInstance;
pub use zk::ConnectionState;
