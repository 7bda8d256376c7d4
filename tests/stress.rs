// SPDX-License-Identifier: BSD-2-Clause

//! Many vCPUs, many queues, and resets in between, by a guest that does
//! nothing wrong with its memory: no buffer, block or ring is used by two
//! commands at once, and none is touched between a command's submission and its
//! end. So whatever two threads do to the same byte at once is the device's
//! fault: ThreadSanitizer runs this program (tests/sanitize.sh).

use devhost::driver::registers as reg;
use devhost::driver::{Data, Enable, Entry, QueuePair, Wait, io_opcode};
use devhost::faults::{Fault, Kind};
use devhost::rig::{Rig, STORES, Store, pattern, read, write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Blocks of one buffer.
const SPAN: u64 = 8;

/// Writes, reads back and compares, `depth` at a time, in buffers and at blocks
/// of the caller's own.
fn exercise(rig: &Rig, pair: &QueuePair, lba: u64, depth: usize, rounds: u64) {
    let slots: Vec<Data> = (0..depth).map(|_| rig.data(SPAN as usize * 512)).collect();
    let at = |slot: usize| lba + SPAN * slot as u64;
    for round in 0..rounds {
        for (slot, data) in slots.iter().enumerate() {
            data.write(&pattern(data.len(), round + at(slot)));
        }
        let writes: Vec<Entry> = (0..depth).map(|slot| write(&slots[slot], at(slot))).collect();
        for cid in pair.submit_all(&writes).unwrap() {
            assert!(pair.wait(cid).unwrap().status.is_success());
        }
        slots.iter().for_each(|data| data.fill(0));
        let reads: Vec<Entry> = (0..depth).map(|slot| read(&slots[slot], at(slot))).collect();
        for cid in pair.submit_all(&reads).unwrap() {
            assert!(pair.wait(cid).unwrap().status.is_success());
        }
        for (slot, data) in slots.iter().enumerate() {
            assert!(data.to_vec() == pattern(data.len(), round + at(slot)), "{round} {slot}");
        }
    }
}

/// A vCPU that masks vectors, rings doorbells that are refused and runs admin
/// commands, until `stop` is set.
fn disturb(rig: &Rig, stop: &AtomicBool) {
    let nvme = &rig.nvme;
    let mut n = 0u16;
    while !stop.load(Ordering::SeqCst) {
        n = n.wrapping_add(1);
        let vector = 1 + n % 4;
        nvme.msix().mask(vector, true);
        nvme.write32(nvme.sq_doorbell(1 + n % 4), 0xffff);
        nvme.write32(nvme.sq_doorbell(12), 1);
        nvme.msix().mask(vector, false);
        nvme.write32(nvme.cq_doorbell(1 + n % 4), 0x1_0000);
        nvme.msix().mask_function(true);
        nvme.msix().mask_function(false);
        match n % 3 {
            0 => drop(nvme.identify(1, 0).unwrap()),
            1 => drop(nvme.get_log(1, 0, 0, 4096, false).unwrap()),
            _ => drop(nvme.get_log(2, 0, 0, 512, false).unwrap()),
        }
    }
}

#[test]
fn vcpus_on_queues_of_their_own() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| disturb(&rig, &stop));
            let vcpus: Vec<_> = (1..=4)
                .map(|id| {
                    let rig = &rig;
                    scope.spawn(move || {
                        let wait = if id % 2 == 0 { Wait::Poll } else { Wait::Interrupt };
                        let pair = rig.nvme.create_pair(id, 8, Some(id), wait).unwrap();
                        exercise(rig, &pair, 1024 * u64::from(id), 20, 10);
                    })
                })
                .collect();
            vcpus.into_iter().for_each(|vcpu| vcpu.join().unwrap());
            stop.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn vcpus_on_one_queue() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.interrupting_pair(1, 6);
        std::thread::scope(|scope| {
            for vcpu in 0..4 {
                let (rig, pair) = (&rig, &pair);
                scope.spawn(move || exercise(rig, pair, 1024 * vcpu, 4, 15));
            }
        });
    }
}

