// SPDX-License-Identifier: BSD-2-Clause

//! How quick the store is, as workers have measured it, and what follows from
//! that: how many commands a worker fetches at once, how many completions
//! share an interrupt, and when another worker is worth being woken.
//!
//! A store that answers from memory is served best by few workers that are
//! never interrupted: waking a thread takes longer than several commands. A
//! store that waits for a medium is served best by as many workers as there
//! are slots, with a command each. What is decided wrongly, because the store
//! has changed its pace, [`super::watch`] puts right.

use super::sys::{Switches, switches};
use crate::sync::{AtomicU32, Ordering, Stopwatch};

/// The most commands that are fetched at once, and the completions that share
/// an interrupt where 8 were measured to be best.
pub(super) const BATCH: usize = 8;

/// A store whose commands take less, in nanoseconds, is quick.
const QUICK: u32 = 50_000;

/// The commands of a batch take no longer than this, in nanoseconds, as far as
/// one can tell.
const BATCH_TIME: u32 = 32_000;

/// What waking a thread costs at most, in nanoseconds: from 400 on the same
/// CPU to 11,000 where one CPU of a virtual machine interrupts another.
const WAKE: u32 = 10_000;

/// While the store is quick, one batch in so many is measured.
const SAMPLE_EVERY: u32 = 8;

pub(super) struct Pace {
    /// Nanoseconds that a command takes in the store.
    service: AtomicU32,
    /// Workers that execute commands of a quick store.
    quick_workers: AtomicU32,
    cpus: u32,
}

impl Pace {
    /// For a store that nothing is known of, on a host of `cpus` CPUs.
    pub(super) fn new(cpus: u32) -> Pace {
        Pace { service: AtomicU32::new(QUICK), quick_workers: AtomicU32::new(0), cpus: cpus.max(1) }
    }

    /// Begins to measure a batch, of which the thread has run `turn` before, if
    /// it is worth the two system calls.
    pub(super) fn measure(&self, turn: u32) -> Option<Measurement> {
        let wanted = !self.is_quick() || turn.is_multiple_of(SAMPLE_EVERY);
        wanted.then(|| Measurement { before: switches(), watch: Stopwatch::start() })
    }

    /// `commands` commands took `nanoseconds`. Slowness is believed sooner than
    /// quickness: it is what others would wait for.
    pub(super) fn measured(&self, nanoseconds: u64, commands: usize) {
        let each = nanoseconds.checked_div(commands as u64).unwrap_or(0);
        let sample = u32::try_from(each).unwrap_or(u32::MAX);
        let now = self.service.load(Ordering::Relaxed);
        let next = if sample > now {
            now.saturating_add(sample.wrapping_sub(now) / 4)
        } else {
            now.wrapping_sub(now.wrapping_sub(sample) / 2)
        };
        // The word is shared by all: small changes are not worth a store.
        if next.abs_diff(now) > now / 16 {
            self.service.store(next, Ordering::Relaxed);
        }
    }

    /// A command of a store that was thought to be quick has not ended.
    pub(super) fn stalled(&self) {
        let slow = QUICK.saturating_mul(4);
        if self.service.load(Ordering::Relaxed) < slow {
            self.service.store(slow, Ordering::Relaxed);
        }
    }

    pub(super) fn is_quick(&self) -> bool {
        self.service.load(Ordering::Relaxed) < QUICK
    }

    /// The most commands to fetch at once: from 1 to [`BATCH`].
    pub(super) fn batch(&self) -> usize {
        (self.fit_into(BATCH_TIME) as usize).clamp(1, BATCH)
    }

    /// The completions that may share an interrupt while more are under way,
    /// of `in_store` commands in the store. One CPU cannot run guest and
    /// worker side by side, nor can several whose workers are all busy while
    /// other queues wait: there, the guest is left alone for longer. Of a
    /// slow store's, one in 16: waiting for that many takes a sixteenth of what
    /// each of them took.
    pub(super) fn share(&self, in_store: u32, others_wait: impl FnOnce() -> bool) -> u32 {
        const MOST: u32 = BATCH as u32;
        const SLOW_SHARE: u32 = 16;
        if !self.is_quick() {
            return (in_store / SLOW_SHARE).clamp(1, MOST);
        }
        if self.cpus == 1 {
            return self.fit_into(BATCH_TIME.saturating_mul(8)).clamp(1, MOST.saturating_mul(4));
        }
        if self.quick_workers.load(Ordering::Relaxed) >= self.cpus && others_wait() {
            return self.fit_into(BATCH_TIME.saturating_mul(4)).clamp(1, MOST.saturating_mul(3));
        }
        self.fit_into(BATCH_TIME).clamp(1, MOST)
    }

