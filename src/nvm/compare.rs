// SPDX-License-Identifier: BSD-2-Clause

//! Commands for which the controller reads the store itself: Compare, alone or
//! fused with a Write, and Verify.

use super::execute::{Blocks, Nvm, Transfer, read_status};
use super::scratch::Scratch;
use crate::data_pointer::{self, Direction};
use crate::memory::Segment;
use crate::wire::command::{Command, io};
use crate::wire::status::Status;

impl Nvm {
    /// Compares the blocks with the guest's data. Each byte of the guest's is
    /// read once.
    pub(super) fn compare(
        &self,
        sq_id: u16,
        command: &Command,
        transfer: Transfer,
        scratch: &mut Scratch,
    ) -> Result<(), Status> {
        let buffer = scratch.buffer()?;
        let (segments, from) = (&mut scratch.segments, Direction::FromGuest);
        data_pointer::resolve(command, &*self.host, transfer.len, from, segments)?;
        let Transfer { offset, len, fua } = transfer;
        let len = len as u64;
        self.each_part(Blocks { offset, len, fua }, buffer, |at, part| {
            if segments.equals(at, part)? {
                Ok(())
            } else {
                Err(Status::COMPARE_FAILURE.do_not_retry())
            }
        })?;
        self.count(sq_id, |counters| counters.read(len));
        Ok(())
    }

    /// Reads the blocks for no other reason than to see that it can be done.
    pub(super) fn verify(
        &self,
        sq_id: u16,
        command: &Command,
        scratch: &mut Scratch,
    ) -> Result<(), Status> {
        let blocks = self.blocks_of(command)?;
        self.each_part(blocks, scratch.buffer()?, |_, _| Ok(()))?;
        self.count(sq_id, |counters| counters.verified(blocks.len));
        Ok(())
    }

    /// Reads the blocks, a buffer at a time, and shows each part with its
    /// place among them.
    fn each_part(
        &self,
        blocks: Blocks,
        buffer: Segment,
        mut look: impl FnMut(usize, &Segment) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.make_durable_before(blocks.fua)?;
        let mut at = 0u64;
        while at < blocks.len {
            let left = usize::try_from(blocks.len.saturating_sub(at)).unwrap_or(usize::MAX);
            let part = buffer.slice(0, left.min(buffer.len())).ok_or(Status::INTERNAL_ERROR)?;
            let offset = blocks.offset.saturating_add(at);
            self.backend.read(offset, &[part]).map_err(read_status)?;
            look(usize::try_from(at).unwrap_or(usize::MAX), &part)?;
            at = at.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// The one fused operation there is (NVM Command Set, section 2.2). Nobody
    /// changes the blocks between its halves. If the Compare fails, the Write
    /// is not begun; if the Write fails, the Compare has succeeded all the
    /// same.
    pub(super) fn compare_and_write(
        &self,
        sq_id: u16,
        [compare, write]: [&Command; 2],
        scratch: &mut Scratch,
    ) -> [Result<(), Status>; 2] {
        let same_blocks = compare.nsid == write.nsid
            && compare.slba() == write.slba()
            && compare.cdw12.get() & 0xffff == write.cdw12.get() & 0xffff;
        if (compare.opcode, write.opcode) != (io::COMPARE, io::WRITE) || !same_blocks {
            return [Err(Status::INVALID_FIELD.do_not_retry()); 2];
        }
        let transfer = match self.admit(compare).and_then(|()| self.transfer(compare)) {
            Ok(transfer) => transfer,
            Err(status) => return failed(status),
        };
        let _alone = self.exclusion.alone(transfer.offset, transfer.len as u64);
        if let Err(status) = self.compare(sq_id, compare, transfer, scratch) {
            return failed(status);
        }
        let written = self
            .admit(write)
            .and_then(|()| self.transfer(write))
            .and_then(|transfer| self.write(sq_id, write, transfer, scratch));
        [Ok(()), written]
    }
}

/// The Compare failed with `status`.
fn failed(status: Status) -> [Result<(), Status>; 2] {
    [Err(status), Err(Status::ABORTED_FAILED_FUSED.do_not_retry())]
}
