// SPDX-License-Identifier: BSD-2-Clause

//! Doorbells: every bad value, width, offset, queue and moment.

use devhost::bhyve::{Device, LogCapture, Machine};
use devhost::driver::registers as reg;
use devhost::driver::{Data, Entry, Memory, Nvme, QueuePair};
use devhost::faults::{Fault, Kind, Ops};
use devhost::rig::{Rig, STORES, Store, pattern, read, write};
use std::sync::Arc;

/// The event that a doorbell of no queue raises, and the one of a bad value.
const NO_QUEUE: u32 = 0x0001_0000;
const BAD_VALUE: u32 = 0x0001_0100;

/// Writes `value` to the doorbell at `at` and looks whether that gives
/// `event`, one more entry in the log, and nothing else. Reads the log, so that
/// the next event can come.
#[track_caller]
fn refused(rig: &Rig, at: u64, queue: u16, value: u32, event: u32) {
    let before = rig.errors();
    let request = rig.nvme.request_event().unwrap();
    rig.nvme.write32(at, value);
    let completion = rig.nvme.admin().wait(request).unwrap();
    assert!(completion.status.is_success());
    assert_eq!(completion.dw0, event, "queue {queue}, value {value:#x}");
    let newest = rig.error_log(1)[0];
    assert_eq!(newest.count, before + 1, "queue {queue}, value {value:#x}");
    assert_eq!((newest.sqid, newest.cid), (queue, 0xffff), "value {value:#x}");
    rig.nvme.get_log(1, 0, 0, 64, false).unwrap();
    assert_eq!(rig.nvme.csts(), reg::CSTS_RDY);
}

/// Writes and reads back on `pair`.
#[track_caller]
fn works(pair: &QueuePair, data: &Data, seed: u64) {
    let bytes = pattern(data.len(), seed);
    data.write(&bytes);
    pair.execute(write(data, seed % 100)).unwrap();
    data.fill(0);
    pair.execute(read(data, seed % 100)).unwrap();
    assert_eq!(data.to_vec(), bytes);
}

#[test]
fn a_tail_that_the_queue_cannot_have_is_an_event_and_harms_nobody() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let (pair, other) = (rig.pair(1, 8), rig.pair(2, 5));
        let data = rig.data(1024);
        for (queue, size) in [(1, 8), (2, 5), (0, 32)] {
            let values = [size, size + 1, 0xffff, 0x1_0000, 0x1_0001, 0x8000_0001, 0xffff_ffff];
            for (seed, value) in values.into_iter().enumerate() {
                refused(&rig, rig.nvme.sq_doorbell(queue), queue, value, BAD_VALUE);
                works(&pair, &data, seed as u64);
                works(&other, &data, seed as u64);
            }
        }
    }
}

#[test]
fn a_head_that_the_queue_cannot_have_is_an_event_and_harms_nobody() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let (pair, other) = (rig.pair(1, 8), rig.pair(2, 5));
        let data = rig.data(1024);
        for (queue, size) in [(1u16, 8u32), (2, 5), (0, 32)] {
            for value in [size, size + 1, 0xffff, 0x1_0000, 0x1_0001, 0x8000_0001, 0xffff_ffff] {
                refused(&rig, rig.nvme.cq_doorbell(queue), queue, value, BAD_VALUE);
            }
            works(&pair, &data, 1);
            works(&other, &data, 2);
        }
        // Past what was posted: those entries are still to come.
        for _ in 0..8 {
            let head = pair.raw(|_, cq| cq.head);
            for ahead in 1..8 {
                let value = (head + ahead) % 8;
                refused(&rig, rig.nvme.cq_doorbell(1), 1, value, BAD_VALUE);
            }
            works(&pair, &data, 3);
        }
    }
}

#[test]
fn a_doorbell_of_no_queue_is_an_event_and_harms_nobody() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let gone = Arc::new(rig.pair(3, 8));
        rig.nvme.delete_pair(&gone).unwrap();
        let data = rig.data(512);
        // Never made, deleted, the last that can be, one more, the BAR's last.
        for queue in [2, 3, 16, 17, 1535] {
            for value in [0, 1, 0xffff_ffff] {
                refused(&rig, rig.nvme.sq_doorbell(queue), queue, value, NO_QUEUE);
                refused(&rig, rig.nvme.cq_doorbell(queue), queue, value, NO_QUEUE);
            }
            works(&pair, &data, queue.into());
        }
    }
}

