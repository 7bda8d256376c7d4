// SPDX-License-Identifier: BSD-2-Clause

//! What every store has to do.

use super::subject::{Disk, Subject};
use devhost::driver::{Data, Enable, Entry, QueuePair, Status};
use devhost::rig::{pattern, pause};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const NAMESPACE_CHANGED: u32 = 0x0004_0002;
const OPCODE_WRITE_ZEROES: u8 = 0x08;
const OPCODE_DATASET_MANAGEMENT: u8 = 0x09;
const DEALLOCATE: u32 = 1 << 2;
const WRITE_PROTECTED: u16 = 0x20;

/// A check of one store, whose controllers have just been enabled; it panics if
/// that does not pass.
type Check = fn(&Subject);

/// Each with its name, in the order in which they run.
pub(crate) const CHECKS: [(&str, Check); 9] = [
    ("what is written is read back, whatever the segments", segments),
    ("two queues at once", two_queues),
    ("flush, force unit access and write cache off", durable),
    ("zeroes, and nothing beside them", zeroes),
    ("trim, and nothing beside it", trim),
    ("the end", the_end),
    ("the size changes", size_changes),
    ("read-only", read_only),
    ("shutdown and reset", shutdown),
];

fn write(disk: &Disk, pair: &QueuePair, data: &Data, lba: u64) {
    assert_eq!(disk.write(pair, data, lba, false), 0, "write of {} at {lba}", data.len());
}

fn read(disk: &Disk, pair: &QueuePair, data: &Data, lba: u64) {
    assert_eq!(disk.read(pair, data, lba), 0, "read of {} at {lba}", data.len());
}

/// `len` bytes that another call finds again.
fn put(disk: &Disk, pair: &QueuePair, lba: u64, len: usize, seed: u64) -> Vec<u8> {
    let data = disk.data(len);
    let bytes = pattern(len, seed);
    data.write(&bytes);
    write(disk, pair, &data, lba);
    bytes
}

fn get(disk: &Disk, pair: &QueuePair, lba: u64, len: usize) -> Vec<u8> {
    let data = disk.data(len);
    data.fill(0xee);
    read(disk, pair, &data, lba);
    data.to_vec()
}

/// Among them those that a disk device refuses: segments that are no multiple
/// of a sector, as of a buffer that starts four bytes into a page.
fn segments(subject: &Subject) {
    let disk = &subject.writer;
    let pair = disk.pair(1);
    let block = disk.block();
    let mut n = 0;
    for blocks in [1, 2, 3, 8, 31, 32, 33, 64, 256, 512] {
        let len = blocks * block;
        if len as u64 > 2 * MIB {
            continue;
        }
        for offset in [0, 4, 512, 2048, 4092] {
            n += 1;
            let bytes = pattern(len, n);
            for data in [disk.scattered(len, offset), disk.data(len)] {
                data.fill(0x11);
                data.write(&bytes);
                write(disk, &pair, &data, n);
                data.fill(0xee);
                read(disk, &pair, &data, n);
                assert!(data.to_vec() == bytes, "{len} bytes at byte {offset} of a page");
            }
            let data = disk.scattered(len, offset);
            data.fill(0xee);
            read(disk, &pair, &data, n);
            assert!(data.to_vec() == bytes, "{len} scattered bytes at byte {offset}");
            assert_eq!(data.spilt(0xee), 0, "{len} bytes at byte {offset}");
        }
    }
    // As long as a command can be, from anywhere in a page.
    for offset in [0, 4] {
        let len = 2 * MIB as usize;
        let data = disk.scattered(len, offset);
        let bytes = pattern(len, 99);
        data.write(&bytes);
        write(disk, &pair, &data, 8);
        data.fill(0);
        read(disk, &pair, &data, 8);
        assert!(data.to_vec() == bytes, "2 MiB at byte {offset}");
    }
}

fn two_queues(subject: &Subject) {
    let disk = &subject.writer;
    let block = disk.block() as u64;
    std::thread::scope(|scope| {
        for id in [1, 2] {
            scope.spawn(move || {
                let pair = disk.pair(id);
                // Each has four MiB of its own.
                let base = u64::from(id) * 4 * MIB / block;
                let len = 16 * block as usize;
                let (out, back) = (disk.scattered(len, 4), disk.data(len));
                for n in 0..64 {
                    let bytes = pattern(len, n + u64::from(id) * 1000);
                    out.write(&bytes);
                    let lba = base + n * 16;
                    assert_eq!(disk.write(&pair, &out, lba, n % 8 == 0), 0);
                    assert_eq!(disk.read(&pair, &back, lba), 0);
                    assert!(back.to_vec() == bytes, "queue {id}, block {lba}");
                }
            });
        }
    });
}

