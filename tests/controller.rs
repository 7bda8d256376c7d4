// SPDX-License-Identifier: BSD-2-Clause

//! The controller's machine, over stores and hosts that do what each test
//! needs.

use bhyve_nvme::backend::Error as StoreError;
use bhyve_nvme::controller::Settings;
use devhost::bare::{Bare, Gate, GateHandle, Op, settings};
use devhost::bhyve::Machine;
use devhost::driver::registers as reg;
use devhost::driver::{
    Buffer, Data, Enable, Entry, Error, Function, Memory, Nvme, Prp, QueuePair, Status, Wait,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

struct Setup {
    bare: Arc<Bare>,
    memory: Arc<Memory>,
    nvme: Nvme,
    gate: GateHandle,
}

fn setup_with(settings: Settings, store: impl FnOnce(Gate) -> Gate) -> Setup {
    let machine = Machine::with_ram(64 * MIB);
    let memory = Memory::all(&machine);
    let (gate, handle) = Gate::new(16 * MIB);
    let bare = Bare::new(&machine, settings, Arc::new(store(gate)));
    let function: Arc<dyn Function> = bare.clone();
    let nvme = Nvme::new(function, &memory);
    nvme.enable(&Enable::default()).unwrap();
    Setup { bare, memory, nvme, gate: handle }
}

fn setup() -> Setup {
    setup_with(settings(), |gate| gate)
}

impl Setup {
    fn pair(&self, id: u16, entries: u32) -> QueuePair {
        self.nvme.create_pair(id, entries, Some(id), Wait::Poll).unwrap()
    }

    fn data(&self, len: usize) -> Data {
        Data::new(&self.memory, len).unwrap()
    }
}

fn write(data: &Data, lba: u64) -> Entry {
    Entry::write(1, lba, (data.len() / 512) as u32, &data.prp().unwrap())
}

fn read(data: &Data, lba: u64) -> Entry {
    Entry::read(1, lba, (data.len() / 512) as u32, &data.prp().unwrap())
}

#[test]
fn what_is_written_is_read_back_at_every_size() {
    for inline in [false, true] {
        let setup = setup_with(settings(), |gate| if inline { gate.never_waiting() } else { gate });
        let pair = setup.pair(1, 64);
        for (number, blocks) in
            [1usize, 2, 7, 8, 9, 16, 255, 256, 1024, 4096].into_iter().enumerate()
        {
            let out = setup.data(blocks * 512);
            let pattern: Vec<u8> =
                (0..out.len()).map(|i| (i / 512 * 7 + i + number) as u8).collect();
            out.write(&pattern);
            let lba = number as u64 * 3;
            pair.execute(write(&out, lba)).unwrap();
            let back = Data::scattered(&setup.memory, out.len(), 512).unwrap();
            back.fill(0xee);
            pair.execute(read(&back, lba)).unwrap();
            assert!(back.to_vec() == pattern, "{blocks} blocks, inline {inline}");
            assert_eq!(back.spilt(0xee), 0);
        }
    }
}

#[test]
fn the_store_sees_as_many_commands_at_once_as_there_are_slots_and_no_more() {
    for slots in [1, 3, 8] {
        let setup = setup_with(Settings { io_slots: slots, ..settings() }, |gate| gate);
        let pairs = [setup.pair(1, 64), setup.pair(2, 64)];
        setup.gate.close();
        let data = setup.data(512);
        let mut waiting = Vec::new();
        for pair in &pairs {
            for _ in 0..16 {
                waiting.push((pair, pair.submit(read(&data, 0)).unwrap()));
            }
        }
        assert_eq!(setup.gate.wait_inside(usize::from(slots)), usize::from(slots));
        setup.gate.open();
        for (pair, cid) in waiting {
            assert!(pair.wait(cid).unwrap().status.is_success());
        }
        assert_eq!(setup.gate.peak(), usize::from(slots));
        assert_eq!(setup.bare.statistics().peak_in_backend, u32::from(slots));
    }
}

/// With one slot, a vCPU that finds it taken leaves its command to the worker
/// and does not wait.
#[test]
fn a_vcpu_never_waits_for_a_slot() {
    let setup = setup_with(Settings { io_slots: 1, inline: true, ..settings() }, |gate| gate);
    let (first, second) = (setup.pair(1, 16), setup.pair(2, 16));
    setup.gate.close();
    let data = setup.data(512);
    let entry = read(&data, 0);
    std::thread::scope(|scope| {
        // This vCPU runs its command itself, and is held inside the store.
        let blocked = scope.spawn(|| first.run(entry).unwrap());
        assert_eq!(setup.gate.wait_inside(1), 1);
        let begun = Instant::now();
        let cid = second.submit(entry).unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "the doorbell waited {took:?}");
        assert!(second.take(cid).is_none());
        setup.gate.open();
        assert!(second.wait(cid).unwrap().status.is_success());
        assert!(blocked.join().unwrap().status.is_success());
    });
    assert_eq!(setup.bare.statistics().peak_in_backend, 1);
}

