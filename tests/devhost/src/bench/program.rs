// SPDX-License-Identifier: BSD-2-Clause

//! The program `bench`; `bench --help` is its manual.

#[path = "mod.rs"]
mod bench;

fn main() -> std::process::ExitCode {
    bench::main()
}
