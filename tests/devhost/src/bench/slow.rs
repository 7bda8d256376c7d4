// SPDX-License-Identifier: BSD-2-Clause

//! A store on which every operation takes its time, and a controller over it:
//! how full does the controller keep it?

use super::Result;
use super::clock::{Used, Window, clock, pause_until_tick, ticks};
use super::limit;
use super::line::Line;
use super::subject::{Subject, Use, Waiting, enable, lines_for, machine_for};
use super::vcpu::Tally;
use super::work::Work;
use bhyve_nvme::backend::ram::Ram;
use bhyve_nvme::backend::{Backend, Error, Geometry};
use bhyve_nvme::controller::{Controller, Settings};
use bhyve_nvme::host::Host;
use bhyve_nvme::memory::Segment;
use devhost::bhyve::{Interrupts, Machine};
use devhost::driver::{Function, Nvme};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of the store.
pub(crate) const SIZE: u64 = 16 << 20;

/// A store in memory that waits before it does what it is asked.
pub(crate) struct Slow {
    ram: Ram,
    latency: u64,
    /// Ticks that operations spent inside, all together.
    inside: AtomicU64,
}

impl Slow {
    pub(crate) fn new(latency: Duration) -> Result<Slow> {
        Ok(Slow {
            ram: Ram::new(SIZE)?,
            latency: clock().ticks(latency),
            inside: AtomicU64::new(0),
        })
    }

    fn take_time(&self) {
        let begun = ticks();
        pause_until_tick(begun + self.latency);
        self.inside.fetch_add(ticks() - begun, Ordering::Relaxed);
    }

    /// Operations that were inside on average since `before`, ticks of which
    /// this function returned the second value (0 at first).
    fn occupancy(&self, before: (u64, u64)) -> (f64, (u64, u64)) {
        let now = (ticks(), self.inside.load(Ordering::Relaxed));
        ((now.1 - before.1) as f64 / (now.0 - before.0).max(1) as f64, now)
    }
}

impl Backend for Slow {
    fn geometry(&self) -> Geometry {
        self.ram.geometry()
    }

    fn read(&self, offset: u64, segments: &[Segment]) -> std::result::Result<(), Error> {
        self.take_time();
        self.ram.read(offset, segments)
    }

    fn write(
        &self,
        offset: u64,
        segments: &[Segment],
        durable: bool,
    ) -> std::result::Result<(), Error> {
        // Only the filling of the store writes.
        self.ram.write(offset, segments, durable)
    }

    fn flush(&self) -> std::result::Result<(), Error> {
        self.ram.flush()
    }

    fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        deallocate: bool,
    ) -> std::result::Result<(), Error> {
        self.ram.write_zeroes(offset, len, deallocate)
    }

    fn deallocate(&self, offset: u64, len: u64) -> std::result::Result<(), Error> {
        self.ram.deallocate(offset, len)
    }

    fn never_waits(&self) -> bool {
        false
    }
}

/// A machine whose interrupts go straight to the lines.
struct LineHost {
    machine: Arc<Machine>,
    lines: Arc<[Line]>,
}

impl Host for LineHost {
    fn map(&self, address: u64, len: usize) -> Option<Segment> {
        let base = self.machine.pointer(address, len)?;
        // SAFETY: the machine's memory lives as long as the machine, which this
        // host holds, and is reached by raw copies and atomic operations only.
        Some(unsafe { Segment::new(base, len) })
    }

    fn msix_deliverable(&self, _vector: u16) -> bool {
        true
    }

    fn msix_raise(&self, vector: u16) {
        if let Some(line) = self.lines.get(usize::from(vector)) {
            line.raise();
        }
    }

    fn msix_table_write(&self, _offset: u64, _size: usize, _value: u64) {}

    fn msix_table_read(&self, _offset: u64, _size: usize) -> u64 {
        u64::MAX
    }
}

/// A controller that is nothing but its registers.
struct Bare {
    controller: Controller,
    machine: Arc<Machine>,
}

impl Function for Bare {
    fn bar_read(&self, _bar: usize, offset: u64, size: usize) -> u64 {
        self.controller.read(offset, size)
    }

    fn bar_write(&self, _bar: usize, offset: u64, size: usize, value: u64) {
        self.controller.write(offset, size, value);
    }

    fn cfg_read(&self, _offset: usize, _bytes: usize) -> u32 {
        0
    }

    fn cfg_write(&self, _offset: usize, _bytes: usize, _value: u32) {}

    fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    fn interrupts(&self, vectors: usize) -> (u64, Arc<Interrupts>) {
        self.machine.interrupts(vectors)
    }
}

/// A controller over a slow store, used as `with` says.
pub(crate) struct SlowSubject {
    subject: Subject,
    function: Arc<Bare>,
    store: Arc<Slow>,
}

impl SlowSubject {
    /// With `slots` commands in the store at once.
    pub(crate) fn start(latency: Duration, slots: u16, with: &Use) -> Result<SlowSubject> {
        assert_eq!(with.wait, Waiting::Interrupt, "a polling CPU would take the workers' place");
        let machine = machine_for(with);
        let store = Arc::new(Slow::new(latency)?);
        let lines = lines_for(with);
        let settings =
            Settings { io_slots: slots, queue_pairs: with.queues, ..devhost::bare::settings() };
        let host = Arc::new(LineHost { machine: machine.clone(), lines: lines.clone() });
        let controller = Controller::new(settings, host, store.clone())?;
        let function = Arc::new(Bare { controller, machine });
        let nvme: Nvme = enable(function.clone())?;
        let subject = Subject::with(nvme, &lines, SIZE, true, with)?;
        Ok(SlowSubject { subject, function, store })
    }

    /// Runs through `window`; also returns how many operations were in the
    /// store on average.
    pub(crate) fn run(&mut self, window: Window) -> Result<(Vec<Tally>, Used, f64)> {
        let store = &self.store;
        let subject = &mut self.subject;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || inside_in(store, window));
            let (tallies, used) = subject.run(window)?;
            let inside = inside.join().map_err(|_| "a thread panicked")?;
            Ok((tallies, used, inside))
        })
    }

    /// The most commands that were in the store at once, and the threads made
    /// for them.
    pub(crate) fn peak_and_workers(&self) -> (u32, u32) {
        let statistics = self.function.controller.statistics();
        (statistics.peak_in_backend, statistics.workers)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.subject.stop()
    }
}

/// As many threads that do nothing but use the store.
pub(crate) fn raw(
    store: &Slow,
    work: &Work,
    threads: usize,
    window: Window,
) -> Result<(Vec<Tally>, Used)> {
    let buffers = limit::filled(work.bytes * threads as u64)?;
    limit::run(threads, window, |number| {
        let buffer = buffers.segment().slice(number * work.bytes as usize, work.bytes as usize);
        let buffer = buffer.ok_or("a buffer")?;
        Ok(move || {
            let read = store.read(0, std::slice::from_ref(&buffer));
            read.map_err(|error| std::io::Error::other(format!("{error:?}")))
        })
    })
}

fn inside_in(store: &Slow, window: Window) -> f64 {
    pause_until_tick(window.begin);
    let (_, before) = store.occupancy((0, 0));
    pause_until_tick(window.end);
    store.occupancy(before).0
}
