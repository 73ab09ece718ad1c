//! Connecting again, and disconnecting, while something of the connection before is still held or under way.

use super::Link;
use party::{ErrorKind, PendingRegistration, Service, registration};
use std::sync::mpsc::channel;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Says `gone ID` when a registration may not be there any more, `broken` and what, where something does not hold, and
/// `done` at the end, when only the service `last` is registered.
pub(super) fn run(link: &Link, times: usize) {
    let connect = || registration::connect_with(link.config()).unwrap();
    // A loaded server may confirm it too late.
    let disconnect = || drop(registration::disconnect());
    connect();
    let mut held = Vec::new();
    for round in 0..times {
        held.push(registered(&format!("registered-{round}"), connect));
        held.push(checked(&format!("replaced-{round}"), connect));
        held.push(checked(&format!("disconnected-{round}"), disconnect));
        connect();
    }
    registration::register(service("last")).unwrap();
    println!("done");
    super::obey(|_| {});
}

fn service(id: &str) -> Service {
    Service::new("replaced", 1).id(id)
}

/// What was registered goes, although it is still held.
fn registered(id: &str, end: impl Fn()) -> PendingRegistration {
    let pending = registration::register_in_background(service(id), || true).unwrap();
    let registered = pending.wait(SOON);
    check(
        &format!("{id} is not registered: {registered:?}"),
        registered.is_ok(),
    );
    end();
    println!("gone {id}");
    check(
        &format!("{id} says that it is registered"),
        !pending.is_registered(),
    );
    pending
}

/// A check says yes when the connection is over for which it was asked.
fn checked(id: &str, end: impl Fn()) -> PendingRegistration {
    let ((begin, begun), (answer, answered)) = (channel(), channel());
    let asked = move || {
        let _ = begin.send(());
        answered.recv().is_ok()
    };
    let pending = registration::register_in_background(service(id), asked).unwrap();
    begun.recv_timeout(SOON).unwrap();
    end();
    println!("gone {id}");
    answer.send(()).unwrap();
    let outcome = pending.wait(SOON);
    let over = |kind| matches!(kind, ErrorKind::NotConnected | ErrorKind::Cancelled);
    let ended = outcome.as_ref().is_err_and(|error| over(error.kind()));
    check(&format!("waiting for {id} says {outcome:?}"), ended);
    pending
}

fn check(what: &str, holds: bool) {
    if !holds {
        println!("broken {what}");
    }
}
