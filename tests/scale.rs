// SPDX-License-Identifier: BSD-2-Clause

//! Many controllers in a process and many queues of a controller: each serves
//! its own, and has no more threads than the documentation states, which cost
//! nothing while there is nothing to do.
//!
//! Threads are counted for the whole process, so the tests take turns.

use devhost::driver::{Data, Entry, QueuePair};
use devhost::rig::{BLOCK, Rig, Store, pattern, read, write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// The most devices that one machine of bhyve's is used with.
const CONTROLLERS: u64 = 32;

/// I/O queue pairs of the largest controller.
const PAIRS: u16 = 64;

/// Blocks of a buffer.
const SPAN: u64 = 8;

/// Buffers of each queue that [`exercise`] uses.
const DEPTH: u64 = 4;

/// How often it writes them, each time with what a seed of its own gives. The
/// seeds of all queues of a test are fewer than the 256 that differ.
const ROUNDS: u64 = 4;

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_all(pair: &QueuePair, entries: &[Entry]) {
    for cid in pair.submit_all(entries).unwrap() {
        assert!(pair.wait(cid).unwrap().status.is_success(), "queue {}", pair.id());
    }
}

fn buffers(rig: &Rig) -> Vec<(u64, Data)> {
    (0..DEPTH).map(|n| (n * SPAN, rig.data(SPAN as usize * BLOCK))).collect()
}

/// Reads the blocks from `first` on and compares them with what [`exercise`]
/// has left there.
fn check(rig: &Rig, pair: &QueuePair, first: u64, seed: u64) {
    let buffers = buffers(rig);
    let reads: Vec<Entry> = buffers.iter().map(|(at, data)| read(data, first + at)).collect();
    run_all(pair, &reads);
    for (at, data) in &buffers {
        assert!(data.to_vec() == pattern(data.len(), seed + at), "{seed}: block {}", first + at);
    }
}

/// Writes and reads back, several commands at a time, in blocks from `first`
/// on that nobody else uses.
fn exercise(rig: &Rig, pair: &QueuePair, first: u64, seed: u64) {
    let buffers = buffers(rig);
    for round in (0..ROUNDS).rev() {
        for (at, data) in &buffers {
            data.write(&pattern(data.len(), seed + at + round));
        }
        let writes: Vec<Entry> = buffers.iter().map(|(at, data)| write(data, first + at)).collect();
        run_all(pair, &writes);
        check(rig, pair, first, seed + round);
    }
}

#[test]
fn thirty_two_controllers_of_a_process_serve_each_its_own_store() {
    let _turn = one_at_a_time();
    threads::settle_at(0, "before");
    let seed = |n, pair: &QueuePair| (2 * n + u64::from(pair.id()) - 1) * ROUNDS;
    let store = |n| if n % 2 == 0 { Store::Ram } else { Store::File };
    let idle: Vec<Rig> = (0..CONTROLLERS).map(|n| Rig::idle(store(n), "")).collect();
    // On FreeBSD a file has a thread that waits for a change of its size.
    threads::settle_at(CONTROLLERS as usize, "without a guest");
    drop(idle);
    threads::settle_at(0, "the devices are gone");

    let rigs: Vec<Rig> = (0..CONTROLLERS).map(|n| Rig::new(store(n), ",ioslots=2")).collect();
    let pairs: Vec<[QueuePair; 2]> =
        rigs.iter().map(|rig| [1, 2].map(|id| rig.pair(id, 16))).collect();
    thread::scope(|scope| {
        for (n, (rig, pairs)) in (0u64..).zip(rigs.iter().zip(&pairs)) {
            scope.spawn(move || {
                for (first, pair) in [0, 100].into_iter().zip(pairs) {
                    exercise(rig, pair, first, seed(n, pair));
                }
            });
        }
    });
    // What any of them has written has reached no other.
    for (n, (rig, pairs)) in (0u64..).zip(rigs.iter().zip(&pairs)) {
        for (first, pair) in [0, 100].into_iter().zip(pairs) {
            check(rig, pair, first, seed(n, pair));
        }
    }
    threads::are_at_most(3 * CONTROLLERS as usize);
    threads::cost_nothing();
    drop((pairs, rigs));
    threads::settle_at(0, "the devices are gone");
}

#[test]
fn sixty_four_queue_pairs_of_a_controller_do_io_at_once() {
    let _turn = one_at_a_time();
    for (store, options) in [(Store::Ram, ""), (Store::File, ""), (Store::File, ",ioslots=1")] {
        let rig = Rig::new(store, &format!(",maxq={PAIRS}{options}"));
        let pairs: Vec<QueuePair> = (1..=PAIRS).map(|id| rig.pair(id, 16)).collect();
        // From many vCPUs.
        thread::scope(|scope| {
            for pair in &pairs {
                let (rig, id) = (&rig, u64::from(pair.id()));
                scope.spawn(move || exercise(rig, pair, id * 100, id * ROUNDS));
            }
        });
        // From one, which rings for all before it looks at any.
        let buffers: Vec<Data> = pairs.iter().map(|_| rig.data(SPAN as usize * BLOCK)).collect();
        let begun: Vec<u16> = pairs
            .iter()
            .zip(&buffers)
            .map(|(pair, data)| pair.submit(read(data, u64::from(pair.id()) * 100)).unwrap())
            .collect();
        for ((pair, data), cid) in pairs.iter().zip(&buffers).zip(begun) {
            assert!(pair.wait(cid).unwrap().status.is_success());
            let seed = u64::from(pair.id()) * ROUNDS;
            assert!(data.to_vec() == pattern(data.len(), seed), "queue {}", pair.id());
        }
        assert!(pairs.iter().all(|pair| pair.strays().is_empty()));
    }
}

/// What the system says of the threads whose names are the library's.
#[cfg(target_os = "linux")]
mod threads {
    use devhost::rig::pause;
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::Duration;

    /// The threads of all controllers: a folder of procfs, and the name.
    fn all() -> BTreeMap<String, String> {
        let tasks = fs::read_dir("/proc/self/task").expect("procfs");
        let tasks = tasks.map(|task| task.expect("a thread").path().display().to_string());
        // A thread may end at any time.
        tasks
            .filter_map(|task| Some((task.clone(), fs::read_to_string(task + "/comm").ok()?)))
            .filter(|(_, name)| name.starts_with("nvme-"))
            .collect()
    }

    /// Waits until there are `count` of them: a thread gives itself its name, and
    /// ends when it has seen that it shall.
    pub(super) fn settle_at(count: usize, when: &str) {
        for _ in 0..4000 {
            if all().len() == count {
                return;
            }
            pause(Duration::from_millis(5));
        }
        panic!("{when}: not {count} threads: {:?}", all());
    }

    pub(super) fn are_at_most(count: usize) {
        let all = all();
        println!("{} threads", all.len());
        assert!(all.len() <= count, "{all:?}");
    }

    /// Processor time in nanoseconds of each.
    fn times() -> BTreeMap<String, u64> {
        let time = |task: &str| -> Option<u64> {
            let text = fs::read_to_string(format!("{task}/schedstat")).ok()?;
            Some(text.split(' ').next()?.parse().expect("schedstat"))
        };
        all().into_keys().filter_map(|task| Some((task.clone(), time(&task)?))).collect()
    }

    /// There is soon a time in which it has not run, for each of them. Files
    /// are asked for their sizes every two seconds, and not all at once.
    pub(super) fn cost_nothing() {
        let mut before = times();
        let mut busy: Vec<String> = before.keys().cloned().collect();
        assert!(!busy.is_empty());
        for _ in 0..100 {
            pause(Duration::from_millis(300));
            let after = times();
            busy.retain(|thread| after.get(thread) != before.get(thread));
            if busy.is_empty() {
                return;
            }
            before = after;
        }
        panic!("some threads run all the time: {busy:?} of {before:?}");
    }

    /// Commands that never end take as many workers as there are slots, and no
    /// more; nothing of what else waits makes others.
    #[test]
    fn a_controller_has_one_thread_and_a_worker_per_slot_at_most() {
        use super::{PAIRS, one_at_a_time, run_all};
        use devhost::driver::QueuePair;
        use devhost::faults::{Fault, Kind};
        use devhost::rig::{Rig, Store, read};

        let _turn = one_at_a_time();
        settle_at(0, "before");
        for slots in [1, 4, 16] {
            let rig = Rig::faulty(Store::Ram, &format!(",maxq={PAIRS},ioslots={slots}"));
            let pairs: Vec<QueuePair> = (1..=PAIRS).map(|id| rig.pair(id, 16)).collect();
            settle_at(1, "no I/O yet");
            rig.faults.set(&[Fault::always(Kind::Never)]);
            let data = rig.data(512);
            let begun: Vec<Vec<u16>> =
                pairs.iter().map(|pair| pair.submit_all(&[read(&data, 0); 8]).unwrap()).collect();
            settle_at(1 + slots, "all slots are taken");
            // Nor does the number of threads grow when it is asked for more.
            for pair in &pairs {
                pair.submit(read(&data, 0)).unwrap();
            }
            pause(std::time::Duration::from_millis(20));
            are_at_most(1 + slots);
            rig.faults.clear();
            for (pair, cids) in pairs.iter().zip(begun) {
                for cid in cids {
                    assert!(pair.wait(cid).unwrap().status.is_success());
                }
                run_all(pair, &[read(&data, 0)]);
            }
            are_at_most(1 + slots);
            cost_nothing();
            drop((pairs, rig));
            settle_at(0, "the device is gone");
        }
    }

    /// Of controllers in memory, which have nothing to ask for, none runs ever.
    #[test]
    fn an_idle_controller_makes_no_wake_up() {
        use super::{CONTROLLERS, exercise, one_at_a_time};
        use devhost::driver::QueuePair;
        use devhost::rig::{Rig, Store};

        let _turn = one_at_a_time();
        let rigs: Vec<Rig> =
            (0..CONTROLLERS).map(|_| Rig::faulty(Store::Ram, ",ioslots=2")).collect();
        let pairs: Vec<QueuePair> = rigs.iter().map(|rig| rig.pair(1, 16)).collect();
        for (rig, pair) in rigs.iter().zip(&pairs) {
            exercise(rig, pair, 0, 7);
        }
        // Each has served from workers of its own: these sleep, too.
        assert!(all().len() >= 2 * CONTROLLERS as usize, "{:?}", all());
        cost_nothing();
        // From here on it is so for ever, unless the quiet was that of a host
        // that ran nobody.
        let quiet = (0..30).any(|_| {
            let before = times();
            pause(Duration::from_secs(1));
            times() == before
        });
        assert!(quiet, "{:?}", times());
    }
}

/// Elsewhere only what the controllers do is looked at.
#[cfg(not(target_os = "linux"))]
mod threads {
    pub(super) fn settle_at(_count: usize, _when: &str) {}
    pub(super) fn are_at_most(_count: usize) {}
    pub(super) fn cost_nothing() {}
}
