// SPDX-License-Identifier: BSD-2-Clause

//! Where a command's data is said to be. The arithmetic of lists is tested
//! where it is done; here it is what a guest can point to.

use devhost::bhyve::Bar;
use devhost::driver::{Data, Entry, PAGE, Prp, QueuePair, Status};
use devhost::rig::{RAM, Rig, STORES, Store, pattern, read, write};
use std::sync::atomic::{AtomicBool, Ordering};

/// A read or write of `blocks` blocks of 512 bytes at `lba`.
fn transfer(is_read: bool, lba: u64, blocks: u32, prp: &Prp) -> Entry {
    if is_read { Entry::read(1, lba, blocks, prp) } else { Entry::write(1, lba, blocks, prp) }
}

fn code(pair: &QueuePair, entry: Entry) -> u16 {
    pair.run(entry).unwrap().status.code()
}

/// The guest address of a BAR.
fn bar_address(rig: &Rig, bar: usize) -> u64 {
    let low = u64::from(rig.device.cfg_read(0x10 + 4 * bar, 4));
    match rig.device.bar_info(bar) {
        Bar::Memory64(_) => u64::from(rig.device.cfg_read(0x14 + 4 * bar, 4)) << 32 | (low & !0xf),
        Bar::Memory32(_) => low & !0xf,
        Bar::None => panic!("no BAR {bar}"),
    }
}

/// Addresses that are no memory: the device's own registers and MSI-X table,
/// another device's, a ROM, the hole below 4 GiB, the end of memory, nothing.
fn nowhere(rig: &Rig) -> Vec<u64> {
    vec![
        bar_address(rig, 0),
        bar_address(rig, 0) + 0x1000,
        bar_address(rig, 4),
        bar_address(rig, 0) + 0x10_0000,
        0xffff_f000,
        0xc000_0000,
        RAM,
        RAM + (1 << 40),
        !0xfff,
    ]
}

/// Address 0 is memory, in which firmware's first buffers may lie.
#[test]
fn a_pointer_of_0_is_memory_like_any_other() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let data = rig.data(4096);
        let bytes = pattern(4096, 1);
        data.write(&bytes);
        pair.execute(write(&data, 3)).unwrap();
        let mut page = vec![0; 4096];
        pair.execute(Entry::read(1, 3, 8, &Prp::raw(0, 0))).unwrap();
        rig.machine.read(0, &mut page);
        assert!(page == bytes);
        // As the second pointer, and in a list.
        rig.machine.write(0, &[0; 4096]);
        let second = Prp::raw(data.pages()[0] + 512, 0);
        pair.execute(Entry::read(1, 2, 8, &second)).unwrap();
        rig.machine.read(0, &mut page);
        assert!(page[..512] == bytes[3072..3584]);
        let big = rig.data(3 * 4096);
        let list = Prp::list(&rig.memory, big.pages()[0], &[0, big.pages()[2]], 0).unwrap();
        pair.execute(Entry::read(1, 0, 24, &list)).unwrap();
    }
}

#[test]
fn what_is_misaligned_is_refused() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let data = rig.data(4 * 4096);
        let pages = data.pages();
        data.fill(0x5a);
        for is_read in [false, true] {
            for low in [1, 2, 3, 511] {
                let entry = transfer(is_read, 0, 1, &Prp::raw(pages[0] + low, 0));
                assert_eq!(code(&pair, entry), Status::PRP_OFFSET_INVALID, "{low}");
            }
            for low in [1, 4, 8, 512, 4092] {
                let entry = transfer(is_read, 0, 16, &Prp::raw(pages[0], pages[1] + low));
                assert_eq!(code(&pair, entry), Status::PRP_OFFSET_INVALID, "second {low}");
                let rest = [pages[1], pages[2] + low];
                let list = Prp::list(&rig.memory, pages[0], &rest, 0).unwrap();
                let entry = transfer(is_read, 0, 24, &list);
                assert_eq!(code(&pair, entry), Status::PRP_OFFSET_INVALID, "in a list {low}");
            }
            for low in [1, 2, 4, 7] {
                let list = Prp::list(&rig.memory, pages[0], &pages[1..3], 0).unwrap();
                let entry = transfer(is_read, 0, 24, &Prp::raw(list.prp1, list.prp2 + low));
                assert_eq!(code(&pair, entry), Status::PRP_OFFSET_INVALID, "list at {low}");
            }
        }
        assert_eq!(data.to_vec(), vec![0x5a; 4 * 4096]);
        pair.execute(read(&data, 0)).unwrap();
        assert_eq!(data.to_vec(), vec![0; 4 * 4096], "a refused write reached the store");
    }
}

