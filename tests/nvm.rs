// SPDX-License-Identifier: BSD-2-Clause

//! The NVM command set through real queues, over memory and over a file.

use bhyve_nvme::backend::Backend;
use bhyve_nvme::backend::file::{self, OpenOptions};
use bhyve_nvme::backend::ram::Ram;
use bhyve_nvme::controller::Settings;
use bhyve_nvme::memory::{Region, Segment};
use devhost::bare::{Bare, Gate, GateHandle, Op, settings};
use devhost::bhyve::Machine;
use devhost::driver::{
    Completion, Data, Enable, Entry, Function, Memory, Nvme, QueuePair, Status, Wait, io_opcode,
};
use std::path::PathBuf;
use std::sync::Arc;

const MIB: u64 = 1 << 20;
const BLOCKS: u64 = 16 * MIB / 512;
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// SGL descriptor types.
const BUCKET: u8 = 0x10;
const SEGMENT: u8 = 0x20;
const LAST: u8 = 0x30;

struct Setup {
    memory: Arc<Memory>,
    nvme: Nvme,
}

impl Setup {
    fn new(settings: Settings, store: Arc<dyn Backend>) -> Setup {
        let machine = Machine::with_ram(64 * MIB);
        let memory = Memory::all(&machine);
        let function: Arc<dyn Function> = Bare::new(&machine, settings, store);
        let nvme = Nvme::new(function, &memory);
        nvme.enable(&Enable::default()).unwrap();
        Setup { memory, nvme }
    }

    fn gated() -> (Setup, GateHandle) {
        let (gate, handle) = Gate::new(16 * MIB);
        (Setup::new(settings(), Arc::new(gate)), handle)
    }

    fn pair(&self, id: u16, entries: u32) -> QueuePair {
        self.nvme.create_pair(id, entries, Some(id), Wait::Poll).unwrap()
    }

    fn data(&self, len: usize, value: u8) -> Data {
        let data = Data::new(&self.memory, len).unwrap();
        data.fill(value);
        data
    }

    /// `blocks` blocks from `lba` on.
    fn contents(&self, pair: &QueuePair, lba: u64, blocks: u32) -> Vec<u8> {
        let data = self.data(blocks as usize * 512, 0xee);
        pair.execute(Entry::read(1, lba, blocks, &data.prp().unwrap())).unwrap();
        data.to_vec()
    }
}

/// A file of the store's size that goes with the test.
struct Image(PathBuf);

