// SPDX-License-Identifier: BSD-2-Clause

//! What the calling thread has cost so far.

use std::mem::MaybeUninit;
use std::time::Duration;

/// What the calling thread has cost so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How often it gave up its processor to wait for something.
    pub waits: u64,
    /// How often its processor was taken away.
    pub preemptions: u64,
}

impl Usage {
    /// Of the calling thread, now.
    pub fn now() -> Usage {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` has room for what the call fills in.
        let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        assert_eq!(result, 0, "getrusage");
        // SAFETY: zeroed, and filled in by the call.
        let usage = unsafe { usage.assume_init() };
        Usage { waits: usage.ru_nvcsw as u64, preemptions: usage.ru_nivcsw as u64 }
    }
}

/// Processor time of the calling thread so far.
pub fn processor_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` has room for what the call fills in.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(result, 0, "clock_gettime");
    // SAFETY: zeroed, and filled in by the call.
    let time = unsafe { time.assume_init() };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_wait_and_costs_no_processor() {
        let (before, time) = (Usage::now(), processor_time());
        std::thread::park_timeout(Duration::from_millis(200));
        assert!(Usage::now().waits > before.waits);
        assert!(processor_time() - time < Duration::from_millis(100));
    }

    #[test]
    fn work_costs_processor_time() {
        let time = processor_time();
        while processor_time() - time < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
    }
}
