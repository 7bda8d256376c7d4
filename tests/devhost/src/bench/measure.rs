// SPDX-License-Identifier: BSD-2-Clause

//! Measures a row: limit, device, limit, device, ..., and takes medians. Pairs
//! during which others used the CPUs are repeated.

use super::Result;
use super::case::{Case, Store};
use super::clock::{Cpus, Window, clock};
use super::limit;
use super::slow::{self, Slow, SlowSubject};
use super::store::FileStore;
use super::subject::{Sample, Subject};
use super::system::library_threads;
use super::vcpu::Tally;
use bhyve_nvme::memory::Region;
use std::time::Duration;

/// How a run goes about it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) repetitions: usize,
    /// Length of one repetition of either kind.
    pub(crate) length: Duration,
    /// Size of file and RAM disk in bytes.
    pub(crate) file_size: u64,
    pub(crate) ram_mib: u64,
    pub(crate) dir: Option<std::path::PathBuf>,
    /// Appended to each device's options.
    pub(crate) options: String,
}

/// What came of a row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    /// Medians of each figure.
    pub(crate) device: Sample,
    pub(crate) limit: Sample,
    /// Device over limit, pair by pair: median, least, most.
    pub(crate) ratio: [f64; 3],
    /// Threads that the library had at the end.
    pub(crate) threads: usize,
    /// Operations in a slow store on average, and at most.
    pub(crate) inside: Option<(f64, u32)>,
}

/// What rows share.
pub(crate) struct Bench {
    plan: Plan,
    file: Option<FileStore>,
    ram: Option<Region>,
    cpus: Cpus,
    /// Ticks of a tail doorbell from which on it counts as having woken a
    /// thread: half of what such a wake takes, with all CPUs and with one.
    wake: [Option<u64>; 2],
}

impl Bench {
    pub(crate) fn new(plan: Plan) -> Bench {
        Bench { plan, file: None, ram: None, cpus: Cpus::allowed(), wake: [None; 2] }
    }

    /// The file's folder, if one was made.
    pub(crate) fn dir(&self) -> Option<&std::path::Path> {
        self.file.as_ref().map(FileStore::dir)
    }

    /// Measures one row.
    pub(crate) fn measure(&mut self, case: &Case) -> Result<Row> {
        if case.one_cpu {
            self.cpus.first().stay();
        }
        let row = self.measure_here(case);
        self.cpus.stay();
        row
    }

    fn measure_here(&mut self, case: &Case) -> Result<Row> {
        let wake = self.wake_ticks(case.one_cpu)?;
        let plan = self.plan.clone();
        let Case { store, with, .. } = *case;
        let (work, depth, queues) = (with.work, with.depth, with.queues);
        match store {
            Store::Ram => {
                let size = plan.ram_mib << 20;
                let spec = format!("4,nvme,ram={}{}", plan.ram_mib, plan.options);
                let mut subject = Subject::start(&spec, size, true, &with)?;
                let ram = self.ram(size)?;
                let row = pairs(
                    &plan,
                    case,
                    wake,
                    |window| limit::memcpy(ram, &work, usize::from(queues), depth, window),
                    |window| subject.run(window),
                )?;
                subject.stop()?;
                Ok(row)
            }
            Store::File | Store::FileInline => {
                let inline = if store == Store::FileInline { ",inline=on" } else { "" };
                let file = self.file()?;
                let spec = format!("4,nvme,{}{inline}{}", file.path(), plan.options);
                let mut subject = Subject::start(&spec, file.size(), false, &with)?;
                let threads = limit::file_threads(depth, queues);
                let row = pairs(
                    &plan,
                    case,
                    wake,
                    |window| match case.two_wakes {
                        true => limit::handoff(file, &work, window),
                        false => limit::file(file, &work, threads, queues, window),
                    },
                    |window| subject.run(window),
                )?;
                subject.stop()?;
                Ok(row)
            }
            Store::Slow(latency, slots) => {
                let raw_store = Slow::new(latency)?;
                let mut subject = SlowSubject::start(latency, slots, &with)?;
                let threads = depth.min(usize::from(slots));
                let mut inside = Vec::new();
                let mut row = pairs(
                    &plan,
                    case,
                    wake,
                    |window| slow::raw(&raw_store, &work, threads, window),
                    |window| {
                        let (tallies, used, mean) = subject.run(window)?;
                        inside.push(mean);
                        Ok((tallies, used))
                    },
                )?;
                let (peak, _) = subject.peak_and_workers();
                // The first was the warm-up.
                row.inside = Some((median(&mut inside[1..]), peak));
                subject.stop()?;
                Ok(row)
            }
        }
    }

