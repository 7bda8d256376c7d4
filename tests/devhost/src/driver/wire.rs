// SPDX-License-Identifier: BSD-2-Clause

//! Submission and completion entries, written down from the specification.

use super::prp::Prp;
use std::fmt;

/// Opcodes of admin commands.
#[expect(missing_docs, reason = "the specification's own names")]
pub mod admin_opcode {
    pub const DELETE_SQ: u8 = 0x00;
    pub const CREATE_SQ: u8 = 0x01;
    pub const GET_LOG_PAGE: u8 = 0x02;
    pub const DELETE_CQ: u8 = 0x04;
    pub const CREATE_CQ: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
    pub const GET_FEATURES: u8 = 0x0a;
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    pub const DOORBELL_BUFFER_CONFIG: u8 = 0x7c;
}

/// Opcodes of the NVM command set.
#[expect(missing_docs, reason = "the specification's own names")]
pub mod io_opcode {
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const COMPARE: u8 = 0x05;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    pub const VERIFY: u8 = 0x0c;
}

/// A submission queue entry of 64 bytes, as 16 little-endian words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry([u32; 16]);

impl Entry {
    /// A command with `opcode`; all else is 0.
    pub fn new(opcode: u8) -> Entry {
        let mut words = [0; 16];
        words[0] = u32::from(opcode);
        Entry(words)
    }

    /// An entry of these bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> Entry {
        let mut words = [0; 16];
        for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }
        Entry(words)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (four, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            four.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// With word `number` (0 to 15) replaced.
    pub fn word(mut self, number: usize, value: u32) -> Entry {
        self.0[number] = value;
        self
    }

    /// With the command identifier.
    pub fn cid(self, cid: u16) -> Entry {
        let word = self.0[0] & 0xffff;
        self.word(0, word | u32::from(cid) << 16)
    }

    /// With byte 1: fused operation in bits 1:0, PRP or SGL in bits 7:6.
    pub fn flags(self, flags: u8) -> Entry {
        let word = self.0[0] & !0xff00;
        self.word(0, word | u32::from(flags) << 8)
    }

    /// With the namespace.
    pub fn nsid(self, nsid: u32) -> Entry {
        self.word(1, nsid)
    }

    /// With both data pointers.
    pub fn prp(self, prp: &Prp) -> Entry {
        self.word(6, prp.prp1 as u32)
            .word(7, (prp.prp1 >> 32) as u32)
            .word(8, prp.prp2 as u32)
            .word(9, (prp.prp2 >> 32) as u32)
    }

    /// With a 64-bit value in words `number` and `number + 1`.
    pub fn long(self, number: usize, value: u64) -> Entry {
        self.word(number, value as u32).word(number + 1, (value >> 32) as u32)
    }

    /// A read of `blocks` (1 to 65536) blocks from `lba` on.
    pub fn read(nsid: u32, lba: u64, blocks: u32, prp: &Prp) -> Entry {
        Entry::transfer(io_opcode::READ, nsid, lba, blocks, prp)
    }

    /// A write of `blocks` (1 to 65536) blocks from `lba` on.
    pub fn write(nsid: u32, lba: u64, blocks: u32, prp: &Prp) -> Entry {
        Entry::transfer(io_opcode::WRITE, nsid, lba, blocks, prp)
    }

    /// A command without data on `blocks` (1 to 65536) blocks from `lba` on.
    pub fn on_blocks(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Entry {
        Entry::transfer(opcode, nsid, lba, blocks, &Prp::raw(0, 0))
    }

    /// With an SGL descriptor instead of PRPs; `identifier` is its type and
    /// subtype.
    pub fn sgl(self, identifier: u8, address: u64, len: u32) -> Entry {
        let flags = (self.0[0] >> 8 & 0x3f) as u8;
        self.flags(flags | 0x40).long(6, address).word(8, len).word(9, u32::from(identifier) << 24)
    }

    /// A flush.
    pub fn flush(nsid: u32) -> Entry {
        Entry::new(io_opcode::FLUSH).nsid(nsid)
    }

    /// The same with Force Unit Access.
    pub fn fua(self) -> Entry {
        let word = self.0[12];
        self.word(12, word | 1 << 30)
    }

    fn transfer(opcode: u8, nsid: u32, lba: u64, blocks: u32, prp: &Prp) -> Entry {
        assert!((1..=65536).contains(&blocks), "{blocks} blocks");
        Entry::new(opcode).nsid(nsid).prp(prp).long(10, lba).word(12, blocks - 1)
    }

    pub(super) fn opcode(&self) -> u8 {
        self.0[0] as u8
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:08x?})", self.0)
    }
}

/// The status field of a completion, without the phase.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