#[test]
fn reset_waits_for_what_is_in_the_store_and_nothing_is_posted_after() {
    let setup = setup();
    let pair = setup.pair(1, 64);
    setup.gate.close();
    let data = setup.data(4096);
    data.fill(0x11);
    let entry = read(&data, 0);
    for _ in 0..4 {
        pair.submit(entry).unwrap();
    }
    assert!(setup.gate.wait_inside(4) == 4);
    setup.nvme.write32(reg::CC, 0);
    // Held in the store: not ready to give the guest its memory back.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        assert_eq!(setup.nvme.csts() & reg::CSTS_RDY, reg::CSTS_RDY);
        std::thread::yield_now();
    }
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    let log = setup.gate.log().len();
    data.fill(0x22);
    assert_eq!(pair.poll(), 0, "posted after EN fell");
    // A whole new life over the same memory, which was not cleared.
    setup.nvme.enable(&Enable::default()).unwrap();
    let again = setup.pair(1, 64);
    assert_eq!(data.to_vec(), vec![0x22; 4096], "written after RDY fell");
    assert_eq!(setup.gate.log().len(), log);
    again.execute(entry).unwrap();
}

#[test]
fn an_io_that_never_returns_leaves_ready_set_and_registers_alive() {
    let setup = setup();
    let pair = setup.pair(1, 64);
    setup.gate.close();
    let data = setup.data(512);
    pair.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    setup.nvme.write32(reg::CC, 0);
    for toggles in 0..100 {
        setup.nvme.write32(reg::CC, 0x0046_0001);
        setup.nvme.write32(reg::CC, 0);
        assert_eq!(setup.nvme.csts() & reg::CSTS_RDY, reg::CSTS_RDY, "after {toggles}");
    }
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
}

/// EN 1, 0, 1 faster than the controller thread looks: the fall sticks.
#[test]
fn a_storm_of_enables_ends_in_a_working_controller() {
    let setup = setup();
    for _ in 0..200 {
        setup.nvme.write32(reg::CC, 0);
        setup.nvme.write32(reg::CC, 0x0046_0001);
    }
    setup.nvme.disable().unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    let data = setup.data(512);
    setup.pair(1, 16).execute(read(&data, 0)).unwrap();
}

#[test]
fn shutdown_is_complete_only_after_the_flush() {
    for abrupt in [false, true] {
        let setup = setup();
        let pair = setup.pair(1, 16);
        let data = setup.data(512);
        pair.execute(write(&data, 0)).unwrap();
        setup.gate.close();
        let how = if abrupt { reg::CC_SHN_ABRUPT } else { reg::CC_SHN_NORMAL };
        setup.nvme.write32(reg::CC, 0x0046_0001 | how);
        assert_eq!(setup.gate.wait_inside(1), 1);
        assert_eq!(setup.gate.log().last(), Some(&Op::Flush));
        assert_eq!(setup.nvme.csts() & reg::CSTS_SHST, 1 << 2, "processing");
        setup.gate.open();
        setup.nvme.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE).unwrap();
        setup.nvme.disable().unwrap();
        assert_eq!(setup.nvme.csts(), 0);
        setup.nvme.enable(&Enable::default()).unwrap();
        setup.pair(1, 16).execute(read(&data, 0)).unwrap();
    }
}

