// SPDX-License-Identifier: BSD-2-Clause

//! System calls of the engine's threads.

use std::mem::MaybeUninit;

/// Blocks all signals for the calling thread: bhyve handles its signals on
/// its own threads, and none may interrupt an I/O of ours.
pub(crate) fn block_all_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset(3) fills the set and touches nothing else.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: the set has been filled; only the calling thread's mask changes.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
}

/// How often a thread has left its CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Switches {
    /// Because it had to wait.
    pub(crate) voluntary: i64,
    /// Because another was to run.
    pub(crate) involuntary: i64,
}

/// How often the calling thread has left its CPU so far.
#[cfg(not(loom))]
pub(crate) fn switches() -> Switches {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage(2) fills the structure.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: the structure is of integers, and was zeroed at least.
    let usage = unsafe { usage.assume_init() };
    Switches { voluntary: usage.ru_nvcsw, involuntary: usage.ru_nivcsw }
}

/// The model checker's threads have no CPUs.
#[cfg(loom)]
pub(crate) fn switches() -> Switches {
    Switches::default()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_a_voluntary_switch() {
        let before = switches();
        std::thread::park_timeout(std::time::Duration::from_millis(5));
        assert!(switches().voluntary > before.voluntary);
    }
}
