// SPDX-License-Identifier: BSD-2-Clause

//! The pieces, each by itself: what a register, a doorbell and a command cost
//! on the CPU that asks for them. The controller has no C ABI around it, and
//! its store is memory that never waits, so that commands run inside the
//! doorbell. Figures include what the driver does to write an entry to the ring
//! and to take a completion out of it.
//!
//! The whole, with threads, interrupts and files, is measured by the program
//! `bench` of the package devhost.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use bhyve_nvme::backend::Backend;
use bhyve_nvme::backend::ram::Ram;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use devhost::bare::{Bare, Gate, settings};
use devhost::bhyve::Machine;
use devhost::driver::{Data, Enable, Entry, Function, Memory, Nvme, QueuePair, Wait, registers};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// More than the caches of one core hold.
const STORE: u64 = 64 * MIB;
const BLOCK: u64 = 512;

struct Setup {
    bare: Arc<Bare>,
    memory: Arc<Memory>,
    pair: QueuePair,
}

fn setup(store: Arc<dyn Backend>) -> Setup {
    let machine = Machine::with_ram(32 * MIB);
    let memory = Memory::all(&machine);
    let bare = Bare::new(&machine, settings(), store);
    let nvme = Nvme::new(bare.clone(), &memory);
    nvme.enable(&Enable::default()).expect("a controller that starts");
    let pair = nvme.create_pair(1, 64, Some(1), Wait::Poll).expect("a queue pair");
    Setup { bare, memory, pair }
}

fn ram() -> Setup {
    let ram = Ram::new(STORE).expect("memory for a store");
    let setup = setup(Arc::new(ram));
    // Pages that were never written would all be one and the same.
    let data = Data::new(&setup.memory, MIB as usize).expect("memory for a buffer");
    let prp = data.prp().expect("memory for a list");
    for mib in 0..STORE / MIB {
        let blocks = MIB / BLOCK;
        let entry = Entry::write(1, mib * blocks, blocks as u32, &prp);
        setup.pair.execute(entry).expect("a write that succeeds");
    }
    setup
}

/// Reads of `len` bytes, `batch` of them with one ring of the doorbell, one
/// after the other through the store.
fn reads(criterion: &mut Criterion, name: &str, len: u64, batch: u64) {
    let setup = ram();
    let buffers: Vec<_> = (0..batch)
        .map(|_| {
            let data = Data::new(&setup.memory, len as usize).expect("memory for a buffer");
            let prp = data.prp().expect("memory for a list");
            (data, prp)
        })
        .collect();
    let blocks = len / BLOCK;
    let mut place = 0;
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(batch));
    group.bench_function(format!("{batch} at once"), |bencher| {
        bencher.iter(|| {
            setup.pair.raw(|sq, cq| {
                for (cid, (_, prp)) in (0u16..).zip(&buffers) {
                    sq.push(&Entry::read(1, place, blocks as u32, prp).cid(cid));
                    place = (place + blocks) % (STORE / BLOCK);
                }
                sq.ring();
                for _ in 0..batch {
                    // What is over the budget of one doorbell, a worker runs.
                    let completion = loop {
                        if let Some(completion) = cq.pop() {
                            break completion;
                        }
                        std::thread::yield_now();
                    };
                    assert!(completion.status.is_success(), "{completion:?}");
                }
                cq.ring();
            });
        });
    });
    group.finish();
}

fn commands(criterion: &mut Criterion) {
    reads(criterion, "read 4 KiB", 4 << 10, 1);
    reads(criterion, "read 4 KiB", 4 << 10, 32);
    reads(criterion, "read 128 KiB", 128 << 10, 1);
}

fn registers(criterion: &mut Criterion) {
    let setup = setup(Arc::new(Ram::new(MIB).expect("memory for a store")));
    criterion.bench_function("register read", |bencher| {
        bencher.iter(|| black_box(setup.bare.bar_read(0, black_box(registers::CSTS), 4)));
    });
    criterion.bench_function("head doorbell that moves nothing", |bencher| {
        bencher.iter(|| setup.pair.raw(|_, cq| cq.ring()));
    });
}

/// All workers are inside the store, so the doorbell wakes none.
fn busy_doorbell(criterion: &mut Criterion) {
    let (gate, handle) = Gate::new(MIB);
    let setup = setup(Arc::new(gate));
    let slots = usize::from(settings().io_slots);
    handle.close();
    let data = Data::new(&setup.memory, BLOCK as usize).expect("memory for a buffer");
    let entry = Entry::read(1, 0, 1, &data.prp().expect("a pointer"));
    // More than the workers take, so that entries wait at the end as well.
    let cids: Vec<u16> =
        (0..slots + 8).map(|_| setup.pair.submit(entry).expect("room in the queue")).collect();
    assert_eq!(handle.wait_inside(slots), slots);
    criterion.bench_function("tail doorbell while all workers are busy", |bencher| {
        bencher.iter(|| setup.pair.raw(|sq, _| sq.ring()));
    });
    handle.open();
    for cid in cids {
        assert!(setup.pair.wait(cid).expect("a completion").status.is_success());
    }
}

criterion_group! {
    name = controller;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = registers, busy_doorbell, commands
}
criterion_main!(controller);
