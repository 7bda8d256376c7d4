// SPDX-License-Identifier: BSD-2-Clause

//! The rings themselves, without anything that keeps a caller from misusing
//! them.

use super::function::Function;
use super::memory::{Buffer, PAGE};
use super::shadow::DoorbellBuffer;
use super::wire::{Completion, Entry};
use std::sync::Arc;

const SQ_ENTRY: u64 = 64;
const CQ_ENTRY: u64 = 16;

/// A ring of commands.
pub struct SubmissionQueue {
    function: Arc<dyn Function>,
    ring: Buffer,
    doorbell: u64,
    id: u16,
    entries: u32,
    /// Where the next entry goes.
    pub tail: u32,
    /// Where the controller said it was.
    pub head: u32,
    /// Where the doorbell has its shadow, if it has one.
    pub shadow: Option<Arc<DoorbellBuffer>>,
}

impl SubmissionQueue {
    /// Queue `id` with `entries` entries in `ring`, with a doorbell at byte
    /// `doorbell` of BAR 0.
    pub fn new(
        function: &Arc<dyn Function>,
        id: u16,
        entries: u32,
        ring: Buffer,
        doorbell: u64,
    ) -> SubmissionQueue {
        let function = function.clone();
        SubmissionQueue { function, ring, doorbell, id, entries, tail: 0, head: 0, shadow: None }
    }

    /// Bytes of a ring of `entries` entries.
    pub fn bytes(entries: u32) -> usize {
        (u64::from(entries) * SQ_ENTRY).next_multiple_of(PAGE) as usize
    }

    /// Queue identifier.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Number of entries.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Where the ring is.
    pub fn address(&self) -> u64 {
        self.ring.address()
    }

    /// Where the doorbell is in BAR 0.
    pub fn doorbell(&self) -> u64 {
        self.doorbell
    }

    /// How many entries could be added, by what the controller said.
    pub fn room(&self) -> u32 {
        let used = (self.tail + self.entries - self.head) % self.entries;
        self.entries - 1 - used
    }

    /// Writes `entry` at the tail and moves the tail, full or not; the
    /// doorbell is left alone.
    pub fn push(&mut self, entry: &Entry) {
        self.ring.write((u64::from(self.tail) * SQ_ENTRY) as usize, &entry.to_bytes());
        self.tail = (self.tail + 1) % self.entries;
    }

    /// Tells the controller where the tail is; returns whether that took a write to
    /// the register.
    pub fn ring(&self) -> bool {
        let Some(shadow) = &self.shadow else {
            self.ring_with(self.tail);
            return true;
        };
        shadow.ring(self.doorbell, self.tail)
    }

    /// Writes any value to the doorbell.
    pub fn ring_with(&self, value: u32) {
        // What was written to the ring is there before the doorbell rings.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.function.bar_write(0, self.doorbell, 4, u64::from(value));
    }
}

/// A ring of completions.
pub struct CompletionQueue {
    function: Arc<dyn Function>,
    ring: Buffer,
    doorbell: u64,
    id: u16,
    entries: u32,
    /// Where the next completion is expected.
    pub head: u32,
    /// The phase it will have.
    pub phase: bool,
    /// The vector it interrupts by.
    pub vector: Option<u16>,
    /// Where the doorbell has its shadow, if it has one.
    pub shadow: Option<Arc<DoorbellBuffer>>,
}

impl CompletionQueue {
    /// Queue `id` with `entries` entries in `ring`, with a doorbell at byte
    /// `doorbell` of BAR 0.
    pub fn new(
        function: &Arc<dyn Function>,
        id: u16,
        entries: u32,
        ring: Buffer,
        doorbell: u64,
        vector: Option<u16>,
    ) -> CompletionQueue {
        let function = function.clone();
        let (head, phase, shadow) = (0, true, None);
        CompletionQueue { function, ring, doorbell, id, entries, head, phase, vector, shadow }
    }

    /// Bytes of a ring of `entries` entries.
    pub fn bytes(entries: u32) -> usize {
        (u64::from(entries) * CQ_ENTRY).next_multiple_of(PAGE) as usize
    }

    /// Queue identifier.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Number of entries.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Where the ring is.
    pub fn address(&self) -> u64 {
        self.ring.address()
    }

    /// Where the doorbell is in BAR 0.
    pub fn doorbell(&self) -> u64 {
        self.doorbell
    }

    /// The words at the head, complete or not.
    pub fn words(&self) -> [u32; 4] {
        let at = self.ring.address() + u64::from(self.head) * CQ_ENTRY;
        let machine = self.function.machine();
        // The half with the phase first, in one access: what it vouches for is
        // read after it.
        let high = machine.load64(at + 8);
        let low = machine.load64(at);
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    /// Whether a completion is there.
    pub fn ready(&self) -> bool {
        (self.words()[3] >> 16 & 1 == 1) == self.phase
    }

    /// Takes the completion at the head; the doorbell is left alone.
    pub fn pop(&mut self) -> Option<Completion> {
        if !self.ready() {
            return None;
        }
        let completion = Completion::from_words(self.words());
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase = !self.phase;
        }
        Some(completion)
    }

    /// Tells the controller where the head is; returns whether that took a write to
    /// the register.
    pub fn ring(&self) -> bool {
        let Some(shadow) = &self.shadow else {
            self.ring_with(self.head);
            return true;
        };
        shadow.ring(self.doorbell, self.head)
    }

    /// Writes any value to the doorbell.
    pub fn ring_with(&self, value: u32) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.function.bar_write(0, self.doorbell, 4, u64::from(value));
    }
}
