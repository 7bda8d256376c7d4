// SPDX-License-Identifier: BSD-2-Clause

//! Every way to stop a controller, at the worst moment, over a store that
//! behaves and over ones that do not. What must hold each time: the guest's
//! answer comes when nothing of the old life can touch its memory any more;
//! nothing is touched after it; and the next life is as good as the first.

use devhost::driver::registers as reg;
use devhost::driver::{Data, Enable, Entry, QueuePair, Status, Wait, admin_opcode};
use devhost::faults::{Fault, Kind, Ops};
use devhost::rig::{RAM, Rig, STORES, Store, pattern, pause, read, write};
use std::time::Duration;

/// Ways to stop. Each ends with CSTS.RDY 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// CC.EN 1 to 0.
    Disable,
    /// CC.EN up and down, again and again.
    Storm,
    /// CC.SHN, then CC.EN.
    Normal,
    /// The same abruptly.
    Abrupt,
    /// Delete all queues, then CC.EN.
    Delete,
    /// DEVCTL's Initiate Function Level Reset.
    Function,
    /// The host's: a function level reset, and configuration space as it was
    /// at power on.
    Host,
}

const WAYS: [Way; 7] =
    [Way::Disable, Way::Storm, Way::Normal, Way::Abrupt, Way::Delete, Way::Function, Way::Host];

/// A rig, and its configuration space as it was at power on.
struct Life {
    rig: Rig,
    fresh: [u8; 256],
}

impl Life {
    fn new(store: Store, options: &str) -> Life {
        let rig = Rig::idle_faulty(store, options);
        let fresh = rig.device.cfg_save();
        Life { rig, fresh }
    }

    /// Starts it, by interrupts.
    fn begin(&self) {
        let command = self.rig.device.cfg_read(4, 2);
        self.rig.device.cfg_write(4, 2, command | 6);
        self.rig.nvme.msix().setup();
        let enable = Enable { wait: Wait::Interrupt, ..Enable::default() };
        self.rig.nvme.enable(&enable).unwrap();
    }

    /// Stops it. `release` is called when there is nothing left to do but to
    /// wait for the store.
    fn end(&self, way: Way, release: impl FnOnce()) {
        let nvme = &self.rig.nvme;
        match way {
            Way::Disable => {
                nvme.write32(reg::CC, 0);
                release();
            }
            Way::Storm => {
                for _ in 0..50 {
                    nvme.write32(reg::CC, 0);
                    nvme.write32(reg::CC, 0x0046_0001);
                }
                nvme.write32(reg::CC, 0);
                release();
            }
            Way::Normal | Way::Abrupt => {
                let how = if way == Way::Normal { reg::CC_SHN_NORMAL } else { reg::CC_SHN_ABRUPT };
                nvme.write32(reg::CC, 0x0046_0001 | how);
                release();
                nvme.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE).unwrap();
                nvme.write32(reg::CC, 0);
            }
            Way::Delete => {
                let delete = |opcode, id: u32| Entry::new(opcode).word(10, id);
                let admin = nvme.admin();
                let cids: Vec<u16> = (1..=2)
                    .map(|id| admin.submit(delete(admin_opcode::DELETE_SQ, id)).unwrap())
                    .collect();
                release();
                for cid in cids {
                    assert!(admin.wait(cid).unwrap().status.is_success());
                }
                for id in 1..=2 {
                    admin.execute(delete(admin_opcode::DELETE_CQ, id)).unwrap();
                }
                nvme.write32(reg::CC, 0);
            }
            Way::Function => {
                self.rig.device.flr();
                release();
            }
            Way::Host => {
                self.rig.device.flr();
                release();
                nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
                self.rig.device.cfg_restore(&self.fresh);
                assert_eq!(self.rig.device.cfg_save(), self.fresh);
            }
        }
        nvme.wait_csts(reg::CSTS_RDY | reg::CSTS_CFS, 0).unwrap();
    }
}

/// The guest's memory at one moment.
struct Snapshot(Vec<u8>);

impl Snapshot {
    fn of(rig: &Rig) -> Snapshot {
        let mut bytes = vec![0; RAM as usize];
        rig.machine.read(0, &mut bytes);
        Snapshot(bytes)
    }

