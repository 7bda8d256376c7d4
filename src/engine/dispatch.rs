// SPDX-License-Identifier: BSD-2-Clause

//! From a doorbell to a fetched batch of commands, and to their completions.

use super::fault::Fault;
use super::mailbox::{Mail, Mailbox};
use super::pool::{Notified, Pool};
use super::slots::Slots;
use super::{Executor, Outcome};
use crate::queue::{Claim, CompletionQueue, DoorbellError, Interrupts, SubmissionQueue};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Padded, fence, lock};
use crate::wire::command::{Command, fuse};
use crate::wire::completion::Completion;
use crate::wire::status::Status;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most commands that are fetched at once.
pub(super) const BATCH: usize = 8;

/// Entries posted before an interrupt is raised while more are being worked
/// on.
const INTERRUPT_EVERY: u32 = 8;

/// What a controller is built for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// I/O queue pairs, 1 to 64.
    pub(crate) queue_pairs: u16,
    /// Commands in the backend at once.
    pub(crate) slots: u16,
    /// Which commands run on the vCPU's thread.
    pub(crate) inline: Inline,
}

/// Whether small commands run on the thread of the vCPU that rang for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inline {
    /// None do.
    Off,
    /// They do; the store never waits.
    NeverWaits,
    /// They do; the store may wait, by the operator's choice.
    MayWait,
}

/// The queues of one controller and the threads that serve them. Queue 0 is
/// the admin queue, which the controller thread serves itself.
pub(crate) struct Engine<E: Executor> {
    submission: Box<[Padded<SubmissionQueue>]>,
    completion: Box<[Padded<CompletionQueue>]>,
    /// I/O submission queues that may have work, bit n - 1 for queue n. Set
    /// after the doorbell is stored; cleared before the tail is read for the
    /// last time.
    ready: Padded<AtomicU64>,
    /// Nothing is fetched from I/O queues.
    pub(super) paused: AtomicBool,
    jobs: Mutex<VecDeque<E::Job>>,
    jobs_waiting: AtomicU64,
    pub(super) pool: Pool,
    pub(super) slots: Slots,
    pub(super) inline: Inline,
    pub(super) executor: E,
    pub(crate) interrupts: Interrupts,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) fault: Arc<Fault>,
}

/// Commands fetched from one queue, each with a completion entry reserved. If
/// it is dropped before all are done (a panic, a reset), the rest of the
/// reservations go back.
pub(super) struct Batch<'a, E: Executor> {
    engine: &'a Engine<E>,
    cq: &'a CompletionQueue,
    commands: &'a [Command],
    done: usize,
}

/// Where a thread keeps the commands that it has fetched: a batch, and the
/// second half of what it ends with.
pub(super) type Commands = [Command; BATCH + 1];

/// What became of an attempt to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetch {
    /// So many commands, for [`Engine::batch`]. At least one.
    Commands(usize),
    /// Nothing to do here, or somebody else does it.
    Nothing,
    /// The first command is not for this thread.
    Refused,
}

/// What the executor has reported, and the log has, says so.
fn logged(outcome: Outcome) -> Outcome {
    let Outcome { dw0, status } = outcome;
    Outcome { dw0, status: if status.is_error() { status.with_more() } else { status } }
}

pub(super) fn bit_of(sq_id: u16) -> u64 {
    1u64.checked_shl(u32::from(sq_id).wrapping_sub(1)).unwrap_or(0)
}

/// Whether these commands, one right after the other in their queue, are the
/// halves of a fused operation.
fn are_halves(command: &Command, next: &Command) -> bool {
    command.fuse() == fuse::FIRST && next.fuse() == fuse::SECOND
}

