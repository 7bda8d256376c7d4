// SPDX-License-Identifier: BSD-2-Clause

//! What keeps other commands from changing a range between the two halves of
//! a Compare and Write.
//!
//! A command that changes the store says which range, in a cell of its own,
//! and then looks whether a fused operation has that range; a fused operation
//! says which range it has, and then looks at the cells. So either the command
//! sees the fused operation and waits for its end, or the fused operation sees
//! the command and waits for that. Where nothing is fused, this is one
//! exchange on a cache line that no other thread uses, and one load.
//!
//! Waiting is bounded by the store: for a fused operation by the changes of
//! its range that are under way, for a change by one fused operation at a
//! time. Ranges that do not overlap do not wait for each other.

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Padded, lock, wait};
use std::cell::Cell;

/// Ranges are kept in whole units of 1 MiB.
const UNIT_SHIFT: u32 = 20;

/// A range as one word that is not zero: the first unit in bits 63:20, the
/// number of units in bits 19:0, of which all ones mean "to the end".
#[derive(Clone, Copy, PartialEq, Eq)]
struct Range(u64);

const COUNT_BITS: u32 = 20;
const TO_THE_END: u64 = (1 << COUNT_BITS) - 1;
const NOTHING: u64 = 0;

impl Range {
    /// The units of `len` bytes from `offset` on, at least one.
    fn of(offset: u64, len: u64) -> Range {
        let first = offset >> UNIT_SHIFT;
        let last = offset.saturating_add(len.saturating_sub(1)) >> UNIT_SHIFT;
        let count = last.saturating_sub(first).saturating_add(1).min(TO_THE_END);
        Range(first << COUNT_BITS | count)
    }

    /// Whether `word` is a range that shares a unit with this one.
    fn overlaps(self, word: u64) -> bool {
        let bounds = |word: u64| {
            let (first, count) = (word >> COUNT_BITS, word & TO_THE_END);
            let end = if count == TO_THE_END { u64::MAX } else { first.saturating_add(count) };
            (first, end)
        };
        let ((first, end), (other, other_end)) = (bounds(self.0), bounds(word));
        word != NOTHING && first < other_end && other < end
    }
}

pub(super) struct Exclusion {
    /// The range of the fused operation that is under way.
    fused: Padded<AtomicU64>,
    /// The ranges that are being changed.
    cells: Box<[Padded<AtomicU64>]>,
    /// Held for the time of a fused operation.
    turn: Mutex<()>,
    /// For those who wait for `fused` or for a cell to change.
    waiting: Mutex<()>,
    changed: Condvar,
}

/// The right to change a range, until it is dropped.
pub(super) struct Changing<'a> {
    exclusion: &'a Exclusion,
    cell: &'a AtomicU64,
}

/// The right to be the only one that changes a range, until it is dropped.
pub(super) struct Alone<'a> {
    exclusion: &'a Exclusion,
    _turn: MutexGuard<'a, ()>,
}

thread_local! {
    /// The cell that this thread had last: most likely it is free.
    static CELL: Cell<usize> = const { Cell::new(0) };
}

impl Exclusion {
    /// For at most `threads` threads at once.
    pub(super) fn new(threads: usize) -> Exclusion {
        Exclusion {
            fused: Padded::default(),
            cells: (0..threads.max(1)).map(|_| Padded::default()).collect(),
            turn: Mutex::new(()),
            waiting: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// Whether a fused operation is under way anywhere.
    pub(super) fn is_fused(&self) -> bool {
        self.fused.load(Ordering::Relaxed) != NOTHING
    }

    /// Waits until no fused operation has any of these bytes.
    pub(super) fn change(&self, offset: u64, len: u64) -> Changing<'_> {
        let range = Range::of(offset, len);
        loop {
            let changing = Changing { exclusion: self, cell: self.enter(range) };
            if !range.overlaps(self.fused.load(Ordering::SeqCst)) {
                return changing;
            }
            drop(changing);
            let mut waiting = lock(&self.waiting);
            while range.overlaps(self.fused.load(Ordering::SeqCst)) {
                waiting = wait(&self.changed, waiting);
            }
        }
    }

    /// Waits until nobody changes any of these bytes, and keeps everybody from
    /// it.
    pub(super) fn alone(&self, offset: u64, len: u64) -> Alone<'_> {
        let range = Range::of(offset, len);
        let alone = Alone { exclusion: self, _turn: lock(&self.turn) };
        self.fused.store(range.0, Ordering::SeqCst);
        let mut waiting = lock(&self.waiting);
        while self.cells.iter().any(|cell| range.overlaps(cell.load(Ordering::SeqCst))) {
            waiting = wait(&self.changed, waiting);
        }
        drop(waiting);
        alone
    }

