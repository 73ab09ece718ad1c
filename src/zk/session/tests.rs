//! Tests a session against a server that answers byte by byte.

use super::*;
use crate::zk::connection::MAX_IN_FLIGHT;
use crate::zk::fake::{
    Greeting, ID, Running, SOON, Server, TIMEOUT, event, framed, grant, next, reply, send, settings,
};
use crate::zk::{Answer, Failure, Mode, Reply, Request};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

mod closing;
mod footprint;
mod frames;
mod greetings;
mod reasons;
mod requests;
mod silence;
mod suspects;
mod verdicts;

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const EXISTS: i32 = 3;
const PING: (i32, i32) = (-2, 11);
const AUTH: (i32, i32) = (-4, 100);
const CLOSE: i32 = -11;
const SHORT: Duration = Duration::from_millis(600);

fn create() -> Request {
    Request::Create {
        path: "/a".into(),
        data: [].into(),
        mode: Mode::Ephemeral,
    }
}

fn ok(xid: i32) -> Vec<u8> {
    reply(xid, 1, 0, &[])
}

fn is_lost(outcome: &Answer) -> bool {
    matches!(outcome, Err(Failure::Lost(_)))
}

/// Answers one request with this transaction.
fn have_answered(running: &Running, server: &mut TcpStream, zxid: i64) {
    let answer = running.send(create());
    let (xid, operation) = next(server);
    assert_eq!(operation, CREATE);
    server.write_all(&reply(xid, zxid, 0, &[])).unwrap();
    assert_eq!(answer.recv_timeout(SOON).unwrap(), Ok(Reply::Done));
}
