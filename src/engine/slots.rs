// SPDX-License-Identifier: BSD-2-Clause

//! How many commands are in the backend at once.

use crate::sync::{AtomicU32, Ordering};

/// The `ioslots` of one controller: a thread that executes commands of a store
/// that may wait, worker or vCPU, holds one slot meanwhile, and executes one
/// command at a time.
pub(crate) struct Slots {
    limit: u32,
    used: AtomicU32,
    peak: AtomicU32,
}

/// One slot, held until it is dropped.
pub(crate) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(crate) fn new(limit: u16) -> Slots {
        Slots { limit: u32::from(limit.max(1)), used: AtomicU32::new(0), peak: AtomicU32::new(0) }
    }

    /// Takes a slot if one is free; never waits.
    pub(crate) fn take(&self) -> Option<Slot<'_>> {
        let used = self
            .used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                (used < self.limit).then(|| used.wrapping_add(1))
            })
            .ok()?
            .wrapping_add(1);
        if used > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(used, Ordering::Relaxed);
        }
        Some(Slot(self))
    }

    /// Whether a slot is free.
    pub(crate) fn any_free(&self) -> bool {
        self.used.load(Ordering::SeqCst) < self.limit
    }

    /// Slots that are taken now.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most slots that were ever taken at once.
    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::SeqCst);
    }
}
