// SPDX-License-Identifier: BSD-2-Clause

//! Commands that are executed in parts, by as many workers as have nothing
//! else to do.
//!
//! The worker that has fetched the command executes the first part, and leaves
//! the others to whoever looks for work, which is soon itself. No worker waits
//! for another: the one that ends the last part posts the completion. Between
//! two parts a worker looks at the queues, so that no other command waits for
//! more than a part. Where many such commands wait already, the worker executes
//! all parts itself: so the memory that they take is bounded.
//!
//! From its beginning to its completion the command counts as in flight in its
//! queue. Whoever closes the queue then calls [`Engine::drop_closed_parts`], so
//! that only what has begun is waited for.

use super::batch::{ABORTED, logged};
use super::deck::Deck;
use super::dispatch::Engine;
use super::errands::Errand;
use super::mailbox::Mail;
use super::{Executor, Outcome};
use crate::queue::{CompletionQueue, SubmissionQueue};
use crate::sync::{AtomicU32, Mutex, Ordering, fence_after_rmw, lock};
use crate::wire::command::Command;
use crate::wire::status::Status;
use std::sync::Arc;

/// A command in parts.
struct Whole<E: Executor> {
    queue: u16,
    command: Command,
    parts: Box<[E::Part]>,
    /// Parts that have not ended.
    left: AtomicU32,
    /// The first part, in their order, of those that have failed, and how.
    failed: Mutex<Option<(usize, Status)>>,
}

/// One part of a command.
pub(super) struct Part<E: Executor> {
    whole: Arc<Whole<E>>,
    index: usize,
}

impl<E: Executor> Part<E> {
    /// The part after it.
    pub(super) fn next(&self) -> Option<Part<E>> {
        let index = self.index.wrapping_add(1);
        (index < self.whole.parts.len()).then(|| Part { whole: self.whole.clone(), index })
    }

    /// The number of parts from it to the last.
    pub(super) fn with_those_after(&self) -> u32 {
        self.whole.parts.len().saturating_sub(self.index) as u32
    }
}

/// A part that runs; it has ended when this is dropped.
struct Running<'a, E: Executor> {
    engine: &'a Engine<E>,
    part: Part<E>,
    /// How it would end if it panicked now.
    result: Result<(), Status>,
}

impl<E: Executor> Drop for Running<'_, E> {
    fn drop(&mut self) {
        self.engine.end_parts(&self.part, 1, self.result);
    }
}

/// The end of a command in parts. When it is dropped, the command is in flight
/// no more, and its completion entry goes back if it was not used (a panic).
struct Ending<'a, E: Executor> {
    engine: &'a Engine<E>,
    queue: &'a SubmissionQueue,
    cq: &'a CompletionQueue,
    posted: bool,
}

impl<E: Executor> Drop for Ending<'_, E> {
    fn drop(&mut self) {
        if !self.posted {
            self.engine.give_back(self.cq, 1);
        }
        self.queue.leave(&|| self.engine.mailbox.post(Mail::IDLE));
    }
}

impl<E: Executor> Engine<E> {
    /// Begins a command from queue `id`, whose completion entry is reserved,
    /// for a thread that visits the queue: executes the first of its `parts`.
    pub(super) fn begin_parts(&self, id: u16, command: &Command, parts: Box<[E::Part]>) {
        let Some(queue) = self.sq(id) else { return };
        queue.stay();
        let left = AtomicU32::new(parts.len() as u32);
        let failed = Mutex::new(None);
        let whole = Whole { queue: id, command: *command, parts, left, failed };
        let first = Part { whole: Arc::new(whole), index: 0 };
        if let Some(next) = first.next() {
            if self.errands.are_many() {
                return self.run_all(queue, first);
            }
            self.errands.push(Errand::Part(next));
            // Either this sees the queue closed, or the closer sees the part.
            fence_after_rmw();
            if queue.is_open() {
                self.wake_for_errands();
            } else {
                // It was closed, and what waited dropped, perhaps before these.
                self.drop_closed_parts();
            }
        }
        self.run_part(first);
    }

    /// Executes all parts from `first` on, as long as the queue is open.
    fn run_all(&self, queue: &SubmissionQueue, first: Part<E>) {
        let mut next = Some(first);
        while let Some(part) = next {
            if !queue.is_open() {
                let left = part.with_those_after();
                return self.end_parts(&part, left, Err(ABORTED.status));
            }
            next = part.next();
            self.run_part(part);
        }
    }

    /// A worker's turn at a part that it has taken.
    pub(super) fn take_part(&self, part: Part<E>, deck: &Deck) {
        if self.pace.is_quick() {
            self.enter(deck);
            // Nothing to steal, but a sign that the worker comes on.
            deck.deal(part.whole.queue, &[], 0);
        } else {
            self.leave(deck);
        }
        self.pool.found();
        if self.has_work() {
            self.wake_for_errands();
        }
        self.run_part(part);
    }

