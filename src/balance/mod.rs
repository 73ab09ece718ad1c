//! Decides which instance of a service a call goes to next, and which instances get no calls for a while.
//!
//! Everything here is pure: instances, the outcomes of calls, the time and random numbers come from the caller. It knows
//! nothing of ZooKeeper, of snapshots or of threads.

pub(crate) mod attempts;
pub(crate) mod ejection;
pub(crate) mod endpoint;
pub(crate) mod outcome;
pub(crate) mod retry_budget;
pub(crate) mod selection;
pub(crate) mod strategy;
pub(crate) mod subset;

#[cfg(test)]
mod simulation;
