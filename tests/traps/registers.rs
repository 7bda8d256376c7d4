// SPDX-License-Identifier: BSD-2-Clause

//! Registers: every place, every width, every value.

use devhost::driver::registers as reg;
use devhost::driver::{CompletionQueue, Enable, Entry, Memory, Prp, Status, SubmissionQueue, Wait};
use devhost::rig::{RAM, Rig, STORES, Store, create_cq, create_sq, read};
use std::time::Instant;

const BAR: u64 = 0x4000;

/// All that a guest can read of BAR 0, as 32-bit words.
fn words(rig: &Rig) -> Vec<u32> {
    (0..BAR).step_by(4).map(|at| rig.nvme.read32(at)).collect()
}

#[test]
fn reserved_registers_and_doorbells_read_as_zero() {
    let rig = Rig::new(Store::Ram, "");
    rig.pair(1, 8).execute(read(&rig.data(512), 0)).unwrap();
    for at in (0x38..BAR).step_by(4).filter(|at| *at != reg::CRTO) {
        assert_eq!(rig.nvme.read32(at), 0, "{at:#x}");
    }
    // Of those before: NVM Subsystem Reset, which is not offered.
    assert_eq!(rig.nvme.read32(reg::NSSR), 0);
    rig.nvme.write32(reg::NSSR, 0x4e56_4d65);
    assert_eq!(rig.nvme.csts(), reg::CSTS_RDY);
}

#[test]
fn every_width_at_every_offset_reads_the_same_bytes() {
    let rig = Rig::new(Store::Ram, "");
    let bytes: Vec<u8> = words(&rig).iter().flat_map(|word| word.to_le_bytes()).collect();
    for size in [1, 2, 4, 8] {
        let last = BAR as usize - size;
        for at in (0..0x80).chain(0xff8..0x1010).chain(last - 8..=last) {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(&bytes[at..at + size]);
            let read = rig.device.bar_read(0, at as u64, size);
            assert_eq!(read, u64::from_le_bytes(wide), "{size} bytes at {at:#x}");
        }
    }
}

/// What is not one aligned word, or two, changes nothing: neither the
/// registers nor, at a doorbell, a queue.
#[test]
fn odd_widths_and_places_write_nothing() {
    for enabled in [false, true] {
        let rig = Rig::idle(Store::Ram, "");
        if enabled {
            rig.enable();
        }
        let before = words(&rig);
        for at in (0..0x80).chain(0xff8..0x1040).chain(BAR - 16..BAR) {
            for size in [1, 2, 4, 8] {
                let odd = size < 4 || at % 4 != 0;
                if odd && at + size <= BAR {
                    rig.device.bar_write(0, at, size as usize, u64::MAX);
                }
            }
        }
        assert_eq!(words(&rig), before, "enabled: {enabled}");
        if !enabled {
            rig.enable();
        }
        assert_eq!(rig.errors(), 0, "a doorbell was rung");
        rig.nvme.identify(1, 0).unwrap();
    }
}

/// bhyve passes an access of eight bytes on as two of four, low half first.
#[test]
fn an_access_of_eight_bytes_is_two_of_four() {
    let rig = Rig::idle(Store::Ram, "");
    rig.nvme.write64(reg::ASQ, 0x1_2345_6000);
    assert_eq!((rig.nvme.read32(reg::ASQ), rig.nvme.read32(reg::ASQ + 4)), (0x2345_6000, 1));
    rig.nvme.write32(reg::ASQ + 4, 7);
    assert_eq!(rig.nvme.read64(reg::ASQ), 0x7_2345_6000);
    // AQA lies in the upper half of one: the lower is reserved.
    rig.nvme.write64(reg::NSSR, 0x001f_001f_ffff_ffff);
    assert_eq!(rig.nvme.read64(reg::NSSR), 0x001f_001f_0000_0000);
    let halves = [rig.nvme.read32(reg::CAP), rig.nvme.read32(reg::CAP + 4)];
    assert_eq!(rig.nvme.read64(reg::CAP), u64::from(halves[1]) << 32 | u64::from(halves[0]));
}

/// The low 12 bits of a queue's address are reserved.
#[test]
fn an_admin_queue_address_with_low_bits_is_that_of_its_page() {
    let rig = Rig::idle(Store::Ram, "");
    for at in [reg::ASQ, reg::ACQ] {
        rig.nvme.write64(at, 0x12_3456_7fff);
        assert_eq!(rig.nvme.read64(at), 0x12_3456_7000);
    }
}

/// The largest admin queues there can be, of which the last byte is the last
/// of memory; and one page further there is none.
#[test]
fn the_largest_admin_queues_end_with_memory() {
    let rig = Rig::idle(Store::Ram, "");
    let (sq_bytes, cq_bytes) = (4096 * 64, 4096 * 16);
    let cq_at = RAM - cq_bytes;
    let sq_at = cq_at - sq_bytes;
    let part = |at, len| Memory::part(&rig.machine, at, len).alloc(len as usize).unwrap();
    let function = rig.nvme.function();
    let mut sq = SubmissionQueue::new(function, 0, 4096, part(sq_at, sq_bytes), reg::DOORBELLS);
    let mut cq =
        CompletionQueue::new(function, 0, 4096, part(cq_at, cq_bytes), reg::DOORBELLS + 4, None);
    rig.nvme.write32(reg::AQA, 0x0fff_0fff);
    rig.nvme.write64(reg::ASQ, sq_at);
    for (acq, ready) in [(cq_at + 4096, false), (cq_at, true)] {
        rig.nvme.write64(reg::ACQ, acq);
        rig.nvme.write32(reg::CC, 0x0046_0001);
        let expected = if ready { reg::CSTS_RDY } else { reg::CSTS_CFS };
        rig.nvme.wait_csts(reg::CSTS_RDY | reg::CSTS_CFS, expected).unwrap();
        if !ready {
            rig.nvme.disable().unwrap();
        }
    }
    // Around the ring and on, so that the last entry of each is used.
    let data = rig.data(4096);
    let identify = Entry::new(0x06).word(10, 1).prp(&data.prp().unwrap());
    let end = Instant::now() + devhost::PATIENCE;
    let (mut sent, mut seen) = (0u32, 0);
    while seen < 5000 {
        while sent < 5000 && sent - seen < 1000 {
            sq.push(&identify.cid(sent as u16));
            sent += 1;
        }
        sq.ring();
        while let Some(completion) = cq.pop() {
            assert!(completion.status.is_success());
            assert_eq!(u32::from(completion.cid), seen);
            seen += 1;
        }
        cq.ring();
        assert!(Instant::now() < end, "{seen} of 5000");
        std::thread::yield_now();
    }
}