    /// Whether memory is still as it was.
    fn holds(&self, rig: &Rig) -> bool {
        let mut now = [0; 1 << 16];
        self.0.chunks(now.len()).enumerate().all(|(number, then)| {
            let now = &mut now[..then.len()];
            rig.machine.read((number << 16) as u64, now);
            now == then
        })
    }
}

/// Submits as much as goes on both queues: reads into one buffer, writes from
/// another, each where the other pair is not.
fn submit(pairs: &[QueuePair; 2], reads: &Data, writes: &Data) {
    for (number, pair) in pairs.iter().enumerate() {
        let at = 4096 * number as u64;
        let entries: Vec<Entry> = (0..14u64)
            .map(|n: u64| {
                if n.is_multiple_of(2) {
                    read(reads, at + n * 8)
                } else {
                    write(writes, at + n * 8)
                }
            })
            .collect();
        pair.submit_all(&entries).unwrap();
    }
}

/// One life: traffic, a stop in the middle of it, and silence after.
fn live_and_stop(life: &Life, way: Way, faults: &[Fault]) {
    let rig = &life.rig;
    life.begin();
    let pairs = [rig.interrupting_pair(1, 16), rig.interrupting_pair(2, 16)];
    let (reads, writes) = (rig.data(4096), rig.data(4096));
    writes.fill(0x3c);
    rig.faults.set(faults);
    submit(&pairs, &reads, &writes);
    let stuck = faults.iter().any(|fault| fault.kind == Kind::Never);
    if stuck {
        assert!(rig.faults.wait_stuck(1) >= 1);
    }
    life.end(way, || {
        if stuck {
            if way != Way::Delete {
                // Not before the store has let go of the guest's memory.
                pause(Duration::from_millis(5));
                assert_eq!(rig.nvme.csts() & reg::CSTS_RDY, reg::CSTS_RDY);
            }
            rig.faults.clear();
        }
    });
    rig.faults.clear();
    let quiet = Snapshot::of(rig);
    let interrupts = rig.nvme.msix().interrupts().total();
    pause(Duration::from_millis(3));
    assert!(quiet.holds(rig), "{way:?}: memory was touched after the reset");
    assert_eq!(rig.nvme.msix().interrupts().total(), interrupts, "{way:?}");
}

/// A life after that: data is written, read back, and lasts.
fn works(life: &Life, seed: u64) {
    let rig = &life.rig;
    life.begin();
    let pair = rig.interrupting_pair(1, 16);
    let data = rig.data(64 << 10);
    let bytes = pattern(data.len(), seed);
    data.write(&bytes);
    pair.execute(write(&data, 20000)).unwrap();
    pair.execute(Entry::flush(1)).unwrap();
    data.fill(0);
    pair.execute(read(&data, 20000)).unwrap();
    assert!(data.to_vec() == bytes);
    assert!(pair.strays().is_empty());
    rig.nvme.disable().unwrap();
}

fn every_way_with(store: Store, options: &str, rounds: usize, faults: &[Fault]) {
    let life = Life::new(store, options);
    for round in 0..rounds {
        for way in WAYS {
            live_and_stop(&life, way, faults);
            works(&life, round as u64);
        }
    }
}

#[test]
fn every_way_to_stop_under_load() {
    for (store, options) in STORES {
        every_way_with(store, options, 3, &[]);
    }
}

#[test]
fn every_way_to_stop_a_slow_store() {
    let slow = Fault::always(Kind::Delay(Duration::from_millis(2)));
    for (store, options) in STORES {
        every_way_with(store, options, 1, std::slice::from_ref(&slow));
    }
}

#[test]
fn every_way_to_stop_a_store_that_fails() {
    for (store, options) in STORES {
        for kind in [Kind::EIO, Kind::ENOSPC, Kind::EROFS] {
            let failing = Fault::always(kind).per_million(300_000);
            // A flush that fails once fails for ever, on Linux.
            let failing = failing.on(Ops { flush: false, ..Ops::ALL });
            every_way_with(store, options, 1, &[failing]);
        }
    }
}

#[test]
fn every_way_to_stop_a_file_whose_calls_are_cut_short() {
    for options in ["", ",ioslots=1"] {
        for kind in [Kind::Short, Kind::EINTR, Kind::EAGAIN] {
            let cut = Fault::always(kind).per_million(300_000);
            every_way_with(Store::File, options, 1, &[cut]);
        }
    }
}

