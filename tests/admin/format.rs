// SPDX-License-Identifier: BSD-2-Clause

use super::*;
use devhost::bare::Op;
use devhost::driver::registers as reg;
use devhost::rig::pause;

const FORMAT_IN_PROGRESS: u16 = 0x84;
const INVALID_FORMAT: u16 = 0x10a;

fn format(nsid: u32, cdw10: u32) -> Entry {
    Entry::new(0x80).nsid(nsid).word(10, cdw10)
}

impl Setup {
    /// Fills the first and the last block, and one between.
    fn fill(&self, pair: &QueuePair, blocks: u64) {
        let data = self.data(512);
        data.write(&[0x5a; 512]);
        for lba in [0, blocks / 2, blocks - 1] {
            pair.execute(write(&data, lba)).unwrap();
        }
    }

    fn is_zero(&self, pair: &QueuePair, blocks: u64) -> bool {
        let data = self.data(512);
        [0, blocks / 2, blocks - 1].into_iter().all(|lba| {
            data.write(&[0xee; 512]);
            pair.execute(read(&data, lba)).unwrap();
            data.to_vec() == vec![0; 512]
        })
    }
}

/// With and without erasing user data, for the namespace and for all: zero
/// after, durably, whatever the size of the store.
#[test]
fn a_format_leaves_zeroes() {
    for bytes in [512, 4096, MIB + 512, 20 * MIB + 1536] {
        let setup = setup_with(settings(), bytes, |gate| gate);
        let blocks = bytes / 512;
        let pair = setup.pair(1, 16);
        for (nsid, erase) in [(1, 0), (0xffff_ffff, 1)] {
            setup.fill(&pair, blocks);
            assert!(!setup.is_zero(&pair, blocks));
            let status = setup.admin(format(nsid, erase << 9)).status;
            assert!(status.is_success(), "{status:?}");
            assert_eq!(setup.gate.log().last(), Some(&Op::Flush));
            assert!(setup.is_zero(&pair, blocks), "{bytes} bytes");
        }
        assert_eq!(setup.nvme.identify(0, 1).unwrap()[32], 0x80, "FPI");
    }
}

#[test]
fn formats_that_cannot_be_are_refused_and_erase_nothing() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let blocks = 16 * MIB / 512;
    setup.fill(&pair, blocks);
    for nsid in [0, 2, 0xffff_fffe] {
        assert_eq!(setup.refused(format(nsid, 0)), Status::INVALID_NAMESPACE, "{nsid:#x}");
    }
    for cdw10 in [1, 2, 0xf, 1 << 12, 3 << 12, 1 << 5, 7 << 5] {
        assert_eq!(setup.refused(format(1, cdw10)), INVALID_FORMAT, "{cdw10:#x}");
    }
    for erase in 2..8 {
        assert_eq!(setup.refused(format(1, erase << 9)), Status::INVALID_FIELD, "{erase}");
    }
    assert!(!setup.is_zero(&pair, blocks));
    // Metadata settings mean nothing without metadata.
    assert!(setup.admin(format(1, 1 << 4 | 1 << 8)).status.is_success());

    let setup = setup_with(settings(), MIB, Gate::read_only);
    assert_eq!(setup.refused(format(1, 0)), 0x20);
    assert!(setup.gate.log().is_empty());
}

/// A write in the store when the format comes does not survive it; commands
/// meanwhile are told, the admin queue is served, and all works after.
#[test]
fn io_in_flight_is_drained_and_io_meanwhile_is_told() {
    for inline in [false, true] {
        let setup =
            setup_with(
                settings(),
                16 * MIB,
                |gate| {
                    if inline { gate.never_waiting() } else { gate }
                },
            );
        let blocks = 16 * MIB / 512;
        let (pair, other) = (setup.pair(1, 16), setup.pair(2, 16));
        let admin = setup.nvme.admin();
        let data = setup.data(512);
        data.write(&[0x5a; 512]);
        let entry = write(&data, blocks - 1);
        setup.gate.close();
        std::thread::scope(|scope| {
            let late = scope.spawn(|| pair.run(entry).unwrap());
            assert_eq!(setup.gate.wait_inside(1), 1);
            let cid = admin.submit(format(1, 0)).unwrap();
            // Draining: nothing new begins, and the admin queue goes on.
            assert_eq!(setup.nvme.identify(0, 1).unwrap()[32], 0x80 | 100);
            let waiting = other.submit(read(&data, 0)).unwrap();
            std::thread::park_timeout(Duration::from_millis(20));
            assert_eq!(setup.gate.log().len(), 1, "the store was entered while draining");
            assert!(other.take(waiting).is_none());
            assert_eq!(setup.admin(format(1, 0)).status.code(), FORMAT_IN_PROGRESS);
            assert!(!setup.admin(format(1, 0)).status.dnr(), "it may be tried again");
            setup.gate.pass_one();
            assert!(late.join().unwrap().status.is_success());
            // Erasing: the worker is held in its first write.
            assert_eq!(other.wait(waiting).unwrap().status.code(), FORMAT_IN_PROGRESS);
            assert!(admin.take(cid).is_none());
            for entry in [read(&data, 0), write(&data, 0), Entry::flush(1)] {
                let status = other.run(entry).unwrap().status;
                assert_eq!(status.code(), FORMAT_IN_PROGRESS);
                assert!(!status.dnr());
            }
            setup.gate.open();
            assert!(admin.wait(cid).unwrap().status.is_success());
        });
        assert!(setup.is_zero(&pair, blocks), "inline {inline}");
        pair.execute(write(&data, 7)).unwrap();
    }
}

