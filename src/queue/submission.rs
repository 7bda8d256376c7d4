// SPDX-License-Identifier: BSD-2-Clause

//! The submission queue (section 4.1).

use super::doorbell::{Doorbell, DoorbellError, ShadowWords};
use super::ring::{advance, distance};
use crate::memory::Segment;
use crate::sync::{
    AtomicBool, AtomicU16, AtomicU32, Mutex, MutexGuard, Ordering, fence, fence_after_rmw, lock,
    thread, try_lock,
};
use crate::wire::command::{Command, ENTRY_SIZE};
use std::collections::VecDeque;
use zerocopy::IntoBytes;

/// A submission queue's slot. The queue in it comes and goes; the slot stays.
///
/// **Closing.** A thread that wants to work on the queue counts itself in
/// `in_flight`, fences, and then looks whether the queue is open; the
/// controller thread closes, fences, and then reads the count. So either the
/// thread sees the queue closed and leaves, or the controller thread sees the
/// thread and waits for it.
pub(crate) struct SubmissionQueue {
    tail: Doorbell,
    size: AtomicU32,
    /// The completion queue it reports to.
    cq_id: AtomicU16,
    /// Threads that work on the queue or on commands fetched from it.
    in_flight: AtomicU32,
    /// The last visitor is to be reported though the queue is open.
    watched: AtomicBool,
    /// The head, for completions; and [`HELD`].
    head: AtomicU32,
    /// Whether a thread has the claim, set by that thread, so that others can
    /// tell without trying: else workers would spin for as long as a holder is
    /// kept from its CPU.
    claimed: AtomicBool,
    /// The claim: whoever has locked it fetches.
    ring: Mutex<Ring>,
}

/// What the claim guards.
struct Ring {
    /// `None` while the queue is closed.
    memory: Option<Segment>,
    size: u32,
    head: u32,
    /// What was taken off the ring and waits here, before all in the ring:
    /// commands before one that was aborted, and gaps where such were.
    held: VecDeque<Option<Command>>,
}

/// The most that is held, which is memory of ours.
const MAX_HELD: usize = 64;

/// Beside the head: something is held.
const HELD: u32 = 1 << 16;

/// What a queue is created with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubmissionParameters {
    /// Entries; at least 2.
    pub(crate) size: u32,
    /// The completion queue.
    pub(crate) cq_id: u16,
}

/// A thread's presence on an open queue. The queue's parameters hold, and no
/// reset or deletion ends, until it is dropped.
pub(crate) struct Visit<'a> {
    queue: &'a SubmissionQueue,
    left_empty: &'a dyn Fn(),
}

/// The claim on a queue: the right to fetch from it. To let go is an atomic
/// read-modify-write: a mutex has to learn who waits for it.
pub(crate) struct Claim<'a> {
    queue: &'a SubmissionQueue,
    // Dropped before the lock: whoever holds that is who has set it.
    _claimed: Claimed<'a>,
    ring: MutexGuard<'a, Ring>,
}

/// Says that the queue is claimed, until it is dropped.
struct Claimed<'a>(&'a AtomicBool);

impl SubmissionQueue {
    pub(crate) fn new() -> SubmissionQueue {
        SubmissionQueue {
            tail: Doorbell::closed(),
            size: AtomicU32::new(0),
            cq_id: AtomicU16::new(0),
            in_flight: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            head: AtomicU32::new(0),
            claimed: AtomicBool::new(false),
            ring: Mutex::new(Ring { memory: None, size: 0, head: 0, held: VecDeque::new() }),
        }
    }

    /// Bytes of memory of a queue of `size` entries.
    pub(crate) fn bytes(size: u32) -> usize {
        (size as usize).saturating_mul(ENTRY_SIZE)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.tail.load().is_open()
    }

    /// The completion queue it reports to.
    pub(crate) fn cq_id(&self) -> u16 {
        self.cq_id.load(Ordering::Relaxed)
    }

    /// The head to report in completions. A guest that is told it may write to
    /// every entry before it: those have been copied, whoever did it.
    pub(crate) fn head(&self) -> u16 {
        (self.head.load(Ordering::Acquire) & 0xffff) as u16
    }

