// SPDX-License-Identifier: BSD-2-Clause

//! Memory that a thread keeps from command to command.

use super::space::Range;
use crate::data_pointer::Segments;
use crate::memory::{Region, Segment};
use crate::wire::status::Status;

/// Bytes of the buffer for data that the controller looks at itself. A
/// multiple of every block size.
pub(super) const BUFFER: usize = 128 << 10;

/// Memory that a thread keeps from command to command. Only what its commands
/// need is ever allocated.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Where the command's data lies in guest memory.
    pub(super) segments: Segments,
    buffer: Option<Region>,
    pub(super) ranges: Vec<Range>,
}

impl Scratch {
    /// A buffer of [`BUFFER`] bytes, with whatever was in it.
    pub(super) fn buffer(&mut self) -> Result<Segment, Status> {
        if self.buffer.is_none() {
            self.buffer = Region::zeroed(BUFFER);
        }
        self.buffer.as_ref().map(Region::segment).ok_or(Status::INTERNAL_ERROR)
    }
}
