// SPDX-License-Identifier: BSD-2-Clause

//! From fetched commands to their completions and interrupts.

use super::coalescing::Due;
use super::deck::Deck;
use super::dispatch::{Engine, Inline};
use super::{Executor, Outcome, Unfinished};
use crate::queue::{CompletionQueue, SubmissionQueue};
use crate::wire::command::{Command, fuse};
use crate::wire::completion::Completion;
use crate::wire::status::Status;

/// Commands fetched from one queue, each with a completion entry reserved. If
/// it is dropped before all are done (a panic), the rest of the reservations
/// go back.
pub(super) struct Batch<'a, E: Executor> {
    engine: &'a Engine<E>,
    id: u16,
    queue: &'a SubmissionQueue,
    cq: &'a CompletionQueue,
    commands: &'a [Command],
    /// Where others can take what has not begun.
    deck: Option<&'a Deck>,
    begun: usize,
    posted: usize,
}

/// Whether these commands, one right after the other in their queue, are the
/// halves of a fused operation.
pub(super) fn are_halves(command: &Command, next: &Command) -> bool {
    command.fuse() == fuse::FIRST && next.fuse() == fuse::SECOND
}

/// What the executor has reported, and the log has, says so.
pub(super) fn logged(outcome: Outcome) -> Outcome {
    let Outcome { dw0, status } = outcome;
    Outcome { dw0, status: if status.is_error() { status.with_more() } else { status } }
}

/// As [`Engine::complete`], for who knows the queue.
#[inline(always)]
fn post(
    sq_id: u16,
    sq: Option<&SubmissionQueue>,
    cq: &CompletionQueue,
    cid: u16,
    outcome: Outcome,
) -> u32 {
    let Outcome { dw0, status } = outcome;
    cq.publish(|| {
        let sq_head = sq.map_or(0, SubmissionQueue::head);
        Completion { dw0, sq_head, sq_id, cid, status }
    })
}

impl<E: Executor> Engine<E> {
    /// Posts the completion of `command` of queue `sq_id`. The entry was
    /// reserved. Returns how many entries wait for an interrupt.
    pub(crate) fn complete(
        &self,
        sq_id: u16,
        cq: &CompletionQueue,
        cid: u16,
        outcome: Outcome,
    ) -> u32 {
        post(sq_id, self.sq(sq_id), cq, cid, outcome)
    }

    /// Raises the interrupt for what was posted to `cq`.
    pub(crate) fn signal(&self, cq: &CompletionQueue) {
        if let Some(vector) = cq.take_interrupt() {
            self.interrupts.request(vector);
        }
    }

    /// The commands that were fetched from queue `id`.
    pub(super) fn batch<'a>(
        &'a self,
        id: u16,
        queue: &'a SubmissionQueue,
        commands: &'a [Command],
        deck: Option<&'a Deck>,
    ) -> Option<Batch<'a, E>> {
        let cq = self.cq(queue.cq_id())?;
        Some(Batch { engine: self, id, queue, cq, commands, deck, begun: 0, posted: 0 })
    }
}

impl<'a, E: Executor> Batch<'a, E> {
    /// Runs all that nobody takes away. While more is to come, `share`
    /// completions share an interrupt, or as many as are still to come if those
    /// are more: then one half of what the guest has in flight is in its hands
    /// and the other here. To come are those later in the batch, and what
    /// `follows` counts.
    pub(super) fn run(
        mut self,
        scratch: &mut E::Scratch,
        share: u32,
        follows: impl Fn(&Engine<E>) -> u32,
    ) {
        let due = self.engine.coalescing.due(self.cq.vector(), self.cq.capacity(), share);
        while let Some(operation) = self.begin() {
            let waiting = self.execute(operation, scratch);
            if !due.is_now(waiting, || self.to_come(&follows)) {
                // Without a deck the store never waits: this thread itself
                // raises the interrupt, when the batch ends.
                if self.deck.is_some() || due.is_asked() {
                    self.engine.put_off();
                }
            } else if self.awaits_answer(due, waiting) {
                self.engine.put_off();
            } else {
                self.engine.signal(self.cq);
            }
        }
        if self.begun < self.commands.len() {
            self.engine.signal(self.cq);
        }
    }

