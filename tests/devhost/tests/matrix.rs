// SPDX-License-Identifier: BSD-2-Clause

//! Linux on controllers of every size, with one and two processors, with and
//! without an IOMMU in between, whose controllers are reset and taken away
//! under I/O, and whose stores misbehave.

#![expect(clippy::disallowed_methods, reason = "the library's rules do not bind its tests")]

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devhost::faults;
use devhost::guest::{self, Options, Outcome, Served, Spec, TempDir};

const SCRIPTS: &str = concat!(
    "set -eu\n",
    include_str!("../../guest/lib.sh"),
    include_str!("../../guest/torture.sh"),
);

const QSZ: [u32; 5] = [2, 8, 64, 2048, 4096];
const MAXQ: [u32; 4] = [1, 2, 16, 64];

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn disk(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(name);
    File::create(&path).unwrap().set_len(32 << 20).unwrap();
    path
}

fn run(served: Served, options: Options) -> Outcome {
    let sockets = served.sockets().to_vec();
    let result = guest::run(&Options {
        disks: sockets.len(),
        sockets,
        timeout: Duration::from_secs(1800),
        ..options
    });
    served.finish().unwrap();
    let outcome = result.unwrap();
    assert_eq!(outcome.status, 0, "{}\nconsole:\n{}", outcome.output, outcome.console);
    outcome
}

/// Five disks in one guest: each depth, with the number of queues that
/// `shift` gives it; every other one has sectors of 4096 bytes, from the first
/// on if `swap` is 0.
fn boot(smp: u32, iommu: bool, shift: usize, swap: usize) {
    let _one = one_at_a_time();
    let dir = TempDir::new("matrix-test").unwrap();
    let slots: Vec<String> = (0..QSZ.len())
        .map(|i| {
            let (qsz, maxq) = (QSZ[i], MAXQ[(i + shift) % MAXQ.len()]);
            let sector = [4096, 512][(i + swap) % 2];
            let file = disk(&dir, &format!("disk{i}"));
            format!(
                "{},nvme,{},ser=D{i},sectsz={sector},qsz={qsz},maxq={maxq}",
                4 + i,
                file.display()
            )
        })
        .collect();
    let served = Served::start(&Spec::group(&slots, &[]).unwrap()).unwrap();
    let commands = format!(
        "{SCRIPTS}
         if before_reboot D0; then
             for disk in D0 D1 D2 D3 D4; do torture $disk 2 2; done
             warm_reboot D0
         fi
         for disk in D0 D1 D2 D3 D4; do kept $disk --verify_only=1; done
         echo all is there"
    );
    let outcome =
        run(served, Options { smp, iommu, reboots: true, commands, ..Options::default() });
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(
        lines,
        ["ok: D0", "ok: D1", "ok: D2", "ok: D3", "ok: D4", "rebooting", "all is there"],
        "{slots:?}"
    );
}

// Together these four have each pair of two properties' values.

#[test]
#[ignore = "takes minutes: make guests"]
fn one_processor() {
    boot(1, false, 0, 0);
}

#[test]
#[ignore = "takes minutes: make guests"]
fn two_processors() {
    boot(2, false, 1, 0);
}

#[test]
fn one_processor_behind_an_iommu() {
    boot(1, true, 2, 1);
}

#[test]
#[ignore = "takes minutes: make guests"]
fn two_processors_behind_an_iommu() {
    boot(2, true, 3, 1);
}

#[test]
#[ignore = "32 boots: make guests"]
fn every_combination() {
    for smp in [1, 2] {
        for iommu in [false, true] {
            for shift in 0..MAXQ.len() {
                for swap in [0, 1] {
                    eprintln!("{smp} processors, IOMMU {iommu}, shift {shift}, swap {swap}");
                    boot(smp, iommu, shift, swap);
                }
            }
        }
    }
}

/// Devices of 32 MiB at slots 4, 5, ... called by their faults' places in
/// `faults`: `D0`, `D1` and so on.
fn misbehaving(dir: &TempDir, faults: &[&[&str]]) -> Served {
    let slots: Vec<String> = (0..faults.len())
        .map(|i| {
            format!("{},nvme,{},ser=D{i},sectsz=512", 4 + i, disk(dir, &format!("d{i}")).display())
        })
        .collect();
    let mut specs = Spec::group(&slots, &[]).unwrap();
    for (i, (spec, faults)) in specs.iter_mut().zip(faults).enumerate() {
        for fault in *faults {
            spec.faults.push(faults::parse(&format!("{},{fault}", 4 + i)).unwrap().1);
        }
    }
    Served::start(&specs).unwrap()
}

