//! The cost of one change while many services are followed.

use party::{Config, Discovery, Registration, Service};
use party_testing::process;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const CHANGES: u32 = 1_000;
/// Lookups at the same time, so that services are followed faster.
const THREADS: usize = 32;

fn config(services: usize) -> Config {
    Config::new()
        .connection_string(format!("memory:changes-{services}"))
        .environment("scale")
        .address("10.0.0.1")
        .connection_timeout(Duration::from_secs(600))
}

fn name(service: usize) -> String {
    format!("service{service}")
}

/// Changes the one instance of a service again and again, while ever more services are followed. Everything is inside
/// this process, so the CPU time includes the writer, the registry, the updater and a listener.
pub(crate) fn one_of_many() {
    println!("| services | until a listener is called | CPU time |");
    println!("|---|---|---|");
    for services in [1, 100, 1_000, 10_000, 20_000] {
        // By another session, so that a change wakes nothing that keeps these.
        let others = Registration::connect(config(services)).unwrap();
        let all = (1..services).map(|service| Service::new(name(service), 8080));
        others.register_all(all).unwrap();
        let registration = Registration::connect(config(services)).unwrap();
        let changing = Service::new(name(0), 1).id("changing");
        registration.register(changing.clone()).unwrap();

        let discovery = Discovery::connect(config(services)).unwrap();
        thread::scope(|scope| {
            for first in 0..THREADS {
                let discovery = &discovery;
                scope.spawn(move || {
                    for service in (first..services).step_by(THREADS) {
                        discovery.url(&name(service), &[]).unwrap();
                    }
                });
            }
        });
        let (told, seen) = mpsc::channel();
        let _subscription = discovery
            .on_change(&name(0), move |change| {
                let _ = told.send(change.all[0].port().unwrap());
            })
            .unwrap();
        assert_eq!(seen.recv().unwrap(), 1);

        let cpu = process::cpu_time(std::process::id());
        let mut waited = Duration::ZERO;
        for change in 0..CHANGES {
            let port = 2 + u16::try_from(change).unwrap();
            let service = Service::new(name(0), port).id("changing");
            let began = Instant::now();
            registration.update(&service).unwrap();
            while seen.recv().unwrap() != port {}
            waited += began.elapsed();
        }
        let cpu = process::cpu_time(std::process::id()) - cpu;
        let millis = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(CHANGES);
        println!(
            "| {services} | {:.2} ms | {:.2} ms |",
            millis(waited),
            millis(cpu)
        );
        discovery.disconnect().unwrap();
    }
    println!();
}
