// SPDX-License-Identifier: BSD-2-Clause

//! A store that takes 100 ms, or never answers, does not hold a vCPU that
//! accesses a BAR or configuration space.
//!
//! What is measured is each single access: how long it took, whether the thread
//! gave up its processor in it (it waited for something), and whether its
//! processor was taken from it (the machine is shared). The bound is that of
//! all accesses but one in ten thousand, each
//!
//! - ended within 1 ms, or was preempted and would have;
//! - did not wait;
//! - used less than 1 ms of processor time.
//!
//! Preemption is the scheduler's doing and counted by it, so that an access
//! that took long is either explained or held against the device. Where the
//! machine itself is a guest, its own host takes processors away and tells
//! nobody; and a process that is stopped for a while seems to have waited. So a
//! loop that shows more is made again, over a new controller: what holds
//! accesses does so each time.
//!
//! `cargo test --test bar_access -- --nocapture` prints the distributions.

use devhost::driver::QueuePair;
use devhost::driver::registers as reg;
use devhost::faults::{Fault, Kind};
use devhost::rig::{Rig, Store, read, write};
use devhost::usage::{Usage, processor_time};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(1);

/// Accesses of each loop.
const COUNT: usize = 20_000;

/// How often each loop is made at most.
const ATTEMPTS: usize = 6;

/// One kind of access, told the number of the turn.
type Access<'a> = (&'static str, Box<dyn Fn(usize) + 'a>);

/// What a guest's vCPU may do at any time. Tails and heads are written as they
/// are: each wakes whoever is to look.
fn accesses<'a>(rig: &'a Rig, pairs: &'a [QueuePair; 2]) -> Vec<Access<'a>> {
    let nvme = &rig.nvme;
    let tail = |pair: &QueuePair| pair.raw(|sq, _| (sq.doorbell(), sq.tail));
    let head = |pair: &QueuePair| pair.raw(|_, cq| (cq.doorbell(), cq.head));
    let (tails, heads) = (pairs.each_ref().map(tail), pairs.each_ref().map(head));
    let ring = |(at, value): (u64, u32)| nvme.write32(at, value);
    let express = rig.device.capability(0x10).expect("a PCI Express capability") + 8;
    vec![
        ("read CAP", Box::new(|_| _ = nvme.read64(reg::CAP))),
        ("read CSTS", Box::new(|_| _ = nvme.csts())),
        ("read CC", Box::new(|_| _ = nvme.read32(reg::CC))),
        ("write ASQ", Box::new(|_| nvme.write64(reg::ASQ, 0))),
        ("write INTMS", Box::new(|_| nvme.write32(reg::INTMS, 1))),
        ("SQ doorbell", Box::new(move |n| ring(tails[n % 2]))),
        ("CQ doorbell", Box::new(move |n| ring(heads[n % 2]))),
        ("admin doorbell", Box::new(|_| nvme.write32(reg::DOORBELLS + 4, 0))),
        ("bad doorbell", Box::new(|_| nvme.write32(nvme.sq_doorbell(9), 1))),
        ("mask a vector", Box::new(|n| nvme.msix().mask(1 + (n % 2) as u16, n / 16 % 2 == 0))),
        ("read the table", Box::new(|_| _ = nvme.msix().masked(0))),
        ("mask the function", Box::new(|n| nvme.msix().mask_function(n / 16 % 2 == 0))),
        ("read DEVCTL", Box::new(move |_| _ = rig.device.cfg_read(express, 2))),
    ]
}

/// The same, and resets of every kind.
fn with_resets<'a>(rig: &'a Rig, pairs: &'a [QueuePair; 2]) -> Vec<Access<'a>> {
    let nvme = &rig.nvme;
    let mut all = accesses(rig, pairs);
    all.push(("write CC", Box::new(|n| nvme.write32(reg::CC, 0x0046_0000 | (n / 16 % 2) as u32))));
    all.push(("write CC.SHN", Box::new(|_| nvme.write32(reg::CC, 0x0046_4001))));
    all.push(("function level reset", Box::new(|_| rig.device.flr())));
    all
}

/// One access.
#[derive(Clone, Copy)]
struct Sample {
    name: &'static str,
    wall: Duration,
    processor: Duration,
    waited: bool,
    preempted: bool,
}

