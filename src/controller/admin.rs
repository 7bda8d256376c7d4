// SPDX-License-Identifier: BSD-2-Clause

//! The admin queue: fetching, dispatch, completion.

use super::registers::Edges;
use super::thread::ControllerThread;
use crate::data_pointer::{MAX_TRANSFER, Prp};
use crate::engine::Outcome;
use crate::nvm::Report;
use crate::queue::DoorbellError;
use crate::wire::command::{Command, admin};
use crate::wire::log::effect::{
    ALONE_IN_NAMESPACE, CONTENT_CHANGE, CONTROLLER_SCOPE, NAMESPACE_SCOPE, SUPPORTED,
};
use crate::wire::status::Status;

/// What became of an admin command.
pub(super) enum Handled {
    /// It has ended.
    Done(Outcome),
    /// It is held and has no completion entry reserved.
    Held,
    /// It ends later, with the entry that was reserved for it.
    Later,
}

impl<T> From<Result<T, Status>> for Handled {
    fn from(result: Result<T, Status>) -> Handled {
        Handled::Done(result.into())
    }
}

/// An admin command. Adding one is adding a row to [`COMMANDS`].
pub(super) struct AdminCommand {
    pub(super) opcode: u8,
    /// What the Commands Supported and Effects log says of it.
    pub(super) effects: u32,
    run: fn(&mut ControllerThread, &Command) -> Handled,
}

const PLAIN: u32 = SUPPORTED | CONTROLLER_SCOPE;

/// The admin commands that the controller has.
const COMMANDS: &[AdminCommand] = &[
    AdminCommand { opcode: admin::DELETE_SQ, effects: PLAIN, run: ControllerThread::delete_sq },
    AdminCommand {
        opcode: admin::CREATE_SQ,
        effects: PLAIN,
        run: |thread, command| thread.create_sq(command).into(),
    },
    AdminCommand {
        opcode: admin::GET_LOG_PAGE,
        effects: PLAIN,
        run: |thread, command| thread.get_log_page(command).into(),
    },
    AdminCommand {
        opcode: admin::DELETE_CQ,
        effects: PLAIN,
        run: |thread, command| thread.delete_cq(command).into(),
    },
    AdminCommand {
        opcode: admin::CREATE_CQ,
        effects: PLAIN,
        run: |thread, command| thread.create_cq(command).into(),
    },
    AdminCommand {
        opcode: admin::IDENTIFY,
        effects: PLAIN,
        run: |thread, command| thread.identify(command).into(),
    },
    AdminCommand {
        opcode: admin::ABORT,
        effects: PLAIN,
        run: |thread, command| Handled::Done(thread.abort(command)),
    },
    AdminCommand {
        opcode: admin::SET_FEATURES,
        effects: PLAIN,
        run: ControllerThread::set_features,
    },
    AdminCommand {
        opcode: admin::GET_FEATURES,
        effects: PLAIN,
        run: |thread, command| {
            Handled::Done(thread.get_features(command).unwrap_or_else(Outcome::from))
        },
    },
    AdminCommand {
        opcode: admin::ASYNC_EVENT_REQUEST,
        effects: PLAIN,
        run: |thread, command| match thread.events.hold(command.cid.get()) {
            Ok(()) => Handled::Held,
            Err(status) => Handled::Done(status.into()),
        },
    },
    AdminCommand {
        opcode: admin::KEEP_ALIVE,
        effects: PLAIN,
        run: |thread, _| {
            thread.features.keep_alive.restart();
            Handled::Done(Outcome::SUCCESS)
        },
    },
    AdminCommand {
        opcode: admin::DOORBELL_BUFFER_CONFIG,
        effects: PLAIN,
        run: |thread, command| thread.configure_doorbell_buffer(command).into(),
    },
    AdminCommand {
        opcode: admin::FORMAT_NVM,
        effects: SUPPORTED | CONTENT_CHANGE | ALONE_IN_NAMESPACE | NAMESPACE_SCOPE,
        run: ControllerThread::format_nvm,
    },
];

impl ControllerThread {
    /// Executes what waits in the admin queue, until it is empty, its
    /// completion queue is full, or the guest wants a reset. A guest that has
    /// shadow doorbells for these queues writes to the registers every time:
    /// nobody looks at them for long.
    pub(super) fn serve_admin_queue(&mut self) {
        let shared = self.shared.clone();
        let (Some(sq), Some(cq)) = (shared.engine.sq(0), shared.engine.cq(0)) else { return };
        loop {
            self.serve_known_admin_commands();
            let known = (sq.has_work(), cq.has_room(1));
            if !sq.rely_on_register() {
                shared.report_doorbell(0, DoorbellError::Value);
            }
            cq.rely_on_register();
            if (sq.has_work(), cq.has_room(1)) == known {
                return;
            }
            self.events.deliver(&shared.engine);
        }
    }

