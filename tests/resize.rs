// SPDX-License-Identifier: BSD-2-Clause

//! A store that becomes larger and smaller while the guest runs, and what that
//! costs while it does not.

use bhyve_nvme::controller::Settings;
use devhost::PATIENCE;
use devhost::bare::{Bare, Gate, GateHandle, Notices, Op, settings};
use devhost::bhyve::Machine;
use devhost::driver::{Data, Enable, Entry, Function, Memory, Nvme, Status};
use devhost::rig::{self, BLOCK, DISK, Rig, Store, pattern, pause, read, write};
use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const NAMESPACE_CHANGED: u32 = 0x0004_0002;

/// Changes the size of the rig's file.
fn resize(rig: &Rig, bytes: u64) {
    OpenOptions::new().write(true).open(rig.path()).unwrap().set_len(bytes).unwrap();
}

fn size(nvme: &Nvme) -> u64 {
    nvme.namespace(1).unwrap().blocks * BLOCK as u64
}

/// Whether `condition` comes true.
fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        pause(Duration::from_millis(10));
    }
    true
}

/// Whether the namespace comes to have `bytes` bytes.
fn becomes(nvme: &Nvme, bytes: u64) -> bool {
    eventually(|| size(nvme) == bytes)
}

/// Nobody tells the controller: it finds out, and tells the guest.
#[test]
fn a_file_that_grows_and_shrinks_is_noticed() {
    let rig = Rig::new(Store::File, "");
    let pair = rig.pair(1, 16);
    let data = rig.data(4096);
    let code = |lba| pair.run(read(&data, lba)).unwrap().status.code();
    rig.nvme.set_feature(0x0b, 1 << 8, 0).unwrap();
    assert_eq!(size(&rig.nvme), DISK);
    for bytes in [DISK + 8 * MIB, DISK / 2, DISK / 2 + BLOCK as u64, DISK] {
        let before = size(&rig.nvme);
        let request = rig.nvme.request_event().unwrap();
        resize(&rig, bytes);
        assert_eq!(rig.nvme.admin().wait(request).unwrap().dw0, NAMESPACE_CHANGED);
        assert_eq!(size(&rig.nvme), bytes);
        let mut list = vec![0; 4096];
        list[0] = 1;
        assert_eq!(rig.nvme.get_log(4, 0, 0, 4096, false).unwrap(), list);

        // The last blocks there are can be used, and none behind them.
        let last = (bytes - 4096) / BLOCK as u64;
        let value = pattern(4096, bytes);
        data.write(&value);
        pair.execute(write(&data, last)).unwrap();
        data.fill(0);
        pair.execute(read(&data, last)).unwrap();
        assert!(data.to_vec() == value);
        assert_eq!(code(bytes / BLOCK as u64), Status::LBA_OUT_OF_RANGE);
        assert_eq!(code(last + 1), Status::LBA_OUT_OF_RANGE);
        if before + 4096 <= bytes {
            assert_eq!(code(before / BLOCK as u64 - 1), 0);
        }
        assert_eq!(std::fs::metadata(rig.path()).unwrap().len(), bytes, "nothing made it grow");
    }
}

/// Reads everywhere and writes where no end comes to lie, all the while.
#[test]
fn io_in_flight_ends_well_or_out_of_range() {
    let rig = Rig::new(Store::File, "");
    let end = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let (rig, end) = (&rig, &end);
        let readers: Vec<_> = [1, 2]
            .map(|id| {
                scope.spawn(move || {
                    let pair = rig.pair(id, 16);
                    let data = rig.data(64 << 10);
                    let prp = data.prp().unwrap();
                    let mut refused = 0;
                    for n in 0_u64.. {
                        if end.load(Ordering::Relaxed) {
                            break;
                        }
                        // One in five lies behind the end that the disk begins with.
                        let lba = n * 11_003 % ((DISK + 4 * MIB) / BLOCK as u64);
                        match pair.run(Entry::read(1, lba, 128, &prp)).unwrap().status.code() {
                            0 => {}
                            Status::LBA_OUT_OF_RANGE => refused += 1,
                            other => panic!("block {lba}: {other:#x}"),
                        }
                    }
                    refused
                })
            })
            .into_iter()
            .collect();
        let writer = scope.spawn(move || {
            let pair = rig.pair(3, 16);
            let data = rig.data(4096);
            for n in 0_u64.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let lba = n % 1000 * 8;
                let value = pattern(4096, n);
                data.write(&value);
                pair.execute(write(&data, lba)).unwrap();
                data.fill(0);
                pair.execute(read(&data, lba)).unwrap();
                assert!(data.to_vec() == value, "block {lba}");
            }
        });
        for bytes in [DISK / 2, DISK + 4 * MIB, DISK / 2, DISK] {
            resize(rig, bytes);
            assert!(becomes(&rig.nvme, bytes), "{bytes}");
        }
        end.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(refused > 0);
}

struct Bench {
    bare: Arc<Bare>,
    memory: Arc<Memory>,
    nvme: Nvme,
    gate: GateHandle,
}

impl Bench {
    /// A controller over what `make` makes of a store; not enabled.
    fn new(make: impl FnOnce(Gate) -> Gate) -> Bench {
        let machine = Machine::with_ram(16 * MIB);
        let memory = Memory::all(&machine);
        let (gate, handle) = Gate::new(16 * MIB);
        let settings = Settings { io_slots: 2, ..settings() };
        let bare = Bare::new(&machine, settings, Arc::new(make(gate)));
        let function: Arc<dyn Function> = bare.clone();
        let nvme = Nvme::new(function, &memory);
        Bench { bare, memory, nvme, gate: handle }
    }

