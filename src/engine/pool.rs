// SPDX-License-Identifier: BSD-2-Clause

//! Which workers sleep, which look for work, and who wakes whom.
//!
//! A worker is **searching** while it is awake and looks at queues. The rule:
//! whoever makes work visible wakes a worker unless one is searching; a
//! searcher that finds work stops being one *before* it enters the backend,
//! and wakes the next if there is more. So a worker that is stuck in a slow
//! store never leaves a queue unseen, and a burst of work wakes workers one
//! after the other, not all at once.
//!
//! A worker that finds nothing says that it sleeps, stops searching, fences,
//! and looks once more; whoever makes work visible does so, fences, and then
//! looks for searchers and sleepers. One of the two sees the other.

use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence, fence_after_rmw};
use std::sync::OnceLock;

/// The most workers a pool can have.
pub(crate) const MAX_WORKERS: u16 = 256;

const WORDS: usize = (MAX_WORKERS / 64) as usize;

/// The threads that run I/O. Knows nothing of what they run.
pub(crate) struct Pool {
    /// Workers that search, and workers woken or being made to do so.
    searching: AtomicU32,
    /// Workers that sleep, one bit each.
    idle: [AtomicU64; WORDS],
    threads: Box<[OnceLock<Thread>]>,
    spawned: AtomicU32,
    stopping: AtomicBool,
}

/// What [`Pool::notify`] leaves to its caller.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Notified {
    /// Somebody looks, or will.
    Seen,
    /// All workers are busy and there may be more: one is to be made, which
    /// begins its life searching.
    Grow,
}

impl Pool {
    /// A pool of up to `limit` workers, none of them made yet.
    pub(crate) fn new(limit: u16) -> Pool {
        Pool {
            searching: AtomicU32::new(0),
            idle: std::array::from_fn(|_| AtomicU64::new(0)),
            threads: (0..limit.clamp(1, MAX_WORKERS)).map(|_| OnceLock::new()).collect(),
            spawned: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// Called after work was made visible: sees to it that a worker looks.
    pub(crate) fn notify(&self, has_work: impl Fn() -> bool) -> Notified {
        loop {
            // The exchange is a barrier, too, whether it succeeds or not.
            fence_after_rmw();
            if self.searching.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                return Notified::Seen;
            }
            // The searching counted above is handed to whoever is woken.
            if let Some(worker) = self.take_idle() {
                if let Some(thread) = self.threads.get(worker).and_then(OnceLock::get) {
                    thread.unpark();
                }
                return Notified::Seen;
            }
            if self.begin_growing() {
                return Notified::Grow;
            }
            self.searching.fetch_sub(1, Ordering::SeqCst);
            fence_after_rmw();
            // All are busy: each looks again when it is done. But one may have
            // gone to sleep since, and others may have relied on the count.
            if !self.any_idle() || !has_work() {
                return Notified::Seen;
            }
        }
    }

    /// Counts a worker that is about to be made; false if there are as many as
    /// may be.
    fn begin_growing(&self) -> bool {
        let limit = self.threads.len() as u32;
        self.spawned
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                (n < limit).then(|| n.wrapping_add(1))
            })
            .is_ok()
    }

    /// The worker that [`Notified::Grow`] asked for could not be made.
    pub(crate) fn growing_failed(&self) {
        self.spawned.fetch_sub(1, Ordering::SeqCst);
        self.searching.fetch_sub(1, Ordering::SeqCst);
    }

    /// A new worker takes its place; returns its number.
    pub(crate) fn join(&self) -> Option<usize> {
        let me = self.threads.iter().position(|slot| slot.set(thread::current()).is_ok());
        // Either `stop` finds the thread here, or the thread sees the stop.
        fence(Ordering::SeqCst);
        me
    }

    /// The calling worker, which was searching, has found work.
    pub(crate) fn found(&self) {
        self.searching.fetch_sub(1, Ordering::SeqCst);
    }

    /// The calling worker is done with its work and searches again.
    pub(crate) fn search(&self) {
        self.searching.fetch_add(1, Ordering::SeqCst);
    }

    /// The calling worker `me`, which was searching, has found nothing: sleeps
    /// until there is something to look for. Returns searching; false when the
    /// pool ends.
    pub(crate) fn sleep(&self, me: usize, has_work: impl Fn() -> bool) -> bool {
        let (word, bit) = (me / 64, 1u64 << (me % 64));
        let Some(idle) = self.idle.get(word) else { return false };
        idle.fetch_or(bit, Ordering::SeqCst);
        self.searching.fetch_sub(1, Ordering::SeqCst);
        fence_after_rmw();
        if has_work() && idle.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
            self.searching.fetch_add(1, Ordering::SeqCst);
            return !self.stopping.load(Ordering::SeqCst);
        }
        while idle.load(Ordering::SeqCst) & bit != 0 {
            if self.stopping.load(Ordering::SeqCst) {
                return false;
            }
            thread::park();
        }
        !self.stopping.load(Ordering::SeqCst)
    }

    /// Ends all workers as soon as they find nothing to do.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for thread in self.threads.iter().filter_map(OnceLock::get) {
            thread.unpark();
        }
    }

    /// Workers made so far.
    pub(crate) fn workers(&self) -> u32 {
        self.spawned.load(Ordering::Relaxed)
    }

    fn any_idle(&self) -> bool {
        self.idle.iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// Takes the sleeping worker with the lowest number, which is the one that
    /// slept least: its caches are warm.
    fn take_idle(&self) -> Option<usize> {
        for (index, word) in self.idle.iter().enumerate() {
            let mut now = word.load(Ordering::SeqCst);
            while now != 0 {
                let bit = now & now.wrapping_neg();
                match word.compare_exchange(now, now & !bit, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => {
                        return Some(
                            index.wrapping_mul(64).wrapping_add(bit.trailing_zeros() as usize),
                        );
                    }
                    Err(other) => now = other,
                }
            }
        }
        None
    }
}