    fn fit_into(&self, nanoseconds: u32) -> u32 {
        nanoseconds.checked_div(self.service.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// A worker begins to execute commands of a store that is quick, or was
    /// when they were fetched.
    pub(super) fn begin_quick(&self) {
        self.quick_workers.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended, or is thought to be stuck.
    pub(super) fn end_quick(&self) {
        self.quick_workers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether there is such a worker.
    pub(super) fn any_quick_worker(&self) -> bool {
        self.quick_workers.load(Ordering::SeqCst) != 0
    }

    /// Over how many workers what waits is spread.
    pub(super) fn ways(&self) -> u32 {
        self.quick_workers.load(Ordering::Relaxed).clamp(1, self.cpus)
    }

    /// Whether the workers that are awake are done with `backlog` commands
    /// before another would have been woken, or there is no CPU for another.
    pub(super) fn suffices(&self, backlog: impl FnOnce() -> u32) -> bool {
        let workers = self.quick_workers.load(Ordering::SeqCst);
        if workers == 0 || !self.is_quick() {
            return false;
        }
        let time = backlog().saturating_mul(self.service.load(Ordering::Relaxed));
        workers >= self.cpus || time < workers.saturating_mul(WAKE)
    }
}

/// The time that a batch takes.
pub(super) struct Measurement {
    before: Switches,
    watch: Stopwatch,
}

impl Measurement {
    /// Ends it: nanoseconds, or `None` if the time is no measure of the store,
    /// because the thread did not wait for it but for a CPU.
    pub(super) fn end(self) -> Option<u64> {
        let nanoseconds = self.watch.nanoseconds();
        let after = switches();
        let waited = after.voluntary != self.before.voluntary;
        (waited || after.involuntary == self.before.involuntary).then_some(nanoseconds)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn after(samples: &[u32]) -> Pace {
        let pace = Pace::new(4);
        samples.iter().for_each(|sample| pace.measured(u64::from(*sample), 1));
        pace
    }

    #[test]
    fn nothing_is_batched_before_the_store_is_known() {
        let pace = Pace::new(4);
        assert!(!pace.is_quick());
        assert_eq!(pace.batch(), 1);
    }

    #[test]
    fn a_quick_store_is_asked_for_more_at_once() {
        assert_eq!(after(&[2000; 10]).batch(), BATCH);
        assert_eq!(after(&[12_000; 10]).batch(), 2);
        assert_eq!(after(&[1_000_000; 10]).batch(), 1);
        assert!(after(&[15_000; 10]).is_quick());
    }

    #[test]
    fn interrupts_are_shared_by_what_ends_soon() {
        let quick = after(&[2000; 10]);
        assert_eq!((quick.share(1, || false), quick.share(128, || false)), (8, 8));
        assert_eq!(after(&[12_000; 10]).share(8, || false), 2);
        let slow = after(&[1_000_000; 10]);
        assert_eq!(
            (
                slow.share(1, || false),
                slow.share(31, || false),
                slow.share(32, || false),
                slow.share(256, || false)
            ),
            (1, 1, 2, 8)
        );
        let alone = Pace::new(1);
        (0..10).for_each(|_| alone.measured(2000, 1));
        assert_eq!(alone.share(8, || false), 32);
        let busy = after(&[2000; 10]);
        busy.begin_quick();
        busy.begin_quick();
        assert_eq!(busy.share(8, || true), 8, "two CPUs are left");
        busy.begin_quick();
        busy.begin_quick();
        assert_eq!((busy.share(8, || false), busy.share(8, || true)), (8, 24));
    }

    #[test]
    fn one_slow_command_in_ten_is_enough_to_be_careful() {
        let pace = after(&[2000; 10]);
        for _ in 0..20 {
            pace.measured(5_000_000, 1);
            assert!(!pace.is_quick());
            (0..4).for_each(|_| pace.measured(2000, 1));
            assert!(!pace.is_quick());
            (0..5).for_each(|_| pace.measured(2000, 1));
        }
    }

    #[test]
    fn a_wake_up_is_for_what_would_wait_longer() {
        let pace = after(&[2000; 10]);
        assert!(!pace.suffices(|| 1), "nobody is awake");
        pace.begin_quick();
        assert!(pace.suffices(|| 1));
        assert!(!pace.suffices(|| 32));
        pace.begin_quick();
        pace.begin_quick();
        pace.begin_quick();
        assert!(pace.suffices(|| u32::MAX), "there is no fifth CPU");
        pace.stalled();
        assert!(!pace.suffices(|| 1), "the store is not quick any more");
    }

    #[test]
    fn any_sample_is_taken() {
        let pace = after(&[u32::MAX, 0, u32::MAX]);
        pace.measured(u64::MAX, 0);
        pace.measured(u64::MAX, 1);
        assert_eq!(pace.batch(), 1);
    }
}
