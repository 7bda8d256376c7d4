// SPDX-License-Identifier: BSD-2-Clause

//! Statistics of the I/O commands: counted per queue, summed when read.

use crate::sync::{AtomicU64, Ordering};

/// The counters of one submission queue. They outlive the queue.
#[derive(Default)]
pub(crate) struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    media_errors: AtomicU64,
}

/// The sums over all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Read and Compare commands that succeeded.
    pub(crate) reads: u64,
    /// Write commands that succeeded.
    pub(crate) writes: u64,
    /// By these commands and by Verify.
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    /// Commands that failed for the medium's sake.
    pub(crate) media_errors: u64,
}

impl Counters {
    pub(crate) fn read(&self, bytes: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that the controller read for itself.
    pub(crate) fn verified(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn written(&self, bytes: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn media_error(&self) {
        self.media_errors.fetch_add(1, Ordering::Relaxed);
    }
}

impl Totals {
    pub(crate) fn of<'a>(counters: impl Iterator<Item = &'a Counters>) -> Totals {
        counters.fold(Totals::default(), |sum, queue| Totals {
            reads: sum.reads.wrapping_add(queue.reads.load(Ordering::Relaxed)),
            writes: sum.writes.wrapping_add(queue.writes.load(Ordering::Relaxed)),
            bytes_read: sum.bytes_read.wrapping_add(queue.bytes_read.load(Ordering::Relaxed)),
            bytes_written: sum
                .bytes_written
                .wrapping_add(queue.bytes_written.load(Ordering::Relaxed)),
            media_errors: sum.media_errors.wrapping_add(queue.media_errors.load(Ordering::Relaxed)),
        })
    }
}
