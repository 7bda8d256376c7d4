// SPDX-License-Identifier: BSD-2-Clause

//! From a doorbell to a fetched batch of commands.

use super::Executor;
use super::batch::are_halves;
use super::coalescing::Coalescing;
use super::deck::Deck;
use super::errands::{Errand, Errands};
use super::fault::Fault;
use super::mailbox::{Mail, Mailbox};
use super::pace::Pace;
use super::pool::{MAX_WORKERS, Notified, Pool};
use super::slots::Slots;
use super::watch::Watch;
use crate::queue::{Claim, CompletionQueue, DoorbellError, Interrupts, SubmissionQueue};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, Padded, fence_after_rmw};
use crate::wire::command::{Command, fuse};
use std::sync::Arc;
use std::time::Duration;

/// What a controller is built for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// I/O queue pairs, 1 to 64.
    pub(crate) queue_pairs: u16,
    /// Commands in the backend at once.
    pub(crate) slots: u16,
    /// Which commands run on the vCPU's thread.
    pub(crate) inline: Inline,
    /// For how long a worker looks for work before it sleeps.
    pub(crate) spin: Duration,
    /// CPUs of the host.
    pub(crate) cpus: u32,
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
    pub(super) errands: Errands<E>,
    pub(super) pool: Pool,
    pub(super) slots: Slots,
    pub(super) inline: Inline,
    pub(super) spin: Duration,
    pub(super) pace: Padded<Pace>,
    pub(super) watch: Padded<Watch>,
    /// What each worker has in hand.
    pub(super) decks: Box<[Padded<Deck>]>,
    /// A worker is stuck, and others can take what it has in hand.
    pub(super) abandoned: AtomicBool,
    pub(crate) coalescing: Coalescing,
    misrung: AtomicU32,
    pub(super) executor: E,
    pub(crate) interrupts: Interrupts,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) fault: Arc<Fault>,
}

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

pub(super) fn bit_of(sq_id: u16) -> u64 {
    1u64.checked_shl(u32::from(sq_id).wrapping_sub(1)).unwrap_or(0)
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
            errands: Errands::new(),
            pool: Pool::new(limits.slots),
            slots: Slots::new(limits.slots),
            inline: limits.inline,
            spin: limits.spin,
            pace: Padded(Pace::new(limits.cpus)),
            watch: Padded::default(),
            decks: (0..limits.slots.clamp(1, MAX_WORKERS)).map(|_| Padded(Deck::new())).collect(),
            abandoned: AtomicBool::new(false),
            coalescing: Coalescing::new(),
            misrung: AtomicU32::new(0),
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

    /// The worker that was asked for could not be made. Others have relied on
    /// it meanwhile: the watch asks again, for as long as something waits.
    pub(crate) fn growing_failed(&self) {
        self.pool.growing_failed();
        self.put_off();
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
        let cq = self.cq(id).ok_or(DoorbellError::NoQueue)?;
        let parked = cq.ring(value)?;
        if self.inline == Inline::NeverWaits && cq.is_left() {
            // Posted after the guest looked, and held back for this.
            self.signal(cq);
        }
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
        fence_after_rmw();
        if self.ready.load(Ordering::SeqCst) & mask != mask {
            self.ready.fetch_or(mask, Ordering::SeqCst);
        }
        self.wake_if_worth(mask);
    }

    /// Leaves `job` to a worker.
    pub(crate) fn submit(&self, job: E::Job) {
        self.errands.push(Errand::Job(job));
        self.wake();
    }

    /// Whether a worker would find something to do. A queue that is claimed
    /// does not count: whoever holds the claim looks again after letting go,
    /// and wakes a worker if there is more. Else workers would spin for as
    /// long as a holder is kept from running.
    pub(super) fn has_work(&self) -> bool {
        (self.errands.count() != 0 || self.abandoned.load(Ordering::SeqCst) || self.has_unclaimed())
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

    /// Wakes a worker for what waits in the queues of `mask`, which others can
    /// see, unless those awake come to it sooner.
    pub(super) fn wake_if_worth(&self, mask: u64) {
        fence_after_rmw();
        if self.pace.suffices(|| self.backlog(mask)) {
            self.put_off();
        } else {
            self.wake();
        }
    }

    /// How many commands wait in the queues of `mask`.
    pub(super) fn backlog(&self, mut mask: u64) -> u32 {
        let mut sum = 0u32;
        while mask != 0 {
            let id = (mask.trailing_zeros() as u16).wrapping_add(1);
            sum = sum.saturating_add(self.sq(id).map_or(0, SubmissionQueue::backlog));
            mask &= mask.wrapping_sub(1);
        }
        sum
    }

    /// Whether queue `id` has commands that a worker would fetch.
    pub(super) fn is_ready(&self, id: u16) -> bool {
        self.ready() & bit_of(id) != 0
    }

    /// The queues that a worker is to look at, as bits.
    pub(super) fn ready(&self) -> u64 {
        if self.is_paused() { 0 } else { self.ready.load(Ordering::SeqCst) }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Fetches commands from queue `id` into `commands`, a share of `ways` of
    /// what waits, but only such as `admit` admits, and keeps the queue's bit in
    /// `ready` true. The last place of `commands` is for the second half of a
    /// fused operation: both halves are fetched at once.
    pub(super) fn fetch(
        &self,
        id: u16,
        queue: &SubmissionQueue,
        mut claim: Claim<'_>,
        commands: &mut [Command],
        ways: u32,
        mut admit: impl FnMut(&Command) -> bool,
    ) -> Fetch {
        if self.is_paused() {
            drop(claim);
            self.settle_visited(id, queue);
            return Fetch::Nothing;
        }
        if queue.is_shadowed() && !queue.refresh() {
            self.misrung(id);
        }
        let Some(cq) = self.cq(queue.cq_id()) else { return Fetch::Nothing };
        claim.skip_struck();
        let share = claim.waiting().div_ceil(ways.max(1));
        let want = (commands.len().saturating_sub(1) as u32).min(share);
        let mut granted = cq.reserve(want);
        if granted == 0 {
            let full = want > 0;
            drop(claim);
            self.settle_visited(id, queue);
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
        self.settle_visited(id, queue);
        if no_room_for_two {
            self.park(id, cq, 2);
        }
        match len {
            0 if refused => Fetch::Refused,
            0 => Fetch::Nothing,
            _ => Fetch::Commands(len as usize),
        }
    }

    /// As [`Engine::settle`], for a visitor of the queue. If nothing waits,
    /// nobody looks at its shadow for a while.
    fn settle_visited(&self, id: u16, queue: &SubmissionQueue) {
        self.settle(id, queue);
        if queue.is_shadowed() {
            self.settle_shadowed(id, queue);
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_shadowed(&self, id: u16, queue: &SubmissionQueue) {
        if self.ready.load(Ordering::SeqCst) & bit_of(id) == 0 {
            if !queue.rely_on_register() {
                self.misrung(id);
            }
            self.settle(id, queue);
        }
    }

    /// The shadow of queue `id` has a value that the queue cannot have.
    #[cold]
    fn misrung(&self, id: u16) {
        self.misrung.store(u32::from(id), Ordering::SeqCst);
        self.mailbox.post(Mail::REPORTS);
    }

    /// Takes the queue whose shadow was the last to have such a value.
    pub(crate) fn take_misrung(&self) -> Option<u16> {
        u16::try_from(self.misrung.swap(0, Ordering::SeqCst)).ok().filter(|id| *id != 0)
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
}
