// SPDX-License-Identifier: BSD-2-Clause

//! What the guest was told is durable survives a power cut: a whole controller
//! on a store whose power is cut while commands, shutdowns and resets run.

use std::collections::HashSet;
use std::sync::Arc;

use devhost::bare::{Bare, settings};
use devhost::bhyve::Machine;
use devhost::driver::{Data, Enable, Entry, Function, Memory, Nvme, QueuePair, Wait, io_opcode};

#[path = "support/power_cut_store.rs"]
mod power_cut_store;

use power_cut_store::{EVERY_KIND, Lot, PowerCut, SECTOR};

const SECTORS: usize = 64;

/// What the guest may find in a sector after the cut.
#[derive(Clone)]
struct Owed {
    /// One of these.
    values: HashSet<u64>,
    /// The last write that completed.
    latest: u64,
}

/// A guest that counts up in every sector it writes.
struct Guest {
    nvme: Nvme,
    pair: QueuePair,
    data: Data,
    owed: Vec<Owed>,
    next: u64,
    /// Volatile Write Cache Enable.
    cache: bool,
}

fn guest(power: &PowerCut) -> Guest {
    let machine = Machine::with_ram(8 << 20);
    let memory = Memory::all(&machine);
    let bare: Arc<dyn Function> = Bare::new(&machine, settings(), power.open());
    let nvme = Nvme::new(bare, &memory);
    nvme.enable(&Enable::default()).unwrap();
    let pair = nvme.create_pair(1, 16, Some(1), Wait::Poll).unwrap();
    let data = Data::new(&memory, SECTOR).unwrap();
    let owed = vec![Owed { values: HashSet::from([0]), latest: 0 }; SECTORS];
    Guest { nvme, pair, data, owed, next: 1, cache: true }
}

impl Guest {
    fn write(&mut self, sector: usize, fua: bool) -> bool {
        let value = self.next;
        self.next += 1;
        self.data.write(&value.to_le_bytes().repeat(SECTOR / 8));
        let entry = Entry::write(1, sector as u64, 1, &self.data.prp().unwrap());
        let entry = if fua { entry.fua() } else { entry };
        self.owed[sector].values.insert(value);
        let done = self.pair.run(entry).unwrap().status.is_success();
        if done {
            let owed = &mut self.owed[sector];
            owed.latest = value;
            if fua || !self.cache {
                owed.values = HashSet::from([value]);
            }
        }
        done
    }

    /// Write Zeroes.
    fn zero(&mut self, sector: usize, fua: bool, deallocate: bool) -> bool {
        let entry = Entry::on_blocks(io_opcode::WRITE_ZEROES, 1, sector as u64, 1)
            .word(12, u32::from(deallocate) << 25 | u32::from(fua) << 30);
        self.owed[sector].values.insert(0);
        let done = self.pair.run(entry).unwrap().status.is_success();
        if done {
            let owed = &mut self.owed[sector];
            owed.latest = 0;
            if fua || !self.cache {
                owed.values = HashSet::from([0]);
            }
        }
        done
    }

    /// Everything that completed is durable from here on.
    fn all_durable(&mut self) {
        for owed in &mut self.owed {
            owed.values = HashSet::from([owed.latest]);
        }
    }

    fn flush(&mut self, nsid: u32) -> bool {
        let done = self.pair.run(Entry::flush(nsid)).unwrap().status.is_success();
        if done {
            self.all_durable();
        }
        done
    }

    fn shutdown(&mut self, abrupt: bool) {
        self.nvme.shutdown(abrupt).unwrap();
        self.restart();
    }

    /// What a guest does after a shutdown, or to get rid of trouble.
    fn restart(&mut self) {
        self.nvme.disable().unwrap();
        self.nvme.enable(&Enable::default()).unwrap();
        self.pair = self.nvme.create_pair(1, 16, Some(1), Wait::Poll).unwrap();
        self.cache = true;
    }

    fn read(&mut self, sector: usize) -> u64 {
        let entry = Entry::read(1, sector as u64, 1, &self.data.prp().unwrap());
        self.pair.execute(entry).unwrap();
        u64::from_le_bytes(self.data.to_vec()[..8].try_into().unwrap())
    }
}

#[test]
fn what_the_guest_was_told_is_durable_survives() {
    for (system, kind) in EVERY_KIND {
        for seed in 0..12 {
            let power = PowerCut::new(system, kind, SECTORS * SECTOR, seed);
            let mut lot = Lot::new(seed ^ 0x5eed);
            let mut guest = guest(&power);
            for _ in 0..120 {
                let sector = lot.below(SECTORS);
                match lot.below(24) {
                    0..=9 => assert!(guest.write(sector, false)),
                    20..=21 => assert!(guest.zero(sector, false, lot.below(2) == 0)),
                    22..=23 => assert!(guest.zero(sector, true, lot.below(2) == 0)),
                    10..=12 => assert!(guest.write(sector, true)),
                    13 => assert!(guest.flush(1)),
                    14 => assert!(guest.flush(0xffff_ffff)),
                    15 => {
                        guest.shutdown(false);
                        guest.all_durable();
                    }
                    16 => {
                        guest.shutdown(true);
                        guest.all_durable();
                    }
                    17 => guest.restart(),
                    18 => {
                        guest.nvme.set_feature(6, 0, 0).unwrap();
                        guest.all_durable();
                        guest.cache = false;
                    }
                    _ => {
                        guest.nvme.set_feature(6, 1, 0).unwrap();
                        guest.cache = true;
                    }
                }
            }
            power.cut();
            check(&power, &guest, &format!("{system:?} {kind:?} seed {seed}"));
        }
    }
}