    /// Puts `range` into a cell that is free. There are as many as threads, so
    /// one round finds one, or a thread that is about to leave its own.
    fn enter(&self, range: Range) -> &AtomicU64 {
        let hint = CELL.get();
        loop {
            for step in 0..self.cells.len() {
                let index = hint.wrapping_add(step).checked_rem(self.cells.len()).unwrap_or(0);
                let Some(cell) = self.cells.get(index) else { continue };
                let entered =
                    cell.compare_exchange(NOTHING, range.0, Ordering::SeqCst, Ordering::Relaxed);
                if entered.is_ok() {
                    CELL.set(index);
                    return cell;
                }
            }
            std::thread::yield_now();
        }
    }

    fn notify(&self) {
        drop(lock(&self.waiting));
        self.changed.notify_all();
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.cell.store(NOTHING, Ordering::SeqCst);
        if self.exclusion.fused.load(Ordering::SeqCst) != NOTHING {
            self.exclusion.notify();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.exclusion.fused.store(NOTHING, Ordering::SeqCst);
        self.exclusion.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ranges_overlap_where_they_share_a_unit() {
        let overlap = |a: (u64, u64), b: (u64, u64)| {
            let (a, b) = (Range::of(a.0, a.1), Range::of(b.0, b.1));
            assert_eq!(a.overlaps(b.0), b.overlaps(a.0));
            a.overlaps(b.0)
        };
        assert!(overlap((0, 512), (512, 512)));
        assert!(overlap((0, MIB + 1), (MIB, 512)));
        assert!(!overlap((0, MIB), (MIB, 512)));
        assert!(!overlap((5 * MIB, 512), (4 * MIB, MIB)));
        assert!(overlap((5 * MIB, 0), (5 * MIB, 1)));
        // A deallocation of a whole store of any size.
        assert!(overlap((0, u64::MAX), (u64::MAX - 512, 512)));
        assert!(overlap((0, 1 << 45), (1 << 44, 512)));
        assert!(overlap((u64::MAX, u64::MAX), (u64::MAX - 1, 1)));
        assert!(!Range::of(0, u64::MAX).overlaps(NOTHING));
    }

    #[test]
    fn what_does_not_overlap_does_not_wait() {
        let exclusion = Exclusion::new(4);
        let _alone = exclusion.alone(0, 4096);
        let other = exclusion.change(MIB, 4096);
        drop((exclusion.change(2 * MIB, 1), exclusion.change(u64::MAX, 1), other));
    }

    /// A counter that each changes in two steps: with a change between the
    /// steps of another, one gets lost.
    #[test]
    fn a_fused_operation_is_alone() {
        const ROUNDS: u64 = 2000;
        let exclusion = Arc::new(Exclusion::new(4));
        let value = Arc::new(AtomicU64::new(0));
        let fused = (0..2).map(|_| {
            let (exclusion, value) = (exclusion.clone(), value.clone());
            thread::spawn(move || {
                for _ in 0..ROUNDS {
                    let _alone = exclusion.alone(100, 8);
                    let seen = value.load(Ordering::Relaxed);
                    thread::yield_now();
                    value.store(seen + 1, Ordering::Relaxed);
                }
            })
        });
        // Changes may meet each other, so each is one step.
        let changing = (0..2).map(|_| {
            let (exclusion, value) = (exclusion.clone(), value.clone());
            thread::spawn(move || {
                for _ in 0..ROUNDS {
                    let _changing = exclusion.change(512, 8);
                    value.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads: Vec<_> = fused.chain(changing).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(value.load(Ordering::Relaxed), 4 * ROUNDS);
    }

    #[test]
    fn a_change_under_way_is_waited_for_and_a_panic_sets_free() {
        let exclusion = Arc::new(Exclusion::new(1));
        let changing = exclusion.change(0, 512);
        let done = Arc::new(AtomicBool::new(false));
        let fused = {
            let (exclusion, done) = (exclusion.clone(), done.clone());
            thread::spawn(move || {
                let _alone = exclusion.alone(0, 512);
                assert!(done.load(Ordering::SeqCst), "did not wait");
                panic!("in the store");
            })
        };
        while exclusion.fused.load(Ordering::SeqCst) == NOTHING {
            thread::yield_now();
        }
        done.store(true, Ordering::SeqCst);
        drop(changing);
        assert!(fused.join().is_err());
        drop(exclusion.change(0, 512));
        drop(exclusion.alone(0, 512));
    }
}