/// It is let go only after the guest has asked for the stop.
#[test]
fn every_way_to_stop_a_store_that_hangs() {
    for (store, options) in STORES {
        every_way_with(store, options, 1, &[Fault::always(Kind::Never)]);
    }
}

/// The store never answers: RDY stays 1, the registers live, nothing at all is
/// written to memory, and another device of the machine goes on.
#[test]
fn a_store_that_never_answers_holds_ready_and_nothing_else() {
    for (store, options) in STORES {
        let life = Life::new(store, options);
        let rig = &life.rig;
        life.begin();
        let other = Rig::new(Store::Ram, "");
        let other_pair = other.interrupting_pair(1, 8);
        let pairs = [rig.interrupting_pair(1, 16), rig.interrupting_pair(2, 16)];
        let (reads, writes) = (rig.data(4096), rig.data(4096));
        rig.faults.set(&[Fault::always(Kind::Never)]);
        submit(&pairs, &reads, &writes);
        let slots = if options.is_empty() { 8 } else { 1 };
        assert_eq!(rig.faults.wait_stuck(slots), slots);
        let quiet = Snapshot::of(rig);
        for way in [Way::Normal, Way::Disable, Way::Storm, Way::Function] {
            match way {
                Way::Normal => rig.nvme.write32(reg::CC, 0x0046_4001),
                Way::Disable => rig.nvme.write32(reg::CC, 0),
                Way::Function => rig.device.flr(),
                _ => {
                    for _ in 0..100 {
                        rig.nvme.write32(reg::CC, 0x0046_0001);
                        rig.nvme.write32(reg::CC, 0);
                    }
                }
            }
            pause(Duration::from_millis(10));
            let csts = rig.nvme.csts();
            assert_eq!(csts & (reg::CSTS_RDY | reg::CSTS_CFS), reg::CSTS_RDY, "{way:?}");
            assert_ne!(csts & reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE, "{way:?}");
            assert_eq!(rig.nvme.read32(reg::VS), 0x0002_0000);
            other_pair.execute(read(&other.data(512), 0)).unwrap();
        }
        assert!(quiet.holds(rig), "memory was written");
        // The store comes back after all: what it was given is done with, and
        // then the guest has its memory again.
        rig.faults.clear();
        rig.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
        let quiet = Snapshot::of(rig);
        pause(Duration::from_millis(5));
        assert!(quiet.holds(rig));
        works(&life, 7);
    }
}

/// Completions of the old life never reach the new one's queues, which lie in
/// the very same memory.
#[test]
fn late_completions_do_not_reach_the_next_life() {
    for (store, options) in STORES {
        let life = Life::new(store, options);
        let rig = &life.rig;
        for round in 0..30u64 {
            life.begin();
            let pair = rig.interrupting_pair(1, 16);
            let data = rig.data(4096);
            let late = Fault::always(Kind::Delay(Duration::from_micros(300 * (round % 4))));
            rig.faults.set(&[late]);
            pair.submit_all(&vec![read(&data, round); 15]).unwrap();
            life.end(if round % 2 == 0 { Way::Disable } else { Way::Function }, || ());
            // The allocator gives the next queues the same addresses.
            drop(pair);
            data.fill(0xd7);
            life.begin();
            let pair = rig.interrupting_pair(1, 16);
            let other = rig.data(4096);
            for lba in 0..20 {
                pair.execute(read(&other, lba)).unwrap();
            }
            assert!(pair.strays().is_empty());
            assert_eq!(data.to_vec(), [0xd7; 4096]);
            life.end(Way::Disable, || ());
        }
    }
}

/// What was submitted and not fetched, and what was fetched and not done, is
/// accounted for: Delete I/O Submission Queue ends when all of that has ended.
#[test]
fn a_deleted_queue_has_no_command_left() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        for _ in 0..10 {
            let pair = rig.interrupting_pair(1, 64);
            let data = rig.data(4096);
            rig.faults.set(&[Fault::always(Kind::Delay(Duration::from_millis(1)))]);
            let cids = pair.submit_all(&vec![read(&data, 0); 60]).unwrap();
            rig.nvme.delete_sq(1).unwrap();
            rig.faults.clear();
            // All completions that will ever come are there now.
            pair.poll();
            let ended: Vec<_> = cids.iter().filter_map(|cid| pair.take(*cid)).collect();
            for completion in &ended {
                let code = completion.status.code();
                assert!(code == Status::SUCCESS || code == Status::ABORTED_SQ_DELETED);
            }
            data.fill(0x4b);
            pause(Duration::from_millis(3));
            assert_eq!(pair.poll(), 0, "a completion after the deletion");
            assert_eq!(data.to_vec(), [0x4b; 4096], "data after the deletion");
            rig.nvme.delete_cq(1).unwrap();
        }
    }
}

