//! Counts what a health check says in a row.

/// Follows a check, and tells when it has said the same for often enough to believe it.
#[derive(Debug)]
pub(super) struct Streak {
    out: u32,
    back: u32,
    is_out: bool,
    /// Verdicts in a row against what holds now.
    against: u32,
}

/// The consequence of a verdict, after so many in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Out(u32),
    Back(u32),
}

impl Streak {
    /// Begins with what is healthy: out after `out` failures in a row, back after `back` successes.
    pub(super) fn new(out: u32, back: u32) -> Streak {
        Streak {
            out,
            back,
            is_out: false,
            against: 0,
        }
    }

    pub(super) fn note(&mut self, healthy: bool) -> Option<Turn> {
        if healthy != self.is_out {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.is_out { self.back } else { self.out };
        if self.against < needed {
            return None;
        }
        let times = std::mem::take(&mut self.against);
        self.is_out = !self.is_out;
        Some(if self.is_out {
            Turn::Out(times)
        } else {
            Turn::Back(times)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(streak: &mut Streak, verdicts: &str) -> Vec<Option<Turn>> {
        verdicts
            .chars()
            .map(|verdict| streak.note(verdict == '+'))
            .collect()
    }

    #[test]
    fn only_failures_in_a_row_lead_out_and_only_successes_in_a_row_back() {
        let mut streak = Streak::new(3, 2);
        assert_eq!(turns(&mut streak, "+--+--+--"), [None; 9]);
        assert_eq!(turns(&mut streak, "-"), [Some(Turn::Out(3))]);
        assert_eq!(turns(&mut streak, "----+-+"), [None; 7]);
        assert_eq!(turns(&mut streak, "+"), [Some(Turn::Back(2))]);
        assert_eq!(turns(&mut streak, "+--"), [None; 3]);
        assert_eq!(turns(&mut streak, "-"), [Some(Turn::Out(3))]);
    }

    #[test]
    fn one_may_be_enough() {
        let mut streak = Streak::new(1, 1);
        let expected = [Some(Turn::Out(1)), None, Some(Turn::Back(1)), None];
        assert_eq!(turns(&mut streak, "--++"), expected);
    }

    #[test]
    fn the_verdicts_that_led_out_do_not_count_for_the_way_back() {
        let mut streak = Streak::new(3, 2);
        assert_eq!(
            turns(&mut streak, "--+---").last(),
            Some(&Some(Turn::Out(3)))
        );
        assert_eq!(turns(&mut streak, "++"), [None, Some(Turn::Back(2))]);
        assert_eq!(turns(&mut streak, "---"), [None, None, Some(Turn::Out(3))]);
    }
}
