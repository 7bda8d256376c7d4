// SPDX-License-Identifier: BSD-2-Clause

//! A store that becomes larger and smaller while the guest runs, and what that
//! costs while it does not.

use bhyve_nvme::controller::Settings;
use devhost::bare::{Bare, Gate, GateHandle, Op, settings};
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

/// Whether the namespace comes to have `bytes` bytes.
fn becomes(nvme: &Nvme, bytes: u64) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while size(nvme) != bytes {
        if Instant::now() > end {
            return false;
        }
        pause(Duration::from_millis(50));
    }
    true
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
                        let lba = n * 97 % ((DISK + 4 * MIB) / BLOCK as u64);
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

/// A controller over a store that says when it is asked; not enabled.
fn asked() -> Bench {
    let machine = Machine::with_ram(16 * MIB);
    let memory = Memory::all(&machine);
    let (gate, handle) = Gate::new(16 * MIB);
    let bare =
        Bare::new(&machine, Settings { io_slots: 2, ..settings() }, Arc::new(gate.resizing()));
    let function: Arc<dyn Function> = bare.clone();
    let nvme = Nvme::new(function, &memory);
    Bench { bare, memory, nvme, gate: handle }
}

/// An idle guest costs half a question a second; no guest, none.
#[test]
fn the_store_is_asked_seldom_and_for_no_guest_never() {
    let bench = asked();
    let questions = || bench.gate.log().iter().filter(|op| **op == Op::Size).count();
    pause(Duration::from_millis(2500));
    assert_eq!(questions(), 0);
    bench.nvme.enable(&Enable::default()).unwrap();
    let begun = Instant::now();
    pause(Duration::from_millis(4500));
    let most = begun.elapsed().as_secs() / 2 + 1;
    let before = questions();
    assert!((1..=most as usize).contains(&before), "{before} in {:?}", begun.elapsed());
    bench.nvme.shutdown(false).unwrap();
    let before = questions();
    pause(Duration::from_millis(2500));
    assert!(questions() <= before + 1, "one may have been on its way");

    // Somebody who knows need not wait.
    bench.nvme.disable().unwrap();
    bench.nvme.enable(&Enable::default()).unwrap();
    bench.gate.resize(8 * MIB);
    let begun = Instant::now();
    bench.bare.controller().store_resized();
    assert!(becomes(&bench.nvme, 8 * MIB));
    assert!(begun.elapsed() < Duration::from_secs(2));
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
