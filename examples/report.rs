//! Calls the service `users` with plain URLs and its own client, and reports failed calls.
//!
//! ```text
//! cargo run --example report
//! ```
#![allow(clippy::print_stdout)]

use party::{Outcome, discovery};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    discovery::connect()?;
    loop {
        let url = discovery::base_url("users", "")?;
        match get(&url) {
            Ok(answer) => println!("{url}: {} bytes", answer.len()),
            Err(error) => {
                // An instance that refuses connections is not picked again until it accepts one.
                discovery::report("users", &url, Outcome::from(&error));
                println!("{url}: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn get(url: &str) -> io::Result<String> {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
