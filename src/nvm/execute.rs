// SPDX-License-Identifier: BSD-2-Clause

//! From an I/O command to the backend.

use super::counters::{Counters, Totals};
use super::reports::{Report, Reports};
use crate::backend::{Backend, Error};
use crate::data_pointer::{MAX_TRANSFER, Prp, Segments};
use crate::engine::{Executor, Outcome};
use crate::host::Host;
use crate::sync::{AtomicBool, Ordering, Padded};
use crate::wire::command::{Command, io};
use crate::wire::status::Status;
use crate::wire::{NSID, NSID_ALL};
use std::sync::Arc;

/// The one namespace and its store.
pub(crate) struct Nvm {
    host: Arc<dyn Host>,
    backend: Arc<dyn Backend>,
    /// The logical block's size, as a power of two.
    block_shift: u32,
    /// Size of the namespace in logical blocks.
    blocks: u64,
    /// Volatile Write Cache Enable: while off, every write is durable.
    write_cache: AtomicBool,
    counters: Box<[Padded<Counters>]>,
    pub(crate) reports: Reports,
    /// Tells the controller thread of a report.
    reported: Box<dyn Fn() + Send + Sync>,
}

/// A Read or Write whose fields have all been checked.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    /// In bytes, from the start of the store.
    offset: u64,
    /// In bytes.
    len: usize,
    /// Force Unit Access.
    fua: bool,
}

impl Nvm {
    pub(crate) fn new(
        host: Arc<dyn Host>,
        backend: Arc<dyn Backend>,
        block_shift: u32,
        queues: usize,
        reported: Box<dyn Fn() + Send + Sync>,
    ) -> Nvm {
        let blocks = backend.geometry().size.checked_shr(block_shift).unwrap_or(0);
        Nvm {
            host,
            backend,
            block_shift,
            blocks,
            write_cache: AtomicBool::new(true),
            counters: (0..queues).map(|_| Padded::default()).collect(),
            reports: Reports::default(),
            reported,
        }
    }

    /// Size of the namespace in logical blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
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

    fn perform(
        &self,
        sq_id: u16,
        command: &Command,
        segments: &mut Segments,
    ) -> Result<(), Status> {
        if command.fuse() != 0 || command.psdt() != 0 {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        match command.opcode {
            io::READ => self.read(sq_id, command, segments),
            io::WRITE => self.write(sq_id, command, segments),
            io::FLUSH => self.flush(command),
            _ => Err(Status::INVALID_OPCODE.do_not_retry()),
        }
    }

    fn read(&self, sq_id: u16, command: &Command, segments: &mut Segments) -> Result<(), Status> {
        let transfer = self.transfer(command)?;
        Prp::of(command).segments(&*self.host, transfer.len, segments)?;
        // Force Unit Access on a read: what was written before and is still in
        // a volatile cache is made durable first.
        if transfer.fua {
            self.backend.flush().map_err(write_status)?;
        }
        self.backend.read(transfer.offset, segments.as_slice()).map_err(read_status)?;
        if let Some(counters) = self.counters.get(usize::from(sq_id)) {
            counters.read(transfer.len as u64);
        }
        Ok(())
    }

    fn write(&self, sq_id: u16, command: &Command, segments: &mut Segments) -> Result<(), Status> {
        let transfer = self.transfer(command)?;
        Prp::of(command).segments(&*self.host, transfer.len, segments)?;
        let durable = transfer.fua || !self.write_cache.load(Ordering::SeqCst);
        self.backend.write(transfer.offset, segments.as_slice(), durable).map_err(write_status)?;
        if let Some(counters) = self.counters.get(usize::from(sq_id)) {
            counters.written(transfer.len as u64);
        }
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

    fn transfer(&self, command: &Command) -> Result<Transfer, Status> {
        if command.nsid.get() != NSID {
            return Err(Status::INVALID_NAMESPACE.do_not_retry());
        }
        let nlb_z = command.cdw12.get() & 0xffff;
        let blocks = u64::from(nlb_z).saturating_add(1);
        let len = usize::try_from(blocks.checked_shl(self.block_shift).unwrap_or(u64::MAX))
            .unwrap_or(usize::MAX);
        if len > MAX_TRANSFER {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        let slba = command.slba();
        if slba.checked_add(blocks).is_none_or(|end| end > self.blocks) {
            return Err(Status::LBA_OUT_OF_RANGE.do_not_retry());
        }
        let offset = slba.checked_shl(self.block_shift).unwrap_or(u64::MAX);
        Ok(Transfer { offset, len, fua: command.cdw12.get() & 1 << 30 != 0 })
    }

    fn report(&self, sq_id: u16, command: &Command, status: Status) {
        const MEDIA: u16 = 0x200;
        if status.0 & 0x700 == MEDIA
            && let Some(counters) = self.counters.get(usize::from(sq_id))
        {
            counters.media_error();
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

fn read_status(error: Error) -> Status {
    match error {
        Error::Memory => Status::DATA_TRANSFER_ERROR,
        Error::Invalid => Status::INTERNAL_ERROR,
        Error::Io | Error::OutOfRange | Error::NoSpace | Error::ReadOnly => {
            Status::UNRECOVERED_READ_ERROR
        }
    }
}

fn write_status(error: Error) -> Status {
    match error {
        Error::Memory => Status::DATA_TRANSFER_ERROR,
        Error::Invalid => Status::INTERNAL_ERROR,
        Error::NoSpace => Status::CAPACITY_EXCEEDED,
        Error::ReadOnly => Status::WRITE_PROTECTED.do_not_retry(),
        Error::Io | Error::OutOfRange => Status::WRITE_FAULT,
    }
}

impl Executor for Nvm {
    type Scratch = Segments;
    type Job = Box<dyn FnOnce(&Nvm) + Send>;

    fn execute(&self, sq_id: u16, command: &Command, scratch: &mut Segments) -> Outcome {
        let result = self.perform(sq_id, command, scratch);
        if let Err(status) = result {
            self.report(sq_id, command, status);
        }
        result.into()
    }

    /// Reads and writes cost what they move; everything else that a store
    /// which never waits can do costs nothing.
    fn inline_cost(&self, command: &Command) -> Option<u64> {
        match command.opcode {
            io::READ | io::WRITE => {
                let blocks = u64::from(command.cdw12.get() & 0xffff).saturating_add(1);
                blocks.checked_shl(self.block_shift)
            }
            _ => Some(0),
        }
    }

    fn run(&self, job: Self::Job) {
        job(self);
    }
}
