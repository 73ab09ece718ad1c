//! Limits retries to a share of the calls, so that an overload is not multiplied by the number of attempts.

use crate::config::RetryBudget;
use std::time::Instant;

/// Seconds for which a deposit is kept.
const KEPT: usize = 10;

// In thousandths of a retry. Finagle's retry budget has the same values.
const RETRY: u64 = 1000;
const FOR_EACH_CALL: u64 = 200;
const FOR_EACH_SECOND: u64 = 10 * RETRY;

/// The account of one service: calls and time deposit, retries withdraw.
///
/// A deposit expires after ten seconds, so that a quiet hour does not save up for a storm of retries. For this,
/// deposits are kept by the second in which they were made.
#[derive(Debug)]
pub(crate) struct RetryAccount {
    is_limited: bool,
    start: Instant,
    second: u64,
    by_second: [u64; KEPT],
}

impl RetryAccount {
    pub(crate) fn new(budget: RetryBudget, now: Instant) -> RetryAccount {
        RetryAccount {
            is_limited: budget.is_on,
            start: now,
            second: 0,
            // The account begins with the deposits of ten quiet seconds, so that the first calls can be retried too.
            by_second: [FOR_EACH_SECOND; KEPT],
        }
    }

    /// Makes the deposit of one call.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.advance(now);
        let slot = self.slot();
        self.by_second[slot] += FOR_EACH_CALL;
    }

    /// Pays for one retry with the oldest deposits. Returns whether there was enough.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        if !self.is_limited {
            return true;
        }
        self.advance(now);
        if self.by_second.iter().sum::<u64>() < RETRY {
            return false;
        }
        let (mut left, oldest) = (RETRY, self.slot() + 1);
        for age in 0..KEPT {
            let deposit = &mut self.by_second[(oldest + age) % KEPT];
            let taken = left.min(*deposit);
            *deposit -= taken;
            left -= taken;
        }
        true
    }

    fn slot(&self) -> usize {
        (self.second % KEPT as u64) as usize
    }

    /// Drops deposits that have expired, and makes the deposit of each second that has passed.
    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        let first = (self.second + 1).max(second.saturating_sub(KEPT as u64 - 1));
        for second in first..=second {
            self.second = second;
            let slot = self.slot();
            self.by_second[slot] = FOR_EACH_SECOND;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn withdrawn(account: &mut RetryAccount, now: Instant) -> usize {
        (0..10_000).take_while(|_| account.withdraw(now)).count()
    }

    #[test]
    fn a_fifth_of_the_calls_and_ten_calls_a_second_may_be_retried() {
        let start = Instant::now();
        let mut account = RetryAccount::new(RetryBudget::default(), start);
        assert_eq!(
            withdrawn(&mut account, start),
            100,
            "ten seconds without calls"
        );
        let mut retries = 0;
        for second in 1..=60 {
            let now = start + Duration::from_secs(second);
            for _ in 0..200 {
                account.deposit(now);
                retries += usize::from(account.withdraw(now));
            }
        }
        assert_eq!(retries, 60 * (10 + 40));
    }

    #[test]
    fn deposits_are_kept_for_ten_seconds() {
        let start = Instant::now();
        let mut account = RetryAccount::new(RetryBudget::default(), start);
        withdrawn(&mut account, start);
        (0..1000).for_each(|_| account.deposit(start));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(account.withdraw(after(9)));
        assert_eq!(withdrawn(&mut account, after(9)), 199 + 90);
        (0..1000).for_each(|_| account.deposit(after(9)));
        assert_eq!(withdrawn(&mut account, after(19)), 100);
        assert_eq!(withdrawn(&mut account, after(100_000)), 100);
        assert_eq!(withdrawn(&mut account, after(100_001)), 10);
    }

    #[test]
    fn without_a_budget_every_retry_is_allowed() {
        let now = Instant::now();
        let mut account = RetryAccount::new(RetryBudget::off(), now);
        assert_eq!(withdrawn(&mut account, now), 10_000);
    }
}
