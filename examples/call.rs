//! Calls the service `users` from four threads.
//!
//! Start the example `serve` a few times first, and kill some of these servers while this program runs. The calls to
//! them are retried on the others.
//!
//! ```text
//! cargo run --example call
//! ```
#![allow(clippy::print_stdout)]

use party::{Attempt, discovery};
use std::thread;
use std::time::Duration;

fn main() -> party::Result<()> {
    discovery::connect()?;
    // The servers may have been started a moment ago.
    discovery::service_provider("users")?.wait_for(1, Duration::from_secs(15))?;
    let second = Some(Duration::from_secs(1));
    let config = ureq::Agent::config_builder().timeout_global(second);
    let agent = ureq::Agent::new_with_config(config.build());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for id in 0.. {
                    match user(&agent, id) {
                        Ok(user) => print!("{user}"),
                        Err(error) => println!("{error:#}"),
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    Ok(())
}

fn user(agent: &ureq::Agent, id: u32) -> Result<String, party::CallError<ureq::Error>> {
    discovery::call("users", &[], |url| {
        let answer = agent.get(format!("{url}/users/{id}")).call();
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        // Reading a user again does no harm, so every failure may be retried on another instance.
        text.map_err(Attempt::Elsewhere)
    })
}
