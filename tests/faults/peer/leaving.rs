//! A program with both sides connected and a guard, which ends while ZooKeeper is down.

use super::{Link, service};
use party::{discovery, registration};
use std::time::Instant;

/// Prints `disconnected MICROS` after it has disconnected discovery on command.
pub(super) fn run(link: &Link) {
    registration::connect_with(link.config()).unwrap();
    discovery::connect_with(link.config()).unwrap();
    let _party = party::disconnect_on_drop().on_signals();
    registration::register(service("leaving", "l")).unwrap();
    discovery::url("leaving", &[("userid", &42)]).unwrap();
    println!("ready");
    super::obey(|_| {
        let began = Instant::now();
        let _ = discovery::disconnect();
        println!("disconnected {}", began.elapsed().as_micros());
    });
}
