// SPDX-License-Identifier: BSD-2-Clause

//! Reads, writes and flushes at the edges of what they take.

use devhost::driver::{Data, Entry, Prp, QueuePair, Status, io_opcode};
use devhost::faults::{Fault, Kind};
use devhost::rig::{DISK, Rig, STORES, Store, pattern, read, write};
use std::fs::OpenOptions;

const BLOCKS: u64 = DISK / 512;

fn code(pair: &QueuePair, entry: Entry) -> u16 {
    pair.run(entry).unwrap().status.code()
}

#[test]
fn the_namespace_ends_where_it_ends() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        assert_eq!(rig.nvme.namespace(1).unwrap().blocks, BLOCKS);
        let pair = rig.pair(1, 8);
        let data = rig.data(8192);
        let prp = data.prp().unwrap();
        for opcode in [io_opcode::READ, io_opcode::WRITE] {
            let transfer = |lba: u64, blocks: u32| {
                Entry::new(opcode).nsid(1).prp(&prp).long(10, lba).word(12, blocks - 1)
            };
            for (lba, blocks) in [(0, 16), (BLOCKS - 1, 1), (BLOCKS - 16, 16)] {
                assert_eq!(code(&pair, transfer(lba, blocks)), Status::SUCCESS, "{lba} {blocks}");
            }
            for (lba, blocks) in [
                (BLOCKS, 1),
                (BLOCKS - 1, 2),
                (BLOCKS - 15, 16),
                (BLOCKS + 1, 1),
                (1 << 32, 1),
                (1 << 55, 1),
                (1 << 63, 8),
                (u64::MAX, 1),
                (u64::MAX - 7, 8),
                (u64::MAX, 16),
            ] {
                let completion = pair.run(transfer(lba, blocks)).unwrap();
                let status = completion.status;
                assert_eq!(status.code(), Status::LBA_OUT_OF_RANGE, "{lba:#x} {blocks}");
                assert!(status.dnr());
            }
            // The longest that can be said is more than MDTS, wherever it is.
            for lba in [0, BLOCKS - 1, u64::MAX] {
                assert_eq!(code(&pair, transfer(lba, 65536)), Status::INVALID_FIELD, "{lba:#x}");
            }
        }
        if store == Store::File {
            assert_eq!(std::fs::metadata(rig.path()).unwrap().len(), DISK, "the file grew");
        }
    }
}

#[test]
fn transfers_end_at_two_mebibytes() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let most = Data::scattered(&rig.memory, 2 << 20, 512).unwrap();
        let bytes = pattern(2 << 20, 9);
        most.write(&bytes);
        pair.execute(write(&most, 1)).unwrap();
        most.fill(0x11);
        pair.execute(read(&most, 1)).unwrap();
        assert!(most.to_vec() == bytes);
        assert_eq!(most.spilt(0x11), 0);
        let prp = most.prp().unwrap();
        for blocks in [4097, 4104, 65536] {
            for entry in [Entry::read(1, 0, blocks, &prp), Entry::write(1, 0, blocks, &prp)] {
                assert_eq!(code(&pair, entry), Status::INVALID_FIELD, "{blocks}");
            }
        }
    }
}

#[test]
fn there_is_one_namespace() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let data = rig.data(512);
        for nsid in [0, 2, 0x1_0001, 0xffff_fffe, 0xffff_ffff] {
            for entry in [read(&data, 0), write(&data, 0)] {
                let status = code(&pair, entry.nsid(nsid));
                assert_eq!(status, Status::INVALID_NAMESPACE, "{nsid:#x}");
            }
        }
        for nsid in [0, 2, 0xffff_fffe] {
            assert_eq!(code(&pair, Entry::flush(nsid)), Status::INVALID_NAMESPACE, "{nsid:#x}");
        }
        for nsid in [1, 0xffff_ffff] {
            pair.execute(Entry::flush(nsid)).unwrap();
        }
    }
}

#[test]
fn unknown_opcodes_and_fused_commands_are_refused() {
    let rig = Rig::new(Store::Ram, "");
    let pair = rig.pair(1, 64);
    let known = [io_opcode::FLUSH, io_opcode::WRITE, io_opcode::READ];
    // Compare, Write Zeroes, Dataset Management and Verify.
    let others = [0x05, 0x08, 0x09, 0x0c];
    for opcode in (0..=255).filter(|opcode| !known.contains(opcode) && !others.contains(opcode)) {
        let status = pair.run(Entry::new(opcode).nsid(1)).unwrap().status;
        assert_eq!(status.code(), Status::INVALID_OPCODE, "{opcode:#x}");
        assert!(status.dnr());
    }
    for opcode in known {
        // Neither is fused with anything, and a segment of metadata is none.
        const MISSING_FUSED: u16 = 0x0a;
        for (flags, expected) in [
            (0x01, MISSING_FUSED),
            (0x02, MISSING_FUSED),
            (0x03, Status::INVALID_FIELD),
            (0x80, Status::INVALID_FIELD),
            (0xc0, Status::INVALID_FIELD),
        ] {
            let entry = Entry::new(opcode).nsid(1).flags(flags).prp(&Prp::raw(4096, 0));
            assert_eq!(code(&pair, entry), expected, "{opcode:#x} {flags:#x}");
        }
    }
}

