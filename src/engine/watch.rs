// SPDX-License-Identifier: BSD-2-Clause

//! What is put off because the store is quick, and what happens if it is not.
//!
//! While the store answers from memory, interrupts are held back until there
//! are a few or until the guest has answered the one before, commands wait
//! behind others in a worker's hand, and workers are not woken for what those
//! awake will do at once. Each of these relies on a worker or a guest that comes
//! back soon. Should one not, the controller thread sees to it: while anything is put off it **watches**, which is to look every
//! [`TICK`]. It raises what was held back, lets others take what a stuck worker
//! has, and wakes one. So an interrupt is put off for a tick at most, what waits
//! behind a stuck command for five, and where nothing is put off there is no
//! watch.
//!
//! Whoever puts something off makes it visible, fences, and looks whether there
//! is a watch; if not, it asks for one. The watch ends by saying so, fencing,
//! and looking for what was put off.

use super::Executor;
use super::dispatch::Engine;
use super::mailbox::Mail;
use crate::queue::CompletionQueue;
use crate::sync::{AtomicBool, Ordering, fence, fence_after_rmw};
use std::time::Duration;

/// How long something can have been put off before the watch looks at it.
const TICK: Duration = Duration::from_millis(1);

/// Ticks without need before the watch ends: load comes in bursts.
const QUIET_TICKS: u32 = 8;

#[derive(Default)]
pub(super) struct Watch {
    watching: AtomicBool,
    /// Something was put off since the last tick.
    needed: AtomicBool,
}

impl<E: Executor> Engine<E> {
    /// Something was put off that others can see since an atomic
    /// read-modify-write of this thread.
    pub(super) fn put_off(&self) {
        fence_after_rmw();
        if !self.watch.needed.load(Ordering::Relaxed) {
            self.watch.needed.store(true, Ordering::Relaxed);
        }
        if !self.watch.watching.load(Ordering::SeqCst) {
            self.mailbox.post(Mail::WATCH);
        }
    }

    /// The controller thread watches from here on.
    pub(crate) fn begin_watch(&self) {
        self.watch.watching.store(true, Ordering::SeqCst);
    }

    /// How long until the next look.
    pub(crate) fn tick_time(&self) -> Duration {
        self.coalescing.time().unwrap_or(TICK).min(TICK)
    }

    /// The controller thread looks after what was put off. `quiet` counts the
    /// ticks in a row that found nothing. Returns whether the watch goes on.
    pub(crate) fn tick(&self, quiet: &mut u32) -> bool {
        for (_, cq) in self.completion_queues() {
            if self.is_held_back(cq) {
                self.signal(cq);
            }
        }
        self.rescue_from_stuck();
        if self.watch.needed.swap(false, Ordering::Relaxed) {
            *quiet = 0;
        } else {
            *quiet = quiet.saturating_add(1);
        }
        if *quiet < QUIET_TICKS {
            return true;
        }
        *quiet = 0;
        self.watch.watching.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let needed = self.has_work() || self.holds_back() || self.pace.any_quick_worker();
        if needed {
            self.begin_watch();
        }
        needed
    }

    fn holds_back(&self) -> bool {
        self.completion_queues().any(|(_, cq)| self.is_held_back(cq))
    }

    /// Whether entries of `cq` wait for an interrupt that is to come. One that
    /// the guest has asked to be shared comes also if it did not wait for it.
    fn is_held_back(&self, cq: &CompletionQueue) -> bool {
        if self.coalescing.time().is_some() { cq.is_unsignalled() } else { cq.is_left() }
    }

    fn rescue_from_stuck(&self) {
        let workers = self.pool.workers() as usize;
        let mut stuck = false;
        for deck in self.decks.iter().take(workers) {
            if deck.is_stuck() {
                self.pace.end_quick();
                self.pace.stalled();
                stuck = true;
            }
        }
        if stuck {
            self.abandoned.store(true, Ordering::SeqCst);
            self.wake();
        } else if !self.pace.any_quick_worker() && self.has_work() {
            self.wake();
        }
    }
}
