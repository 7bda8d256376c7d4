// SPDX-License-Identifier: BSD-2-Clause

//! I/O commands with every field at its limits.

mod cache;
mod compare;
mod fused;
mod space;
mod store;

use super::scratch::Scratch;
use super::*;
use crate::backend::Backend;
use crate::backend::ram::Ram;
use crate::engine::{Executor, Unfinished};
use crate::host::testing;
use crate::memory::Region;
use crate::wire::command::{Command, io};
use crate::wire::status::Status;
use std::sync::Arc;

const BLOCKS: u64 = 1000;

const ALL: Offers = Offers { dsm: true, sgl: true };

fn nvm(shift: u32) -> Nvm {
    let guest = Arc::new(testing::Ram(Region::zeroed(1 << 20).unwrap()));
    let store: Arc<dyn Backend> = Arc::new(Ram::new((BLOCKS << shift) + 100).unwrap());
    Nvm::new(guest, store, ALL, shift, 2, 4, Box::new(|| ()))
}

fn command(opcode: u8, nsid: u32, slba: u64, nlb_z: u32) -> Command {
    let mut command = Command::zeroed();
    command.opcode = opcode;
    command.nsid = nsid.into();
    command.cdw10 = ((slba & 0xffff_ffff) as u32).into();
    command.cdw11 = ((slba >> 32) as u32).into();
    command.cdw12 = nlb_z.into();
    command
}

fn run(nvm: &Nvm, command: Command) -> Status {
    let mut scratch = Scratch::default();
    let result = match nvm.execute(1, &command, &mut scratch) {
        Ok(()) => Ok(()),
        Err(Unfinished::Failed(status)) => Err(status),
        Err(Unfinished::InParts) => {
            let parts = nvm.parts(&scratch);
            let result = parts.iter().try_for_each(|part| nvm.execute_part(part));
            nvm.finish_parts(1, &command, result)
        }
    };
    result.err().unwrap_or(Status::SUCCESS)
}

#[test]
fn a_partial_block_at_the_end_is_not_offered() {
    assert_eq!(nvm(9).blocks(), BLOCKS);
    assert_eq!(nvm(12).blocks(), BLOCKS);
}

#[test]
fn lba_range_has_no_gap_and_no_wrap() {
    let out = Status::LBA_OUT_OF_RANGE.do_not_retry();
    for shift in [9, 12, 13] {
        let nvm = nvm(shift);
        for opcode in [io::READ, io::WRITE] {
            assert_eq!(run(&nvm, command(opcode, 1, BLOCKS - 1, 0)), Status::SUCCESS);
            for (slba, nlb_z) in [
                (BLOCKS, 0),
                (BLOCKS - 1, 1),
                (u64::MAX, 0),
                (u64::MAX, 0xff),
                (u64::MAX - 1, 1),
                (1 << 63, 0),
            ] {
                assert_eq!(run(&nvm, command(opcode, 1, slba, nlb_z)), out, "{slba:#x} {nlb_z}");
            }
        }
    }
}

#[test]
fn transfers_end_at_two_mebibytes() {
    let nvm = nvm(9);
    let too_long = Status::INVALID_FIELD.do_not_retry();
    for nlb_z in [4096, 0xfffe, 0xffff] {
        assert_eq!(run(&nvm, command(io::READ, 1, 0, nlb_z)), too_long, "{nlb_z:#x}");
    }
    // Reserved bits of dword 12 are not part of the length.
    assert_eq!(run(&nvm, command(io::READ, 1, 0, 0x03f0_0000)), Status::SUCCESS);
}

#[test]
fn namespaces_are_checked() {
    let nvm = nvm(9);
    let invalid = Status::INVALID_NAMESPACE.do_not_retry();
    for nsid in [0, 2, 0xffff_fffe, 0xffff_ffff] {
        assert_eq!(run(&nvm, command(io::READ, nsid, 0, 0)), invalid);
        assert_eq!(run(&nvm, command(io::WRITE, nsid, 0, 0)), invalid);
    }
    assert_eq!(run(&nvm, command(io::FLUSH, 0xffff_ffff, 0, 0)), Status::SUCCESS);
    assert_eq!(run(&nvm, command(io::FLUSH, 0, 0, 0)), invalid);
}

#[test]
fn unknown_opcodes_are_refused() {
    let nvm = nvm(9);
    for opcode in (3..=255).filter(|opcode| ![0x05, 0x08, 0x09, 0x0c].contains(opcode)) {
        assert_eq!(
            run(&nvm, command(opcode, 1, 0, 0)),
            Status::INVALID_OPCODE.do_not_retry(),
            "{opcode:#x}"
        );
    }
}

