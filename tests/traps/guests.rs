// SPDX-License-Identifier: BSD-2-Clause

//! What single guests do, or cannot do without.

use devhost::driver::registers as reg;
use devhost::driver::{
    CompletionQueue, Enable, Entry, Prp, QueuePair, Status, SubmissionQueue, Wait, admin_opcode,
};
use devhost::rig::{Rig, STORES, Store, create_cq, create_sq, pattern, pause, read, write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Windows Server 2025 and Windows 11 24H2 read AQA, ASQ and ACQ back while
/// the controller is enabled, and do not start where they read zero.
#[test]
fn windows_server_2025_and_11_24h2_read_the_admin_queue_registers_back() {
    for (store, options) in STORES {
        let rig = Rig::idle(store, options);
        let ring = rig.memory.alloc(1 << 16).unwrap();
        let (asq, acq) = (ring.address(), ring.address() + 32768);
        rig.nvme.write32(reg::AQA, 0x00ff_00ff);
        rig.nvme.write64(reg::ASQ, asq);
        rig.nvme.write64(reg::ACQ, acq);
        rig.nvme.write32(reg::CC, 0x0046_0001);
        rig.nvme.wait_csts(reg::CSTS_RDY, reg::CSTS_RDY).unwrap();
        let there = |rig: &Rig| {
            (rig.nvme.read32(reg::AQA), rig.nvme.read64(reg::ASQ), rig.nvme.read64(reg::ACQ))
        };
        assert_eq!(there(&rig), (0x00ff_00ff, asq, acq));
        // Written while enabled, they stay what is in use.
        rig.nvme.write32(reg::AQA, 0);
        rig.nvme.write64(reg::ASQ, 0);
        rig.nvme.write64(reg::ACQ, u64::MAX);
        assert_eq!(there(&rig), (0x00ff_00ff, asq, acq));
    }
}

/// Windows leaves CC.IOSQES and IOCQES zero until its I/O queues exist.
#[test]
fn windows_sets_the_entry_sizes_late() {
    let rig = Rig::idle(Store::Ram, "");
    rig.nvme.enable(&Enable { cc: 0, ..Enable::default() }).unwrap();
    let pair = rig.pair(1, 8);
    rig.nvme.write32(reg::CC, 0x0046_0001);
    pair.execute(read(&rig.data(512), 0)).unwrap();
    assert_eq!(rig.nvme.csts(), reg::CSTS_RDY);
}

/// Windows submits a refused event request again for ever, thousands of times
/// a second: so as many as Identify promises are held, at any time.
#[test]
fn windows_resubmits_event_requests_so_they_are_held() {
    let rig = Rig::new(Store::Ram, "");
    let admin = rig.nvme.admin();
    let limit = usize::from(rig.nvme.identify(1, 0).unwrap()[259]) + 1;
    let mut held: Vec<u16> = (0..limit).map(|_| rig.nvme.request_event().unwrap()).collect();
    for round in 0..20 {
        pause(Duration::from_millis(2));
        admin.poll();
        assert!(held.iter().all(|cid| admin.take(*cid).is_none()), "one was answered");
        // One is answered for a reason, and resubmitted.
        rig.nvme.write32(rig.nvme.sq_doorbell(9), 1);
        let answered = admin.wait(held.remove(0)).unwrap();
        assert!(answered.status.is_success(), "round {round}: {answered:?}");
        held.push(rig.nvme.request_event().unwrap());
        rig.nvme.get_log(1, 0, 0, 64, false).unwrap();
    }
    for cid in held {
        assert!(rig.nvme.abort(0, cid).unwrap());
        admin.wait(cid).unwrap();
    }
}

/// EDK2 before the end of 2019 wraps at 256 entries of its own, whatever
/// CAP.MQES says: by default that many must fit.
#[test]
fn edk2_uses_256_entries() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        assert!(rig.nvme.read64(reg::CAP) & 0xffff >= 255);
        let pair = rig.pair(1, 256);
        let data = rig.data(4096);
        // One at a time, as firmware does, and around more than twice.
        for n in 0..600 {
            pair.execute(read(&data, n)).unwrap();
        }
        pair.stream(
            255,
            1000,
            |n| read(&data, n as u64),
            |_, completion| {
                assert!(completion.status.is_success());
            },
        )
        .unwrap();
    }
}

