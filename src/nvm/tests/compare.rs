// SPDX-License-Identifier: BSD-2-Clause

//! Compare and Verify.

use super::store::{Op, SIZE, World};
use super::*;
use crate::backend::Error;

const FUA: u32 = 1 << 30;

/// A Compare of `blocks` blocks from `slba` on with contiguous memory at
/// 1 MiB.
fn compare(world: &World, slba: u64, blocks: u64) -> Command {
    let mut entry = command(io::COMPARE, 1, slba, (blocks - 1) as u32);
    entry.flags = 0x40;
    entry.dptr = [(1u64 << 20).into(), (blocks * 512).into()];
    for block in 0..blocks {
        let value = world.get(slba + block);
        world.put((1 << 20) + block as usize * 512, &[value; 512]);
    }
    entry
}

#[test]
fn what_is_the_same_compares() {
    let world = World::new();
    world.fill(0, 5000);
    for blocks in [1, 2, 255, 256, 257, 4096] {
        let entry = compare(&world, 7, blocks);
        world.log();
        assert_eq!(world.run(entry), Status::SUCCESS);
        let reads = world.log();
        assert_eq!(reads.len() as u64, blocks.div_ceil(256));
        assert!(reads.iter().all(|op| matches!(op, Op::Read(_, 1..=256))));
        assert_eq!(reads[0], Op::Read(7, blocks.min(256)));
    }
    let totals = world.nvm.totals();
    assert_eq!((totals.reads, totals.writes), (6, 0));
    assert_eq!(totals.bytes_read, 512 * (1 + 2 + 255 + 256 + 257 + 4096));
}

/// A difference in any byte, the first and the last and at the buffer's end.
#[test]
fn what_differs_is_a_compare_failure() {
    let world = World::new();
    world.fill(0, 600);
    let entry = compare(&world, 3, 513);
    for at in [0, 1, 511, 512, 4095, 4096, 131_071, 131_072, 262_143, 513 * 512 - 1] {
        let value = world.get(3 + at as u64 / 512);
        world.put((1 << 20) + at, &[!value]);
        assert_eq!(world.run(entry), Status::COMPARE_FAILURE.do_not_retry(), "byte {at}");
        world.put((1 << 20) + at, &[value]);
    }
    assert_eq!(world.run(entry), Status::SUCCESS);
    assert_eq!(Status::COMPARE_FAILURE.0, 0x285);
    // No medium has failed, and the log has them all.
    assert_eq!(world.nvm.totals().media_errors, 0);
    assert_eq!(world.nvm.reports.take().0.len(), 10);
}

#[test]
fn fields_of_compare_and_verify_are_checked() {
    let world = World::new();
    for opcode in [io::COMPARE, io::VERIFY] {
        for nsid in [0, 2, 0xffff_ffff] {
            assert_eq!(
                world.run(command(opcode, nsid, 0, 0)),
                Status::INVALID_NAMESPACE.do_not_retry()
            );
        }
        for (slba, nlb_z) in [(SIZE, 0), (SIZE - 1, 1), (u64::MAX, 0), (u64::MAX, 0xff)] {
            assert_eq!(
                world.run(command(opcode, 1, slba, nlb_z)),
                Status::LBA_OUT_OF_RANGE.do_not_retry()
            );
        }
    }
    // Only what moves data is bounded by MDTS.
    assert_eq!(world.run(command(io::COMPARE, 1, 0, 4096)), Status::INVALID_FIELD.do_not_retry());
    assert_eq!(world.run(command(io::VERIFY, 1, 0, 0xffff)), Status::SUCCESS);
    assert_eq!(world.log().len(), 65536 / 256);
}

#[test]
fn verify_reads_everything_once() {
    let world = World::new();
    assert_eq!(world.run(command(io::VERIFY, 1, 100, 599)), Status::SUCCESS);
    assert_eq!(world.log(), [Op::Read(100, 256), Op::Read(356, 256), Op::Read(612, 88)]);
    let totals = world.nvm.totals();
    assert_eq!((totals.reads, totals.bytes_read), (0, 600 * 512));
    // What cannot be read is no success.
    world.fail(|op| *op == Op::Read(356, 256), Error::Io);
    assert_eq!(world.run(command(io::VERIFY, 1, 100, 599)), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(world.nvm.totals().media_errors, 1);
}

#[test]
fn force_unit_access_flushes_before_anything_is_read() {
    for opcode in [io::READ, io::COMPARE, io::VERIFY] {
        let world = World::new();
        assert_eq!(world.run(command(opcode, 1, 5, FUA)), Status::SUCCESS);
        assert_eq!(world.log(), [Op::Flush, Op::Read(5, 1)], "{opcode:#x}");
        world.fail(|op| *op == Op::Flush, Error::Io);
        assert_eq!(world.run(command(opcode, 1, 5, FUA)), Status::WRITE_FAULT);
        assert_eq!(world.log(), [Op::Flush]);
    }
}

#[test]
fn a_compare_that_cannot_reach_memory_is_no_compare_failure() {
    let world = World::new();
    let mut entry = command(io::COMPARE, 1, 0, 0);
    entry.dptr = [(1u64 << 40).into(), 0.into()];
    assert_eq!(world.run(entry), Status::DATA_TRANSFER_ERROR.do_not_retry());
}
