// SPDX-License-Identifier: BSD-2-Clause

//! Dataset Management, whose ranges are freed at once: by as many workers as
//! there are slots, of which none waits for another.

use bhyve_nvme::backend::Error;
use bhyve_nvme::controller::Settings;
use devhost::bare::{Bare, Gate, GateHandle, Op, settings};
use devhost::bhyve::Machine;
use devhost::driver::registers as reg;
use devhost::driver::{
    Data, Enable, Entry, Function, Memory, Nvme, QueuePair, Status, Wait, admin_opcode, io_opcode,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

struct Setup {
    memory: Arc<Memory>,
    nvme: Nvme,
    gate: GateHandle,
}

impl Setup {
    fn new(slots: u16) -> Setup {
        let (store, gate) = Gate::new(16 * MIB);
        let machine = Machine::with_ram(64 * MIB);
        let memory = Memory::all(&machine);
        let settings = Settings { io_slots: slots, ..settings() };
        let function: Arc<dyn Function> = Bare::new(&machine, settings, Arc::new(store));
        let nvme = Nvme::new(function, &memory);
        nvme.enable(&Enable::default()).unwrap();
        Setup { memory, nvme, gate }
    }

    fn pair(&self, id: u16) -> QueuePair {
        self.nvme.create_pair(id, 16, Some(id), Wait::Poll).unwrap()
    }

    /// Frees `count` ranges of 4 KiB, 4 KiB apart. The list has to be kept.
    fn ranges(&self, count: u32) -> (Data, Entry) {
        let list = Data::new(&self.memory, 4096).unwrap();
        let bytes: Vec<u8> = (0..u64::from(count))
            .flat_map(|n| [&[0; 4][..], &8u32.to_le_bytes(), &(n * 16).to_le_bytes()].concat())
            .collect();
        list.write(&bytes);
        let entry = Entry::new(io_opcode::DATASET_MANAGEMENT).nsid(1).prp(&list.prp().unwrap());
        (list, entry.word(10, count - 1).word(11, 4))
    }

    fn read(&self) -> (Data, Entry) {
        let data = Data::new(&self.memory, 512).unwrap();
        let entry = Entry::read(1, 0, 1, &data.prp().unwrap());
        (data, entry)
    }

    /// Has a command in the store with four of its ten ranges.
    fn four_inside(&self, pair: &QueuePair) -> (Data, u16) {
        self.gate.close();
        let (list, entry) = self.ranges(10);
        let cid = pair.submit(entry).unwrap();
        assert_eq!(self.gate.wait_inside(4), 4);
        (list, cid)
    }

    fn freed(&self) -> usize {
        self.gate.log().iter().filter(|op| matches!(op, Op::Deallocate { .. })).count()
    }
}

#[test]
fn as_many_ranges_are_in_the_store_at_once_as_there_are_slots() {
    let setup = Setup::new(8);
    let pair = setup.pair(1);
    for count in [2, 8, 9, 256] {
        setup.gate.close();
        let before = setup.freed();
        let (_list, entry) = setup.ranges(count);
        let cid = pair.submit(entry).unwrap();
        let inside = count.min(8) as usize;
        assert_eq!(setup.gate.wait_inside(inside), inside, "of {count}");
        assert_eq!(pair.poll(), 0, "complete before its ranges are");
        setup.gate.open();
        assert!(pair.wait(cid).unwrap().status.is_success());
        assert_eq!(setup.freed() - before, count as usize);
    }
    assert_eq!(setup.gate.peak(), 8);
    assert_eq!(pair.strays(), [], "completed twice");
}

/// The one worker takes them all. What waits in the queues has its turn after
/// each range.
#[test]
fn one_slot_frees_all_ranges_and_other_commands_between_them() {
    let setup = Setup::new(1);
    let (pair, other) = (setup.pair(1), setup.pair(2));
    setup.gate.close();
    let (_list, entry) = setup.ranges(256);
    let cid = pair.submit(entry).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    let (_data, read) = setup.read();
    let reading = other.submit(read).unwrap();
    setup.gate.open();
    assert!(other.wait(reading).unwrap().status.is_success());
    assert!(pair.wait(cid).unwrap().status.is_success());
    let log = setup.gate.log();
    let read_at = log.iter().position(|op| matches!(op, Op::Read { .. })).unwrap();
    assert!(read_at <= 2, "{read_at} ranges first");
    assert_eq!((log.len(), setup.gate.peak()), (257, 1));
}

#[test]
fn a_reset_waits_for_the_ranges_in_the_store_and_begins_no_other() {
    let setup = Setup::new(4);
    let pair = setup.pair(1);
    let (list, _) = setup.four_inside(&pair);
    setup.nvme.write32(reg::CC, 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        assert_eq!(setup.nvme.csts() & reg::CSTS_RDY, reg::CSTS_RDY);
        std::thread::yield_now();
    }
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    assert_eq!((setup.freed(), pair.poll()), (4, 0));
    drop(list);
    // The next life has all of its slots, and frees what it is told to.
    setup.nvme.enable(&Enable::default()).unwrap();
    let again = setup.pair(1);
    let (_list, entry) = setup.ranges(256);
    again.execute(entry).unwrap();
    assert_eq!(setup.freed(), 4 + 256);
    assert_eq!(pair.poll(), 0, "posted in the next life");
}

#[test]
fn a_deletion_aborts_the_ranges_that_have_not_begun() {
    let setup = Setup::new(4);
    let pair = setup.pair(1);
    let (_list, cid) = setup.four_inside(&pair);
    let admin = setup.nvme.admin();
    let delete = admin.submit(Entry::new(admin_opcode::DELETE_SQ).word(10, 1)).unwrap();
    setup.nvme.identify(1, 0).unwrap();
    assert!(admin.take(delete).is_none(), "its ranges are in the store");
    setup.gate.open();
    assert!(admin.wait(delete).unwrap().status.is_success());
    assert_eq!(pair.wait(cid).unwrap().status.code(), Status::ABORTED_SQ_DELETED);
    assert_eq!(setup.freed(), 4);
}

#[test]
fn a_command_whose_ranges_have_begun_is_not_aborted() {
    let setup = Setup::new(4);
    let pair = setup.pair(1);
    let (_list, cid) = setup.four_inside(&pair);
    assert!(!setup.nvme.abort(1, cid).unwrap());
    setup.gate.open();
    assert!(pair.wait(cid).unwrap().status.is_success());
    assert_eq!(setup.freed(), 10);
}

/// A failed range fails the command, once.
#[test]
fn one_range_that_fails_fails_the_command() {
    let setup = Setup::new(4);
    let pair = setup.pair(1);
    let (_list, cid) = setup.four_inside(&pair);
    setup.gate.fail(Some(Error::Io));
    setup.gate.pass_one();
    assert_eq!(setup.gate.wait_inside(3), 3);
    setup.gate.fail(None);
    setup.gate.open();
    let completion = pair.wait(cid).unwrap();
    assert_eq!(completion.status.code(), Status::WRITE_FAULT);
    assert!(completion.status.more());
    let log = setup.nvme.get_log(1, 0, 0, 128, false).unwrap();
    assert_eq!(u16::from_le_bytes([log[10], log[11]]), cid);
    assert_eq!(log[64..72], [0; 8], "logged twice");
    // The list of another command is not touched by that.
    let before = setup.freed();
    let (_list, entry) = setup.ranges(10);
    pair.execute(entry).unwrap();
    assert_eq!(setup.freed(), before + 10);
}

/// After a range that failed, the store is asked for no more: with one slot,
/// for none at all.
#[test]
fn a_range_that_fails_spares_the_store_the_rest() {
    let setup = Setup::new(1);
    let pair = setup.pair(1);
    setup.gate.close();
    let (_list, entry) = setup.ranges(10);
    let cid = pair.submit(entry).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    setup.gate.fail(Some(Error::Io));
    setup.gate.pass_one();
    // The gate is closed: another range would not come out.
    assert_eq!(pair.wait(cid).unwrap().status.code(), Status::WRITE_FAULT);
    assert_eq!(setup.freed(), 1);
    setup.gate.fail(None);
    setup.gate.open();
}

#[test]
fn a_flush_comes_after_all_ranges_where_writes_are_durable() {
    let setup = Setup::new(4);
    let pair = setup.pair(1);
    setup.nvme.set_feature(6, 0, 0).unwrap();
    let (_list, entry) = setup.ranges(100);
    pair.execute(entry).unwrap();
    let log = setup.gate.log();
    assert_eq!(setup.freed(), 100);
    assert_eq!(log.last(), Some(&Op::Flush));
    // The other one is of Set Features.
    assert_eq!(log.iter().filter(|op| **op == Op::Flush).count(), 2);
}

/// Format NVM begins to erase when the ranges of before are done.
#[test]
fn a_format_waits_for_all_ranges_of_a_command_that_has_begun() {
    let setup = Setup::new(2);
    let pair = setup.pair(1);
    setup.gate.close();
    let (_list, entry) = setup.ranges(10);
    let cid = pair.submit(entry).unwrap();
    assert_eq!(setup.gate.wait_inside(2), 2);
    let admin = setup.nvme.admin();
    let format = admin.submit(Entry::new(0x80).nsid(1)).unwrap();
    setup.nvme.identify(1, 0).unwrap();
    setup.gate.open();
    assert!(admin.wait(format).unwrap().status.is_success());
    assert!(pair.wait(cid).unwrap().status.is_success());
    let log = setup.gate.log();
    let erased = log.iter().position(|op| matches!(op, Op::Zero { .. })).unwrap();
    assert_eq!((erased, setup.freed()), (10, 10));
}

#[test]
fn a_range_that_panics_fails_the_disk_and_a_reset_drains_it() {
    let setup = Setup::new(4);
    let pair = setup.pair(1);
    let (_list, _) = setup.four_inside(&pair);
    setup.gate.panic(true);
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_CFS, reg::CSTS_CFS).unwrap();
    setup.nvme.write32(reg::CC, 0);
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    assert_eq!(setup.freed(), 4);
}
