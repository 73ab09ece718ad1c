//! Replies: their headers, their order, and what they claim to hold.

use crate::bed::Bed;
use crate::cases::{Case, LIMIT, at_once, survives};
use party_testing::hostile::{Action, Asked, Hostile, What, counted, op, reply};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What servers of other versions, or none, say; or what ends a session.
const CODES: [i32; 8] = [1, -9999, i32::MIN, i32::MAX, -4, -112, -115, -118];

fn int(value: i32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// Returns the honest reply with other bytes at an offset behind its length.
fn with(asked: &Asked, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut reply = asked.honest.clone();
    reply[4 + at..][..bytes.len()].copy_from_slice(bytes);
    reply
}

fn case(
    operation: i32,
    name: &str,
    sent: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
) -> Case {
    Case::of(operation, name, move |asked| {
        vec![Action::Send(sent(asked))]
    })
}

/// Wrong headers for an operation.
fn headers(operation: i32) -> Vec<Case> {
    let case = |name: &str, sent: fn(&Asked) -> Vec<u8>| case(operation, name, sent);
    let nobodys = |asked: &Asked| reply(asked.xid.wrapping_add(1000), 0, b"");
    let mut cases = vec![
        case("the next xid", |asked| with(asked, 0, &int(asked.xid + 1))),
        case("the smallest xid", |asked| with(asked, 0, &int(i32::MIN))),
        case("the xid of an event", |asked| with(asked, 0, &int(-1))),
        case("the xid of a ping", |asked| with(asked, 0, &int(-2))),
        case("the xid of credentials", |asked| with(asked, 0, &int(-4))),
        case("twice", |asked| asked.honest.repeat(2)),
        case("the last zxid", |asked| {
            with(asked, 4, &i64::MAX.to_be_bytes())
        }),
        case("a negative zxid", |asked| {
            with(asked, 4, &i64::MIN.to_be_bytes())
        }),
        Case::of(operation, "a reply that nobody asked for", move |asked| {
            vec![Action::Send(nobodys(asked)), Action::Honest]
        }),
        Case::of(
            operation,
            "a reply after that nobody asked for",
            move |asked| vec![Action::Honest, Action::Send(nobodys(asked))],
        ),
    ];
    cases.extend(CODES.map(|code| {
        let refusal = move |asked: &Asked| vec![Action::Send(asked.reply(code, b""))];
        Case::of(operation, format!("error {code}"), refusal)
    }));
    cases
}

/// Some of the wrong headers for a ping, which is sent only once in a while: all of them would take long.
fn headers_of_pings(first: usize) -> Vec<Case> {
    headers(op::PING)
        .into_iter()
        .skip(first)
        .step_by(3)
        .collect()
}

#[test]
fn replies_with_wrong_headers_are_survived() {
    let pings = |first| -> Box<dyn FnOnce() + Send> {
        Box::new(move || survives(headers_of_pings(first), headers_of_pings(first)))
    };
    at_once(vec![
        pings(0),
        pings(1),
        pings(2),
        Box::new(|| survives(headers(op::ADD_WATCH), headers(op::CREATE))),
        Box::new(|| survives(headers(op::GET_CHILDREN), headers(op::EXISTS))),
        Box::new(|| survives(headers(op::MULTI_READ), Vec::new())),
    ]);
}

/// A list with something behind its names. Its claim is by so much above what there is.
fn listed(name: &str, more: i32, behind: Vec<u8>) -> Case {
    case(op::GET_CHILDREN, name, move |asked| {
        let names = asked.body().get(4..).unwrap_or_default();
        let count = asked
            .body()
            .first_chunk()
            .map_or(0, |count| i32::from_be_bytes(*count));
        asked.reply(0, &[&int(count + more), names, &behind].concat())
    })
}

/// A list that claims to have so many names.
fn claimed(count: i32) -> Case {
    case(
        op::GET_CHILDREN,
        &format!("a list of {count}"),
        move |asked| {
            let names = asked.body().get(4..).unwrap_or_default();
            asked.reply(0, &[&int(count), names].concat())
        },
    )
}

#[test]
fn lists_that_are_none_are_survived() {
    let cases = vec![
        claimed(-1),
        claimed(i32::MIN),
        claimed(i32::MAX),
        claimed(100_000_000),
        claimed(1000),
        listed("one name too few", 1, Vec::new()),
        listed("a name of length -1", 1, int(-1)),
        listed("a name of the smallest length", 1, int(i32::MIN)),
        listed("a name of the largest length", 1, int(i32::MAX)),
        listed(
            "a name longer than the frame",
            1,
            [int(9), b"short".to_vec()].concat(),
        ),
        listed("a name that is no text", 1, counted(b"\xff\xfe")),
        listed(
            "a name that is cut in a character",
            1,
            counted(b"\xf0\x9f\x98"),
        ),
        listed("an empty name", 1, counted(b"")),
        listed("a name with slashes", 1, counted(b"../a//b/")),
        listed("a name with a zero", 1, counted(b"a\0b")),
        listed("a name that is there already", 1, counted(b"1")),
        listed("something behind the names", 0, vec![0; 100]),
        case(op::GET_CHILDREN, "nothing", |asked| asked.reply(0, b"")),
    ];
    survives(cases, Vec::new());
}

/// The head of one part of a reply to a read of many.
fn part(operation: i32, done: u8, error: i32) -> Vec<u8> {
    [int(operation), vec![done], int(error)].concat()
}

/// What is said at the end of a reply to a read of many.
fn end() -> Vec<u8> {
    part(-1, 1, -1)
}

fn read(name: &str, body: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Case {
    case(op::MULTI_READ, name, move |asked| {
        asked.reply(0, &body(asked.body()))
    })
}

/// A read of many whose first data claim to be so long.
fn data_of(length: i32) -> Case {
    read(&format!("data of length {length}"), move |honest| {
        [&honest[..9], &int(length), &honest[13..]].concat()
    })
}

#[test]
fn reads_that_are_none_are_survived() {
    let without_end = |honest: &[u8]| honest[..honest.len() - end().len()].to_vec();
    let no_data = |honest: &[u8]| {
        let length = i32::from_be_bytes(honest[9..13].try_into().unwrap());
        let rest = honest.get(13 + length as usize..).unwrap_or_default();
        [&honest[..9], &int(-1), rest].concat()
    };
    let refused = [part(-1, 0, -101), int(-101)].concat();
    let more = refused.clone();
    let cases = vec![
        data_of(-1),
        data_of(i32::MIN),
        data_of(i32::MAX),
        data_of(100_000_000),
        data_of(1000),
        read("no results", |_| end()),
        read("one result too many", move |honest| {
            [more.clone(), honest.to_vec()].concat()
        }),
        read("many results too many", move |honest| {
            [refused.repeat(100_000), honest.to_vec()].concat()
        }),
        read("one result too few", |honest| {
            honest[honest.len() / 2..].to_vec()
        }),
        read("no end", without_end),
        read("null for data", no_data),
        read("the result of another operation", |honest| {
            [&int(9), &honest[4..]].concat()
        }),
        read("an error that is none", |honest| {
            [part(-1, 0, 0), int(0), honest.to_vec()].concat()
        }),
        read("an unknown error", |_| {
            [part(-1, 0, -9999), int(-9999), end()].concat()
        }),
        read("something behind the end", |honest| {
            [honest, &[0; 100]].concat()
        }),
        read("nothing", |_| Vec::new()),
    ];
    survives(cases, Vec::new());
}

#[test]
fn other_replies_that_are_none_are_survived() {
    let created =
        |name: &str, path: Vec<u8>| case(op::CREATE, name, move |asked| asked.reply(0, &path));
    let registration = vec![
        created("a path of length -1", int(-1)),
        created("a path of the largest length", int(i32::MAX)),
        created(
            "a path longer than the frame",
            [int(9), b"/a".to_vec()].concat(),
        ),
        created("a path that is no text", counted(b"/\xff")),
        created("another path", counted(b"/another")),
        created("no path", Vec::new()),
        case(op::EXISTS, "no status", |asked| asked.reply(0, b"")),
        case(op::EXISTS, "half a status", |asked| {
            asked.reply(0, &[1; 34])
        }),
        case(op::EXISTS, "a status of ones", |asked| {
            asked.reply(0, &[255; 68])
        }),
        case(op::EXISTS, "two statuses", |asked| {
            asked.reply(0, &[0; 136])
        }),
    ];
    let watched = case(op::ADD_WATCH, "more than nothing", |asked| {
        asked.reply(0, &[1; 100])
    });
    survives(vec![watched], registration);
}

#[test]
fn replies_out_of_order_are_survived() {
    let mut bed = Bed::start();
    let held: Mutex<HashMap<usize, Vec<u8>>> = Mutex::default();
    bed.attack_requests(move |asked| {
        let mut held = held.lock().unwrap();
        match held.remove(&asked.connection) {
            Some(earlier) => vec![Action::Honest, Action::Send(earlier)],
            None => {
                held.insert(asked.connection, asked.honest.clone());
                Vec::new()
            }
        }
    });
    (0..2).for_each(|_| bed.call_all());
    bed.recover();
}

/// So many processes share the positions at which replies are cut.
const SHARE: usize = 8;
const OF_DISCOVERY: [What; 4] = [
    What::Greeting,
    What::Request(op::ADD_WATCH),
    What::Request(op::GET_CHILDREN),
    What::Request(op::MULTI_READ),
];
const OF_REGISTRATION: [What; 2] = [What::Request(op::EXISTS), What::Request(op::CREATE)];

/// What reply of one server is cut next, and where.
struct Cuts {
    whats: &'static [What],
    at: usize,
}

impl Cuts {
    fn attack(server: &Hostile, whats: &'static [What], at: usize) -> Arc<Mutex<Cuts>> {
        let cuts = Arc::new(Mutex::new(Cuts { whats, at }));
        let next = cuts.clone();
        server.attack(move |asked| next.lock().unwrap().act(asked));
        cuts
    }

    /// Cuts the reply, if it is its turn and not a refusal, and ends the connection.
    fn act(&mut self, asked: &Asked) -> Vec<Action> {
        let refused = asked.is_request() && asked.honest[16..20] != [0; 4];
        if refused || self.whats.first() != Some(&asked.what) {
            return vec![Action::Honest];
        }
        let Some(cut) = asked.honest[4..].get(..self.at) else {
            self.whats = &self.whats[1..];
            self.at %= SHARE;
            return vec![Action::Honest];
        };
        self.at += SHARE;
        vec![Action::Send(counted(cut)), Action::Close]
    }
}

/// Cuts replies at the positions that are this process's to cut.
fn cut(first: usize) {
    let mut bed = Bed::start();
    let all = [
        Cuts::attack(&bed.discovery, &OF_DISCOVERY, first),
        Cuts::attack(&bed.registration, &OF_REGISTRATION, first),
    ];
    let left = || {
        all.iter()
            .any(|cuts| !cuts.lock().unwrap().whats.is_empty())
    };
    let deadline = Instant::now() + LIMIT;
    bed.end_connections();
    while left() {
        bed.peer.call_all();
        assert!(Instant::now() < deadline, "not all was cut");
    }
    bed.check_memory();
    bed.recover();
}

#[test]
fn replies_cut_at_any_byte_are_survived() {
    let process = |first| -> Box<dyn FnOnce() + Send> { Box::new(move || cut(first)) };
    at_once((0..SHARE).map(process).collect());
}
