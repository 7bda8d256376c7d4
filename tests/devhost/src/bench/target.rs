// SPDX-License-Identifier: BSD-2-Clause

//! What the device has to reach, and what it aims at, on two CPUs.

use super::measure::{QUIET, Row};

/// One figure held against its target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) figure: f64,
    /// At least, or at most.
    pub(crate) bound: Bound,
    /// The target, and the aim beyond it.
    pub(crate) must: f64,
    pub(crate) aim: f64,
    /// Others used the CPUs meanwhile: it proves nothing.
    pub(crate) noisy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Least,
    Most,
}

impl Verdict {
    /// Whether the target is met.
    pub(crate) fn holds(&self) -> bool {
        self.reaches(self.must)
    }

    fn reaches(&self, value: f64) -> bool {
        match self.bound {
            Bound::Least => self.figure >= value,
            Bound::Most => self.figure <= value,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = if self.bound == Bound::Least { ">=" } else { "<=" };
        let word = match (self.holds(), self.reaches(self.aim)) {
            (true, true) => "aim",
            (true, false) => "ok",
            (false, _) => "MISSED",
        };
        write!(
            f,
            "{:<62} {:>8.3}  {bound} {:<6} (aim {:<5}) {word}{}",
            self.what,
            self.figure,
            self.must,
            self.aim,
            if self.noisy { ", noisy" } else { "" }
        )
    }
}

/// Ratio to the limit, by the row's name: target and aim.
const RATIOS: [(&str, f64, f64); 15] = [
    ("file 4K random read d32 x1", 0.45, 0.60),
    ("file 4K random read d32 x2", 0.70, 0.85),
    ("file 4K random write d32 x1", 0.95, 1.10),
    ("file 128K sequential read d8 x1", 0.80, 0.90),
    ("file 128K random read d8 x1", 0.80, 0.90),
    ("ram 4K random read d32 x2", 0.85, 0.95),
    ("ram 4K random write d32 x2", 0.85, 0.95),
    ("ram 4K random read d1 x1", 0.85, 0.95),
    ("ram 4K random write d1 x1", 0.85, 0.95),
    ("file,inline 4K random read d1 x1", 0.60, 0.90),
    // Wake-ups vary by as much from one second to the next.
    ("file 4K random read d1 x1, of 2 wakes", 0.85, 1.00),
    ("file 4K random read d32 x1 1cpu", 0.80, 0.90),
    ("file 128K sequential read d8 x1 1cpu", 0.90, 0.97),
    ("file 128K random read d8 x1 1cpu", 0.90, 0.97),
    ("1ms,ioslots=128 4K random read d128 x1", 0.95, 0.99),
];

/// Holds `rows` against the targets.
pub(crate) fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let row = |name: &str| rows.iter().find(|row| row.case.to_string() == name);
    let mut verdicts = Vec::new();
    let mut add = |row: &Row, what: &str, figure, bound, must, aim| {
        let noisy = row.device.others.max(row.limit.others) > QUIET;
        let what = format!("{}{what}", row.case);
        verdicts.push(Verdict { what, figure, bound, must, aim, noisy });
    };
    for (name, must, aim) in RATIOS {
        if let Some(row) = row(name) {
            add(row, "", row.ratio[0], Bound::Least, must, aim);
        }
    }
    for name in ["file 4K random read d32 x1", "file 4K random read d32 x2"] {
        if let Some(row) = row(name) {
            let us = row.device.quick_doorbell_ns / 1000.0;
            add(row, ", us of a doorbell that wakes none", us, Bound::Most, 0.35, 0.15);
        }
    }
    for name in
        ["file 4K random read d32 x1", "file 4K random read d32 x2", "ram 4K random read d32 x2"]
    {
        if let Some(row) = row(name) {
            let irq = row.device.interrupts;
            add(row, ", interrupts per I/O", irq, Bound::Most, 0.25, 0.12);
        }
    }
    for name in ["file 4K random read d32 x1 dbbuf", "file 4K random read d32 x2 dbbuf"] {
        if let Some(row) = row(name) {
            let traps = row.device.traps;
            add(row, ", doorbell traps per I/O", traps, Bound::Most, 0.1, 0.05);
        }
    }
    for name in ["file 4K random read d32 x2", "ram 4K random read d32 x2"] {
        if let Some(row) = row(name) {
            let times = row.device.cpu_us() / row.limit.cpu_us();
            add(row, ", CPU per I/O over the limit's", times, Bound::Most, 1.5, 1.25);
        }
    }
    if let Some(row) = row("1ms,ioslots=128 4K random read d128 x1")
        && let Some((mean, _)) = row.inside
    {
        let full = mean / row.case.with.depth as f64;
        add(row, ", how full", full, Bound::Least, 0.95, 0.99);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case;

    #[test]
    fn every_target_names_a_row() {
        let names: Vec<String> = case::few().iter().map(ToString::to_string).collect();
        for (name, must, aim) in RATIOS {
            assert!(names.contains(&name.to_owned()), "{name}");
            assert!(must < aim);
        }
    }

    #[test]
    fn a_bound_holds_at_its_value() {
        let verdict = |figure, bound| Verdict {
            what: String::new(),
            figure,
            bound,
            must: 0.5,
            aim: 0.7,
            noisy: false,
        };
        assert!(verdict(0.5, Bound::Least).holds() && verdict(0.5, Bound::Most).holds());
        assert!(!verdict(0.49, Bound::Least).holds());
        assert!(!verdict(0.51, Bound::Most).holds());
        assert!(verdict(0.4, Bound::Least).to_string().ends_with("MISSED"));
        assert!(verdict(0.6, Bound::Least).to_string().ends_with("ok"));
    }
}
