// SPDX-License-Identifier: BSD-2-Clause

//! The program `bench`; `bench --help` is its manual.

#[cfg(target_os = "linux")]
#[path = "mod.rs"]
mod bench;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    bench::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("bench: it reads Linux's accounts of time and threads");
    std::process::ExitCode::FAILURE
}
