// SPDX-License-Identifier: BSD-2-Clause

//! Shadow doorbells: Doorbell Buffer Config, and I/O by them.

use devhost::driver::{DoorbellBuffer, Enable, Error, Nvme, Posted, QueuePair, Wait};
use devhost::faults::{Fault, Kind};
use devhost::rig::{Rig, STORES, Store, pattern, pause, read, write};
use std::sync::Arc;
use std::time::Duration;

/// Invalid Field, with Do Not Retry.
const INVALID_FIELD: u16 = 0x02;
const INVALID_OPCODE: u16 = 0x01;

fn refusal<T>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Status(devhost::driver::Completion { status, .. })) => {
            assert!(status.dnr());
            status.code()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// A pair of queues that rings by `buffer`.
fn shadowed(rig: &Rig, buffer: &Arc<DoorbellBuffer>, id: u16, entries: u32) -> QueuePair {
    let pair = rig.pair(id, entries);
    pair.use_doorbell_buffer(buffer);
    pair
}

/// Blocks are written and read back at `depth`, each with data of its own.
fn blocks_come_back(rig: &Rig, pair: &QueuePair, depth: usize, count: usize) {
    let data: Vec<_> = (0..count).map(|_| rig.data(512)).collect();
    for (seed, data) in (0u64..).zip(&data) {
        data.write(&pattern(512, seed));
    }
    let fine = |_: usize, completion: devhost::driver::Completion| {
        assert!(completion.status.is_success());
    };
    pair.stream(depth, count, |n| write(&data[n], n as u64), fine).unwrap();
    data.iter().for_each(|data| data.fill(0));
    pair.stream(depth, count, |n| read(&data[n], n as u64), fine).unwrap();
    for (seed, data) in (0u64..).zip(&data) {
        assert_eq!(data.to_vec(), pattern(512, seed));
    }
}

#[test]
fn io_by_shadow_doorbells_on_rings_of_every_size() {
    for (store, options) in STORES {
        for entries in [2, 3, 4, 8, 64] {
            let rig = Rig::new(store, options);
            // What memory holds before is of no meaning.
            let buffer = rig.nvme.doorbell_buffer(0xa5).unwrap();
            let pair = shadowed(&rig, &buffer, 1, entries);
            let depth = entries as usize - 1;
            for _ in 0..5 {
                blocks_come_back(&rig, &pair, depth, 100);
            }
            let (rung, trapped) = buffer.counts();
            assert!(trapped > 0 && trapped <= rung, "{trapped} of {rung}");
            assert_eq!(rig.errors(), 0);
        }
    }
}

/// Several submission queues on one completion queue that is always full.
#[test]
fn a_full_completion_queue_wakes_all_who_wait_for_it() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let buffer = rig.nvme.doorbell_buffer(0).unwrap();
        let pairs: Vec<QueuePair> = (1..5).map(|id| shadowed(&rig, &buffer, id, 4)).collect();
        std::thread::scope(|scope| {
            for pair in &pairs {
                let data = rig.data(512);
                scope.spawn(move || {
                    pair.stream(
                        3,
                        2000,
                        |n| read(&data, n as u64),
                        |_, completion| {
                            assert!(completion.status.is_success());
                        },
                    )
                    .unwrap();
                });
            }
        });
    }
}

/// Queues that were there before the buffer was, with commands in flight.
#[test]
fn a_buffer_is_set_up_while_queues_work() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 64);
        let data = rig.data(512);
        let mut buffers = Vec::new();
        for _ in 0..50 {
            let cids = pair.submit_all(&vec![read(&data, 0); 20]).unwrap();
            buffers.push(rig.nvme.doorbell_buffer(0x5a).unwrap());
            // These ring by the register, which the guest may do at any time.
            let more = pair.submit_all(&vec![read(&data, 0); 20]).unwrap();
            for cid in cids.into_iter().chain(more) {
                assert!(pair.wait(cid).unwrap().status.is_success());
            }
        }
    }
}

