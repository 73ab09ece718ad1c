//! Addresses where no ZooKeeper answers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use party_testing::client::Client;
use party_testing::dead::Ending;
use party_testing::server::shared;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

#[test]
fn a_port_that_ends_connections_says_that_it_serves_and_notes_who_asks_for_a_session() {
    let ending = Ending::at("127.0.0.1:0");
    let mut stream = TcpStream::connect(ending.address()).unwrap();
    stream.write_all(b"srvr").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Mode: "));
    assert_eq!(ending.greetings(), []);
    Client::connect(&ending.address()).unwrap_err();
    let session = Client::connect(shared()).unwrap().session_id();
    Client::attach(&ending.address(), session).unwrap_err();
    let asked: Vec<i64> = ending.greetings().into_iter().map(|(_, id)| id).collect();
    assert_eq!(asked, [0, session]);
}

#[test]
fn a_port_that_ended_connections_is_free_for_another_server() {
    let ending = Ending::at("127.0.0.1:0");
    let (address, _open) = (ending.address(), TcpStream::connect(ending.address()));
    Client::connect(&address).unwrap_err();
    drop(ending);
    TcpListener::bind(address).unwrap();
}
