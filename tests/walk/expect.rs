// SPDX-License-Identifier: BSD-2-Clause

//! How an I/O command has to end, by what is wrong with it.

use super::action::{Io, Op, Wrong};
use super::world::{BLOCKS, World};
use devhost::driver::Status;

pub(crate) const SGL_TYPE_INVALID: u16 = 0x011;
pub(crate) const FORMAT_IN_PROGRESS: u16 = 0x084;

/// Which blocks a command is about: what is wrong with it moves them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub nsid: u32,
    pub lba: u64,
    pub blocks: u64,
}

impl World {
    pub(crate) fn target(&self, io: &Io) -> Target {
        // The smallest namespace is half of the store.
        let blocks = u64::from(io.blocks);
        let lba = u64::from(io.lba) % (self.blocks - blocks + 1);
        let target = Target { nsid: 1, lba, blocks };
        match io.wrong {
            Wrong::Nsid(nsid) => Target { nsid, ..target },
            Wrong::End => Target { lba: self.blocks - blocks + 1, ..target },
            Wrong::FarEnd => Target { lba: u64::MAX, ..target },
            Wrong::TooLong => Target { lba: 0, blocks: BLOCKS + 1, ..target },
            _ => target,
        }
    }

    /// The status code of a command that is alone.
    pub(crate) fn code_of(&self, io: &Io) -> u16 {
        match io.wrong {
            Wrong::Fuse(1 | 2) => return Status::ABORTED_MISSING_FUSED,
            Wrong::Fuse(_) | Wrong::Psdt(_) => return Status::INVALID_FIELD,
            _ => {}
        }
        if let Op::Unknown(_) = io.op {
            return Status::INVALID_OPCODE;
        }
        self.code_of_half(io)
    }

    /// The same, once opcode and FUSE are right.
    pub(crate) fn code_of_half(&self, io: &Io) -> u16 {
        let moves = matches!(io.op, Op::Read | Op::Write | Op::Compare { .. } | Op::Fused { .. });
        let has_range = !matches!(io.op, Op::Flush { .. } | Op::Deallocate { .. });
        let has_data = moves || matches!(io.op, Op::Deallocate { .. });
        let changes = matches!(io.op, Op::Write | Op::WriteZeroes { .. });
        match io.wrong {
            Wrong::Psdt(_) => Status::INVALID_FIELD,
            Wrong::Nsid(_) => Status::INVALID_NAMESPACE,
            Wrong::TooLong if moves => Status::INVALID_FIELD,
            Wrong::TooLong | Wrong::End | Wrong::FarEnd if has_range => Status::LBA_OUT_OF_RANGE,
            Wrong::LowBits if has_data => Status::PRP_OFFSET_INVALID,
            Wrong::NoMemory if has_data => Status::DATA_TRANSFER_ERROR,
            Wrong::SglType if has_data => SGL_TYPE_INVALID,
            Wrong::SglShort if has_data => Status::SGL_DATA_LENGTH_INVALID,
            Wrong::End | Wrong::FarEnd if has_data => Status::LBA_OUT_OF_RANGE,
            _ if !self.failing => Status::SUCCESS,
            _ if changes || matches!(io.op, Op::Flush { .. }) => Status::WRITE_FAULT,
            _ if matches!(io.op, Op::Deallocate { hint, .. } if !hint) => Status::WRITE_FAULT,
            _ if matches!(io.op, Op::Deallocate { .. }) => Status::SUCCESS,
            // Force Unit Access flushes first.
            _ if io.fua => Status::WRITE_FAULT,
            _ => Status::UNRECOVERED_READ,
        }
    }
}

/// Whether a status says not to retry.
pub(crate) fn do_not_retry(code: u16) -> bool {
    !matches!(
        code,
        Status::SUCCESS
            | Status::ABORTED_BY_REQUEST
            | Status::ABORTED_SQ_DELETED
            | FORMAT_IN_PROGRESS
            | Status::WRITE_FAULT
            | Status::UNRECOVERED_READ
    )
}
