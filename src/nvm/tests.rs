// SPDX-License-Identifier: BSD-2-Clause

//! I/O commands with every field at its limits.

use super::*;
use crate::backend::Backend;
use crate::backend::ram::Ram;
use crate::data_pointer::Segments;
use crate::engine::{Executor, Outcome};
use crate::host::testing;
use crate::memory::Region;
use crate::wire::command::{Command, io};
use crate::wire::status::Status;
use std::sync::Arc;

const BLOCKS: u64 = 1000;

fn nvm(shift: u32) -> Nvm {
    let guest = Arc::new(testing::Ram(Region::zeroed(1 << 20).unwrap()));
    let store: Arc<dyn Backend> = Arc::new(Ram::new((BLOCKS << shift) + 100).unwrap());
    Nvm::new(guest, store, shift, 2, Box::new(|| ()))
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
    let Outcome { status, .. } = nvm.execute(1, &command, &mut Segments::default());
    status
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
fn fused_commands_sgls_and_unknown_opcodes_are_refused() {
    let nvm = nvm(9);
    for flags in [0x01, 0x02, 0x03, 0x40, 0x80, 0xc0] {
        let mut read = command(io::READ, 1, 0, 0);
        read.flags = flags;
        assert_eq!(run(&nvm, read), Status::INVALID_FIELD.do_not_retry(), "{flags:#x}");
    }
    for opcode in 3..=255 {
        assert_eq!(
            run(&nvm, command(opcode, 1, 0, 0)),
            Status::INVALID_OPCODE.do_not_retry(),
            "{opcode:#x}"
        );
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
