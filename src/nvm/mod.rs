// SPDX-License-Identifier: BSD-2-Clause

//! The NVM command set (section 6): what I/O commands do, on whichever thread
//! runs them. Knows nothing of queues.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod counters;
mod execute;
mod reports;

pub(crate) use execute::Nvm;
pub(crate) use reports::Report;

#[cfg(test)]
mod tests;