    /// See [`Bench::wake`].
    fn wake_ticks(&mut self, one_cpu: bool) -> Result<u64> {
        let place = usize::from(one_cpu);
        if let Some(ticks) = self.wake[place] {
            return Ok(ticks);
        }
        let work = super::work::Work::new(super::work::Op::Read, super::work::Order::Random, 4);
        let file = self.file()?;
        let (tallies, _) = limit::handoff(file, &work, window(Duration::from_millis(200)))?;
        let ticks = tallies.first().map_or(0, |tally| tally.doorbells.quantile(0.5)) / 2;
        self.wake[place] = Some(ticks);
        Ok(ticks)
    }

    /// Nanoseconds that waking a thread takes the one who wakes, with all CPUs
    /// and with one, as far as it was measured.
    pub(crate) fn wake_ns(&self) -> [Option<f64>; 2] {
        self.wake.map(|ticks| ticks.map(|ticks| clock().ns(2 * ticks)))
    }

    fn file(&mut self) -> Result<&FileStore> {
        if self.file.is_none() {
            self.file = Some(FileStore::new(self.plan.dir.as_deref(), self.plan.file_size)?);
        }
        Ok(self.file.as_ref().ok_or("a file")?)
    }

    fn ram(&mut self, size: u64) -> Result<&Region> {
        if self.ram.is_none() {
            self.ram = Some(limit::filled(size)?);
        }
        Ok(self.ram.as_ref().ok_or("memory")?)
    }
}

/// CPUs that others may use while a pair is measured.
pub(crate) const QUIET: f64 = 0.1;

/// How many times as many pairs are measured at most, for as many quiet ones.
const PATIENCE: usize = 3;

type Counted = (Vec<Tally>, super::clock::Used);

/// One repetition: what comes before it does not count.
fn window(length: Duration) -> Window {
    Window::after((length / 8).max(Duration::from_millis(20)), length)
}

fn pairs(
    plan: &Plan,
    case: &Case,
    wake: u64,
    mut limit: impl FnMut(Window) -> Result<Counted>,
    mut device: impl FnMut(Window) -> Result<Counted>,
) -> Result<Row> {
    // Once without counting: workers are made, pages are touched.
    device(window(plan.length / 2))?;
    let mut pairs: Vec<(Sample, Sample)> = Vec::new();
    let quiet = |(limit, device): &(Sample, Sample)| limit.others.max(device.others) <= QUIET;
    while pairs.len() < plan.repetitions * PATIENCE
        && pairs.iter().filter(|pair| quiet(pair)).count() < plan.repetitions
    {
        let now = window(plan.length);
        let (tallies, used) = limit(now)?;
        let limit = Sample::new(&tallies, used, now, u64::MAX);
        let now = window(plan.length);
        let (tallies, used) = device(now)?;
        pairs.push((limit, Sample::new(&tallies, used, now, wake)));
    }
    // Chosen by what others did meanwhile, never by what came out.
    pairs.sort_by(|a, b| f64::total_cmp(&a.0.others.max(a.1.others), &b.0.others.max(b.1.others)));
    pairs.truncate(plan.repetitions);
    let (limits, devices): (Vec<Sample>, Vec<Sample>) = pairs.into_iter().unzip();
    let mut ratios: Vec<f64> =
        devices.iter().zip(&limits).map(|(device, limit)| device.iops / limit.iops).collect();
    let median = median(&mut ratios);
    let ratio = [median, ratios[0], ratios[ratios.len() - 1]];
    Ok(Row {
        case: *case,
        device: medians(&devices),
        limit: medians(&limits),
        ratio,
        threads: library_threads(),
        inside: None,
    })
}

/// The median of each figure by itself.
fn medians(samples: &[Sample]) -> Sample {
    let of =
        |figure: fn(&Sample) -> f64| median(&mut samples.iter().map(figure).collect::<Vec<_>>());
    Sample {
        iops: of(|s| s.iops),
        vcpu_us: of(|s| s.vcpu_us),
        library_us: of(|s| s.library_us),
        interrupts: of(|s| s.interrupts),
        traps: of(|s| s.traps),
        switches: of(|s| s.switches),
        p50_us: of(|s| s.p50_us),
        p99_us: of(|s| s.p99_us),
        doorbell_ns: of(|s| s.doorbell_ns),
        woke: of(|s| s.woke),
        quick_doorbell_ns: of(|s| s.quick_doorbell_ns),
        others: of(|s| s.others),
    }
}

/// Sorts `values`; 0 if there are none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }
}
