//! Requests that may be the reason why a server ends the connection.
//!
//! A server ends the connection if a request is longer than its `jute.maxbuffer`. It gives no reason, and every other
//! request in flight fails too. Therefore a request that was in flight at such an end is sent alone on the next
//! connection: after the requests before it are answered, and before any other request is sent. If the server ends that
//! connection too, this request is the cause. It is given up: it fails at once, and is sent again rarely.
//!
//! Example: the server takes 50 kB. A registration of 100 kB is sent together with five small ones, and the connection
//! ends. The six are sent again one by one. Five are answered. The large one ends the connection twice more, and is
//! refused from then on.

use super::{Failure, Request};
use crate::backoff::Backoff;
use crate::excerpt::excerpt;
use crate::log;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// Connections that the server has to end, with the request in flight, before the request is given up.
const GIVE_UP_AFTER: u32 = 3;
/// The pause before a request that was given up is sent again. It doubles each time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A request that was given up is forgotten if it is not sent for this long, although it may be: nothing wants it.
const FORGET_AFTER: Duration = Duration::from_secs(120);
/// From this size on, the length of a request is assumed to be the reason. Then longer requests are refused as well.
const LONG: usize = 16 << 10;

/// The requests that are sent alone, or not at all. They outlast their connection.
#[derive(Default)]
pub(super) struct Suspects {
    requests: HashMap<Request, Suspect>,
}

#[derive(Default)]
struct Suspect {
    size: usize,
    /// Connections that ended with the request in flight.
    ends: u32,
    given_up: Option<GivenUp>,
}

struct GivenUp {
    /// When the request may be sent again.
    due: Instant,
    backoff: Backoff,
}

/// The way in which a request may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Free,
    /// With no other request in flight.
    Alone,
    Refused(Failure),
}

impl Suspects {
    /// Returns how a request of this size may be sent.
    pub(super) fn verdict(&self, request: &Request, size: usize, now: Instant) -> Verdict {
        let refused = || Verdict::Refused(refusal(request, size));
        if self.requests.is_empty() {
            return Verdict::Free;
        }
        match self.requests.get(request) {
            Some(suspect) if suspect.rests(now) => return refused(),
            Some(_) => return Verdict::Alone,
            None => {}
        }
        match self.shortest_given_up(now) {
            Some(given_up) if size >= given_up => refused(),
            Some(given_up) if is_similar(size, given_up) => Verdict::Alone,
            _ => Verdict::Free,
        }
    }

    /// Notes that the server has answered a request.
    pub(super) fn answered(&mut self, request: &Request) {
        self.requests.remove(request);
    }

    /// Notes that the server has ended the connection with the requests `in_flight`, each with its size, and with others
    /// `waiting` to be sent. Returns true if that was to be expected: a request that was given up before was sent again.
    pub(super) fn ended<'a>(
        &mut self,
        in_flight: impl Iterator<Item = (&'a Request, usize)>,
        waiting: impl Iterator<Item = &'a Request>,
        now: Instant,
    ) -> bool {
        let shortest = self.shortest_given_up(now);
        let mut before = std::mem::take(&mut self.requests);
        let mut is_expected = false;
        for (request, size) in in_flight {
            let Entry::Vacant(vacant) = self.requests.entry(request.clone()) else {
                continue;
            };
            let is_similar = shortest.is_some_and(|shortest| is_similar(size, shortest));
            let new = || Suspect {
                size,
                ends: if is_similar { GIVE_UP_AFTER - 1 } else { 0 },
                given_up: None,
            };
            let suspect = vacant.insert(before.remove(request).unwrap_or_else(new));
            is_expected |= suspect.given_up.is_some();
            if suspect.ended(now) {
                let refusal = refusal(request, size);
                log::warn!("{refusal}. It is sent again rarely");
            }
        }
        let waiting = waiting.filter_map(|request| before.remove_entry(request));
        self.requests.extend(waiting);
        // The others are forgotten, so that they do not grow in number.
        before.retain(|_, suspect| suspect.is_given_up(now));
        self.requests.extend(before);
        is_expected
    }

    /// Returns the size of the shortest request that was given up for its length.
    fn shortest_given_up(&self, now: Instant) -> Option<usize> {
        let long = self.requests.values().filter(|it| it.size >= LONG);
        let given_up = long.filter(|suspect| suspect.is_given_up(now));
        given_up.map(|suspect| suspect.size).min()
    }
}

impl Suspect {
    /// Counts an end of the connection. Returns true if the request is given up now.
    fn ended(&mut self, now: Instant) -> bool {
        self.ends += 1;
        let is_new = self.given_up.is_none();
        if self.ends >= GIVE_UP_AFTER {
            let new = || GivenUp {
                due: now,
                backoff: Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE),
            };
            let given_up = self.given_up.get_or_insert_with(new);
            given_up.due = now + given_up.backoff.pause();
        }
        is_new && self.given_up.is_some()
    }

    fn rests(&self, now: Instant) -> bool {
        let given_up = self.given_up.as_ref();
        given_up.is_some_and(|given_up| now < given_up.due)
    }

    /// Returns whether it was given up, and is still wanted.
    fn is_given_up(&self, now: Instant) -> bool {
        let given_up = self.given_up.as_ref();
        given_up.is_some_and(|given_up| now < given_up.due + FORGET_AFTER)
    }
}

