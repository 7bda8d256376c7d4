// SPDX-License-Identifier: BSD-2-Clause

//! Submission and completion queues, their doorbells, and interrupts.
//!
//! Each queue identifier has a slot for the life of the process. The
//! controller thread opens and closes the queue in it; any thread may look
//! whether it is open.

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

mod completion;
mod doorbell;
mod interrupt;
mod ring;
mod submission;

pub(crate) use completion::{CompletionParameters, CompletionQueue};
pub(crate) use doorbell::{DoorbellError, ShadowWords};
pub(crate) use interrupt::Interrupts;
pub(crate) use submission::{Claim, SubmissionParameters, SubmissionQueue, Visit};

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod model;