/// What is not offered is refused, as if it were not there.
#[test]
fn sgls_and_dataset_management_can_be_off() {
    let guest = Arc::new(testing::Ram(Region::zeroed(1 << 20).unwrap()));
    let store: Arc<dyn Backend> = Arc::new(Ram::new(BLOCKS << 9).unwrap());
    let offers = Offers { dsm: false, sgl: false };
    let none = Nvm::new(guest, store, offers, 9, 2, 1, Box::new(|| ()));
    let invalid = Status::INVALID_FIELD.do_not_retry();
    for opcode in [io::READ, io::WRITE, io::FLUSH, io::COMPARE, io::VERIFY, io::WRITE_ZEROES] {
        for flags in [0x40, 0x80, 0xc0] {
            let mut entry = command(opcode, 1, 0, 0);
            entry.flags = flags;
            assert_eq!(run(&none, entry), invalid, "{opcode:#x} {flags:#x}");
            if flags != 0x40 {
                assert_eq!(run(&nvm(9), entry), invalid, "{opcode:#x} {flags:#x}");
            }
        }
    }
    let dsm = command(io::DATASET_MANAGEMENT, 1, 0, 0);
    assert_eq!(run(&none, dsm), Status::INVALID_OPCODE.do_not_retry());
    assert_eq!(run(&nvm(9), dsm), Status::SUCCESS);
}

/// One data block in the command, as a driver sends most of them.
#[test]
fn sgls_name_data() {
    let nvm = nvm(9);
    let mut entry = command(io::READ, 1, 0, 0);
    entry.flags = 0x40;
    entry.dptr = [0x1001.into(), 512.into()];
    assert_eq!(run(&nvm, entry), Status::SUCCESS);
    entry.dptr = [0x1001.into(), 511.into()];
    assert_eq!(run(&nvm, entry), Status::SGL_DATA_LENGTH_INVALID.do_not_retry());
    entry.dptr = [0x1001.into(), (4 << 60 | 512).into()];
    assert_eq!(run(&nvm, entry), Status::SGL_TYPE_INVALID.do_not_retry());
}

/// Only what is short on a vCPU's thread may run there.
#[test]
fn only_small_reads_writes_and_flushes_may_run_inline() {
    let nvm = nvm(12);
    let with_flags = |opcode, flags, sgl: u64| {
        let mut entry = command(opcode, 1, 0, 7);
        entry.flags = flags;
        entry.dptr = [0.into(), (sgl << 60).into()];
        nvm.inline_cost(&entry)
    };
    for opcode in [io::READ, io::WRITE] {
        assert_eq!(with_flags(opcode, 0, 3), Some(8 * 4096));
        assert_eq!(with_flags(opcode, 0x40, 0), Some(8 * 4096));
        for sgl in 1..16 {
            assert_eq!(with_flags(opcode, 0x40, sgl), None, "a list of descriptors");
        }
        for flags in [1, 2, 3] {
            assert_eq!(with_flags(opcode, flags, 0), None, "fused");
        }
    }
    assert_eq!(with_flags(io::FLUSH, 0, 0), Some(0));
    for opcode in 3..=255 {
        assert_eq!(with_flags(opcode, 0, 0), None, "{opcode:#x}");
    }
}

/// Protection information, directives, limited retry and reserved bits mean
/// nothing in a namespace without metadata.
#[test]
fn fields_of_metadata_have_no_effect() {
    let nvm = nvm(9);
    for opcode in [io::READ, io::WRITE, io::COMPARE, io::WRITE_ZEROES, io::VERIFY] {
        for bit in (16..32).filter(|bit| *bit != 25) {
            let mut entry = command(opcode, 1, 7, 1 << bit | 1);
            (entry.cdw14, entry.cdw15) = (u32::MAX.into(), u32::MAX.into());
            entry.mptr = u64::MAX.into();
            assert_eq!(run(&nvm, entry), Status::SUCCESS, "{opcode:#x} bit {bit}");
        }
    }
}

#[test]
fn failures_are_reported_and_bounded() {
    let nvm = nvm(9);
    for _ in 0..200 {
        run(&nvm, command(io::READ, 1, BLOCKS, 0));
    }
    let (reports, lost) = nvm.reports.take();
    assert_eq!((reports.len(), lost), (64, 136));
    assert_eq!(reports[0].lba, BLOCKS);
    assert!(nvm.reports.take().0.is_empty());
}
