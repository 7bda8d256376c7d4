// SPDX-License-Identifier: BSD-2-Clause

//! The whole way of I/O on real stores, as bhyve has it: the devices are made,
//! then the process enters capability mode (on FreeBSD), and everything else
//! happens there.
//!
//! A program of its own, for capability mode is for the whole process and for
//! good. `BHYVE_NVME_STORES` names the stores, separated by blanks; what is on
//! them is lost. Without it, it makes a file.
//!
//! | store | which |
//! | --- | --- |
//! | `file:PATH` | a regular file |
//! | `md:PATH` | an md(4) device that mdconfig(8) can resize: swap |
//! | `zvol:PATH` | a ZFS volume |
//! | `device:PATH` | any other disk device, which keeps its size |
//!
//! Each holds 16 MiB at least. The program runs itself a second time: that one
//! is the sandboxed one, and asks the first for what a sandbox cannot do. Ends
//! with `N passed, N failed`.

mod checks;
mod outside;
mod subject;

use std::process::ExitCode;

/// What the first program sets for the second.
const INSIDE: &str = "BHYVE_NVME_STORES_INSIDE";

/// Where the stores are named.
const STORES: &str = "BHYVE_NVME_STORES";

/// Kind and path of each store in `text`.
fn parse(text: &str) -> Vec<(String, String)> {
    text.split_whitespace()
        .map(|store| {
            let (kind, path) = store.split_once(':').unwrap_or_else(|| {
                panic!("{STORES}: {store}: must be file:, md:, zvol: or device: and a path")
            });
            (kind.to_owned(), path.to_owned())
        })
        .collect()
}

fn main() -> ExitCode {
    // As a test program among others: it has no tests to be listed or chosen.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let all_well = match std::env::var(INSIDE) {
        Ok(stores) => subject::run(&parse(&stores)),
        Err(_) => outside::run(),
    };
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
