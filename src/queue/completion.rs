// SPDX-License-Identifier: BSD-2-Clause

//! The completion queue (section 4.1).

use super::doorbell::{Doorbell, DoorbellError, ShadowWords};
use super::ring::{advance, distance};
use crate::memory::Segment;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, fence_after_rmw, lock};
use crate::wire::completion::{Completion, ENTRY_SIZE};

/// A completion queue's slot. The queue in it comes and goes; the slot stays.
///
/// Entries are **reserved** before the commands they are for are fetched, so
/// that completing can never fail for lack of room. `reserved` is where the
/// next reservation goes, `head` (the doorbell) what the guest has consumed:
/// between the two lie at most `size - 1` entries.
pub(crate) struct CompletionQueue {
    /// What the guest has consumed.
    head: Doorbell,
    size: AtomicU32,
    /// Epoch in the high half, position in the low half.
    reserved: AtomicU64,
    /// Where the next entry goes, as the guest may know it.
    tail: AtomicU32,
    /// The submission queues, one bit each, that wait for room here.
    parked: AtomicU64,
    vector: AtomicU32,
    interrupts: AtomicBool,
    /// Entries posted, modulo 2^32, and how many of them an interrupt was raised
    /// for. The first is stored under the publish lock; the second follows it.
    posted: AtomicU32,
    signalled: AtomicU32,
    ring: Mutex<Ring>,
}

/// What the publish lock guards.
struct Ring {
    /// `None` while the queue is closed.
    memory: Option<Segment>,
    size: u32,
    tail: u32,
    phase: bool,
}

/// What a queue is created with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompletionParameters {
    /// Entries; at least 2.
    pub(crate) size: u32,
    /// The interrupt vector, if the queue has interrupts enabled.
    pub(crate) vector: Option<u16>,
}

impl CompletionQueue {
    pub(crate) fn new() -> CompletionQueue {
        CompletionQueue {
            head: Doorbell::closed(),
            size: AtomicU32::new(0),
            reserved: AtomicU64::new(0),
            tail: AtomicU32::new(0),
            parked: AtomicU64::new(0),
            vector: AtomicU32::new(0),
            interrupts: AtomicBool::new(false),
            posted: AtomicU32::new(0),
            signalled: AtomicU32::new(0),
            ring: Mutex::new(Ring { memory: None, size: 0, tail: 0, phase: false }),
        }
    }

    /// Bytes of memory of a queue of `size` entries.
    pub(crate) fn bytes(size: u32) -> usize {
        (size as usize).saturating_mul(ENTRY_SIZE)
    }

    /// Opens the queue over `memory`, which is [`CompletionQueue::bytes`] long.
    /// The guest need not have cleared it: the phase tag is the controller's
    /// own state. Only the controller thread opens and closes.
    pub(crate) fn open(&self, memory: Segment, parameters: CompletionParameters) {
        let CompletionParameters { size, vector } = parameters;
        *lock(&self.ring) = Ring { memory: Some(memory), size, tail: 0, phase: true };
        self.size.store(size, Ordering::Relaxed);
        self.tail.store(0, Ordering::Relaxed);
        self.parked.store(0, Ordering::Relaxed);
        self.vector.store(u32::from(vector.unwrap_or(0)), Ordering::Relaxed);
        self.interrupts.store(vector.is_some(), Ordering::Relaxed);
        self.head.open();
        let epoch = self.head.load().epoch();
        self.reserved.store(u64::from(epoch) << 32, Ordering::Release);
    }

    /// Where the head doorbell has its shadow.
    pub(crate) fn set_shadow(&self, words: Option<ShadowWords>) {
        self.head.set_shadow(words);
    }

    /// Nobody is going to look at the shadow for a while: the guest has to
    /// write to the register for what it does from here on.
    pub(crate) fn rely_on_register(&self) {
        if self.head.load().is_shadowed() {
            self.rely_on_register_beside_shadow();
        }
    }

