// SPDX-License-Identifier: BSD-2-Clause

//! Doorbell Buffer Config: the guest's shadow doorbells, of all queues there are
//! and are going to be. Linux, the one known user, does not use those of the
//! admin queue.

use super::thread::ControllerThread;
use crate::memory::Segment;
use crate::queue::ShadowWords;
use crate::wire::PAGE_SIZE;
use crate::wire::command::Command;
use crate::wire::status::Status;

/// Bytes of a doorbell (CAP.DSTRD 0) and of an event index.
const WORD: usize = 4;

/// The two pages of guest memory, laid out as the doorbell registers are.
#[derive(Clone, Copy)]
pub(super) struct DoorbellBuffer {
    values: Segment,
    events: Segment,
}

impl DoorbellBuffer {
    /// The words of one doorbell: number 2n of submission queue n, 2n + 1 of
    /// completion queue n.
    fn words(&self, doorbell: usize) -> Option<ShadowWords> {
        let at = doorbell.checked_mul(WORD)?;
        let value = self.values.slice(at, WORD)?;
        Some(ShadowWords { value, event: self.events.slice(at, WORD)? })
    }

    pub(super) fn of_sq(&self, id: u16) -> Option<ShadowWords> {
        self.words(usize::from(id).checked_mul(2)?)
    }

    pub(super) fn of_cq(&self, id: u16) -> Option<ShadowWords> {
        self.words(usize::from(id).checked_mul(2)?.checked_add(1)?)
    }
}

impl ControllerThread {
    /// Takes two pages, and forgets those before.
    pub(super) fn configure_doorbell_buffer(&mut self, command: &Command) -> Result<(), Status> {
        let [values, events] = command.dptr.map(|prp| prp.get());
        if values == events {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        let [values, events] = [values, events].map(|address| self.page_at(address));
        let buffer = DoorbellBuffer { values: values?, events: events? };
        self.doorbell_buffer = Some(buffer);
        for (id, sq) in self.shared.engine.submission_queues() {
            if id == 0 || self.queues.sq_exists(id) {
                sq.set_shadow(buffer.of_sq(id));
            }
        }
        for (id, cq) in self.shared.engine.completion_queues() {
            if id == 0 || self.queues.cq_exists(id) {
                cq.set_shadow(buffer.of_cq(id));
            }
        }
        Ok(())
    }

    fn page_at(&self, address: u64) -> Result<Segment, Status> {
        if !address.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        let page = self.shared.host.map(address, PAGE_SIZE);
        page.ok_or(Status::INVALID_FIELD.do_not_retry())
    }
}
