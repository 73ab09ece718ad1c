//! What a lookup costs once its service has been seen: no I/O, one pick, one allocation.
//!
//! ```text
//! cargo bench --bench lookup
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

mod memory;

use criterion::{Criterion, criterion_group, criterion_main};
use party::{Service, discovery, registration};
use std::hint::black_box;

fn lookup(criterion: &mut Criterion) {
    memory::connect("bench");
    for instances in [1, 100, 10_000] {
        let name = format!("service-{instances}");
        for id in 0..instances {
            let service = Service::new(&name, 8080).id(id.to_string());
            registration::register(service.uri_spec("/1.x/{territory}/users/{userid}")).unwrap();
        }
        let provider = discovery::service_provider(&name).unwrap();
        floor(criterion, instances);
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

/// What no lookup can do without: to pick one of as many texts, and to copy it.
fn floor(criterion: &mut Criterion, instances: usize) {
    let url = |n: usize| format!("http://10.0.{}.{}:8080/1.x/GB/users/42", n / 256, n % 256);
    let urls: Vec<String> = (0..instances).map(url).collect();
    let mut random = 1_u64;
    criterion.bench_function(&format!("floor/{instances}"), |bencher| {
        bencher.iter(|| {
            // As fast as random numbers come, but not as good.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            black_box(&urls)[(random >> 33) as usize % instances].clone()
        });
    });
}

criterion_group!(benches, lookup);
criterion_main!(benches);
