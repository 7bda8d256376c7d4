// SPDX-License-Identifier: BSD-2-Clause

//! Creating and deleting queues, right and wrong.

use devhost::driver::{
    CompletionQueue, Entry, Error, QueuePair, Status, SubmissionQueue, Wait, admin_opcode,
};
use devhost::rig::{RAM, Rig, STORES, Store, create_cq, create_sq, pattern, read, write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Flags of Create I/O Completion Queue: in one piece, with interrupts.
const PC: u16 = 1;
const IEN: u16 = 2;

/// Half a MiB for rings, which nobody else gets any more.
fn rings(rig: &Rig) -> u64 {
    let hold = rig.memory.alloc(1 << 19).unwrap();
    let address = hold.address();
    std::mem::forget(hold);
    address
}

/// The status of an admin command; 0 for success.
fn code(rig: &Rig, entry: Entry) -> u16 {
    rig.nvme.admin().run(entry).unwrap().status.code()
}

fn delete(opcode: u8, id: u16) -> Entry {
    Entry::new(opcode).word(10, u32::from(id))
}

#[track_caller]
fn works(rig: &Rig, pair: &QueuePair, seed: u64) {
    let data = rig.data(2048);
    let bytes = pattern(2048, seed);
    data.write(&bytes);
    pair.execute(write(&data, seed % 64)).unwrap();
    data.fill(0);
    pair.execute(read(&data, seed % 64)).unwrap();
    assert_eq!(data.to_vec(), bytes);
}

/// A driver's pair of queues over rings that exist already, at `address`.
fn pair_at(rig: &Rig, id: u16, entries: u32, address: u64) -> Result<QueuePair, u16> {
    let cq_bytes = CompletionQueue::bytes(entries);
    let part = |at, len: usize| {
        devhost::driver::Memory::part(&rig.machine, at, len as u64).alloc(len).unwrap()
    };
    let sq_at = address + cq_bytes as u64;
    let cq_ring = part(address, cq_bytes);
    let sq_ring = part(sq_at, SubmissionQueue::bytes(entries));
    // What an earlier owner left: every byte set, but no phase bit.
    cq_ring.fill(0xfe);
    sq_ring.fill(0xff);
    let function = rig.nvme.function();
    let size_z = (entries - 1) as u16;
    for entry in
        [create_cq(id, size_z, address, id, PC | IEN), create_sq(id, size_z, sq_at, id, PC)]
    {
        match code(rig, entry) {
            Status::SUCCESS => {}
            code => return Err(code),
        }
    }
    let sq = SubmissionQueue::new(function, id, entries, sq_ring, rig.nvme.sq_doorbell(id));
    let cq =
        CompletionQueue::new(function, id, entries, cq_ring, rig.nvme.cq_doorbell(id), Some(id));
    Ok(QueuePair::new(function, None, sq, cq, Wait::Poll, devhost::PATIENCE))
}

#[test]
fn identifiers_go_from_one_to_the_number_of_queues() {
    for (options, most) in [("", 16), (",maxq=1", 1), (",maxq=64", 64)] {
        let rig = Rig::new(Store::Ram, options);
        let at = rings(&rig);
        for id in [0, most + 1, most + 2, 0x100, 0x7fff, 0xffff] {
            assert_eq!(code(&rig, create_cq(id, 7, at, 0, PC)), Status::INVALID_QUEUE_ID, "{id}");
            assert_eq!(code(&rig, create_sq(id, 7, at, 1, PC)), Status::INVALID_QUEUE_ID, "{id}");
            for opcode in [admin_opcode::DELETE_CQ, admin_opcode::DELETE_SQ] {
                assert_eq!(code(&rig, delete(opcode, id)), Status::INVALID_QUEUE_ID, "{id}");
            }
        }
        // The last legal one: a bug once hid behind another here.
        for id in [1, most] {
            let pair = Arc::new(rig.pair(id, 8));
            works(&rig, &pair, id.into());
            rig.nvme.delete_pair(&pair).unwrap();
        }
    }
}

#[test]
fn a_submission_queue_needs_a_completion_queue() {
    let rig = Rig::new(Store::Ram, "");
    let at = rings(&rig);
    for (cq, expected) in [
        (0, Status::INVALID_QUEUE_ID),
        (1, Status::CQ_INVALID),
        (16, Status::CQ_INVALID),
        (17, Status::INVALID_QUEUE_ID),
        (0xffff, Status::INVALID_QUEUE_ID),
    ] {
        assert_eq!(code(&rig, create_sq(1, 7, at, cq, PC)), expected, "{cq}");
    }
}

#[test]
fn sizes_go_from_two_entries_to_the_most_there_can_be() {
    for (options, most) in [("", 2048u32), (",qsz=2", 2), (",qsz=3", 3), (",qsz=4096", 4096)] {
        let rig = Rig::new(Store::Ram, options);
        assert_eq!(rig.nvme.max_entries(), most);
        let at = rings(&rig);
        for size_z in [0, most, most + 1, 0xffff] {
            let size_z = size_z as u16;
            let cq = code(&rig, create_cq(1, size_z, at, 0, PC));
            assert_eq!(cq, Status::INVALID_QUEUE_SIZE, "qsz {most}, {size_z}");
            rig.nvme.create_cq(1, 2, None).unwrap();
            let sq = code(&rig, create_sq(1, size_z, at, 1, PC));
            assert_eq!(sq, Status::INVALID_QUEUE_SIZE, "qsz {most}, {size_z}");
            rig.nvme.delete_cq(1).unwrap();
        }
        for entries in [2, 3, 4, 5, 255, 256, 257, most - 1, most] {
            if (2..=most).contains(&entries) {
                let pair = Arc::new(rig.pair(1, entries));
                for seed in 0..u64::from(entries.min(20)) {
                    works(&rig, &pair, seed);
                }
                rig.nvme.delete_pair(&pair).unwrap();
            }
        }
    }
}

/// Nearly full all the time, and around many times.
#[test]
fn queues_of_three_to_eight_entries_run_nearly_full() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let data = rig.data(512);
        for entries in 2..=8 {
            let pair = Arc::new(rig.interrupting_pair(1, entries));
            let depth = entries as usize - 1;
            let entry = |n| if n % 2 == 0 { read(&data, n as u64) } else { write(&data, n as u64) };
            pair.stream(depth, 300, entry, |_, completion| {
                assert!(completion.status.is_success());
            })
            .unwrap();
            rig.nvme.delete_pair(&pair).unwrap();
        }
    }
}

