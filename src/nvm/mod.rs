// SPDX-License-Identifier: BSD-2-Clause

//! The NVM command set (section 6): what I/O commands do, on whichever thread
//! runs them. Knows nothing of queues.
//!
//! Each command ends in bounded time, if the store does. At most, it costs:
//!
//! | command | data through the store | calls of the store |
//! | --- | --- | --- |
//! | Read, Write | 2 MiB (MDTS) | 1, and a flush |
//! | Flush | what is not written yet | 1 |
//! | Compare | 2 MiB read | one per 128 KiB |
//! | Compare and Write | 2 MiB read, 2 MiB written | the same, and 1 |
//! | Verify | 65536 blocks read | one per 128 KiB |
//! | Write Zeroes | 65536 blocks written | 1, and a flush |
//! | Dataset Management | each block of the namespace freed once | 256, and a flush |
//!
//! The ranges of Dataset Management are freed at once, by as many workers as
//! there are slots; all else is one worker's.
//!
//! A list of descriptors adds [`MAX_DESCRIPTORS`] of 16 bytes, a PRP list 8
//! bytes for each page of data.
//!
//! * [`execute`]: fields, checked; Read, Write and Flush.
//! * [`compare`]: Compare, Compare and Write, Verify.
//! * [`space`]: Write Zeroes and Dataset Management.
//! * [`exclusion`]: what keeps writes out of a fused operation.
//! * [`offer`]: what is advertised of all this.
//!
//! [`MAX_DESCRIPTORS`]: crate::data_pointer::MAX_DESCRIPTORS

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

mod compare;
mod counters;
mod exclusion;
mod execute;
mod offer;
mod reports;
mod scratch;
mod space;

pub(crate) use execute::{Nvm, Offers};
pub(crate) use reports::Report;

#[cfg(test)]
mod tests;