/// Queues are made and deleted, with commands in flight, while other vCPUs use
/// theirs. Once a queue is gone, so is its claim on memory.
#[test]
fn queues_come_and_go() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        std::thread::scope(|scope| {
            for id in 1..=3u16 {
                let rig = &rig;
                scope.spawn(move || {
                    let buffers: Vec<Data> = (0..12).map(|_| rig.data(4096)).collect();
                    for round in 0..12 {
                        let entries = [4, 16, 64][round % 3];
                        let pair = Arc::new(rig.interrupting_pair(id, entries));
                        let lba = 4096 * u64::from(id);
                        exercise(rig, &pair, lba, 3, 1);
                        let at = |n: usize| lba + 64 + 8 * n as u64;
                        let left: Vec<Entry> = (0..3).map(|n| read(&buffers[n], at(n))).collect();
                        pair.submit_all(&left).unwrap();
                        rig.nvme.delete_sq(id).unwrap();
                        buffers.iter().for_each(|data| data.fill(round as u8));
                        rig.nvme.delete_cq(id).unwrap();
                    }
                });
            }
        });
    }
}

/// Resets in the middle of everything: once CSTS.RDY is 0, all memory is the
/// guest's again, rings included, and it writes all over it.
#[test]
fn after_a_reset_memory_is_the_guests() {
    for (store, options) in STORES {
        for late in [false, true] {
            let rig =
                if late { Rig::idle_faulty(store, options) } else { Rig::idle(store, options) };
            if late {
                let delay = Fault::always(Kind::Delay(Duration::from_micros(300)));
                rig.faults.set(&[delay.per_million(300_000)]);
            }
            let buffers: Vec<Data> = (0..24).map(|_| rig.data(4096)).collect();
            for round in 0..24 {
                rig.nvme.msix().setup();
                let enable = Enable { wait: Wait::Interrupt, ..Enable::default() };
                let admin = rig.nvme.enable(&enable).unwrap();
                let pairs = [rig.interrupting_pair(1, 16), rig.interrupting_pair(2, 16)];
                std::thread::scope(|scope| {
                    for (number, pair) in pairs.iter().enumerate() {
                        let buffers = &buffers[12 * number..12 * number + 12];
                        scope.spawn(move || {
                            let entry = |n: usize| {
                                let lba = 8 * (24 * number + n) as u64;
                                if n.is_multiple_of(2) {
                                    read(&buffers[n], lba)
                                } else {
                                    write(&buffers[n], lba)
                                }
                            };
                            pair.submit_all(&(0..12).map(entry).collect::<Vec<_>>()).unwrap();
                        });
                    }
                });
                match round % 4 {
                    0 => rig.nvme.write32(reg::CC, 0),
                    1 => rig.device.flr(),
                    2 => {
                        rig.nvme.write32(reg::CC, 0x0046_4001);
                        rig.nvme.write32(reg::CC, 0);
                    }
                    _ => {
                        rig.nvme.request_event().unwrap();
                        rig.nvme.write32(reg::CC, 0);
                        rig.nvme.write32(reg::CC, 0x0046_0001);
                        rig.nvme.write32(reg::CC, 0);
                    }
                }
                rig.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
                buffers.iter().for_each(|data| data.fill(0x55));
                for pair in pairs.iter().chain([&*admin]) {
                    let (sq, cq) = pair.raw(|sq, cq| (sq.address(), cq.address()));
                    rig.machine.write(sq, &[0xff; 512]);
                    rig.machine.write(cq, &[0xff; 256]);
                }
            }
        }
    }
}

