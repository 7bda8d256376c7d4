// SPDX-License-Identifier: BSD-2-Clause

//! Counters of message-signalled interrupts, to be polled or waited for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often each of a function's vectors was raised.
pub struct Interrupts {
    counts: Box<[AtomicU64]>,
    strays: AtomicU64,
    waiters: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Interrupts {
    /// Counters for `vectors` vectors, all 0.
    pub fn new(vectors: usize) -> Interrupts {
        Interrupts {
            counts: (0..vectors).map(|_| AtomicU64::new(0)).collect(),
            strays: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// Counts one interrupt of `vector` and wakes whoever waits.
    pub fn raise(&self, vector: usize) {
        self.counts.get(vector).unwrap_or(&self.strays).fetch_add(1, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// How often `vector` was raised.
    pub fn count(&self, vector: usize) -> u64 {
        self.counts.get(vector).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// How often any vector was raised.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// How many messages named a vector that does not exist.
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::SeqCst)
    }

    /// Waits until `vector` was raised more often than `seen` times, `limit`
    /// at most; returns how often by now.
    pub fn wait(&self, vector: usize, seen: u64, limit: Duration) -> u64 {
        if self.count(vector) > seen {
            return self.count(vector);
        }
        let end = Instant::now() + limit;
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.count(vector) <= seen {
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            guard =
                self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(guard);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        self.count(vector)
    }
}