/// A hundred controller resets a disk, and every other way to stop one, over
/// stores that are late, short and interrupted: the guest must not notice.
#[test]
#[ignore = "takes minutes: make guests"]
fn every_way_to_stop_over_stores_that_are_late_short_and_interrupted() {
    let _one = one_at_a_time();
    let dir = TempDir::new("matrix-test").unwrap();
    let served = misbehaving(
        &dir,
        &[
            &["delay=20ms,rate=0.5"],
            &["short,rate=0.5"],
            &["eintr,rate=0.3"],
            &["eagain,rate=0.3,seed=2"],
        ],
    );
    let commands = format!(
        "{SCRIPTS}
         if before_reboot D0; then
             for disk in D0 D1 D2 D3; do torture $disk 100 10; done
             warm_reboot D0
         fi
         for disk in D0 D1 D2 D3; do kept $disk --verify_only=1; done
         echo all is there"
    );
    let outcome = run(served, Options { reboots: true, commands, ..Options::default() });
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines, ["ok: D0", "ok: D1", "ok: D2", "ok: D3", "rebooting", "all is there"]);
}

/// The same over stores of which a part fails nine writes of ten: the guest is
/// told of these what they are, whatever is reset, and all else is as written.
#[test]
#[ignore = "takes minutes: make guests"]
fn every_way_to_stop_over_stores_that_fail() {
    let _one = one_at_a_time();
    let dir = TempDir::new("matrix-test").unwrap();
    let served = misbehaving(
        &dir,
        &[
            &["eio,of=write,lba=40960-45055,rate=0.9"],
            &["enospc,of=write,lba=40960-45055,rate=0.9"],
            &["erofs,of=write,lba=40960-45055,rate=0.9"],
        ],
    );
    let commands = format!(
        "{SCRIPTS}
         if before_reboot D0; then
             torture D0 100 10 'No data available'
             torture D1 100 10 'No space left on device'
             torture D2 100 10 'Input/output error'
             warm_reboot D0
         fi
         for disk in D0 D1 D2; do kept $disk --verify_only=1; done
         echo all is there"
    );
    let outcome = run(served, Options { reboots: true, commands, ..Options::default() });
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines, ["ok: D0", "ok: D1", "ok: D2", "rebooting", "all is there"]);
}

/// What never answers keeps CSTS.RDY at 1 whatever the guest does, which gives
/// the disk up and lives on. A reboot is not among these: bhyve answers it with
/// a new process.
#[test]
#[ignore = "takes minutes: make guests"]
fn every_way_to_stop_over_a_store_that_never_answers() {
    let _one = one_at_a_time();
    let dir = TempDir::new("matrix-test").unwrap();
    let mut slots = vec![format!("4,nvme,{},ser=D,sectsz=512", disk(&dir, "d").display())];
    slots.extend((0..4).map(|i| {
        format!("{},nvme,{},ser=N{i},sectsz=512", 5 + i, disk(&dir, &format!("n{i}")).display())
    }));
    let mut specs = Spec::group(&slots, &[]).unwrap();
    for (i, spec) in specs.iter_mut().enumerate().skip(1) {
        let fault = format!("{},never,lba=40960-45055", 4 + i);
        spec.faults.push(faults::parse(&fault).unwrap().1);
    }
    let served = Served::start(&specs).unwrap();
    let commands = format!("{SCRIPTS}\n{}", include_str!("../../guest/never.sh"));
    let options = Options {
        kernel_args: "nvme_core.io_timeout=3 nvme_core.admin_timeout=5".to_owned(),
        commands,
        ..Options::default()
    };
    let outcome = run(served, options);
    let expected = "given up: N0\ngiven up: N1\ngiven up: N2\ngiven up: N3\n";
    assert_eq!(outcome.output, expected);
}

/// Errors of the store reach the guest as what they are, and only where they
/// are; a store that never answers costs its own disk, not the guest.
#[test]
fn errors_reach_the_guest_and_what_never_answers_does_not_stop_it() {
    let _one = one_at_a_time();
    let dir = TempDir::new("matrix-test").unwrap();
    // From 20 MiB on.
    let served = misbehaving(
        &dir,
        &[
            &["eio,lba=40960-45055"],
            &["enospc,of=write,lba=40960-45055"],
            &["erofs,of=write,lba=40960-45055"],
            &["never,lba=40960-45055"],
        ],
    );
    let commands = format!("{SCRIPTS}\n{}", include_str!("../../guest/errors.sh"));
    let options = Options {
        // Else the guest would wait for half a minute before each step.
        kernel_args: "nvme_core.io_timeout=3 nvme_core.admin_timeout=5".to_owned(),
        commands,
        ..Options::default()
    };
    let outcome = run(served, options);
    assert_eq!(outcome.output, "ok: D0\nok: D1\nok: D2\nok: D3\n");
}
