//! Random faults for a long time: what threads, file descriptors and memory do meanwhile.

use crate::bed::{Bed, Setup};
use crate::child::Usage;
use crate::row::{Bounds, Row};
use party_testing::client::end_session;
use party_testing::process;
use party_testing::proxy::Mode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::thread;
use std::time::{Duration, Instant};

/// What is held before is what the first faults bring with them.
const WARM_UP: Duration = Duration::from_secs(60);

/// Injects one fault after the other for so many minutes. The seed makes them others.
pub(crate) fn run(minutes: u64, seed: u64) -> Row {
    println!("soak of {minutes} minutes, seed {seed}");
    let (mut random, began) = (StdRng::seed_from_u64(seed), Instant::now());
    let mut bed = Bed::new(Setup::new(6).ensemble().proxied());
    let mut samples: Vec<[Usage; 2]> = Vec::new();
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        let fault = random.random_range(0..9);
        let time = Duration::from_millis(random.random_range(200..9000));
        bed.round(|bed| inject(bed, fault, time, &mut random));
        if began.elapsed() > WARM_UP {
            thread::sleep(Duration::from_millis(1500));
            samples.push(bed.usage_now());
        }
        if bed.row.times.is_multiple_of(50) {
            println!(
                "  {:.0?}: {} faults, {} lost",
                began.elapsed(),
                bed.row.times,
                bed.row.lost
            );
        }
    }
    drift(
        "registering process",
        samples.iter().map(|[registrar, _]| *registrar),
    );
    drift(
        "looking-up process",
        samples.iter().map(|[_, caller]| *caller),
    );
    // A fault that ends a session takes the time of a loss that nobody noticed before it.
    bed.finish(&Bounds::back(1.0, 7.0))
}

fn inject(bed: &mut Bed, fault: u8, time: Duration, random: &mut StdRng) -> Instant {
    let at = random.random_range(0..bed.servers.len());
    match fault {
        0 | 1 => {
            bed.servers[at].kill();
            thread::sleep(time);
            bed.servers[at].launch();
        }
        2 => {
            bed.servers[at].freeze();
            thread::sleep(time);
            bed.servers[at].thaw();
        }
        3 => bed.with_proxies(Mode::Swallow, time),
        4 => bed.with_proxies(Mode::Stall, time),
        5 => bed.with_proxies(Mode::SwallowDown, time),
        6 => bed.proxies.iter().for_each(|proxy| proxy.reset()),
        7 => end_session(&bed.servers[at].address(), bed.owner()).unwrap(),
        _ => {
            process::signal(bed.registrar.pid(), "-STOP");
            thread::sleep(time / 3);
            process::signal(bed.registrar.pid(), "-CONT");
        }
    }
    bed.await_serving()
}

type Figure = fn(&Usage) -> u64;

/// Prints how what a process holds has changed from the first tenth of the samples to the last.
fn drift(who: &str, samples: impl Iterator<Item = Usage>) {
    let samples: Vec<Usage> = samples.collect();
    let tenth = (samples.len() / 10).max(1);
    let (first, last) = (&samples[..tenth], &samples[samples.len() - tenth..]);
    let figures: [(&str, Figure); 3] = [
        ("threads", |usage| usage.threads as u64),
        ("fds", |usage| usage.fds as u64),
        ("rss in kB", |usage| usage.rss / 1024),
    ];
    for (what, figure) in figures {
        let mean = |of: &[Usage]| of.iter().map(figure).sum::<u64>() as f64 / of.len() as f64;
        let (least, most) = (
            samples.iter().map(figure).min(),
            samples.iter().map(figure).max(),
        );
        println!(
            "  {who}, {what}: {:.1} in the first tenth, {:.1} in the last; {} to {}",
            mean(first),
            mean(last),
            least.unwrap_or_default(),
            most.unwrap_or_default()
        );
    }
}