    #[cold]
    #[inline(never)]
    fn rely_on_register_beside_shadow(&self) {
        self.head.watch_register();
        self.refresh();
    }

    fn refresh(&self) {
        // What it cannot be is not taken: the queue stays full.
        self.head.refresh(|old, new| self.is_head(old, new));
    }

    /// Whether the head can move from `old` to `new`.
    fn is_head(&self, old: u32, new: u32) -> bool {
        let size = self.size.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Acquire);
        new < size && distance(old, new, size) <= distance(old, tail, size)
    }

    /// Closes the queue. When it returns, no entry will be stored any more, and
    /// no interrupt that was held back is left to be raised.
    pub(crate) fn close(&self) {
        self.head.close();
        let mut ring = lock(&self.ring);
        ring.memory = None;
        self.signalled.store(self.posted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Reserves up to `want` entries; returns how many.
    pub(crate) fn reserve(&self, want: u32) -> u32 {
        let granted = self.reserve_known(want);
        if granted == want || !self.head.load().is_shadowed() {
            return granted;
        }
        granted.saturating_add(self.reserve_by_shadow(want.saturating_sub(granted)))
    }

    #[cold]
    #[inline(never)]
    fn reserve_by_shadow(&self, want: u32) -> u32 {
        self.refresh();
        self.reserve_known(want)
    }

    fn reserve_known(&self, want: u32) -> u32 {
        let mut now = self.reserved.load(Ordering::Acquire);
        loop {
            let head = self.head.load();
            let (epoch, position) = ((now >> 32) as u32, (now & 0xffff_ffff) as u32);
            let size = self.size.load(Ordering::Relaxed);
            if !head.is_open() || head.epoch() != epoch || size == 0 {
                return 0;
            }
            let used = distance(head.value(), position, size);
            let granted = want.min(size.saturating_sub(1).saturating_sub(used));
            if granted == 0 {
                return 0;
            }
            let next = u64::from(epoch) << 32 | u64::from(advance(position, granted, size));
            match self.reserved.compare_exchange(now, next, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return granted,
                Err(other) => now = other,
            }
        }
    }

    /// Gives back `count` reserved entries that will not be used. The caller
    /// wakes [`CompletionQueue::take_parked`].
    pub(crate) fn give_back(&self, count: u32) {
        let size = self.size.load(Ordering::Relaxed);
        let mut now = self.reserved.load(Ordering::Acquire);
        loop {
            let (epoch, position) = (now >> 32, (now & 0xffff_ffff) as u32);
            if count == 0 || count > size {
                return;
            }
            let next = epoch << 32 | u64::from(advance(position, size.wrapping_sub(count), size));
            match self.reserved.compare_exchange(now, next, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    /// The most entries that can be reserved at once.
    pub(crate) fn capacity(&self) -> u32 {
        self.size.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Marks submission queue bit `mask` as waiting for room for `count`
    /// entries, and says whether there is by now (then it does not wait).
    pub(crate) fn park(&self, mask: u64, count: u32) -> bool {
        self.parked.fetch_or(mask, Ordering::SeqCst);
        fence_after_rmw();
        self.rely_on_register();
        if self.has_room(count) {
            self.parked.fetch_and(!mask, Ordering::SeqCst);
            return true;
        }
        false
    }

    /// Takes the submission queues that wait for room. Called after room was
    /// made.
    pub(crate) fn take_parked(&self) -> u64 {
        fence_after_rmw();
        if self.parked.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        self.parked.swap(0, Ordering::SeqCst)
    }

    /// Whether `count` entries could be reserved.
    pub(crate) fn has_room(&self, count: u32) -> bool {
        let (reserved, head) = (self.reserved.load(Ordering::SeqCst), self.head.load());
        let size = self.size.load(Ordering::Relaxed);
        let used = distance(head.value(), (reserved & 0xffff_ffff) as u32, size);
        used.saturating_add(count) <= self.capacity()
    }

    /// Stores an entry, for which there is a reservation; does nothing if the
    /// queue has been closed since. Returns the number of entries that wait
    /// for an interrupt now: none, if another thread has taken this one at once.
    ///
    /// `entry` makes it under the publish lock, so that the submission queue's
    /// head that it tells is never older than that of the entry before it: a
    /// guest that believes the last one would find its queue full for ever.
    #[inline(always)]
    pub(crate) fn publish(&self, entry: impl FnOnce() -> Completion) -> u32 {
        let mut ring = lock(&self.ring);
        let Some(memory) = ring.memory else { return 0 };
        let at = (ring.tail as usize).saturating_mul(ENTRY_SIZE);
        let (low, high) = entry().words(ring.phase);
        ring.tail = advance(ring.tail, 1, ring.size);
        if ring.tail == 0 {
            ring.phase = !ring.phase;
        }
        // Before the entry can be seen: the guest may ring the doorbell for it
        // at once.
        self.tail.store(ring.tail, Ordering::Release);
        memory.store64(at, low, Ordering::Relaxed);
        memory.store64(at.wrapping_add(8), high, Ordering::Release);
        let posted = self.posted.load(Ordering::Relaxed).wrapping_add(1);
        self.posted.store(posted, Ordering::Release);
        posted.wrapping_sub(self.signalled.load(Ordering::Relaxed))
    }

    /// The guest's write to the head doorbell. Returns the submission queues
    /// that waited for the room it makes.
    pub(crate) fn ring(&self, value: u32) -> Result<u64, DoorbellError> {
        self.head.write(value, |old, new| self.is_head(old, new))?;
        Ok(self.take_parked())
    }

    /// Whether entries wait for an interrupt.
    pub(crate) fn is_unsignalled(&self) -> bool {
        self.posted.load(Ordering::SeqCst) != self.signalled.load(Ordering::SeqCst)
    }

    /// Whether entries wait for an interrupt, and the guest has not consumed
    /// all that was posted: if it has, it needs none.
    pub(crate) fn is_left(&self) -> bool {
        self.is_unsignalled() && self.unconsumed() != 0
    }

    /// Whether the guest has still to consume entries it has been interrupted
    /// for, where `waiting` wait for an interrupt. Then it will look at the
    /// queue, and write the head doorbell. For after a [`publish`]: either this
    /// sees the doorbell, or who writes it sees what was published.
    ///
    /// [`publish`]: CompletionQueue::publish
    pub(crate) fn is_answer_due(&self, waiting: u32) -> bool {
        fence_after_rmw();
        if self.unconsumed() <= waiting {
            return false;
        }
        self.rely_on_register();
        self.unconsumed() > waiting
    }

    /// Entries that were posted and that the guest has not said to have
    /// consumed.
    fn unconsumed(&self) -> u32 {
        let size = self.size.load(Ordering::Relaxed);
        distance(self.head.load().value(), self.tail.load(Ordering::SeqCst), size)
    }

    /// The vector that its interrupts raise, if it has any.
    pub(crate) fn vector(&self) -> u16 {
        (self.vector.load(Ordering::Relaxed) & 0xffff) as u16
    }

    /// Takes the entries that wait for an interrupt; the vector to raise for
    /// them, if there are any and the queue has interrupts.
    pub(crate) fn take_interrupt(&self) -> Option<u16> {
        let mut signalled = self.signalled.load(Ordering::SeqCst);
        loop {
            let posted = self.posted.load(Ordering::SeqCst);
            if posted == signalled {
                return None;
            }
            let taken = self.signalled.compare_exchange(
                signalled,
                posted,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match taken {
                Ok(_) => break,
                Err(other) => signalled = other,
            }
        }
        if !self.interrupts.load(Ordering::Relaxed) {
            return None;
        }
        u16::try_from(self.vector.load(Ordering::Relaxed)).ok()
    }
}