#[test]
fn an_identifier_that_is_taken_is_refused_and_its_queue_goes_on() {
    let rig = Rig::new(Store::Ram, "");
    let at = rings(&rig);
    let pair = rig.pair(1, 8);
    for seed in 0..10 {
        assert_eq!(code(&rig, create_cq(1, 3, at, 0, PC)), Status::INVALID_QUEUE_ID);
        assert_eq!(code(&rig, create_sq(1, 3, at + 4096, 1, PC)), Status::INVALID_QUEUE_ID);
        works(&rig, &pair, seed);
    }
}

#[test]
fn a_completion_queue_stays_while_submission_queues_report_to_it() {
    let rig = Rig::new(Store::Ram, "");
    let mut cq = rig.nvme.create_cq(2, 8, None).unwrap();
    let mut sqs = [rig.nvme.create_sq(1, 2, 8).unwrap(), rig.nvme.create_sq(2, 2, 8).unwrap()];
    let data = rig.data(512);
    for left in (1..=2).rev() {
        let error = code(&rig, delete(admin_opcode::DELETE_CQ, 2));
        assert_eq!(error, Status::INVALID_QUEUE_DELETION);
        // Nothing was taken away.
        for (number, sq) in sqs[..left].iter_mut().enumerate() {
            sq.push(&read(&data, 0).cid(number as u16));
            sq.ring();
            let end = Instant::now() + devhost::PATIENCE;
            let completion = loop {
                if let Some(completion) = cq.pop() {
                    break completion;
                }
                assert!(Instant::now() < end);
            };
            cq.ring();
            assert_eq!((completion.cid, completion.sqid), (number as u16, sq.id()));
        }
        rig.nvme.delete_sq(left as u16).unwrap();
    }
    rig.nvme.delete_cq(2).unwrap();
    assert_eq!(code(&rig, delete(admin_opcode::DELETE_CQ, 2)), Status::INVALID_QUEUE_ID);
    assert_eq!(code(&rig, delete(admin_opcode::DELETE_SQ, 2)), Status::INVALID_QUEUE_ID);
}

