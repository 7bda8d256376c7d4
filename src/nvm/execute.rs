// SPDX-License-Identifier: BSD-2-Clause

//! From an I/O command to the backend.

use super::counters::{Counters, Totals};
use super::exclusion::Exclusion;
use super::reports::{Report, Reports};
use super::scratch::Scratch;
use super::space::Range;
use crate::backend::{Backend, Error};
use crate::data_pointer::{self, Direction, MAX_TRANSFER, Sgl};
use crate::engine::{Executor, Outcome, Unfinished};
use crate::host::Host;
use crate::sync::{AtomicBool, AtomicU64, Ordering, Padded};
use crate::wire::command::{Command, fuse, io, psdt};
use crate::wire::status::Status;
use crate::wire::{NSID, NSID_ALL};
use std::sync::Arc;

/// The one namespace and its store.
pub(crate) struct Nvm {
    pub(super) host: Arc<dyn Host>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) offers: Offers,
    /// The logical block's size, as a power of two.
    block_shift: u32,
    /// Size of the namespace in logical blocks.
    blocks: AtomicU64,
    /// The namespace is being formatted, and takes no commands.
    formatting: AtomicBool,
    /// Volatile Write Cache Enable: while off, every write is durable.
    write_cache: AtomicBool,
    pub(super) exclusion: Exclusion,
    counters: Box<[Padded<Counters>]>,
    pub(crate) reports: Reports,
    /// Tells the controller thread of a report.
    reported: Box<dyn Fn() + Send + Sync>,
}

/// What is offered beside the mandatory commands and PRPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offers {
    /// Dataset Management, and deallocation by Write Zeroes.
    pub(crate) dsm: bool,
    /// SGLs for the data of I/O commands.
    pub(crate) sgl: bool,
}

/// Logical blocks, checked to be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// In bytes, from the start of the store.
    pub(super) offset: u64,
    /// In bytes: 65536 blocks at most.
    pub(super) len: u64,
    /// Force Unit Access.
    pub(super) fua: bool,
}

/// A command that moves data, whose fields have all been checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// In bytes, from the start of the store.
    pub(super) offset: u64,
    /// In bytes: [`MAX_TRANSFER`] at most.
    pub(super) len: usize,
    /// Force Unit Access.
    pub(super) fua: bool,
}

impl Nvm {
    /// For `threads` threads at most that execute commands at once, from
    /// submission queues below `queues`.
    pub(crate) fn new(
        host: Arc<dyn Host>,
        backend: Arc<dyn Backend>,
        offers: Offers,
        block_shift: u32,
        queues: usize,
        threads: usize,
        reported: Box<dyn Fn() + Send + Sync>,
    ) -> Nvm {
        let blocks = backend.geometry().size.checked_shr(block_shift).unwrap_or(0);
        Nvm {
            host,
            backend,
            offers,
            block_shift,
            blocks: AtomicU64::new(blocks),
            formatting: AtomicBool::new(false),
            write_cache: AtomicBool::new(true),
            exclusion: Exclusion::new(threads),
            counters: (0..queues).map(|_| Padded::default()).collect(),
            reports: Reports::default(),
            reported,
        }
    }

    /// Size of the namespace in logical blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Takes the size that the store has now; whether it is another one.
    pub(crate) fn resize(&self) -> bool {
        let blocks = self.backend.geometry().size.checked_shr(self.block_shift).unwrap_or(0);
        self.blocks.swap(blocks, Ordering::Relaxed) != blocks
    }

    /// While set, every I/O command ends with Format in Progress.
    pub(crate) fn set_formatting(&self, formatting: bool) {
        self.formatting.store(formatting, Ordering::SeqCst);
    }

