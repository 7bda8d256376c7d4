// SPDX-License-Identifier: BSD-2-Clause

//! The wake-up protocol under a model checker: in every interleaving, all work
//! is found. A worker that sleeps for ever is a deadlock, which the checker
//! reports.

use super::deck::{Commands, Deck};
use super::errands::Errand;
use super::pace::BATCH;
use super::pool::{Notified, Pool};
use super::{Engine, Executor, Fault, Inline, Limits, Mail, Mailbox, Outcome, Unfinished};
use crate::host::Host;
use crate::memory::{Region, Segment};
use crate::queue::{CompletionParameters, Interrupts, SubmissionParameters};
use crate::sync::{AtomicU32, Ordering, thread};
use crate::wire::command::Command;
use crate::wire::status::Status;
use std::sync::Arc;
use std::time::Duration;

/// Work that producers add and workers take.
struct World {
    pool: Pool,
    ready: AtomicU32,
    done: AtomicU32,
    total: u32,
}

impl World {
    fn new(workers: u16, total: u32) -> Arc<World> {
        Arc::new(World {
            pool: Pool::new(workers),
            ready: AtomicU32::new(0),
            done: AtomicU32::new(0),
            total,
        })
    }

    fn has_work(&self) -> bool {
        self.ready.load(Ordering::SeqCst) != 0
    }

    /// A doorbell. Returns whether a worker is to be made.
    fn produce(&self) -> bool {
        self.ready.fetch_add(1, Ordering::SeqCst);
        self.pool.notify(|| self.has_work()) == Notified::Grow
    }