impl<E: Executor> Engine<E> {
    pub(crate) fn new(
        limits: Limits,
        executor: E,
        interrupts: Interrupts,
        mailbox: Arc<Mailbox>,
        fault: Arc<Fault>,
    ) -> Engine<E> {
        let slots = 0..=limits.queue_pairs.min(64);
        Engine {
            submission: slots.clone().map(|_| Padded(SubmissionQueue::new())).collect(),
            completion: slots.map(|_| Padded(CompletionQueue::new())).collect(),
            ready: Padded::default(),
            paused: AtomicBool::new(false),
            jobs: Mutex::new(VecDeque::new()),
            jobs_waiting: AtomicU64::new(0),
            pool: Pool::new(limits.slots),
            slots: Slots::new(limits.slots),
            inline: limits.inline,
            executor,
            interrupts,
            mailbox,
            fault,
        }
    }

    /// The slot of submission queue `id`, if there is one.
    pub(crate) fn sq(&self, id: u16) -> Option<&SubmissionQueue> {
        self.submission.get(usize::from(id)).map(|padded| &padded.0)
    }

    /// The slot of completion queue `id`, if there is one.
    pub(crate) fn cq(&self, id: u16) -> Option<&CompletionQueue> {
        self.completion.get(usize::from(id)).map(|padded| &padded.0)
    }

    /// All submission queues with their identifiers, the admin queue first.
    pub(crate) fn submission_queues(&self) -> impl Iterator<Item = (u16, &SubmissionQueue)> {
        (0u16..).zip(self.submission.iter().map(|padded| &padded.0))
    }

    /// All completion queues with their identifiers, the admin queue first.
    pub(crate) fn completion_queues(&self) -> impl Iterator<Item = (u16, &CompletionQueue)> {
        (0u16..).zip(self.completion.iter().map(|padded| &padded.0))
    }

    /// The worker that was asked for could not be made.
    pub(crate) fn growing_failed(&self) {
        self.pool.growing_failed();
    }

    /// Ends the workers as soon as they find nothing to do.
    pub(crate) fn stop(&self) {
        self.pool.stop();
    }

    pub(crate) fn executor(&self) -> &E {
        &self.executor
    }

    /// The most commands that were in the backend at once.
    pub(crate) fn peak_in_backend(&self) -> u32 {
        self.slots.peak()
    }

    /// Workers made so far.
    pub(crate) fn workers(&self) -> u32 {
        self.pool.workers()
    }

    /// A vCPU's write to the tail doorbell of submission queue `id`.
    pub(crate) fn ring_submission(&self, id: u16, value: u32) -> Result<(), DoorbellError> {
        let queue = self.sq(id).ok_or(DoorbellError::NoQueue)?;
        queue.ring(value)?;
        if id == 0 {
            self.mailbox.post(Mail::ADMIN);
        } else if self.inline != Inline::Off {
            self.run_inline(id);
        } else {
            self.announce(bit_of(id));
        }
        Ok(())
    }

    /// A vCPU's write to the head doorbell of completion queue `id`.
    pub(crate) fn ring_completion(&self, id: u16, value: u32) -> Result<(), DoorbellError> {
        let parked = self.cq(id).ok_or(DoorbellError::NoQueue)?.ring(value)?;
        if id == 0 {
            // Admin commands and events wait for room here.
            self.mailbox.post(Mail::ADMIN);
        } else {
            self.announce(parked);
        }
        Ok(())
    }

    /// Makes work on the queues of `mask` visible to the workers.
    pub(super) fn announce(&self, mask: u64) {
        if mask == 0 {
            return;
        }
        fence(Ordering::SeqCst);
        if self.ready.load(Ordering::SeqCst) & mask != mask {
            self.ready.fetch_or(mask, Ordering::SeqCst);
        }
        self.wake();
    }

