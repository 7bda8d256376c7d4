// SPDX-License-Identifier: BSD-2-Clause

//! Interrupts as in bhyve: what is masked or disabled when it is raised is
//! dropped there, and nothing is pending afterwards. Nothing may be lost.

use devhost::PATIENCE;
use devhost::driver::{Enable, QueuePair, Wait};
use devhost::faults::{Fault, Kind};
use devhost::rig::{Rig, STORES, Store, pause, read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ways to hold an interrupt back, and to let it come.
#[derive(Clone, Copy, Debug)]
enum Hold {
    Vector,
    Function,
    Disabled,
}

const HOLDS: [Hold; 3] = [Hold::Vector, Hold::Function, Hold::Disabled];

fn hold(rig: &Rig, how: Hold, vector: u16, held: bool) {
    let msix = rig.nvme.msix();
    match how {
        Hold::Vector => msix.mask(vector, held),
        Hold::Function => msix.mask_function(held),
        Hold::Disabled => msix.enable(!held),
    }
}

#[test]
fn what_is_held_back_comes_when_it_is_let() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(3, 8);
        let data = rig.data(512);
        let interrupts = rig.nvme.msix().interrupts().clone();
        for how in HOLDS {
            hold(&rig, how, 3, true);
            let before = interrupts.count(3);
            pair.execute(read(&data, 0)).unwrap();
            pause(Duration::from_millis(5));
            assert_eq!(interrupts.count(3), before, "{how:?}: it is held back");
            hold(&rig, how, 3, false);
            // Raised by the vCPU that lets it come, before its access ends; but
            // a worker may not have come to ask for it until now.
            if store == Store::File {
                interrupts.wait(3, before, PATIENCE);
            }
            assert!(interrupts.count(3) > before, "{how:?}: it was lost");
            pause(Duration::from_millis(5));
            assert_eq!(interrupts.count(3), before + 1, "{how:?}: it came twice");
        }
        assert_eq!(interrupts.strays(), 0);
    }
}

/// Held in more than one way, it comes when the last lets it go.
#[test]
fn all_masks_have_to_be_clear() {
    let rig = Rig::new(Store::Ram, "");
    let pair = rig.pair(1, 8);
    let data = rig.data(512);
    let interrupts = rig.nvme.msix().interrupts().clone();
    for last in 0..3 {
        HOLDS.iter().for_each(|how| hold(&rig, *how, 1, true));
        let before = interrupts.count(1);
        pair.execute(read(&data, 0)).unwrap();
        for step in 1..=3 {
            assert_eq!(interrupts.count(1), before);
            hold(&rig, HOLDS[(last + step) % 3], 1, false);
        }
        assert!(interrupts.count(1) > before);
    }
}

/// Runs commands that are waited for by interrupt alone while another vCPU
/// does `trouble` again and again.
fn under(rig: &Rig, pair: &QueuePair, commands: usize, trouble: impl Fn() + Sync) {
    let data = rig.data(512);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let vcpu = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                trouble();
                std::thread::yield_now();
            }
        });
        let run = pair.stream(
            3,
            commands,
            |_| read(&data, 0),
            |_, completion| {
                assert!(completion.status.is_success());
            },
        );
        stop.store(true, Ordering::SeqCst);
        vcpu.join().unwrap();
        run.unwrap();
    });
}

/// Linux masks a vector, writes its new message and unmasks it, whenever it
/// moves an interrupt to another CPU.
#[test]
fn linux_moves_vectors_between_cpus_and_misses_nothing() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.interrupting_pair(1, 8);
        under(&rig, &pair, 3000, || rig.nvme.msix().program(1));
        assert_eq!(rig.nvme.msix().interrupts().strays(), 0);
    }
}

#[test]
fn masks_of_all_kinds_at_any_time_lose_nothing() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.interrupting_pair(1, 8);
        for how in HOLDS {
            under(&rig, &pair, 1500, || {
                hold(&rig, how, 1, true);
                std::thread::yield_now();
                hold(&rig, how, 1, false);
            });
        }
    }
}

