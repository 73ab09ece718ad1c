#![doc = include_str!("../README.md")]

mod config;
pub mod discovery;
mod environment;
mod error;
mod excerpt;
mod guard;
mod inbox;
mod listener;
mod model;
mod process;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod registration;
mod side;
mod slot;
mod sync;
mod throttle;
mod zk;

pub use config::Config;
pub use discovery::{Change, RejectedInstance, ServiceProvider};
pub use error::{Error, ErrorKind, Result};
pub use guard::{DisconnectGuard, disconnect_on_drop};
pub use listener::Subscription;
pub use model::{Service, ServiceInstance, ServiceType, UriSpec};
pub use registration::PendingRegistration;
pub use zk::ConnectionState;
