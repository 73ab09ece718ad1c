//! Greetings: what a session is granted with, and how often one is asked for.

use crate::bed::{Bed, TIMEOUT, check_cpu};
use crate::cases::{Case, at_once, run};
use party_testing::hostile::{Action, Asked, What, counted};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So often may a side greet in a second, on average over `WINDOW`.
const MOST_GREETINGS: f64 = 3.0;
const WINDOW: Duration = Duration::from_secs(5);
/// At first a side may be quicker.
const AT_FIRST: Duration = Duration::from_secs(2);

type Bytes = fn(&Asked) -> Vec<u8>;

impl Bed {
    /// Grants sessions with these bytes from now on.
    fn grant(&self, bytes: Bytes) {
        for server in self.servers() {
            server.attack(move |asked| match asked.what {
                What::Greeting => vec![Action::Send(bytes(asked))],
                _ => vec![Action::Honest],
            });
        }
    }
}

/// The honest grant with other bytes at an offset. There are the version at 0, the timeout at 4, the id at 8, the
/// length of the password at 16, the password at 20 and a flag at 36.
fn with(asked: &Asked, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut grant = asked.honest.clone();
    grant[4 + at..][..bytes.len()].copy_from_slice(bytes);
    grant
}

fn timeout(asked: &Asked, millis: i32) -> Vec<u8> {
    with(asked, 4, &millis.to_be_bytes())
}

fn password(asked: &Asked, length: i32) -> Vec<u8> {
    with(asked, 16, &length.to_be_bytes())
}

fn cut(asked: &Asked, length: usize) -> Vec<u8> {
    counted(&asked.honest[4..][..length])
}

const FRAMES: [(&str, Bytes); 11] = [
    ("a claim of 900 MiB", |_| {
        (900_i32 << 20).to_be_bytes().to_vec()
    }),
    ("2 KiB", |asked| {
        counted(&[&asked.honest[4..], &[0; 2048]].concat())
    }),
    ("no length", |_| vec![0; 4]),
    ("the largest length", |_| i32::MAX.to_be_bytes().to_vec()),
    ("a negative length", |_| (-1_i32).to_be_bytes().to_vec()),
    ("no password", |asked| cut(asked, 16)),
    ("half a password", |asked| cut(asked, 28)),
    ("a password of length -1", |asked| password(asked, -1)),
    ("a password of the largest length", |asked| {
        password(asked, i32::MAX)
    }),
    ("a password longer than the frame", |asked| {
        password(asked, 18)
    }),
    ("another protocol", |_| {
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()
    }),
];

const GRANTS: [(&str, Bytes); 10] = [
    ("no timeout", |asked| timeout(asked, 0)),
    ("a timeout of -1", |asked| timeout(asked, -1)),
    ("the smallest timeout", |asked| timeout(asked, i32::MIN)),
    ("a timeout of 1 ms", |asked| timeout(asked, 1)),
    ("the largest timeout", |asked| timeout(asked, i32::MAX)),
    ("the session 0", |asked| with(asked, 8, &[0; 8])),
    ("another session", |asked| with(asked, 8, &[9; 8])),
    ("a negative session", |asked| with(asked, 8, &[255; 8])),
    ("another version", |asked| with(asked, 0, &[0, 0, 0, 9])),
    ("reads only", |asked| with(asked, 36, &[1])),
];

/// Sends what is none on every greeting, while a process connects for the first time.
fn connects(attacks: &'static [(&'static str, Bytes)]) {
    let mut bed = Bed::unconnected(TIMEOUT);
    for (name, bytes) in attacks {
        bed.grant(*bytes);
        println!("{name}: {:?}", bed.peer.connect());
        bed.await_attacks();
    }
    bed.check_memory();
    bed.behave();
    bed.begin();
    bed.recover();
}

#[test]
fn a_program_that_connects_survives_grants_that_are_none() {
    let parts = |attacks: &'static [(&'static str, Bytes)]| attacks.chunks(3);
    let parts = parts(&FRAMES).chain(parts(&GRANTS));
    let part = |part| -> Box<dyn FnOnce() + Send> { Box::new(move || connects(part)) };
    at_once(parts.map(part).collect());
}