/// A vector is checked against the table, not against what is enabled.
#[test]
fn a_queue_may_be_made_before_msix_is_enabled() {
    for (store, options) in STORES {
        let rig = Rig::idle(store, options);
        rig.enable();
        let pair = rig.interrupting_pair(16, 8);
        let cid = pair.submit(read(&rig.data(512), 0)).unwrap();
        pause(Duration::from_millis(10));
        assert_eq!(rig.nvme.msix().interrupts().total(), 0);
        rig.nvme.msix().setup();
        assert!(pair.wait(cid).unwrap().status.is_success());
    }
}

/// The old life's interrupts are gone with it.
#[test]
fn a_reset_forgets_what_was_held_back() {
    for (store, options) in STORES {
        for function_level in [false, true] {
            let rig = Rig::new(store, options);
            let pair = rig.pair(1, 8);
            for vector in [0, 1] {
                rig.nvme.msix().mask(vector, true);
            }
            pair.execute(read(&rig.data(512), 0)).unwrap();
            if function_level {
                rig.nvme.function_level_reset().unwrap();
                assert!(rig.nvme.msix().masked(1), "a function level reset masks all");
                assert_eq!(rig.nvme.msix().control() & 0xc000, 0);
            } else {
                rig.nvme.disable().unwrap();
            }
            let before = rig.nvme.msix().interrupts().total();
            rig.nvme.msix().setup();
            pause(Duration::from_millis(5));
            assert_eq!(rig.nvme.msix().interrupts().total(), before);
            rig.nvme.enable(&Enable { wait: Wait::Interrupt, ..Enable::default() }).unwrap();
            let pair = rig.interrupting_pair(1, 8);
            pair.execute(read(&rig.data(512), 0)).unwrap();
        }
    }
}

/// A completion's interrupt is not kept for a command that takes long, even
/// where all before it were so quick that one interrupt served for several.
#[test]
fn an_interrupt_does_not_wait_for_a_command_that_never_ends() {
    for store in [Store::Ram, Store::File] {
        let rig = Rig::faulty(store, ",ioslots=1");
        let pair = rig.pair(1, 64);
        let data = rig.data(512);
        let interrupts = rig.nvme.msix().interrupts().clone();
        rig.faults.set(&[Fault::always(Kind::Never).at(100..101)]);
        for round in 0..20 {
            // The store is known to be quick by now.
            pair.stream(40, 2000, |_| read(&data, 0), |_, _| ()).unwrap();
            pause(Duration::from_millis(2));
            let before = interrupts.count(1);
            let mut entries = vec![read(&data, 0); 4];
            entries.push(read(&data, 100));
            let cids = pair.submit_all(&entries).unwrap();
            assert_eq!(rig.faults.wait_stuck(1), 1);
            let after = interrupts.wait(1, before, PATIENCE);
            assert!(after > before, "{store:?}, round {round}: no interrupt for what has ended");
            pair.poll();
            assert!(cids[..4].iter().all(|cid| pair.take(*cid).is_some()));
            rig.faults.release();
            assert!(pair.wait(cids[4]).unwrap().status.is_success());
        }
    }
}

/// Commands that were fetched together with one that never ends are left to
/// other workers, and end.
#[test]
fn commands_behind_one_that_never_ends_are_taken_over() {
    for store in [Store::Ram, Store::File] {
        let rig = Rig::faulty(store, "");
        let pair = rig.pair(1, 64);
        let data = rig.data(512);
        rig.faults.set(&[Fault::always(Kind::Never).at(100..101)]);
        for round in 0..20 {
            pair.stream(40, 2000, |_| read(&data, 0), |_, _| ()).unwrap();
            // The device may be idle by then, or not.
            pause(Duration::from_millis(if round % 2 == 0 { 30 } else { 0 }));
            // At the front, and with all places after it.
            let mut entries = vec![read(&data, 0); 24];
            entries[round % 12] = read(&data, 100);
            let cids = pair.submit_all(&entries).unwrap();
            for (at, cid) in cids.iter().enumerate() {
                if at != round % 12 {
                    assert!(pair.wait(*cid).unwrap().status.is_success(), "{store:?}, {at}");
                }
            }
            assert_eq!(rig.faults.wait_stuck(1), 1);
            assert!(pair.take(cids[round % 12]).is_none());
            rig.faults.release();
            assert!(pair.wait(cids[round % 12]).unwrap().status.is_success());
        }
    }
}

