// SPDX-License-Identifier: BSD-2-Clause

//! The command line.

use super::Result;
use super::case::{self, Case, Store};
use super::measure::Plan;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
usage: bench [options]

Measures the device, beside the limit of this machine.

  --quick            only the rows that decide targets, in a minute
  --only TEXT        only rows whose name contains TEXT; may be repeated
  --list             prints the rows' names and ends
  --check            ends with status 1 if a target is missed
  --one-cpu          keeps all threads on one CPU
  --scattered        buffers whose pages are no neighbours
  --options TEXT     more options for the device, such as ioslots=4,maxq=2
  --repetitions N    of limit and device each, for a row (5)
  --ms N             length of a repetition (300, or 200 with --quick)
  --file-mib N       size of the file (1024)
  --ram-mib N        size of the RAM disk (512)
  --dir DIR          where the file goes: $BHYVE_NVME_BENCH_DIR, else memory
  --tsv FILE         writes all figures, separated by tabs
  --svg FILE         draws result beside limit
  --fixed STORE N    does N reads of 4 KiB at depth 32 on ram, file or
                     file,inline, and nothing else
";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Help,
    List,
    Table,
    Fixed { store: Store, count: u64 },
}

/// All of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) quick: bool,
    pub(crate) only: Vec<String>,
    pub(crate) check: bool,
    pub(crate) one_cpu: bool,
    pub(crate) scattered: bool,
    pub(crate) tsv: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) plan: Plan,
}

impl Args {
    /// The rows that are asked for.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases = if self.quick { case::few() } else { case::all() };
        cases.retain(|case| {
            let name = case.to_string();
            self.only.is_empty() || self.only.iter().any(|text| name.contains(text))
        });
        cases.iter_mut().for_each(|case| case.with.scattered = self.scattered);
        cases
    }
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut args = Args {
        mode: Mode::Table,
        quick: false,
        only: Vec::new(),
        check: false,
        one_cpu: false,
        scattered: false,
        tsv: None,
        svg: None,
        plan: Plan {
            repetitions: 5,
            length: Duration::ZERO,
            file_size: 1024 << 20,
            ram_mib: 512,
            dir: None,
            options: String::new(),
        },
    };
    let mut ms = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => args.quick = true,
            Long("only") => args.only.push(parser.value()?.string()?),
            Long("list") => args.mode = Mode::List,
            Long("check") => args.check = true,
            Long("one-cpu") => args.one_cpu = true,
            Long("scattered") => args.scattered = true,
            Long("options") => args.plan.options = format!(",{}", parser.value()?.string()?),
            Long("repetitions") => {
                args.plan.repetitions = number(&mut parser, "--repetitions", 1, 1000)? as usize;
            }
            Long("ms") => ms = Some(number(&mut parser, "--ms", 10, 60_000)?),
            Long("file-mib") => {
                args.plan.file_size = number(&mut parser, "--file-mib", 16, 1 << 20)? << 20;
            }
            Long("ram-mib") => args.plan.ram_mib = number(&mut parser, "--ram-mib", 16, 1 << 20)?,
            Long("dir") => args.plan.dir = Some(parser.value()?.into()),
            Long("tsv") => args.tsv = Some(parser.value()?.into()),
            Long("svg") => args.svg = Some(parser.value()?.into()),
            Long("fixed") => {
                let store = match parser.value()?.string()?.as_str() {
                    "ram" => Store::Ram,
                    "file" => Store::File,
                    "file,inline" => Store::FileInline,
                    other => {
                        return Err(format!("--fixed {other}: not ram, file or file,inline").into());
                    }
                };
                args.mode =
                    Mode::Fixed { store, count: number(&mut parser, "--fixed", 1, u64::MAX)? };
            }
            Short('h') | Long("help") => args.mode = Mode::Help,
            other => return Err(other.unexpected().into()),
        }
    }
    args.plan.length = Duration::from_millis(ms.unwrap_or(if args.quick { 200 } else { 300 }));
    if args.cases().is_empty() {
        return Err(format!("no row's name contains {:?}: see --list", args.only).into());
    }
    Ok(args)
}

fn number(parser: &mut lexopt::Parser, name: &str, least: u64, most: u64) -> Result<u64> {
    let text = parser.value()?.string()?;
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{name} {text}: not a number from {least} to {most}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Args> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_understood() {
        let args =
            of("--quick --only d32 --only d8 --options ioslots=4 --ms 50 --scattered").unwrap();
        assert!(
            args.cases()
                .iter()
                .all(|case| case.with.scattered && [8, 32].contains(&case.with.depth))
        );
        assert_eq!(
            (args.plan.length, args.plan.options.as_str()),
            (Duration::from_millis(50), ",ioslots=4")
        );
        let fixed = of("--fixed file 100").unwrap();
        assert_eq!(fixed.mode, Mode::Fixed { store: Store::File, count: 100 });
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--what", "--ms 0", "--only nothing-has-this-name", "--fixed disk 5", "--ms"] {
            assert!(of(line).is_err(), "{line}");
        }
    }
}