/// A shutdown makes durable what was written, whatever else goes on; if the
/// store cannot, the operator is told, and the guest is not held for ever.
#[test]
fn a_shutdown_ends_though_the_flush_fails() {
    let life = Life::new(Store::Ram, "");
    let rig = &life.rig;
    life.begin();
    let log = devhost::bhyve::LogCapture::start();
    rig.faults.set(&[Fault::always(Kind::EIO).on(Ops::FLUSH)]);
    let begun = std::time::Instant::now();
    rig.nvme.shutdown(false).unwrap();
    assert!(log.lines().iter().any(|line| line.contains("flush failed")), "{:?}", log.lines());
    // However often, the operator is told a few times a minute.
    for _ in 0..50 {
        rig.nvme.disable().unwrap();
        life.begin();
        rig.nvme.shutdown(true).unwrap();
    }
    let told = log.lines().iter().filter(|line| line.contains("flush failed")).count();
    assert!(told as u64 <= 4 * (2 + begun.elapsed().as_secs() / 60), "{told} lines");
    assert_eq!(rig.faults.met(), 51);
    rig.nvme.disable().unwrap();
    rig.faults.clear();
    works(&life, 1);
}

/// A controller that is shut down takes no I/O until it is reset.
#[test]
fn after_a_shutdown_only_a_reset_helps() {
    for (store, options) in STORES {
        let life = Life::new(store, options);
        let rig = &life.rig;
        for abrupt in [false, true] {
            life.begin();
            let pair = rig.interrupting_pair(1, 16);
            let data = rig.data(512);
            rig.nvme.shutdown(abrupt).unwrap();
            pair.raw(|sq, _| {
                sq.push(&read(&data, 0).cid(77));
                sq.ring();
            });
            data.fill(0x2e);
            pause(Duration::from_millis(5));
            assert_eq!(pair.poll(), 0);
            assert_eq!(data.to_vec(), [0x2e; 512]);
            // The admin queue still answers, as a guest that hesitates needs.
            rig.nvme.identify(1, 0).unwrap();
            rig.nvme.disable().unwrap();
            assert_eq!(rig.nvme.csts(), 0);
            works(&life, 2);
        }
    }
}

/// A shutdown of a controller that was never enabled, or is not any more.
#[test]
fn a_disabled_controller_can_be_shut_down() {
    let life = Life::new(Store::File, "");
    let rig = &life.rig;
    for how in [reg::CC_SHN_NORMAL, reg::CC_SHN_ABRUPT] {
        rig.nvme.write32(reg::CC, 0x0046_0000 | how);
        rig.nvme.wait_csts(reg::CSTS_SHST, reg::CSTS_SHST_COMPLETE).unwrap();
        works(&life, 3);
    }
}

/// Two vCPUs that disagree: one resets while the other enables, rings and
/// writes configuration space. Nobody hangs, and the end is as always.
#[test]
fn resets_of_all_kinds_at_once_end_well() {
    for (store, options) in STORES {
        let life = Life::new(store, options);
        let rig = &life.rig;
        life.begin();
        rig.faults.set(&[Fault::always(Kind::Delay(Duration::from_micros(200)))]);
        std::thread::scope(|scope| {
            for vcpu in 0..3 {
                scope.spawn(move || {
                    for n in 0..300u32 {
                        match (n + vcpu) % 6 {
                            0 => rig.nvme.write32(reg::CC, 0),
                            1 => rig.nvme.write32(reg::CC, 0x0046_0001),
                            2 => rig.device.flr(),
                            3 => rig.nvme.write32(reg::CC, 0x0046_4001),
                            4 => rig.nvme.msix().mask_function(n.is_multiple_of(2)),
                            _ => rig.nvme.write32(rig.nvme.sq_doorbell(0), n % 32),
                        }
                        assert_eq!(rig.nvme.read32(reg::VS), 0x0002_0000);
                    }
                });
            }
        });
        rig.faults.clear();
        life.end(Way::Host, || ());
        works(&life, 4);
    }
}