/// The power goes in the middle of a command: what failed may be there or not,
/// what was promised before is.
#[test]
fn a_cut_in_the_middle_of_a_command_breaks_no_promise() {
    for (system, kind) in EVERY_KIND {
        for seed in 0..12 {
            let power = PowerCut::new(system, kind, SECTORS * SECTOR, seed);
            let mut lot = Lot::new(seed ^ 0xcafe);
            let mut guest = guest(&power);
            power.cut_after(20 + lot.below(60) as u64);
            let mut alive = true;
            while alive {
                let sector = lot.below(SECTORS);
                alive = match lot.below(8) {
                    0..=3 => guest.write(sector, false),
                    4 => guest.write(sector, true),
                    5 => guest.zero(sector, false, true),
                    6 => guest.zero(sector, true, false),
                    _ => guest.flush(1),
                };
            }
            check(&power, &guest, &format!("{system:?} {kind:?} seed {seed}"));
        }
    }
}

/// A guest that has shut down normally needs no power any more: with nothing
/// but plain writes before.
#[test]
fn a_normal_shutdown_leaves_nothing_volatile() {
    for (system, kind) in EVERY_KIND {
        let power = PowerCut::new(system, kind, SECTORS * SECTOR, 7);
        let mut guest = guest(&power);
        for sector in 0..SECTORS {
            assert!(guest.write(sector, false));
        }
        guest.nvme.shutdown(false).unwrap();
        guest.all_durable();
        power.cut();
        check(&power, &guest, &format!("{system:?} {kind:?}"));
    }
}

/// A read with Force Unit Access returns what is on the medium: so what it
/// returns is there.
#[test]
fn what_a_forced_read_returned_survives() {
    for (system, kind) in EVERY_KIND {
        let power = PowerCut::new(system, kind, SECTORS * SECTOR, 5);
        let mut guest = guest(&power);
        assert!(guest.write(9, false));
        assert_eq!(power.durable()[9 * SECTOR], 0);
        let entry = Entry::read(1, 9, 1, &guest.data.prp().unwrap()).fua();
        guest.pair.execute(entry).unwrap();
        assert_eq!(power.durable()[9 * SECTOR], 1, "{system:?} {kind:?}");
    }
}

/// Once the guest is told that the volatile write cache is off, what was
/// written before is durable.
#[test]
fn switching_the_cache_off_flushes() {
    for (system, kind) in EVERY_KIND {
        let power = PowerCut::new(system, kind, SECTORS * SECTOR, 3);
        let mut guest = guest(&power);
        assert!(guest.write(5, false));
        assert_eq!(power.durable()[5 * SECTOR], 0);
        let before = power.flushes();
        guest.nvme.set_feature(6, 0, 0).unwrap();
        assert_eq!(power.durable()[5 * SECTOR], 1, "{system:?} {kind:?}");
        assert_eq!(power.flushes(), before + 1);
    }
}

/// Zeroes over data: after a flush, and each way to make them durable at once.
#[test]
fn zeroes_are_durable_as_writes_are() {
    for (system, kind) in EVERY_KIND {
        for deallocate in [false, true] {
            let power = PowerCut::new(system, kind, SECTORS * SECTOR, 3);
            let mut guest = guest(&power);
            let durable = |sector: usize| power.durable()[sector * SECTOR];
            (1..4).for_each(|sector| assert!(guest.write(sector, true)));
            assert!(guest.zero(1, false, deallocate));
            assert_ne!(durable(1), 0, "{system:?} {kind:?}: no flush yet");
            assert!(guest.flush(1));
            assert_eq!(durable(1), 0, "{system:?} {kind:?}: flushed");
            assert!(guest.zero(2, true, deallocate));
            assert_eq!(durable(2), 0, "{system:?} {kind:?}: force unit access");
            guest.nvme.set_feature(6, 0, 0).unwrap();
            assert!(guest.zero(3, false, deallocate));
            assert_eq!(durable(3), 0, "{system:?} {kind:?}: write cache off");
        }
    }
}

/// What a Format NVM has erased does not come back, from its completion on.
#[test]
fn a_format_is_durable_when_it_completes() {
    const FORMAT_NVM: u8 = 0x80;
    for (system, kind) in EVERY_KIND {
        let power = PowerCut::new(system, kind, SECTORS * SECTOR, 11);
        let mut guest = guest(&power);
        for sector in 0..SECTORS {
            assert!(guest.write(sector, true));
        }
        assert!(power.durable().iter().any(|byte| *byte != 0));
        guest.nvme.admin().execute(Entry::new(FORMAT_NVM).nsid(1)).unwrap();
        assert!(power.durable().iter().all(|byte| *byte == 0), "{system:?} {kind:?}");
    }
}

fn check(power: &PowerCut, before: &Guest, what: &str) {
    let mut after = guest(power);
    for (sector, owed) in before.owed.iter().enumerate() {
        let found = after.read(sector);
        assert!(
            owed.values.contains(&found),
            "{what}: sector {sector} holds {found}, owed is one of {:?}",
            owed.values
        );
    }
}
