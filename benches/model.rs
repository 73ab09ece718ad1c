//! Work that is done once for many lookups: templates, the JSON of an instance, and snapshots. Needs no server.
//!
//! ```text
//! cargo bench --bench model
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

mod memory;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use memory::{config, connect};
use party::{Service, ServiceProvider, UriSpec, discovery, registration};
use std::hint::black_box;

const TEMPLATE: &str = "/1.x/{territory}/users/{userid}/sessions?from={from}";

fn service(id: usize, port: u16) -> Service {
    Service::new("users", port)
        .id(format!("i-{id}"))
        .uri_spec(TEMPLATE)
}

fn uri_spec(criterion: &mut Criterion) {
    criterion.bench_function("uri_spec, parse", |bencher| {
        bencher.iter(|| black_box(TEMPLATE).parse::<UriSpec>().unwrap());
    });
    connect("uri-spec");
    registration::register(service(0, 80)).unwrap();
    let provider = discovery::service_provider("users").unwrap();
    let instance = provider.instance().unwrap().unwrap();
    for (title, value) in [
        ("plain", "gb"),
        ("encoded", "a b/ü?"),
        ("with dots", "1.2.3"),
    ] {
        let params: [(&str, &dyn std::fmt::Display); 3] =
            [("territory", &value), ("userid", &42), ("from", &value)];
        criterion.bench_function(&format!("uri_spec, build, {title}"), |bencher| {
            bencher.iter(|| instance.build_uri_spec(black_box(&params)).unwrap());
        });
    }
}

fn json(criterion: &mut Criterion) {
    connect("json");
    registration::register(service(0, 80).payload(serde_json::json!({"zone": "eu"}))).unwrap();
    let provider = discovery::service_provider("users").unwrap();
    let instance = provider.instance().unwrap().unwrap();
    criterion.bench_function("json, write", |bencher| {
        bencher.iter(|| serde_json::to_string(black_box(&*instance)));
    });
}

/// From the connection until all instances can be looked up.
fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10);
    for instances in [100, 10_000] {
        let name = format!("snapshot-{instances}");
        connect(&name);
        registration::register_all((0..instances).map(|id| service(id, 80))).unwrap();
        group.bench_function(format!("json read and built/{instances}"), |bencher| {
            // A new connection has no snapshot yet.
            bencher.iter_batched(
                || discovery::connect_with(config(&name)).unwrap(),
                |()| discovery::service_provider("users").unwrap(),
                BatchSize::PerIteration,
            );
        });
        let provider = discovery::service_provider("users").unwrap();
        let mut port = 80;
        group.bench_function(format!("one changed/{instances}"), |bencher| {
            bencher.iter(|| {
                // A different instance each time, because the same instance is not written that often.
                port = port % 60_000 + 1;
                let id = usize::from(port) % instances;
                registration::register(service(id, port)).unwrap();
                await_port(&provider, id, port);
            });
        });
    }
}

fn await_port(provider: &ServiceProvider, id: usize, port: u16) {
    let id = format!("i-{id}");
    let changed = |provider: &ServiceProvider| {
        let instances = provider.instances().unwrap();
        instances
            .iter()
            .any(|one| one.id() == id && one.port() == Some(port))
    };
    while !changed(provider) {
        std::thread::yield_now();
    }
}

criterion_group!(benches, uri_spec, json, snapshot);
criterion_main!(benches);