impl Image {
    fn new(name: &str) -> Image {
        let name = format!("bhyve-nvme-{name}.{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, vec![0; 16 * MIB as usize]).unwrap();
        Image(path)
    }

    fn open(&self, options: &OpenOptions) -> Arc<dyn Backend> {
        Arc::new(file::open(&self.0, options).unwrap())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// What each test runs on: a RAM disk, whose small commands run on the vCPU's
/// thread, and a file with and without holes.
fn on_every_store(name: &str, test: impl Fn(&Setup, &QueuePair)) {
    let image = Image::new(name);
    let kept = OpenOptions { nodelete: true, ..OpenOptions::default() };
    let stores: [Arc<dyn Backend>; 3] = [
        Arc::new(Ram::new(16 * MIB).unwrap()),
        image.open(&OpenOptions::default()),
        image.open(&kept),
    ];
    for store in stores {
        let setup = Setup::new(settings(), store);
        let pair = setup.pair(1, 64);
        test(&setup, &pair);
    }
}

fn write(data: &Data, lba: u64) -> Entry {
    Entry::write(1, lba, (data.len() / 512) as u32, &data.prp().unwrap())
}

fn compare(data: &Data, lba: u64) -> Entry {
    Entry::on_blocks(io_opcode::COMPARE, 1, lba, (data.len() / 512) as u32)
        .prp(&data.prp().unwrap())
}

fn code(pair: &QueuePair, entry: Entry) -> u16 {
    pair.run(entry).unwrap().status.code()
}

#[test]
fn what_identify_says_of_the_commands() {
    let word = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let describe = |settings: Settings, store: Arc<dyn Backend>| {
        let setup = Setup::new(settings, store);
        let controller = setup.nvme.identify(1, 0).unwrap();
        let namespace = setup.nvme.identify(0, 1).unwrap();
        let sgls = u32::from_le_bytes(controller[536..540].try_into().unwrap());
        (word(&controller, 520), word(&controller, 522), sgls, namespace)
    };
    let image = Image::new("identify");
    let store = || image.open(&OpenOptions::default());
    let unit = store().geometry().deallocation_unit;

    let (oncs, fuses, sgls, namespace) = describe(settings(), store());
    assert_eq!(oncs, 0b1101_1101, "Compare, DSM, Write Zeroes, Save, Timestamp, Verify");
    assert_eq!(fuses, 1, "Compare and Write");
    assert_eq!(sgls, 1 | 1 << 16 | 1 << 18, "bytes, bit buckets, longer lists");
    assert_eq!(namespace[33], 0b1001, "zeroes, Deallocate in Write Zeroes");
    assert_eq!(namespace[24] & 1 << 4, 1 << 4, "NPWG to NOWS are set");
    for at in [64, 66, 68, 70, 72] {
        assert_eq!(u32::from(word(&namespace, at)) + 1, unit / 512, "byte {at}");
    }

    let (oncs, _, sgls, namespace) =
        describe(Settings { dsm: false, sgl: false, ..settings() }, store());
    assert_eq!(oncs, 0b1101_1001, "no DSM");
    assert_eq!(sgls, 0);
    assert_eq!(namespace[33], 0b0001);

    let kept = image.open(&OpenOptions { nodelete: true, ..OpenOptions::default() });
    let (oncs, _, _, namespace) = describe(settings(), kept);
    assert_eq!(oncs & 1 << 2, 1 << 2, "as it is set");
    assert_eq!(namespace[33], 0b0001, "but there is nothing that deallocates");
}

#[test]
fn zeroes_and_trimmed_blocks_read_as_zeroes() {
    on_every_store("zeroes", |setup, pair| {
        let pattern = setup.data(64 * 512, 0xa5);
        pair.execute(write(&pattern, 0)).unwrap();
        for (at, blocks, flags) in [(1, 3, 0), (9, 1, 1 << 25), (60, 4, 1 << 30)] {
            let zeroes = Entry::on_blocks(io_opcode::WRITE_ZEROES, 1, at, blocks);
            pair.execute(zeroes.word(12, flags | (blocks - 1))).unwrap();
        }
        let found = setup.contents(pair, 0, 64);
        for (block, bytes) in found.chunks(512).enumerate() {
            let zero = (1..4).contains(&block) || block == 9 || block >= 60;
            assert_eq!(bytes, [if zero { 0 } else { 0xa5 }; 512], "block {block}");
        }

        // Two ranges, one of them whole pages; the other one is 512 bytes of a
        // larger sector, and stays or goes.
        let list = setup.data(4096, 0);
        let range =
            |slba: u64, len: u32| [&[0; 4][..], &len.to_le_bytes(), &slba.to_le_bytes()].concat();
        list.write(&[range(16, 16), range(40, 1)].concat());
        let dsm = Entry::new(io_opcode::DATASET_MANAGEMENT)
            .nsid(1)
            .prp(&list.prp().unwrap())
            .word(10, 1)
            .word(11, 4);
        pair.execute(dsm).unwrap();
        let found = setup.contents(pair, 0, 64);
        for (block, bytes) in found.chunks(512).enumerate() {
            match block {
                1..4 | 9 | 60.. => assert_eq!(bytes, [0; 512], "block {block}"),
                16..32 | 40 => {
                    assert!([[0; 512], [0xa5; 512]].contains(&bytes.try_into().unwrap()))
                }
                _ => assert_eq!(bytes, [0xa5; 512], "block {block}"),
            }
        }
    });
}

#[test]
fn a_dataset_management_reaches_the_store_once_for_each_range() {
    let (setup, gate) = Setup::gated();
    let pair = setup.pair(1, 16);
    let list = Data::scattered(&setup.memory, 4096, 2048).unwrap();
    let ranges: Vec<u8> = (0..256u64)
        .flat_map(|n| [&[0; 4][..], &8u32.to_le_bytes(), &(n * 16).to_le_bytes()].concat())
        .collect();
    list.write(&ranges);
    let dsm = Entry::new(io_opcode::DATASET_MANAGEMENT)
        .nsid(1)
        .prp(&list.prp().unwrap())
        .word(10, 255)
        .word(11, 4);
    pair.execute(dsm).unwrap();
    let expected: Vec<Op> =
        (0..256).map(|n| Op::Deallocate { offset: n * 8192, len: 4096 }).collect();
    // Several at once: in no order.
    let mut log = gate.log();
    log.sort_by_key(|op| match op {
        Op::Deallocate { offset, .. } => *offset,
        _ => u64::MAX,
    });
    assert_eq!(log, expected);
}

#[test]
fn compare_and_verify_tell_what_is_there() {
    on_every_store("compare", |setup, pair| {
        let data = setup.data(300 * 512, 0x11);
        pair.execute(write(&data, 100)).unwrap();
        pair.execute(compare(&data, 100)).unwrap();
        let completion = pair.run(compare(&data, 99)).unwrap();
        assert_eq!(completion.status.code(), Status::COMPARE_FAILURE);
        assert!(completion.status.dnr());
        let whole = Entry::on_blocks(io_opcode::VERIFY, 1, 0, BLOCKS as u32);
        pair.execute(whole).unwrap();
        let beyond = Entry::on_blocks(io_opcode::VERIFY, 1, 1, BLOCKS as u32);
        assert_eq!(code(pair, beyond), Status::LBA_OUT_OF_RANGE);
    });
}

/// The same data by PRPs and by SGLs of several forms.
#[test]
fn sgls_move_what_prps_move() {
    on_every_store("sgl", |setup, pair| {
        let pattern: Vec<u8> = (0..8192u32).map(|n| (n * 7 % 253) as u8).collect();
        let data = setup.data(8192, 0);
        data.write(&pattern);
        let address = data.pages()[0];
        let write = Entry::on_blocks(io_opcode::WRITE, 1, 8, 16).sgl(0, address, 8192);
        pair.execute(write).unwrap();
        assert_eq!(setup.contents(pair, 8, 16), pattern);

        // In pieces of odd lengths, over two segments, some of it unwanted.
        let lists = setup.memory.alloc(8192).unwrap();
        let to = setup.data(16384, 0xee);
        let to_address = to.pages()[0];
        let descriptor = |identifier: u8, address: u64, len: u32| {
            let last = u32::from(identifier) << 24;
            [&address.to_le_bytes()[..], &len.to_le_bytes(), &last.to_le_bytes()].concat()
        };
        let first = [
            descriptor(0, to_address + 1, 1000),
            descriptor(BUCKET, 0, 1000),
            descriptor(LAST, lists.address() + 4096, 32),
        ];
        let second = [descriptor(0, to_address + 5000, 3), descriptor(0, to_address + 9001, 6189)];
        lists.write(0, &first.concat());
        lists.write(4096, &second.concat());
        let read =
            |len| Entry::on_blocks(io_opcode::READ, 1, 8, 16).sgl(SEGMENT, lists.address(), len);
        pair.execute(read(48)).unwrap();
        let found = to.to_vec();
        assert_eq!(found[1..1001], pattern[..1000]);
        assert_eq!(found[5000..5003], pattern[2000..2003]);
        assert_eq!(found[9001..15190], pattern[2003..]);
        let untouched = [0..1, 1001..5000, 5003..9001, 15190..16384];
        assert!(untouched.into_iter().all(|gap| found[gap].iter().all(|byte| *byte == 0xee)));

        assert_eq!(code(pair, read(47)), Status::SGL_SEGMENT_INVALID);
        let short = Entry::on_blocks(io_opcode::READ, 1, 8, 16).sgl(0, to_address, 8191);
        assert_eq!(code(pair, short), Status::SGL_DATA_LENGTH_INVALID);
    });
}

#[test]
fn without_sgls_they_are_refused_and_prps_work() {
    let store = Arc::new(Ram::new(16 * MIB).unwrap());
    let setup = Setup::new(Settings { sgl: false, ..settings() }, store);
    let pair = setup.pair(1, 16);
    let data = setup.data(512, 1);
    let sgl = Entry::on_blocks(io_opcode::READ, 1, 0, 1).sgl(0, data.pages()[0], 512);
    assert_eq!(code(&pair, sgl), Status::INVALID_FIELD);
    pair.execute(write(&data, 0)).unwrap();
    assert_eq!(setup.contents(&pair, 0, 1), [1; 512]);
}

/// Submits `entries` with one ring of the doorbell; their status codes.
fn together(pair: &QueuePair, entries: &[Entry]) -> Vec<u16> {
    let cids = pair.submit_all(entries).unwrap();
    cids.into_iter().map(|cid| pair.wait(cid).unwrap().status.code()).collect()
}

#[test]
fn compare_and_write_swaps_a_block_or_leaves_it() {
    on_every_store("fused", |setup, pair| {
        let (old, new) = (setup.data(512, 1), setup.data(512, 2));
        pair.execute(write(&old, 9)).unwrap();
        let fused = [compare(&old, 9).flags(FIRST), write(&new, 9).flags(SECOND)];
        assert_eq!(together(pair, &fused), [0, 0]);
        assert_eq!(setup.contents(pair, 9, 1), [2; 512]);
        let failed = [Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED];
        assert_eq!(together(pair, &fused), failed);
        assert_eq!(setup.contents(pair, 9, 1), [2; 512]);
    });
}

#[test]
fn halves_find_each_other_wherever_they_are_in_the_queue() {
    let (setup, _gate) = Setup::gated();
    let data = setup.data(512, 0);
    let fused = [compare(&data, 9).flags(FIRST), write(&data, 9).flags(SECOND)];
    let plain = compare(&data, 3);
    // Rings of every small size, so that pairs lie across their end, with more
    // or less between them.
    for entries in [3, 4, 5, 7, 32] {
        let pair = setup.pair(1, entries);
        for between in 0..9.min(entries as usize - 2) {
            for _ in 0..entries {
                let some = [vec![plain; between], fused.to_vec()].concat();
                assert_eq!(together(&pair, &some), vec![0; between + 2], "{entries} {between}");
            }
        }
        setup.nvme.delete_pair(&Arc::new(pair)).unwrap();
    }
    // More than one batch of them.
    let pair = setup.pair(1, 64);
    let many: Vec<Entry> =
        (0..20).flat_map(|n| [vec![plain; n % 3], fused.to_vec()].concat()).collect();
    assert_eq!(together(&pair, &many), vec![0; many.len()]);
}

#[test]
fn halves_that_miss_each_other_are_aborted_and_others_are_not() {
    const MISSING: u16 = Status::ABORTED_MISSING_FUSED;
    let (setup, gate) = Setup::gated();
    let pair = setup.pair(1, 32);
    let data = setup.data(512, 0);
    let first = compare(&data, 9).flags(FIRST);
    let second = write(&data, 9).flags(SECOND);
    let plain = compare(&data, 3);
    for (entries, expected) in [
        (vec![first], vec![MISSING]),
        (vec![second], vec![MISSING]),
        (vec![second, first], vec![MISSING, MISSING]),
        (vec![first, plain, second], vec![MISSING, 0, MISSING]),
        (vec![first, first, second], vec![MISSING, 0, 0]),
        (vec![first, second, second], vec![0, 0, MISSING]),
        (vec![first, write(&data, 9).flags(3)], vec![MISSING, Status::INVALID_FIELD]),
    ] {
        assert_eq!(together(&pair, &entries), expected, "{entries:?}");
    }
    let writes = gate.log().into_iter().filter(|op| matches!(op, Op::Write { .. })).count();
    assert_eq!(writes, 2);
}

/// Both halves need an entry of the completion queue. One that is full for the
/// moment delays them; one that never has room for two takes neither.
#[test]
fn fused_commands_wait_for_room_for_both() {
    let (setup, _gate) = Setup::gated();
    let data = setup.data(512, 0);
    let fused = [compare(&data, 9).flags(FIRST), write(&data, 9).flags(SECOND)];
    for (entries, expected) in [(3, 0), (4, 0), (2, Status::ABORTED_MISSING_FUSED)] {
        let mut cq = setup.nvme.create_cq(1, entries, Some(1)).unwrap();
        let mut sq = setup.nvme.create_sq(1, 1, 64).unwrap();
        let mut pushed: u16 = 0;
        for _ in 0..10 {
            for entry in [compare(&data, 3), fused[0], fused[1]] {
                sq.push(&entry.cid(pushed));
                pushed += 1;
            }
        }
        sq.ring();
        let end = std::time::Instant::now() + devhost::PATIENCE;
        let mut done: Vec<Completion> = Vec::new();
        while done.len() < usize::from(pushed) {
            assert!(std::time::Instant::now() < end, "stuck after {}", done.len());
            // One at a time: room for one is no room for both.
            match cq.pop() {
                Some(completion) => {
                    done.push(completion);
                    cq.ring();
                }
                None => std::thread::yield_now(),
            }
        }
        done.sort_by_key(|completion| completion.cid);
        for (completion, cid) in done.iter().zip(0..) {
            assert_eq!(completion.cid, cid);
            let half = cid % 3 != 0;
            assert_eq!(completion.status.code(), if half { expected } else { 0 });
        }
        setup.nvme.delete_sq(1).unwrap();
        setup.nvme.delete_cq(1).unwrap();
    }
}

/// While the halves are between each other, a write of the block waits, and one
/// of another place does not.
#[test]
fn nobody_writes_between_the_halves() {
    let (setup, gate) = Setup::gated();
    let pair = setup.pair(1, 16);
    let other = setup.pair(2, 16);
    let data = setup.data(512, 0);
    gate.close();
    let halves =
        pair.submit_all(&[compare(&data, 9).flags(FIRST), write(&data, 9).flags(SECOND)]).unwrap();
    // The Compare reads.
    assert_eq!(gate.wait_inside(1), 1);
    let same = other.submit(write(&data, 9)).unwrap();
    let elsewhere = other.submit(write(&data, BLOCKS - 1)).unwrap();
    let wait = |count| assert_eq!(gate.wait_inside(count), count);
    wait(2);
    let writes = |log: &[Op], lba: u64| {
        let here = |op: &&Op| matches!(op, Op::Write { offset, .. } if *offset == lba * 512);
        log.iter().filter(here).count()
    };
    assert_eq!(writes(&gate.log(), BLOCKS - 1), 1, "the other place is written");
    assert_eq!(writes(&gate.log(), 9), 0, "nobody has written the block");
    gate.open();
    for (pair, cid) in [(&pair, halves[0]), (&pair, halves[1]), (&other, same), (&other, elsewhere)]
    {
        assert!(pair.wait(cid).unwrap().status.is_success());
    }
    assert_eq!(writes(&gate.log(), 9), 2);
}

/// Errors of these commands are in the log, with their block.
#[test]
fn failures_are_logged() {
    let (setup, _gate) = Setup::gated();
    let pair = setup.pair(1, 16);
    let data = setup.data(512, 9);
    assert_eq!(code(&pair, compare(&data, 77)), Status::COMPARE_FAILURE);
    let log = setup.nvme.get_log(1, 0, 0, 64, false).unwrap();
    assert_eq!(u16::from_le_bytes([log[12], log[13]]) >> 1 & 0x7ff, Status::COMPARE_FAILURE);
    assert_eq!(u64::from_le_bytes(log[16..24].try_into().unwrap()), 77);
}

/// Blocks of every size that there is, over each other, from segments that end
/// within a block: each is read as one of its writers left it.
#[test]
fn a_block_of_a_ram_disk_is_never_read_in_two_halves() {
    const ROUNDS: u32 = 3000;
    /// What the store copies under one version.
    const CHUNK: u64 = 16384;
    let split = |region: &Region, len: usize| -> [Segment; 2] {
        let part = |from, len| region.segment().slice(from, len).unwrap();
        [part(0, 300), part(512, len - 300)]
    };
    for block in [512, 4096, 8192] {
        // In the middle of a chunk, and at the end of one.
        for offset in [block as u64, CHUNK - block as u64] {
            let ram = Ram::new(4 * CHUNK).unwrap();
            std::thread::scope(|scope| {
                for value in 1..=2u8 {
                    let ram = &ram;
                    scope.spawn(move || {
                        let own = Region::zeroed(3 * 8192).unwrap();
                        own.segment().write(&[value; 3 * 8192]).unwrap();
                        for round in 0..ROUNDS {
                            match round % 8 {
                                0 => ram.write_zeroes(offset, block as u64, round > 99),
                                // The block, and the one after it.
                                1 => ram.write(offset, &split(&own, 2 * block), false),
                                _ => ram.write(offset, &split(&own, block), false),
                            }
                            .unwrap();
                        }
                    });
                }
                let own = Region::zeroed(3 * 8192).unwrap();
                let mut bytes = vec![0; block];
                for round in 0..ROUNDS {
                    let to = split(&own, block);
                    ram.read(offset, &to).unwrap();
                    let (first, second) = bytes.split_at_mut(300);
                    to[0].read(first).unwrap();
                    to[1].read(second).unwrap();
                    let whole = bytes[0] <= 2 && bytes.iter().all(|byte| *byte == bytes[0]);
                    assert!(whole, "round {round}: {block} bytes at {offset}");
                }
            });
        }
    }
}
