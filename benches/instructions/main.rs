//! The instructions of a lookup of a known service. Unlike times, they are the same in every run.
//!
//! Each kind of lookup runs a thousand times inside a function with its name, so that `valgrind --tool=callgrind` can
//! count the instructions inside it: see `scripts/instructions`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../memory/mod.rs"]
mod memory;

use party::{Service, ServiceProvider, discovery, registration};
use std::hint::black_box;

const TIMES: usize = 1000;

/// A text that crosses no page. Comparing texts that cross one takes a slow path, so the figure would depend on the
/// linker.
#[repr(align(64))]
struct Text<const N: usize>([u8; N]);

static USERS: Text<5> = Text(*b"users");
static TERRITORY: Text<9> = Text(*b"territory");
static USERID: Text<6> = Text(*b"userid");

impl<const N: usize> Text<N> {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap()
    }
}

fn main() {
    memory::connect("bench");
    // Each instance has its own port: of several at one endpoint, only the newest is picked.
    for id in 0..100 {
        let service = Service::new("users", 8000 + id).id(id.to_string());
        registration::register(service.uri_spec("/1.x/{territory}/users/{userid}")).unwrap();
    }
    let provider = discovery::service_provider("users").unwrap();
    // The first lookup of a thread sets up state that is not part of a lookup.
    measured_url(1);
    measured_base_url(1);
    measured_instance(&provider, 1);
    counted_url();
    counted_base_url();
    counted_instance(&provider);
}

#[inline(never)]
fn counted_url() {
    measured_url(TIMES);
}

#[inline(never)]
fn counted_base_url() {
    measured_base_url(TIMES);
}

#[inline(never)]
fn counted_instance(provider: &ServiceProvider) {
    measured_instance(provider, TIMES);
}

#[inline(never)]
fn measured_url(times: usize) {
    let [users, territory, userid] = [USERS.text(), TERRITORY.text(), USERID.text()];
    for _ in 0..times {
        let params: [(&str, &dyn std::fmt::Display); 2] = [(territory, &"GB"), (userid, &42)];
        black_box(discovery::url(black_box(users), black_box(&params)).unwrap());
    }
}

#[inline(never)]
fn measured_base_url(times: usize) {
    let users = USERS.text();
    for _ in 0..times {
        black_box(discovery::base_url(black_box(users), "").unwrap());
    }
}

#[inline(never)]
fn measured_instance(provider: &ServiceProvider, times: usize) {
    for _ in 0..times {
        black_box(provider.instance().unwrap());
    }
}
