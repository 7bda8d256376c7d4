// SPDX-License-Identifier: BSD-2-Clause

//! The submission queue entry (section 4.2).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a submission queue entry (CC.IOSQES 6).
pub const ENTRY_SIZE: usize = 64;

/// A submission queue entry, as copied out of guest memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Command {
    /// Opcode: one of [`admin`] or [`io`].
    pub opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// Command identifier, unique among those outstanding in its queue.
    pub cid: U16,
    /// Namespace identifier.
    pub nsid: U32,
    /// Command dwords 2 and 3.
    pub cdw2: [U32; 2],
    /// Metadata pointer.
    pub mptr: U64,
    /// Data pointer: two PRP entries, or one SGL descriptor.
    pub dptr: [U64; 2],
    /// Command dwords 10 to 15.
    pub cdw10: U32,
    /// See `cdw10`.
    pub cdw11: U32,
    /// See `cdw10`.
    pub cdw12: U32,
    /// See `cdw10`.
    pub cdw13: U32,
    /// See `cdw10`.
    pub cdw14: U32,
    /// See `cdw10`.
    pub cdw15: U32,
}

const _: () = assert!(size_of::<Command>() == ENTRY_SIZE);

impl Command {
    /// An entry of zeroes.
    pub fn zeroed() -> Command {
        Command::new_zeroed()
    }

    /// The fused operation field; 0 for a normal operation.
    pub fn fuse(&self) -> u8 {
        self.flags & 0x3
    }

    /// The PRP or SGL selector; 0 for PRPs.
    pub fn psdt(&self) -> u8 {
        self.flags >> 6
    }

    /// Dwords 10 and 11 as one number: the starting LBA of most I/O commands.
    pub fn slba(&self) -> u64 {
        u64::from(self.cdw10.get()) | u64::from(self.cdw11.get()) << 32
    }
}

/// The fused operation field (figure 105).
pub mod fuse {
    /// A command of its own.
    pub const NORMAL: u8 = 0;
    /// The first command of a fused operation.
    pub const FIRST: u8 = 1;
    /// The second one.
    pub const SECOND: u8 = 2;
}

/// The PRP or SGL selector (figure 105).
pub mod psdt {
    /// PRPs.
    pub const PRP: u8 = 0;
    /// An SGL for the data; a contiguous buffer for metadata.
    pub const SGL: u8 = 1;
}

/// Admin opcodes (figure 139).
pub mod admin {
    /// Delete I/O Submission Queue.
    pub const DELETE_SQ: u8 = 0x00;
    /// Create I/O Submission Queue.
    pub const CREATE_SQ: u8 = 0x01;
    /// Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Delete I/O Completion Queue.
    pub const DELETE_CQ: u8 = 0x04;
    /// Create I/O Completion Queue.
    pub const CREATE_CQ: u8 = 0x05;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request.
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    /// Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;
    /// Format NVM.
    pub const FORMAT_NVM: u8 = 0x80;
    /// Doorbell Buffer Config.
    pub const DOORBELL_BUFFER_CONFIG: u8 = 0x7c;
}

/// I/O opcodes of the NVM command set (figure 346).
pub mod io {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// Verify.
    pub const VERIFY: u8 = 0x0c;
}