    /// Leaves `job` to a worker.
    pub(crate) fn submit(&self, job: E::Job) {
        lock(&self.jobs).push_back(job);
        self.jobs_waiting.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn take_job(&self) -> Option<E::Job> {
        if self.jobs_waiting.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let job = lock(&self.jobs).pop_front()?;
        self.jobs_waiting.fetch_sub(1, Ordering::SeqCst);
        Some(job)
    }

    /// Whether a worker would find something to do. A queue that is claimed
    /// does not count: whoever holds the claim looks again after letting go,
    /// and wakes a worker if there is more. Else workers would spin for as
    /// long as a holder is kept from running.
    pub(super) fn has_work(&self) -> bool {
        (self.jobs_waiting.load(Ordering::SeqCst) != 0 || self.has_unclaimed())
            && self.slots.any_free()
            && !self.fault.tripped()
    }

    fn has_unclaimed(&self) -> bool {
        let mut ready = self.ready();
        while ready != 0 {
            let id = (ready.trailing_zeros() as u16).wrapping_add(1);
            if self.sq(id).is_some_and(|queue| !queue.is_claimed()) {
                return true;
            }
            ready &= ready.wrapping_sub(1);
        }
        false
    }

    pub(super) fn wake(&self) {
        if self.pool.notify(|| self.has_work()) == Notified::Grow {
            self.mailbox.post(Mail::GROW);
        }
    }

    /// The queues that a worker is to look at, as bits.
    pub(super) fn ready(&self) -> u64 {
        if self.is_paused() { 0 } else { self.ready.load(Ordering::SeqCst) }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Fetches commands from queue `id` into `commands`, but only such as
    /// `admit` admits, and keeps the queue's bit in `ready` true. The last place
    /// of `commands` is for the second half of a fused operation: both halves
    /// are fetched at once.
    pub(super) fn fetch(
        &self,
        id: u16,
        queue: &SubmissionQueue,
        mut claim: Claim<'_>,
        commands: &mut [Command],
        mut admit: impl FnMut(&Command) -> bool,
    ) -> Fetch {
        if self.is_paused() {
            drop(claim);
            self.settle(id, queue);
            return Fetch::Nothing;
        }
        let Some(cq) = self.cq(queue.cq_id()) else { return Fetch::Nothing };
        claim.skip_struck();
        let want = (commands.len().saturating_sub(1) as u32).min(claim.waiting());
        let mut granted = cq.reserve(want);
        if granted == 0 {
            let full = want > 0;
            drop(claim);
            self.settle(id, queue);
            if full {
                self.park(id, cq, 1);
            }
            return Fetch::Nothing;
        }
        let (mut len, mut refused, mut no_room_for_two) = (0u32, false, false);
        while len < granted {
            let Some([first, second, ..]) = commands.get_mut(len as usize..) else { break };
            if !claim.peek(len, first) {
                break;
            }
            if !admit(first) {
                refused = true;
                break;
            }
            len = len.wrapping_add(1);
            // A driver rings its doorbell for both halves at once, so if the
            // second is not there it does not come.
            let fused = first.fuse() == fuse::FIRST && cq.capacity() > 1;
            if !fused || !claim.peek(len, second) || !are_halves(first, second) {
                continue;
            }
            if len == granted {
                if cq.reserve(1) == 0 {
                    len = len.wrapping_sub(1);
                    no_room_for_two = len == 0;
                    break;
                }
                granted = granted.wrapping_add(1);
            }
            len = len.wrapping_add(1);
        }
        claim.consume(len);
        drop(claim);
        let unused = granted.wrapping_sub(len);
        if unused > 0 {
            self.give_back(cq, unused);
        }
        self.settle(id, queue);
        if no_room_for_two {
            self.park(id, cq, 2);
        }
        match len {
            0 if refused => Fetch::Refused,
            0 => Fetch::Nothing,
            _ => Fetch::Commands(len as usize),
        }
    }

    /// The commands that were fetched from `queue`.
    pub(super) fn batch<'a>(
        &'a self,
        queue: &SubmissionQueue,
        commands: &'a [Command],
    ) -> Option<Batch<'a, E>> {
        Some(Batch { engine: self, cq: self.cq(queue.cq_id())?, commands, done: 0 })
    }

