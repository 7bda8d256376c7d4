// SPDX-License-Identifier: BSD-2-Clause

//! The device under test, with a guest's CPUs around it.

use super::Result;
use super::clock::{Usage, Used, Window, clock, pause_until_tick};
use super::line::Line;
use super::vcpu::{Parts, Span, Tally, Vcpu, Wait};
use super::work::{Op, Order, PAGE, Places, Work};
use devhost::bhyve::{Device, Machine};
use devhost::driver::{Enable, Function, Memory, Nvme};
use std::sync::Arc;

/// How the guest uses the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) work: Work,
    pub(crate) depth: usize,
    /// Queue pairs, each with a CPU of its own.
    pub(crate) queues: u16,
    pub(crate) wait: Waiting,
    pub(crate) scattered: bool,
    pub(crate) batched: bool,
    /// The guest has shadow doorbells.
    pub(crate) shadowed: bool,
}

/// How its CPUs learn of completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Interrupt,
    Poll,
    /// Polling that lets other threads run.
    Yield,
}

/// What one repetition found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) iops: f64,
    /// CPU microseconds per I/O: of the guest's CPUs (or of all raw threads),
    /// and of all other threads of this process.
    pub(crate) vcpu_us: f64,
    pub(crate) library_us: f64,
    pub(crate) interrupts: f64,
    /// Writes to doorbell registers, per I/O.
    pub(crate) traps: f64,
    pub(crate) switches: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Mean time of a write to the tail doorbell, in nanoseconds.
    pub(crate) doorbell_ns: f64,
    /// The part of those writes that took so long that a thread was woken, and
    /// the mean of the others in nanoseconds.
    pub(crate) woke: f64,
    pub(crate) quick_doorbell_ns: f64,
    /// CPUs that other processes used meanwhile.
    pub(crate) others: f64,
}

impl Sample {
    /// From what all threads counted and what the process used. Doorbells that
    /// took `wake_ticks` or longer count as having woken somebody.
    pub(crate) fn new(tallies: &[Tally], used: Used, window: Window, wake_ticks: u64) -> Sample {
        let ns = clock().ns(window.end - window.begin).max(1.0);
        let mut all = Tally::default();
        for tally in tallies {
            all.ios += tally.ios;
            all.interrupts += tally.interrupts;
            all.traps += tally.traps;
            all.doorbells.add(&tally.doorbells);
            all.latency.add(&tally.latency);
            all.cpu_ns += tally.cpu_ns;
        }
        let ios = (all.ios as f64).max(1.0);
        let iops = all.ios as f64 * 1e9 / ns;
        let vcpus = all.cpu_ns as f64 / ns;
        let us = |ticks| clock().ns(ticks) / 1000.0;
        let (quick, quick_mean) = all.doorbells.below(wake_ticks);
        let doorbells = (all.doorbells.count() as f64).max(1.0);
        Sample {
            iops,
            vcpu_us: vcpus * 1e6 / iops.max(1.0),
            library_us: (used.cpus - vcpus).max(0.0) * 1e6 / iops.max(1.0),
            interrupts: all.interrupts as f64 / ios,
            traps: all.traps as f64 / ios,
            switches: used.switches / iops.max(1.0),
            p50_us: us(all.latency.quantile(0.5)),
            p99_us: us(all.latency.quantile(0.99)),
            doorbell_ns: clock().ns(1_000_000) * all.doorbells.mean() / 1e6,
            woke: 1.0 - quick as f64 / doorbells,
            quick_doorbell_ns: clock().ns(1_000_000) * quick_mean / 1e6,
            others: used.others,
        }
    }

    /// CPU microseconds per I/O.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.vcpu_us + self.library_us
    }
}

/// A device in a machine of its own, enabled, with its queues.
pub(crate) struct Subject {
    vcpus: Vec<Vcpu>,
    nvme: Nvme,
}

impl Subject {
    /// Starts the device of the `-s` option `spec`, whose store has `size`
    /// bytes. With `fill`, every page of it is stamped first.
    pub(crate) fn start(spec: &str, size: u64, fill: bool, with: &Use) -> Result<Subject> {
        let machine = machine_for(with);
        let device = Device::new(&machine, spec)?;
        if let Some(message) = device.start_messages().first() {
            return Err(format!("{spec}: {message}").into());
        }
        let nvme = enable(Arc::new(device))?;
        let lines = lines_for(with);
        if with.wait == Waiting::Interrupt {
            let raised = lines.clone();
            machine.set_msi_sink(Some(Arc::new(move |_, vector| {
                if let Some(line) = raised.get(vector as usize) {
                    line.raise();
                }
            })));
            nvme.msix().setup();
        }
        Subject::with(nvme, &lines, size, fill, with)
    }

