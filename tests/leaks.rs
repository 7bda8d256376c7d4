// SPDX-License-Identifier: BSD-2-Clause

//! Ten thousand resets, and what is left of them: threads, descriptors and
//! memory of the whole process, which is why this program has one test.

#![cfg(target_os = "linux")]

use devhost::driver::registers as reg;
use devhost::driver::{Data, Enable, Wait};
use devhost::rig::{Rig, Store, read, write};
use std::fs;

const RESETS: usize = 10_000;

/// What the process has now.
#[derive(Clone, Copy, Debug)]
struct Use {
    threads: usize,
    descriptors: usize,
    /// Bytes of memory that are there.
    resident: usize,
}

fn entries(dir: &str) -> usize {
    fs::read_dir(dir).expect("a folder of procfs").count()
}

fn now() -> Use {
    let statm = fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm");
    Use {
        threads: entries("/proc/self/task"),
        descriptors: entries("/proc/self/fd"),
        resident: pages * 4096,
    }
}

/// One life with commands in flight at its end, and one of seven ends.
fn life(rig: &Rig, n: usize, buffers: &[Data; 2]) {
    rig.nvme.msix().setup();
    let enable = Enable { wait: Wait::Poll, ..Enable::default() };
    rig.nvme.enable(&enable).unwrap();
    let pair = rig.pair(1 + (n % 4) as u16, [2, 16, 256][n % 3]);
    let [reads, writes] = buffers;
    if n.is_multiple_of(2) {
        pair.execute(read(reads, n as u64 % 1000)).unwrap();
    }
    let entries = [read(reads, 0), write(writes, 8), read(reads, 16), write(writes, 24)];
    pair.submit_all(&entries[..1 + n % 4]).unwrap_or_default();
    match n % 7 {
        0..=2 => rig.nvme.write32(reg::CC, 0),
        3 => {
            rig.nvme.shutdown(false).unwrap();
            rig.nvme.write32(reg::CC, 0);
        }
        4 => rig.device.flr(),
        5 => {
            rig.nvme.write32(reg::CC, 0);
            rig.nvme.write32(reg::CC, 0x0046_0001);
            rig.nvme.write32(reg::CC, 0);
        }
        _ => {
            rig.nvme.request_event().unwrap();
            rig.nvme.delete_sq(pair.id()).unwrap();
            rig.nvme.write32(reg::CC, 0);
        }
    }
    rig.nvme.wait_csts(reg::CSTS_RDY, 0).unwrap();
}

#[test]
fn ten_thousand_resets_leak_nothing() {
    let start = now();
    let rigs = [Rig::idle(Store::Ram, ""), Rig::idle(Store::File, "")];
    let buffers: Vec<[Data; 2]> = rigs.iter().map(|rig| [rig.data(4096), rig.data(4096)]).collect();
    let mut lives = 0;
    let mut live = |count: usize| {
        for _ in 0..count {
            let which = lives % 2;
            life(&rigs[which], lives / 2, &buffers[which]);
            lives += 1;
        }
    };
    // Most workers are made, and most buffers have their size.
    live(500);
    let mut before = now();
    // Each of the two has its own thread, and at most eight workers.
    let threads = start.threads + 2 * 9;
    // A byte for each reset would be ten thousand; the allocator's own ups and
    // downs are more than that, as is a worker that is made late, but a page for
    // each would be 40 MiB, and each time.
    let settles = (0..4).any(|_| {
        live(RESETS);
        let after = now();
        println!("{RESETS} resets: {before:?}, then {after:?}");
        assert!(after.threads <= threads, "{start:?} {after:?}");
        assert_eq!(after.descriptors, before.descriptors);
        let grown = after.resident.saturating_sub(before.resident);
        before = after;
        grown < 2 << 20
    });
    assert!(settles, "memory grows with each {RESETS} resets: {before:?}");

    // And devices that come and go take their threads and files along.
    for _ in 0..100 {
        let rig = Rig::new(Store::File, "");
        rig.pair(1, 16).execute(read(&rig.data(512), 0)).unwrap();
    }
    let end = std::time::Instant::now() + devhost::PATIENCE;
    let mut last = now();
    while last.threads > threads || last.descriptors != before.descriptors {
        if std::time::Instant::now() > end {
            break;
        }
        devhost::rig::pause(std::time::Duration::from_millis(5));
        last = now();
    }
    assert!(last.threads <= threads, "{start:?} {last:?}");
    assert_eq!(last.descriptors, before.descriptors);
}
