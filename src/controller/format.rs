// SPDX-License-Identifier: BSD-2-Clause

//! Format NVM (section 5.23): erases the namespace. There is one LBA format,
//! and no metadata.
//!
//! First the I/O queues are paused until what was fetched from them has ended,
//! so that no write of before lands after its blocks were erased. Then they go
//! on, and every I/O command ends with Format in Progress until all is zero.
//! Workers erase piece by piece, with room for other work between two pieces.
//! The admin queue is served all the while. A reset or a shutdown ends the
//! erasure after the piece at hand: it waits for that, for a late piece would
//! hit blocks that were written since.

use super::admin::Handled;
use super::jobs::Purpose;
use super::thread::ControllerThread;
use crate::backend::Error;
use crate::engine::Outcome;
use crate::wire::command::Command;
use crate::wire::status::Status;
use crate::wire::{NSID, NSID_ALL};

/// Bytes that one job erases.
const PIECE: u64 = 8 << 20;

/// A Format NVM command under way.
pub(super) struct Format {
    cid: u16,
    nsid: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The I/O queues are paused; what was fetched from them still runs.
    Draining,
    /// What lies before this byte is erased.
    Erasing(u64),
    /// The piece at hand is the last.
    Cancelled,
}

impl ControllerThread {
    pub(super) fn format_nvm(&mut self, command: &Command) -> Handled {
        match self.check_format(command) {
            Ok(format) => {
                self.format = Some(format);
                self.shared.engine.pause();
                self.advance_format();
                Handled::Later
            }
            Err(status) => Handled::Done(status.into()),
        }
    }

    fn check_format(&self, command: &Command) -> Result<Format, Status> {
        const USER_DATA_ERASE: u32 = 1;
        let nsid = command.nsid.get();
        if !matches!(nsid, NSID | NSID_ALL) {
            return Err(Status::INVALID_NAMESPACE.do_not_retry());
        }
        let cdw10 = command.cdw10.get();
        let (low, high) = (cdw10 & 0xf, cdw10 >> 12 & 0x3);
        let (protection, erase) = (cdw10 >> 5 & 0x7, cdw10 >> 9 & 0x7);
        // Metadata settings mean nothing where there is none.
        if low != 0 || high != 0 || protection != 0 {
            return Err(Status::INVALID_FORMAT.do_not_retry());
        }
        if erase > USER_DATA_ERASE {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        if self.shared.engine.executor().backend().geometry().read_only {
            return Err(Status::WRITE_PROTECTED.do_not_retry());
        }
        if self.format.is_some() {
            return Err(Status::FORMAT_IN_PROGRESS);
        }
        Ok(Format { cid: command.cid.get(), nsid, stage: Stage::Draining })
    }

    /// Begins to erase when nothing of before is left in the store.
    pub(super) fn advance_format(&mut self) {
        let engine = &self.shared.engine;
        let Some(format) = &mut self.format else { return };
        if format.stage == Stage::Draining && engine.is_idle() {
            format.stage = Stage::Erasing(0);
            engine.executor().set_formatting(true);
            engine.resume();
            self.erase_from(0);
        }
    }

    fn erase_from(&self, begin: u64) {
        let total = self.namespace_bytes();
        let end = begin.saturating_add(PIECE).min(total);
        self.in_background(Purpose::Erase(end), move |nvm| {
            nvm.erase(begin, end.saturating_sub(begin))?;
            // The last piece is made durable, and all before it.
            if end >= total { nvm.flush_store() } else { Ok(()) }
        });
    }

    fn namespace_bytes(&self) -> u64 {
        let nvm = self.shared.engine.executor();
        nvm.blocks().checked_shl(nvm.block_shift()).unwrap_or(u64::MAX)
    }

    /// A piece was erased, up to byte `end`.
    pub(super) fn erased(&mut self, end: u64, result: Result<(), Error>) {
        let total = self.namespace_bytes();
        let Some(format) = &mut self.format else { return };
        let outcome: Outcome = match (format.stage, result) {
            (_, Err(Error::NoSpace)) => Status::CAPACITY_EXCEEDED.into(),
            (_, Err(Error::ReadOnly)) => Status::WRITE_PROTECTED.do_not_retry().into(),
            (_, Err(_)) => Status::WRITE_FAULT.into(),
            (Stage::Cancelled, Ok(())) => Status::ABORT_REQUESTED.into(),
            (_, Ok(())) if end >= total => Outcome::SUCCESS,
            (_, Ok(())) => {
                format.stage = Stage::Erasing(end);
                return self.erase_from(end);
            }
        };
        self.end_format(outcome);
    }

    fn end_format(&mut self, outcome: Outcome) {
        let Some(Format { cid, nsid, .. }) = self.format.take() else { return };
        self.shared.engine.executor().set_formatting(false);
        // During a reset there is nobody to tell.
        if self.is_living(self.life) {
            self.complete_admin(cid, nsid, outcome);
        }
    }

    /// Ends the format as soon as can be: a reset or a shutdown.
    pub(super) fn cancel_format(&mut self) {
        let Some(format) = &mut self.format else { return };
        if format.stage == Stage::Draining {
            self.shared.engine.resume();
            self.end_format(Status::ABORT_REQUESTED.into());
        } else {
            format.stage = Stage::Cancelled;
        }
    }

    /// Format Progress Indicator (FPI): supported, and percents that remain.
    pub(super) fn format_progress(&self) -> u8 {
        const SUPPORTED: u8 = 1 << 7;
        let done = match self.format.as_ref().map(|format| format.stage) {
            None => return SUPPORTED,
            Some(Stage::Erasing(done)) => done,
            Some(Stage::Draining | Stage::Cancelled) => 0,
        };
        let (done, total) = (u128::from(done), u128::from(self.namespace_bytes().max(1)));
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        // Not yet over: at least one percent remains.
        SUPPORTED | 100u8.saturating_sub(u8::try_from(percent).unwrap_or(100)).max(1)
    }
}