/// Writes that are in the store when the shutdown begins are flushed by it.
#[test]
fn shutdown_flushes_after_the_writes_in_flight() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    setup.gate.close();
    pair.submit(write(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    setup.nvme.write32(reg::CC, 0x0046_0001 | reg::CC_SHN_NORMAL);
    std::thread::park_timeout(Duration::from_millis(20));
    assert!(!setup.gate.log().contains(&Op::Flush), "flushed before the write was done");
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE).unwrap();
    assert_eq!(setup.gate.log().last(), Some(&Op::Flush));
}

#[test]
fn delete_sq_completes_when_its_commands_have() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    setup.gate.close();
    let cid = pair.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    let admin = setup.nvme.admin();
    let delete = admin.submit(Entry::new(0x00).word(10, 1)).unwrap();
    // The admin queue goes on meanwhile, but the queue is still there.
    setup.nvme.identify(1, 0).unwrap();
    assert!(admin.take(delete).is_none());
    let again = admin.run(Entry::new(0x00).word(10, 1)).unwrap();
    assert_eq!(again.status.code(), Status::INVALID_QUEUE_ID);
    let cq = admin.run(Entry::new(0x04).word(10, 1)).unwrap();
    assert_eq!(cq.status.code(), Status::INVALID_QUEUE_DELETION);
    setup.gate.open();
    assert!(admin.wait(delete).unwrap().status.is_success());
    assert!(pair.wait(cid).unwrap().status.is_success());
    setup.nvme.delete_cq(1).unwrap();
    setup.pair(1, 16).execute(read(&data, 0)).unwrap();
}

#[test]
fn store_errors_reach_the_guest_as_what_they_are() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    let cases = [
        (StoreError::Io, Status::UNRECOVERED_READ, Status::WRITE_FAULT),
        (StoreError::OutOfRange, Status::LBA_OUT_OF_RANGE, Status::LBA_OUT_OF_RANGE),
        (StoreError::NoSpace, Status::UNRECOVERED_READ, Status::CAPACITY_EXCEEDED),
        (StoreError::ReadOnly, Status::UNRECOVERED_READ, 0x20),
        (StoreError::Memory, 0x04, 0x04),
        (StoreError::Invalid, 0x06, 0x06),
    ];
    for (error, on_read, on_write) in cases {
        setup.gate.fail(Some(error));
        assert_eq!(pair.run(read(&data, 1)).unwrap().status.code(), on_read, "{error:?}");
        assert_eq!(pair.run(write(&data, 1)).unwrap().status.code(), on_write, "{error:?}");
        assert_eq!(pair.run(Entry::flush(1)).unwrap().status.code(), on_write, "{error:?}");
    }
    setup.gate.fail(None);
    pair.execute(write(&data, 1)).unwrap();
    // All of them are in the log: the newest first.
    let log = setup.nvme.get_log(1, 0, 0, 64 * 64, false).unwrap();
    let count = u64::from_le_bytes(log[..8].try_into().unwrap());
    assert_eq!(count, 18);
    assert_eq!(u16::from_le_bytes([log[8], log[9]]), 1, "queue");
    assert_eq!(u16::from_le_bytes([log[12], log[13]]) >> 1, 0x06, "status");
}

#[test]
fn flush_and_force_unit_access_reach_the_store() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    let last = || *setup.gate.log().last().unwrap();
    pair.execute(write(&data, 2)).unwrap();
    assert_eq!(last(), Op::Write { offset: 1024, len: 512, durable: false });
    pair.execute(write(&data, 2).fua()).unwrap();
    assert_eq!(last(), Op::Write { offset: 1024, len: 512, durable: true });
    pair.execute(Entry::flush(1)).unwrap();
    assert_eq!(last(), Op::Flush);
    pair.execute(Entry::flush(0xffff_ffff)).unwrap();
    assert_eq!(setup.gate.log().iter().filter(|op| **op == Op::Flush).count(), 2);
    assert_eq!(pair.run(Entry::flush(2)).unwrap().status.code(), Status::INVALID_NAMESPACE);
    pair.execute(read(&data, 2).fua()).unwrap();
    let log = setup.gate.log();
    assert_eq!(log[log.len() - 2..], [Op::Flush, Op::Read { offset: 1024, len: 512 }]);
}

