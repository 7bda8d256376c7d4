// SPDX-License-Identifier: BSD-2-Clause

//! What the controller thread alone does to queues that others serve: pauses
//! them, and aborts what waits in them.

use super::dispatch::{Engine, bit_of};
use super::mailbox::Mail;
use super::{Executor, Outcome};
use crate::sync::{Ordering, fence};

impl<E: Executor> Engine<E> {
    /// Fetches nothing more from the I/O queues; doorbells are remembered.
    /// [`Engine::is_idle`] says when all that was fetched has ended, and
    /// [`Mail::IDLE`] when to look.
    ///
    /// As with closing: a thread counts itself in flight, fences, and then
    /// looks whether it may fetch; here, fetching is forbidden first, and then
    /// the counts are read.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
        for (_, queue) in self.submission_queues() {
            queue.watch(true);
        }
        fence(Ordering::SeqCst);
    }

    /// Ends a pause.
    pub(crate) fn resume(&self) {
        for (_, queue) in self.submission_queues() {
            queue.watch(false);
        }
        self.paused.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.has_work() {
            self.wake();
        }
    }

    /// Whether nothing that was fetched from an I/O queue still runs. Once true
    /// of a paused engine, it stays so.
    pub(crate) fn is_idle(&self) -> bool {
        self.submission_queues().all(|(id, queue)| id == 0 || queue.is_idle())
    }

    /// Aborts command `cid` of submission queue `id` if it has not been
    /// fetched: completes it with `outcome`, and takes it out of the queue. If
    /// its completion queue is full, it is not aborted.
    ///
    /// Reads the identifiers of what waits, 65535 at most, under the claim.
    /// Only for the controller thread: no other may wait for a claim.
    pub(crate) fn abort(&self, id: u16, cid: u16, outcome: Outcome) -> bool {
        let Some(queue) = self.sq(id) else { return false };
        let idle = || self.mailbox.post(Mail::IDLE);
        let Some(visit) = queue.visit(&idle) else { return false };
        let Some(cq) = self.cq(queue.cq_id()) else { return false };
        if cq.reserve(1) == 0 {
            return false;
        }
        let mut claim = visit.wait_for_claim();
        let aborted = claim.strike(cid);
        // If nothing else is in the queue, no later completion tells the guest
        // that there is room.
        claim.skip_struck();
        drop(claim);
        if aborted {
            self.complete(id, cq, cid, outcome);
            self.signal(cq);
        } else {
            self.give_back(cq, 1);
        }
        // Doorbells that found the claim taken rely on its holder. The admin
        // queue's wake the controller thread by mail, and it is that thread.
        if id != 0 && queue.has_work() {
            self.announce(bit_of(id));
        }
        aborted
    }
}
