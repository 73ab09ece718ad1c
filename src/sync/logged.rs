//! The logger of the unit tests, which hands lines to tests that listen.

use parking_lot::Mutex;
use std::sync::{Arc, Once};

type Listener = Arc<dyn Fn(log::Level, &str) + Send + Sync>;

/// Those who listen, each with the text that its lines have in them. Never locked while one is called.
static LISTENERS: Mutex<Vec<(&str, Listener)>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        let mut listeners = LISTENERS.lock().clone();
        listeners.retain(|(part, _)| line.contains(part));
        for (_, listener) in listeners {
            listener(record.level(), &line);
        }
    }

    fn flush(&self) {}
}

/// Has a listener called for as long as it lives.
pub(crate) struct Listening(Listener);

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = LISTENERS.lock();
        let index = listeners
            .iter()
            .position(|(_, listener)| Arc::ptr_eq(listener, &self.0));
        let removed = index.map(|index| listeners.remove(index));
        drop(listeners);
        // It may log by itself when it is dropped.
        drop(removed);
    }
}

/// Has a closure called with all lines that have `part` in them, on the threads that log them, until what is returned is
/// dropped.
#[must_use]
pub(crate) fn on_line(
    part: &'static str,
    listener: impl Fn(log::Level, &str) + Send + Sync + 'static,
) -> Listening {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
    let listener: Listener = Arc::new(listener);
    LISTENERS.lock().push((part, listener.clone()));
    Listening(listener)
}