    /// Opens the queue over `memory`, which is [`SubmissionQueue::bytes`] long.
    /// Only the controller thread opens and closes, and only opens what is
    /// [`SubmissionQueue::is_idle`].
    pub(crate) fn open(&self, memory: Segment, parameters: SubmissionParameters) {
        let SubmissionParameters { size, cq_id } = parameters;
        *lock(&self.ring) = Ring { memory: Some(memory), size, head: 0, held: VecDeque::new() };
        self.size.store(size, Ordering::Relaxed);
        self.cq_id.store(cq_id, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        self.tail.open();
    }

    /// Where the tail doorbell has its shadow.
    pub(crate) fn set_shadow(&self, words: Option<ShadowWords>) {
        self.tail.set_shadow(words);
    }

    /// Whether the tail has a shadow. Where it has none, what follows does
    /// nothing, and need not be called.
    pub(crate) fn is_shadowed(&self) -> bool {
        self.tail.load().is_shadowed()
    }

    /// Looks at the shadow; false if it has become what the tail cannot be.
    #[cold]
    #[inline(never)]
    pub(crate) fn refresh(&self) -> bool {
        self.tail.refresh(|_, new| new < self.size.load(Ordering::Relaxed))
    }

    /// Nobody is going to look at the shadow for a while: the guest has to
    /// write to the register for what it does from here on. For a visitor, who
    /// then looks at [`SubmissionQueue::has_work`] once more. Returns as
    /// [`SubmissionQueue::refresh`].
    pub(crate) fn rely_on_register(&self) -> bool {
        self.tail.watch_register();
        self.refresh()
    }

    /// Closes the queue: nothing is fetched from here on. Commands fetched
    /// before may still run until [`SubmissionQueue::is_idle`].
    pub(crate) fn close(&self) {
        self.tail.close();
        fence(Ordering::SeqCst);
    }

    /// Whether no thread works on the queue. Once true of a closed queue, it
    /// stays so.
    pub(crate) fn is_idle(&self) -> bool {
        fence(Ordering::SeqCst);
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    /// Whether the last visitor is to be reported though the queue is open.
    pub(crate) fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::SeqCst);
    }

    /// The guest's write to the tail doorbell.
    pub(crate) fn ring(&self, value: u32) -> Result<(), DoorbellError> {
        self.tail.write(value, |_, new| new < self.size.load(Ordering::Relaxed))?;
        fence_after_rmw();
        Ok(())
    }

    /// Whether entries wait to be fetched. Read after a claim was released,
    /// it sees every doorbell whose writer found the claim taken.
    pub(crate) fn has_work(&self) -> bool {
        fence_after_rmw();
        let tail = self.tail.load();
        // A head with [`HELD`] is no tail's value.
        tail.is_open() && tail.value() != self.head.load(Ordering::SeqCst)
    }

    /// How many entries wait, more or less: others fetch and ring meanwhile.
    pub(crate) fn backlog(&self) -> u32 {
        let (tail, head) = (self.tail.load(), u32::from(self.head()));
        let size = self.size.load(Ordering::Relaxed);
        if tail.is_open() { distance(head, tail.value(), size).min(size) } else { 0 }
    }

    /// Whether a thread holds the claim. It looks for more work after it has
    /// let go, so that nobody else has to wait for that.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::SeqCst)
    }

    /// Enters the queue if it is open. `left_empty` is called, from whichever
    /// thread, when the last visitor of a closed or watched queue leaves.
    pub(crate) fn visit<'a>(&'a self, left_empty: &'a dyn Fn()) -> Option<Visit<'a>> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        fence_after_rmw();
        let visit = Visit { queue: self, left_empty };
        self.is_open().then_some(visit)
    }

    /// Enters the queue, which may be closed, beside another visitor who is
    /// certainly there: to take over what that one has fetched.
    pub(crate) fn visit_beside<'a>(&'a self, left_empty: &'a dyn Fn()) -> Visit<'a> {
        self.stay();
        Visit { queue: self, left_empty }
    }

    /// As [`SubmissionQueue::visit_beside`], until [`SubmissionQueue::leave`].
    pub(crate) fn stay(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a visit; for `left_empty` see [`SubmissionQueue::visit`].
    pub(crate) fn leave(&self, left_empty: &dyn Fn()) {
        let last = self.in_flight.fetch_sub(1, Ordering::SeqCst) == 1;
        // Either this sees the queue closed, or the closer sees it idle.
        fence_after_rmw();
        if last && (!self.is_open() || self.watched.load(Ordering::SeqCst)) {
            left_empty();
        }
    }
}

