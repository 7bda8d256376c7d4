// SPDX-License-Identifier: BSD-2-Clause

//! A doorbell, and with it the life of the queue it belongs to.
//!
//! A doorbell may have a **shadow** (Doorbell Buffer Config): a word in guest
//! memory that holds its value, so that the guest need not write to the
//! register, which would stop its CPU. Beside it is the event index: a guest
//! that moves the shadow past it writes to the register as well. So whoever
//! stops looking at the shadow stores the value it has seen there, fences, and
//! looks once more.
//!
//! Until the guest has moved the shadow, the register is the truth, and the
//! shadow is brought in step with it: so a guest that never uses the shadow is
//! served, and so is Linux, which has none for the admin queue. From the guest's
//! first move on, the shadow is the truth, and a write to the register only says
//! that it is to be looked at. Its value is as old as the write is late (some
//! hypervisors post them), and would lead the queue back.

use crate::memory::Segment;
use crate::sync::{AtomicU64, Mutex, Ordering, fence, lock};

/// Why a doorbell write was refused. In both cases nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorbellError {
    /// There is no such queue now.
    NoQueue,
    /// The queue cannot have this value.
    Value,
}

/// The shadow's two words of four bytes.
#[derive(Clone, Copy)]
pub(crate) struct ShadowWords {
    /// Written by the guest, and by the controller for the register.
    pub(crate) value: Segment,
    /// Written by the controller.
    pub(crate) event: Segment,
}

/// A doorbell's value, together with the queue's epoch, whether the queue is
/// open, and whether there is a shadow, in one word.
///
/// A guest's write that raced with the deletion of the queue and its creation
/// anew thus fails its compare-and-swap and is judged again, by the new
/// queue's rules. Only the controller thread opens and closes.
///
/// Where there is a shadow, the word is brought in step with it under the lock,
/// by register writes too: so a value is never taken for newer than it is, and
/// once [`Doorbell::set_shadow`] returns, nobody touches the words before. The
/// lock is held over a few accesses to memory and nothing else.
pub(crate) struct Doorbell {
    word: AtomicU64,
    shadow: Mutex<Option<Shadow>>,
}

struct Shadow {
    words: ShadowWords,
    /// What the controller has stored in the shadow, until the guest has moved
    /// it.
    ours: Option<u32>,
    /// The event index.
    event: u32,
    /// The last value that was refused: it is told once.
    refused: Option<u32>,
}

/// One state of a [`Doorbell`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    const OPEN: u64 = 1 << 32;
    const SHADOWED: u64 = 1 << 33;

    pub(crate) fn value(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    pub(crate) fn is_open(self) -> bool {
        self.0 & Snapshot::OPEN != 0
    }

    pub(crate) fn is_shadowed(self) -> bool {
        self.0 & Snapshot::SHADOWED != 0
    }

    /// Which life of the queue this is; never the same twice in a row.
    pub(crate) fn epoch(self) -> u32 {
        (self.0 >> 34) as u32
    }

    fn with_value(self, value: u32) -> Snapshot {
        Snapshot(self.0 & !0xffff_ffff | u64::from(value))
    }
}

impl Doorbell {
    pub(crate) fn closed() -> Doorbell {
        Doorbell { word: AtomicU64::new(0), shadow: Mutex::new(None) }
    }

    pub(crate) fn load(&self) -> Snapshot {
        Snapshot(self.word.load(Ordering::Acquire))
    }

    /// Begins a new life of the queue with the value 0 and without a shadow.
    /// The queue's parameters are set before: whoever sees the epoch sees them.
    pub(crate) fn open(&self) {
        let mut shadow = lock(&self.shadow);
        *shadow = None;
        let epoch = u64::from(self.load().epoch()).wrapping_add(1) & 0x3fff_ffff;
        self.word.store(epoch << 34 | Snapshot::OPEN, Ordering::SeqCst);
    }

    /// Ends the queue's life: no write is taken from here on.
    pub(crate) fn close(&self) {
        self.word.fetch_and(!Snapshot::OPEN, Ordering::SeqCst);
    }

    /// Begins, changes or ends the use of a shadow. Both words begin with the
    /// doorbell's value: what is there is of another life.
    pub(crate) fn set_shadow(&self, words: Option<ShadowWords>) {
        let mut shadow = lock(&self.shadow);
        let Some(words) = words else {
            *shadow = None;
            self.word.fetch_and(!Snapshot::SHADOWED, Ordering::SeqCst);
            return;
        };
        loop {
            let now = self.load();
            words.event.store32(0, now.value(), Ordering::Relaxed);
            words.value.store32(0, now.value(), Ordering::SeqCst);
            let (ours, event) = (Some(now.value()), now.value());
            *shadow = Some(Shadow { words, ours, event, refused: None });
            // Who writes to the register meanwhile has changed the word.
            if self.exchange(now, Snapshot(now.0 | Snapshot::SHADOWED)) {
                return;
            }
        }
    }

