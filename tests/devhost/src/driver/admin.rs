// SPDX-License-Identifier: BSD-2-Clause

//! Admin commands, and the queues that they make.

use super::controller::Nvme;
use super::data::Data;
use super::error::Error;
use super::pair::{QueuePair, Wait};
use super::queue::{CompletionQueue, SubmissionQueue};
use super::wire::{Entry, admin_opcode as opcode};
use std::sync::Arc;

/// Features by their identifier.
const NUMBER_OF_QUEUES: u8 = 0x07;

/// What a driver has to know of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Size in blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
}

/// The answer to Number of Queues: submission and completion queues.
pub fn queue_count(dw0: u32) -> (u32, u32) {
    ((dw0 & 0xffff) + 1, (dw0 >> 16) + 1)
}

impl Nvme {
    /// Identify: the 4096 bytes for `cns`.
    pub fn identify(&self, cns: u8, nsid: u32) -> Result<Vec<u8>, Error> {
        let data = Data::new(&self.memory, 4096)?;
        let entry =
            Entry::new(opcode::IDENTIFY).nsid(nsid).prp(&data.prp()?).word(10, u32::from(cns));
        self.admin().execute(entry)?;
        Ok(data.to_vec())
    }

    /// Size and blocks of namespace `nsid`, of its format in use.
    pub fn namespace(&self, nsid: u32) -> Result<NamespaceInfo, Error> {
        let bytes = self.identify(0, nsid)?;
        let blocks = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
        let format = usize::from(bytes[26] & 0xf);
        Ok(NamespaceInfo { blocks, block_size: 1 << bytes[128 + 4 * format + 2] })
    }

    /// Get Features: word 0 of the answer. `select` is 0 for the current
    /// value, 1 for the default, 2 for the saved one, 3 for capabilities.
    pub fn get_feature(&self, feature: u8, select: u8, nsid: u32) -> Result<u32, Error> {
        let entry = Entry::new(opcode::GET_FEATURES)
            .nsid(nsid)
            .word(10, u32::from(select) << 8 | u32::from(feature));
        Ok(self.admin().execute(entry)?.dw0)
    }

    /// Set Features: word 0 of the answer.
    pub fn set_feature(&self, feature: u8, value: u32, nsid: u32) -> Result<u32, Error> {
        let entry = Entry::new(opcode::SET_FEATURES)
            .nsid(nsid)
            .word(10, u32::from(feature))
            .word(11, value);
        Ok(self.admin().execute(entry)?.dw0)
    }

    /// Asks for `count` (1 to 65535) queues of either kind; returns how many
    /// of each there may be.
    pub fn set_queue_count(&self, count: u32) -> Result<(u32, u32), Error> {
        let value = (count - 1) << 16 | (count - 1);
        Ok(queue_count(self.set_feature(NUMBER_OF_QUEUES, value, 0)?))
    }

    /// Get Log Page: `len` bytes (a multiple of 4) from `offset` on. `retain`
    /// keeps the event that the page would clear.
    pub fn get_log(
        &self,
        page: u8,
        nsid: u32,
        offset: u64,
        len: usize,
        retain: bool,
    ) -> Result<Vec<u8>, Error> {
        assert!(len.is_multiple_of(4) && len > 0, "whole words");
        let data = Data::new(&self.memory, len)?;
        let words = (len / 4 - 1) as u32;
        let entry = Entry::new(opcode::GET_LOG_PAGE)
            .nsid(nsid)
            .prp(&data.prp()?)
            .word(10, (words & 0xffff) << 16 | u32::from(retain) << 15 | u32::from(page))
            .word(11, words >> 16)
            .long(12, offset);
        self.admin().execute(entry)?;
        Ok(data.to_vec())
    }

    /// Abort: whether the command was aborted.
    pub fn abort(&self, sqid: u16, cid: u16) -> Result<bool, Error> {
        let entry = Entry::new(opcode::ABORT).word(10, u32::from(cid) << 16 | u32::from(sqid));
        Ok(self.admin().execute(entry)?.dw0 & 1 == 0)
    }

    /// Asynchronous Event Request: its identifier on the admin queue. Word 0
    /// of its completion is the event.
    pub fn request_event(&self) -> Result<u16, Error> {
        self.admin().submit(Entry::new(opcode::ASYNC_EVENT_REQUEST))
    }

    /// Create I/O Completion Queue, in fresh memory. Without a vector its
    /// interrupts are off.
    pub fn create_cq(
        &self,
        id: u16,
        entries: u32,
        vector: Option<u16>,
    ) -> Result<CompletionQueue, Error> {
        let ring = self.memory.alloc(CompletionQueue::bytes(entries))?;
        let interrupts = vector.map_or(0, |vector| u32::from(vector) << 16 | 2);
        let entry = Entry::new(opcode::CREATE_CQ)
            .long(6, ring.address())
            .word(10, entries.wrapping_sub(1) << 16 | u32::from(id))
            .word(11, interrupts | 1);
        self.admin().execute(entry)?;
        let doorbell = self.cq_doorbell(id);
        Ok(CompletionQueue::new(&self.function, id, entries, ring, doorbell, vector))
    }

    /// Create I/O Submission Queue, in fresh memory, for completion queue
    /// `cqid`.
    pub fn create_sq(&self, id: u16, cqid: u16, entries: u32) -> Result<SubmissionQueue, Error> {
        let ring = self.memory.alloc(SubmissionQueue::bytes(entries))?;
        let entry = Entry::new(opcode::CREATE_SQ)
            .long(6, ring.address())
            .word(10, entries.wrapping_sub(1) << 16 | u32::from(id))
            .word(11, u32::from(cqid) << 16 | 1);
        self.admin().execute(entry)?;
        Ok(SubmissionQueue::new(&self.function, id, entries, ring, self.sq_doorbell(id)))
    }

    /// Delete I/O Submission Queue. Its memory must be kept until it is over.
    pub fn delete_sq(&self, id: u16) -> Result<(), Error> {
        let entry = Entry::new(opcode::DELETE_SQ).word(10, u32::from(id));
        self.admin().execute(entry).map(drop)
    }

    /// Delete I/O Completion Queue. Its memory must be kept until it is over.
    pub fn delete_cq(&self, id: u16) -> Result<(), Error> {
        let entry = Entry::new(opcode::DELETE_CQ).word(10, u32::from(id));
        self.admin().execute(entry).map(drop)
    }

    /// Creates both queues of a pair, of `entries` entries each.
    pub fn create_pair(
        &self,
        id: u16,
        entries: u32,
        vector: Option<u16>,
        wait: Wait,
    ) -> Result<QueuePair, Error> {
        let cq = self.create_cq(id, entries, vector)?;
        let sq = self.create_sq(id, id, entries)?;
        Ok(QueuePair::new(&self.function, self.interrupts(), sq, cq, wait, self.limit))
    }

    /// Deletes both queues of a pair, which must have nothing in flight.
    pub fn delete_pair(&self, pair: &Arc<QueuePair>) -> Result<(), Error> {
        self.delete_sq(pair.id())?;
        self.delete_cq(pair.id())
    }
}