fn durable(subject: &Subject) {
    const WRITE_CACHE: u8 = 0x06;
    let disk = &subject.writer;
    let pair = disk.pair(1);
    pair.execute(Entry::flush(1)).unwrap();
    let data = disk.scattered(8 * disk.block(), 0);
    let bytes = pattern(data.len(), 7);
    data.write(&bytes);
    assert_eq!(disk.write(&pair, &data, 3, true), 0);
    pair.execute(Entry::flush(u32::MAX)).unwrap();
    assert!(get(disk, &pair, 3, data.len()) == bytes);

    assert_eq!(disk.nvme.identify(1, 0).unwrap()[525] & 1, 1, "a volatile write cache");
    disk.nvme.set_feature(WRITE_CACHE, 0, 0).unwrap();
    write(disk, &pair, &data, 40);
    disk.nvme.set_feature(WRITE_CACHE, 1, 0).unwrap();
    assert!(get(disk, &pair, 40, data.len()) == bytes);
}

fn zeroes(subject: &Subject) {
    let disk = &subject.writer;
    let pair = disk.pair(1);
    let block = disk.block();
    for deallocate in [0, 1 << 25] {
        let before = put(disk, &pair, 1000, 64 * block, 5);
        // Blocks 1007 to 1047, no unit of any store.
        let entry = Entry::on_blocks(OPCODE_WRITE_ZEROES, 1, 1007, 41);
        pair.execute(entry.word(12, 40 | deallocate)).unwrap();
        let after = get(disk, &pair, 1000, 64 * block);
        assert!(after[..7 * block] == before[..7 * block]);
        assert!(after[7 * block..48 * block].iter().all(|byte| *byte == 0));
        assert!(after[48 * block..] == before[48 * block..]);
    }
}

/// What is trimmed is as before or zero, block by block; all else is as before.
fn trim(subject: &Subject) {
    let disk = &subject.writer;
    if disk.nvme.identify(1, 0).unwrap()[520] & 1 << 2 == 0 {
        println!("        not offered on {}", subject.path);
        return;
    }
    let pair = disk.pair(1);
    let block = disk.block();
    let len = 512 * block;
    let mut freed = 0;
    for (at, count) in [(0, 512), (1, 1), (7, 300), (8, 256), (511, 1)] {
        let before = put(disk, &pair, 2048, len, at as u64);
        let list = disk.data(4096);
        let mut range = [0; 16];
        range[4..8].copy_from_slice(&(count as u32).to_le_bytes());
        range[8..].copy_from_slice(&(2048 + at as u64).to_le_bytes());
        list.write(&range);
        let entry = Entry::new(OPCODE_DATASET_MANAGEMENT).nsid(1).prp(&list.prp().unwrap());
        pair.execute(entry.word(10, 0).word(11, DEALLOCATE)).unwrap();
        let after = get(disk, &pair, 2048, len);
        for (n, (was, is)) in before.chunks(block).zip(after.chunks(block)).enumerate() {
            let zero = (at..at + count).contains(&n) && is.iter().all(|byte| *byte == 0);
            freed += usize::from(zero);
            assert!(zero || was == is, "block {n} of {count} at {at}");
        }
    }
    println!("        {freed} blocks of {} were zero after TRIM", subject.path);
    // The last blocks, and what is behind them.
    let blocks = disk.size() / block as u64;
    for (slba, count, code) in [
        (blocks - 64, 64, 0),
        (blocks - 64, 65, Status::LBA_OUT_OF_RANGE),
        (u64::MAX, 1, Status::LBA_OUT_OF_RANGE),
    ] {
        let list = disk.data(4096);
        let mut range = [0; 16];
        range[4..8].copy_from_slice(&u32::to_le_bytes(count));
        range[8..].copy_from_slice(&u64::to_le_bytes(slba));
        list.write(&range);
        let entry = Entry::new(OPCODE_DATASET_MANAGEMENT).nsid(1).prp(&list.prp().unwrap());
        let status = pair.run(entry.word(10, 0).word(11, DEALLOCATE)).unwrap().status;
        assert_eq!(status.code(), code, "{count} at {slba}");
    }
}

