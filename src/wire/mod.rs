// SPDX-License-Identifier: BSD-2-Clause

//! What the guest sees, bit for bit: registers, queue entries, data structures
//! and status codes of the NVM Express Base Specification, revision 2.0, and of
//! the NVM Command Set Specification, revision 1.0. Sections and figures named
//! in the code are those of revision 1.4, where both were one document;
//! `docs/conformance.md` names those of 2.0.
//!
//! No logic, no I/O, no unsafe code. A field that the specification counts
//! from zero ends in `_z`.

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

pub mod command;
pub mod completion;
pub mod event;
pub mod feature;
pub mod identify;
pub mod log;
pub mod register;
pub mod sgl;
pub mod status;

/// Bytes of one memory page. CAP.MPSMIN and CAP.MPSMAX allow no other size.
pub const PAGE_SIZE: usize = 4096;

/// The NSID of the one namespace.
pub const NSID: u32 = 1;

/// The NSID that stands for all namespaces.
pub const NSID_ALL: u32 = 0xffff_ffff;
