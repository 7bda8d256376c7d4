// SPDX-License-Identifier: BSD-2-Clause

//! What a guest sees of a store that goes wrong. For each outcome: the status,
//! whether to retry, the entry in the Error Information log, what SMART counts,
//! and that no event is raised: commands tell of their errors themselves.
//!
//! | store | read | write | flush |
//! | --- | --- | --- | --- |
//! | EIO | Unrecovered Read Error | Write Fault | Write Fault |
//! | ENOSPC | Unrecovered Read Error | Capacity Exceeded | Capacity Exceeded |
//! | EROFS | Unrecovered Read Error | Namespace is Write Protected, DNR | the same |
//! | EINTR, EAGAIN, short | what it is in the end | the same | the same |
//! | late | success | success | success |
//! | never | nothing; CSTS.RDY stays 1 through a reset | the same | the same |

use devhost::driver::{Data, Entry, QueuePair, Status, Wait};
use devhost::faults::{Fault, Kind, Ops};
use devhost::rig::{ErrorEntry, Rig, STORES, Store, pattern, read, write};
use std::time::{Duration, Instant};

const WRITE_PROTECTED: u16 = 0x20;

/// SMART's count of media errors.
fn media_errors(rig: &Rig) -> u64 {
    let log = rig.nvme.get_log(2, 0xffff_ffff, 0, 512, true).unwrap();
    u64::from_le_bytes(log[160..168].try_into().unwrap())
}

/// Runs `entry`, which has to fail as `code`, and looks at all that a guest can
/// see of it.
#[track_caller]
fn fails(rig: &Rig, pair: &QueuePair, entry: Entry, lba: u64, code: u16, dnr: bool) {
    let (errors, media) = (rig.errors(), media_errors(rig));
    let event = rig.nvme.request_event().unwrap();
    let cid = pair.submit(entry).unwrap();
    let completion = pair.wait(cid).unwrap();
    assert_eq!(completion.status.code(), code);
    assert_eq!((completion.dw0, completion.status.dnr()), (0, dnr));
    let expected = ErrorEntry { count: errors + 1, sqid: pair.id(), cid, code, lba, nsid: 1 };
    assert_eq!(rig.error_log(1), [expected]);
    let is_media = code >> 8 == 2;
    assert_eq!(media_errors(rig), media + u64::from(is_media), "media errors");
    rig.nvme.admin().poll();
    assert!(rig.nvme.admin().take(event).is_none(), "an event was raised");
    assert!(rig.nvme.abort(0, event).unwrap());
    rig.nvme.admin().wait(event).unwrap();
}

#[test]
fn every_error_has_its_status_its_log_entry_and_no_event() {
    use Status as S;
    let cases = [
        (Kind::EIO, S::UNRECOVERED_READ, S::WRITE_FAULT, false),
        (Kind::ENOSPC, S::UNRECOVERED_READ, S::CAPACITY_EXCEEDED, false),
        (Kind::EROFS, S::UNRECOVERED_READ, WRITE_PROTECTED, true),
    ];
    for (store, options) in STORES {
        for (kind, on_read, on_write, dnr) in cases {
            let rig = Rig::faulty(store, options);
            let pair = rig.nvme.create_pair(1, 8, Some(1), Wait::Interrupt).unwrap();
            let data = rig.data(4096);
            rig.faults.set(&[Fault::always(kind)]);
            fails(&rig, &pair, read(&data, 77), 77, on_read, false);
            fails(&rig, &pair, write(&data, 78), 78, on_write, dnr);
            fails(&rig, &pair, Entry::flush(1), 0, on_write, dnr);
            rig.faults.set(&[Fault::always(kind).on(Ops::FLUSH)]);
            // The part of a durable write that fails is its flush.
            fails(&rig, &pair, write(&data, 79).fua(), 79, on_write, dnr);
            rig.faults.clear();
            // What failed for a moment is well again.
            pair.execute(write(&data, 78)).unwrap();
            pair.execute(read(&data, 77)).unwrap();
        }
    }
}

/// Reads and writes at random places of the first MiB of its own, one after
/// the other, against what must be there.
fn verified(rig: &Rig, pair: &QueuePair, rounds: u64) {
    let data = rig.data(64 << 10);
    for seed in 0..rounds {
        let lba = seed * 37 % 1900;
        let bytes = pattern(data.len(), seed);
        data.write(&bytes);
        let entry = write(&data, lba);
        pair.execute(if seed % 8 == 0 { entry.fua() } else { entry }).unwrap();
        data.fill(0);
        pair.execute(read(&data, lba)).unwrap();
        assert!(data.to_vec() == bytes, "round {seed}");
    }
}

/// Short transfers, signals and shortage are the library's business, not the
/// guest's.
#[test]
fn calls_that_are_cut_short_or_interrupted_are_made_again() {
    for options in ["", ",ioslots=1"] {
        for kind in [Kind::Short, Kind::EINTR, Kind::EAGAIN] {
            let rig = Rig::faulty(Store::File, options);
            let pair = rig.interrupting_pair(1, 8);
            rig.faults.set(&[Fault::always(kind).per_million(400_000)]);
            verified(&rig, &pair, 40);
            assert!(rig.faults.met() > 20, "{kind}: met {}", rig.faults.met());
            assert_eq!(rig.errors(), 0);
        }
    }
}