/// Has a connected process greet again and again, and be answered each of these once.
fn resumes(attacks: &[(&'static str, Bytes)]) {
    let mut bed = Bed::start();
    let cases = || {
        let greetings = attacks.iter().map(|&(name, bytes)| {
            Case::of_greeting(name, move |asked| vec![Action::Send(bytes(asked))])
        });
        // A grant that is taken is met with the end of the connection, and so is the one there is.
        let ends = (0..=attacks.len()).map(|_| Case::of_any("the end", |_| vec![Action::Close]));
        ends.chain(greetings).collect()
    };
    run(&mut bed, cases(), cases());
    bed.check_memory();
    bed.recover();
}

#[test]
fn a_session_that_is_taken_up_survives_grants_that_are_none() {
    at_once(vec![
        Box::new(|| resumes(&FRAMES)),
        Box::new(|| resumes(&GRANTS)),
    ]);
}

#[test]
fn a_session_timeout_of_a_millisecond_keeps_nobody_busy() {
    let mut bed = Bed::unconnected(TIMEOUT);
    bed.grant(|asked| timeout(asked, 1));
    println!("{:?}", bed.peer.connect());
    let began = Instant::now();
    check_cpu(bed.cpu_over(Duration::from_secs(5)));
    check_greetings(&bed, began);
    bed.behave();
    bed.begin();
    bed.recover();
}

#[test]
fn a_server_whose_answer_to_the_word_never_ends_is_not_waited_for() {
    let mut bed = Bed::unconnected(TIMEOUT);
    let answer: Arc<[u8]> = b"Mode: \x1b[31m\n".repeat(10_000).into();
    for server in bed.servers() {
        let answer = answer.clone();
        server.attack(move |asked| match asked.what {
            What::Word => vec![Action::Flood(answer.clone())],
            _ => vec![Action::Honest],
        });
    }
    println!("{:?}", bed.peer.connect());
    bed.check_memory();
    bed.behave();
    bed.begin();
    bed.recover();
}

#[test]
fn a_server_that_grants_and_closes_is_not_asked_all_the_time() {
    refuses(Duration::from_secs(20), |asked| match asked.what {
        What::Word => vec![Action::Honest],
        What::Greeting => vec![Action::Honest, Action::Close],
        What::Request(_) => vec![Action::Close],
    });
}

#[test]
fn a_server_that_ends_every_greeting_is_not_asked_all_the_time() {
    refuses(Duration::from_secs(8), |asked| match asked.what {
        What::Word => vec![Action::Honest],
        _ => vec![Action::Close],
    });
}

/// Does this for some time, and makes sure that it is asked for rarely and costs nothing that is not given back.
fn refuses(time: Duration, script: fn(&Asked) -> Vec<Action>) {
    let mut bed = Bed::start();
    bed.attack(script);
    let began = Instant::now();
    while began.elapsed() < time {
        bed.call_all();
        println!("{:.1?} {:?}", began.elapsed(), bed.peer.usage());
    }
    check_greetings(&bed, began);
    bed.check_flat();
    bed.check_memory();
    bed.recover();
}

/// Makes sure that no side greeted too often since a moment.
fn check_greetings(bed: &Bed, began: Instant) {
    for server in bed.servers() {
        let greetings = server.greetings();
        let settled = greetings.iter().filter(|at| **at > began + AT_FIRST);
        let settled: Vec<&Instant> = settled.collect();
        let within = |from: &Instant| {
            let window = settled
                .iter()
                .filter(|at| **at > from && ***at < *from + WINDOW);
            window.count()
        };
        let most = settled.iter().map(|from| within(from)).max().unwrap_or(0);
        println!("at most {most} greetings in {WINDOW:?}");
        assert!(
            most as f64 <= MOST_GREETINGS * WINDOW.as_secs_f64(),
            "{most}"
        );
    }
}
