// SPDX-License-Identifier: BSD-2-Clause

//! Why a step of the driver failed.

use super::wire::Completion;
use std::fmt;

/// Why a step of the driver failed. Its `Debug` form is made to be read.
pub enum Error {
    /// The command completed with an error.
    Status(Completion),
    /// Something did not happen in time: what, and how things stand.
    Timeout(String),
    /// A completion came that nobody waited for, or one came twice.
    Stray(String),
    /// No room: in guest memory, or in a queue nobody drains.
    NoRoom(&'static str),
}

impl Error {
    /// Status code type and status code (`sct << 8 | sc`) of a completed
    /// command; `None` for every other error.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Status(completion) => Some(completion.status.code()),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Status(completion) => write!(f, "the command failed: {completion:?}"),
            Error::Timeout(dump) => write!(f, "timed out: {dump}"),
            Error::Stray(dump) => write!(f, "unexpected completion: {dump}"),
            Error::NoRoom(what) => write!(f, "no room: {what}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