#[expect(missing_docs, reason = "the specification's own names")]
impl Status {
    // Generic.
    pub const SUCCESS: u16 = 0x000;
    pub const INVALID_OPCODE: u16 = 0x001;
    pub const INVALID_FIELD: u16 = 0x002;
    pub const CID_CONFLICT: u16 = 0x003;
    pub const DATA_TRANSFER_ERROR: u16 = 0x004;
    pub const INTERNAL_ERROR: u16 = 0x006;
    pub const ABORTED_BY_REQUEST: u16 = 0x007;
    pub const ABORTED_SQ_DELETED: u16 = 0x008;
    pub const ABORTED_FAILED_FUSED: u16 = 0x009;
    pub const ABORTED_MISSING_FUSED: u16 = 0x00a;
    pub const INVALID_NAMESPACE: u16 = 0x00b;
    pub const SEQUENCE_ERROR: u16 = 0x00c;
    pub const SGL_SEGMENT_INVALID: u16 = 0x00d;
    pub const SGL_DATA_LENGTH_INVALID: u16 = 0x00f;
    pub const PRP_OFFSET_INVALID: u16 = 0x013;
    pub const LBA_OUT_OF_RANGE: u16 = 0x080;
    pub const CAPACITY_EXCEEDED: u16 = 0x081;
    // Command specific.
    pub const CQ_INVALID: u16 = 0x100;
    pub const INVALID_QUEUE_ID: u16 = 0x101;
    pub const INVALID_QUEUE_SIZE: u16 = 0x102;
    pub const ABORT_LIMIT_EXCEEDED: u16 = 0x103;
    pub const AER_LIMIT_EXCEEDED: u16 = 0x105;
    pub const INVALID_VECTOR: u16 = 0x108;
    pub const INVALID_LOG_PAGE: u16 = 0x109;
    pub const INVALID_QUEUE_DELETION: u16 = 0x10c;
    pub const FEATURE_NOT_SAVEABLE: u16 = 0x10d;
    pub const FEATURE_NOT_CHANGEABLE: u16 = 0x10e;
    pub const READ_ONLY: u16 = 0x182;
    // Media.
    pub const WRITE_FAULT: u16 = 0x280;
    pub const UNRECOVERED_READ: u16 = 0x281;
    pub const COMPARE_FAILURE: u16 = 0x285;
}

impl Status {
    /// Status code type and status code: `sct << 8 | sc`.
    pub fn code(self) -> u16 {
        self.0 & 0x7ff
    }

    /// Whether the command succeeded.
    pub fn is_success(self) -> bool {
        self.code() == Status::SUCCESS
    }

    /// Do Not Retry.
    pub fn dnr(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    /// More: the error log has an entry.
    pub fn more(self) -> bool {
        self.0 & 1 << 13 != 0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sct, sc) = (self.code() >> 8, self.code() & 0xff);
        write!(f, "sct={sct:x}h sc={sc:02x}h")?;
        if self.dnr() {
            f.write_str(" dnr")?;
        }
        if self.more() {
            f.write_str(" more")?;
        }
        Ok(())
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Word 0: what the command answers.
    pub dw0: u32,
    /// Word 1.
    pub dw1: u32,
    /// Where the controller is in the submission queue.
    pub sqhd: u16,
    /// The submission queue.
    pub sqid: u16,
    /// The command identifier.
    pub cid: u16,
    /// How it went.
    pub status: Status,
}

impl Completion {
    /// From its words; the phase is left to the caller.
    pub(super) fn from_words(words: [u32; 4]) -> Completion {
        Completion {
            dw0: words[0],
            dw1: words[1],
            sqhd: words[2] as u16,
            sqid: (words[2] >> 16) as u16,
            cid: words[3] as u16,
            status: Status((words[3] >> 17) as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_specified() {
        let entry = Entry::read(1, 0x1_0000_0002, 8, &Prp::raw(0x1122_3344_5566, 0x99)).cid(0xabcd);
        let bytes = entry.to_bytes();
        assert_eq!(bytes[..8], [0x02, 0, 0xcd, 0xab, 1, 0, 0, 0]);
        assert_eq!(bytes[24..32], [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0]);
        assert_eq!(bytes[32..40], [0x99, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[40..52], [2, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(Entry::from_bytes(&bytes), entry);
    }

    #[test]
    fn completions_are_read_as_specified() {
        let status = (1 << 14 | 1 << 8 | 0x02) << 1 | 1;
        let completion = Completion::from_words([7, 8, 0x0003_0009, status << 16 | 0x1234]);
        assert_eq!((completion.dw0, completion.dw1), (7, 8));
        assert_eq!((completion.sqhd, completion.sqid, completion.cid), (9, 3, 0x1234));
        assert_eq!(completion.status.code(), Status::INVALID_QUEUE_SIZE);
        assert!(completion.status.dnr() && !completion.status.more());
    }
}