/// With the volatile write cache off, every write is durable when it completes.
#[test]
fn the_write_cache_can_be_switched_off() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    assert_eq!(setup.nvme.get_feature(6, 0, 0).unwrap(), 1);
    setup.nvme.set_feature(6, 0, 0).unwrap();
    pair.execute(write(&data, 0)).unwrap();
    assert!(setup.gate.log().contains(&Op::Write { offset: 0, len: 512, durable: true }));
    setup.nvme.disable().unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    assert_eq!(setup.nvme.get_feature(6, 0, 0).unwrap(), 1, "default again after a reset");
    setup.pair(1, 16).execute(write(&data, 0)).unwrap();
    assert_eq!(setup.gate.log().last(), Some(&Op::Write { offset: 0, len: 512, durable: false }));
}

#[test]
fn a_read_only_store_is_told_to_the_guest() {
    let setup = setup_with(settings(), Gate::read_only);
    assert_eq!(setup.nvme.identify(0, 1).unwrap()[99] & 1, 1);
    let data = setup.data(512);
    let pair = setup.pair(1, 16);
    let completion = pair.run(write(&data, 0)).unwrap();
    assert_eq!(completion.status.code(), 0x20);
    assert!(completion.status.dnr());
    pair.execute(read(&data, 0)).unwrap();
}

/// A full completion queue parks its submission queues, and the doorbell of
/// the completion queue wakes all of them: two on one queue, four entries.
#[test]
fn a_full_completion_queue_loses_nothing_and_wakes_everybody() {
    for inline in [false, true] {
        let setup = setup_with(settings(), |gate| if inline { gate.never_waiting() } else { gate });
        let mut cq = setup.nvme.create_cq(1, 4, Some(1)).unwrap();
        let mut sqs =
            [setup.nvme.create_sq(1, 1, 64).unwrap(), setup.nvme.create_sq(2, 1, 64).unwrap()];
        let data = setup.data(512);
        for (queue, sq) in sqs.iter_mut().enumerate() {
            for number in 0..50 {
                sq.push(&read(&data, 0).cid((queue * 100 + number) as u16));
            }
            sq.ring();
        }
        let mut seen = std::collections::BTreeSet::new();
        let end = Instant::now() + devhost::PATIENCE;
        while seen.len() < 100 && Instant::now() < end {
            // Never more than the queue holds: three of four entries.
            let mut taken = 0;
            while let Some(completion) = cq.pop() {
                assert!(completion.status.is_success());
                assert!(seen.insert(completion.cid), "completed twice: {}", completion.cid);
                taken += 1;
                assert!(taken <= 3);
            }
            if taken > 0 {
                cq.ring();
            } else {
                std::thread::yield_now();
            }
        }
        assert_eq!(seen.len(), 100, "inline {inline}");
    }
}

#[test]
fn queues_of_every_small_size_work_when_nearly_full() {
    let setup = setup();
    let data = setup.data(512);
    for entries in [2, 3, 4, 5, 8] {
        let pair = setup.pair(1, entries);
        let depth = entries as usize - 1;
        pair.stream(
            depth,
            200,
            |number| read(&data, number as u64),
            |_, completion| {
                assert!(completion.status.is_success());
            },
        )
        .unwrap();
        setup.nvme.delete_pair(&Arc::new(pair)).unwrap();
    }
}