impl<'a> Visit<'a> {
    /// Claims the queue unless another thread has.
    pub(crate) fn claim(&self) -> Option<Claim<'a>> {
        // Looked at first: a write would take the line from the holder.
        let claimed = &self.queue.claimed;
        if claimed.load(Ordering::Relaxed) {
            return None;
        }
        let ring = try_lock(&self.queue.ring)?;
        claimed.store(true, Ordering::Relaxed);
        Some(Claim { queue: self.queue, _claimed: Claimed(claimed), ring })
    }

    /// Claims the queue as soon as it can be: others hold a claim only while
    /// they copy a batch.
    pub(crate) fn wait_for_claim(&self) -> Claim<'a> {
        loop {
            if let Some(claim) = self.claim() {
                return claim;
            }
            thread::yield_now();
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.left_empty);
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Claim<'_> {
    /// How many entries wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.in_ring().wrapping_add(self.held())
    }

    /// Those of them that are in the ring.
    fn in_ring(&self) -> u32 {
        let tail = self.queue.tail.load();
        // A tail beyond the ring cannot be: the doorbell refuses it. Should it
        // be all the same, nothing is fetched.
        if self.ring.memory.is_none() || !tail.is_open() || tail.value() >= self.ring.size {
            return 0;
        }
        distance(self.ring.head, tail.value(), self.ring.size)
    }

    /// Those that are not in the ring any more.
    fn held(&self) -> u32 {
        self.ring.held.len() as u32
    }

    /// Copies the entry that is `index` entries after the head; false if it
    /// is not waiting, or was struck out.
    pub(crate) fn peek(&self, index: u32, command: &mut Command) -> bool {
        if !self.ring.held.is_empty() {
            return self.peek_held(index, command);
        }
        self.peek_in_ring(index, command)
    }

    #[cold]
    #[inline(never)]
    fn peek_held(&self, index: u32, command: &mut Command) -> bool {
        match (index.checked_sub(self.held()), self.ring.held.get(index as usize)) {
            (Some(index), _) => self.peek_in_ring(index, command),
            (None, Some(Some(held))) if self.queue.is_open() => {
                *command = *held;
                true
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn peek_in_ring(&self, index: u32, command: &mut Command) -> bool {
        if index >= self.in_ring() {
            return false;
        }
        let at = advance(self.ring.head, index, self.ring.size) as usize;
        let at = at.saturating_mul(ENTRY_SIZE);
        let entry = self.ring.memory.and_then(|memory| memory.slice(at, ENTRY_SIZE));
        entry.and_then(|entry| entry.read(command.as_mut_bytes())).is_some()
    }

    /// Takes entries that were struck out off the front of the queue.
    pub(crate) fn skip_struck(&mut self) {
        while let Some(None) = self.ring.held.front() {
            self.consume(1);
        }
    }

    /// Strikes out the first waiting entry whose command identifier is `cid`.
    /// Returns whether there is one.
    ///
    /// Once its completion is seen, guests use its place in the ring again,
    /// whatever the head may be. So it leaves the ring now, and with it all
    /// entries before it; if those are too many to be held, nothing is struck.
    pub(crate) fn strike(&mut self, cid: u16) -> bool {
        let is_meant = |held: &&mut Option<Command>| {
            held.as_ref().is_some_and(|command| command.cid.get() == cid)
        };
        if let Some(held) = self.ring.held.iter_mut().find(is_meant) {
            *held = None;
            return true;
        }
        let Some(found) = self.find(cid) else { return false };
        if self.ring.held.len().saturating_add(found as usize) >= MAX_HELD {
            return false;
        }
        let mut command = Command::zeroed();
        for _ in 0..found {
            if !self.peek_in_ring(0, &mut command) {
                return false;
            }
            self.ring.held.push_back(Some(command));
            self.advance_ring(1);
        }
        self.ring.held.push_back(None);
        self.advance_ring(1);
        true
    }

    /// How many entries after the head of the ring a command is.
    fn find(&self, cid: u16) -> Option<u32> {
        let memory = self.ring.memory?;
        (0..self.in_ring()).find(|index| {
            let at = advance(self.ring.head, *index, self.ring.size) as usize;
            // Identifier and flags share the entry's first 32 bits with the
            // opcode.
            let word = memory.load32(at.saturating_mul(ENTRY_SIZE), Ordering::Relaxed);
            word.is_some_and(|word| word >> 16 == u32::from(cid))
        })
    }

    /// Takes the first `count` entries, which have been copied, off the queue.
    pub(crate) fn consume(&mut self, count: u32) {
        if !self.ring.held.is_empty() {
            return self.consume_held(count);
        }
        self.ring.head = advance(self.ring.head, count, self.ring.size);
        self.queue.head.store(self.ring.head, Ordering::Release);
    }

    #[cold]
    #[inline(never)]
    fn consume_held(&mut self, count: u32) {
        let held = count.min(self.held());
        self.ring.held.drain(..held as usize);
        self.advance_ring(count.wrapping_sub(held));
    }

    fn advance_ring(&mut self, count: u32) {
        self.ring.head = advance(self.ring.head, count, self.ring.size);
        let held = if self.ring.held.is_empty() { 0 } else { HELD };
        self.queue.head.store(self.ring.head | held, Ordering::Release);
    }
}
