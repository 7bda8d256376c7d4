// SPDX-License-Identifier: BSD-2-Clause

//! The command line: `args` reads it, `run` does what it says, `help.txt` is
//! the manual.

mod args;
mod run;

pub(crate) use run::main;