    fn take(&self) -> bool {
        self.ready
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |ready| ready.checked_sub(1))
            .is_ok()
    }

    /// A worker as in `engine::worker`; ends when all is done. `grow` makes
    /// another one.
    fn work(self: &Arc<World>) {
        let me = self.pool.join().expect("a place in the pool");
        loop {
            if !self.take() {
                if self.pool.sleep(me, || self.has_work()) {
                    continue;
                }
                return;
            }
            self.pool.found();
            let grow = self.has_work() && self.pool.notify(|| self.has_work()) == Notified::Grow;
            if grow {
                // Not joined: a thread that joins must not be unparked here.
                self.spawn();
            }
            if self.done.fetch_add(1, Ordering::SeqCst) + 1 == self.total {
                self.pool.stop();
            }
            self.pool.search();
        }
    }

    fn spawn(self: &Arc<World>) -> thread::JoinHandle<()> {
        let world = self.clone();
        thread::spawn(move || world.work())
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Doorbells of two vCPUs and a worker that goes to sleep between them.
#[test]
fn no_doorbell_is_missed_by_the_only_worker() {
    check(3, || {
        let world = World::new(1, 2);
        assert!(world.produce());
        let worker = world.spawn();
        let other = world.clone();
        let vcpu = thread::spawn(move || assert!(!other.produce()));
        vcpu.join().expect("a vCPU");
        worker.join().expect("a worker");
        assert_eq!(world.done.load(Ordering::SeqCst), 2);
    });
}

/// The pool grows by need, hands the search on, and misses nothing.
fn grows(preemptions: usize, doorbells: u32) {
    check(preemptions, move || {
        let world = World::new(2, doorbells + 1);
        assert!(world.produce());
        let first = world.spawn();
        let other = world.clone();
        let vcpu = thread::spawn(move || {
            for _ in 0..doorbells {
                if other.produce() {
                    other.spawn();
                }
            }
        });
        vcpu.join().expect("a vCPU");
        first.join().expect("a worker");
        assert_eq!(world.done.load(Ordering::SeqCst), doorbells + 1);
    });
}

#[test]
fn no_doorbell_is_missed_while_the_pool_grows() {
    grows(2, 1);
}

#[test]
fn no_doorbell_is_missed_by_a_pool_that_hands_the_search_on() {
    grows(1, 2);
}

/// Commands that only count themselves, and a host without memory or vectors.
#[derive(Default)]
struct Count {
    done: AtomicU32,
    /// Commands in parts whose parts have all ended.
    finished: AtomicU32,
}

impl Executor for Count {
    type Scratch = ();
    type Job = ();
    type Part = ();

    fn execute(&self, _: u16, _: &Command, (): &mut ()) -> Result<(), Unfinished> {
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn parts(&self, (): &()) -> Box<[()]> {
        [(), ()].into()
    }

    fn execute_part(&self, (): &()) -> Result<(), Status> {
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn finish_parts(&self, _: u16, _: &Command, result: Result<(), Status>) -> Result<(), Status> {
        self.finished.fetch_add(1, Ordering::SeqCst);
        result
    }

    fn execute_fused(&self, _: u16, _: [&Command; 2], (): &mut ()) -> [Outcome; 2] {
        self.done.fetch_add(2, Ordering::SeqCst);
        [Outcome::SUCCESS; 2]
    }

    fn inline_cost(&self, _: &Command) -> Option<u64> {
        None
    }

    fn run(&self, (): ()) {}
}

struct NoHost;

impl Host for NoHost {
    fn map(&self, _: u64, _: usize) -> Option<Segment> {
        None
    }

    fn msix_deliverable(&self, _: u16) -> bool {
        true
    }

    fn msix_raise(&self, _: u16) {}

    fn msix_table_write(&self, _: u64, _: usize, _: u64) {}

    fn msix_table_read(&self, _: u64, _: usize) -> u64 {
        0
    }
}

/// The whole engine, with real workers: two doorbells on one queue, while
/// workers claim it, lose the claim, and go to sleep.
#[test]
fn no_command_is_left_behind_by_the_engine() {
    check(1, || {
        let (engine, _memory) = engine(2, None);
        let worker = |engine: &Arc<Engine<Count>>| {
            let engine = engine.clone();
            thread::spawn(move || engine.work())
        };
        // The pool counts a worker that it has asked for as searching.
        engine.ring_submission(1, 1).expect("a legal tail");
        let mut workers = vec![worker(&engine)];
        let vcpu = {
            let engine = engine.clone();
            thread::spawn(move || engine.ring_submission(1, 2).expect("a legal tail"))
        };
        if engine.mailbox.take().contains(Mail::GROW) && engine.workers() == 2 {
            workers.push(worker(&engine));
        }
        vcpu.join().expect("a vCPU");
        while engine.executor().done.load(Ordering::SeqCst) < 2 {
            if engine.mailbox.take().contains(Mail::GROW)
                && engine.workers() as usize > workers.len()
            {
                workers.push(worker(&engine));
            }
            thread::yield_now();
        }
        engine.stop();
        for worker in workers {
            worker.join().expect("a worker");
        }
    });
}

/// An engine for `slots` workers with one queue pair of four entries, whose
/// interrupts raise `vector`, and the memory of its rings.
fn engine(slots: u16, vector: Option<u16>) -> (Arc<Engine<Count>>, Region) {
    let limits =
        Limits { queue_pairs: 1, slots, inline: Inline::Off, spin: Duration::ZERO, cpus: 2 };
    let interrupts = Interrupts::new(Arc::new(NoHost), 2);
    let (mailbox, fault) = (Arc::new(Mailbox::new()), Arc::new(Fault::new("model")));
    let engine = Engine::new(limits, Count::default(), interrupts, mailbox, fault);
    let memory = Region::zeroed(2 * 4096).expect("memory");
    let half = |at| memory.segment().slice(at, 4096).expect("memory");
    let (sq, cq) = (engine.sq(1).expect("a slot"), engine.cq(1).expect("a slot"));
    cq.open(half(0), CompletionParameters { size: 4, vector });
    sq.open(half(4096), SubmissionParameters { size: 4, cq_id: 1 });
    (Arc::new(engine), memory)
}

fn command(cid: u16) -> Command {
    let mut command = Command::zeroed();
    command.cid = cid.into();
    command
}

/// A worker with two deals of two commands, a watch that takes it for stuck,
/// and a thief: each command is begun once, whoever begins it.
#[test]
fn a_command_is_begun_by_the_worker_or_by_the_thief() {
    check(3, || {
        let deck = Arc::new(Deck::new());
        let begun: Arc<[AtomicU32; 4]> = Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
        let begin = |begun: &[AtomicU32; 4], cid: u16| {
            begun[usize::from(cid)].fetch_add(1, Ordering::SeqCst);
        };
        let worker = {
            let (deck, begun) = (deck.clone(), begun.clone());
            thread::spawn(move || {
                deck.enter();
                for first in [0, 2] {
                    deck.deal(1, &[command(first), command(first + 1)], 1);
                    begin(&begun, first);
                    if deck.begin(1) {
                        begin(&begun, first + 1);
                    }
                }
                deck.leave();
            })
        };
        // The first look never tells; these make it patient no longer.
        let mut stuck = false;
        for _ in 0..4 {
            stuck |= deck.is_stuck();
        }
        let mut stolen: Commands = [command(0); BATCH + 1];
        if let Some((queue, count, ())) = deck.steal(&mut stolen, |_| Some(())) {
            assert!(stuck && queue == 1);
            stolen[..count].iter().for_each(|command| begin(&begun, command.cid.get()));
        }
        worker.join().expect("a worker");
        assert!(begun.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    });
}

/// Something is put off while the watch is about to end: it is looked after
/// all the same, because the watch goes on or begins anew.
#[test]
fn what_is_put_off_is_looked_after() {
    check(3, || {
        let (engine, _memory) = engine(1, Some(1));
        let cq = engine.cq(1).expect("a slot");
        assert_eq!(cq.reserve(1), 1);
        engine.begin_watch();
        let worker = {
            let engine = engine.clone();
            thread::spawn(move || {
                let cq = engine.cq(1).expect("a slot");
                engine.complete(1, cq, 7, Outcome::SUCCESS);
                engine.put_off();
            })
        };
        // The last of the ticks that find nothing.
        let mut quiet = u32::MAX - 1;
        let mut watching = engine.tick(&mut quiet);
        worker.join().expect("a worker");
        watching |= engine.mailbox.take().contains(Mail::WATCH);
        if watching {
            engine.begin_watch();
            engine.tick(&mut quiet);
        }
        assert!(!cq.is_unsignalled(), "it waits for ever");
    });
}

/// A worker begins a command in parts, another one helps, and meanwhile the
/// queue is closed or not: the command ends once, and whoever closes the queue
/// is told.
fn ends_once(closing: bool) {
    check(3, move || {
        let (engine, memory) = engine(2, None);
        let (sq, cq) = (engine.sq(1).expect("a slot"), engine.cq(1).expect("a slot"));
        assert_eq!(cq.reserve(1), 1);
        let take = |engine: &Engine<Count>| {
            while let Some(Errand::Part(part)) = engine.errands.take() {
                engine.run_part(part);
            }
        };
        sq.stay();
        let worker = {
            let engine = engine.clone();
            thread::spawn(move || {
                engine.begin_parts(1, &command(7), [(), ()].into());
                engine.sq(1).expect("a slot").leave(&|| engine.mailbox.post(Mail::IDLE));
                take(&engine);
            })
        };
        let helper = {
            let engine = engine.clone();
            thread::spawn(move || take(&engine))
        };
        let mut told = false;
        if closing {
            sq.close();
            engine.drop_closed_parts();
            told = sq.is_idle();
        }
        worker.join().expect("a worker");
        helper.join().expect("a helper");
        told |= engine.mailbox.take().contains(Mail::IDLE);
        assert_eq!(told, closing, "nobody waits for it, or it is told");
        assert!(sq.is_idle() && engine.errands.count() == 0);
        let posted = |at: usize| memory.segment().load32(at + 12, Ordering::Relaxed) != Some(0);
        assert!(posted(0) && !posted(16), "not one completion");
        let executor = engine.executor();
        let done = executor.done.load(Ordering::SeqCst);
        let finished = executor.finished.load(Ordering::SeqCst) == 1;
        // All of it, or what had begun when the queue was closed.
        assert!(finished && done == 2 || closing && !finished && done < 2);
    });
}

#[test]
fn a_command_in_parts_ends_once() {
    ends_once(false);
}

#[test]
fn a_command_in_parts_ends_once_though_its_queue_is_closed() {
    ends_once(true);
}

/// A worker leaves parts to others while the queue is closed: whoever closes it
/// drops them, or the worker sees that it is closed. No part waits that nobody
/// needs any more, perhaps behind a store that does not answer.
#[test]
fn no_part_is_left_waiting_in_a_closed_queue() {
    check(3, || {
        let (engine, _memory) = engine(1, None);
        let (sq, cq) = (engine.sq(1).expect("a slot"), engine.cq(1).expect("a slot"));
        assert_eq!(cq.reserve(1), 1);
        let worker = {
            let engine = engine.clone();
            thread::spawn(move || engine.begin_parts(1, &command(7), [(), ()].into()))
        };
        sq.close();
        engine.drop_closed_parts();
        worker.join().expect("a worker");
        assert_eq!(engine.errands.count(), 0, "a part waits");
        assert!(sq.is_idle());
    });
}

/// A worker is asked for and cannot be made, while a doorbell relies on it:
/// another is asked for, by and by.
#[test]
fn no_command_is_left_to_a_worker_that_cannot_be_made() {
    check(2, || {
        let (engine, _memory) = engine(2, None);
        // All workers there are, none, are busy: one is asked for.
        engine.ring_submission(1, 1).expect("a legal tail");
        assert!(engine.mailbox.take().contains(Mail::GROW));
        let vcpu = {
            let engine = engine.clone();
            thread::spawn(move || engine.ring_submission(1, 2).expect("a legal tail"))
        };
        engine.growing_failed();
        vcpu.join().expect("a vCPU");
        // What the controller thread does from here on.
        let mail = engine.mailbox.take();
        if mail.contains(Mail::WATCH) {
            engine.begin_watch();
            assert!(engine.tick(&mut 0), "the watch goes on");
        }
        let asked = mail.contains(Mail::GROW) || engine.mailbox.take().contains(Mail::GROW);
        assert!(asked, "nobody is asked for again");
    });
}
