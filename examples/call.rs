//! Calls the service `users` from four threads. Start `serve` a few times beside it, and kill some of them.
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
        // To read once more does no harm: whatever went wrong may go right elsewhere.
        text.map_err(Attempt::Elsewhere)
    })
}
