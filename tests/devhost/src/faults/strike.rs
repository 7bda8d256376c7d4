// SPDX-License-Identifier: BSD-2-Clause

//! All that goes wrong with one store: who meets what, and when.

use super::fault::{Fault, Kind, Ops};
use bhyve_nvme::backend::sys::{Errno, Way};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A fault with what has come of it.
struct Active {
    fault: Fault,
    /// Operations that it could have met.
    seen: u64,
    /// Operations that it met.
    met: u64,
    lot: u64,
}

#[derive(Default)]
struct State {
    active: Vec<Active>,
    met: u64,
    /// Operations that do not end.
    stuck: usize,
    /// Counts the calls of `release`.
    releases: u64,
}

/// All that goes wrong with one store. A clone is the same thing.
#[derive(Clone, Default)]
pub struct Faults(Arc<(Mutex<State>, Condvar)>);

/// What an operation ends with that has met all its faults.
pub(super) enum End {
    /// As it would without.
    Well,
    /// A transfer of the first half alone.
    Half,
    /// An error.
    Failed(Errno),
}

impl Faults {
    /// Nothing goes wrong yet.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Each of `faults` goes wrong.
    pub fn of(faults: &[Fault]) -> Faults {
        let all = Faults::none();
        all.set(faults);
        all
    }

    /// From now on each of `faults` goes wrong, and nothing else. What is held
    /// stays held.
    pub fn set(&self, faults: &[Fault]) {
        let active =
            |fault: &Fault| Active { fault: fault.clone(), seen: 0, met: 0, lot: fault.seed };
        self.lock().active = faults.iter().map(active).collect();
    }

    /// Nothing goes wrong from now on, and what is held goes on.
    pub fn clear(&self) {
        self.set(&[]);
        self.release();
    }

    /// Lets the operations go on that do not end. Later ones may be held again.
    pub fn release(&self) {
        self.lock().releases += 1;
        self.0.1.notify_all();
    }

    /// What goes wrong.
    pub fn list(&self) -> Vec<Fault> {
        self.lock().active.iter().map(|active| active.fault.clone()).collect()
    }

    /// How often anything went wrong so far.
    pub fn met(&self) -> u64 {
        self.lock().met
    }

    /// How many operations do not end.
    pub fn stuck(&self) -> usize {
        self.lock().stuck
    }

    /// Waits until at least `count` operations do not end, or patience ends;
    /// returns how many do not.
    pub fn wait_stuck(&self, count: usize) -> usize {
        let end = Instant::now() + crate::PATIENCE;
        let mut state = self.lock();
        while state.stuck < count {
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            state = self.wait(state, left);
        }
        state.stuck
    }

    /// An operation on `len` bytes at `offset` meets its faults, one after the
    /// other in their order, up to the first that ends it.
    pub(super) fn strike(&self, way: Way, offset: u64, len: u64) -> End {
        let mut state = self.lock();
        let mut kinds = Vec::new();
        for active in &mut state.active {
            if active.strikes(way, offset, len) {
                kinds.push(active.fault.kind);
            }
        }
        state.met += kinds.len() as u64;
        for kind in kinds {
            match kind {
                Kind::Delay(time) => {
                    let end = Instant::now() + time;
                    while let Some(left) = end.checked_duration_since(Instant::now()) {
                        state = self.wait(state, left);
                    }
                }
                Kind::Never => {
                    let releases = state.releases;
                    state.stuck += 1;
                    self.0.1.notify_all();
                    while state.releases == releases {
                        state = self.wait(state, Duration::from_secs(3600));
                    }
                    state.stuck -= 1;
                    self.0.1.notify_all();
                }
                Kind::Fail(errno) => return End::Failed(errno),
                Kind::Short => return End::Half,
            }
        }
        End::Well
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.0.1.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Active {
    fn strikes(&mut self, way: Way, offset: u64, len: u64) -> bool {
        let Ops { read, write, flush } = self.fault.on;
        let concerned = match way {
            Way::Read => read,
            Way::Write => write,
            Way::Flush => flush,
        };
        let touched = match &self.fault.range {
            None => true,
            Some(range) => {
                way != Way::Flush && offset < range.end && offset.saturating_add(len) > range.start
            }
        };
        if !concerned || !touched {
            return false;
        }
        self.seen += 1;
        if self.seen <= self.fault.skip || self.met >= self.fault.times {
            return false;
        }
        let strikes = self.draw() % 1_000_000 < u64::from(self.fault.per_million);
        self.met += u64::from(strikes);
        strikes
    }

    /// The next number of the lot (splitmix64).
    fn draw(&mut self) -> u64 {
        self.lot = self.lot.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.lot;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(faults: &Faults, way: Way, offset: u64, len: u64) -> bool {
        matches!(faults.strike(way, offset, len), End::Failed(Errno(libc::EIO)))
    }

    #[test]
    fn a_fault_is_met_where_and_with_what_it_is_for() {
        let faults = Faults::of(&[Fault::always(Kind::EIO).on(Ops::WRITE).at(2..4)]);
        for (way, offset, len, expected) in [
            (Way::Write, 0, 1024, false),
            (Way::Write, 0, 1025, true),
            (Way::Write, 1024, 512, true),
            (Way::Write, 2047, 1, true),
            (Way::Write, 2048, 512, false),
            (Way::Read, 1024, 512, false),
            (Way::Flush, 0, 0, false),
        ] {
            assert_eq!(failed(&faults, way, offset, len), expected, "{way:?} {offset} {len}");
        }
        assert_eq!(faults.met(), 3);
    }

    #[test]
    fn it_begins_late_and_ends() {
        let faults = Faults::of(&[Fault::always(Kind::EIO).after(2).times(3)]);
        let went: Vec<bool> = (0..7).map(|_| failed(&faults, Way::Read, 0, 512)).collect();
        assert_eq!(went, [false, false, true, true, true, false, false]);
    }

    #[test]
    fn a_rate_is_kept_and_is_the_same_each_time() {
        let run = || {
            let faults = Faults::of(&[Fault::always(Kind::EIO).per_million(100_000)]);
            (0..10_000).map(|_| failed(&faults, Way::Read, 0, 512)).collect::<Vec<bool>>()
        };
        let first = run();
        let count = first.iter().filter(|failed| **failed).count();
        assert!((900..1100).contains(&count), "{count} of 10000");
        assert_eq!(run(), first);
    }

    #[test]
    fn what_never_ends_goes_on_when_it_is_released() {
        let faults = Faults::of(&[Fault::always(Kind::Never), Fault::always(Kind::EIO)]);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| failed(&faults, Way::Flush, 0, 0));
            assert_eq!(faults.wait_stuck(1), 1);
            faults.clear();
            assert!(held.join().unwrap(), "the next fault is met after it");
        });
        assert_eq!((faults.stuck(), faults.met()), (0, 2));
        assert!(!failed(&faults, Way::Flush, 0, 0));
    }

    #[test]
    fn a_delay_takes_its_time() {
        let time = Duration::from_millis(20);
        let faults = Faults::of(&[Fault::always(Kind::Delay(time))]);
        let begun = Instant::now();
        assert!(matches!(faults.strike(Way::Read, 0, 512), End::Well));
        assert!(begun.elapsed() >= time);
    }
}
