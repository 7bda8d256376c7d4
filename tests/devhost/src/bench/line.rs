// SPDX-License-Identifier: BSD-2-Clause

//! An interrupt line: counted, and woken by, as a vCPU in HLT is.
//!
//! A raise costs one atomic addition, and one system call only if the vCPU
//! sleeps. That is what a hypervisor does, less the VM exits.

use super::system::{wait_while, wake_one};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// One vector's line to the one thread that waits for it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Line {
    raised: AtomicU32,
    asleep: AtomicBool,
}

impl Line {
    /// Raises the interrupt. Never waits. Returns whether somebody was woken.
    pub(crate) fn raise(&self) -> bool {
        self.raised.fetch_add(1, Ordering::SeqCst);
        let wake = self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst);
        if wake {
            wake_one(&self.raised);
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
            self.asleep.store(true, Ordering::SeqCst);
            // The system compares once more, so that no raise is missed.
            if self.count() == seen && !wait_while(&self.raised, seen, limit) {
                self.asleep.store(false, Ordering::SeqCst);
                return self.count() != seen;
            }
            self.asleep.store(false, Ordering::SeqCst);
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
