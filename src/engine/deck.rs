// SPDX-License-Identifier: BSD-2-Clause

//! The commands that a worker has fetched and not begun, where others can take
//! them: a command that never ends must not hold up those behind it.
//!
//! The worker executes from a copy of its own. Who executes a command is
//! decided by `place` alone, which the worker moves on by a command (or the two
//! halves of a fused one) and a thief to the end. The copy for thieves is
//! written and read under the lock, and is of use only as long as `place` says
//! that there is something to take.

use super::pace::BATCH;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, fence, lock};
use crate::wire::command::Command;

/// Commands fetched at once: a batch, and the second half of what it ends with.
pub(super) type Commands = [Command; BATCH + 1];

/// One worker's.
pub(super) struct Deck {
    place: AtomicU64,
    state: AtomicU32,
    hand: Mutex<Hand>,
    /// `place` as [`Deck::is_stuck`] saw it last, and how often in a row.
    seen: AtomicU64,
    times: AtomicU32,
}

struct Hand {
    queue: u16,
    commands: Commands,
}

/// The worker executes no command of a quick store.
const IDLE: u32 = 0;
/// It executes commands of a quick store.
const QUICK: u32 = 1;
/// It did, and one does not end.
const STUCK: u32 = 2;

/// A worker whom others keep from the CPU for a while is not stuck.
const PATIENCE: u32 = 3;

/// Bits 15:0 the next command that has not begun, bits 31:16 the number of all,
/// and above them a count that makes each deal another.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    fn next(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    fn len(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }

    fn with_next(self, next: usize) -> Place {
        Place(self.0 & !0xffff | next as u64 & 0xffff)
    }

    fn dealt(self, len: usize) -> Place {
        Place((self.0 >> 32).wrapping_add(1) << 32 | (len as u64 & 0xffff) << 16)
    }
}

impl Deck {
    pub(super) fn new() -> Deck {
        Deck {
            place: AtomicU64::new(0),
            state: AtomicU32::new(IDLE),
            hand: Mutex::new(Hand { queue: 0, commands: [Command::zeroed(); BATCH + 1] }),
            seen: AtomicU64::new(0),
            times: AtomicU32::new(0),
        }
    }

    /// The worker has fetched `commands` from `queue`, and begins the first
    /// `begun` of them.
    pub(super) fn deal(&self, queue: u16, commands: &[Command], begun: usize) {
        if begun < commands.len() {
            let mut hand = lock(&self.hand);
            hand.queue = queue;
            for (to, from) in hand.commands.iter_mut().zip(commands) {
                *to = *from;
            }
        }
        let place = Place(self.place.load(Ordering::Relaxed));
        // A read-modify-write, so that the caller can look for a watch at once.
        self.place.swap(place.dealt(commands.len()).with_next(begun).0, Ordering::SeqCst);
    }

    /// The worker begins `count` more commands; false if they were stolen.
    pub(super) fn begin(&self, count: usize) -> bool {
        let place = Place(self.place.load(Ordering::Relaxed));
        self.advance(place, place.next().saturating_add(count))
    }

    /// The worker begins no more; returns how many are left that nobody has.
    pub(super) fn withdraw(&self) -> usize {
        let place = Place(self.place.load(Ordering::Relaxed));
        if self.advance(place, place.len()) { place.len().saturating_sub(place.next()) } else { 0 }
    }

    fn advance(&self, from: Place, next: usize) -> bool {
        next <= from.len()
            && self
                .place
                .compare_exchange(
                    from.0,
                    from.with_next(next).0,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                )
                .is_ok()
    }

    /// Whether the worker is taken for one that executes commands of a quick
    /// store.
    pub(super) fn is_entered(&self) -> bool {
        self.state.load(Ordering::SeqCst) == QUICK
    }

    /// The worker says that it executes commands of a quick store.
    pub(super) fn enter(&self) {
        self.state.store(QUICK, Ordering::SeqCst);
    }

    /// It does no more. Returns whether it was still taken for one that does.
    pub(super) fn leave(&self) -> bool {
        self.state.load(Ordering::SeqCst) != IDLE
            && self.state.swap(IDLE, Ordering::SeqCst) == QUICK
    }

    /// Whether the worker has become stuck: it has not come on since this was
    /// asked [`PATIENCE`] times. For one thread alone.
    pub(super) fn is_stuck(&self) -> bool {
        let quick = self.state.load(Ordering::SeqCst) == QUICK;
        let place = self.place.load(Ordering::SeqCst);
        if !quick || self.seen.swap(place, Ordering::Relaxed) != place {
            self.times.store(0, Ordering::Relaxed);
            return false;
        }
        self.times.fetch_add(1, Ordering::Relaxed).wrapping_add(1) >= PATIENCE
            && self.state.compare_exchange(QUICK, STUCK, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Takes what a worker that is stuck has not begun, into `commands`; its
    /// queue and the number. `entered` is called with the queue while the
    /// worker is certainly there.
    pub(super) fn steal<V>(
        &self,
        commands: &mut [Command],
        entered: impl FnOnce(u16) -> Option<V>,
    ) -> Option<(u16, usize, V)> {
        if self.state.load(Ordering::SeqCst) != STUCK {
            return None;
        }
        let hand = lock(&self.hand);
        fence(Ordering::SeqCst);
        let place = Place(self.place.load(Ordering::SeqCst));
        let stolen = hand.commands.get(place.next()..place.len())?;
        let room = commands.get_mut(..stolen.len())?;
        if stolen.is_empty() {
            return None;
        }
        let presence = entered(hand.queue)?;
        room.copy_from_slice(stolen);
        self.advance(place, place.len()).then_some((hand.queue, stolen.len(), presence))
    }
}
