// SPDX-License-Identifier: BSD-2-Clause

//! The synchronisation that the library's protocols are built on, in one place
//! so that a model checker can stand in for it (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread;

use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

/// A sequentially consistent fence right after an atomic read-modify-write of
/// the calling thread, which on x86 is a full barrier already: there, only the
/// compiler has to be told, and a second barrier is saved.
#[inline(always)]
pub(crate) fn fence_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// Parks the calling thread, for `limit` at most. The model checker has no
/// clock: there, only an unpark ends it.
pub(crate) fn park_timeout(limit: Duration) {
    #[cfg(loom)]
    {
        let _ = limit;
        thread::park();
    }
    #[cfg(not(loom))]
    thread::park_timeout(limit);
}

/// Measures time. The model checker has no clock: there, no time passes.
pub(crate) struct Stopwatch {
    #[cfg(not(loom))]
    start: std::time::Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch {
            #[cfg(not(loom))]
            start: std::time::Instant::now(),
        }
    }

    /// Since the start.
    pub(crate) fn nanoseconds(&self) -> u64 {
        #[cfg(loom)]
        return 0;
        #[cfg(not(loom))]
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Locks. What a mutex guards here is valid at every step, so that a holder
/// that panicked leaves nothing behind that must not be used.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], unless another thread has locked it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits until it is notified, or for no reason; as [`lock`].
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// A value on cache lines of its own, so that threads that use its neighbours
/// do not slow each other down. 128 bytes: processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