/// The controller is not there to complain to, and remembers nothing of it.
#[test]
fn doorbells_before_ready_and_while_disabled_do_nothing() {
    let rig = Rig::idle(Store::Ram, "");
    let ring_all = |value: u32| {
        for at in (reg::DOORBELLS..reg::DOORBELLS + 0x100).step_by(4) {
            rig.nvme.write32(at, value);
        }
    };
    for round in 0..20 {
        for value in [0, 1, 7, 0xffff, 0x1_0000, 0xffff_ffff] {
            ring_all(value);
        }
        rig.enable();
        assert_eq!(rig.errors(), 0, "round {round}");
        let event = rig.nvme.request_event().unwrap();
        rig.nvme.identify(1, 0).unwrap();
        assert!(rig.nvme.admin().take(event).is_none(), "round {round}");
        let pair = rig.pair(1, 8);
        pair.execute(read(&rig.data(512), 0)).unwrap();
        rig.nvme.write32(reg::CC, 0);
        // While it resets.
        ring_all(1);
        rig.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    }
    assert_eq!(rig.nvme.csts(), 0);
}

/// bhyve makes two accesses of it: a tail, and the head beside it.
#[test]
fn eight_bytes_at_a_doorbell_are_a_tail_and_a_head() {
    let rig = Rig::new(Store::Ram, "");
    let pair = rig.pair(1, 8);
    let data = rig.data(512);
    pair.raw(|sq, cq| {
        for round in 0..20u16 {
            sq.push(&read(&data, 0).cid(round));
            let value = u64::from(cq.head) << 32 | u64::from(sq.tail);
            rig.nvme.write64(sq.doorbell(), value);
            let mut popped = None;
            while popped.is_none() {
                popped = cq.pop();
            }
            assert_eq!(popped.unwrap().cid, round);
        }
    });
    assert_eq!(rig.errors(), 0);
}

/// The check that FreeBSD's fix for CVE-2024-51566 added refuses most legal
/// tails of a queue that is not empty.
#[test]
fn a_legal_tail_on_a_busy_nearly_full_ring_is_never_refused() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        let pair = rig.pair(1, 8);
        let data = rig.data(512);
        for start in 0..8 {
            rig.faults.set(&[Fault::always(Kind::Never).on(Ops::READ)]);
            // One after the other: every distance from 1 to 7.
            let held: Vec<u16> = (0..7).map(|n| pair.submit(read(&data, n)).unwrap()).collect();
            // The same tail again is legal, too.
            pair.raw(|sq, _| sq.ring());
            let expected = if options.is_empty() { 7 } else { 1 };
            assert_eq!(rig.faults.wait_stuck(expected), expected, "start {start}");
            assert_eq!(rig.errors(), 0, "{store:?}{options}, start {start}");
            rig.faults.clear();
            for cid in held {
                assert!(pair.wait(cid).unwrap().status.is_success());
            }
            // The next round begins one entry further.
            pair.execute(Entry::flush(1)).unwrap();
        }
        assert_eq!(rig.errors(), 0);
    }
}

/// Nor does a guest get more of the log by resetting in between.
#[test]
fn a_storm_of_bad_doorbells_holds_up_nobody_and_is_told_in_few_lines() {
    let log = LogCapture::start();
    let machine = Machine::with_ram(16 << 20);
    // A slot that no other test of this program has: lines name it.
    let device = Arc::new(Device::new(&machine, "9,nvme,ram=1").unwrap());
    let nvme = Nvme::new(device, &Memory::all(&machine));
    nvme.enable(&devhost::driver::Enable::default()).unwrap();
    std::thread::scope(|scope| {
        for vcpu in 0..2 {
            let nvme = &nvme;
            scope.spawn(move || {
                for n in 0..50_000u64 {
                    let at = reg::DOORBELLS + (n * 4 + vcpu) % 0x3000 / 4 * 4;
                    nvme.write32(at, 0xffff_0000 | n as u32);
                }
            });
        }
        for _ in 0..20 {
            nvme.identify(1, 0).unwrap();
        }
    });
    for _ in 0..50 {
        nvme.disable().unwrap();
        nvme.enable(&devhost::driver::Enable::default()).unwrap();
        nvme.write32(nvme.sq_doorbell(1), 1);
        nvme.identify(1, 0).unwrap();
    }
    let lines: Vec<String> =
        log.lines().into_iter().filter(|line| line.contains("nvme 9:0")).collect();
    // A few for each minute that this takes.
    assert!((1..=12).contains(&lines.len()), "{lines:#?}");
}