    /// Creates the queues of `nvme`, which is enabled, and the CPUs. Vector `n`
    /// has to raise line `n`.
    pub(crate) fn with(
        nvme: Nvme,
        lines: &Arc<[Line]>,
        size: u64,
        fill: bool,
        with: &Use,
    ) -> Result<Subject> {
        if fill {
            let work = Work::new(Op::Write, Order::Sequential, 128);
            let how = Use { work, depth: 8, queues: 1, wait: Waiting::Yield, ..*with };
            let mut filler = Subject { vcpus: vcpus(&nvme, lines, size, &how)?, nvme };
            filler.run_count(size / work.bytes)?;
            return Subject::with(filler.release()?, lines, size, false, with);
        }
        Ok(Subject { vcpus: vcpus(&nvme, lines, size, with)?, nvme })
    }

    /// Runs all CPUs through `window`.
    pub(crate) fn run(&mut self, window: Window) -> Result<(Vec<Tally>, Used)> {
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .vcpus
                .iter_mut()
                .map(|vcpu| scope.spawn(move || vcpu.run(Span::Time(window))))
                .collect();
            let used = used_in(window);
            let tallies: Result<Vec<Tally>> = running
                .into_iter()
                .map(|thread| thread.join().map_err(|_| "a vCPU's thread panicked")?)
                .collect();
            Ok((tallies?, used))
        })
    }

    /// Runs `count` commands on the first CPU, in the calling thread.
    pub(crate) fn run_count(&mut self, count: u64) -> Result<Tally> {
        self.vcpus.first_mut().ok_or("no queue")?.run(Span::Count(count))
    }

    /// Ends the device in good order.
    pub(crate) fn stop(self) -> Result<()> {
        Ok(self.release()?.disable()?)
    }

    /// Deletes the queues.
    fn release(self) -> Result<Nvme> {
        for id in 1..=self.vcpus.len() as u16 {
            self.nvme.delete_sq(id)?;
            self.nvme.delete_cq(id)?;
        }
        Ok(self.nvme)
    }
}

/// A machine with room for the queues and buffers of `with`.
pub(crate) fn machine_for(with: &Use) -> Arc<Machine> {
    const SPARE: u64 = 16 << 20;
    // Scattered buffers take twice their size, and lists a page.
    let buffer = 2 * with.work.bytes + PAGE;
    Machine::with_ram(SPARE + u64::from(with.queues) * with.depth as u64 * buffer)
}

/// A line for each vector.
pub(crate) fn lines_for(with: &Use) -> Arc<[Line]> {
    (0..=with.queues).map(|_| Line::default()).collect()
}

/// Enables the controller of `function`, whose machine's memory is unused.
pub(crate) fn enable(function: Arc<dyn Function>) -> Result<Nvme> {
    let memory = Memory::all(function.machine());
    let nvme = Nvme::new(function, &memory);
    nvme.enable(&Enable::default())?;
    Ok(nvme)
}

fn vcpus(nvme: &Nvme, lines: &Arc<[Line]>, size: u64, with: &Use) -> Result<Vec<Vcpu>> {
    let info = nvme.namespace(1)?;
    if info.blocks * u64::from(info.block_size) != size {
        return Err(format!("a namespace of {info:?}, not of {size} bytes").into());
    }
    let shadow = if with.shadowed { Some(nvme.doorbell_buffer(0)?) } else { None };
    let streams = Places::streams(&with.work, size, u64::from(with.queues));
    // A ring of twice the depth is never full.
    let entries = (2 * with.depth as u32).next_power_of_two().max(64);
    (1..=with.queues)
        .zip(streams)
        .map(|(id, places)| {
            let (vector, wait) = match with.wait {
                Waiting::Interrupt => (Some(id), Wait::Interrupt(lines.clone(), usize::from(id))),
                Waiting::Poll => (None, Wait::Poll),
                Waiting::Yield => (None, Wait::Yield),
            };
            let mut cq = nvme.create_cq(id, entries, vector)?;
            let mut sq = nvme.create_sq(id, id, entries)?;
            cq.shadow.clone_from(&shadow);
            sq.shadow.clone_from(&shadow);
            Vcpu::new(Parts {
                function: nvme.function(),
                memory: nvme.memory(),
                sq,
                cq,
                wait,
                work: with.work,
                places,
                depth: with.depth,
                scattered: with.scattered,
                batched: with.batched,
                block_size: u64::from(info.block_size),
            })
        })
        .collect()
}

/// What the process uses in `window`.
pub(crate) fn used_in(window: Window) -> Used {
    pause_until_tick(window.begin);
    let before = Usage::now();
    pause_until_tick(window.end);
    Usage::now().since(before)
}
