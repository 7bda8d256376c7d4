// SPDX-License-Identifier: BSD-2-Clause

//! An interrupt line: counted, and woken by, as a vCPU in HLT is.
//!
//! A raise costs one atomic addition, and one system call only if the vCPU
//! sleeps. That is what a hypervisor does, less the VM exits.

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
            let woken = futex(&self.raised, libc::FUTEX_WAKE, 1, None);
            debug_assert_eq!(woken, Ok(()));
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
            if self.count() == seen
                && futex(&self.raised, libc::FUTEX_WAIT, seen, Some(limit)) == Err(libc::ETIMEDOUT)
            {
                self.asleep.store(false, Ordering::SeqCst);
                return self.count() != seen;
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
        true
    }
}

/// futex(2), within this process: 0 or the error's number.
fn futex(
    word: &AtomicU32,
    operation: libc::c_int,
    value: u32,
    limit: Option<Duration>,
) -> Result<(), i32> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word lives as long as the call, and so does the time.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, limit) };
    if result >= 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
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
