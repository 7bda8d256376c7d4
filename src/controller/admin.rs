// SPDX-License-Identifier: BSD-2-Clause

//! The admin queue: fetching, dispatch, completion.

use super::registers::Edges;
use super::thread::ControllerThread;
use crate::data_pointer::{MAX_TRANSFER, Prp};
use crate::engine::Outcome;
use crate::nvm::Report;
use crate::wire::command::{Command, admin};
use crate::wire::status::Status;

/// What became of an admin command.
enum Handled {
    /// It has ended.
    Done(Outcome),
    /// It is held and has no completion entry reserved.
    Held,
    /// It ends later, with the entry that was reserved for it.
    Later,
}

impl ControllerThread {
    /// Executes what waits in the admin queue, until it is empty, its
    /// completion queue is full, or the guest wants a reset.
    pub(super) fn serve_admin_queue(&mut self) {
        let shared = self.shared.clone();
        let (Some(sq), Some(cq)) = (shared.engine.sq(0), shared.engine.cq(0)) else { return };
        while !shared.registers.has_edge(Edges::all()) {
            let Some(visit) = sq.visit(&|| ()) else { break };
            let Some(mut claim) = visit.claim() else { break };
            // When the queue is full, its doorbell brings us back.
            if claim.waiting() == 0 || cq.reserve(1) == 0 {
                break;
            }
            let mut command = Command::zeroed();
            if !claim.peek(0, &mut command) {
                cq.give_back(1);
                break;
            }
            claim.consume(1);
            drop(claim);
            match self.handle(&command) {
                Handled::Done(outcome) => {
                    self.log_failure(&command, outcome.status);
                    shared.engine.complete(0, cq, command.cid.get(), outcome);
                }
                Handled::Held => cq.give_back(1),
                Handled::Later => {}
            }
            shared.engine.signal(cq);
            self.finish_deletions();
            self.events.deliver(&shared.engine);
        }
    }

    fn handle(&mut self, command: &Command) -> Handled {
        // Admin commands are never fused, and over PCI Express their data
        // pointers are PRPs.
        if command.fuse() != 0 || command.psdt() != 0 {
            return Handled::Done(Status::INVALID_FIELD.do_not_retry().into());
        }
        Handled::Done(match command.opcode {
            admin::DELETE_SQ => match self.delete_sq(command) {
                Ok(()) => return Handled::Later,
                Err(status) => status.into(),
            },
            admin::CREATE_SQ => self.create_sq(command).into(),
            admin::GET_LOG_PAGE => self.get_log_page(command).into(),
            admin::DELETE_CQ => self.delete_cq(command).into(),
            admin::CREATE_CQ => self.create_cq(command).into(),
            admin::IDENTIFY => self.identify(command).into(),
            admin::ABORT => self.abort(command),
            admin::SET_FEATURES => match self.set_features(command) {
                Ok(Some(outcome)) => outcome,
                Ok(None) => return Handled::Later,
                Err(status) => status.into(),
            },
            admin::GET_FEATURES => self.get_features(command).unwrap_or_else(Outcome::from),
            admin::ASYNC_EVENT_REQUEST => match self.events.hold(command.cid.get()) {
                Ok(()) => return Handled::Held,
                Err(status) => status.into(),
            },
            _ => Status::INVALID_OPCODE.do_not_retry().into(),
        })
    }

    /// Aborts a command (section 5.1) if it has not begun: of those that the
    /// controller has taken, these are the Asynchronous Event Requests. Bit 0
    /// of the result says that nothing was aborted.
    fn abort(&mut self, command: &Command) -> Outcome {
        const NOT_ABORTED: u32 = 1;
        let (sq_id, cid) =
            ((command.cdw10.get() & 0xffff) as u16, (command.cdw10.get() >> 16) as u16);
        let engine = &self.shared.engine;
        if sq_id == 0
            && let Some(cq) = engine.cq(0)
            && cq.reserve(1) == 1
        {
            if self.events.take_held(cid) {
                engine.complete(0, cq, cid, Status::ABORT_REQUESTED.into());
                return Outcome::SUCCESS;
            }
            cq.give_back(1);
        }
        Outcome { dw0: NOT_ABORTED, ..Outcome::SUCCESS }
    }

    /// Copies `data` to where the command wants it.
    pub(super) fn transfer(&mut self, command: &Command, data: &[u8]) -> Result<(), Status> {
        if data.len() > MAX_TRANSFER {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        Prp::of(command).segments(&*self.shared.host, data.len(), &mut self.segments)?;
        self.segments.write(data)
    }

    fn log_failure(&mut self, command: &Command, status: Status) {
        if status.is_error() {
            self.errors.add(Report {
                sq_id: 0,
                cid: command.cid.get(),
                status,
                lba: 0,
                nsid: command.nsid.get(),
            });
        }
    }
}