/// With one slot, I/O meanwhile gets its turn between two pieces.
#[test]
fn one_slot_is_shared_with_the_erasure() {
    let one_slot = Settings { io_slots: 1, ..settings() };
    let setup = setup_with(one_slot, 64 * MIB, |gate| gate);
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    let admin = setup.nvme.admin();
    setup.gate.close();
    let cid = admin.submit(format(1, 0)).unwrap();
    for pieces in 1..=4 {
        assert_eq!(setup.gate.wait_inside(1), 1);
        let reading = pair.submit(read(&data, 0)).unwrap();
        setup.gate.pass_one();
        // The next piece does not leave the store before the read is answered.
        assert_eq!(pair.wait(reading).unwrap().status.code(), FORMAT_IN_PROGRESS, "{pieces}");
    }
    admin.poll();
    assert!(admin.take(cid).is_none());
    setup.gate.open();
    assert!(admin.wait(cid).unwrap().status.is_success());
    pair.execute(read(&data, 0)).unwrap();
}

#[test]
fn a_store_that_fails_fails_the_format_and_nothing_else() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    for (error, code) in [
        (bhyve_nvme::backend::Error::Io, Status::WRITE_FAULT),
        (bhyve_nvme::backend::Error::NoSpace, Status::CAPACITY_EXCEEDED),
    ] {
        setup.gate.fail(Some(error));
        let status = setup.admin(format(1, 0)).status;
        assert_eq!(status.code(), code);
        assert!(status.more());
        setup.gate.fail(None);
        pair.execute(read(&data, 0)).unwrap();
    }
}

/// A reset ends the erasure, but only after the write at hand: a later one
/// would hit blocks that the next life has written.
#[test]
fn a_reset_waits_for_the_piece_at_hand_and_no_more() {
    let pieces = || {
        let setup = setup_with(settings(), 64 * MIB, |gate| gate);
        let admin = setup.nvme.admin();
        setup.gate.close();
        admin.submit(format(1, 0)).unwrap();
        assert_eq!(setup.gate.wait_inside(1), 1);
        setup.nvme.write32(reg::CC, 0);
        pause(Duration::from_millis(50));
        assert_eq!(setup.nvme.csts() & reg::CSTS_RDY, reg::CSTS_RDY);
        setup.gate.open();
        setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
        let pieces = setup.gate.log().len();
        assert_eq!(admin.poll(), 0, "answered after the reset");
        setup.nvme.enable(&Enable::default()).unwrap();
        let pair = setup.pair(1, 16);
        let data = setup.data(512);
        data.write(&[0x5a; 512]);
        pair.execute(write(&data, 0)).unwrap();
        pause(Duration::from_millis(20));
        pair.execute(read(&data, 0)).unwrap();
        assert_eq!(data.to_vec(), vec![0x5a; 512], "erased after the reset");
        assert_eq!(setup.gate.log().len(), pieces + 2);
        pieces
    };
    // More are erased only where the host has not let the controller see the
    // reset before the first was done.
    assert!((0..10).any(|_| pieces() == 1), "pieces are begun after the reset");
}

/// A reset while the format still waits for what is in the store.
#[test]
fn a_reset_while_draining_leaves_nothing_paused() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    setup.gate.close();
    pair.submit(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    setup.nvme.admin().submit(format(1, 0)).unwrap();
    setup.nvme.write32(reg::CC, 0);
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    setup.nvme.enable(&Enable::default()).unwrap();
    setup.pair(1, 16).execute(read(&data, 0)).unwrap();
    assert_eq!(setup.gate.log().len(), 2, "nothing was erased");
}

#[test]
fn a_shutdown_ends_a_format_and_then_flushes() {
    let setup = setup_with(settings(), 64 * MIB, |gate| gate);
    let admin = setup.nvme.admin();
    setup.gate.close();
    let cid = admin.submit(format(1, 0)).unwrap();
    assert_eq!(setup.gate.wait_inside(1), 1);
    setup.nvme.write32(reg::CC, 0x0046_0001 | reg::CC_SHN_NORMAL);
    setup.gate.open();
    setup.nvme.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE).unwrap();
    assert_eq!(admin.wait(cid).unwrap().status.code(), Status::ABORTED_BY_REQUEST);
    assert_eq!(setup.gate.log().last(), Some(&Op::Flush));
    setup.reset();
    setup.pair(1, 16).execute(read(&setup.data(512), 0)).unwrap();
}
