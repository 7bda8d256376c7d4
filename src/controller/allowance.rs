// SPDX-License-Identifier: BSD-2-Clause

//! Log lines that a guest can cause, bounded in time whatever it does.

use std::time::{Duration, Instant};

/// The most lines of one kind in one period.
const LINES: u32 = 4;
const PERIOD: Duration = Duration::from_secs(60);

/// A few lines at once, and as many again only after a while. Resets do not
/// renew it: a guest can reset as often as it likes.
pub(super) struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Allowance {
        Allowance { left: LINES, since: now }
    }

    /// Whether one more line may be written at `now`.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= PERIOD {
            *self = Allowance::new(now);
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gives_few_lines_in_each_period() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        for period in 0..5 {
            let told = (0..1000u32)
                .filter(|n| allowance.take(start + period * PERIOD + PERIOD / 1000 * *n))
                .count();
            assert_eq!(told, LINES as usize, "period {period}");
        }
    }
}
