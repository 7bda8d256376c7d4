// SPDX-License-Identifier: BSD-2-Clause

//! An interrupt line: counted, and woken by, as a vCPU in HLT is.
//!
//! A raise costs one atomic addition, and one system call only if the vCPU
//! sleeps. That is what a hypervisor does, less the VM exits.

use super::system::{wait_while, wake_one};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One vector's line to the one thread that waits for it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Line {
    raised: AtomicU32,
    /// [`ASLEEP`] or [`AWAKE`]: what the one who waits sleeps on. A raise that
    /// is late, and wakes nobody, may take back what the next sleep has said:
    /// then that sleep does not begin.
    sleep: AtomicU32,
}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

impl Line {
    /// Raises the interrupt. Never waits. Returns whether somebody was woken.
    pub(crate) fn raise(&self) -> bool {
        self.raised.fetch_add(1, Ordering::SeqCst);
        self.wake()
    }

    /// Wakes who sleeps; whether somebody does.
    fn wake(&self) -> bool {
        let wake = self.sleep.load(Ordering::SeqCst) == ASLEEP
            && self.sleep.swap(AWAKE, Ordering::SeqCst) == ASLEEP;
        if wake {
            wake_one(&self.sleep);
        }
        wake
    }

    /// How often it was raised, modulo 2^32.
    pub(crate) fn count(&self) -> u32 {
        self.raised.load(Ordering::SeqCst)
    }

    /// Sleeps until the count differs from `seen`; false if `limit` passes
    /// first.
    pub(crate) fn wait(&self, seen: u32, limit: Duration) -> bool {
        while self.count() == seen {
            self.sleep.store(ASLEEP, Ordering::SeqCst);
            // The system compares once more, so that no raise is missed.
            let in_time = self.count() != seen || wait_while(&self.sleep, ASLEEP, limit);
            self.sleep.store(AWAKE, Ordering::SeqCst);
            if !in_time {
                return self.count() != seen;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raise_wakes_and_is_counted() {
        let line = Line::default();
        assert!(!line.wait(0, Duration::from_millis(5)));
        std::thread::scope(|scope| {
            let woken = scope.spawn(|| line.wait(0, Duration::from_secs(10)));
            line.raise();
            assert!(woken.join().unwrap());
        });
        assert_eq!(line.count(), 1);
        assert!(line.wait(0, Duration::ZERO), "raised before it was waited for");
    }

    /// One that was held up after it had counted, until the next sleep.
    #[test]
    fn a_raise_that_is_late_does_not_hide_the_next() {
        let line = Line::default();
        let until_asleep = || {
            while line.sleep.load(Ordering::SeqCst) != ASLEEP {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let woken = scope.spawn(|| line.wait(0, Duration::from_secs(100)));
            until_asleep();
            assert!(line.wake(), "nobody slept");
            until_asleep();
            assert!(line.raise(), "nobody sleeps");
            assert!(woken.join().unwrap());
        });
    }

    #[test]
    fn no_raise_is_lost_between_two_threads() {
        let (ping, pong) = (Line::default(), Line::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..2000 {
                    assert!(ping.wait(turn, Duration::from_secs(10)));
                    pong.raise();
                }
            });
            for turn in 0..2000 {
                ping.raise();
                assert!(pong.wait(turn, Duration::from_secs(10)));
            }
        });
    }
}
