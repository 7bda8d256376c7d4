// SPDX-License-Identifier: BSD-2-Clause

//! The program `devhost`; `devhost --help` is its manual.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
