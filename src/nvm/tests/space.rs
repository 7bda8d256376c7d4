// SPDX-License-Identifier: BSD-2-Clause

//! Write Zeroes and Dataset Management.

use super::store::{Op, SIZE, World};
use super::*;
use crate::backend::Error;

const FUA: u32 = 1 << 30;
const DEAC: u32 = 1 << 25;
const AD: u32 = 1 << 2;

fn zeroes(slba: u64, blocks: u64, flags: u32) -> Command {
    command(io::WRITE_ZEROES, 1, slba, (blocks - 1) as u32 | flags)
}

/// A Dataset Management with `ranges`, LBA and length, whose list begins at
/// `at` and may go on in the page at 2 MiB.
fn dsm_at(world: &World, at: usize, ranges: &[(u64, u32)], attributes: u32) -> Command {
    let list: Vec<u8> = ranges
        .iter()
        .flat_map(|(slba, blocks)| {
            // The attributes of each range are hints.
            [&0xffff_ffff_u32.to_le_bytes()[..], &blocks.to_le_bytes(), &slba.to_le_bytes()]
                .concat()
        })
        .collect();
    let first = list.len().min(4096 - at % 4096);
    world.put(at, &list[..first]);
    world.put(2 << 20, &list[first..]);
    let mut entry = Command::zeroed();
    entry.opcode = io::DATASET_MANAGEMENT;
    entry.nsid = 1.into();
    entry.dptr = [(at as u64).into(), (2u64 << 20).into()];
    // Bits above the number of ranges are reserved.
    entry.cdw10 = (0xffff_ff00 | (ranges.len() - 1) as u32).into();
    entry.cdw11 = attributes.into();
    entry
}

fn dsm(world: &World, ranges: &[(u64, u32)]) -> Command {
    dsm_at(world, 0x3000, ranges, AD)
}

#[test]
fn write_zeroes_really_zeroes() {
    for (slba, blocks) in [(0, 1), (5, 2), (1, 4095), (SIZE - 1, 1), (100, 65536)] {
        let world = World::new();
        let ends = [slba.wrapping_sub(1), slba, slba + blocks - 1, slba + blocks];
        let inside: Vec<u64> = ends.into_iter().filter(|block| *block < SIZE).collect();
        inside.iter().for_each(|block| world.set(*block, 7));
        assert_eq!(world.run(zeroes(slba, blocks, 0)), Status::SUCCESS);
        for block in inside {
            let zero = (slba..slba + blocks).contains(&block);
            assert_eq!(world.get(block) == 0, zero, "{slba} {blocks}: {block}");
        }
        assert_eq!(world.log(), [Op::Zero(slba, blocks, false)]);
    }
}

#[test]
fn write_zeroes_hands_on_deallocation_and_durability() {
    let world = World::new();
    for (flags, expected) in [
        (0, vec![Op::Zero(3, 2, false)]),
        (DEAC, vec![Op::Zero(3, 2, true)]),
        (FUA, vec![Op::Zero(3, 2, false), Op::Flush]),
        (FUA | DEAC, vec![Op::Zero(3, 2, true), Op::Flush]),
    ] {
        assert_eq!(world.run(zeroes(3, 2, flags)), Status::SUCCESS);
        assert_eq!(world.log(), expected, "{flags:#x}");
    }
    world.nvm.set_write_cache(false);
    assert_eq!(world.run(zeroes(3, 2, 0)), Status::SUCCESS);
    assert_eq!(world.log(), [Op::Zero(3, 2, false), Op::Flush]);
    world.fail(|op| *op == Op::Flush, Error::Io);
    assert_eq!(world.run(zeroes(3, 2, 0)), Status::WRITE_FAULT);
    // No data of the guest's was read or written.
    assert_eq!((world.nvm.totals().writes, world.nvm.totals().bytes_written), (0, 0));

    // Without Dataset Management, nothing of the guest's frees blocks.
    let world = World::offering(Offers { dsm: false, sgl: true });
    assert_eq!(world.run(zeroes(3, 2, DEAC)), Status::SUCCESS);
    assert_eq!(world.log(), [Op::Zero(3, 2, false)]);
}

#[test]
fn fields_and_errors_of_write_zeroes() {
    let world = World::new();
    for nsid in [0, 2, 0xffff_ffff] {
        let status = world.run(command(io::WRITE_ZEROES, nsid, 0, 0));
        assert_eq!(status, Status::INVALID_NAMESPACE.do_not_retry());
    }
    for (slba, blocks) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX, 65536)] {
        let status = world.run(zeroes(slba, blocks, DEAC));
        assert_eq!(status, Status::LBA_OUT_OF_RANGE.do_not_retry());
    }
    assert_eq!(world.log(), []);
    for (error, status) in [
        (Error::Io, Status::WRITE_FAULT),
        (Error::NoSpace, Status::CAPACITY_EXCEEDED),
        (Error::ReadOnly, Status::WRITE_PROTECTED.do_not_retry()),
    ] {
        world.fail(|op| matches!(op, Op::Zero(..) | Op::Deallocate(..)), error);
        assert_eq!(world.run(zeroes(0, 1, 0)), status);
        assert_eq!(world.run(dsm(&world, &[(0, 8)])), status);
    }
}