    /// After the claim on queue `id` was released: makes its bit in `ready`
    /// say whether entries wait. Doorbells that found the claim taken rely on
    /// it.
    pub(super) fn settle(&self, id: u16, queue: &SubmissionQueue) {
        let bit = bit_of(id);
        if queue.has_work() {
            if self.ready.load(Ordering::SeqCst) & bit == 0 {
                self.ready.fetch_or(bit, Ordering::SeqCst);
            }
            return;
        }
        if self.ready.load(Ordering::SeqCst) & bit != 0 {
            self.ready.fetch_and(!bit, Ordering::SeqCst);
            if queue.has_work() {
                self.ready.fetch_or(bit, Ordering::SeqCst);
            }
        }
    }

    /// Queue `id` waits for room for `count` entries in its completion queue.
    fn park(&self, id: u16, cq: &CompletionQueue, count: u32) {
        let bit = bit_of(id);
        self.ready.fetch_and(!bit, Ordering::SeqCst);
        if cq.park(bit, count) {
            self.announce(bit);
        }
    }

    pub(super) fn give_back(&self, cq: &CompletionQueue, count: u32) {
        cq.give_back(count);
        self.announce(cq.take_parked());
    }

    /// Posts the completion of `command` of queue `sq_id`. The entry was
    /// reserved.
    pub(crate) fn complete(
        &self,
        sq_id: u16,
        cq: &CompletionQueue,
        cid: u16,
        outcome: Outcome,
    ) -> u32 {
        let sq_head = self.sq(sq_id).map_or(0, SubmissionQueue::head);
        cq.publish(Completion { dw0: outcome.dw0, sq_head, sq_id, cid, status: outcome.status })
    }

    /// Raises the interrupt for what was posted to `cq`.
    pub(crate) fn signal(&self, cq: &CompletionQueue) {
        if let Some(vector) = cq.take_interrupt() {
            self.interrupts.request(vector);
        }
    }

    /// Runs a batch from queue `id`. After each command `more_soon` says
    /// whether the next will be so quick that its interrupt can serve for this
    /// one as well.
    pub(super) fn run_batch(
        &self,
        id: u16,
        queue: &SubmissionQueue,
        mut batch: Batch<'_, E>,
        scratch: &mut E::Scratch,
        mut more_soon: impl FnMut() -> bool,
    ) {
        while let Some((command, second)) = batch.next() {
            let cid = command.cid.get();
            // The queue was closed after the command was fetched. A deletion
            // tells the guest; after a reset there is nobody to tell, and
            // nothing is posted.
            let (outcome, second) = match second {
                _ if !queue.is_open() => {
                    let aborted = Outcome::from(Status::ABORTED_SQ_DELETION);
                    (aborted, second.map(|second| (second.cid.get(), aborted)))
                }
                None => (logged(self.executor.execute(id, command, scratch)), None),
                Some(second) => {
                    let cid = second.cid.get();
                    let [outcome, last] =
                        self.executor.execute_fused(id, [command, second], scratch);
                    (logged(outcome), Some((cid, logged(last))))
                }
            };
            batch.done = batch.done.wrapping_add(1);
            let mut waiting = self.complete(id, batch.cq, cid, outcome);
            if let Some((cid, outcome)) = second {
                batch.done = batch.done.wrapping_add(1);
                waiting = self.complete(id, batch.cq, cid, outcome);
            }
            let soon = more_soon() && batch.done < batch.commands.len();
            if waiting >= INTERRUPT_EVERY || !soon {
                self.signal(batch.cq);
            }
        }
    }
}

impl<E: Executor> Batch<'_, E> {
    /// The command to execute next, with the other half of its operation if it
    /// is fused.
    fn next(&self) -> Option<(&Command, Option<&Command>)> {
        let (command, rest) = self.commands.get(self.done..)?.split_first()?;
        let second = rest.first().filter(|second| are_halves(command, second));
        Some((command, second))
    }
}

impl<E: Executor> Drop for Batch<'_, E> {
    fn drop(&mut self) {
        let unused = self.commands.len().saturating_sub(self.done) as u32;
        if unused > 0 {
            self.engine.give_back(self.cq, unused);
        }
    }
}
