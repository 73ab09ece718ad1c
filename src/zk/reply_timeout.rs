//! The time for which a server that owes an answer may be silent.

use std::time::Duration;

const SHORT: Duration = Duration::from_secs(5);
/// The session timeouts that are sensible. Others are clamped, so that the times below stay sensible too.
const SESSION_TIMEOUTS: [Duration; 2] = [Duration::from_millis(150), Duration::from_secs(600)];

/// Short at first, to notice dead servers. Doubled after each silent server, to spare slow ones: reconnecting, as all
/// other programs do too, would only make them slower.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyTimeout {
    /// The shortest timeout, and the time between two pings.
    pub(super) least: Duration,
    /// The longest timeout: two thirds of the session timeout.
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

    /// Notes that a server was given up. The next one gets twice the time.
    pub(super) fn missed(&mut self) {
        self.now = (self.now * 2).min(self.longest);
    }

    /// Notes how long an answer took.
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
