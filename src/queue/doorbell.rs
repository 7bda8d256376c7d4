// SPDX-License-Identifier: BSD-2-Clause

//! A doorbell, and with it the life of the queue it belongs to.

use crate::sync::{AtomicU64, Ordering};

/// Why a doorbell write was refused. In both cases nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorbellError {
    /// There is no such queue now.
    NoQueue,
    /// The queue cannot have this value.
    Value,
}

/// A doorbell's value, together with the queue's epoch and whether the queue
/// is open, in one word.
///
/// A guest's write that raced with the deletion of the queue and its creation
/// anew thus fails its compare-and-swap and is judged again, by the new
/// queue's rules. Only the controller thread opens and closes.
pub(crate) struct Doorbell(AtomicU64);

/// One state of a [`Doorbell`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    const OPEN: u64 = 1 << 32;

    pub(crate) fn value(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    pub(crate) fn is_open(self) -> bool {
        self.0 & Snapshot::OPEN != 0
    }

    /// Which life of the queue this is; never the same twice in a row.
    pub(crate) fn epoch(self) -> u32 {
        (self.0 >> 33) as u32
    }

    fn with_value(self, value: u32) -> Snapshot {
        Snapshot(self.0 & !0xffff_ffff | u64::from(value))
    }
}

impl Doorbell {
    pub(crate) fn closed() -> Doorbell {
        Doorbell(AtomicU64::new(0))
    }

    pub(crate) fn load(&self) -> Snapshot {
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Begins a new life of the queue with the value 0. The queue's
    /// parameters are set before: whoever sees the epoch sees them.
    pub(crate) fn open(&self) {
        let epoch = u64::from(self.load().epoch()).wrapping_add(1) & 0x7fff_ffff;
        self.0.store(epoch << 33 | Snapshot::OPEN, Ordering::SeqCst);
    }

    /// Ends the queue's life: no write is taken from here on.
    pub(crate) fn close(&self) {
        self.0.fetch_and(!Snapshot::OPEN, Ordering::SeqCst);
    }

    /// Takes the guest's `value` if `valid` says so of the value before it and
    /// this one. Returns the state that it replaced.
    pub(crate) fn write(
        &self,
        value: u32,
        valid: impl Fn(u32, u32) -> bool,
    ) -> Result<Snapshot, DoorbellError> {
        let mut now = self.load();
        loop {
            if !now.is_open() {
                return Err(DoorbellError::NoQueue);
            }
            if !valid(now.value(), value) {
                return Err(DoorbellError::Value);
            }
            let next = now.with_value(value);
            match self.0.compare_exchange(now.0, next.0, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return Ok(now),
                Err(other) => now = Snapshot(other),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

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
}
