//! What the tests share of the library. Servers, a client that is not ours and whatever else needs no library are in
//! the crate `party_testing`.

use party::Config;
use std::sync::Mutex;
use std::time::Duration;

/// Both sides of the library, which the process has only once: held by one test at a time, and disconnected after.
pub(crate) struct Party(
    #[expect(dead_code, reason = "held for its drop")] std::sync::MutexGuard<'static, ()>,
);

impl Party {
    /// Takes hold of the library, unconnected.
    pub(crate) fn unconnected() -> Party {
        // RUST_LOG=party=debug shows what the library says.
        let quiet = env_logger::Env::default().default_filter_or("off");
        let _ = env_logger::Builder::from_env(quiet).try_init();
        static ONE: Mutex<()> = Mutex::new(());
        Party(ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Takes hold of the library with both sides connected.
    pub(crate) fn connected(config: &Config) -> Party {
        let party = Party::unconnected();
        party::registration::connect_with(config.clone()).unwrap();
        party::discovery::connect_with(config.clone()).unwrap();
        party
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        let _ = party::registration::disconnect();
        let _ = party::discovery::disconnect();
    }
}

/// Settings with short timeouts.
pub(crate) fn config(connection_string: &str, environment: &str) -> Config {
    Config::new()
        .connection_string(connection_string)
        .environment(environment)
        .session_timeout(Duration::from_secs(6))
        .connection_timeout(Duration::from_secs(10))
        .address("10.0.0.1")
}