/// Panics in each kind of thread, with commands in flight: the disk fails, the
/// other one in the process goes on.
#[test]
fn a_panic_fails_one_disk_only() {
    let other = setup();
    let other_pair = other.pair(1, 16);
    let data = other.data(512);

    // A worker.
    let setup = setup_with(settings(), |gate| gate);
    let pair = setup.pair(1, 16);
    let own = setup.data(512);
    setup.gate.close();
    pair.submit_all(&[read(&own, 0), read(&own, 1)]).unwrap();
    assert_eq!(setup.gate.wait_inside(2), 2);
    setup.gate.panic(true);
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_CFS, reg::CSTS_CFS).unwrap();
    assert!(setup.bare.controller().has_failed());
    setup.gate.panic(false);
    assert_eq!(setup.nvme.read64(reg::CAP) & 0xffff, 1023, "registers still read");
    other_pair.execute(read(&data, 0)).unwrap();
    // The guest's reset drains, and CFS stays.
    setup.nvme.write32(reg::CC, 0);
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    assert_eq!(setup.nvme.csts() & reg::CSTS_CFS, reg::CSTS_CFS);

    // A vCPU: in the store, and in the host's table.
    let setup = setup_with(settings(), Gate::never_waiting);
    let pair = setup.pair(1, 16);
    setup.gate.panic(true);
    let own = setup.data(512);
    pair.submit(read(&own, 0)).unwrap();
    assert_eq!(setup.nvme.csts() & reg::CSTS_CFS, reg::CSTS_CFS);
    other_pair.execute(read(&data, 0)).unwrap();
    let setup = setup_with(settings(), |gate| gate);
    setup.bare.bar_write(4, 0, 4, 0);
    assert_eq!(setup.nvme.csts() & reg::CSTS_CFS, reg::CSTS_CFS);

    // The controller thread: it dies, CFS is set, RDY stays as it was.
    let machine = Machine::with_ram(16 * MIB);
    let memory = Memory::all(&machine);
    let poisoned: Buffer = memory.alloc(4096).unwrap();
    let (gate, handle) = Gate::new(MIB);
    let bare = Bare::with_poison(&machine, settings(), Arc::new(gate), Some(poisoned.address()));
    let function: Arc<dyn Function> = bare.clone();
    let nvme = Nvme::with_limit(function, &memory, devhost::PATIENCE);
    nvme.enable(&Enable::default()).unwrap();
    let pair = nvme.create_pair(1, 16, Some(1), Wait::Poll).unwrap();
    let own = Data::new(&memory, 512).unwrap();
    handle.close();
    let cid = pair.submit(read(&own, 0)).unwrap();
    assert_eq!(handle.wait_inside(1), 1);
    nvme.admin()
        .submit(Entry::new(0x06).word(10, 1).prp(&Prp::raw(poisoned.address(), 0)))
        .unwrap();
    nvme.wait_csts(reg::CSTS_CFS | reg::CSTS_RDY, reg::CSTS_CFS | reg::CSTS_RDY).unwrap();
    handle.open();
    // What was in the store still completes.
    assert!(pair.wait(cid).unwrap().status.is_success());
    other_pair.execute(read(&data, 0)).unwrap();
}

/// Legal doorbells on a busy, nearly full ring are never refused.
#[test]
fn many_vcpus_on_one_queue_lose_nothing() {
    let setup = setup();
    let pair = Arc::new(setup.pair(1, 8));
    let data = setup.data(512);
    std::thread::scope(|scope| {
        for vcpu in 0..4 {
            let (pair, entry) = (pair.clone(), read(&data, vcpu));
            scope.spawn(move || {
                for _ in 0..500 {
                    assert!(pair.run(entry).unwrap().status.is_success());
                }
            });
        }
    });
    assert_eq!(setup.bare.statistics().commands, 2000);
    let log = setup.nvme.get_log(1, 0, 0, 64, false).unwrap();
    assert_eq!(log[..8], [0; 8], "a doorbell was refused");
}

#[test]
fn bad_doorbells_raise_an_event_and_harm_no_other_queue() {
    let setup = setup();
    let pair = setup.pair(1, 8);
    let data = setup.data(512);
    let admin = setup.nvme.admin();
    let event = setup.nvme.request_event().unwrap();
    let sq = setup.nvme.sq_doorbell(1);
    setup.nvme.write32(sq, 8);
    let completion = admin.wait(event).unwrap();
    assert_eq!(completion.dw0, 0x0001_0100, "invalid doorbell value, log page 1");
    // Masked until the log is read.
    let event = setup.nvme.request_event().unwrap();
    setup.nvme.write32(setup.nvme.cq_doorbell(3), 0);
    setup.nvme.identify(1, 0).unwrap();
    assert!(admin.take(event).is_none());
    setup.nvme.get_log(1, 0, 0, 64, false).unwrap();
    let completion = admin.wait(event).unwrap();
    assert_eq!(completion.dw0, 0x0001_0000, "invalid doorbell register, log page 1");
    for value in [9, 0xffff, 0x10000, 0x1_0001, 0xffff_ffff] {
        setup.nvme.write32(sq, value);
    }
    pair.execute(read(&data, 0)).unwrap();
    // Odd widths and places are dropped.
    for (at, size) in [(sq, 1), (sq, 2), (sq + 2, 4), (sq + 1, 4)] {
        setup.bare.bar_write(0, at, size, 3);
    }
    pair.execute(read(&data, 0)).unwrap();
}

