// SPDX-License-Identifier: BSD-2-Clause

//! A worker's life: search, run, search, sleep.

use super::dispatch::{BATCH, Commands, Engine, Fetch, Inline};
use super::mailbox::Mail;
use super::slots::Slot;
use super::{Executor, block_all_signals};
use crate::queue::{SubmissionQueue, Visit};
use crate::wire::command::Command;

/// What a search found.
enum Found<'a, E: Executor> {
    Job(E::Job),
    Commands { id: u16, queue: &'a SubmissionQueue, count: usize, _visit: Visit<'a> },
}

impl<E: Executor> Engine<E> {
    /// A worker's life: runs until the pool ends. The pool counts the new
    /// worker as searching.
    pub(crate) fn work(&self) {
        work(self);
    }
}

fn work<E: Executor>(engine: &Engine<E>) {
    block_all_signals();
    let Some(me) = engine.pool.join() else { return };
    let idle = || engine.mailbox.post(Mail::IDLE);
    let mut scratch = E::Scratch::default();
    let mut commands: Commands = [Command::zeroed(); BATCH + 1];
    // A store that may wait is asked for one command at a time: the others are
    // left to other workers, and a completion's interrupt does not wait for
    // the next command.
    let quick = engine.inline == Inline::NeverWaits;
    let want = if quick { BATCH } else { 1 };
    // Workers start at different queues, so that none is favoured.
    let mut cursor = me as u32;
    // A job that continues as the next leaves commands their turn between.
    let mut after_job = false;
    loop {
        let buffer = commands.get_mut(..=want).unwrap_or_default();
        let Some((slot, found)) = search(engine, &mut cursor, after_job, buffer, &idle) else {
            if engine.pool.sleep(me, || engine.has_work()) {
                continue;
            }
            return;
        };
        engine.pool.found();
        if engine.has_work() {
            engine.wake();
        }
        after_job = matches!(found, Found::Job(_));
        match found {
            Found::Job(job) => engine.executor.run(job),
            Found::Commands { id, queue, count, _visit } => {
                let commands = commands.get(..count).unwrap_or_default();
                if let Some(batch) = engine.batch(queue, commands) {
                    engine.run_batch(id, queue, batch, &mut scratch, || quick);
                }
            }
        }
        drop(slot);
        engine.pool.search();
    }
}

/// Looks once at all that may have work: jobs first, unless `after_job`; the
/// queues beginning after the one that was served last. Fetches into
/// `commands`.
fn search<'a, E: Executor>(
    engine: &'a Engine<E>,
    cursor: &mut u32,
    after_job: bool,
    commands: &mut [Command],
    idle: &'a dyn Fn(),
) -> Option<(Slot<'a>, Found<'a, E>)> {
    if engine.fault.tripped() {
        return None;
    }
    let slot = engine.slots.take()?;
    if !after_job && let Some(job) = engine.take_job() {
        return Some((slot, Found::Job(job)));
    }
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
        if let Fetch::Commands(count) = engine.fetch(id, queue, claim, commands, |_| true) {
            *cursor = index.wrapping_add(1) & 63;
            return Some((slot, Found::Commands { id, queue, count, _visit: visit }));
        }
    }
    if after_job && let Some(job) = engine.take_job() {
        return Some((slot, Found::Job(job)));
    }
    None
}