/// An illumos guest panics where an event request is refused, or where
/// namespace management is offered and NSID FFFFFFFFh is not taken.
#[test]
fn illumos_has_its_event_requests_taken_and_no_namespace_management() {
    let rig = Rig::new(Store::Ram, "");
    let identify = rig.nvme.identify(1, 0).unwrap();
    // It submits as many as there may be, ten at most.
    let wanted = (usize::from(identify[259]) + 1).min(10);
    let cids: Vec<u16> = (0..wanted).map(|_| rig.nvme.request_event().unwrap()).collect();
    pause(Duration::from_millis(5));
    rig.nvme.admin().poll();
    assert!(cids.iter().all(|cid| rig.nvme.admin().take(*cid).is_none()));
    assert_eq!(identify[256] & 1 << 3, 0, "OACS: namespace management");
    let all = Entry::new(admin_opcode::IDENTIFY)
        .nsid(0xffff_ffff)
        .prp(&rig.data(4096).prp().unwrap())
        .word(10, 0);
    let status = rig.nvme.admin().run(all).unwrap().status;
    assert_eq!(status.code(), Status::INVALID_NAMESPACE);
}

/// A FreeBSD guest's start, from its first access to its last, with the widths
/// and values that bhyve's device sees: everything in words of four bytes.
struct FreeBsd<'a> {
    rig: &'a Rig,
    processors: u16,
    admin: QueuePair,
}

