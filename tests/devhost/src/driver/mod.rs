// SPDX-License-Identifier: BSD-2-Clause

//! An NVMe driver in this process, for tests and benchmarks.
//!
//! It shares no definition with the library: registers and entries are written
//! down here a second time, from the specification, so that a mistake in one
//! place shows.
//!
//! - [`Function`] is what it drives: a PCI function with BARs, configuration
//!   space, guest memory and interrupts. [`crate::bhyve::Device`] is one, and
//!   [`Posted`] makes the writes to it late.
//! - [`Memory`] hands out guest memory; [`Data`] is a buffer for one command, in
//!   one piece or scattered; [`Prp`] points a command to it.
//! - [`Nvme`] is the controller: registers, MSI-X, admin commands, queues.
//! - [`QueuePair`] submits and waits; [`SubmissionQueue`] and
//!   [`CompletionQueue`] below it are for tests that want to do it wrong.
//!
//! What does not come in time is an [`Error`] that shows registers and queues.

mod admin;
mod controller;
mod data;
mod error;
mod function;
mod memory;
mod msix;
mod pair;
mod posted;
mod prp;
mod queue;
mod shadow;
mod wire;

pub use admin::{NamespaceInfo, queue_count};
pub use controller::{Enable, Nvme, registers};
pub use data::Data;
pub use error::Error;
pub use function::Function;
pub use memory::{Buffer, Memory, PAGE};
pub use msix::Msix;
pub use pair::{QueuePair, Wait};
pub use posted::Posted;
pub use prp::Prp;
pub use queue::{CompletionQueue, SubmissionQueue};
pub use shadow::DoorbellBuffer;
pub use wire::{Completion, Entry, Status, admin_opcode, io_opcode};