/// Every call moves half of what is asked for, down to a byte.
#[test]
fn a_file_that_always_transfers_half_is_read_and_written_all_the_same() {
    let rig = Rig::faulty(Store::File, "");
    let pair = rig.interrupting_pair(1, 8);
    rig.faults.set(&[Fault::always(Kind::Short)]);
    verified(&rig, &pair, 10);
    // Over many segments, none of them a multiple of anything.
    let odd = Data::scattered(&rig.memory, 300 * 512, 4).unwrap();
    let bytes = pattern(odd.len(), 3);
    odd.write(&bytes);
    pair.execute(write(&odd, 5000)).unwrap();
    odd.fill(0x71);
    pair.execute(read(&odd, 5000)).unwrap();
    assert!(odd.to_vec() == bytes);
    assert_eq!(odd.spilt(0x71), 0);
}

/// A system that stays short of something is an error in the end, after a few
/// attempts a millisecond apart.
#[test]
fn a_shortage_that_does_not_end_is_an_error() {
    for options in ["", ",ioslots=1"] {
        let rig = Rig::faulty(Store::File, options);
        let pair = rig.interrupting_pair(1, 8);
        let data = rig.data(512);
        rig.faults.set(&[Fault::always(Kind::EAGAIN)]);
        fails(&rig, &pair, read(&data, 1), 1, Status::UNRECOVERED_READ, false);
        fails(&rig, &pair, write(&data, 2), 2, Status::WRITE_FAULT, false);
        assert!((2..100).contains(&rig.faults.met()), "{} attempts", rig.faults.met());
    }
}

/// Only what touches the bad sectors fails, and of a transfer the whole.
#[test]
fn a_bad_place_fails_what_touches_it_and_nothing_else() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        let pair = rig.interrupting_pair(1, 8);
        rig.faults.set(&[Fault::always(Kind::EIO).at(1000..1008)]);
        for (lba, blocks, bad) in [
            (999, 1, false),
            (992, 8, false),
            (993, 8, true),
            (1000, 1, true),
            (1007, 1, true),
            (1007, 8, true),
            (1008, 8, false),
            (0, 2048, true),
        ] {
            let data = rig.data(blocks * 512);
            for entry in [read(&data, lba), write(&data, lba)] {
                let completion = pair.run(entry).unwrap();
                assert_eq!(!completion.status.is_success(), bad, "{lba} {blocks}");
            }
        }
    }
}

/// One in ten fails, by lot: those and no others are in the log and in SMART,
/// and what succeeded is right.
#[test]
fn errors_by_lot_are_all_accounted_for() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        let pair = rig.interrupting_pair(1, 16);
        let data = rig.data(4096);
        rig.faults.set(&[Fault::always(Kind::EIO).per_million(100_000)]);
        let mut failed = 0;
        let entry = |n: usize| {
            let lba = 8 * (n as u64 % 100);
            if n.is_multiple_of(2) { write(&data, lba) } else { read(&data, lba) }
        };
        pair.stream(8, 1000, entry, |_, completion| {
            let code = completion.status.code();
            let expected = [Status::SUCCESS, Status::UNRECOVERED_READ, Status::WRITE_FAULT];
            assert!(expected.contains(&code), "{completion:?}");
            failed += u64::from(code != Status::SUCCESS);
        })
        .unwrap();
        assert!((50..200).contains(&failed), "{failed} of 1000");
        assert_eq!(rig.faults.met(), failed);
        assert_eq!((rig.errors(), media_errors(&rig)), (failed, failed));
    }
}

/// More errors than the log has room for, at once, from many queues: it keeps
/// the newest and counts them all.
#[test]
fn a_storm_of_errors_is_counted() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        rig.faults.set(&[Fault::always(Kind::EIO)]);
        let pairs = [1, 2, 3, 4].map(|id| rig.interrupting_pair(id, 64));
        std::thread::scope(|scope| {
            for pair in &pairs {
                let data = rig.data(512);
                scope.spawn(move || {
                    pair.stream(
                        60,
                        1000,
                        |n| read(&data, n as u64),
                        |_, completion| {
                            assert_eq!(completion.status.code(), Status::UNRECOVERED_READ);
                        },
                    )
                    .unwrap();
                });
            }
        });
        assert_eq!((rig.errors(), media_errors(&rig)), (4000, 4000));
        let log = rig.error_log(64);
        let counts: Vec<u64> = log.iter().map(|entry| entry.count).collect();
        assert_eq!(counts, (0..64).map(|n| 4000 - n).collect::<Vec<u64>>());
        assert!(log.iter().all(|entry| entry.code == Status::UNRECOVERED_READ));
    }
}