#[test]
fn ranges_are_freed_each_once() {
    let world = World::new();
    for (ranges, expected) in [
        (vec![(5, 9)], vec![Op::Deallocate(5, 9)]),
        (vec![(0, SIZE as u32)], vec![Op::Deallocate(0, SIZE)]),
        (vec![(SIZE - 1, 1)], vec![Op::Deallocate(SIZE - 1, 1)]),
        // Of no length: first, last, alone, and where there is nothing.
        (vec![(0, 0)], vec![]),
        (vec![(u64::MAX, 0), (8, 8)], vec![Op::Deallocate(8, 8)]),
        (vec![(8, 8), (SIZE, 0)], vec![Op::Deallocate(8, 8)]),
        // Overlapping, meeting, out of order.
        (vec![(16, 8), (0, 8), (4, 8)], vec![Op::Deallocate(0, 12), Op::Deallocate(16, 8)]),
        (vec![(8, 8), (16, 8), (0, 8)], vec![Op::Deallocate(0, 24)]),
        (vec![(0, SIZE as u32); 256], vec![Op::Deallocate(0, SIZE)]),
    ] {
        assert_eq!(world.run(dsm(&world, &ranges)), Status::SUCCESS, "{ranges:?}");
        assert_eq!(world.log(), expected, "{ranges:?}");
    }
}

/// Every number of ranges, with the list in one page and across two.
#[test]
fn every_number_of_ranges_from_any_place_of_a_page() {
    let world = World::new();
    for count in (1..=256).step_by(5).chain([2, 255, 256]) {
        let ranges: Vec<(u64, u32)> = (0..count).rev().map(|n| (n * 16, 8)).collect();
        let expected: Vec<Op> = (0..count).map(|n| Op::Deallocate(n * 16, 8)).collect();
        for at in [0x3000, 0x3004, 0x3ff0, 0x3ffc] {
            assert_eq!(world.run(dsm_at(&world, at, &ranges, AD)), Status::SUCCESS);
            assert_eq!(world.log(), expected, "{count} {at:#x}");
        }
    }
}

#[test]
fn nothing_is_done_if_one_range_is_outside() {
    let world = World::new();
    world.fill(0, 8);
    for bad in
        [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX, u32::MAX), (1 << 63, 8), (0, u32::MAX)]
    {
        for ranges in [vec![bad], vec![(0, 8), bad], vec![bad, (0, 8)]] {
            let status = world.run(dsm(&world, &ranges));
            assert_eq!(status, Status::LBA_OUT_OF_RANGE.do_not_retry(), "{ranges:?}");
        }
    }
    assert_eq!(world.log(), []);
    assert_eq!((0..8).map(|block| world.get(block)).collect::<Vec<u8>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn without_deallocate_it_is_a_hint_that_nothing_is_made_of() {
    let world = World::new();
    for attributes in [0, 1, 2, 3, 0xffff_fff8] {
        let entry = dsm_at(&world, 0x3000, &[(0, 8)], attributes);
        assert_eq!(world.run(entry), Status::SUCCESS);
    }
    assert_eq!(world.log(), []);
    assert_eq!(world.run(dsm_at(&world, 0x3000, &[(0, 8)], u32::MAX)), Status::SUCCESS);
    assert_eq!(world.log(), [Op::Deallocate(0, 8)]);
    let entry = dsm_at(&world, 0x3000, &[(SIZE, 1)], 0);
    assert_eq!(world.run(entry), Status::LBA_OUT_OF_RANGE.do_not_retry());
}

#[test]
fn namespace_memory_and_write_cache_of_dataset_management() {
    let world = World::new();
    for nsid in [0, 2, 0xffff_ffff] {
        let mut entry = dsm(&world, &[(0, 8)]);
        entry.nsid = nsid.into();
        assert_eq!(world.run(entry), Status::INVALID_NAMESPACE.do_not_retry());
    }
    let mut entry = dsm(&world, &[(0, 8)]);
    entry.dptr = [(1u64 << 40).into(), 0.into()];
    assert_eq!(world.run(entry), Status::DATA_TRANSFER_ERROR.do_not_retry());
    assert_eq!(world.log(), []);
    // As Linux sends it: an SGL of a whole page for a few ranges.
    let mut entry = dsm(&world, &[(0, 8), (16, 8)]);
    entry.flags = 0x40;
    entry.dptr = [0x3000.into(), 4096.into()];
    world.nvm.set_write_cache(false);
    assert_eq!(world.run(entry), Status::SUCCESS);
    assert_eq!(world.log(), [Op::Deallocate(0, 8), Op::Deallocate(16, 8), Op::Flush]);
}
