// SPDX-License-Identifier: BSD-2-Clause

//! What a store called durable survives a power cut: on every system, in a
//! file and on a device.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bhyve_nvme::backend::Backend;
use bhyve_nvme::backend::sys::{Calls, How, Kind, Request};
use bhyve_nvme::memory::{Region, Segment};

#[path = "support/power_cut_store.rs"]
mod power_cut_store;

use power_cut_store::{EVERY_KIND, Lot, PowerCut, SECTOR, System};

/// What a store owes of one sector.
#[derive(Clone, Default)]
struct Sector {
    /// The value that was promised to survive.
    promised: u64,
    /// Those it may have taken since.
    since: HashSet<u64>,
    /// The value that the next flush promises.
    latest: Option<u64>,
}

/// What a store owes.
struct Promises(Vec<Sector>);

impl Promises {
    fn new(sectors: usize) -> Promises {
        Promises(vec![Sector::default(); sectors])
    }

    /// A write begins, whatever becomes of it.
    fn begun(&mut self, sector: usize, value: u64) {
        self.0[sector].since.insert(value);
    }

    /// The write has completed.
    fn written(&mut self, sector: usize, value: u64, durable: bool) {
        if durable {
            self.0[sector] = Sector { promised: value, ..Sector::default() };
        } else {
            self.0[sector].latest = Some(value);
        }
    }

    /// A flush has completed.
    fn flushed(&mut self) {
        for sector in &mut self.0 {
            if let Some(promised) = sector.latest {
                *sector = Sector { promised, ..Sector::default() };
            }
        }
    }

    /// Checks what has survived in the sector, which is all it owes now.
    fn check(&mut self, n: usize, found: u64, case: &str) {
        let Sector { promised, since, .. } = &self.0[n];
        assert!(
            found == *promised || since.contains(&found),
            "{case}: sector {n} holds {found}; promised was {promised}, since then {since:?}"
        );
        self.0[n] = Sector { promised: found, ..Sector::default() };
    }
}

/// A guest with memory for transfers of up to 64 sectors.
struct Guest(Region);

impl Guest {
    fn new() -> Guest {
        Guest(Region::zeroed(64 * SECTOR).unwrap())
    }

    /// Segments for `sectors` sectors, some of them cut in odd places.
    fn list(&self, sectors: usize, lot: &mut Lot) -> Vec<Segment> {
        let mut list = Vec::new();
        let (mut at, end) = (0, sectors * SECTOR);
        while at < end {
            let part = match lot.below(3) {
                0 => end - at,
                1 => SECTOR,
                _ => 4 * (1 + lot.below(300)),
            };
            let part = part.min(end - at);
            list.push(self.0.segment().slice(at, part).unwrap());
            at += part;
        }
        list
    }

    fn put(&self, sector: usize, value: u64) {
        let bytes = value.to_ne_bytes().repeat(SECTOR / 8);
        self.0.segment().slice(sector * SECTOR, SECTOR).unwrap().write(&bytes).unwrap();
    }

    /// The value of a sector, which must be one and the same all over it.
    fn get(&self, sector: usize) -> u64 {
        let mut bytes = [0; SECTOR];
        self.0.segment().slice(sector * SECTOR, SECTOR).unwrap().read(&mut bytes).unwrap();
        let (first, _) = bytes.split_first_chunk().unwrap();
        assert!(bytes.chunks_exact(8).all(|chunk| chunk == first), "a torn sector");
        u64::from_ne_bytes(*first)
    }
}

fn check_all(store: &Arc<dyn Backend>, promises: &mut Promises, case: &str) {
    let guest = Guest::new();
    let one = guest.0.segment().slice(0, SECTOR).unwrap();
    for n in 0..promises.0.len() {
        store.read((n * SECTOR) as u64, &[one]).unwrap();
        promises.check(n, guest.get(0), case);
    }
}

/// Random writes, durable or not, and flushes; then a cut, and again.
fn live_and_die(system: System, kind: Kind, seed: u64) {
    const SECTORS: usize = 128;
    let case = format!("{system:?}, {kind:?}, seed {seed}");
    let power = PowerCut::new(system, kind, SECTORS * SECTOR, seed);
    let (mut lot, guest) = (Lot::new(!seed), Guest::new());
    let mut promises = Promises::new(SECTORS);
    let mut value = 1;
    for _ in 0..6 {
        let store = power.open();
        for _ in 0..lot.below(40) {
            if lot.below(8) == 0 {
                store.flush().unwrap();
                promises.flushed();
                continue;
            }
            let count = 1 + lot.below(16);
            let first = lot.below(SECTORS - count);
            let durable = lot.below(4) == 0;
            for n in 0..count {
                guest.put(n, value + n as u64);
                promises.begun(first + n, value + n as u64);
            }
            let list = guest.list(count, &mut lot);
            store.write((first * SECTOR) as u64, &list, durable).unwrap();
            for n in 0..count {
                promises.written(first + n, value + n as u64, durable);
            }
            value += count as u64;
        }
        power.cut();
        assert!(store.flush().is_err());
        check_all(&power.open(), &mut promises, &case);
    }
}