fn measure(turns: usize, accesses: &[Access<'_>]) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(turns);
    for turn in 0..turns {
        let (name, access) = &accesses[turn % accesses.len()];
        let before = Usage::now();
        let processor = processor_time();
        let begun = Instant::now();
        access(turn / accesses.len());
        let wall = begun.elapsed();
        let processor = processor_time() - processor;
        let after = Usage::now();
        samples.push(Sample {
            name,
            wall,
            processor,
            waited: after.waits > before.waits,
            preempted: after.preemptions > before.preemptions,
        });
    }
    samples
}

/// What a loop has shown.
#[derive(Debug)]
struct Verdict {
    waits: usize,
    busy: usize,
    /// Took long, and nobody knows why.
    unexplained: usize,
}

impl Verdict {
    /// Whether all accesses but one in ten thousand are as they should be.
    fn is_good(&self) -> bool {
        let few = COUNT / 10_000;
        self.waits <= few && self.busy <= few && self.unexplained <= few
    }
}

fn judge(what: &str, samples: &[Sample]) -> Verdict {
    let mut walls: Vec<Duration> = samples.iter().map(|sample| sample.wall).collect();
    walls.sort_unstable();
    let at = |part: f64| walls[((walls.len() as f64 * part) as usize).min(walls.len() - 1)];
    let count = |is: &dyn Fn(&Sample) -> bool| samples.iter().filter(|sample| is(sample)).count();
    let verdict = Verdict {
        waits: count(&|sample| sample.waited),
        busy: count(&|sample| sample.processor >= LIMIT),
        unexplained: count(&|sample| sample.wall >= LIMIT && !sample.preempted),
    };
    println!(
        "{what:34} p50 {:>8.1?} p99 {:>8.1?} p99.9 {:>8.1?} p99.99 {:>8.1?} max {:>8.1?}, of which \
         over 1 ms: {} preempted, {} unexplained; waited: {}; over 1 ms of processor time: {}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        at(1.0),
        count(&|sample| sample.wall >= LIMIT && sample.preempted),
        verdict.unexplained,
        verdict.waits,
        verdict.busy,
    );
    for sample in samples.iter().filter(|sample| sample.waited).take(5) {
        println!("    waited: {} ({:.1?})", sample.name, sample.wall);
    }
    verdict
}

/// Fills both queues.
fn fill(rig: &Rig, pairs: &[QueuePair; 2]) {
    let data = rig.data(4096);
    for pair in pairs {
        let entries: Vec<_> = (0..63u64)
            .map(|n| if n.is_multiple_of(2) { read(&data, n) } else { write(&data, n) })
            .collect();
        pair.submit_all(&entries).unwrap();
    }
}

/// One loop over a controller whose store meets `fault`, if any.
fn attempt(store: Store, options: &str, fault: Option<Kind>, resets: bool, what: &str) -> Verdict {
    let rig = Rig::faulty(store, options);
    let pairs = [rig.pair(1, 64), rig.pair(2, 64)];
    if let Some(kind) = fault {
        rig.faults.set(&[Fault::always(kind)]);
        fill(&rig, &pairs);
        if kind == Kind::Never {
            assert!(rig.faults.wait_stuck(1) >= 1);
        }
    }
    let all = if resets { with_resets(&rig, &pairs) } else { accesses(&rig, &pairs) };
    judge(what, &measure(COUNT, &all))
}

#[test]
fn a_store_that_is_late_or_never_answers_holds_no_access() {
    let slow = Kind::Delay(Duration::from_millis(100));
    let mut failures = Vec::new();
    let stores = [(Store::Ram, "", "ram"), (Store::File, "", "file")];
    let one =
        [(Store::Ram, ",ioslots=1", "ram, 1 slot"), (Store::File, ",ioslots=1", "file, 1 slot")];
    for (store, options, name) in stores.into_iter().chain(one) {
        for (fault, resets) in [
            (None, false),
            (Some(slow), false),
            (Some(Kind::Never), false),
            (Some(Kind::Never), true),
        ] {
            let mood = match fault {
                None => "idle".to_owned(),
                Some(kind) if resets => format!("{kind}, and resets"),
                Some(kind) => kind.to_string(),
            };
            let what = format!("{name}: {mood}");
            let bad: Vec<Verdict> = (0..ATTEMPTS)
                .map(|_| attempt(store, options, fault, resets, &what))
                .take_while(|verdict| !verdict.is_good())
                .collect();
            if bad.len() == ATTEMPTS {
                failures.push(format!("{what}: {bad:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A vCPU that does run the I/O of a late store itself, as `inline` has it, is
/// held by it; and what is measured above says so.
#[test]
fn the_measurement_notices_an_access_that_is_held() {
    let rig = Rig::faulty(Store::File, ",inline");
    let pair = rig.pair(1, 64);
    let data = rig.data(512);
    rig.faults.set(&[Fault::always(Kind::Delay(Duration::from_millis(2)))]);
    let submit: Access<'_> = (
        "submit",
        Box::new(|_| {
            pair.raw(|sq, _| {
                sq.push(&read(&data, 0));
                sq.ring();
            });
        }),
    );
    let turns = 20;
    let samples = measure(turns, &[submit]);
    let verdict = judge("inline, delay=2ms", &samples);
    assert_eq!(verdict.waits, turns);
    assert!(samples.iter().all(|sample| sample.wall >= LIMIT));
}
