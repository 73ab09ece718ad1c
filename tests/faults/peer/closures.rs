//! Closures of a program that are slow or panic. Nobody else may notice.

use super::{Link, service};
use party::{discovery, registration};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

/// Less than the slow check takes, and enough for a slow machine.
const QUICKLY: Duration = Duration::from_secs(6);

/// A parameter that cannot be written.
struct Panics;

impl fmt::Display for Panics {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a parameter");
    }
}

/// Panics when it is dropped with the check that holds it.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a check that is dropped");
    }
}

fn check(what: &str, holds: bool) {
    if !holds {
        println!("broken {what}");
    }
}

/// Says `broken` and what, where something does not hold, and `done` at the end.
pub(super) fn run(link: &Link, count: usize) {
    std::panic::set_hook(Box::new(|_| {}));
    registration::connect_with(link.config()).unwrap();
    discovery::connect_with(link.config()).unwrap();
    let slow = registration::register_in_background(service("slow", "s"), || {
        thread::sleep(Duration::from_secs(10));
        true
    })
    .unwrap();
    let panicking =
        registration::register_in_background(service("panicking", "p"), || panic!("a check"));
    let bomb = Bomb;
    let dropped = registration::register_in_background(service("bomb", "b"), move || {
        let _held = &bomb;
        true
    });
    let began = Instant::now();
    for number in 0..count {
        let registered = registration::register(service("other", &format!("o{number}")));
        check("another registration fails", registered.is_ok());
    }
    check("others wait for a slow check", began.elapsed() < QUICKLY);
    let params: [(&str, &dyn fmt::Display); 1] = [("userid", &Panics)];
    let url = catch_unwind(AssertUnwindSafe(|| discovery::url("other", &params)));
    check("a panic of a parameter is the caller's", url.is_err());
    check(
        "a later lookup fails",
        discovery::url("other", &[("userid", &1)]).is_ok(),
    );
    check("registration is not healthy", registration::healthy());
    check("discovery is not healthy", discovery::healthy());
    check(
        "what a dropped check guarded is not registered",
        dropped.unwrap().wait(QUICKLY).is_ok(),
    );
    let slowly = slow.wait(Duration::from_secs(20));
    check("the slow one is not registered", slowly.is_ok());
    let panicked = panicking.unwrap().wait(Duration::from_secs(20));
    let unhealthy = panicked.is_err_and(|error| error.kind() == party::ErrorKind::Unhealthy);
    check("a panicking check is not unhealthy", unhealthy);
    let began = Instant::now();
    check("disconnecting fails", registration::disconnect().is_ok());
    registration::connect_with(link.config()).unwrap();
    for number in 0..count {
        let (name, id) = super::registration(number);
        check(
            "registering after all fails",
            registration::register(service(&name, &id)).is_ok(),
        );
    }
    check("the end takes long", began.elapsed() < QUICKLY);
    println!("done");
    super::obey(|_| {});
}
