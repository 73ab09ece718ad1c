//! The time a server that owes an answer may say nothing.

use std::time::Duration;

const SHORT: Duration = Duration::from_secs(5);
/// Session timeouts beyond these are none that an ensemble grants for good: what is derived from them stays sensible.
const SESSION_TIMEOUTS: [Duration; 2] = [Duration::from_millis(150), Duration::from_secs(600)];

/// Short, to notice dead servers; doubled after each, to spare slow ones: giving those up and beginning anew, as all
/// other programs do too, only makes them slower.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyTimeout {
    /// The shortest it ever is, which is also the time between two signs of life to a server.
    pub(super) least: Duration,
    /// The longest it ever is: two thirds of the session timeout.
    pub(super) longest: Duration,
    pub(super) now: Duration,
}

impl ReplyTimeout {
    pub(super) fn new(session_timeout: Duration) -> ReplyTimeout {
        let [shortest, longest] = SESSION_TIMEOUTS;
        let session_timeout = session_timeout.clamp(shortest, longest);
        let least = (session_timeout / 3).min(SHORT);
        ReplyTimeout {
            least,
            longest: session_timeout * 2 / 3,
            now: least,
        }
    }

    /// Notes that a server was given up. The next one is given twice the time.
    pub(super) fn missed(&mut self) {
        self.now = (self.now * 2).min(self.longest);
    }

    /// Notes that an answer took so long.
    pub(super) fn answered(&mut self, after: Duration) {
        if after < self.least / 2 {
            self.now = self.least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_servers_are_slow_and_is_as_before_when_one_is_quick() {
        let seconds = Duration::from_secs;
        let mut timeout = ReplyTimeout::new(seconds(30));
        assert_eq!((timeout.least, timeout.now), (seconds(5), seconds(5)));
        let mut after = |answered| {
            timeout.missed();
            timeout.answered(answered);
            timeout.now
        };
        assert_eq!(after(seconds(9)), seconds(10));
        assert_eq!(after(seconds(3)), seconds(20));
        assert_eq!(after(seconds(3)), seconds(20), "the session ends after 30");
        assert_eq!(after(seconds(2)), seconds(5));
    }

    #[test]
    fn it_is_a_third_of_a_short_session_timeout() {
        let mut timeout = ReplyTimeout::new(Duration::from_secs(6));
        assert_eq!(timeout.now, Duration::from_secs(2));
        (0..9).for_each(|_| timeout.missed());
        assert_eq!(timeout.now, Duration::from_secs(4));
    }

    #[test]
    fn a_strange_session_timeout_makes_no_strange_reply_timeout() {
        let none = ReplyTimeout::new(Duration::ZERO);
        assert_eq!(none.now, Duration::from_millis(50));
        let mut endless = ReplyTimeout::new(Duration::MAX);
        (0..99).for_each(|_| endless.missed());
        assert_eq!(endless.now, Duration::from_secs(400));
    }
}