#[test]
fn what_was_promised_survives() {
    for (system, kind) in EVERY_KIND {
        for seed in 0..40 {
            live_and_die(system, kind, seed);
        }
    }
}

/// The power fails in the middle of what several threads are doing; what any
/// of them was told is there.
#[test]
fn what_was_promised_to_any_thread_survives() {
    const THREADS: usize = 4;
    const EACH: usize = 32;
    for (system, kind) in EVERY_KIND {
        for seed in 0..10 {
            let case = format!("{system:?}, {kind:?}, seed {seed}");
            let power = PowerCut::new(system, kind, THREADS * EACH * SECTOR, seed);
            let store = power.open();
            power.cut_after(20 + 40 * seed);
            let run = |thread: usize| {
                let (guest, mut lot) = (Guest::new(), Lot::new(seed * 16 + thread as u64));
                let mut promises = Promises::new(EACH);
                for value in 1.. {
                    let sector = lot.below(EACH);
                    let at = ((thread * EACH + sector) * SECTOR) as u64;
                    let durable = lot.below(3) == 0;
                    guest.put(0, value);
                    promises.begun(sector, value);
                    if store.write(at, &guest.list(1, &mut lot), durable).is_err() {
                        return promises;
                    }
                    promises.written(sector, value, durable);
                    if lot.below(6) == 0 {
                        if store.flush().is_err() {
                            return promises;
                        }
                        promises.flushed();
                    }
                }
                unreachable!("the power fails first");
            };
            let owed: Vec<Promises> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || run(n))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut all = Promises(owed.into_iter().flat_map(|promises| promises.0).collect());
            check_all(&power.open(), &mut all, &case);
        }
    }
}

/// The instrument itself: what is not flushed gets lost, in part.
#[test]
fn what_was_not_promised_is_lost_in_part() {
    for (system, kind) in EVERY_KIND {
        let power = PowerCut::new(system, kind, 64 * SECTOR, 7);
        let (store, guest) = (power.open(), Guest::new());
        (0..64).for_each(|n| guest.put(n, 1));
        store.write(0, &[guest.0.segment()], false).unwrap();
        power.cut();
        power.open().read(0, &[guest.0.segment()]).unwrap();
        let kept = (0..64).filter(|n| guest.get(*n) == 1).count();
        assert!((1..64).contains(&kept), "{system:?} {kind:?}: {kept}");
    }
}

/// The instrument itself: only the right call makes data durable.
#[test]
fn only_the_flush_of_the_system_is_one() {
    for (system, kind) in EVERY_KIND {
        type Flush = fn(&PowerCut, &u64) -> bool;
        let flushes: [(Flush, bool); 3] = [
            (|power, file| power.fdatasync(file).is_ok(), system == System::Linux),
            (
                |power, file| power.fsync(file).is_ok(),
                system == System::Linux || kind == Kind::Regular,
            ),
            (
                |power, file| power.ioctl(file, Request::DIOCGFLUSH, &mut []).is_ok(),
                system == System::FreeBsd && kind == Kind::Device,
            ),
        ];
        for (n, (flush, works)) in flushes.into_iter().enumerate() {
            let power = PowerCut::new(system, kind, SECTOR, 3);
            let file = power.open_file();
            let guest = Guest::new();
            guest.put(0, 5);
            let one = guest.0.segment().slice(0, SECTOR).unwrap();
            while power.pwritev(&file, 0, &[one]).is_err() {}
            // A signal may interrupt the first try.
            let _ = flush(&power, &file) || flush(&power, &file) || flush(&power, &file);
            let durable = power.durable()[0] != 0;
            assert_eq!(durable, works, "{system:?} {kind:?} {n}");
            assert_eq!(power.flushes() > 0, works);
        }
    }
}

impl PowerCut {
    fn open_file(&self) -> u64 {
        Calls::open(self, Path::new("disk"), How { write: true, ..How::default() }).unwrap()
    }
}
