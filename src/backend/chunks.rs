// SPDX-License-Identifier: BSD-2-Clause

//! Who copies which part of a store in memory.
//!
//! A guest may write blocks while it reads them, and a block is read as it was
//! before or after, as from a disk: that is what AWUN and NAWUN say. Copies of
//! memory do not care, so each chunk of the store has a version: odd while it
//! is written. Who reads looks at it before and after, and reads again if it
//! has changed. That costs two loads of a chunk that nobody writes, and an
//! exchange of one that is written.

use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Bytes of a chunk. A multiple of every block size, so that no block is in
/// two; and few enough to be copied in about a microsecond.
pub(super) const CHUNK: usize = 16 << 10;

/// Versions at most. Chunks that share one wait for each other.
const MOST: usize = 4096;

/// Reads that found a writer before the next one keeps writers out.
const PATIENCE: u32 = 8;

pub(super) struct Chunks(Box<[AtomicU32]>);

/// A chunk that this thread alone may write or read.
struct Held<'a> {
    version: &'a AtomicU32,
    next: u32,
}

impl Chunks {
    /// For a store of `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Chunks {
        let count = bytes.div_ceil(CHUNK).clamp(1, MOST).next_power_of_two();
        Chunks((0..count).map(|_| AtomicU32::new(0)).collect())
    }

    /// Calls `copy`, which reads chunk `number`, until it has read what was
    /// there at one moment.
    pub(super) fn read<R>(&self, number: usize, mut copy: impl FnMut() -> R) -> R {
        let version = self.version(number);
        for _ in 0..PATIENCE {
            let before = version.load(Ordering::Acquire);
            if before & 1 == 0 {
                let copied = copy();
                // What was copied was read before the version is looked at.
                fence(Ordering::Acquire);
                if version.load(Ordering::Relaxed) == before {
                    return copied;
                }
            }
            std::thread::yield_now();
        }
        let _held = Held::take(version);
        copy()
    }

    /// Calls `change`, which writes to chunk `number`, while nobody else does.
    pub(super) fn write<R>(&self, number: usize, change: impl FnOnce() -> R) -> R {
        let _held = Held::take(self.version(number));
        change()
    }

    fn version(&self, number: usize) -> &AtomicU32 {
        // A power of two, and so a mask of it.
        &self.0[number & (self.0.len() - 1)]
    }
}

impl Held<'_> {
    fn take(version: &AtomicU32) -> Held<'_> {
        loop {
            let even = version.load(Ordering::Relaxed) & !1;
            let (odd, next) = (even | 1, even.wrapping_add(2));
            let taken =
                version.compare_exchange(even, odd, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if taken {
                // The version is odd before anything is written. On x86-64, where
                // streamed stores pass others, it is the exchange that sees to it.
                fence(Ordering::Release);
                return Held { version, next };
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.version.store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_versions_as_chunks_but_not_without_bound() {
        for (bytes, count) in
            [(1, 1), (CHUNK, 1), (CHUNK + 1, 2), (5 * CHUNK, 8), (usize::MAX, MOST)]
        {
            let chunks = Chunks::new(bytes);
            assert_eq!(chunks.0.len(), count, "{bytes}");
            [0, 1, count, usize::MAX].iter().for_each(|number| chunks.write(*number, || ()));
        }
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let chunks = Chunks::new(CHUNK);
        let mut reads = 0;
        let found = chunks.read(0, || {
            reads += 1;
            if reads < 3 {
                chunks.write(0, || ());
            }
            reads
        });
        assert_eq!(found, 3);
    }

    /// Writers that never cease hold no reader up for ever: after so many
    /// reads in vain it keeps them out.
    #[test]
    fn a_reader_comes_to_its_end() {
        let chunks = Chunks::new(CHUNK);
        let mut reads = 0;
        chunks.read(0, || {
            reads += 1;
            if reads <= PATIENCE {
                chunks.write(0, || ());
            } else {
                assert_eq!(chunks.0[0].load(Ordering::Relaxed) & 1, 1, "writers wait");
            }
        });
        assert_eq!(reads, PATIENCE + 1);
    }

    #[test]
    fn a_copy_that_panics_leaves_the_chunk_to_others() {
        let chunks = Chunks::new(CHUNK);
        let panicking = std::panic::AssertUnwindSafe(|| chunks.write(0, || panic!("as asked")));
        assert!(std::panic::catch_unwind(panicking).is_err());
        chunks.write(0, || ());
        chunks.read(0, || ());
    }
}