#[test]
fn what_is_no_memory_is_refused_and_not_touched() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let data = rig.data(4 * 4096);
        let pages = data.pages();
        let registers: Vec<u64> = (0..0x40).step_by(8).map(|at| rig.nvme.read64(at)).collect();
        data.fill(0x5a);
        for is_read in [false, true] {
            for bad in nowhere(&rig) {
                let mut prps = vec![
                    (1, Prp::raw(bad, 0)),
                    (16, Prp::raw(pages[0], bad)),
                    (24, Prp::raw(pages[0], bad)),
                    (24, Prp::raw(pages[0], bad + 4088)),
                ];
                for rest in [[bad, pages[2]], [pages[1], bad]] {
                    prps.push((24, Prp::list(&rig.memory, pages[0], &rest, 0).unwrap()));
                }
                // A chain that leads nowhere.
                let chained = Prp::list(&rig.memory, pages[0], &pages[1..3], 4088).unwrap();
                chained.lists()[0].write(4088, &bad.to_le_bytes());
                prps.push((24, chained));
                for (case, (blocks, prp)) in prps.iter().enumerate() {
                    let code = code(&pair, transfer(is_read, 0, *blocks, prp));
                    assert_eq!(code, Status::DATA_TRANSFER_ERROR, "{bad:#x}, case {case}");
                }
            }
            // The last page of memory is memory, its last byte the last.
            pair.execute(transfer(is_read, 0, 8, &Prp::raw(RAM - PAGE, 0))).unwrap();
            let across = Prp::raw(RAM - 512, RAM);
            assert_eq!(code(&pair, transfer(is_read, 0, 2, &across)), Status::DATA_TRANSFER_ERROR);
        }
        assert_eq!(data.to_vec(), vec![0x5a; 4 * 4096], "a refused read reached memory");
        let after: Vec<u64> = (0..0x40).step_by(8).map(|at| rig.nvme.read64(at)).collect();
        assert_eq!(after, registers);
        rig.nvme.identify(1, 0).unwrap();
    }
}

/// A list in the last page of memory, which no chain can leave.
#[test]
fn a_list_may_end_with_memory() {
    let rig = Rig::new(Store::Ram, "");
    let pair = rig.pair(1, 8);
    let data = rig.data(3 * 4096);
    let pages = data.pages();
    let at = RAM - 16;
    rig.machine.write(at, &pages[1].to_le_bytes());
    rig.machine.write(at + 8, &pages[2].to_le_bytes());
    pair.execute(Entry::read(1, 0, 24, &Prp::raw(pages[0], at))).unwrap();
}

/// The last entry of a list's page is a pointer to the next list only when
/// more pages are to come: 511, 512 and 513 entries, from each place.
#[test]
fn lists_of_about_a_page_are_read_as_the_specification_says() {
    for (store, options) in [(Store::Ram, ""), (Store::File, ",ioslots=1")] {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        // With an offset, 512 pages of data are 513 to point to.
        for (pages, offset) in [(510, 0), (511, 0), (512, 0), (511, 512), (512, 512), (512, 4)] {
            let len = pages * 4096;
            let data = Data::contiguous(&rig.memory, len, offset).unwrap();
            let bytes = pattern(len, pages as u64 + offset as u64);
            for list_at in [0, 8, 16, 2048, 4080, 4088] {
                let prp = data.prp_with_list_at(list_at).unwrap();
                data.fill(0xa5);
                data.write(&bytes);
                let blocks = (len / 512) as u32;
                pair.execute(Entry::write(1, 0, blocks, &prp)).unwrap();
                data.fill(0x5a);
                pair.execute(Entry::read(1, 0, blocks, &prp)).unwrap();
                assert!(data.to_vec() == bytes, "{pages} pages at {offset}, list at {list_at}");
                assert_eq!(data.spilt(0x5a), 0, "{pages} pages at {offset}, list at {list_at}");
            }
        }
    }
}

/// Such a list has no end of its own; the transfer has.
#[test]
fn a_list_chained_to_itself_ends() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 8);
        let ring = rig.data(4096);
        let page = ring.pages()[0];
        let entries: Vec<u8> = std::iter::repeat_n(page.to_le_bytes(), 512).flatten().collect();
        for list_at in [0, 8, 4088] {
            for blocks in [24, 2048, 4096] {
                ring.write(&entries);
                let entry = Entry::read(1, 0, blocks, &Prp::raw(page, page + list_at));
                assert_eq!(code(&pair, entry), Status::SUCCESS, "{list_at} {blocks}");
            }
        }
        assert_eq!(rig.nvme.csts(), 1);
    }
}