/// A head beyond what was posted would free entries that are still to come.
#[test]
fn a_completion_doorbell_cannot_run_ahead() {
    let setup = setup();
    let pair = setup.pair(1, 8);
    let data = setup.data(512);
    pair.execute(read(&data, 0)).unwrap();
    for value in [2, 7, 8, 0xffff_ffff] {
        setup.nvme.write32(setup.nvme.cq_doorbell(1), value);
    }
    pair.stream(
        7,
        100,
        |_| read(&data, 0),
        |_, completion| {
            assert!(completion.status.is_success());
        },
    )
    .unwrap();
}

#[test]
fn settings_that_cannot_be_refuse_to_enable_with_cfs() {
    let machine = Machine::with_ram(16 * MIB);
    let memory = Memory::all(&machine);
    let (gate, _) = Gate::new(MIB);
    let bare = Bare::new(&machine, settings(), Arc::new(gate));
    let function: Arc<dyn Function> = bare.clone();
    let nvme = Nvme::new(function, &memory);
    let ring = memory.alloc(1 << 19).unwrap();
    let good = (0x001f_001f_u32, ring.address(), ring.address() + 65536, 0x0046_0001_u32);
    let end = 16 * MIB;
    for (aqa, asq, acq, cc) in [
        (0, good.1, good.2, good.3),
        (0x001f_0000, good.1, good.2, good.3),
        (0x0000_001f, good.1, good.2, good.3),
        (0x001f_001f, end, good.2, good.3),
        (0x001f_001f, good.1, end, good.3),
        (0x0fff_0fff, end - 4096, good.2, good.3),
        (0x001f_001f, 0xc000_0000, good.2, good.3),
        (0x001f_001f, u64::MAX, good.2, good.3),
        (good.0, good.1, good.2, good.3 | 1 << 4),
        (good.0, good.1, good.2, good.3 | 1 << 7),
        (good.0, good.1, good.2, good.3 | 1 << 11),
    ] {
        nvme.write32(reg::AQA, aqa);
        nvme.write64(reg::ASQ, asq);
        nvme.write64(reg::ACQ, acq);
        nvme.write32(reg::CC, cc);
        nvme.wait_csts(reg::CSTS_CFS, reg::CSTS_CFS).unwrap();
        assert_eq!(nvme.csts() & reg::CSTS_RDY, 0, "ready though it failed");
        nvme.write32(reg::CC, 0);
        nvme.wait_csts(reg::CSTS_CFS | reg::CSTS_RDY, 0).unwrap();
    }
    nvme.enable(&Enable { admin_sq: 4096, admin_cq: 4096, ..Enable::default() }).unwrap();
    assert!(!bare.controller().has_failed());
}

#[test]
fn resets_under_load_leak_nothing() {
    let setup = setup_with(settings(), |gate| gate);
    let data = setup.data(4096);
    let entry = read(&data, 0);
    // The noise spoils the queues of the driver below, which soon gives up.
    let function: Arc<dyn Function> = setup.bare.clone();
    let hasty = Nvme::with_limit(function, &setup.memory, Duration::from_millis(100));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let noise = scope.spawn(|| {
            // Another vCPU that keeps ringing whatever there is.
            while !stop.load(Ordering::SeqCst) {
                for id in 0..5 {
                    setup.nvme.write32(setup.nvme.sq_doorbell(id), 1);
                    setup.nvme.write32(setup.nvme.cq_doorbell(id), 1);
                }
            }
        });
        for _ in 0..100 {
            setup.nvme.disable().unwrap();
            if hasty.enable(&Enable::default()).is_ok()
                && let Ok(pair) = hasty.create_pair(1, 32, Some(1), Wait::Poll)
            {
                let _ = pair.submit_all(&vec![entry; 16]);
            }
        }
        stop.store(true, Ordering::SeqCst);
        noise.join().unwrap();
    });
    assert!(!setup.bare.controller().has_failed());
    setup.nvme.disable().unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    setup.pair(1, 32).execute(entry).unwrap();
    assert!(setup.bare.statistics().workers <= 8);
}

/// An error of the driver's own is not mistaken for a controller's.
#[test]
fn the_driver_notices_a_failed_command() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    assert!(matches!(pair.execute(read(&data, u64::MAX)), Err(Error::Status(_))));
}
