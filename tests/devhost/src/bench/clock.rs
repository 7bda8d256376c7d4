// SPDX-License-Identifier: BSD-2-Clause

//! What time it is, and what it cost: a counter that is cheap to read, and the
//! system's accounts of CPU time and context switches.

use super::system::{CpuSet, busy_ns};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// A counter that runs at the same pace on every CPU. See [`Clock`] for its
/// unit.
#[cfg(target_arch = "x86_64")]
pub(crate) fn ticks() -> u64 {
    // SAFETY: the time stamp counter is there on every x86-64 and readable.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A counter that runs at the same pace on every CPU. See [`Clock`] for its
/// unit.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn ticks() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// What a tick is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    ticks_per_ns: f64,
    /// Ticks between two readings with nothing between them.
    empty: u64,
}

/// The clock of this machine, measured when it is first asked for.
pub(crate) fn clock() -> Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    *CLOCK.get_or_init(Clock::measure)
}

impl Clock {
    fn measure() -> Clock {
        let (begun, first) = (Instant::now(), ticks());
        pause_until(begun + Duration::from_millis(50));
        let (ns, passed) = (begun.elapsed().as_nanos() as f64, ticks() - first);
        let mut empty: Vec<u64> = (0..1001)
            .map(|_| {
                let before = ticks();
                ticks() - before
            })
            .collect();
        empty.sort_unstable();
        Clock { ticks_per_ns: passed as f64 / ns, empty: empty[500] }
    }

    /// Nanoseconds of `ticks`.
    pub(crate) fn ns(self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_ns
    }

    /// Ticks of `duration`.
    pub(crate) fn ticks(self, duration: Duration) -> u64 {
        (duration.as_nanos() as f64 * self.ticks_per_ns) as u64
    }

    /// The ticks of what lay between two readings, without the readings.
    pub(crate) fn between(self, before: u64, after: u64) -> u64 {
        after.wrapping_sub(before).saturating_sub(self.empty)
    }
}

/// A stretch of time, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// What ends before does not count.
    pub(crate) begin: u64,
    /// Nothing begins after.
    pub(crate) end: u64,
}

impl Window {
    /// The `length` that begins in `delay`.
    pub(crate) fn after(delay: Duration, length: Duration) -> Window {
        let begin = ticks() + clock().ticks(delay);
        Window { begin, end: begin + clock().ticks(length) }
    }
}

/// Waits until the counter shows `tick`.
pub(crate) fn pause_until_tick(tick: u64) {
    loop {
        let left = tick.saturating_sub(ticks());
        if left == 0 {
            return;
        }
        thread::park_timeout(Duration::from_nanos(clock().ns(left) as u64 + 1));
    }
}

fn pause_until(end: Instant) {
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// CPU time of the calling thread in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn cpu_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure and touches nothing else.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "the system keeps this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The accounts of this process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    tick: u64,
    cpu_ns: u64,
    switches: u64,
    /// All CPUs', whoever used them.
    busy_ns: u64,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// CPU nanoseconds of this process per nanosecond.
    pub(crate) cpus: f64,
    /// CPU nanoseconds of all others per nanosecond.
    pub(crate) others: f64,
    /// Context switches of this process per second.
    pub(crate) switches: f64,
}

impl Usage {
    pub(crate) fn now() -> Usage {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the call fills the structure and touches nothing else.
        let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        assert_eq!(result, 0, "the system keeps accounts");
        // SAFETY: filled above; all zero is a legal value as well.
        let usage = unsafe { usage.assume_init() };
        Usage {
            tick: ticks(),
            cpu_ns: cpu_ns(libc::CLOCK_PROCESS_CPUTIME_ID),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw) as u64,
            busy_ns: busy_ns().unwrap_or(0),
        }
    }

    pub(crate) fn since(self, before: Usage) -> Used {
        let ns = clock().ns(self.tick - before.tick).max(1.0);
        let cpus = (self.cpu_ns - before.cpu_ns) as f64 / ns;
        let busy = self.busy_ns.saturating_sub(before.busy_ns) as f64 / ns;
        Used {
            cpus,
            others: (busy - cpus).max(0.0),
            switches: (self.switches - before.switches) as f64 * 1e9 / ns,
        }
    }
}

/// The CPUs that the calling thread may run on.
#[derive(Clone, Copy)]
pub(crate) struct Cpus(CpuSet);

impl Cpus {
    pub(crate) fn allowed() -> Cpus {
        // SAFETY: a set of bits, all of them 0.
        let mut set: CpuSet = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: 0 is the calling thread; the call fills the set.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
        assert_eq!(result, 0, "a thread may know its CPUs");
        Cpus(set)
    }

    pub(crate) fn count(&self) -> usize {
        // SAFETY: reads the set.
        unsafe { libc::CPU_COUNT(&self.0) as usize }
    }

    /// The first of them alone.
    pub(crate) fn first(&self) -> Cpus {
        // SAFETY: a set of bits, all of them 0.
        let mut set: CpuSet = unsafe { MaybeUninit::zeroed().assume_init() };
        for cpu in 0..libc::CPU_SETSIZE as usize {
            // SAFETY: the number is below the set's size.
            if unsafe { libc::CPU_ISSET(cpu, &self.0) } {
                // SAFETY: as above.
                unsafe { libc::CPU_SET(cpu, &mut set) };
                break;
            }
        }
        Cpus(set)
    }

    /// Keeps the calling thread, and the threads it makes from here on, to
    /// these CPUs.
    pub(crate) fn stay(&self) {
        // SAFETY: 0 is the calling thread; the call reads the set.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) };
        assert_eq!(result, 0, "a thread may give up CPUs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_pace_with_the_system() {
        let (begun, first) = (Instant::now(), ticks());
        pause_until_tick(first + clock().ticks(Duration::from_millis(20)));
        let (system, ours) = (begun.elapsed().as_secs_f64(), clock().ns(ticks() - first) / 1e9);
        assert!((ours / system - 1.0).abs() < 0.05, "{ours} s are {system} s");
    }

    #[test]
    fn cpu_time_grows_with_work_and_one_cpu_is_one() {
        let before = (thread_cpu_ns(), Usage::now());
        while thread_cpu_ns() < before.0 + 20_000_000 {
            std::hint::spin_loop();
        }
        let used = Usage::now().since(before.1);
        assert!(used.cpus > 0.0);
        assert_eq!(Cpus::allowed().first().count(), 1);
    }
}