/// QEMU posts writes to the registers of a device that it has by vfio-user.
#[test]
fn register_writes_that_come_late_lead_nobody_back() {
    for (store, options) in STORES {
        for entries in [4, 16, 64] {
            let rig = Rig::idle(store, options);
            let nvme = Nvme::new(Posted::new(rig.device.clone()), &rig.memory);
            for _ in 0..3 {
                nvme.enable(&Enable::default()).unwrap();
                let pair = |id| nvme.create_pair(id, entries, Some(id), Wait::Poll).unwrap();
                let before = pair(1);
                blocks_come_back(&rig, &before, 3, 20);
                let buffer = nvme.doorbell_buffer(0xa5).unwrap();
                let after = pair(2);
                let data = rig.data(512);
                for pair in [&before, &after] {
                    // The buffer is there and the guest does not use it, but
                    // begins to while its last writes are under way.
                    blocks_come_back(&rig, pair, 3, 20);
                    let mut cids = vec![pair.submit(read(&data, 0)).unwrap()];
                    pair.use_doorbell_buffer(&buffer);
                    cids.extend([0; 2].map(|lba| pair.submit(read(&data, lba)).unwrap()));
                    for cid in cids {
                        assert!(pair.wait(cid).unwrap().status.is_success());
                    }
                    blocks_come_back(&rig, pair, entries as usize - 1, 500);
                }
                for pair in [before, after] {
                    assert_eq!((pair.in_flight(), pair.strays()), (0, Vec::new()));
                    nvme.delete_pair(&Arc::new(pair)).unwrap();
                }
                nvme.disable().unwrap();
            }
            nvme.enable(&Enable::default()).unwrap();
            let log = nvme.get_log(1, 0, 0, 64, true).unwrap();
            assert_eq!(log[..8], [0; 8], "an error was logged");
        }
    }
}

/// Legal, and not what Linux does.
#[test]
fn the_admin_queue_may_have_shadow_doorbells() {
    let rig = Rig::idle(Store::File, "");
    for posted in [false, true] {
        let nvme = match posted {
            true => Nvme::new(Posted::new(rig.device.clone()), &rig.memory),
            false => Nvme::new(rig.device.clone(), &rig.memory),
        };
        for (admin_sq, admin_cq) in [(2, 2), (32, 32), (32, 4), (5, 32)] {
            nvme.enable(&Enable { admin_sq, admin_cq, ..Enable::default() }).unwrap();
            let buffer = nvme.doorbell_buffer(0xa5).unwrap();
            // The register alone, and then the shadow.
            for _ in 0..40 {
                nvme.identify(1, 0).unwrap();
            }
            let admin = nvme.admin();
            admin.use_doorbell_buffer(&buffer);
            for _ in 0..40 {
                nvme.identify(1, 0).unwrap();
                let entries = vec![devhost::driver::Entry::new(0x18); admin_sq as usize - 1];
                for cid in admin.submit_all(&entries).unwrap() {
                    admin.wait(cid).unwrap();
                }
            }
            assert_eq!((admin.in_flight(), admin.strays()), (0, Vec::new()));
            nvme.disable().unwrap();
        }
    }
}

/// Linux frees the pages after a shutdown, and resets nothing.
#[test]
fn a_shutdown_forgets_the_buffer() {
    let rig = Rig::new(Store::File, "");
    let buffer = rig.nvme.doorbell_buffer(0).unwrap();
    let pair = shadowed(&rig, &buffer, 1, 16);
    blocks_come_back(&rig, &pair, 15, 50);
    rig.nvme.shutdown(false).unwrap();
    buffer.values.fill(0xee);
    buffer.events.fill(0xee);
    let _late = rig.nvme.identify(1, 0);
    pause(Duration::from_millis(50));
    assert!(buffer.values.to_vec().iter().all(|byte| *byte == 0xee));
    assert!(buffer.events.to_vec().iter().all(|byte| *byte == 0xee));
}

#[test]
fn a_second_buffer_ends_the_use_of_the_first() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let first = rig.nvme.doorbell_buffer(0).unwrap();
        let pair = shadowed(&rig, &first, 1, 16);
        blocks_come_back(&rig, &pair, 15, 50);
        let second = rig.nvme.doorbell_buffer(0).unwrap();
        first.values.fill(0xee);
        first.events.fill(0xee);
        pair.use_doorbell_buffer(&second);
        blocks_come_back(&rig, &pair, 15, 200);
        assert!(first.values.to_vec().iter().all(|byte| *byte == 0xee));
        assert!(first.events.to_vec().iter().all(|byte| *byte == 0xee));
        assert_eq!(rig.errors(), 0);
    }
}

/// The memory belongs to the next kernel, which knows of no buffer.
#[test]
fn a_reset_forgets_the_buffer() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        for round in 0..10 {
            let buffer = rig.nvme.doorbell_buffer(0).unwrap();
            let pair = shadowed(&rig, &buffer, 1, 16);
            let data = rig.data(512);
            // Some are in flight when it comes.
            pair.submit_all(&vec![read(&data, 0); 15]).unwrap();
            rig.nvme.disable().unwrap();
            buffer.values.fill(0xee);
            buffer.events.fill(0xee);
            rig.enable();
            let pair = rig.pair(1, 16);
            blocks_come_back(&rig, &pair, 15, 50);
            assert!(buffer.values.to_vec().iter().all(|byte| *byte == 0xee), "round {round}");
            assert!(buffer.events.to_vec().iter().all(|byte| *byte == 0xee), "round {round}");
            rig.nvme.delete_pair(&Arc::new(pair)).unwrap();
        }
        assert_eq!(rig.errors(), 0);
    }
}

