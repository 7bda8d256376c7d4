// SPDX-License-Identifier: BSD-2-Clause

//! What the person at the terminal sees, on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::Options;
use crate::index::Package;

/// A line that a quiet run leaves out.
pub(crate) fn say(options: &Options, text: &str) {
    if !options.quiet {
        eprintln!("fetch: {text}");
    }
}

/// A line that is always shown.
pub(crate) fn note(text: &str) {
    eprintln!("fetch: note: {text}");
}

/// How far a set has come: one line that is rewritten on a terminal, a
/// line every two seconds elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    set: &'static str,
    total: usize,
    step: &'static str,
    at: usize,
    quiet: bool,
    terminal: bool,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new(options: &Options, set: &'static str, packages: &[Package]) -> Progress {
        let bytes: u64 = packages.iter().map(|package| package.size).sum();
        say(
            options,
            &format!("{set}: {} packages, {} MiB", packages.len(), bytes.div_ceil(1 << 20)),
        );
        let terminal = stderr().is_terminal();
        let last_line = Instant::now();
        Progress {
            set,
            total: packages.len(),
            step: "",
            at: 0,
            quiet: options.quiet,
            terminal,
            last_line,
        }
    }

    pub(crate) fn show(&mut self, package: &Package, step: &'static str) {
        if self.step != step {
            self.step = step;
            self.at = 0;
        }
        self.at += 1;
        if self.quiet {
            return;
        }
        let Progress { set, at, total, .. } = self;
        let line =
            format!("fetch: {set}: {step} {at}/{total} {} {}", package.name, package.version);
        if self.terminal {
            let line: String = line.chars().take(79).collect();
            eprint!("\r\x1b[K{line}");
            let _ = stderr().flush();
        } else if self.at == self.total || self.last_line.elapsed() >= Duration::from_secs(2) {
            eprintln!("{line}");
            self.last_line = Instant::now();
        }
    }

    pub(crate) fn done(&self) {
        if !self.quiet && self.terminal {
            eprint!("\r\x1b[K");
        }
        if !self.quiet {
            eprintln!("fetch: {}: ready", self.set);
        }
    }
}
