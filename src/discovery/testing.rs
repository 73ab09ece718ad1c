//! Another program that registers, for tests.

use crate::model::path;
use crate::zk::Mode;
use crate::zk::memory::{Session, registry};
use std::sync::Arc;

/// Returns a session to write to the registry of this name with.
pub(super) fn writer(name: &str) -> Arc<Session> {
    registry(name).open(Arc::new(|_| {}))
}

/// Registers an instance of `foo`.
pub(super) fn put(writer: &Arc<Session>, id: &str, port: u16) {
    let node = format!("/test/instances/foo/{id}");
    for parent in path::parents(&node) {
        let _ = writer.create(parent, b"", Mode::Persistent);
    }
    let data = format!(r#"{{"address":"h","port":{port}}}"#);
    writer
        .create(&node, data.as_bytes(), Mode::Ephemeral)
        .unwrap();
}
