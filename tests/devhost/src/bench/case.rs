// SPDX-License-Identifier: BSD-2-Clause

//! What is measured: the rows of the table.

use super::subject::{Use, Waiting};
use super::work::{Op, Order, Work};
use std::time::Duration;

/// What is behind the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Ram,
    File,
    /// A file whose commands the guest's CPU runs itself.
    FileInline,
    /// Every operation takes this long; so many at once.
    Slow(Duration, u16),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) store: Store,
    pub(crate) with: Use,
    /// All threads share one CPU.
    pub(crate) one_cpu: bool,
    /// The limit is a read between two wake-ups: what a device reaches at
    /// depth 1 that hands each command to a sleeping thread.
    pub(crate) two_wakes: bool,
}

/// The latency of the slow store.
pub(crate) const SLOW: Duration = Duration::from_millis(1);

/// The library's default for `ioslots`, for the controller that has no options.
const DEFAULT_SLOTS: u16 = 8;

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Store::Ram => f.write_str("ram"),
            Store::File => f.write_str("file"),
            Store::FileInline => f.write_str("file,inline"),
            Store::Slow(latency, slots) => {
                write!(f, "{}ms,ioslots={slots}", latency.as_millis())
            }
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Use { work, depth, queues, wait, .. } = self.with;
        write!(f, "{} {work} d{depth} x{queues}", self.store)?;
        if wait != Waiting::Interrupt {
            f.write_str(" poll")?;
        }
        if self.with.batched {
            f.write_str(" batched")?;
        }
        if self.with.shadowed {
            f.write_str(" dbbuf")?;
        }
        if self.one_cpu {
            f.write_str(" 1cpu")?;
        }
        if self.two_wakes {
            f.write_str(", of 2 wakes")?;
        }
        Ok(())
    }
}

impl Case {
    fn new(store: Store, work: Work, depth: usize, queues: u16) -> Case {
        let wait = Waiting::Interrupt;
        let with =
            Use { work, depth, queues, wait, scattered: false, batched: false, shadowed: false };
        Case { store, with, one_cpu: false, two_wakes: false }
    }

    fn polled(mut self) -> Case {
        self.with.wait = Waiting::Poll;
        self
    }

    fn batched(mut self) -> Case {
        self.with.batched = true;
        self
    }

    fn shadowed(mut self) -> Case {
        self.with.shadowed = true;
        self
    }

    fn beside_two_wakes(mut self) -> Case {
        self.two_wakes = true;
        self
    }

    fn one_cpu(mut self) -> Case {
        self.one_cpu = true;
        self
    }
}

const READ_4K: Work = Work::new(Op::Read, Order::Random, 4);
const WRITE_4K: Work = Work::new(Op::Write, Order::Random, 4);
const READ_128K: Work = Work::new(Op::Read, Order::Random, 128);
const STREAM_128K: Work = Work::new(Op::Read, Order::Sequential, 128);
const DEPTHS: [usize; 4] = [1, 8, 32, 128];

/// The rows that decide whether the targets are met.
pub(crate) fn few() -> Vec<Case> {
    use Store::{File, FileInline, Ram, Slow};
    vec![
        Case::new(Ram, READ_4K, 1, 1),
        Case::new(Ram, WRITE_4K, 1, 1),
        Case::new(Ram, READ_4K, 32, 1),
        Case::new(Ram, READ_4K, 32, 2),
        Case::new(Ram, WRITE_4K, 32, 2),
        Case::new(File, READ_4K, 1, 1).beside_two_wakes(),
        Case::new(FileInline, READ_4K, 1, 1),
        Case::new(File, READ_4K, 32, 1),
        Case::new(File, READ_4K, 32, 2),
        Case::new(File, WRITE_4K, 32, 1),
        Case::new(File, STREAM_128K, 8, 1),
        Case::new(File, READ_128K, 8, 1),
        Case::new(File, READ_4K, 32, 1).shadowed(),
        Case::new(File, READ_4K, 32, 2).shadowed(),
        Case::new(File, READ_4K, 32, 1).one_cpu(),
        Case::new(File, STREAM_128K, 8, 1).one_cpu(),
        Case::new(File, READ_128K, 8, 1).one_cpu(),
        Case::new(Slow(SLOW, 128), READ_4K, 128, 1),
        Case::new(Slow(SLOW, DEFAULT_SLOTS), READ_4K, 128, 1),
    ]
}

/// All rows.
pub(crate) fn all() -> Vec<Case> {
    use Store::{File, FileInline, Ram};
    let mut cases = Vec::new();
    for store in [Ram, File] {
        for work in [READ_4K, WRITE_4K] {
            cases.push(Case::new(store, work, 1, 1).polled());
            for depth in DEPTHS {
                cases.extend([1, 2].map(|queues| Case::new(store, work, depth, queues)));
            }
            cases.push(Case::new(store, work, 32, 1).batched());
        }
        for work in [READ_128K, STREAM_128K] {
            for depth in DEPTHS {
                cases.extend([1, 2].map(|queues| Case::new(store, work, depth, queues)));
            }
        }
        for order in [Order::Random, Order::Sequential] {
            cases.push(Case::new(store, Work::new(Op::Write, order, 128), 8, 1));
        }
    }
    cases.push(Case::new(FileInline, READ_4K, 1, 1).polled());
    cases.push(Case::new(FileInline, WRITE_4K, 1, 1));
    cases.push(Case::new(FileInline, READ_4K, 32, 1));
    cases.push(Case::new(FileInline, READ_4K, 32, 2));
    cases.push(Case::new(File, READ_4K, 1, 1).one_cpu());
    cases.push(Case::new(File, WRITE_4K, 32, 1).one_cpu());
    // Whatever decides a target is measured in either run.
    let names: Vec<String> = cases.iter().map(Case::to_string).collect();
    cases.extend(few().into_iter().filter(|case| !names.contains(&case.to_string())));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let mut names: Vec<String> = all().iter().map(Case::to_string).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(few().iter().all(|case| names.contains(&case.to_string())));
        assert!(names.contains(&"file 4K random read d32 x2".to_owned()));
        assert!(names.contains(&"file 128K sequential read d8 x1 1cpu".to_owned()));
        assert!(names.contains(&"1ms,ioslots=128 4K random read d128 x1".to_owned()));
    }
}