    /// Wakes a worker for what waits anywhere, unless those awake come to it
    /// sooner.
    fn wake_for_errands(&self) {
        let backlog = || self.backlog(self.ready()).saturating_add(self.errands.count());
        if self.pace.suffices(backlog) {
            self.put_off();
        } else {
            self.wake();
        }
    }

    pub(super) fn run_part(&self, part: Part<E>) {
        let result = Err(Status::INTERNAL_ERROR);
        let mut running = Running { engine: self, part, result };
        let Part { whole, index } = &running.part;
        // After a failure, the store is asked for no more.
        let failed = lock(&whole.failed).is_some();
        let part = whole.parts.get(*index).filter(|_| !failed);
        running.result = part.map_or(Ok(()), |part| self.executor.execute_part(part));
    }

    /// So many parts from `first` on have ended.
    fn end_parts(&self, first: &Part<E>, count: u32, result: Result<(), Status>) {
        let Part { whole, index } = first;
        if let Err(status) = result {
            let mut failed = lock(&whole.failed);
            if failed.is_none_or(|(other, _)| *index < other) {
                *failed = Some((*index, status));
            }
        }
        if whole.left.fetch_sub(count, Ordering::AcqRel) != count {
            return;
        }
        let Some(queue) = self.sq(whole.queue) else { return };
        let Some(cq) = self.cq(queue.cq_id()) else { return };
        let mut ending = Ending { engine: self, queue, cq, posted: false };
        let failed = *lock(&whole.failed);
        let outcome = match failed {
            Some((_, status)) if status == ABORTED.status => ABORTED,
            Some((_, status)) => self.finish(whole, Err(status)),
            None => self.finish(whole, Ok(())),
        };
        ending.posted = true;
        let waiting = self.complete(whole.queue, cq, whole.command.cid.get(), outcome);
        if self.coalescing.due(cq.vector(), cq.capacity(), 1).is_now(waiting, || 0) {
            self.signal(cq);
        } else {
            self.put_off();
        }
    }

    fn finish(&self, whole: &Whole<E>, result: Result<(), Status>) -> Outcome {
        logged(self.executor.finish_parts(whole.queue, &whole.command, result).into())
    }