    /// How often the store was asked for its size.
    fn questions(&self) -> usize {
        self.gate.log().iter().filter(|op| **op == Op::Size).count()
    }
}

/// A controller over a store that says when it is asked; not enabled.
fn asked() -> Bench {
    Bench::new(Gate::resizing)
}

/// The same over one that tells of changes, by these notices.
fn told() -> (Bench, Arc<Notices>) {
    let notices = Arc::new(Notices::default());
    (Bench::new(|gate| gate.telling(&notices)), notices)
}

/// An idle guest costs half a question a second; no guest, none.
#[test]
fn the_store_is_asked_seldom_and_for_no_guest_never() {
    let bench = asked();
    let questions = || bench.questions();
    pause(Duration::from_millis(2500));
    assert_eq!(questions(), 0);
    let begun = Instant::now();
    bench.nvme.enable(&Enable::default()).unwrap();
    pause(Duration::from_millis(4500));
    assert!(eventually(|| questions() > 0));
    let before = questions();
    let most = begun.elapsed().as_secs() / 2 + 1;
    assert!(before <= most as usize, "{before} in {:?}", begun.elapsed());
    bench.nvme.shutdown(false).unwrap();
    let before = questions();
    pause(Duration::from_millis(2500));
    assert!(questions() <= before + 1, "one may have been on its way");

    // Somebody who knows need not wait for the next question, unless the host
    // stops for a while.
    bench.nvme.disable().unwrap();
    let before = questions();
    bench.nvme.enable(&Enable::default()).unwrap();
    assert!(eventually(|| questions() > before));
    let at_once = [8, 12].into_iter().cycle().take(20).any(|mib| {
        bench.gate.resize(mib * MIB);
        let begun = Instant::now();
        bench.bare.controller().store_resized();
        assert!(becomes(&bench.nvme, mib * MIB));
        begun.elapsed() < Duration::from_millis(200)
    });
    assert!(at_once);
}

/// A store that does not answer holds one worker: I/O goes on beside it, and a
/// reset does not wait.
#[test]
fn a_store_that_does_not_answer_holds_nobody_up() {
    let bench = asked();
    bench.nvme.enable(&Enable::default()).unwrap();
    bench.gate.close();
    assert_eq!(bench.gate.wait_inside(1), 1);
    assert_eq!(bench.gate.log(), [Op::Size]);
    bench.nvme.disable().unwrap();
    bench.nvme.enable(&Enable::default()).unwrap();
    let pair = bench.nvme.create_pair(1, 16, Some(1), devhost::driver::Wait::Poll).unwrap();
    let data = Data::new(&bench.memory, 4096).unwrap();
    let cid = pair.submit(rig::read(&data, 0)).unwrap();
    assert_eq!(bench.gate.wait_inside(2), 2);
    assert_eq!(size(&bench.nvme), 16 * MIB);
    bench.gate.open();
    assert!(pair.wait(cid).unwrap().status.is_success());
}

/// The notice is enough: the size follows at once, and is not asked for
/// without one.
#[test]
fn a_store_that_tells_is_followed_at_once_and_asked_no_more() {
    let (bench, notices) = told();
    bench.nvme.enable(&Enable::default()).unwrap();
    bench.nvme.set_feature(0x0b, 1 << 8, 0).unwrap();
    for bytes in [8 * MIB, 12 * MIB] {
        let request = bench.nvme.request_event().unwrap();
        let asked = bench.questions();
        // Longer than one that does not tell is left alone.
        pause(Duration::from_millis(2500));
        assert_eq!(bench.questions(), asked);
        bench.gate.resize(bytes);
        assert_ne!(size(&bench.nvme), bytes);
        notices.tell();
        assert_eq!(bench.nvme.admin().wait(request).unwrap().dw0, NAMESPACE_CHANGED);
        assert_eq!(size(&bench.nvme), bytes);
        assert_eq!(bench.questions(), asked + 1);
        bench.nvme.get_log(4, 0, 0, 4096, false).unwrap();
    }
}

/// A notice while nobody is there to be told waits for the guest.
#[test]
fn a_notice_for_no_guest_is_kept() {
    let (bench, notices) = told();
    bench.gate.resize(8 * MIB);
    notices.tell();
    assert!(eventually(|| notices.seen() == 1));
    pause(Duration::from_millis(500));
    assert_eq!((bench.questions(), notices.seen()), (0, 1));
    bench.nvme.enable(&Enable::default()).unwrap();
    assert!(becomes(&bench.nvme, 8 * MIB));
    assert_eq!(bench.questions(), 1);
}

/// Somebody on the host changes the file's mode over and over.
#[test]
fn notices_without_end_cost_little_and_hide_nothing() {
    let (bench, notices) = told();
    let begun = Instant::now();
    bench.nvme.enable(&Enable::default()).unwrap();
    while begun.elapsed() < Duration::from_secs(1) {
        notices.tell();
        pause(Duration::from_millis(1));
    }
    bench.gate.resize(8 * MIB);
    notices.tell();
    assert!(becomes(&bench.nvme, 8 * MIB));
    let questions = bench.questions();
    let most = begun.elapsed().as_millis() / 100 + 2;
    assert!((1..=most as usize).contains(&questions), "{questions} in {:?}", begun.elapsed());
}

#[test]
fn the_thread_that_waits_for_notices_ends_with_the_controller() {
    let (bench, notices) = told();
    bench.nvme.enable(&Enable::default()).unwrap();
    assert!(Arc::strong_count(&notices) > 1);
    drop(bench);
    assert!(eventually(|| Arc::strong_count(&notices) == 1), "somebody still waits");
}