/// Nothing is left of a Create that failed: the identifier is free, the
/// doorbells are nobody's, and the next Create is judged as if it were the
/// first.
#[test]
fn a_failed_create_leaves_nothing_behind() {
    let rig = Rig::new(Store::Ram, "");
    let at = rings(&rig);
    let bad_cq = [
        (create_cq(1, 0, at, 0, PC), Status::INVALID_QUEUE_SIZE),
        (create_cq(1, 7, at, 0, 0), Status::INVALID_FIELD),
        (create_cq(1, 7, at + 8, 0, PC), Status::PRP_OFFSET_INVALID),
        (create_cq(1, 7, RAM, 0, PC), Status::DATA_TRANSFER_ERROR),
        (create_cq(1, 2047, RAM - 4096, 0, PC), Status::DATA_TRANSFER_ERROR),
        (create_cq(1, 7, !0xfff, 0, PC), Status::DATA_TRANSFER_ERROR),
        (create_cq(1, 7, at, 17, PC | IEN), Status::INVALID_VECTOR),
        (create_cq(1, 7, at, 0xffff, PC | IEN), Status::INVALID_VECTOR),
    ];
    let bad_sq = [
        (create_sq(1, 0, at, 2, PC), Status::INVALID_QUEUE_SIZE),
        (create_sq(1, 7, at, 2, 0), Status::INVALID_FIELD),
        (create_sq(1, 7, at + 2048, 2, PC), Status::PRP_OFFSET_INVALID),
        (create_sq(1, 7, RAM, 2, PC), Status::DATA_TRANSFER_ERROR),
        (create_sq(1, 2047, RAM - 65536, 2, PC), Status::DATA_TRANSFER_ERROR),
        (create_sq(1, 7, at, 3, PC), Status::CQ_INVALID),
    ];
    rig.nvme.create_cq(2, 8, None).unwrap();
    for (entry, expected) in bad_cq {
        assert_eq!(code(&rig, entry), expected, "{entry:?}");
        assert_eq!(code(&rig, create_sq(1, 7, at, 1, PC)), Status::CQ_INVALID, "{entry:?}");
        let gone = code(&rig, delete(admin_opcode::DELETE_CQ, 1));
        assert_eq!(gone, Status::INVALID_QUEUE_ID, "{entry:?}");
    }
    for (entry, expected) in bad_sq {
        assert_eq!(code(&rig, entry), expected, "{entry:?}");
        let gone = code(&rig, delete(admin_opcode::DELETE_SQ, 1));
        assert_eq!(gone, Status::INVALID_QUEUE_ID, "{entry:?}");
    }
    let before = rig.errors();
    for at in [rig.nvme.sq_doorbell(1), rig.nvme.cq_doorbell(1)] {
        let event = rig.nvme.request_event().unwrap();
        rig.nvme.write32(at, 1);
        assert_eq!(rig.nvme.admin().wait(event).unwrap().dw0, 0x0001_0000, "no queue");
        rig.nvme.get_log(1, 0, 0, 64, false).unwrap();
    }
    assert_eq!(rig.errors(), before + 2);
    rig.nvme.delete_cq(2).unwrap();
    for seed in 0..3 {
        let pair = Arc::new(rig.pair(1, 8));
        works(&rig, &pair, seed);
        rig.nvme.delete_pair(&pair).unwrap();
    }
}

/// A vector that is not used is not looked at.
#[test]
fn a_queue_without_interrupts_may_name_any_vector() {
    let rig = Rig::new(Store::Ram, "");
    let at = rings(&rig);
    assert_eq!(code(&rig, create_cq(1, 7, at, 0xffff, PC)), Status::SUCCESS);
}

/// The phase is the controller's own: it starts at 1 whatever the memory
/// holds, in a queue that was deleted as in one that a reset took.
#[test]
fn a_queue_starts_anew_over_memory_that_was_not_cleared() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let at = rings(&rig);
        let data = rig.data(512);
        for lap in 0..12usize {
            let pair = Arc::new(pair_at(&rig, 1, 4, at).unwrap());
            // Ends in each place of the ring, with either phase.
            pair.stream(
                3,
                lap,
                |_| read(&data, 0),
                |_, completion| {
                    assert!(completion.status.is_success());
                },
            )
            .unwrap();
            works(&rig, &pair, lap as u64);
            assert!(pair.strays().is_empty());
            if lap % 2 == 0 {
                rig.nvme.delete_pair(&pair).unwrap();
            } else {
                rig.nvme.disable().unwrap();
                rig.enable();
            }
        }
    }
}

/// Entries that were not fetched when a queue went must not run in the next.
#[test]
fn what_was_left_in_a_queue_does_not_run_in_the_next() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let data = rig.data(512);
        for reset in [false, true] {
            let pair = rig.pair(1, 64);
            let disk = rig.data(512);
            disk.fill(0x11);
            pair.execute(write(&disk, 7)).unwrap();
            data.fill(0x22);
            let address = pair.raw(|sq, _| {
                for _ in 0..20 {
                    sq.push(&write(&data, 7).cid(999));
                }
                sq.address()
            });
            if reset {
                rig.nvme.disable().unwrap();
                rig.enable();
            } else {
                rig.nvme.delete_sq(1).unwrap();
                rig.nvme.delete_cq(1).unwrap();
            }
            let mut cq = rig.nvme.create_cq(1, 64, None).unwrap();
            assert_eq!(code(&rig, create_sq(1, 63, address, 1, PC)), Status::SUCCESS);
            // The first entry is the write and the one read below; what
            // follows it in memory are the old writes.
            rig.machine.write(address, &read(&disk, 7).cid(5).to_bytes());
            rig.nvme.write32(rig.nvme.sq_doorbell(1), 1);
            let end = Instant::now() + devhost::PATIENCE;
            while cq.pop().is_none() {
                assert!(Instant::now() < end);
                std::thread::yield_now();
            }
            devhost::rig::pause(Duration::from_millis(5));
            assert!(cq.pop().is_none(), "an old entry ran");
            assert_eq!(disk.to_vec(), [0x11; 512]);
            rig.nvme.delete_sq(1).unwrap();
            rig.nvme.delete_cq(1).unwrap();
        }
    }
}

