//! A registration that lives: it is checked, updated and switched while callers look it up.

use super::Link;
use party::{Config, Service, discovery, registration};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// The port of the instance that lives, and of the one beside it.
const LIVING: u16 = 1;
const BESIDE: u16 = 2;
const SOON: Duration = Duration::from_secs(60);

static SICK: AtomicBool = AtomicBool::new(false);
static LOOKUPS: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static OF_LIVING: AtomicU64 = AtomicU64::new(0);

/// Registers the instance `living` while it is healthy, and `beside` it another one where there are callers: so many
/// that look up the service of both, as fast as a caller does.
pub(super) fn run(link: &Link, callers: usize) {
    registration::connect_with(link.config()).unwrap();
    let healthy = || !SICK.load(Ordering::Relaxed);
    let living = registration::register_while_healthy(service("living", LIVING), healthy).unwrap();
    living.wait(SOON).unwrap();
    if callers > 0 {
        registration::register(service("beside", BESIDE)).unwrap();
        discovery::connect_with(link.config()).unwrap();
        discovery::base_url("living", "").unwrap();
    }
    (0..callers).for_each(|_| drop(thread::spawn(call)));
    println!("ready");
    super::obey(|command| {
        let words: Vec<&str> = command.split(' ').collect();
        match *words.as_slice() {
            ["sick"] => SICK.store(true, Ordering::Relaxed),
            ["well"] => SICK.store(false, Ordering::Relaxed),
            ["update", count] => {
                let count = count.parse().unwrap();
                thread::spawn(move || update(count));
            }
            ["report"] => {
                let [lookups, failed, of_living] =
                    [&LOOKUPS, &FAILED, &OF_LIVING].map(|count| count.swap(0, Ordering::Relaxed));
                println!(
                    "report {lookups} {failed} {of_living} {}",
                    living.is_enabled()
                );
            }
            _ => println!("unknown {command}"),
        }
    });
}

/// Boots as a program does that is not to depend on ZooKeeper being there.
pub(super) fn boot(link: &Link) {
    let config: Config = link.config().connect_in_background();
    registration::connect_with(config).unwrap();
    let pending = registration::register_in_background(service("living", LIVING), || true);
    println!(
        "{}",
        pending
            .unwrap()
            .wait(Duration::from_secs(600))
            .map_or_else(|error| format!("failed {error}"), |_| "ready".to_owned(),)
    );
    super::obey(|_| {});
}

fn service(id: &str, port: u16) -> Service {
    Service::new("living", port).id(id)
}

fn call() {
    loop {
        let found = discovery::base_url("living", "");
        LOOKUPS.fetch_add(1, Ordering::Relaxed);
        let count = match found {
            Ok(url) if url.ends_with(&format!(":{LIVING}")) => &OF_LIVING,
            Ok(_) => continue_with(),
            Err(_) => &FAILED,
        };
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Calls of the other instance.
fn continue_with() -> &'static AtomicU64 {
    static OTHERS: AtomicU64 = AtomicU64::new(0);
    &OTHERS
}

fn update(count: u64) {
    let update = |number: &u64| {
        let service = service("living", LIVING).payload(json!({ "update": number }));
        registration::update(&service).is_err()
    };
    let failed = (1..=count).filter(update).count();
    println!("updated {count} {failed}");
}
