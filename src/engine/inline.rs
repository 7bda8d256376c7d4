// SPDX-License-Identifier: BSD-2-Clause

//! Small commands on the vCPU's own thread.
//!
//! Memory is faster than waking a thread. But a vCPU that runs commands holds
//! the hypervisor's MMIO lock, so one doorbell runs only so much; what is left
//! goes to the workers.

use super::Executor;
use super::dispatch::{BATCH, Engine, Fetch, bit_of};
use super::mailbox::Mail;
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
        let (mut commands, mut bytes) = (MAX_COMMANDS, MAX_BYTES);
        loop {
            if self.fault.tripped() {
                return;
            }
            // Never waits for a slot, nor for the claim: a worker goes on when
            // it has a slot, and whoever holds the claim looks again.
            let Some(slot) = self.slots.take() else { return self.announce(bit_of(id)) };
            let Some(claim) = visit.claim() else {
                drop(slot);
                return self.wake_if_ready();
            };
            let fetched = self.fetch(id, queue, claim, commands.min(BATCH), |command| {
                match self.executor.inline_cost(command) {
                    Some(cost) if cost <= bytes => {
                        bytes = bytes.saturating_sub(cost);
                        true
                    }
                    _ => false,
                }
            });
            let Fetch::Batch(batch) = fetched else {
                drop(slot);
                return match fetched {
                    Fetch::Refused => self.announce(bit_of(id)),
                    _ => self.wake_if_ready(),
                };
            };
            commands = commands.saturating_sub(batch.len());
            with_scratch::<E, _>(|scratch| self.run_batch(id, queue, batch, scratch, || true));
            drop(slot);
            if !queue.has_work() {
                return self.wake_if_ready();
            }
            if commands == 0 || bytes == 0 {
                return self.announce(bit_of(id));
            }
        }
    }

    /// After a slot was given back: other queues may have waited for it.
    fn wake_if_ready(&self) {
        if self.has_work() {
            self.wake();
        }
    }
}

/// Lends the calling thread's scratch memory, which it keeps for its next
/// doorbell.
fn with_scratch<E: Executor, R>(work: impl FnOnce(&mut E::Scratch) -> R) -> R {
    thread_local! {
        static KEPT: Cell<Option<Box<dyn std::any::Any>>> = const { Cell::new(None) };
    }
    let mut scratch: Box<E::Scratch> =
        KEPT.take().and_then(|kept| kept.downcast().ok()).unwrap_or_default();
    let result = work(&mut scratch);
    KEPT.set(Some(scratch));
    result
}
