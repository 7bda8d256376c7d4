// SPDX-License-Identifier: BSD-2-Clause

//! Interrupts that are not lost when a vector is masked.
//!
//! bhyve drops an interrupt for a vector that is masked or disabled, and does
//! not remember it. Linux masks a vector while it moves it to another CPU. So
//! every request is remembered until it has certainly been delivered:
//!
//! * A request is counted in `requested` *before* the mask is looked at.
//! * It is struck off only if no write to the table or to configuration space
//!   was under way from before the look until after the interrupt was raised.
//! * A vCPU that makes such a write raises, after it, what is pending.

use crate::host::Host;
use crate::sync::{AtomicU64, Ordering, fence, fence_after_rmw};
use std::sync::Arc;

/// The MSI-X vectors of one controller.
pub(crate) struct Interrupts {
    host: Arc<dyn Host>,
    vectors: Box<[Vector]>,
    /// Changes of masks that have begun, and that are done.
    changes_begun: AtomicU64,
    changes_done: AtomicU64,
    /// Interrupts handed to the host, for statistics.
    raised: AtomicU64,
}

/// Pending while the two differ. Counters, not a flag: a raise that comes late
/// must not strike off a request that was made after it.
struct Vector {
    requested: AtomicU64,
    delivered: AtomicU64,
}

impl Interrupts {
    pub(crate) fn new(host: Arc<dyn Host>, vectors: u16) -> Interrupts {
        let vector = || Vector { requested: AtomicU64::new(0), delivered: AtomicU64::new(0) };
        Interrupts {
            host,
            vectors: (0..vectors).map(|_| vector()).collect(),
            changes_begun: AtomicU64::new(0),
            changes_done: AtomicU64::new(0),
            raised: AtomicU64::new(0),
        }
    }

    /// Number of vectors in the table.
    pub(crate) fn vectors(&self) -> u16 {
        u16::try_from(self.vectors.len()).unwrap_or(u16::MAX)
    }

    /// Interrupts handed to the host so far.
    pub(crate) fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    /// Requests an interrupt: now if it can be, else as soon as it can.
    pub(crate) fn request(&self, vector: u16) {
        let Some(slot) = self.vectors.get(usize::from(vector)) else { return };
        let request = slot.requested.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        fence_after_rmw();
        self.deliver(vector, slot, request);
    }

    fn deliver(&self, vector: u16, slot: &Vector, request: u64) {
        let done = self.changes_done.load(Ordering::SeqCst);
        let begun = self.changes_begun.load(Ordering::SeqCst);
        if !self.host.msix_deliverable(vector) {
            return;
        }
        self.host.msix_raise(vector);
        self.raised.fetch_add(1, Ordering::Relaxed);
        fence_after_rmw();
        if begun == done && self.changes_begun.load(Ordering::SeqCst) == begun {
            slot.delivered.fetch_max(request, Ordering::SeqCst);
        }
    }

    /// Carries out a guest's `change` of masks, then raises what it unmasked.
    pub(crate) fn change<R>(&self, change: impl FnOnce() -> R) -> R {
        // The host's table is plain memory: the fences order it for us.
        self.changes_begun.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let result = change();
        self.changes_done.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for (vector, slot) in (0u16..).zip(&self.vectors) {
            let requested = slot.requested.load(Ordering::SeqCst);
            if slot.delivered.load(Ordering::SeqCst) < requested {
                self.deliver(vector, slot, requested);
            }
        }
        result
    }

    /// Forgets what is pending: a reset.
    pub(crate) fn forget(&self) {
        for slot in &self.vectors {
            slot.delivered.fetch_max(slot.requested.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}