/// Returns whether a request is a suspect from the start, and one end of the connection is enough to give it up, because
/// a request of the size `given_up` was too long. The requests for one node have the same path, which may be the reason.
fn is_similar(size: usize, given_up: usize) -> bool {
    size >= given_up / 4
}

fn refusal(request: &Request, size: usize) -> Failure {
    let (_, doing, path) = request.described();
    let path = excerpt(path);
    let why = if size >= LONG {
        "; its jute.maxbuffer may be too small"
    } else {
        ""
    };
    Failure::Refused(format!(
        "zookeeper ends the connection when it is asked to {doing} {path} ({size} bytes){why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Request {
        Request::Children { path: path.into() }
    }

    /// Ends connections with a request of this size in flight. Returns how often that was to be expected.
    fn end(suspects: &mut Suspects, path: &str, size: usize, times: usize, now: Instant) -> usize {
        let request = request(path);
        let mut ended = |_: &usize| suspects.ended([(&request, size)].into_iter(), [].iter(), now);
        (0..times).filter(|at| ended(at)).count()
    }

    fn verdict(suspects: &Suspects, path: &str, size: usize, now: Instant) -> &'static str {
        match suspects.verdict(&request(path), size, now) {
            Verdict::Free => "free",
            Verdict::Alone => "alone",
            Verdict::Refused(_) => "refused",
        }
    }

    #[test]
    fn a_request_is_sent_alone_after_one_end_and_refused_after_three() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        assert_eq!(verdict(&suspects, "/a", 60, now), "free");
        for expected in ["alone", "alone", "refused"] {
            assert_eq!(end(&mut suspects, "/a", 60, 1, now), 0);
            assert_eq!(verdict(&suspects, "/a", 60, now), expected);
        }
        assert_eq!(verdict(&suspects, "/b", 60, now), "free");
        let Verdict::Refused(refusal) = suspects.verdict(&request("/a"), 60, now) else {
            panic!("it is not refused");
        };
        let expected = "zookeeper ends the connection when it is asked to list /a (60 bytes)";
        assert_eq!(refusal.to_string(), expected);
    }

    #[test]
    fn a_request_that_is_answered_is_no_suspect() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        end(&mut suspects, "/a", 60, 2, now);
        suspects.answered(&request("/a"));
        assert_eq!(verdict(&suspects, "/a", 60, now), "free");
        end(&mut suspects, "/a", 60, 2, now);
        assert_eq!(verdict(&suspects, "/a", 60, now), "alone");
    }

    #[test]
    fn a_request_that_was_given_up_is_sent_again_rarely() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        end(&mut suspects, "/a", 60, 3, start);
        let mut sent = Vec::new();
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            if verdict(&suspects, "/a", 60, now) == "alone" {
                assert_eq!(end(&mut suspects, "/a", 60, 1, now), 1, "no surprise");
                sent.push(second);
            }
        }
        let early = sent.iter().filter(|second| **second < 60).count();
        assert!((1..=3).contains(&early), "{sent:?}");
        assert!((12..=30).contains(&sent.len()), "{sent:?}");
        suspects.answered(&request("/a"));
        assert_eq!(verdict(&suspects, "/a", 60, start), "free");
    }

    #[test]
    fn longer_requests_are_refused_with_a_long_one_and_similar_ones_after_one_end() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        end(&mut suspects, "/long", 100_000, 3, now);
        assert_eq!(verdict(&suspects, "/longer", 100_001, now), "refused");
        assert_eq!(verdict(&suspects, "/similar", 60_000, now), "alone");
        assert_eq!(verdict(&suspects, "/short", 20_000, now), "free");
        end(&mut suspects, "/similar", 60_000, 1, now);
        assert_eq!(verdict(&suspects, "/similar", 60_000, now), "refused");
        assert_eq!(verdict(&suspects, "/shorter", 60_001, now), "refused");
        // Nothing sends them any longer, so they decide about no other.
        let later = now + LONGEST_PAUSE + FORGET_AFTER;
        assert_eq!(verdict(&suspects, "/longer", 100_001, later), "free");
        end(&mut suspects, "/small", 60, 3, now);
        assert_eq!(verdict(&suspects, "/b", 61, now), "free");
    }

    #[test]
    fn only_requests_that_are_still_wanted_are_remembered() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        let many: Vec<_> = (0..100).map(|n| request(&n.to_string())).collect();
        let in_flight = many.iter().map(|request| (request, 60));
        suspects.ended(in_flight, [].iter(), now);
        assert_eq!(suspects.requests.len(), 100);
        let (in_flight, waiting) = (&many[..1], &many[1..3]);
        let in_flight = in_flight.iter().map(|request| (request, 60));
        suspects.ended(in_flight, waiting.iter(), now);
        assert_eq!(suspects.requests.len(), 3);
        end(&mut suspects, "given up", 60, 3, now);
        assert_eq!(suspects.requests.len(), 1);
        let later = now + LONGEST_PAUSE + FORGET_AFTER;
        suspects.ended([].into_iter(), [].iter(), later);
        assert_eq!(suspects.requests.len(), 0);
    }
}
