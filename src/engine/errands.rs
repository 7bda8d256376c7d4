// SPDX-License-Identifier: BSD-2-Clause

//! What waits for a worker beside the queues: jobs of the controller thread,
//! and parts of commands that have begun.

use super::Executor;
use super::parts::Part;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};
use std::collections::VecDeque;

pub(super) enum Errand<E: Executor> {
    Job(E::Job),
    /// While it waits, it stands for the parts after it as well.
    Part(Part<E>),
}

/// So many errands are enough work for all workers.
const MANY: usize = 64;

pub(super) struct Errands<E: Executor> {
    waiting: Mutex<VecDeque<Errand<E>>>,
    /// Jobs and parts, each counted.
    count: AtomicU32,
}

impl<E: Executor> Errands<E> {
    pub(super) fn new() -> Errands<E> {
        Errands { waiting: Mutex::new(VecDeque::new()), count: AtomicU32::new(0) }
    }

    /// How many wait.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether so many wait that no more should be left here. Each command in
    /// parts takes memory, and a guest can begin as many as its queues hold.
    pub(super) fn are_many(&self) -> bool {
        lock(&self.waiting).len() >= MANY
    }

    /// The caller wakes a worker.
    pub(super) fn push(&self, errand: Errand<E>) {
        let count = match &errand {
            Errand::Job(_) => 1,
            Errand::Part(part) => part.with_those_after(),
        };
        let mut waiting = lock(&self.waiting);
        waiting.push_back(errand);
        self.count.fetch_add(count, Ordering::SeqCst);
    }

    /// Takes one. A command with more parts goes to the end, so that it holds
    /// up nothing else.
    pub(super) fn take(&self) -> Option<Errand<E>> {
        if self.count() == 0 {
            return None;
        }
        let mut waiting = lock(&self.waiting);
        let errand = waiting.pop_front()?;
        if let Errand::Part(part) = &errand
            && let Some(next) = part.next()
        {
            waiting.push_back(Errand::Part(next));
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
        Some(errand)
    }

    /// Takes parts that are `meant`, each with those after it.
    pub(super) fn take_parts(&self, meant: impl Fn(&Part<E>) -> bool) -> Vec<Part<E>> {
        if self.count() == 0 {
            return Vec::new();
        }
        let mut waiting = lock(&self.waiting);
        let mut taken = Vec::new();
        for errand in std::mem::take(&mut *waiting) {
            match errand {
                Errand::Part(part) if meant(&part) => {
                    self.count.fetch_sub(part.with_those_after(), Ordering::SeqCst);
                    taken.push(part);
                }
                other => waiting.push_back(other),
            }
        }
        taken
    }
}