    /// Ends the parts that have not begun of commands whose queue was closed.
    pub(crate) fn drop_closed_parts(&self) {
        let closed = |part: &Part<E>| !self.sq(part.whole.queue).is_some_and(|sq| sq.is_open());
        for part in self.errands.take_parts(closed) {
            self.end_parts(&part, part.with_those_after(), Err(ABORTED.status));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::{Fault, Inline, Limits, Mailbox, Unfinished};
    use crate::host::testing;
    use crate::memory::Region;
    use crate::queue::{CompletionParameters, Interrupts, SubmissionParameters};

    /// Parts say how they end.
    struct Told(Mutex<Vec<Result<(), Status>>>);

    impl Executor for Told {
        type Scratch = ();
        type Job = ();
        type Part = Result<(), Status>;

        fn execute(&self, _: u16, _: &Command, (): &mut ()) -> Result<(), Unfinished> {
            Ok(())
        }

        fn parts(&self, (): &()) -> Box<[Self::Part]> {
            [].into()
        }

        fn execute_part(&self, part: &Self::Part) -> Result<(), Status> {
            *part
        }

        fn finish_parts(
            &self,
            _: u16,
            _: &Command,
            result: Result<(), Status>,
        ) -> Result<(), Status> {
            lock(&self.0).push(result);
            result
        }

        fn execute_fused(&self, _: u16, _: [&Command; 2], (): &mut ()) -> [Outcome; 2] {
            [Outcome::SUCCESS; 2]
        }

        fn inline_cost(&self, _: &Command) -> Option<u64> {
            None
        }

        fn run(&self, (): ()) {}
    }

    /// An engine of eight workers, none of them made yet, with one queue.
    fn engine(memory: &Region) -> Engine<Told> {
        let host = Arc::new(testing::Ram(Region::zeroed(4096).unwrap()));
        let limits = Limits {
            queue_pairs: 1,
            slots: 8,
            inline: Inline::Off,
            spin: std::time::Duration::ZERO,
            cpus: 8,
        };
        let (mailbox, fault) = (Arc::new(Mailbox::new()), Arc::new(Fault::new("test")));
        let told = Told(Mutex::default());
        let engine = Engine::new(limits, told, Interrupts::new(host, 2), mailbox, fault);
        let half = |at| memory.segment().slice(at, 4096).unwrap();
        let cq = CompletionParameters { size: 64, vector: None };
        engine.cq(1).unwrap().open(half(0), cq);
        engine.sq(1).unwrap().open(half(4096), SubmissionParameters { size: 64, cq_id: 1 });
        engine
    }

    /// Begins a command as a worker does, and executes what is left of it.
    fn run(engine: &Engine<Told>, parts: &[Result<(), Status>]) -> Mail {
        assert_eq!(engine.cq(1).unwrap().reserve(1), 1);
        let sq = engine.sq(1).unwrap();
        let visit = sq.visit(&|| ()).unwrap();
        engine.begin_parts(1, &Command::zeroed(), parts.into());
        drop(visit);
        let mail = engine.mailbox.take();
        while let Some(Errand::Part(part)) = engine.errands.take() {
            assert!(!sq.is_idle(), "it counts as in flight");
            engine.run_part(part);
        }
        assert!(sq.is_idle() && engine.errands.count() == 0);
        mail
    }

    #[test]
    fn no_worker_is_woken_for_what_is_done_sooner() {
        let memory = Region::zeroed(8192).unwrap();
        let engine = engine(&memory);
        let grows = |count| run(&engine, &vec![Ok(()); count]).contains(Mail::GROW);
        assert!(grows(2), "nothing is known of the store");
        engine.growing_failed();
        // 2 microseconds each.
        (0..20).for_each(|_| engine.pace.measured(2000, 1));
        engine.pace.begin_quick();
        assert!(!grows(2) && !grows(4));
        assert!(grows(256));
        engine.growing_failed();
        engine.pace.stalled();
        assert!(grows(2), "the store is not quick any more");
    }

    /// Else nobody would take what it deals then.
    #[test]
    fn a_worker_that_was_taken_for_stuck_is_watched_again_once_it_deals() {
        let memory = Region::zeroed(8192).unwrap();
        let engine = engine(&memory);
        let (sq, deck) = (engine.sq(1).unwrap(), engine.decks.first().unwrap());
        engine.enter(deck);
        assert!((0..4).any(|_| deck.is_stuck()), "it was kept from its CPU");
        engine.pace.end_quick();
        let commands = [Command::zeroed(); 2];
        assert_eq!(engine.cq(1).unwrap().reserve(2), 2);
        let batch = engine.batch(1, sq, &commands, Some(deck)).unwrap();
        batch.run(&mut (), 1, |_| 0);
        assert!(deck.is_entered() && engine.pace.any_quick_worker());
        engine.leave(deck);
        assert!(!engine.pace.any_quick_worker());
    }

    /// A guest can fill its queues with them.
    #[test]
    fn of_many_commands_those_beyond_a_bound_are_executed_at_once() {
        let memory = Region::zeroed(16384).unwrap();
        let engine = engine(&memory);
        let half = |at| memory.segment().slice(at, 8192).unwrap();
        engine.cq(1).unwrap().open(half(0), CompletionParameters { size: 256, vector: None });
        let begin = |count: usize| {
            for _ in 0..count {
                assert_eq!(engine.cq(1).unwrap().reserve(1), 1);
                engine.begin_parts(1, &Command::zeroed(), [Ok(()); 3].into());
            }
        };
        let ended = || lock(&engine.executor.0).len();
        begin(64);
        assert_eq!((ended(), engine.errands.count()), (0, 128));
        begin(100);
        assert_eq!((ended(), engine.errands.count()), (100, 128));
        // Closed: what has not begun is not executed, here or there.
        engine.sq(1).unwrap().close();
        begin(1);
        engine.drop_closed_parts();
        assert_eq!((ended(), engine.errands.count()), (100, 0));
        assert!(engine.sq(1).unwrap().is_idle());
    }

    #[test]
    fn the_first_part_that_failed_decides_and_no_other_is_begun() {
        let memory = Region::zeroed(8192).unwrap();
        let engine = engine(&memory);
        let (media, full) = (Err(Status::WRITE_FAULT), Err(Status::CAPACITY_EXCEEDED));
        for (parts, expected) in [
            (&[Ok(())][..], Ok(())),
            (&[Ok(()), Ok(()), Ok(())], Ok(())),
            (&[media], media),
            (&[Ok(()), full, media, Ok(())], full),
            (&[media, full], media),
        ] {
            run(&engine, parts);
            assert_eq!(lock(&engine.executor.0).pop(), Some(expected), "{parts:?}");
        }
        // Two that ran at once, and failed in the other order.
        assert_eq!(engine.cq(1).unwrap().reserve(1), 1);
        let sq = engine.sq(1).unwrap();
        sq.stay();
        let whole = Whole {
            queue: 1,
            command: Command::zeroed(),
            parts: [full, media].into(),
            left: AtomicU32::new(2),
            failed: Mutex::new(None),
        };
        let first = Part { whole: Arc::new(whole), index: 0 };
        let second = first.next().unwrap();
        engine.end_parts(&second, 1, media);
        assert_eq!(lock(&engine.executor.0).pop(), None, "not all parts have ended");
        engine.end_parts(&first, 1, full);
        assert_eq!(lock(&engine.executor.0).pop(), Some(full));
    }
}