    /// Whether the interrupt can wait for the guest's write to the head
    /// doorbell. A vCPU that rings for one command after another finds each
    /// done before it rings for the next: it needs no interrupt for each while
    /// it has not answered the first.
    fn awaits_answer(&self, due: Due, waiting: u32) -> bool {
        self.engine.inline == Inline::NeverWaits
            && self.deck.is_none()
            && !due.is_asked()
            && self.cq.is_answer_due(waiting)
    }

    fn to_come(&self, follows: impl Fn(&Engine<E>) -> u32) -> u32 {
        let here = self.commands.len().saturating_sub(self.begun) as u32;
        here.saturating_add(follows(self.engine))
    }

    /// The command to execute next, with the other half of its operation if it
    /// is fused.
    #[inline(always)]
    fn begin(&mut self) -> Option<(&'a Command, Option<&'a Command>)> {
        let (command, rest) = self.commands.get(self.begun..)?.split_first()?;
        let second = rest.first().filter(|second| are_halves(command, second));
        let count = if second.is_some() { 2 } else { 1 };
        match self.deck {
            None => {}
            Some(deck) if self.begun == 0 => {
                deck.deal(self.id, self.commands, count);
                if count < self.commands.len() {
                    // It may have been taken for stuck before there was
                    // anything here to take, and nobody looks at it again.
                    self.engine.enter(deck);
                    self.engine.put_off();
                }
            }
            Some(deck) if deck.begin(count) => {}
            Some(_) => return None,
        }
        self.begun = self.begun.wrapping_add(count);
        Some((command, second))
    }

    /// Executes and posts one operation; returns how many entries wait for an
    /// interrupt.
    #[inline(always)]
    fn execute(
        &mut self,
        (command, second): (&Command, Option<&Command>),
        scratch: &mut E::Scratch,
    ) -> u32 {
        let executor = &self.engine.executor;
        let Some(second) = second else {
            let outcome = if !self.queue.is_open() {
                ABORTED
            } else {
                match executor.execute(self.id, command, scratch) {
                    Ok(()) => Outcome::SUCCESS,
                    Err(Unfinished::Failed(status)) => logged(status.into()),
                    Err(Unfinished::InParts) => return self.pass_on(command, scratch),
                }
            };
            return self.post(command.cid.get(), outcome);
        };
        let [outcome, last] = if self.queue.is_open() {
            executor.execute_fused(self.id, [command, second], scratch).map(logged)
        } else {
            [ABORTED; 2]
        };
        self.post(command.cid.get(), outcome);
        self.post(second.cid.get(), last)
    }

    /// The command is executed in parts, and whoever ends the last one posts its
    /// completion.
    #[cold]
    fn pass_on(&mut self, command: &Command, scratch: &E::Scratch) -> u32 {
        let parts = self.engine.executor.parts(scratch);
        self.posted = self.posted.wrapping_add(1);
        self.engine.begin_parts(self.id, command, parts);
        0
    }

    #[inline(always)]
    fn post(&mut self, cid: u16, outcome: Outcome) -> u32 {
        self.posted = self.posted.wrapping_add(1);
        post(self.id, Some(self.queue), self.cq, cid, outcome)
    }
}

/// The queue was closed after the command was fetched. A deletion tells the
/// guest; after a reset there is nobody to tell, and nothing is posted.
pub(super) const ABORTED: Outcome = Outcome { dw0: 0, status: Status::ABORTED_SQ_DELETION };

impl<E: Executor> Drop for Batch<'_, E> {
    fn drop(&mut self) {
        let left = match self.deck {
            Some(deck) => deck.withdraw(),
            None => self.commands.len().saturating_sub(self.begun),
        };
        let unused = left.saturating_add(self.begun.saturating_sub(self.posted));
        if unused > 0 {
            self.engine.give_back(self.cq, unused as u32);
        }
    }
}
