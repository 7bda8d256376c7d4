// SPDX-License-Identifier: BSD-2-Clause

//! A store that writes down what is asked of it, and a guest with data.

use super::*;
use crate::backend::{Error, Geometry};
use crate::memory::Segment;
use std::sync::{Barrier, Mutex, MutexGuard};

/// What was asked of the store; offsets and lengths in blocks of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read(u64, u64),
    Write(u64, u64, bool),
    Flush,
    Zero(u64, u64, bool),
    Deallocate(u64, u64),
}

/// Operations that fail, and how.
type Failing = (fn(&Op) -> bool, Error);

/// Operations that wait until they are met twice.
type Holding = (fn(&Op) -> bool, Arc<Barrier>);

pub(super) struct Logged {
    ram: Ram,
    log: Mutex<Vec<Op>>,
    fails: Mutex<Option<Failing>>,
    held: Mutex<Option<Holding>>,
}

impl Logged {
    fn enter(&self, op: Op) -> Result<(), Error> {
        self.log.lock().unwrap().push(op);
        let held = self.held.lock().unwrap().clone();
        if let Some((_, meeting)) = held.filter(|(hits, _)| hits(&op)) {
            meeting.wait();
            meeting.wait();
        }
        match *self.fails.lock().unwrap() {
            Some((hits, error)) if hits(&op) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Backend for Logged {
    fn geometry(&self) -> Geometry {
        Geometry { can_deallocate: true, volatile_cache: true, ..self.ram.geometry() }
    }

    fn read(&self, offset: u64, segments: &[Segment]) -> Result<(), Error> {
        self.enter(Op::Read(offset / 512, crate::memory::total_len(segments) / 512))?;
        self.ram.read(offset, segments)
    }

    fn write(&self, offset: u64, segments: &[Segment], durable: bool) -> Result<(), Error> {
        self.enter(Op::Write(offset / 512, crate::memory::total_len(segments) / 512, durable))?;
        self.ram.write(offset, segments, durable)
    }

    fn flush(&self) -> Result<(), Error> {
        self.enter(Op::Flush)
    }

    fn write_zeroes(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error> {
        self.enter(Op::Zero(offset / 512, len / 512, deallocate))?;
        self.ram.write_zeroes(offset, len, deallocate)
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.enter(Op::Deallocate(offset / 512, len / 512))?;
        self.ram.deallocate(offset, len)
    }

    fn never_waits(&self) -> bool {
        true
    }
}

/// A namespace of [`SIZE`] blocks of 512 bytes, and a guest with 8 MiB.
pub(super) struct World {
    pub(super) nvm: Nvm,
    store: Arc<Logged>,
    memory: Segment,
}

pub(super) const SIZE: u64 = 70_000;

impl World {
    pub(super) fn new() -> World {
        World::offering(ALL)
    }

    pub(super) fn offering(offers: Offers) -> World {
        let store = Arc::new(Logged {
            ram: Ram::new(SIZE * 512).unwrap(),
            log: Mutex::default(),
            fails: Mutex::default(),
            held: Mutex::default(),
        });
        let guest = Arc::new(testing::Ram(Region::zeroed(8 << 20).unwrap()));
        let memory = guest.0.segment();
        let nvm = Nvm::new(guest, store.clone(), offers, 9, 2, 4, Box::new(|| ()));
        World { nvm, store, memory }
    }

    /// What was asked of the store since the last time.
    pub(super) fn log(&self) -> Vec<Op> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Op>> {
        self.store.log.lock().unwrap()
    }

    pub(super) fn fail(&self, hits: fn(&Op) -> bool, error: Error) {
        *self.store.fails.lock().unwrap() = Some((hits, error));
    }

    /// Runs `command`, and `meanwhile` while the store has it in hand: the
    /// operation that is `hit`.
    pub(super) fn run_holding(
        &self,
        command: Command,
        hit: fn(&Op) -> bool,
        meanwhile: impl FnOnce(),
    ) -> Status {
        let meeting = Arc::new(Barrier::new(2));
        *self.store.held.lock().unwrap() = Some((hit, meeting.clone()));
        std::thread::scope(|scope| {
            let running = scope.spawn(|| self.run(command));
            meeting.wait();
            meanwhile();
            *self.store.held.lock().unwrap() = None;
            meeting.wait();
            running.join().unwrap()
        })
    }

    pub(super) fn put(&self, at: usize, bytes: &[u8]) {
        self.memory.slice(at, bytes.len()).unwrap().write(bytes).unwrap();
    }

    /// Gives each block from `first` on a value of its own; block 0 has 1.
    pub(super) fn fill(&self, first: u64, count: u64) {
        for block in first..first + count {
            self.set(block, (block % 251) as u8 + 1);
        }
    }

    pub(super) fn set(&self, block: u64, value: u8) {
        let data = Region::zeroed(512).unwrap();
        data.segment().write(&[value; 512]).unwrap();
        self.store.ram.write(block * 512, &[data.segment()], false).unwrap();
    }

    /// The value of a block, the same all over it.
    pub(super) fn get(&self, block: u64) -> u8 {
        let data = Region::zeroed(512).unwrap();
        self.store.ram.read(block * 512, &[data.segment()]).unwrap();
        let mut bytes = [0; 512];
        data.segment().read(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a torn block");
        bytes[0]
    }

    pub(super) fn run(&self, command: Command) -> Status {
        run(&self.nvm, command)
    }
}
