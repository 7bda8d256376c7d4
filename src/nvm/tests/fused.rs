// SPDX-License-Identifier: BSD-2-Clause

//! Compare and Write as one operation.

use super::store::{Op, SIZE, World};
use super::*;
use crate::backend::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// A half with one block of data at `at`.
fn half(opcode: u8, fuse: u8, slba: u64, at: u64) -> Command {
    let mut entry = command(opcode, 1, slba, 0);
    entry.flags = fuse;
    entry.dptr = [at.into(), 0.into()];
    entry
}

/// Both halves, with the expected value at 4096 and the new one at 8192.
fn halves(slba: u64) -> [Command; 2] {
    [half(io::COMPARE, FIRST, slba, 4096), half(io::WRITE, SECOND, slba, 8192)]
}

fn run_both(world: &World, [first, second]: [Command; 2]) -> [Status; 2] {
    world
        .nvm
        .execute_fused(1, [&first, &second], &mut Scratch::default())
        .map(|outcome| outcome.status)
}

#[test]
fn it_writes_if_and_only_if_the_data_are_the_expected() {
    let world = World::new();
    world.set(9, 1);
    world.put(4096, &[1; 512]);
    world.put(8192, &[2; 512]);
    assert_eq!(run_both(&world, halves(9)), [Status::SUCCESS; 2]);
    assert_eq!(world.get(9), 2);
    assert_eq!(world.log(), [Op::Read(9, 1), Op::Write(9, 1, false)]);
    // The old value is not there any more.
    let failed =
        [Status::COMPARE_FAILURE.do_not_retry(), Status::ABORTED_FAILED_FUSED.do_not_retry()];
    assert_eq!(run_both(&world, halves(9)), failed);
    assert_eq!(world.log(), [Op::Read(9, 1)]);
    assert_eq!(world.get(9), 2);
    let totals = world.nvm.totals();
    assert_eq!((totals.reads, totals.writes), (1, 1));
    assert_eq!(world.nvm.reports.take().0.len(), 2);
}

#[test]
fn halves_that_are_no_compare_and_write_of_the_same_blocks() {
    let world = World::new();
    let invalid = [Status::INVALID_FIELD.do_not_retry(); 2];
    for (first, second) in [
        (io::READ, io::WRITE),
        (io::WRITE, io::COMPARE),
        (io::COMPARE, io::COMPARE),
        (io::COMPARE, io::WRITE_ZEROES),
        (io::FLUSH, io::WRITE),
        (0xff, 0xff),
    ] {
        let pair = [half(first, FIRST, 9, 4096), half(second, SECOND, 9, 8192)];
        assert_eq!(run_both(&world, pair), invalid, "{first:#x} {second:#x}");
    }
    let other = |change: fn(&mut Command)| {
        let mut pair = halves(9);
        change(&mut pair[1]);
        pair
    };
    for pair in [
        other(|write| write.cdw10 = 10.into()),
        other(|write| write.cdw11 = 1.into()),
        other(|write| write.cdw12 = 1.into()),
        other(|write| write.nsid = 2.into()),
    ] {
        assert_eq!(run_both(&world, pair), invalid);
    }
    assert_eq!(world.log(), []);
}

#[test]
fn a_compare_that_cannot_be_done_takes_the_write_along() {
    let world = World::new();
    let second = Status::ABORTED_FAILED_FUSED.do_not_retry();
    for (slba, first) in [
        (SIZE, Status::LBA_OUT_OF_RANGE.do_not_retry()),
        (u64::MAX, Status::LBA_OUT_OF_RANGE.do_not_retry()),
    ] {
        assert_eq!(run_both(&world, halves(slba)), [first, second]);
    }
    let mut pair = halves(9);
    pair[0].flags = FIRST | 0x80;
    assert_eq!(run_both(&world, pair), [Status::INVALID_FIELD.do_not_retry(), second]);
    let mut pair = halves(9);
    pair[0].dptr = [(1u64 << 40).into(), 0.into()];
    assert_eq!(run_both(&world, pair), [Status::DATA_TRANSFER_ERROR.do_not_retry(), second]);
    assert_eq!(world.log(), []);
    world.fail(|op| matches!(op, Op::Read(..)), Error::Io);
    assert_eq!(run_both(&world, halves(9)), [Status::UNRECOVERED_READ_ERROR, second]);
    assert_eq!(world.log(), [Op::Read(9, 1)]);
}

/// The Compare has been done, and stays so.
#[test]
fn a_write_that_cannot_be_done_leaves_the_compare_alone() {
    let world = World::new();
    world.fail(|op| matches!(op, Op::Write(..)), Error::NoSpace);
    assert_eq!(run_both(&world, halves(9)), [Status::SUCCESS, Status::CAPACITY_EXCEEDED]);
    let mut pair = halves(9);
    pair[1].flags = SECOND | 0xc0;
    let status = run_both(&world, pair);
    assert_eq!(status, [Status::SUCCESS, Status::INVALID_FIELD.do_not_retry()]);
}

#[test]
fn a_half_alone_misses_the_other() {
    let world = World::new();
    let missing = Status::ABORTED_MISSING_FUSED.do_not_retry();
    for opcode in [io::COMPARE, io::WRITE, io::READ, io::FLUSH, 0xff] {
        for fuse in [FIRST, SECOND] {
            assert_eq!(world.run(half(opcode, fuse, 9, 4096)), missing, "{opcode:#x} {fuse}");
        }
        let reserved = half(opcode, 3, 9, 4096);
        assert_eq!(world.run(reserved), Status::INVALID_FIELD.do_not_retry());
    }
    assert_eq!(world.log(), []);
}

#[test]
fn force_unit_access_of_each_half_counts() {
    let world = World::new();
    let mut pair = halves(9);
    pair[0].cdw12 = (1 << 30).into();
    pair[1].cdw12 = (1 << 30).into();
    assert_eq!(run_both(&world, pair), [Status::SUCCESS; 2]);
    assert_eq!(world.log(), [Op::Flush, Op::Read(9, 1), Op::Write(9, 1, true)]);
}

/// A lock in a block, taken by Compare and Write, from several threads, while
/// others write the block next to it: one holder at a time.
#[test]
fn a_lock_made_of_it_has_one_holder() {
    const ROUNDS: u64 = 300;
    let world = World::new();
    // At 4096 * n: what thread n writes as its own; at 0: free.
    for n in 1..=3u8 {
        world.put(4096 * usize::from(n), &[n; 512]);
    }
    let (held, taken, stop) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
    let (world, held, taken, stop) = (&world, &held, &taken, &stop);
    std::thread::scope(|scope| {
        for n in 1..=3 {
            scope.spawn(move || {
                let lock = [half(io::COMPARE, FIRST, 9, 0), half(io::WRITE, SECOND, 9, 4096 * n)];
                while taken.load(Ordering::SeqCst) < ROUNDS {
                    if run_both(world, lock) != [Status::SUCCESS; 2] {
                        std::thread::yield_now();
                        continue;
                    }
                    assert!(!held.swap(true, Ordering::SeqCst), "two holders");
                    assert_eq!(u64::from(world.get(9)), n);
                    taken.fetch_add(1, Ordering::SeqCst);
                    held.store(false, Ordering::SeqCst);
                    assert_eq!(world.run(half(io::WRITE, 0, 9, 0)), Status::SUCCESS);
                }
                stop.store(true, Ordering::SeqCst);
            });
        }
        scope.spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(world.run(half(io::WRITE, 0, 10, 4096)), Status::SUCCESS);
            }
        });
    });
    assert!(taken.load(Ordering::SeqCst) >= ROUNDS);
}
