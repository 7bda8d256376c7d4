// SPDX-License-Identifier: BSD-2-Clause

//! When completions share an interrupt: by the engine's own choice while the
//! store is quick, and as the guest asks (Interrupt Coalescing and Interrupt
//! Vector Configuration, features 08h and 09h).

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// 65 vectors.
const WORDS: usize = 2;

pub(crate) struct Coalescing {
    /// Dword 11 of Set Features: Aggregation Time in bits 15:8, in units of 100
    /// microseconds, Aggregation Threshold in bits 7:0, zero-based.
    setting: AtomicU32,
    /// Coalescing Disable of each vector.
    disabled: [AtomicU64; WORDS],
}

/// After which completions to raise an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// As soon as so many wait for it, as the guest has asked.
    At(u32),
    /// By the engine's own choice: from so many on, and when no more come.
    Few(u32),
}

/// So many times the usual number of completions share an interrupt at most.
const MOST: u32 = 4;

impl Due {
    /// Whether the guest has asked for it: then the end of a batch changes
    /// nothing.
    pub(super) fn is_asked(self) -> bool {
        matches!(self, Due::At(_))
    }

    /// Whether it is time, with `waiting` completions and `to_come` more.
    pub(super) fn is_now(self, waiting: u32, to_come: impl FnOnce() -> u32) -> bool {
        match self {
            Due::At(at) => waiting >= at,
            Due::Few(few) => {
                let to_come = to_come();
                let most = few.saturating_mul(MOST);
                to_come == 0 || (waiting >= few && waiting >= to_come.min(most))
            }
        }
    }
}

impl Coalescing {
    pub(super) fn new() -> Coalescing {
        Coalescing {
            setting: AtomicU32::new(0),
            disabled: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Interrupt Coalescing, as dword 11 of Set Features has it.
    pub(crate) fn set(&self, setting: u32) {
        self.setting.store(setting, Ordering::Relaxed);
    }

    /// Coalescing Disable of `vector`.
    pub(crate) fn set_disabled(&self, vector: u16, disabled: bool) {
        let Some(word) = self.disabled.get(usize::from(vector / 64)) else { return };
        let bit = 1u64 << (vector % 64);
        if disabled {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_disabled(&self, vector: u16) -> bool {
        let word = self.disabled.get(usize::from(vector / 64));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (vector % 64) & 1 != 0)
    }

    /// As after a reset.
    pub(crate) fn reset(&self) {
        self.set(0);
        self.disabled.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The guest's Aggregation Time; `None` if it does not ask for coalescing.
    /// A threshold of one and no time both mean that it does not.
    pub(super) fn time(&self) -> Option<Duration> {
        let setting = self.setting.load(Ordering::Relaxed);
        let (threshold_z, time) = (setting & 0xff, setting >> 8 & 0xff);
        let asked = threshold_z != 0 && time != 0;
        asked.then(|| Duration::from_micros(u64::from(time).saturating_mul(100)))
    }

    /// For a queue of `capacity` entries that reports to `vector`; by the
    /// engine's own choice `few` completions share an interrupt.
    pub(super) fn due(&self, vector: u16, capacity: u32, few: u32) -> Due {
        // The guest of a queue that is half full may wait for room.
        let half = capacity.wrapping_add(1) / 2;
        if self.is_disabled(vector) {
            return Due::At(1);
        }
        if self.time().is_some() {
            let threshold_z = self.setting.load(Ordering::Relaxed) & 0xff;
            let at = threshold_z.wrapping_add(1).min(half);
            return Due::At(at.max(1));
        }
        Due::Few(few.min(half).max(1))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_guest_asks_with_threshold_and_time() {
        let coalescing = Coalescing::new();
        let own = Due::Few(8);
        for (setting, time, due) in [
            (0x0000, None, own),
            (0x0500, None, own),
            (0x0007, None, own),
            (0x0503, Some(500), Due::At(4)),
            (0xffff, Some(25_500), Due::At(32)),
        ] {
            coalescing.set(setting);
            assert_eq!(coalescing.time(), time.map(Duration::from_micros), "{setting:#x}");
            assert_eq!(coalescing.due(0, 63, 8), due, "{setting:#x}");
        }
    }

    #[test]
    fn vectors_are_taken_out_one_by_one() {
        let coalescing = Coalescing::new();
        coalescing.set(0x0103);
        let at_once = Due::At(1);
        for vector in [0, 1, 63, 64] {
            assert_ne!(coalescing.due(vector, 63, 8), at_once);
            coalescing.set_disabled(vector, true);
            assert_eq!(coalescing.due(vector, 63, 8), at_once);
        }
        assert_ne!(coalescing.due(2, 63, 8), at_once);
        coalescing.set_disabled(64, false);
        assert_ne!(coalescing.due(64, 63, 8), at_once);
        coalescing.reset();
        assert_eq!(coalescing.due(63, 63, 8), Due::Few(8));
        coalescing.set_disabled(u16::MAX, true);
        assert_ne!(coalescing.due(u16::MAX, 63, 8), at_once);
    }

    #[test]
    fn small_queues_are_not_waited_full() {
        let coalescing = Coalescing::new();
        assert_eq!(coalescing.due(1, 1, 8), Due::Few(1));
        assert_eq!(coalescing.due(1, 3, 8), Due::Few(2));
        coalescing.set(0xffff);
        assert_eq!(coalescing.due(1, 1, 8), Due::At(1));
        assert_eq!(coalescing.due(1, 15, 1), Due::At(8));
    }

    #[test]
    fn a_few_share_an_interrupt_or_half_of_many() {
        let few = Due::Few(8);
        assert!(few.is_now(1, || 0), "depth 1 does not wait");
        assert!(!few.is_now(7, || 1));
        assert!(few.is_now(8, || 8));
        assert!(!few.is_now(8, || 24));
        assert!(few.is_now(16, || 16));
        assert!(few.is_now(32, || 65535));
        assert!(Due::Few(1).is_now(1, || 1));
        assert!(!Due::At(4).is_now(3, || 0) && Due::At(4).is_now(4, || 9));
    }
}