#[test]
fn entries_of_other_sizes_are_refused_when_a_queue_is_made() {
    let rig = Rig::idle(Store::Ram, "");
    let ring = rig.memory.alloc(65536).unwrap();
    for (cc, cq, sq) in [
        (0x0046_0000, None, None),
        (0x0047_0000, None, Some(Status::INVALID_QUEUE_SIZE)),
        (0x0045_0000, None, Some(Status::INVALID_QUEUE_SIZE)),
        (0x0056_0000, Some(Status::INVALID_QUEUE_SIZE), Some(Status::CQ_INVALID)),
        (0x00f6_0000, Some(Status::INVALID_QUEUE_SIZE), Some(Status::CQ_INVALID)),
    ] {
        rig.nvme.enable(&Enable { cc, ..Enable::default() }).unwrap();
        let code = |entry| {
            let status = rig.nvme.admin().run(entry).unwrap().status;
            (!status.is_success()).then_some(status.code())
        };
        assert_eq!(code(create_cq(1, 7, ring.address(), 0, 1)), cq, "{cc:#x}");
        assert_eq!(code(create_sq(1, 7, ring.address() + 4096, 1, 1)), sq, "{cc:#x}");
        rig.nvme.disable().unwrap();
    }
}

/// Pin interrupts are masked by INTMS; with MSI-X a guest must leave it alone,
/// and if it does not, that masks nothing.
#[test]
fn the_interrupt_mask_register_holds_and_does_not_touch_msix() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        rig.nvme.write32(reg::INTMS, 0xffff_ffff);
        assert_eq!(rig.nvme.read32(reg::INTMC), 0xffff_ffff);
        rig.nvme.write32(reg::INTMC, 0xffff_0000);
        assert_eq!(rig.nvme.read32(reg::INTMS), 0xffff);
        let pair = rig.nvme.create_pair(1, 8, Some(1), Wait::Interrupt).unwrap();
        pair.execute(read(&rig.data(512), 0)).unwrap();
        rig.nvme.disable().unwrap();
        assert_eq!(rig.nvme.read32(reg::INTMS), 0, "after a reset");
    }
}

/// What a controller reset leaves, and what it does not.
#[test]
fn registers_that_survive_a_reset_and_those_that_do_not() {
    let rig = Rig::new(Store::Ram, "");
    let admin: Vec<u64> =
        [reg::AQA, reg::ASQ, reg::ACQ].iter().map(|at| rig.nvme.read64(*at)).collect();
    let after = |rig: &Rig| -> Vec<u64> {
        [reg::AQA, reg::ASQ, reg::ACQ].iter().map(|at| rig.nvme.read64(*at)).collect()
    };
    rig.nvme.write32(reg::CC, 0);
    rig.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
    assert_eq!(after(&rig), admin, "a controller reset leaves the admin queue's registers");
    assert_eq!((rig.nvme.read32(reg::CC), rig.nvme.csts()), (0, 0));
    rig.enable();
    rig.nvme.function_level_reset().unwrap();
    let fresh = words(&Rig::idle(Store::Ram, ""));
    assert_eq!(words(&rig), fresh, "a function level reset leaves nothing");
}

/// A guest that gave up on CFS resets, and may begin anew, at once: RDY is 0
/// already, so there is nothing for it to wait for. The first that it then sees
/// of RDY and CFS is about the new life.
#[test]
fn an_enable_that_failed_is_over_with_the_next_reset() {
    let rig = Rig::idle(Store::Ram, "");
    let hold = rig.memory.alloc(8192).unwrap();
    rig.nvme.write64(reg::ASQ, hold.address());
    rig.nvme.write64(reg::ACQ, hold.address() + 4096);
    for round in 0..50 {
        rig.nvme.write32(reg::AQA, 0);
        rig.nvme.write32(reg::CC, 0x0046_0001);
        rig.nvme.wait_csts(reg::CSTS_CFS, reg::CSTS_CFS).unwrap();
        rig.nvme.write32(reg::CC, 0);
        assert_eq!(rig.nvme.csts(), 0, "round {round}");
        rig.nvme.write32(reg::AQA, 0x001f_001f);
        rig.nvme.write32(reg::CC, 0x0046_0001);
        let end = Instant::now() + devhost::PATIENCE;
        let mut csts = 0;
        while csts & (reg::CSTS_RDY | reg::CSTS_CFS) == 0 {
            assert!(Instant::now() < end, "round {round}: neither");
            csts = rig.nvme.csts();
        }
        assert_eq!(csts, reg::CSTS_RDY, "round {round}");
        rig.nvme.disable().unwrap();
    }
    rig.enable();
    let data = rig.data(4096);
    rig.nvme
        .admin()
        .execute(Entry::new(0x06).word(10, 1).prp(&Prp::raw(data.pages()[0], 0)))
        .unwrap();
}
