//! Frames: their lengths, and how they arrive.

use crate::bed::{Bed, TIMEOUT};
use crate::cases::{Case, survives};
use crate::peer::SOON;
use party_testing::hostile::{Action, Asked, counted, event, reply};
use party_testing::until;
use std::time::{Duration, Instant};

/// A length, and nothing behind it.
fn length(length: i32) -> Vec<u8> {
    length.to_be_bytes().to_vec()
}

fn sends(name: &str, bytes: Vec<u8>) -> Case {
    Case::of_any(name, move |_| vec![Action::Send(bytes.clone())])
}

#[test]
fn a_frame_of_an_impossible_length_ends_its_connection_only() {
    let cases = || {
        let frames = [
            ("a length of -1", length(-1)),
            ("the smallest length", length(i32::MIN)),
            ("the largest length", length(i32::MAX)),
            ("no length", length(0)),
            ("many of no length", vec![0; 400_000]),
            ("a length and no header", counted(&[0; 3])),
            ("half a length", vec![0, 0]),
        ];
        frames.map(|(name, bytes)| sends(name, bytes)).into()
    };
    survives(cases(), cases());
}

/// A reply that claims to have so many bytes, and its header.
fn claim(asked: &Asked, bytes: i32) -> Action {
    let header = asked.reply(0, b"")[4..].to_vec();
    Action::Send([length(bytes), header].concat())
}

#[test]
fn a_reply_that_claims_more_than_can_have_been_asked_for_takes_no_memory() {
    let cases = || {
        let claimed = |bytes: i32| {
            let name = format!("a claim of {bytes} bytes");
            Case::of_any(name, move |asked| vec![claim(asked, bytes)])
        };
        [900 << 20, 100 << 20, 20 << 20].map(claimed).into()
    };
    survives(cases(), cases());
}

#[test]
fn a_reply_that_is_far_too_long_takes_no_memory() {
    let cases = || {
        let long = |asked: &Asked| {
            let body = Action::Flood(vec![1; 1 << 20].into());
            vec![claim(asked, 100 << 20), body]
        };
        vec![Case::of_any("100 MiB for a reply", long)]
    };
    survives(cases(), cases());
}

#[test]
fn a_reply_that_trickles_does_not_outlast_the_reply_timeout() {
    trickles(TIMEOUT, Duration::from_secs(10), 3);
}

#[test]
#[ignore = "takes 100 s; the test above is the same, and shorter"]
fn replies_may_trickle_for_100_seconds() {
    trickles(Duration::from_secs(15), Duration::from_secs(100), 8);
}

/// Has every reply on both sides trickle for some time, and expects so many connections to be given up.
fn trickles(session_timeout: Duration, time: Duration, given_up: usize) {
    let mut bed = Bed::with(session_timeout);
    bed.attack_requests(|asked| {
        // An event or two among it: that something arrives is no reason to wait longer.
        let slow = [event(3, b"/a"), asked.reply(0, &[0; 4000])].concat();
        vec![Action::Trickle(slow, 20)]
    });
    let (until_then, before) = (Instant::now() + time, greetings(&bed));
    while Instant::now() < until_then {
        bed.call_all();
        bed.check_flat();
    }
    let ended = greetings(&bed).into_iter().zip(before);
    let ended: Vec<usize> = ended.map(|(now, before)| now - before).collect();
    println!("{ended:?} connections were given up in {time:?}");
    assert!(ended.iter().all(|ended| *ended >= given_up), "{ended:?}");
    bed.check_memory();
    bed.recover();
}

fn greetings(bed: &Bed) -> [usize; 2] {
    bed.servers().map(|server| server.greetings().len())
}

#[test]
fn calls_and_the_end_are_in_time_while_nothing_is_answered() {
    let attacks: [fn(&Asked) -> Vec<Action>; 4] = [
        |_| vec![],
        |_| vec![Action::Close],
        |_| vec![Action::Trickle(reply(0, 0, &[0; 1000]), 20)],
        |_| vec![Action::Flood(event(1, b"/a").into())],
    ];
    std::thread::scope(|scope| {
        for attack in attacks {
            scope.spawn(move || {
                let mut bed = Bed::start();
                bed.attack_requests(attack);
                bed.call_all();
                bed.peer.check_lookups();
                bed.peer.finish();
            });
        }
    });
}

#[test]
fn a_server_that_falls_silent_is_left_for_a_connection_that_answers() {
    let mut bed = Bed::start();
    let before = greetings(&bed);
    let first = before.into_iter().max().unwrap_or_default();
    bed.attack(move |asked| match asked.connection < first {
        true => Vec::new(),
        false => vec![Action::Honest],
    });
    until("both sides have left", SOON, || {
        let now = greetings(&bed).into_iter().zip(before);
        now.into_iter().all(|(now, before)| now > before)
    });
    bed.call_all();
    bed.recover();
}
