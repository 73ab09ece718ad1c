//! The cost of picking an instance, and how evenly picks are spread.

#[path = "../floor/mod.rs"]
mod floor;
#[path = "../memory/mod.rs"]
mod memory;
#[allow(dead_code, reason = "shared with another benchmark")]
#[path = "../server/rows.rs"]
mod rows;

use crate::table::{Bound, Table};
use floor::Floor;
use party::{Service, ServiceProvider, Strategy, discovery, registration};
use rows::Fastest;
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

const INSTANCES: usize = 1000;
const SOON: Duration = Duration::from_secs(10);

pub(crate) fn measure(table: &mut Table, names: &[&str]) {
    if !names.is_empty() && !names.contains(&"picks") {
        return;
    }
    memory::connect("picks");
    register("even", INSTANCES, |_| 1);
    register("weighted", INSTANCES, |id| 1 + id as u32 % 10);
    costs(table);
    spread(table);
    subsets(table);
}

fn register(name: &str, count: usize, weight: impl Fn(usize) -> u32) {
    let service = |id: usize| {
        let service = Service::new(name, 8000 + id as u16)
            .id(id.to_string())
            .weight(weight(id));
        service.uri_spec("/1.x/{territory}/users/{userid}")
    };
    registration::register_all((0..count).map(service)).unwrap();
}

fn built(name: &str, count: usize, strategy: Strategy) -> ServiceProvider {
    let provider = discovery::provider(name)
        .strategy(strategy)
        .build()
        .unwrap();
    provider.wait_for(count, SOON).unwrap();
    provider
}

/// The time of `url` with a strategy, and its bound.
struct Cost {
    title: &'static str,
    service: &'static str,
    strategy: Strategy,
    /// Times over the floor.
    bound: f64,
    alone: Fastest,
    two: Fastest,
}

impl Cost {
    fn of(title: &'static str, service: &'static str, strategy: Strategy, bound: f64) -> Cost {
        let (alone, two) = (Fastest::of(1), Fastest::of(2));
        Cost {
            title,
            service,
            strategy,
            bound,
            alone,
            two,
        }
    }

    /// Measures with this strategy as the default of the process.
    fn measure(&mut self) {
        discovery::connect_with(memory::config("picks").strategy(self.strategy)).unwrap();
        discovery::service_provider(self.service)
            .unwrap()
            .wait_for(INSTANCES, SOON)
            .unwrap();
        // `LeastLoaded` compares instances by the calls that it has seen.
        (0..INSTANCES).for_each(|_| discovery::begin(self.service).unwrap().succeeded());
        let url = || {
            let params: [(&str, &dyn std::fmt::Display); 2] =
                [("territory", &"GB"), ("userid", &42)];
            black_box(discovery::url(black_box(self.service), black_box(&params)).unwrap());
        };
        for _ in 0..15 {
            self.alone.round(url);
            self.two.round(url);
        }
    }

    fn show(&self, table: &mut Table, floor: f64) {
        let (title, bound) = (self.title, self.bound);
        let (alone, two) = (self.alone.per_call(), self.two.per_call());
        let (over, scales) = (alone / floor, 2.0 * alone / two);
        table.row(
            &format!("`url` with `{title}`, 1,000 instances: time over the floor"),
            &format!("{over:.2} ({alone:.0} ns)"),
            None,
            Some(Bound(&format!("≤ {bound:.2}"), over <= bound)),
        );
        table.row(
            "the same, lookups on two threads over one",
            &format!("{scales:.2}"),
            None,
            Some(Bound("≥ 1.90", scales >= 1.9)),
        );
    }
}

/// Measures the floor and every strategy by turns for over a minute, so that all of them meet the same slow seconds
/// of the machine.
fn costs(table: &mut Table) {
    use Strategy::{LeastLoaded, Random, RoundRobin};
    let mut costs = [
        Cost::of("Random", "even", Random, 2.0),
        Cost::of("RoundRobin", "even", RoundRobin, 2.0),
        Cost::of("Random by weight", "weighted", Random, 2.2),
        Cost::of("RoundRobin by weight", "weighted", RoundRobin, 2.2),
        Cost::of("LeastLoaded", "even", LeastLoaded, 2.6),
    ];
    let (least, mut floor) = (Floor::of(INSTANCES), Fastest::of(1));
    for _ in 0..60 {
        (0..15).for_each(|_| floor.round(|| drop(black_box(black_box(&least).url()))));
        costs.iter_mut().for_each(Cost::measure);
    }
    let floor = floor.per_call();
    let figure = "the floor of a lookup among 1,000 instances";
    table.row(figure, &format!("{floor:.0} ns"), None, None);
    costs.iter().for_each(|cost| cost.show(table, floor));
}

/// Returns how often each instance is picked.
fn picked(provider: &ServiceProvider, times: usize) -> HashMap<String, f64> {
    let mut picked = HashMap::new();
    for _ in 0..times {
        let instance = provider.instance().unwrap().unwrap();
        *picked.entry(instance.id().to_owned()).or_insert(0.0) += 1.0;
    }
    picked
}

fn imbalance(shares: &[f64]) -> f64 {
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    shares.iter().copied().fold(0.0, f64::max) / mean
}

fn spread(table: &mut Table) {
    let times = 100 * INSTANCES;
    let even: Vec<f64> = picked(&built("even", INSTANCES, Strategy::RoundRobin), times)
        .into_values()
        .collect();
    let weighted = picked(&built("weighted", INSTANCES, Strategy::RoundRobin), times);
    let weight = |id: &String| 1.0 + (id.parse::<usize>().unwrap() % 10) as f64;
    let weighted: Vec<f64> = weighted
        .iter()
        .map(|(id, times)| times / weight(id))
        .collect();
    let (even, weighted) = (imbalance(&even), imbalance(&weighted));
    table.row(
        "`RoundRobin`, 100,000 picks of 1,000 instances: most picks of an instance over the mean",
        &format!("{even:.2}"),
        None,
        Some(Bound("1.00", even < 1.005)),
    );
    table.row(
        "the same by weight, picks divided by weight",
        &format!("{weighted:.2}"),
        None,
        Some(Bound("≤ 1.05", weighted <= 1.05)),
    );
}

/// The result of one draw is a matter of luck. For ideal random subsets the median of many draws is 1.50, and nearly
/// half of the draws are above it.
fn subsets(table: &mut Table) {
    const DRAWS: usize = 501;
    register("many", 100, |_| 1);
    let draws: Vec<f64> = (0..DRAWS).map(|_| subset_imbalance()).collect();
    let uneven = rows::percentile(draws, 0.5);
    table.row(
        "subsets of 20 of 100 instances in 100 programs: most programs of an instance over the mean, \
         median of 501 draws",
        &format!("{uneven:.2}"),
        None,
        Some(Bound("≤ 1.50", uneven <= 1.5)),
    );
}

fn subset_imbalance() -> f64 {
    let mut programs = HashMap::new();
    for _ in 0..100 {
        discovery::connect_with(
            memory::config("picks")
                .subset(20)
                .strategy(Strategy::RoundRobin),
        )
        .unwrap();
        let provider = discovery::service_provider("many").unwrap();
        provider.wait_for(20, SOON).unwrap();
        let own = picked(&provider, 20);
        assert_eq!(own.len(), 20);
        own.into_keys()
            .for_each(|id| *programs.entry(id).or_insert(0.0) += 1.0);
    }
    let programs: Vec<f64> = programs.into_values().collect();
    imbalance(&programs)
}
