//! Registrations that are taken back while they are made, and while the connection comes and goes.

use super::Link;
use party::{Service, registration};
use std::thread;
use std::time::Duration;

const ONE: Duration = Duration::from_micros(700);

/// Says `gone ID` when a registration was taken back with success, and `done` at the end.
pub(super) fn run(link: &Link, times: usize) {
    for race in 0..times {
        // Fails where the connection is reset at this very moment.
        while registration::state() == party::ConnectionState::Unconnected {
            let _ = registration::connect_with(link.config());
        }
        let id = format!("r{race}");
        // Later and later, in steps that no other period shares.
        let pause = ONE * (race as u32 % 17);
        let gone = match race % 4 {
            0 => unregister(&service(&id), pause),
            1 => cancel(&service(&id), pause),
            2 => disconnect(&service(&id), pause),
            _ => replace(&service(&id), pause),
        };
        if gone {
            println!("gone {id}");
        }
    }
    println!("done");
    super::obey(|_| {});
}

fn service(id: &str) -> Service {
    Service::new("race", 1).id(id)
}

/// Unregisters while another thread registers, and again when that is done.
fn unregister(service: &Service, pause: Duration) -> bool {
    let registering = thread::spawn({
        let service = service.clone();
        || registration::register(service).is_ok()
    });
    thread::sleep(pause);
    let _ = registration::unregister(service);
    let registered = registering.join().unwrap();
    let again = registration::unregister(service);
    again.is_ok_and(|removed| removed || !registered)
}

fn cancel(service: &Service, pause: Duration) -> bool {
    let pending = registration::register_in_background(service.clone(), || true);
    thread::sleep(pause);
    if let Ok(pending) = pending {
        pending.cancel();
    }
    // Also waits until what was cancelled is gone.
    registration::unregister(service).is_ok()
}

fn disconnect(service: &Service, pause: Duration) -> bool {
    let registering = thread::spawn({
        let service = service.clone();
        || registration::register(service)
    });
    thread::sleep(pause);
    let disconnected = registration::disconnect().is_ok();
    let _ = registering.join().unwrap();
    disconnected
}

/// Registers the same id twice, and takes it back at once.
fn replace(service: &Service, pause: Duration) -> bool {
    let _ = registration::register(service.clone());
    let registering = thread::spawn({
        let service = service.clone();
        || registration::register(service.payload(serde_json::json!("again")))
    });
    thread::sleep(pause);
    let _ = registering.join().unwrap();
    registration::unregister(service).is_ok()
}
