//! The cost of a lookup of a known service: no I/O, one pick, one allocation.
//!
//! ```text
//! cargo bench --bench lookup
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

mod floor;
mod memory;

use criterion::{Criterion, criterion_group, criterion_main};
use floor::Floor;
use party::{Service, discovery, registration};
use std::hint::black_box;

fn lookup(criterion: &mut Criterion) {
    memory::connect("bench");
    for instances in [1, 100, 10_000_u16] {
        let name = format!("service-{instances}");
        for id in 0..instances {
            let service = Service::new(&name, 8000 + id).id(id.to_string());
            registration::register(service.uri_spec("/1.x/{territory}/users/{userid}")).unwrap();
        }
        let provider = discovery::service_provider(&name).unwrap();
        let floor = Floor::of(instances.into());
        criterion.bench_function(&format!("floor/{instances}"), |bencher| {
            bencher.iter(|| floor.url());
        });
        let url = format!("url, two variables/{instances}");
        criterion.bench_function(&url, |bencher| {
            bencher.iter(|| {
                discovery::url(black_box(&name), &[("territory", &"GB"), ("userid", &42)]).unwrap()
            });
        });
        let base_url = format!("base_url/{instances}");
        criterion.bench_function(&base_url, |bencher| {
            bencher.iter(|| discovery::base_url(black_box(&name), "").unwrap());
        });
        let instance = format!("ServiceProvider::instance/{instances}");
        criterion.bench_function(&instance, |bencher| {
            bencher.iter(|| provider.instance().unwrap())
        });
    }
}

criterion_group!(benches, lookup);
criterion_main!(benches);