#[test]
fn a_queue_that_is_deleted_has_no_shadow() {
    let rig = Rig::new(Store::File, "");
    let buffer = rig.nvme.doorbell_buffer(0).unwrap();
    for _ in 0..20 {
        let pair = Arc::new(shadowed(&rig, &buffer, 1, 8));
        blocks_come_back(&rig, &pair, 7, 20);
        rig.nvme.delete_pair(&pair).unwrap();
        drop(pair);
        // Those of queue 1; the admin queue lives on.
        for page in [&buffer.values, &buffer.events] {
            page.write(8, &[0xee; 8]);
        }
        pause(Duration::from_millis(2));
        for page in [&buffer.values, &buffer.events] {
            assert_eq!(page.to_vec()[8..16], [0xee; 8]);
        }
    }
    assert_eq!(rig.errors(), 0);
}

/// A value that the queue cannot have is an event and an entry of the log, as
/// in the register, and harms no other queue.
#[test]
fn a_shadow_that_cannot_be_is_an_error_and_harms_nobody() {
    let rig = Rig::faulty(Store::File, ",ioslots=1");
    let buffer = rig.nvme.doorbell_buffer(0).unwrap();
    let (bad, good) = (shadowed(&rig, &buffer, 1, 32), shadowed(&rig, &buffer, 2, 8));
    let data = rig.data(512);
    rig.faults.set(&[Fault::always(Kind::Never).at(100..101)]);
    for value in [32, 33, 0xffff, 0x1_0000, u32::MAX] {
        let event = rig.nvme.request_event().unwrap();
        let errors = rig.errors();
        // The controller comes back for more than it fetches at once, and looks.
        let mut entries = vec![read(&data, 0); 20];
        entries[0] = read(&data, 100);
        let cids = bad.submit_all(&entries).unwrap();
        assert_eq!(rig.faults.wait_stuck(1), 1);
        let at = (rig.nvme.sq_doorbell(1) - 0x1000) as usize;
        buffer.values.write(at, &value.to_le_bytes());
        rig.faults.release();
        for cid in cids {
            assert!(bad.wait(cid).unwrap().status.is_success());
        }
        rig.nvme.admin().wait(event).unwrap();
        assert_eq!(rig.errors(), errors + 1, "{value:#x}");
        // The log is read, so that the next event comes.
        rig.nvme.get_log(1, 0, 0, 64, false).unwrap();
        blocks_come_back(&rig, &good, 7, 20);
        // What is legal again is taken.
        let tail = bad.raw(|sq, _| sq.tail);
        buffer.values.write(at, &tail.to_le_bytes());
        rig.faults.set(&[Fault::always(Kind::Never).at(100..101)]);
    }
}

#[test]
fn pages_that_cannot_be_are_refused_and_those_before_stay() {
    let rig = Rig::new(Store::Ram, "");
    let buffer = rig.nvme.doorbell_buffer(0).unwrap();
    let pair = shadowed(&rig, &buffer, 1, 8);
    let good = buffer.values.address();
    for (values, events) in [
        (good + 4, good),
        (good, good + 8),
        (good, 1 << 40),
        (u64::MAX - 4095, good),
        (good, u64::MAX),
        (good, good),
    ] {
        let entry = buffer.entry().long(6, values).long(8, events);
        assert_eq!(refusal(rig.nvme.admin().execute(entry)), INVALID_FIELD);
    }
    blocks_come_back(&rig, &pair, 7, 50);
}

#[test]
fn it_can_be_switched_off() {
    const OACS: usize = 256;
    for (options, there) in [("", true), (",dbbuf=off", false)] {
        let rig = Rig::new(Store::Ram, options);
        let buffer = DoorbellBuffer::new(rig.nvme.function(), rig.nvme.memory(), 0).unwrap();
        assert_eq!(rig.nvme.identify(1, 0).unwrap()[OACS + 1] & 1 != 0, there);
        let effects = rig.nvme.get_log(5, 0, 0x7c * 4, 4, false).unwrap();
        assert_eq!(effects[0] & 1 != 0, there);
        let result = rig.nvme.admin().execute(buffer.entry());
        if there {
            result.unwrap();
        } else {
            assert_eq!(refusal(result), INVALID_OPCODE);
        }
        blocks_come_back(&rig, &rig.pair(1, 8), 7, 20);
    }
}
