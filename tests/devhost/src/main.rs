// SPDX-License-Identifier: BSD-2-Clause

//! The program `devhost`; `devhost --help` is its manual.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod cli;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    cli::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("devhost: guests and vfio-user need Linux");
    ExitCode::FAILURE
}