/// Pages that are neighbours for the guest and not for the host: joined, they
/// would be one run that ends outside of memory.
#[test]
fn neighbours_across_a_seam_of_memory_are_not_joined() {
    const HALF: u64 = 8 << 20;
    for store in [Store::Ram, Store::File] {
        let rig = Rig::in_layout(store, &[(0, HALF), (HALF, HALF)]);
        let pair = rig.pair(1, 8);
        for around in [2u64, 5, 9] {
            let pages: Vec<u64> =
                (0..2 * around).map(|n| HALF - around * PAGE + n * PAGE).collect();
            let len = pages.len() * 4096;
            let bytes = pattern(len, around);
            let put = |fill: bool| {
                for (page, part) in pages.iter().zip(bytes.chunks_exact(4096)) {
                    rig.machine.write(*page, if fill { part } else { &[0xee; 4096] });
                }
            };
            let prp = Prp::new(&rig.memory, &pages, 0).unwrap();
            put(true);
            pair.execute(Entry::write(1, 0, (len / 512) as u32, &prp)).unwrap();
            put(false);
            pair.execute(Entry::read(1, 0, (len / 512) as u32, &prp)).unwrap();
            for (page, part) in pages.iter().zip(bytes.chunks_exact(4096)) {
                let mut found = [0; 4096];
                rig.machine.read(*page, &mut found);
                assert!(found == part, "{around}: {page:#x}");
            }
        }
        // A queue cannot lie across it: it is one run.
        let entry = devhost::rig::create_cq(2, 2047, HALF - PAGE, 0, 1);
        assert_eq!(code(&rig.nvme.admin(), entry), Status::DATA_TRANSFER_ERROR);
    }
}

/// Another vCPU changes the entry and the list while the command runs. What
/// the command does is what one of the versions says; memory that none of them
/// names stays as it is.
#[test]
fn a_command_that_changes_while_it_runs_touches_nothing_else() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let (sq, mut cq) = {
            let cq = rig.nvme.create_cq(1, 64, None).unwrap();
            (rig.nvme.create_sq(1, 1, 64).unwrap(), cq)
        };
        // Guard pages around and between those that are named.
        let field = rig.memory.alloc(16 * 4096).unwrap();
        field.fill(0xc3);
        let page = |n: u64| field.address() + n * PAGE;
        let named = [2, 5, 8, 11];
        let list = rig.memory.alloc(4096).unwrap();
        let short = Entry::read(1, 0, 8, &Prp::raw(page(2), 0));
        let long = Entry::read(1, 0, 32, &Prp::raw(page(2), list.address()));
        let bad = Entry::read(1, 0, 65536, &Prp::raw(page(2) + 3, RAM));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut turn = 0usize;
                while !stop.load(Ordering::SeqCst) {
                    turn += 1;
                    for slot in 0..64 {
                        let entry = [&short, &long, &bad][(turn + slot) % 3].cid(slot as u16);
                        rig.machine.write(sq.address() + slot as u64 * 64, &entry.to_bytes());
                    }
                    let there: [u64; 3] = if turn.is_multiple_of(2) {
                        [page(5), page(8), page(11)]
                    } else {
                        [RAM, 7, page(8)]
                    };
                    for (n, entry) in there.into_iter().enumerate() {
                        list.write(n * 8, &entry.to_le_bytes());
                    }
                }
            });
            let mut tail = 0u32;
            for _ in 0..600 {
                tail = (tail + 1) % 64;
                sq.ring_with(tail);
                let end = std::time::Instant::now() + devhost::PATIENCE;
                while cq.pop().is_none() {
                    assert!(std::time::Instant::now() < end, "a command was lost");
                    std::hint::spin_loop();
                }
                cq.ring();
            }
            stop.store(true, Ordering::SeqCst);
        });
        for n in (0..16).filter(|n| !named.contains(n)) {
            let mut found = [0; 4096];
            rig.machine.read(page(n), &mut found);
            assert!(found == [0xc3; 4096], "page {n} was touched");
        }
        rig.nvme.identify(1, 0).unwrap();
    }
}

/// Admin data may begin anywhere in a page, too.
#[test]
fn admin_data_lies_across_two_pages() {
    let rig = Rig::new(Store::Ram, "");
    let whole = rig.nvme.identify(1, 0).unwrap();
    for offset in [4, 2048, 4092] {
        let data = Data::scattered(&rig.memory, 4096, offset).unwrap();
        data.fill(0x77);
        let identify = Entry::new(0x06).word(10, 1);
        rig.nvme.admin().execute(identify.prp(&data.prp().unwrap())).unwrap();
        assert!(data.to_vec() == whole, "{offset}");
        assert_eq!(data.spilt(0x77), 0);
        // Without the second page.
        let one = Prp::raw(data.pages()[0], RAM);
        let status = rig.nvme.admin().run(identify.prp(&one)).unwrap().status;
        assert_eq!(status.code(), Status::DATA_TRANSFER_ERROR);
    }
}
