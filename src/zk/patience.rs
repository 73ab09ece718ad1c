//! How long a server that owes an answer may say nothing.

use std::time::Duration;

const LEAST: Duration = Duration::from_secs(5);

/// Ends with servers that are gone without a word, and grows with those that have too much to do: to give up one of
/// those and begin anew, as all others do too, only makes it more.
pub(super) struct Patience {
    least: Duration,
    most: Duration,
    now: Duration,
}

impl Patience {
    pub(super) fn new(session_timeout: Duration) -> Patience {
        let least = (session_timeout / 3).min(LEAST);
        Patience {
            least,
            most: session_timeout * 2 / 3,
            now: least,
        }
    }

    /// How long it is at least, and how often a server is asked for a sign.
    pub(super) fn least(&self) -> Duration {
        self.least
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Notes that a server was given up. The next one is given twice the time.
    pub(super) fn ended(&mut self) {
        self.now = (self.now * 2).min(self.most);
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
        let mut patience = Patience::new(seconds(30));
        assert_eq!((patience.least(), patience.now()), (seconds(5), seconds(5)));
        let mut after = |answered| {
            patience.ended();
            patience.answered(answered);
            patience.now()
        };
        assert_eq!(after(seconds(9)), seconds(10));
        assert_eq!(after(seconds(3)), seconds(20));
        assert_eq!(after(seconds(3)), seconds(20), "the session ends after 30");
        assert_eq!(after(seconds(2)), seconds(5));
    }

    #[test]
    fn it_is_a_third_of_a_short_session_timeout() {
        let mut patience = Patience::new(Duration::from_secs(6));
        assert_eq!(patience.now(), Duration::from_secs(2));
        (0..9).for_each(|_| patience.ended());
        assert_eq!(patience.now(), Duration::from_secs(4));
    }
}