impl<'a> FreeBsd<'a> {
    fn boot(rig: &'a Rig, processors: u16) -> FreeBsd<'a> {
        let nvme = &rig.nvme;
        let device = &rig.device;
        // MSI-X: all masked, vector 0 programmed, then enabled.
        for vector in 0..17 {
            device.bar_write(4, vector * 16 + 12, 4, 1);
        }
        let cap = u64::from(nvme.read32(4)) << 32 | u64::from(nvme.read32(0));
        assert!(cap & 0xffff >= 255 && cap >> 37 & 1 == 1 && cap >> 48 & 0xf == 0);
        nvme.msix().program(0);
        nvme.msix().enable(true);
        // Not ready, and not on the way there: nothing to wait for.
        assert_eq!((nvme.read32(reg::CC), nvme.read32(reg::CSTS)), (0, 0));
        let rings = rig.memory.alloc(1 << 16).unwrap();
        let (sq_at, cq_at) = (rings.address(), rings.address() + 128 * 64);
        for (at, value) in [(reg::ASQ, sq_at), (reg::ACQ, cq_at)] {
            nvme.write32(at, value as u32);
            nvme.write32(at + 4, (value >> 32) as u32);
        }
        nvme.write32(reg::AQA, 0x007f_007f);
        nvme.write32(reg::CC, 0x0046_0001);
        nvme.wait_csts(reg::CSTS_RDY, reg::CSTS_RDY).unwrap();
        let part = |at, len| {
            devhost::driver::Memory::part(&rig.machine, at, len).alloc(len as usize).unwrap()
        };
        let function = nvme.function();
        let sq = SubmissionQueue::new(function, 0, 128, part(sq_at, 8192), 0x1000);
        let cq = CompletionQueue::new(function, 0, 128, part(cq_at, 4096), 0x1004, Some(0));
        let interrupts = Some(nvme.msix().interrupts().clone());
        let limit = devhost::PATIENCE;
        let admin = QueuePair::new(function, interrupts, sq, cq, Wait::Interrupt, limit);
        // The rings stay where they are for as long as the guest runs.
        std::mem::forget(rings);
        FreeBsd { rig, processors, admin }
    }

    fn identify(&self, cns: u32, nsid: u32) -> Vec<u8> {
        let data = self.rig.data(4096);
        let entry = Entry::new(0x06).nsid(nsid).prp(&data.prp().unwrap()).word(10, cns);
        self.admin.execute(entry).unwrap();
        data.to_vec()
    }

    /// One I/O queue pair for each processor, 256 entries, its own vector.
    fn queues(&self) -> Vec<Arc<QueuePair>> {
        let nvme = &self.rig.nvme;
        assert_eq!(self.identify(1, 0)[77], 9);
        let wanted = u32::from(self.processors - 1);
        let counts = Entry::new(0x09).word(10, 7).word(11, wanted << 16 | wanted);
        let granted = self.admin.execute(counts).unwrap().dw0;
        assert!(granted & 0xffff >= wanted && granted >> 16 >= wanted);
        let mut pairs = Vec::new();
        for id in 1..=self.processors {
            nvme.msix().program(id);
            let cq = self.rig.memory.alloc(CompletionQueue::bytes(256)).unwrap();
            let sq = self.rig.memory.alloc(SubmissionQueue::bytes(256)).unwrap();
            self.admin.execute(create_cq(id, 255, cq.address(), id, 3)).unwrap();
            self.admin.execute(create_sq(id, 255, sq.address(), id, 1)).unwrap();
            let bell = 0x1000 + 8 * u64::from(id);
            let function = nvme.function();
            let sq = SubmissionQueue::new(function, id, 256, sq, bell);
            let cq = CompletionQueue::new(function, id, 256, cq, bell + 4, Some(id));
            let interrupts = Some(nvme.msix().interrupts().clone());
            let limit = devhost::PATIENCE;
            let pair = QueuePair::new(function, interrupts, sq, cq, Wait::Interrupt, limit);
            pairs.push(Arc::new(pair));
        }
        pairs
    }

    fn events(&self) {
        self.identify(0, 1);
        // The temperature threshold; a guest that gets none only says so.
        self.admin.execute(Entry::new(0x0a).word(10, 4)).unwrap();
        self.admin.execute(Entry::new(0x09).word(10, 0x0b).word(11, 0x31d)).unwrap();
        for _ in 0..5 {
            self.admin.submit(Entry::new(0x0c)).unwrap();
        }
        self.admin.execute(Entry::new(0x09).word(10, 8).word(11, 0)).unwrap();
        self.identify(1, 0);
        self.identify(0, 1);
        for _ in 0..20 {
            assert_eq!(self.rig.nvme.read32(8), 0x0002_0000);
        }
    }

    /// Probing reads at odd places, the largest transfer, pointers in the
    /// middle of pages; each processor on its own queue.
    fn io(&self, pairs: &[Arc<QueuePair>], seed: u64) {
        let page = self.rig.memory.alloc(4096).unwrap();
        for at in [0, 0xc00, 0xe00, 4] {
            pairs[0].execute(Entry::read(1, 0, 1, &Prp::raw(page.address() + at, 0))).unwrap();
        }
        std::thread::scope(|scope| {
            for (number, pair) in pairs.iter().enumerate() {
                let rig = self.rig;
                scope.spawn(move || {
                    let large = rig.data(1 << 20);
                    let bytes = pattern(1 << 20, seed + number as u64);
                    let lba = 2048 * number as u64;
                    let list_at_half_a_page = large.prp_with_list_at(0x800).unwrap();
                    large.write(&bytes);
                    pair.execute(Entry::write(1, lba, 2048, &list_at_half_a_page)).unwrap();
                    large.fill(0);
                    pair.execute(Entry::read(1, lba, 2048, &list_at_half_a_page)).unwrap();
                    assert!(large.to_vec() == bytes);
                    let small = rig.data(4096);
                    pair.stream(
                        64,
                        500,
                        |n| read(&small, n as u64),
                        |_, completion| {
                            assert!(completion.status.is_success());
                        },
                    )
                    .unwrap();
                });
            }
        });
    }

    /// A Flush without pointers, whether there is a cache or not, then the
    /// notification, then CSTS again and again.
    fn shut_down(self, pairs: &[Arc<QueuePair>]) {
        pairs[0].execute(Entry::flush(1)).unwrap();
        let nvme = &self.rig.nvme;
        nvme.write32(reg::CC, 0x0046_4001);
        let end = Instant::now() + devhost::PATIENCE;
        while nvme.read32(reg::CSTS) & reg::CSTS_SHST != reg::CSTS_SHST_COMPLETE {
            assert!(Instant::now() < end, "the shutdown does not end");
            std::thread::yield_now();
        }
        assert_eq!(self.admin.in_flight(), 5, "event requests are not answered");
    }
}

#[test]
fn freebsd_starts_runs_and_stops() {
    for (store, options) in STORES {
        for processors in [1, 2, 4] {
            let rig = Rig::idle(store, options);
            let guest = FreeBsd::boot(&rig, processors);
            let pairs = guest.queues();
            guest.events();
            for seed in 0..3 {
                guest.io(&pairs, seed);
            }
            guest.shut_down(&pairs);
            assert_eq!(rig.nvme.msix().interrupts().strays(), 0);
            // What was written is there for the next boot's eyes.
            rig.nvme.function_level_reset().unwrap();
            let again = FreeBsd::boot(&rig, processors);
            let pairs = again.queues();
            let large = rig.data(1 << 20);
            pairs[0].execute(read(&large, 0)).unwrap();
            assert!(large.to_vec() == pattern(1 << 20, 2));
        }
    }
}

/// A driver of U-Boot's or SeaBIOS's kind: polls, two entries, no interrupts,
/// and leaves without a shutdown to a kernel that resets.
#[test]
fn firmware_leaves_its_queues_to_the_kernel() {
    for (store, options) in STORES {
        let rig = Rig::idle(store, options);
        for boot in 0..5 {
            let small = Enable { admin_sq: 2, admin_cq: 2, ..Enable::default() };
            rig.nvme.enable(&small).unwrap();
            let pair = rig.nvme.create_pair(1, 2, None, Wait::Poll).unwrap();
            let data = rig.data(4096);
            for lba in 0..20 {
                pair.execute(read(&data, lba)).unwrap();
            }
            // One is under way when the kernel takes over.
            pair.submit(write(&data, boot)).unwrap();
            rig.nvme.disable().unwrap();
            rig.nvme.msix().setup();
            rig.enable();
            rig.interrupting_pair(1, 1024).execute(read(&data, 0)).unwrap();
            rig.nvme.disable().unwrap();
        }
    }
}