/// A command of a RAM disk is done before its doorbell write ends, as a rule. A
/// guest that rings for several before it looks at any is not interrupted for
/// each, and none is left without.
#[test]
fn a_ram_disk_interrupts_anew_when_it_is_answered() {
    const ROUNDS: u64 = 200;
    let rig = Rig::new(Store::Ram, "");
    let pair = rig.pair(1, 64);
    let data = rig.data(512);
    let interrupts = rig.nvme.msix().interrupts().clone();
    let submit = |count: u16| {
        for cid in 0..count {
            pair.raw(|sq, _| {
                sq.push(&read(&data, 0).cid(cid));
                sq.ring();
            });
        }
    };
    let take = |count: u16| {
        pair.raw(|_, cq| {
            for _ in 0..count {
                while !cq.ready() {
                    std::thread::yield_now();
                }
                assert!(cq.pop().unwrap().status.is_success());
            }
            cq.ring();
        });
    };
    let begun = interrupts.count(1);
    for _ in 0..ROUNDS {
        let before = interrupts.count(1);
        submit(16);
        assert!(interrupts.wait(1, before, PATIENCE) > before);
        take(16);
    }
    let shared = interrupts.count(1) - begun;
    assert!(shared < 8 * ROUNDS, "{shared} for {ROUNDS} times 16");

    for _ in 0..20 {
        let before = interrupts.count(1);
        submit(3);
        take(1);
        let after = interrupts.wait(1, before + 1, PATIENCE);
        assert!(after >= before + 2, "what came after the guest looked");
        take(2);
    }
    for _ in 0..20 {
        let before = interrupts.count(1);
        submit(2);
        let after = interrupts.wait(1, before + 1, PATIENCE);
        assert!(after >= before + 2, "a guest that writes no head doorbell");
        take(2);
    }
    // Nothing is left, and nothing comes.
    pause(Duration::from_millis(20));
    let before = interrupts.total();
    pause(Duration::from_millis(20));
    assert_eq!(interrupts.total(), before);
}

/// Interrupt Coalescing: completions share an interrupt, one alone has its own
/// after the time, and a vector can be taken out.
#[test]
fn interrupts_are_shared_as_the_guest_asks() {
    const COALESCING: u8 = 0x08;
    const VECTOR_CONFIGURATION: u8 = 0x09;
    const ROUNDS: u64 = 50;
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.pair(1, 64);
        let data = rig.data(512);
        let interrupts = rig.nvme.msix().interrupts().clone();
        let of_four = |what: &str| {
            let begun = interrupts.count(1);
            for _ in 0..ROUNDS {
                let before = interrupts.count(1);
                for cid in pair.submit_all(&vec![read(&data, 0); 4]).unwrap() {
                    pair.wait(cid).unwrap();
                }
                let after = interrupts.wait(1, before, PATIENCE);
                assert!(after > before, "{store:?}{options}, {what}: none came");
            }
            pause(Duration::from_millis(5));
            interrupts.count(1) - begun
        };
        // Four, or two milliseconds: on a busy host that is soon over.
        rig.nvme.set_feature(COALESCING, 20 << 8 | 3, 0).unwrap();
        let shared = (0..20).any(|_| of_four("coalescing") <= 3 * ROUNDS);
        assert!(shared, "{store:?}{options}: {ROUNDS} times four have an interrupt each");
        for _ in 0..10 {
            let before = interrupts.count(1);
            pair.execute(read(&data, 0)).unwrap();
            let after = interrupts.wait(1, before, PATIENCE);
            assert!(after > before, "{store:?}{options}: one alone");
        }
        rig.nvme.set_feature(VECTOR_CONFIGURATION, 1 << 16 | 1, 0).unwrap();
        let begun = interrupts.count(1);
        of_four("taken out");
        // Of several workers that post at once, one may ask for all.
        if store == Store::Ram || !options.is_empty() {
            let own = interrupts.wait(1, begun + 4 * ROUNDS - 1, PATIENCE) - begun;
            assert_eq!(own, 4 * ROUNDS, "{store:?}{options}");
        }
    }
}