fn the_end(subject: &Subject) {
    let disk = &subject.writer;
    let pair = disk.pair(1);
    let block = disk.block();
    let size = disk.size();
    assert!(size >= 16 * MIB, "{size} bytes");
    let blocks = size / block as u64;
    let bytes = put(disk, &pair, blocks - 4, 4 * block, 3);
    assert!(get(disk, &pair, blocks - 4, 4 * block) == bytes);
    let data = disk.data(4 * block);
    for lba in [blocks - 3, blocks, blocks + 1000, u64::MAX - 3] {
        assert_eq!(disk.read(&pair, &data, lba), Status::LBA_OUT_OF_RANGE, "{lba}");
        assert_eq!(disk.write(&pair, &data, lba, true), Status::LBA_OUT_OF_RANGE, "{lba}");
    }
    assert!(get(disk, &pair, blocks - 4, 4 * block) == bytes);
}

/// Says that it is over, however that comes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Larger, smaller, and back, with reads on another queue all the while.
fn size_changes(subject: &Subject) {
    if !subject.can_resize() {
        println!("        {} keeps its size", subject.path);
        return;
    }
    let disk = &subject.writer;
    let pair = disk.pair(1);
    let block = disk.block();
    let first = disk.size();
    disk.nvme.set_feature(0x0b, 1 << 8, 0).unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&end);
        scope.spawn(|| {
            let pair = disk.pair(2);
            let data = disk.scattered(16 * block, 4);
            let mut lba = 0;
            while !end.load(Ordering::Relaxed) {
                let code = disk.read(&pair, &data, lba);
                assert!(matches!(code, 0 | Status::LBA_OUT_OF_RANGE), "block {lba}: {code:#x}");
                lba = (lba + 1117) % (first / block as u64 + 4096);
            }
        });
        for bytes in [first + 16 * MIB, first - 8 * MIB, first] {
            let request = disk.nvme.request_event().unwrap();
            subject.resize(bytes);
            let begun = Instant::now();
            while disk.size() != bytes && begun.elapsed() < devhost::PATIENCE {
                pause(Duration::from_millis(50));
            }
            assert_eq!(disk.size(), bytes);
            let event = disk.nvme.admin().wait(request).unwrap();
            assert_eq!(event.dw0, NAMESPACE_CHANGED);
            assert_eq!(disk.nvme.get_log(4, 0, 0, 4096, false).unwrap()[..4], [1, 0, 0, 0]);
            let last = bytes / block as u64 - 1;
            let written = put(disk, &pair, last, block, bytes);
            assert!(get(disk, &pair, last, block) == written);
            assert_eq!(disk.read(&pair, &disk.data(block), last + 1), Status::LBA_OUT_OF_RANGE);
        }
    });
}

fn read_only(subject: &Subject) {
    let (disk, writer) = (&subject.reader, &subject.writer);
    let (pair, other) = (disk.pair(1), writer.pair(1));
    let block = disk.block();
    assert_eq!(block, writer.block());
    let written = put(writer, &other, 100, 32 * block, 11);
    assert!(get(disk, &pair, 100, 32 * block) == written);
    let data = disk.data(8 * block);
    for fua in [false, true] {
        assert_eq!(disk.write(&pair, &data, 100, fua), WRITE_PROTECTED);
    }
    let zero = Entry::on_blocks(OPCODE_WRITE_ZEROES, 1, 100, 8);
    assert_eq!(pair.run(zero).unwrap().status.code(), WRITE_PROTECTED);
    pair.execute(Entry::flush(1)).unwrap();
    assert!(get(writer, &other, 100, 32 * block) == written);
}

fn shutdown(subject: &Subject) {
    let disk = &subject.writer;
    let pair = disk.pair(1);
    let written = put(disk, &pair, 50, 16 * disk.block(), 13);
    drop(pair);
    disk.nvme.shutdown(false).unwrap();
    disk.nvme.disable().unwrap();
    disk.nvme.enable(&Enable::default()).unwrap();
    let pair = disk.pair(1);
    assert!(get(disk, &pair, 50, written.len()) == written);
}