    /// The logical block's size, as a power of two.
    pub(crate) fn block_shift(&self) -> u32 {
        self.block_shift
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Volatile Write Cache Enable.
    pub(crate) fn set_write_cache(&self, enabled: bool) {
        self.write_cache.store(enabled, Ordering::SeqCst);
    }

    /// Statistics over all queues.
    pub(crate) fn totals(&self) -> Totals {
        Totals::of(self.counters.iter().map(|padded| &padded.0))
    }

    #[inline(always)]
    fn perform(
        &self,
        sq_id: u16,
        command: &Command,
        scratch: &mut Scratch,
    ) -> Result<(), Unfinished> {
        match command.fuse() {
            fuse::NORMAL => {}
            // The queue hands out the halves of a fused operation together.
            fuse::FIRST | fuse::SECOND => {
                return Err(Status::ABORTED_MISSING_FUSED.do_not_retry().into());
            }
            _ => return Err(Status::INVALID_FIELD.do_not_retry().into()),
        }
        self.admit(command)?;
        match command.opcode {
            io::READ => self.read(sq_id, command, scratch)?,
            io::WRITE => {
                let transfer = self.transfer(command)?;
                let _changing = self.exclusion.change(transfer.offset, transfer.len as u64);
                self.write(sq_id, command, transfer, scratch)?;
            }
            io::FLUSH => self.flush(command)?,
            io::COMPARE => self.compare(sq_id, command, self.transfer(command)?, scratch)?,
            io::WRITE_ZEROES => self.write_zeroes(command)?,
            io::DATASET_MANAGEMENT if self.offers.dsm => {
                return self.dataset_management(command, scratch);
            }
            io::VERIFY => self.verify(sq_id, command, scratch)?,
            _ => return Err(Status::INVALID_OPCODE.do_not_retry().into()),
        }
        Ok(())
    }

    /// What every I/O command has to fulfil, each half of a fused one too.
    pub(super) fn admit(&self, command: &Command) -> Result<(), Status> {
        if self.formatting.load(Ordering::SeqCst) {
            return Err(Status::FORMAT_IN_PROGRESS);
        }
        match command.psdt() {
            psdt::PRP => Ok(()),
            psdt::SGL if self.offers.sgl => Ok(()),
            _ => Err(Status::INVALID_FIELD.do_not_retry()),
        }
    }

    #[inline(always)]
    fn read(&self, sq_id: u16, command: &Command, scratch: &mut Scratch) -> Result<(), Status> {
        let transfer = self.transfer(command)?;
        let segments = &mut scratch.segments;
        data_pointer::resolve(command, &*self.host, transfer.len, Direction::ToGuest, segments)?;
        self.make_durable_before(transfer.fua)?;
        self.backend.read(transfer.offset, segments.as_slice()).map_err(read_status)?;
        self.count(sq_id, |counters| counters.read(transfer.len as u64));
        Ok(())
    }

    /// Force Unit Access on a command that reads: what was written before and
    /// is still in a volatile cache is made durable first.
    pub(super) fn make_durable_before(&self, fua: bool) -> Result<(), Status> {
        if fua {
            self.backend.flush().map_err(write_status)?;
        }
        Ok(())
    }

    /// What has just been written is made durable, if it `has_to` be. The caller
    /// looks whether the volatile cache is off only after the write: if it was
    /// switched off meanwhile, the flush for that may have come before.
    pub(super) fn make_durable_after(&self, has_to: bool) -> Result<(), Status> {
        if has_to {
            self.backend.flush().map_err(write_status)?;
        }
        Ok(())
    }

    /// The caller has the right to change the blocks.
    pub(super) fn write(
        &self,
        sq_id: u16,
        command: &Command,
        transfer: Transfer,
        scratch: &mut Scratch,
    ) -> Result<(), Status> {
        let segments = &mut scratch.segments;
        data_pointer::resolve(command, &*self.host, transfer.len, Direction::FromGuest, segments)?;
        let durable = transfer.fua || self.writes_through();
        self.backend.write(transfer.offset, segments.as_slice(), durable).map_err(write_status)?;
        self.make_durable_after(!durable && self.writes_through())?;
        self.count(sq_id, |counters| counters.written(transfer.len as u64));
        Ok(())
    }

    fn flush(&self, command: &Command) -> Result<(), Status> {
        if !matches!(command.nsid.get(), NSID | NSID_ALL) {
            return Err(Status::INVALID_NAMESPACE.do_not_retry());
        }
        self.flush_store().map_err(write_status)
    }

    /// Makes durable what has been written.
    pub(crate) fn flush_store(&self) -> Result<(), Error> {
        self.backend.flush()
    }

    /// Whether what a command without Force Unit Access writes has to be
    /// durable when it completes.
    pub(super) fn writes_through(&self) -> bool {
        !self.write_cache.load(Ordering::SeqCst)
    }

    /// The one namespace there is.
    pub(super) fn check_namespace(&self, command: &Command) -> Result<(), Status> {
        if command.nsid.get() == NSID {
            Ok(())
        } else {
            Err(Status::INVALID_NAMESPACE.do_not_retry())
        }
    }

    /// The blocks of a command that moves data, MDTS at most.
    #[inline(always)]
    pub(super) fn transfer(&self, command: &Command) -> Result<Transfer, Status> {
        self.check_namespace(command)?;
        if self.bytes(nlb(command)) > MAX_TRANSFER as u64 {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        let Blocks { offset, len, fua } = self.blocks_of(command)?;
        Ok(Transfer { offset, len: usize::try_from(len).unwrap_or(MAX_TRANSFER), fua })
    }

    /// The blocks of a command: LBA in dwords 10 and 11, their number in dword
    /// 12. What else is in that dword and the next three tells of metadata,
    /// protection information and directives, and has no meaning in a
    /// namespace that has none of them; Limited Retry is for media that retry.
    pub(super) fn blocks_of(&self, command: &Command) -> Result<Blocks, Status> {
        self.check_namespace(command)?;
        let (offset, len) = self.range(command.slba(), nlb(command))?;
        Ok(Blocks { offset, len, fua: command.cdw12.get() & 1 << 30 != 0 })
    }

    /// `blocks` blocks from `slba` on, as bytes from the start of the store.
    pub(super) fn range(&self, slba: u64, blocks: u64) -> Result<(u64, u64), Status> {
        if slba.checked_add(blocks).is_none_or(|end| end > self.blocks()) {
            return Err(Status::LBA_OUT_OF_RANGE.do_not_retry());
        }
        Ok((self.bytes(slba), self.bytes(blocks)))
    }

    fn bytes(&self, blocks: u64) -> u64 {
        blocks.checked_shl(self.block_shift).unwrap_or(u64::MAX)
    }

    pub(super) fn count(&self, sq_id: u16, add: impl FnOnce(&Counters)) {
        if let Some(counters) = self.counters.get(usize::from(sq_id)) {
            add(counters);
        }
    }

    pub(super) fn report(&self, sq_id: u16, command: &Command, status: Status) {
        // A Compare Failure has the type of a media error, and is none.
        if matches!(status, Status::UNRECOVERED_READ_ERROR | Status::WRITE_FAULT) {
            self.count(sq_id, Counters::media_error);
        }
        self.reports.push(Report {
            sq_id,
            cid: command.cid.get(),
            status,
            lba: command.slba(),
            nsid: command.nsid.get(),
        });
        (self.reported)();
    }
}

/// The number of blocks in dword 12.
fn nlb(command: &Command) -> u64 {
    u64::from(command.cdw12.get() & 0xffff).saturating_add(1)
}

pub(super) fn read_status(error: Error) -> Status {
    match error {
        Error::Memory => Status::DATA_TRANSFER_ERROR,
        Error::Invalid => Status::INTERNAL_ERROR,
        // The store has become smaller, and the namespace has not followed yet.
        Error::OutOfRange => Status::LBA_OUT_OF_RANGE.do_not_retry(),
        Error::Io | Error::NoSpace | Error::ReadOnly => Status::UNRECOVERED_READ_ERROR,
    }
}

pub(super) fn write_status(error: Error) -> Status {
    match error {
        Error::Memory => Status::DATA_TRANSFER_ERROR,
        Error::Invalid => Status::INTERNAL_ERROR,
        Error::NoSpace => Status::CAPACITY_EXCEEDED,
        Error::ReadOnly => Status::WRITE_PROTECTED.do_not_retry(),
        Error::OutOfRange => Status::LBA_OUT_OF_RANGE.do_not_retry(),
        Error::Io => Status::WRITE_FAULT,
    }
}

impl Executor for Nvm {
    type Scratch = Scratch;
    type Job = Box<dyn FnOnce(&Nvm) + Send>;
    type Part = Range;

    #[inline(always)]
    fn execute(
        &self,
        sq_id: u16,
        command: &Command,
        scratch: &mut Scratch,
    ) -> Result<(), Unfinished> {
        let result = self.perform(sq_id, command, scratch);
        if let Err(Unfinished::Failed(status)) = result {
            self.report(sq_id, command, status);
        }
        result
    }

    fn parts(&self, scratch: &Scratch) -> Box<[Range]> {
        scratch.ranges.as_slice().into()
    }

    fn execute_part(&self, range: &Range) -> Result<(), Status> {
        self.free(range)
    }

    fn finish_parts(
        &self,
        sq_id: u16,
        command: &Command,
        result: Result<(), Status>,
    ) -> Result<(), Status> {
        let result = result.and_then(|()| self.all_freed());
        if let Err(status) = result {
            self.report(sq_id, command, status);
        }
        result
    }

    fn execute_fused(
        &self,
        sq_id: u16,
        commands: [&Command; 2],
        scratch: &mut Scratch,
    ) -> [Outcome; 2] {
        let results = self.compare_and_write(sq_id, commands, scratch);
        for (command, result) in commands.iter().zip(&results) {
            if let Err(status) = result {
                self.report(sq_id, command, *status);
            }
        }
        results.map(Outcome::from)
    }

    /// Reads and writes cost what they move, and a Flush of a store that never
    /// waits costs nothing. All else may take long, or wait: fused operations
    /// for those who write the same blocks, lists of descriptors for their
    /// length.
    fn inline_cost(&self, command: &Command) -> Option<u64> {
        if command.fuse() != fuse::NORMAL {
            return None;
        }
        match command.opcode {
            io::WRITE if self.exclusion.is_fused() => None,
            io::READ | io::WRITE if command.psdt() == psdt::PRP || Sgl::of(command).is_inline() => {
                Some(self.bytes(nlb(command)))
            }
            io::FLUSH => Some(0),
            _ => None,
        }
    }

    fn run(&self, job: Self::Job) {
        job(self);
    }
}