/// As in the registers; and once CSTS.RDY is 0, shadows and event indices are
/// the guest's again.
#[test]
fn vcpus_ring_by_shadow_doorbells_until_a_reset() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        for round in 0..4 {
            let buffer = rig.nvme.doorbell_buffer(round).unwrap();
            let left: Vec<Data> = (0..12).map(|_| rig.data(4096)).collect();
            let on_one_queue = |id: u16, left: &[Data]| {
                let pair = rig.interrupting_pair(id, 6);
                pair.use_doorbell_buffer(&buffer);
                let lba = 1024 * u64::from(id);
                exercise(&rig, &pair, lba, 5, 4);
                let reads: Vec<Entry> = left.iter().map(|data| read(data, lba)).collect();
                pair.submit_all(&reads).unwrap();
                pair
            };
            // The rings are the device's until the reset.
            let pairs: Vec<QueuePair> = std::thread::scope(|scope| {
                let on_one_queue = &on_one_queue;
                let vcpus: Vec<_> = (1..=3)
                    .zip(left.chunks(4))
                    .map(|(id, left)| scope.spawn(move || on_one_queue(id, left)))
                    .collect();
                vcpus.into_iter().map(|vcpu| vcpu.join().unwrap()).collect()
            });
            rig.nvme.disable().unwrap();
            drop(pairs);
            buffer.values.fill(0xee);
            buffer.events.fill(0xee);
            left.iter().for_each(|data| data.fill(0xee));
            rig.enable();
        }
        assert_eq!(rig.errors(), 0);
    }
}

/// Compare and Write, whose blocks others may not change meanwhile, ranges that
/// several workers free, and commands that are aborted or not.
#[test]
fn vcpus_fuse_free_and_abort() {
    const FIRST: u8 = 1;
    const SECOND: u8 = 2;
    const DEALLOCATE: u32 = 1 << 2;
    let on_one_queue = |rig: &Rig, id: u16| {
        let pair = rig.interrupting_pair(id, 16);
        let done = |entries: &[Entry]| {
            for cid in pair.submit_all(entries).unwrap() {
                assert!(pair.wait(cid).unwrap().status.is_success());
            }
        };
        let lba = 1024 * u64::from(id);
        let [old, new, list] = [(); 3].map(|()| rig.data(4096));
        let asked: Vec<Data> = (0..6).map(|_| rig.data(4096)).collect();
        for round in 0..12 {
            old.write(&pattern(4096, round));
            new.write(&pattern(4096, round + 100));
            done(&[write(&old, lba)]);
            let compare = Entry::on_blocks(io_opcode::COMPARE, 1, lba, 8).prp(&old.prp().unwrap());
            done(&[compare.flags(FIRST), write(&new, lba).flags(SECOND)]);

            let ranges = (1..=8).map(|n| {
                [&[0; 4][..], &8u32.to_le_bytes(), &(lba + 16 * n).to_le_bytes()].concat()
            });
            list.write(&ranges.collect::<Vec<_>>().concat());
            let free = Entry::new(io_opcode::DATASET_MANAGEMENT).nsid(1).prp(&list.prp().unwrap());
            done(&[free.word(10, 7).word(11, DEALLOCATE)]);
            list.fill(0);

            let reads: Vec<Entry> = asked.iter().map(|data| read(data, lba)).collect();
            let cids = pair.submit_all(&reads).unwrap();
            let aborted = rig.nvme.abort(id, cids[4]).unwrap();
            for (n, cid) in cids.into_iter().enumerate() {
                let status = pair.wait(cid).unwrap().status;
                assert_eq!(status.is_success(), n != 4 || !aborted);
            }
            assert!(asked[0].to_vec() == pattern(4096, round + 100));
            asked.iter().for_each(|data| data.fill(0));
        }
    };
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        std::thread::scope(|scope| {
            for id in 1..=3 {
                let rig = &rig;
                scope.spawn(move || on_one_queue(rig, id));
            }
        });
    }
}

/// Devices that come and go with their threads, while another one works.
#[test]
fn devices_come_and_go() {
    let other = Rig::new(Store::Ram, "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pair = other.interrupting_pair(1, 16);
            while !stop.load(Ordering::SeqCst) {
                exercise(&other, &pair, 0, 4, 1);
            }
        });
        for round in 0..12 {
            let (store, options) = STORES[round % STORES.len()];
            let rig = Rig::new(store, options);
            let pair = rig.interrupting_pair(1, 16);
            exercise(&rig, &pair, 0, 8, 1);
            let buffers: Vec<Data> = (0..8).map(|_| rig.data(4096)).collect();
            let left: Vec<Entry> = (0..8).map(|n| read(&buffers[n], 8 * n as u64)).collect();
            pair.submit_all(&left).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
}