/// A slow place costs whoever goes there, and nobody else.
#[test]
fn a_delay_is_a_delay_and_no_more() {
    const LATE: Duration = Duration::from_millis(100);
    for store in [Store::Ram, Store::File] {
        let rig = Rig::faulty(store, "");
        let (slow, quick) = (rig.interrupting_pair(1, 8), rig.interrupting_pair(2, 8));
        let data = rig.data(4096);
        rig.faults.set(&[Fault::always(Kind::Delay(LATE)).at(0..8)]);
        // Where the host stops the test for as long as the delay, nothing is
        // done meanwhile.
        let others_go_on = (0..20).any(|_| {
            let (begun, met) = (Instant::now(), rig.faults.met());
            let cid = slow.submit(write(&data, 0)).unwrap();
            let mut done = 0;
            while rig.faults.met() == met || begun.elapsed() < LATE / 2 {
                quick.execute(read(&data, 8)).unwrap();
                done += 1;
            }
            slow.poll();
            let late = slow.in_flight() == 1;
            assert!(slow.wait(cid).unwrap().status.is_success());
            assert!(begun.elapsed() >= LATE);
            late && done > 1
        });
        assert!(others_go_on);
        assert_eq!(rig.errors(), 0);
    }
}

/// Each slot can be stuck, and then all are; until then the others work, and
/// the admin queue always does.
#[test]
fn commands_that_never_end_take_their_slots_and_nothing_else() {
    for (store, options) in STORES {
        let rig = Rig::faulty(store, options);
        let slots = if options.is_empty() { 8 } else { 1 };
        let (bad, good) = (rig.interrupting_pair(1, 32), rig.interrupting_pair(2, 32));
        let data = rig.data(4096);
        rig.faults.set(&[Fault::always(Kind::Never).at(0..8)]);
        let mut held = Vec::new();
        for stuck in 1..=slots {
            held.push(bad.submit(read(&data, 0)).unwrap());
            assert_eq!(rig.faults.wait_stuck(stuck), stuck);
            if stuck < slots {
                for lba in [8, 16] {
                    good.execute(read(&data, lba)).unwrap();
                    bad.execute(write(&data, lba)).unwrap();
                }
            }
            rig.nvme.identify(1, 0).unwrap();
        }
        // One more, which no slot is left for, does not come through.
        let waiting = good.submit(read(&data, 8)).unwrap();
        devhost::rig::pause(Duration::from_millis(10));
        good.poll();
        assert!(good.take(waiting).is_none());
        rig.nvme.identify(1, 0).unwrap();
        rig.faults.clear();
        assert!(good.wait(waiting).unwrap().status.is_success());
        for cid in held {
            assert!(bad.wait(cid).unwrap().status.is_success());
        }
        assert_eq!(rig.errors(), 0);
    }
}

/// After a flush that failed, Linux has dropped the data; a later one that
/// succeeds would vouch for what is gone, so none does, in this life of the
/// controller or in a later one.
#[cfg(not(target_os = "freebsd"))]
#[test]
fn a_file_that_lost_data_never_flushes_well_again() {
    let rig = Rig::faulty(Store::File, "");
    let pair = rig.interrupting_pair(1, 8);
    let data = rig.data(512);
    pair.execute(write(&data, 0)).unwrap();
    rig.faults.set(&[Fault::always(Kind::EIO).on(Ops::FLUSH).times(1)]);
    for _ in 0..3 {
        fails(&rig, &pair, Entry::flush(1), 0, Status::WRITE_FAULT, false);
        fails(&rig, &pair, write(&data, 5).fua(), 5, Status::WRITE_FAULT, false);
    }
    assert_eq!(rig.faults.met(), 1);
    pair.execute(read(&data, 0)).unwrap();
    rig.nvme.disable().unwrap();
    rig.enable();
    let pair = rig.interrupting_pair(1, 8);
    fails(&rig, &pair, Entry::flush(1), 0, Status::WRITE_FAULT, false);
}

/// Switching the volatile cache off makes durable what was written before; the
/// guest is not told that it is so when it is not.
#[test]
fn the_cache_is_not_switched_off_over_a_flush_that_fails() {
    for options in ["", ",ioslots=1"] {
        let rig = Rig::faulty(Store::File, options);
        let pair = rig.interrupting_pair(1, 8);
        pair.execute(write(&rig.data(512), 0)).unwrap();
        rig.faults.set(&[Fault::always(Kind::EIO).on(Ops::FLUSH)]);
        let error = rig.nvme.set_feature(6, 0, 0).unwrap_err();
        assert_eq!(error.code(), Some(Status::WRITE_FAULT));
    }
}

/// A fault that a store cannot have is no start, with a line that says so.
#[test]
fn a_ram_disk_makes_no_system_call() {
    let machine = devhost::bhyve::Machine::with_ram(1 << 20);
    for kind in [Kind::Short, Kind::EINTR, Kind::EAGAIN] {
        let faults = devhost::faults::Faults::of(&[Fault::always(kind)]);
        let error = devhost::faults::device(&machine, Some("4,nvme,ram=1"), &[], &faults);
        let message = error.err().unwrap().to_string();
        assert!(message.contains(&kind.to_string()), "{message}");
    }
}