/// The file is cut while the device has it open: what is gone is an error, not
/// what the guest's buffer held before.
#[test]
fn a_read_past_a_truncated_file_is_out_of_range() {
    for options in ["", ",ioslots=1"] {
        let rig = Rig::new(Store::File, options);
        let pair = rig.pair(1, 8);
        let data = rig.data(4096);
        data.fill(0x66);
        pair.execute(write(&data, 1000)).unwrap();
        let file = OpenOptions::new().write(true).open(rig.path()).unwrap();
        file.set_len(1002 * 512).unwrap();
        data.fill(0x77);
        let completion = pair.run(read(&data, 1000)).unwrap();
        assert_eq!(completion.status.code(), Status::LBA_OUT_OF_RANGE);
        let newest = rig.error_log(1)[0];
        assert_eq!((newest.code, newest.lba), (Status::LBA_OUT_OF_RANGE, 1000));
        // What is still there is.
        let part = rig.data(1024);
        pair.execute(read(&part, 1000)).unwrap();
        assert_eq!(part.to_vec(), [0x66; 1024]);
        // And nothing is written where the store is not.
        let completion = pair.run(write(&data, 1010)).unwrap();
        assert!(!completion.status.is_success());
        assert_eq!(std::fs::metadata(rig.path()).unwrap().len(), 1002 * 512);
    }
}

#[test]
fn a_read_only_store_refuses_writes_and_nothing_else() {
    for options in [",ro", ",ro,ioslots=1"] {
        let rig = Rig::new(Store::File, options);
        assert_eq!(rig.nvme.identify(0, 1).unwrap()[99], 1, "NSATTR: write protected");
        let pair = rig.pair(1, 8);
        let data = rig.data(4096);
        for entry in [write(&data, 0), write(&data, 0).fua()] {
            let status = pair.run(entry).unwrap().status;
            // Namespace is Write Protected.
            assert_eq!(status.code(), 0x20);
            assert!(status.dnr());
        }
        pair.execute(read(&data, 0)).unwrap();
        pair.execute(Entry::flush(1)).unwrap();
        rig.nvme.shutdown(false).unwrap();
    }
}

/// The in-tree block layer runs a request only after the one it follows on.
#[test]
fn neighbours_are_not_serialised() {
    for store in [Store::Ram, Store::File] {
        let rig = Rig::faulty(store, "");
        let pair = rig.pair(1, 16);
        let data = rig.data(4096);
        rig.faults.set(&[Fault::always(Kind::Never).at(8..16)]);
        let held = pair.submit(write(&data, 8)).unwrap();
        assert_eq!(rig.faults.wait_stuck(1), 1);
        // Before it, after it, and both again.
        for lba in [0, 16, 0, 16] {
            pair.execute(write(&data, lba)).unwrap();
            pair.execute(read(&data, lba)).unwrap();
        }
        assert!(pair.take(held).is_none());
        rig.faults.clear();
        assert!(pair.wait(held).unwrap().status.is_success());
    }
}

/// A vCPU that submits more than there are slots goes on at once; what waits
/// runs when a slot is free.
#[test]
fn more_commands_than_slots_wait_for_them_and_the_vcpu_does_not() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        let slots = if options.is_empty() { 8 } else { 1 };
        let pairs = [rig.pair(1, 64), rig.pair(2, 64)];
        let data = rig.data(512);
        rig.faults.set(&[Fault::always(Kind::Never)]);
        let mut waiting = Vec::new();
        for pair in &pairs {
            for n in 0..60 {
                waiting.push((pair, pair.submit(read(&data, n)).unwrap()));
            }
        }
        assert_eq!(rig.faults.wait_stuck(slots), slots);
        rig.faults.clear();
        for (pair, cid) in waiting {
            assert!(pair.wait(cid).unwrap().status.is_success());
        }
        let peak = rig.device.statistics().peak_in_backend;
        assert_eq!(peak as usize, slots);
    }
}

/// Every length there is, in memory that was not aligned to anything but four.
#[test]
fn what_is_written_is_read_back_at_every_length() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.interrupting_pair(1, 8);
        for blocks in (1..=33).chain([63, 64, 65, 127, 255, 256, 257, 1023, 1024, 2047, 4095]) {
            let len = blocks * 512;
            let data = Data::scattered(&rig.memory, len, 4 * (blocks % 1024)).unwrap();
            let bytes = pattern(len, blocks as u64);
            data.fill(0x99);
            data.write(&bytes);
            pair.execute(write(&data, blocks as u64)).unwrap();
            data.fill(0x66);
            pair.execute(read(&data, blocks as u64)).unwrap();
            assert!(data.to_vec() == bytes, "{blocks}");
            assert_eq!(data.spilt(0x66), 0, "{blocks}");
        }
    }
}
