// SPDX-License-Identifier: BSD-2-Clause

//! Creation and deletion of I/O queues (sections 5.3 to 5.6).

use super::admin::Handled;
use super::thread::ControllerThread;
use crate::engine::Outcome;
use crate::queue::{CompletionParameters, CompletionQueue, SubmissionParameters, SubmissionQueue};
use crate::wire::PAGE_SIZE;
use crate::wire::command::Command;
use crate::wire::status::Status;

/// What exists, as the guest sees it: a queue is there until its deletion has
/// completed.
pub(super) struct QueueTable {
    /// The completion queue of each submission queue.
    submission: Box<[Option<u16>]>,
    completion: Box<[bool]>,
}

/// A Delete I/O Submission Queue whose commands have not all ended. Its
/// completion entry is reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    pub(super) sq_id: u16,
    pub(super) cid: u16,
}

impl QueueTable {
    pub(super) fn new(queue_pairs: u16) -> QueueTable {
        let slots = usize::from(queue_pairs).saturating_add(1);
        QueueTable { submission: vec![None; slots].into(), completion: vec![false; slots].into() }
    }

    /// Whether there are any I/O queues.
    pub(super) fn any(&self) -> bool {
        self.submission.iter().any(Option::is_some) || self.completion.contains(&true)
    }

    pub(super) fn clear(&mut self) {
        self.submission.fill(None);
        self.completion.fill(false);
    }

    fn reports_to(&self, cq_id: u16) -> bool {
        self.submission.contains(&Some(cq_id))
    }

    pub(super) fn sq_exists(&self, id: u16) -> bool {
        self.submission.get(usize::from(id)).is_some_and(Option::is_some)
    }

    pub(super) fn cq_exists(&self, id: u16) -> bool {
        self.completion.get(usize::from(id)).copied().unwrap_or(false)
    }

    fn set_sq(&mut self, id: u16, cq_id: Option<u16>) {
        if let Some(slot) = self.submission.get_mut(usize::from(id)) {
            *slot = cq_id;
        }
    }

    fn set_cq(&mut self, id: u16, exists: bool) {
        if let Some(slot) = self.completion.get_mut(usize::from(id)) {
            *slot = exists;
        }
    }
}

/// The fields that both Create commands have.
struct Create {
    id: u16,
    size: u32,
    address: u64,
}

const PHYSICALLY_CONTIGUOUS: u32 = 1;

