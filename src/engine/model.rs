// SPDX-License-Identifier: BSD-2-Clause

//! The wake-up protocol under a model checker: in every interleaving, all work
//! is found. A worker that sleeps for ever is a deadlock, which the checker
//! reports.

use super::pool::{Notified, Pool};
use crate::sync::{AtomicU32, Ordering, thread};
use std::sync::Arc;

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
