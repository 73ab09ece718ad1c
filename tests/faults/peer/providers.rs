//! Many services that are followed for a while, and some that are looked up by name.

use super::Link;
use party::{ServiceProvider, discovery};
use party_testing::until;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Says `done COMMAND` when all providers are there, and when they are dropped.
pub(super) fn run(link: &Link, count: usize) {
    discovery::connect_with(link.config()).unwrap();
    let mut providers = Vec::new();
    println!("ready");
    super::obey(|command| {
        let words: Vec<&str> = command.split(' ').collect();
        match *words.as_slice() {
            ["hold"] => providers = (0..count).map(provider).collect(),
            ["drop"] => providers.clear(),
            ["url", name] => println!("{command} {:?}", discovery::base_url(name, "")),
            _ => println!("unknown {command}"),
        }
        println!("done {command}");
    });
}

fn provider(number: usize) -> ServiceProvider {
    let provider = discovery::service_provider(&format!("dropped-{number}")).unwrap();
    // There may be none for a moment where it was dropped just now.
    until("the instance is there", SOON, || {
        provider.instances().unwrap().len() == 1
    });
    provider
}