    /// The guest's write of `value` to the register. Taken if `valid` says so
    /// of the value before it and this one, and if the register is the truth.
    pub(crate) fn write(
        &self,
        value: u32,
        valid: impl Fn(u32, u32) -> bool,
    ) -> Result<(), DoorbellError> {
        loop {
            let now = self.load();
            if !now.is_open() {
                return Err(DoorbellError::NoQueue);
            }
            if now.is_shadowed() {
                return self.write_beside_shadow(value, valid);
            }
            if !valid(now.value(), value) {
                return Err(DoorbellError::Value);
            }
            if self.exchange(now, now.with_value(value)) {
                return Ok(());
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn write_beside_shadow(
        &self,
        value: u32,
        valid: impl Fn(u32, u32) -> bool,
    ) -> Result<(), DoorbellError> {
        let mut shadow = lock(&self.shadow);
        loop {
            let now = self.load();
            if !now.is_open() {
                return Err(DoorbellError::NoQueue);
            }
            if let Some(shadow) = &mut *shadow
                && shadow.is_taken_up()
            {
                let legal = self.take(shadow, valid);
                return if legal { Ok(()) } else { Err(DoorbellError::Value) };
            }
            if !valid(now.value(), value) {
                return Err(DoorbellError::Value);
            }
            if let Some(Shadow { words, ours: Some(ours), .. }) = &mut *shadow {
                // Fails if the guest moves it just now.
                if words.value.exchange32(0, *ours, value, Ordering::SeqCst).is_none() {
                    continue;
                }
                *ours = value;
            }
            if self.exchange(now, now.with_value(value)) {
                return Ok(());
            }
        }
    }

    /// Takes the value of the shadow, if there is one that the guest has moved,
    /// and if `valid` says so as in [`Doorbell::write`]. Returns false if it has
    /// become one that cannot be.
    pub(crate) fn refresh(&self, valid: impl Fn(u32, u32) -> bool) -> bool {
        let mut shadow = lock(&self.shadow);
        let Some(shadow) = &mut *shadow else { return true };
        !shadow.is_taken_up() || self.take(shadow, valid)
    }

    /// As [`Doorbell::refresh`], of a shadow that is the truth.
    fn take(&self, shadow: &mut Shadow, valid: impl Fn(u32, u32) -> bool) -> bool {
        let Some(value) = shadow.words.value.load32(0, Ordering::Acquire) else { return true };
        loop {
            let now = self.load();
            if !now.is_open() || value == now.value() {
                return true;
            }
            if !valid(now.value(), value) {
                return shadow.refused.replace(value) == Some(value);
            }
            if self.exchange(now, now.with_value(value)) {
                return true;
            }
        }
    }

    /// Has the guest write to the register when it moves the shadow on from
    /// the doorbell's value. The caller then refreshes once more.
    pub(crate) fn watch_register(&self) {
        if let Some(Shadow { words, event, .. }) = &mut *lock(&self.shadow) {
            let value = self.load().value();
            if *event != value {
                *event = value;
                words.event.store32(0, value, Ordering::SeqCst);
                fence(Ordering::SeqCst);
            }
        }
    }

    fn exchange(&self, now: Snapshot, next: Snapshot) -> bool {
        self.word.compare_exchange(now.0, next.0, Ordering::SeqCst, Ordering::Acquire).is_ok()
    }
}

impl Shadow {
    /// Whether the guest has moved the shadow by now.
    fn is_taken_up(&mut self) -> bool {
        if let Some(ours) = self.ours
            && self.words.value.load32(0, Ordering::Acquire).is_some_and(|value| value != ours)
        {
            self.ours = None;
        }
        self.ours.is_none()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::Region;

    #[test]
    fn a_closed_doorbell_takes_nothing() {
        let doorbell = Doorbell::closed();
        assert_eq!(doorbell.write(1, |_, _| true).err(), Some(DoorbellError::NoQueue));
        doorbell.open();
        assert!(doorbell.write(1, |_, _| true).is_ok());
        assert_eq!(doorbell.load().value(), 1);
        doorbell.close();
        assert_eq!(doorbell.write(2, |_, _| true).err(), Some(DoorbellError::NoQueue));
    }

    #[test]
    fn every_life_has_its_own_epoch_and_starts_at_zero() {
        let doorbell = Doorbell::closed();
        doorbell.open();
        let first = doorbell.load().epoch();
        doorbell.write(7, |_, _| true).unwrap();
        doorbell.close();
        doorbell.open();
        assert_ne!(doorbell.load().epoch(), first);
        assert_eq!(doorbell.load().value(), 0);
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let doorbell = Doorbell::closed();
        doorbell.open();
        doorbell.write(3, |_, new| new < 4).unwrap();
        assert_eq!(doorbell.write(u32::MAX, |_, new| new < 4).err(), Some(DoorbellError::Value));
        assert_eq!(doorbell.load().value(), 3);
    }

    struct Guest(Region);

    impl Guest {
        fn new(byte: u32) -> Guest {
            let guest = Guest(Region::zeroed(4096).unwrap());
            (0..8).for_each(|word| guest.store(word * 4, byte));
            guest
        }

        fn words(&self, at: usize) -> ShadowWords {
            let word = |at| self.0.segment().slice(at, 4).unwrap();
            ShadowWords { value: word(at), event: word(at + 4) }
        }

        fn store(&self, at: usize, value: u32) {
            self.0.segment().store32(at, value, Ordering::SeqCst).unwrap();
        }

        fn load(&self, at: usize) -> u32 {
            self.0.segment().load32(at, Ordering::SeqCst).unwrap()
        }
    }

    fn open_at(value: u32) -> Doorbell {
        let doorbell = Doorbell::closed();
        doorbell.open();
        doorbell.write(value, |_, _| true).unwrap();
        doorbell
    }

    #[test]
    fn a_shadow_begins_with_the_doorbell_and_not_with_what_memory_holds() {
        let (guest, doorbell) = (Guest::new(77), open_at(5));
        doorbell.set_shadow(Some(guest.words(0)));
        assert_eq!((guest.load(0), guest.load(4)), (5, 5));
        assert!(doorbell.refresh(|_, _| false));
        assert_eq!(doorbell.load().value(), 5);
    }

    #[test]
    fn the_register_is_the_truth_until_the_guest_moves_the_shadow() {
        let (guest, doorbell) = (Guest::new(0), open_at(0));
        doorbell.set_shadow(Some(guest.words(0)));
        for value in [4, 7, 0, 3] {
            doorbell.write(value, |_, _| true).unwrap();
            assert!(doorbell.refresh(|_, _| true));
            // So that the guest's first move is from there.
            assert_eq!((doorbell.load().value(), guest.load(0)), (value, value));
        }
        assert_eq!(doorbell.write(9, |_, new| new < 8).err(), Some(DoorbellError::Value));
        assert_eq!((doorbell.load().value(), guest.load(0)), (3, 3));
        guest.store(0, 5);
        assert!(doorbell.refresh(|_, _| true));
        assert_eq!(doorbell.load().value(), 5);
    }

    #[test]
    fn a_register_write_that_comes_late_leads_nowhere() {
        let (guest, doorbell) = (Guest::new(0), open_at(0));
        doorbell.set_shadow(Some(guest.words(0)));
        doorbell.write(2, |_, _| true).unwrap();
        // The guest writes 3 to the register, begins to use the shadow, and only
        // then the write arrives: nobody has looked at the shadow yet.
        guest.store(0, 6);
        doorbell.write(3, |_, _| true).unwrap();
        assert_eq!((doorbell.load().value(), guest.load(0)), (6, 6));
        guest.store(0, 1);
        for late in [4, 6, 99] {
            doorbell.write(late, |_, new| new < 8).unwrap();
            assert_eq!((doorbell.load().value(), guest.load(0)), (1, 1));
        }
        // Where the register was last is no word of it either.
        guest.store(0, 2);
        doorbell.write(1, |_, _| true).unwrap();
        assert_eq!((doorbell.load().value(), guest.load(0)), (2, 2));
        guest.store(0, 99);
        assert_eq!(doorbell.write(3, |_, new| new < 8).err(), Some(DoorbellError::Value));
        assert_eq!(doorbell.write(3, |_, new| new < 8).err(), None, "it was told");
        assert_eq!(doorbell.load().value(), 2);
    }

    #[test]
    fn a_shadow_that_cannot_be_is_told_once_and_not_taken() {
        let (guest, doorbell) = (Guest::new(0), open_at(1));
        doorbell.set_shadow(Some(guest.words(0)));
        guest.store(0, 1000);
        assert!(!doorbell.refresh(|_, new| new < 8));
        assert!(doorbell.refresh(|_, new| new < 8));
        guest.store(0, 1001);
        assert!(!doorbell.refresh(|_, new| new < 8));
        assert_eq!(doorbell.load().value(), 1);
        guest.store(0, 2);
        assert!(doorbell.refresh(|_, new| new < 8));
        assert_eq!(doorbell.load().value(), 2);
    }

    #[test]
    fn words_of_before_are_not_touched_again() {
        let (guest, doorbell) = (Guest::new(0), open_at(3));
        doorbell.set_shadow(Some(guest.words(0)));
        guest.store(0, 5);
        doorbell.set_shadow(Some(guest.words(8)));
        (0..2).for_each(|word| guest.store(word * 4, 6));
        doorbell.write(4, |_, _| true).unwrap();
        doorbell.watch_register();
        assert!(doorbell.refresh(|_, _| true));
        assert_eq!([0, 4, 8, 12].map(|at| guest.load(at)), [6, 6, 4, 4]);
        doorbell.set_shadow(None);
        guest.store(8, 6);
        doorbell.write(5, |_, _| true).unwrap();
        doorbell.watch_register();
        assert!(doorbell.refresh(|_, _| true));
        assert_eq!([0, 4, 8, 12].map(|at| guest.load(at)), [6, 6, 6, 4]);
        assert_eq!(doorbell.load().value(), 5);
    }
}
