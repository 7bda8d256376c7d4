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