    /// Executes what the doorbells' last known values tell of.
    fn serve_known_admin_commands(&mut self) {
        let shared = self.shared.clone();
        let (Some(sq), Some(cq)) = (shared.engine.sq(0), shared.engine.cq(0)) else { return };
        while !shared.registers.has_edge(Edges::all()) {
            let Some(visit) = sq.visit(&|| ()) else { break };
            let Some(mut claim) = visit.claim() else { break };
            claim.skip_struck();
            // When the queue is full, its doorbell brings us back.
            if claim.waiting() == 0 || cq.reserve(1) == 0 {
                break;
            }
            let mut command = Command::zeroed();
            // Looked at again: a guest that has asked for a reset may ring
            // before it is over, and no entry may be there for that.
            if !claim.peek(0, &mut command) || shared.registers.has_edge(Edges::all()) {
                cq.give_back(1);
                break;
            }
            claim.consume(1);
            drop(claim);
            match self.handle(&command) {
                Handled::Done(outcome) => {
                    self.complete_admin(command.cid.get(), command.nsid.get(), outcome);
                }
                Handled::Held => cq.give_back(1),
                Handled::Later => {}
            }
            self.finish_deletions();
            self.events.deliver(&shared.engine);
        }
    }

    /// The commands that there are: some only by the operator's choice.
    pub(super) fn offered_commands(&self) -> impl Iterator<Item = &'static AdminCommand> {
        let dbbuf = self.shared.settings.dbbuf;
        COMMANDS.iter().filter(move |row| dbbuf || row.opcode != admin::DOORBELL_BUFFER_CONFIG)
    }

    fn handle(&mut self, command: &Command) -> Handled {
        // Admin commands are never fused, and over PCI Express their data
        // pointers are PRPs.
        if command.fuse() != 0 || command.psdt() != 0 {
            return Handled::Done(Status::INVALID_FIELD.do_not_retry().into());
        }
        let row = self.offered_commands().find(|row| row.opcode == command.opcode);
        match row {
            Some(row) => (row.run)(self, command),
            None => Handled::Done(Status::INVALID_OPCODE.do_not_retry().into()),
        }
    }

    /// Posts the completion of the admin command `cid` about namespace `nsid`,
    /// for which an entry was reserved; one that failed goes to the log first.
    pub(super) fn complete_admin(&mut self, cid: u16, nsid: u32, outcome: Outcome) {
        let Outcome { dw0, mut status } = outcome;
        if status.is_error() {
            self.errors.add(Report { sq_id: 0, cid, status, lba: 0, nsid });
            status = status.with_more();
        }
        let engine = &self.shared.engine;
        if let Some(cq) = engine.cq(0) {
            engine.complete(0, cq, cid, Outcome { dw0, status });
            engine.signal(cq);
        }
    }

    /// Aborts a command (section 5.1) that has not begun: an Asynchronous Event
    /// Request that is held, or an entry that still waits in its submission
    /// queue. Its completion precedes that of the Abort, whose bit 0 says that
    /// nothing was aborted. One Abort is over before the next begins, so that
    /// their limit (ACL) is never reached.
    fn abort(&mut self, command: &Command) -> Outcome {
        const NOT_ABORTED: u32 = 1;
        let (sq_id, cid) =
            ((command.cdw10.get() & 0xffff) as u16, (command.cdw10.get() >> 16) as u16);
        let engine = &self.shared.engine;
        let aborted = Outcome::from(Status::ABORT_REQUESTED);
        if sq_id == 0
            && let Some(cq) = engine.cq(0)
            && cq.reserve(1) == 1
        {
            if self.events.take_held(cid) {
                engine.complete(0, cq, cid, aborted);
                return Outcome::SUCCESS;
            }
            cq.give_back(1);
        }
        if engine.abort(sq_id, cid, aborted) {
            return Outcome::SUCCESS;
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

    /// The first `len` bytes of what the command points to.
    pub(super) fn receive(&mut self, command: &Command, len: usize) -> Result<Vec<u8>, Status> {
        if len > MAX_TRANSFER {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        Prp::of(command).segments(&*self.shared.host, len, &mut self.segments)?;
        let mut data = vec![0; len];
        self.segments.read(&mut data)?;
        Ok(data)
    }
}
