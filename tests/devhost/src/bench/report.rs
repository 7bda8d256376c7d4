// SPDX-License-Identifier: BSD-2-Clause

//! The table, for people and for programs.

use super::case::Store;
use super::measure::Row;
use super::subject::{Sample, Waiting};
use std::fmt::Write;

/// Explains the columns.
pub(crate) const LEGEND: &str = "\
IOPS beside the limit that was taken in the same run, in turns: preadv(2) or
pwritev(2) on the same file from min(depth, 32) threads; for ram, memcpy(3) by a
thread per queue; for the slow store, as many threads as it has slots; \"of 2
wakes\", a read of the file between two wake-ups.  Medians; ratio: median (least -
most) of the pairs.  bell: mean nanoseconds of a write to
the tail doorbell, and per cent of them that woke a thread.  CPU: microseconds
per I/O of the guest's CPUs + of the library, and those of the limit.  irq, csw:
interrupts and context switches per I/O; trap: writes to doorbell registers per
I/O, few with shadow doorbells (dbbuf).  p50, p99: microseconds from doorbell to
completion.  thr: threads of the library.  oth: CPUs that others used meanwhile:
where that is more than 0.1, do not trust the row.
";

/// The head of the table.
pub(crate) fn head() -> String {
    format!(
        "{:<39} {:>7} {:>7}  {:<18} {:>6} {:>3} {:>12} {:>6} {:>5} {:>5} {:>5} {:>7} {:>7} {:>4} {:>4}",
        "workload, depth, queues",
        "IOPS",
        "limit",
        "ratio",
        "bell",
        "%wk",
        "CPU",
        "limit",
        "irq",
        "csw",
        "trap",
        "p50",
        "p99",
        "thr",
        "oth"
    )
}

/// A line of the table.
pub(crate) fn line(row: &Row) -> String {
    let Row { case, device, limit, ratio, threads, .. } = row;
    let ratio = format!("{:.2} ({:.2} - {:.2})", ratio[0], ratio[1], ratio[2]);
    let cpu = format!("{:.2}+{:.2}", device.vcpu_us, device.library_us);
    // What runs in the doorbell takes as long as waking a thread, or longer.
    let woke = match case.store {
        Store::Ram | Store::FileInline => "-".to_owned(),
        Store::File | Store::Slow(..) => format!("{:.0}", device.woke * 100.0),
    };
    let irq = match case.with.wait {
        Waiting::Interrupt => format!("{:.2}", device.interrupts),
        _ => "-".to_owned(),
    };
    let mut line = format!(
        "{:<39} {:>7} {:>7}  {:<18} {:>6.0} {:>3} {:>12} {:>6.2} {:>5} {:>5.2} {:>5.2} {:>7.1} \
         {:>7.1} \
         {:>4} {:>4.1}",
        case.to_string(),
        count(device.iops),
        count(limit.iops),
        ratio,
        device.doorbell_ns,
        woke,
        cpu,
        limit.cpu_us(),
        irq,
        device.switches,
        device.traps,
        device.p50_us,
        device.p99_us,
        threads,
        device.others.max(limit.others)
    );
    if let Some((mean, peak)) = row.inside {
        let _ = write!(line, "\n  in the store: {mean:.1} on average, {peak} at most");
    }
    line
}

/// Three digits and a unit.
pub(crate) fn count(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.2}M", v / 1e6),
        v if v >= 99_950.0 => format!("{:.0}k", v / 1e3),
        v if v >= 1000.0 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

type Figure = (&'static str, fn(&Sample) -> f64);

/// What is told of device and limit alike.
const FIGURES: [Figure; 12] = [
    ("iops", |s| s.iops),
    ("vcpu_us", |s| s.vcpu_us),
    ("library_us", |s| s.library_us),
    ("irq", |s| s.interrupts),
    ("csw", |s| s.switches),
    ("traps", |s| s.traps),
    ("p50_us", |s| s.p50_us),
    ("p99_us", |s| s.p99_us),
    ("doorbell_ns", |s| s.doorbell_ns),
    ("doorbell_woke", |s| s.woke),
    ("doorbell_quick_ns", |s| s.quick_doorbell_ns),
    ("other_cpus", |s| s.others),
];

/// All figures, a row a line, separated by tabs.
pub(crate) fn tsv(rows: &[Row]) -> String {
    let mut text = String::from("case\tstore\tworkload\tdepth\tqueues\twait\tone_cpu");
    for kind in ["device", "limit"] {
        for (name, _) in FIGURES {
            let _ = write!(text, "\t{kind}_{name}");
        }
    }
    text.push_str("\tratio\tratio_least\tratio_most\tthreads\tinside_mean\tinside_peak\n");
    for row in rows {
        let with = row.case.with;
        let wait = if with.wait == Waiting::Interrupt { "interrupt" } else { "poll" };
        let _ = write!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{wait}\t{}",
            row.case, row.case.store, with.work, with.depth, with.queues, row.case.one_cpu
        );
        for sample in [&row.device, &row.limit] {
            for (_, figure) in FIGURES {
                let _ = write!(text, "\t{:.4}", figure(sample));
            }
        }
        let (mean, peak) = row.inside.map_or((String::new(), String::new()), |(mean, peak)| {
            (format!("{mean:.2}"), peak.to_string())
        });
        let [median, least, most] = row.ratio;
        let _ =
            writeln!(text, "\t{median:.4}\t{least:.4}\t{most:.4}\t{}\t{mean}\t{peak}", row.threads);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case;

    #[test]
    fn counts_have_three_digits() {
        let texts = [12.0, 1234.0, 99_949.0, 99_951.0, 999_499.0, 999_501.0].map(count);
        assert_eq!(texts, ["12", "1.2k", "99.9k", "100k", "999k", "1.00M"]);
    }

    #[test]
    fn every_line_has_as_many_fields_as_the_head() {
        let row = Row {
            case: case::few()[0],
            device: Sample { iops: 1000.0, ..Sample::default() },
            limit: Sample { iops: 2000.0, ..Sample::default() },
            ratio: [0.5, 0.4, 0.6],
            threads: 2,
            inside: None,
        };
        let rows = [row.clone(), Row { inside: Some((7.5, 8)), ..row }];
        let text = tsv(&rows);
        let fields: Vec<usize> = text.lines().map(|line| line.split('\t').count()).collect();
        assert_eq!(fields, [fields[0]; 3]);
        assert_eq!(head().len(), line(&rows[0]).len());
    }
}
