// SPDX-License-Identifier: BSD-2-Clause

//! A PCI function whose register writes arrive late.

use super::function::Function;
use crate::bhyve::{Interrupts, Machine};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest time that a write is under way on top of those before it.
const MOST: Duration = Duration::from_micros(150);

/// A function behind a bus that posts writes, as QEMU does with vfio-user:
/// writes to BAR 0 arrive in order, but at any time after the guest's CPU has
/// gone on. Whoever reads waits for the writes before.
pub struct Posted {
    bus: Arc<Bus>,
    thread: Option<JoinHandle<()>>,
}

struct Bus {
    function: Arc<dyn Function>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    writes: VecDeque<(u64, usize, u64)>,
    /// A write has left `writes` and has not arrived.
    under_way: bool,
    /// Somebody reads: the writes are not held back.
    hurry: bool,
    ended: bool,
    /// For how long writes are held back.
    seed: u64,
}

impl Posted {
    /// Puts the bus before `function`.
    pub fn new(function: Arc<dyn Function>) -> Arc<Posted> {
        let state = Mutex::new(State { seed: 0x9e37_79b9_7f4a_7c15, ..State::default() });
        let bus = Arc::new(Bus { function, state, changed: Condvar::new() });
        let carrier = bus.clone();
        let thread = std::thread::spawn(move || carrier.carry());
        Arc::new(Posted { bus, thread: Some(thread) })
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let mut state = self.bus.lock();
        (state.ended, state.hurry) = (true, true);
        self.bus.changed.notify_all();
        drop(state);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the bus");
        }
    }
}

impl Bus {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self) {
        let mut state = self.lock();
        loop {
            let Some((offset, size, value)) = state.writes.pop_front() else {
                if state.ended {
                    return;
                }
                state = self.wait(state);
                continue;
            };
            state.under_way = true;
            let end = Instant::now() + state.delay();
            while !state.hurry
                && let Some(left) = end.checked_duration_since(Instant::now())
            {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(state);
            self.function.bar_write(0, offset, size, value);
            state = self.lock();
            state.under_way = false;
            self.changed.notify_all();
        }
    }

    /// Waits until all writes have arrived.
    fn flush(&self) {
        let mut state = self.lock();
        while state.under_way || !state.writes.is_empty() {
            state.hurry = true;
            self.changed.notify_all();
            state = self.wait(state);
        }
        state.hurry = false;
    }
}

impl State {
    /// None for one in four.
    fn delay(&mut self) -> Duration {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        if self.seed >> 62 == 0 {
            Duration::ZERO
        } else {
            MOST.mul_f64((self.seed % 101) as f64 / 100.0)
        }
    }
}

impl Function for Posted {
    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64 {
        self.bus.flush();
        self.bus.function.bar_read(bar, offset, size)
    }

    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64) {
        if bar != 0 {
            return self.bus.function.bar_write(bar, offset, size, value);
        }
        self.bus.lock().writes.push_back((offset, size, value));
        self.bus.changed.notify_all();
    }

    fn cfg_read(&self, offset: usize, bytes: usize) -> u32 {
        self.bus.flush();
        self.bus.function.cfg_read(offset, bytes)
    }

    fn cfg_write(&self, offset: usize, bytes: usize, value: u32) {
        self.bus.flush();
        self.bus.function.cfg_write(offset, bytes, value);
    }

    fn machine(&self) -> &Arc<Machine> {
        self.bus.function.machine()
    }

    fn interrupts(&self, vectors: usize) -> (u64, Arc<Interrupts>) {
        self.bus.function.interrupts(vectors)
    }
}
