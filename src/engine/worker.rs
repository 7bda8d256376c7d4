// SPDX-License-Identifier: BSD-2-Clause

//! A worker's life: search, run, search, sleep.

use super::deck::{Commands, Deck};
use super::dispatch::{Engine, Fetch, bit_of};
use super::errands::Errand;
use super::mailbox::Mail;
use super::pace::{BATCH, Measurement};
use super::slots::Slot;
use super::{Executor, block_all_signals};
use crate::queue::{SubmissionQueue, Visit};
use crate::sync::{Ordering, Stopwatch};
use crate::wire::command::Command;

/// What a search found.
enum Found<'a, E: Executor> {
    Errand(Errand<E>),
    Commands { id: u16, queue: &'a SubmissionQueue, count: usize, _visit: Visit<'a> },
}

impl<E: Executor> Engine<E> {
    /// A worker's life: runs until the pool ends. The pool counts the new
    /// worker as searching.
    pub(crate) fn work(&self) {
        block_all_signals();
        let Some(me) = self.pool.join() else { return };
        let Some(deck) = self.decks.get(me) else { return };
        let idle = || self.mailbox.post(Mail::IDLE);
        let mut scratch = E::Scratch::default();
        let mut commands: Commands = [Command::zeroed(); BATCH + 1];
        // Workers start at different queues, so that none is favoured.
        let mut cursor = me as u32;
        let mut turn = 0u32;
        // A job that continues as the next leaves commands their turn between,
        // and so does a part of a command.
        let mut after_errand = false;
        loop {
            let Some((slot, found)) = search(self, &mut cursor, after_errand, &mut commands, &idle)
            else {
                self.leave(deck);
                if self.spin() || self.pool.sleep(me, || self.has_work()) {
                    continue;
                }
                return;
            };
            after_errand = matches!(found, Found::Errand(_));
            match found {
                Found::Errand(Errand::Job(job)) => {
                    self.leave(deck);
                    self.pool.found();
                    self.wake_if_work();
                    self.executor.run(job);
                }
                Found::Errand(Errand::Part(part)) => {
                    turn = turn.wrapping_add(1);
                    let measurement = self.pace.measure(turn);
                    self.take_part(part, deck);
                    if let Some(nanoseconds) = measurement.and_then(Measurement::end) {
                        self.pace.measured(nanoseconds, 1);
                    }
                }
                Found::Commands { id, queue, count, _visit } => {
                    let commands = commands.get(..count).unwrap_or_default();
                    turn = turn.wrapping_add(1);
                    let measurement = self.pace.measure(turn);
                    self.run_fetched(id, queue, commands, deck, &mut scratch);
                    if let Some(nanoseconds) = measurement.and_then(Measurement::end) {
                        self.pace.measured(nanoseconds, count);
                    }
                }
            }
            drop(slot);
            self.pool.search();
        }
    }

    /// Looks for work for a while, as a searcher: nobody is woken meanwhile.
    /// Returns whether there is some.
    fn spin(&self) -> bool {
        let nanoseconds = u64::try_from(self.spin.as_nanos()).unwrap_or(0);
        let watch = (nanoseconds > 0).then(Stopwatch::start);
        while watch.as_ref().is_some_and(|watch| watch.nanoseconds() < nanoseconds) {
            if self.has_work() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    fn run_fetched(
        &self,
        id: u16,
        queue: &SubmissionQueue,
        commands: &[Command],
        deck: &Deck,
        scratch: &mut E::Scratch,
    ) {
        let quick = self.pace.is_quick();
        // The store may have become slow since a batch was fetched.
        if quick || commands.len() > 1 {
            self.enter(deck);
        } else {
            self.leave(deck);
        }
        self.pool.found();
        if self.has_work() {
            self.wake_if_worth(self.ready());
        }
        if let Some(batch) = self.batch(id, queue, commands, Some(deck)) {
            let others_wait = || self.ready() & !bit_of(id) != 0;
            let share = self.pace.share(self.slots.used(), others_wait);
            batch.run(scratch, share, |engine| {
                if quick {
                    if engine.is_ready(id) { queue.backlog() } else { 0 }
                } else {
                    // Others are in the store; how many does not matter.
                    u32::from(share > 1)
                }
            });
        }
    }

    /// The worker whose deck it is executes commands of a quick store, from here
    /// on until [`Engine::leave`].
    pub(super) fn enter(&self, deck: &Deck) {
        if !deck.is_entered() {
            self.pace.begin_quick();
            deck.enter();
        }
    }

    /// It does no more.
    pub(super) fn leave(&self, deck: &Deck) {
        if deck.leave() {
            self.pace.end_quick();
        }
    }

    /// Takes what a worker that is stuck has fetched and not begun.
    fn steal<'a>(&'a self, commands: &mut [Command], idle: &'a dyn Fn()) -> Option<Found<'a, E>> {
        let abandoned = &self.abandoned;
        if !abandoned.load(Ordering::SeqCst) || !abandoned.swap(false, Ordering::SeqCst) {
            return None;
        }
        let stolen = self.decks.iter().find_map(|deck| {
            deck.steal(commands, |id| {
                let queue = self.sq(id)?;
                Some((queue, queue.visit_beside(idle)))
            })
        });
        let (id, count, (queue, visit)) = stolen?;
        // There may be another.
        self.abandoned.store(true, Ordering::SeqCst);
        Some(Found::Commands { id, queue, count, _visit: visit })
    }
}

/// Looks once at all that may have work: errands first, unless `after_errand`;
/// the queues beginning after the one that was served last. Fetches into
/// `commands`.
fn search<'a, E: Executor>(
    engine: &'a Engine<E>,
    cursor: &mut u32,
    after_errand: bool,
    commands: &mut [Command],
    idle: &'a dyn Fn(),
) -> Option<(Slot<'a>, Found<'a, E>)> {
    if engine.fault.tripped() {
        return None;
    }
    let slot = engine.slots.take()?;
    if !after_errand && let Some(errand) = engine.errands.take() {
        return Some((slot, Found::Errand(errand)));
    }
    if let Some(stolen) = engine.steal(commands, idle) {
        return Some((slot, stolen));
    }
    let buffer = commands.get_mut(..=engine.pace.batch()).unwrap_or_default();
    let ways = engine.pace.ways();
    let mut candidates = engine.ready().rotate_right(*cursor & 63);
    while candidates != 0 {
        let index = candidates.trailing_zeros().wrapping_add(*cursor) & 63;
        candidates &= candidates.wrapping_sub(1);
        let id = (index as u16).wrapping_add(1);
        let Some(queue) = engine.sq(id) else { continue };
        let Some(visit) = queue.visit(idle) else {
            engine.settle(id, queue);
            continue;
        };
        // Another thread fetches: it looks again after it has let go.
        let Some(claim) = visit.claim() else { continue };
        if let Fetch::Commands(count) = engine.fetch(id, queue, claim, buffer, ways, |_| true) {
            *cursor = index.wrapping_add(1) & 63;
            return Some((slot, Found::Commands { id, queue, count, _visit: visit }));
        }
    }
    if after_errand && let Some(errand) = engine.errands.take() {
        return Some((slot, Found::Errand(errand)));
    }
    None
}