impl ControllerThread {
    /// Checks what both Create commands have in common. `entry_size` is CC's
    /// field for the entry's size, which must be `expected`: but Windows
    /// leaves it zero until later, and gets what there is.
    fn create(
        &self,
        command: &Command,
        exists: bool,
        entry_size: u32,
        expected: u32,
    ) -> Result<Create, Status> {
        let id = (command.cdw10.get() & 0xffff) as u16;
        if id == 0 || id > self.granted_queues() || exists {
            return Err(Status::INVALID_QUEUE_ID.do_not_retry());
        }
        let size_z = command.cdw10.get() >> 16;
        if size_z == 0
            || size_z >= self.shared.settings.queue_entries
            || (entry_size != 0 && entry_size != expected)
        {
            return Err(Status::INVALID_QUEUE_SIZE.do_not_retry());
        }
        if command.cdw11.get() & PHYSICALLY_CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        let [prp1, _] = command.dptr;
        let address = prp1.get();
        if !address.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Status::PRP_OFFSET_INVALID.do_not_retry());
        }
        Ok(Create { id, size: size_z.saturating_add(1), address })
    }

    pub(super) fn create_cq(&mut self, command: &Command) -> Result<(), Status> {
        const INTERRUPTS_ENABLED: u32 = 1 << 1;
        let exists = self.queues.cq_exists((command.cdw10.get() & 0xffff) as u16);
        let entry_size = self.shared.registers.configuration().cq_entry_size();
        let Create { id, size, address } = self.create(command, exists, entry_size, 4)?;
        let interrupts = command.cdw11.get() & INTERRUPTS_ENABLED != 0;
        // Checked against the table's size, not against what is enabled: a
        // queue may be created before MSI-X is.
        let vector = (command.cdw11.get() >> 16) as u16;
        if interrupts && vector >= self.shared.engine.interrupts.vectors() {
            return Err(Status::INVALID_INTERRUPT_VECTOR.do_not_retry());
        }
        let memory = self
            .shared
            .host
            .map(address, CompletionQueue::bytes(size))
            .ok_or(Status::DATA_TRANSFER_ERROR.do_not_retry())?;
        let cq = self.shared.engine.cq(id).ok_or(Status::INVALID_QUEUE_ID.do_not_retry())?;
        cq.open(memory, CompletionParameters { size, vector: interrupts.then_some(vector) });
        cq.set_shadow(self.doorbell_buffer.and_then(|buffer| buffer.of_cq(id)));
        self.queues.set_cq(id, true);
        Ok(())
    }

    pub(super) fn create_sq(&mut self, command: &Command) -> Result<(), Status> {
        let exists = self.queues.sq_exists((command.cdw10.get() & 0xffff) as u16);
        let entry_size = self.shared.registers.configuration().sq_entry_size();
        let Create { id, size, address } = self.create(command, exists, entry_size, 6)?;
        let cq_id = (command.cdw11.get() >> 16) as u16;
        if cq_id == 0 || cq_id > self.granted_queues() {
            return Err(Status::INVALID_QUEUE_ID.do_not_retry());
        }
        if !self.queues.cq_exists(cq_id) {
            return Err(Status::COMPLETION_QUEUE_INVALID.do_not_retry());
        }
        let memory = self
            .shared
            .host
            .map(address, SubmissionQueue::bytes(size))
            .ok_or(Status::DATA_TRANSFER_ERROR.do_not_retry())?;
        let sq = self.shared.engine.sq(id).ok_or(Status::INVALID_QUEUE_ID.do_not_retry())?;
        sq.open(memory, SubmissionParameters { size, cq_id });
        sq.set_shadow(self.doorbell_buffer.and_then(|buffer| buffer.of_sq(id)));
        self.queues.set_sq(id, Some(cq_id));
        Ok(())
    }

    pub(super) fn delete_cq(&mut self, command: &Command) -> Result<(), Status> {
        let id = (command.cdw10.get() & 0xffff) as u16;
        if !self.queues.cq_exists(id) {
            return Err(Status::INVALID_QUEUE_ID.do_not_retry());
        }
        if self.queues.reports_to(id) {
            return Err(Status::INVALID_QUEUE_DELETION.do_not_retry());
        }
        if let Some(cq) = self.shared.engine.cq(id) {
            cq.close();
            cq.set_shadow(None);
        }
        self.queues.set_cq(id, false);
        Ok(())
    }

    /// Stops the queue. The command completes when what was fetched from the
    /// queue has ended: see [`ControllerThread::finish_deletions`].
    pub(super) fn delete_sq(&mut self, command: &Command) -> Handled {
        let sq_id = (command.cdw10.get() & 0xffff) as u16;
        let being_deleted = self.deletions.iter().any(|deletion| deletion.sq_id == sq_id);
        if !self.queues.sq_exists(sq_id) || being_deleted {
            return Handled::Done(Status::INVALID_QUEUE_ID.do_not_retry().into());
        }
        if let Some(sq) = self.shared.engine.sq(sq_id) {
            sq.close();
        }
        self.shared.engine.drop_closed_parts();
        self.deletions.push(Deletion { sq_id, cid: command.cid.get() });
        Handled::Later
    }

    /// Completes the deletions whose queues have become idle.
    pub(super) fn finish_deletions(&mut self) {
        let engine = &self.shared.engine;
        let Some(cq) = engine.cq(0) else { return };
        let queues = &mut self.queues;
        let before = self.deletions.len();
        self.deletions.retain(|deletion| {
            let sq = engine.sq(deletion.sq_id);
            let idle = sq.is_none_or(SubmissionQueue::is_idle);
            if idle {
                sq.inspect(|sq| sq.set_shadow(None));
                queues.set_sq(deletion.sq_id, None);
                engine.complete(0, cq, deletion.cid, Outcome::SUCCESS);
            }
            !idle
        });
        if self.deletions.len() != before {
            engine.signal(cq);
        }
    }
}