/// A guest that never takes its completions stops its own queue and no other,
/// and gets rid of it.
#[test]
fn a_completion_queue_that_is_never_drained_holds_up_nobody_else() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let data = rig.data(512);
        let other = rig.interrupting_pair(2, 16);
        for reset in [false, true] {
            let _cq = rig.nvme.create_cq(1, 2, Some(1)).unwrap();
            let mut sq = rig.nvme.create_sq(1, 1, 64).unwrap();
            for cid in 0..50 {
                sq.push(&read(&data, 0).cid(cid));
            }
            sq.ring();
            for seed in 0..20 {
                works(&rig, &other, seed);
            }
            if reset {
                rig.nvme.shutdown(false).unwrap();
                rig.nvme.disable().unwrap();
                rig.enable();
                rig.interrupting_pair(2, 16).execute(read(&data, 0)).unwrap();
            } else {
                rig.nvme.delete_sq(1).unwrap();
                rig.nvme.delete_cq(1).unwrap();
            }
        }
    }
}

#[test]
fn several_submission_queues_share_one_completion_queue() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let data = rig.data(512);
        let mut cq = rig.nvme.create_cq(5, 6, Some(5)).unwrap();
        let mut sqs: Vec<SubmissionQueue> =
            (1..=4).map(|id| rig.nvme.create_sq(id, 5, 64).unwrap()).collect();
        for (number, sq) in sqs.iter_mut().enumerate() {
            for cid in 0..40 {
                sq.push(&read(&data, 0).cid(number as u16 * 100 + cid));
            }
        }
        for sq in &sqs {
            sq.ring();
        }
        let interrupts = rig.nvme.msix().interrupts().clone();
        let (mut seen, mut handled) = (std::collections::BTreeSet::new(), 0);
        while seen.len() < 160 {
            let now = interrupts.wait(5, handled, devhost::PATIENCE);
            assert!(now > handled, "no interrupt came; {} of 160 done", seen.len());
            handled = now;
            while let Some(completion) = cq.pop() {
                assert!(completion.status.is_success());
                assert_eq!(completion.cid / 100 + 1, completion.sqid);
                assert!(seen.insert(completion.cid), "twice: {}", completion.cid);
                cq.ring();
            }
        }
    }
}

/// Granted and maximum counts are kept apart: a guest gets what it asked for,
/// and all of them again after a reset.
#[test]
fn a_guest_gets_as_many_queues_as_it_asked_for() {
    let rig = Rig::new(Store::Ram, ",maxq=8");
    assert_eq!(rig.nvme.set_queue_count(3).unwrap(), (3, 3));
    let at = rings(&rig);
    assert_eq!(code(&rig, create_cq(4, 7, at, 0, PC)), Status::INVALID_QUEUE_ID);
    rig.pair(3, 8).execute(read(&rig.data(512), 0)).unwrap();
    let late = rig.nvme.set_queue_count(2);
    assert_eq!(late.err().and_then(|error: Error| error.code()), Some(Status::SEQUENCE_ERROR));
    rig.nvme.disable().unwrap();
    rig.enable();
    assert_eq!(rig.nvme.set_queue_count(500).unwrap(), (8, 8));
    rig.pair(8, 8).execute(read(&rig.data(512), 0)).unwrap();
}

/// Firmware, loader, kernel: each with queues of its own liking.
#[test]
fn queues_change_from_boot_phase_to_boot_phase() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        for boot in 0..15u64 {
            for (pairs, entries) in [(1, 2), (1, 256), (4, 1024), (16, 64)] {
                let made: Vec<Arc<QueuePair>> =
                    (1..=pairs).map(|id| Arc::new(rig.interrupting_pair(id, entries))).collect();
                for pair in &made {
                    works(&rig, pair, boot);
                }
                if entries == 256 {
                    // The loader leaves its queues to the next reset.
                } else {
                    made.iter().for_each(|pair| rig.nvme.delete_pair(pair).unwrap());
                }
                rig.nvme.disable().unwrap();
                rig.enable();
            }
        }
        let workers = u32::from(options.is_empty()) * 7 + 1;
        let made = rig.device.statistics().workers;
        assert!(made <= workers, "{made} workers");
    }
}
