// SPDX-License-Identifier: BSD-2-Clause

//! How fast the whole is: a guest's CPUs on the device, through the C ABI and
//! the glue that bhyve uses, beside the limit of the machine.
//!
//! - [`case`]: the rows; [`target`]: what some of them have to reach.
//! - [`measure`]: limit and device in turns, medians.
//! - [`subject`]: the device with its guest; [`vcpu`]: one CPU of it, with
//!   [`line`] for its interrupts; [`slow`]: a device over a slow store.
//! - [`limit`]: the same without a device, on the same [`store`].
//! - [`work`]: what is read and written, for both.
//! - [`clock`], [`histogram`]: how it is measured; [`system`]: what Linux and
//!   FreeBSD call it.
//! - [`report`], [`svg`]: how it is shown.
//! - [`args`]: the command line.

mod args;
mod case;
mod clock;
mod histogram;
mod limit;
mod line;
mod measure;
mod report;
mod slow;
mod store;
mod subject;
mod svg;
mod system;
mod target;
mod vcpu;
mod work;

use args::{Args, Mode};
use case::Store;
use clock::{Cpus, clock, ticks};
use measure::{Bench, Plan, Row};
use std::process::ExitCode;
use store::FileStore;
use subject::{Subject, Use, Waiting};
use work::{Op, Order, Work};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The program.
pub(crate) fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    let result = match &args.mode {
        Mode::Help => {
            print!("{}", args::HELP);
            Ok(true)
        }
        Mode::List => {
            args.cases().iter().for_each(|case| println!("{case}"));
            Ok(true)
        }
        Mode::Fixed { store, count } => fixed(&args.plan, store, *count).map(|()| true),
        Mode::Table => table(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints. False if a target was to be met and was not.
fn table(args: &Args) -> Result<bool> {
    if args.one_cpu {
        Cpus::allowed().first().stay();
    }
    let cases = args.cases();
    let mut bench = Bench::new(args.plan.clone());
    println!("{}", report::LEGEND);
    println!("{}\n", conditions(args));
    println!("{}", report::head());
    let begun = ticks();
    let mut rows: Vec<Row> = Vec::new();
    for case in &cases {
        let row = bench.measure(case).map_err(|error| format!("{case}: {error}"))?;
        println!("{}", report::line(&row));
        rows.push(row);
    }
    println!();
    for (ns, cpus) in bench.wake_ns().iter().zip(["", ", on one CPU"]) {
        if let Some(ns) = ns {
            println!("Waking a thread takes the waker {ns:.0} ns{cpus}.");
        }
    }
    if let Some(dir) = bench.dir() {
        println!("The file was in {}.", dir.display());
    }
    println!("{:.0} s; load {}", clock().ns(ticks() - begun) / 1e9, system::load());
    let verdicts = target::verdicts(&rows);
    if !verdicts.is_empty() {
        println!("\nTargets, for two CPUs:");
        verdicts.iter().for_each(|verdict| println!("{verdict}"));
    }
    if let Some(path) = &args.tsv {
        write(path, &report::tsv(&rows))?;
    }
    if let Some(path) = &args.svg {
        write(path, &svg::draw(&rows))?;
    }
    Ok(!args.check || verdicts.iter().all(target::Verdict::holds))
}

/// `count` reads on one queue that is polled, and nothing else: for counting
/// instructions.
fn fixed(plan: &Plan, store: &Store, count: u64) -> Result<()> {
    let work = Work::new(Op::Read, Order::Random, 4);
    let with = Use {
        work,
        depth: 32,
        queues: 1,
        wait: Waiting::Yield,
        scattered: false,
        batched: false,
        shadowed: false,
    };
    let options = &plan.options;
    let (mut subject, _file) = if *store == Store::Ram {
        let spec = format!("4,nvme,ram={}{options}", plan.ram_mib);
        (Subject::start(&spec, plan.ram_mib << 20, false, &with)?, None)
    } else {
        let file = FileStore::new(plan.dir.as_deref(), plan.file_size)?;
        let inline = if *store == Store::FileInline { ",inline=on" } else { "" };
        let spec = format!("4,nvme,{}{inline}{options}", file.path());
        (Subject::start(&spec, file.size(), false, &with)?, Some(file))
    };
    let tally = subject.run_count(count)?;
    println!("{} reads, {} doorbells", tally.ios, tally.rings);
    subject.stop()
}

/// What the figures depend on.
fn conditions(args: &Args) -> String {
    let Plan { repetitions, length, file_size, ram_mib, options, .. } = &args.plan;
    format!(
        "{} CPUs ({}), {} {}, load {}; {repetitions} x {} ms; file of {} MiB, ram={ram_mib}{}{}",
        Cpus::allowed().count(),
        system::cpu_model().as_deref().unwrap_or("unknown"),
        system::NAME,
        system::release(),
        system::load(),
        length.as_millis(),
        file_size >> 20,
        if args.scattered { ", scattered buffers" } else { "" },
        if options.is_empty() { String::new() } else { format!(", options {}", &options[1..]) },
    )
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
