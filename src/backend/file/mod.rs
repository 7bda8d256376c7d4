// SPDX-License-Identifier: BSD-2-Clause

//! A disk in a regular file or on a disk device.
//!
//! Guest memory goes to `preadv(2)` and `pwritev(2)` as it is, without a copy
//! or an allocation, wherever the system takes it; else through a bounded
//! buffer. What each operating system takes, and what it calls a flush, is
//! [`Policy`](super::sys::Policy)'s business.

use std::path::Path;

use super::sys::{Native, Raw};

mod bounce;
mod open;
mod space;
mod store;
mod transfer;

#[cfg(test)]
mod tests;

pub use open::{OpenError, OpenOptions};
pub use store::File;

/// Opens the store at `path` with the system's own calls.
///
/// # Errors
/// See [`File::open`].
pub fn open(path: &Path, options: &OpenOptions) -> Result<File<Raw, Native>, OpenError> {
    File::open(Raw, path, options)
}
