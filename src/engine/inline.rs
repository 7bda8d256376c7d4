// SPDX-License-Identifier: BSD-2-Clause

//! Small commands on the vCPU's own thread.
//!
//! Memory is faster than waking a thread. But a vCPU that runs commands holds
//! the hypervisor's MMIO lock, so one doorbell runs only so much; what is left
//! goes to the workers. A store that never waits has room for as many commands
//! as there are vCPUs: there, such a command takes no slot.

use super::Executor;
use super::deck::Commands;
use super::dispatch::{Engine, Fetch, Inline, bit_of};
use super::mailbox::Mail;
use super::pace::BATCH;
use crate::queue::{SubmissionQueue, Visit};
use crate::wire::command::Command;
use std::any::Any;
use std::cell::Cell;

/// What one doorbell write may run: about 30 microseconds' worth.
const MAX_COMMANDS: usize = 32;
/// See [`MAX_COMMANDS`].
const MAX_BYTES: u64 = 128 * 1024;

impl<E: Executor> Engine<E> {
    /// Runs what waits in queue `id`, within the budget.
    pub(super) fn run_inline(&self, id: u16) {
        let Some(queue) = self.sq(id) else { return };
        let idle = || self.mailbox.post(Mail::IDLE);
        let Some(visit) = queue.visit(&idle) else { return };
        with_kept(|kept: &mut Kept<E>| self.run_visited(id, queue, &visit, kept));
    }

    fn run_visited(&self, id: u16, queue: &SubmissionQueue, visit: &Visit<'_>, kept: &mut Kept<E>) {
        let (mut left, mut bytes) = (MAX_COMMANDS, MAX_BYTES);
        // Where the store may wait, no command waits behind another.
        let may_wait = self.inline == Inline::MayWait;
        let most = if may_wait { 1 } else { BATCH };
        loop {
            if self.fault.tripped() {
                return;
            }
            if self.is_paused() {
                return self.announce(bit_of(id));
            }
            // Never waits for a slot, nor for the claim: a worker goes on when
            // it has a slot, and whoever holds the claim looks again.
            let slot = if may_wait { self.slots.take() } else { None };
            if may_wait && slot.is_none() {
                return self.announce(bit_of(id));
            }
            let Some(claim) = visit.claim() else {
                drop(slot);
                return self.wake_if_work();
            };
            let buffer = kept.commands.get_mut(..=left.min(most)).unwrap_or_default();
            let fetched = self.fetch(id, queue, claim, buffer, 1, |command| {
                match self.executor.inline_cost(command) {
                    Some(cost) if cost <= bytes => {
                        bytes = bytes.saturating_sub(cost);
                        true
                    }
                    _ => false,
                }
            });
            let Fetch::Commands(count) = fetched else {
                drop(slot);
                return match fetched {
                    Fetch::Refused => self.announce(bit_of(id)),
                    _ => self.wake_if_work(),
                };
            };
            if may_wait {
                // Others must not wait for what this command waits for.
                self.wake_if_work();
            }
            left = left.saturating_sub(count);
            let commands = kept.commands.get(..count).unwrap_or_default();
            if let Some(batch) = self.batch(id, queue, commands, None) {
                batch.run(&mut kept.scratch, most as u32, |_| 0);
            }
            drop(slot);
            if !queue.has_work() {
                return self.wake_if_work();
            }
            if left == 0 || bytes == 0 {
                return self.announce(bit_of(id));
            }
        }
    }

    /// Other queues may have waited for a slot, or for this one to get on.
    pub(super) fn wake_if_work(&self) {
        if self.has_work() {
            self.wake();
        }
    }
}

/// What a vCPU's thread keeps from doorbell to doorbell.
struct Kept<E: Executor> {
    scratch: E::Scratch,
    commands: Commands,
}

/// Lends what the calling thread has kept.
fn with_kept<E: Executor>(work: impl FnOnce(&mut Kept<E>)) {
    thread_local! {
        static KEPT: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
    }
    let mut kept: Box<Kept<E>> =
        KEPT.take().and_then(|kept| kept.downcast().ok()).unwrap_or_else(|| {
            Box::new(Kept {
                scratch: E::Scratch::default(),
                commands: [Command::zeroed(); BATCH + 1],
            })
        });
    work(&mut kept);
    KEPT.set(Some(kept));
}
