// SPDX-License-Identifier: BSD-2-Clause

//! Scatter gather lists (section 4.4).

use super::Segments;
use crate::host::Host;
use crate::wire::PAGE_SIZE;
use crate::wire::command::Command;
use crate::wire::sgl::{DESCRIPTOR_SIZE, Descriptor, kind};
use crate::wire::status::Status;

/// The most descriptors that the segments of one command may hold: two for
/// each 512 bytes of the largest transfer. It bounds the work on a list that
/// is chained to itself, or made of blocks without data.
pub(crate) const MAX_DESCRIPTORS: usize = 8192;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// As for a read.
    ToGuest,
    /// As for a write.
    FromGuest,
}

/// The SGL descriptor in a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sgl(Descriptor);

/// A walk along the descriptors of one command.
struct Walk<'a> {
    host: &'a dyn Host,
    direction: Direction,
    segments: &'a mut Segments,
    /// Bytes of data that are still to be found.
    rest: usize,
    /// Descriptors that may still be looked at.
    left: usize,
}

impl Sgl {
    pub(crate) fn of(command: &Command) -> Sgl {
        let [low, high] = command.dptr;
        Sgl(Descriptor::from_words(low.get(), high.get()))
    }

    /// Whether the command itself names all its data.
    pub(crate) fn is_inline(self) -> bool {
        self.0.kind() == kind::DATA_BLOCK
    }

    /// Fills `segments` with the `len` bytes of guest memory that the list
    /// names. It may name more, and is then not looked at to its end.
    ///
    /// A descriptor is copied out of guest memory once. Its cost is that of at
    /// most [`MAX_DESCRIPTORS`] descriptors.
    ///
    /// # Errors
    /// * SGL Descriptor Type Invalid: a type, or a subtype, that is not
    ///   supported; keyed blocks among them.
    /// * Invalid SGL Segment Descriptor: a segment's length is zero or no
    ///   multiple of a descriptor's; a segment that is not the last one does
    ///   not end in a pointer to the next; the last one does.
    /// * Invalid Number of SGL Descriptors: a pointer to a segment that is not
    ///   its segment's last descriptor; too many descriptors.
    /// * Data SGL Length Invalid: the list names less than `len` bytes.
    /// * Data Transfer Error: it names what is no memory.
    pub(crate) fn segments(
        self,
        host: &dyn Host,
        len: usize,
        direction: Direction,
        segments: &mut Segments,
    ) -> Result<(), Status> {
        segments.clear();
        let mut walk = Walk { host, direction, segments, rest: len, left: MAX_DESCRIPTORS };
        let mut next = walk.step(self.0)?;
        while let Some(segment) = next.filter(|_| walk.rest > 0) {
            next = walk.segment(segment)?;
        }
        if walk.rest > 0 {
            return Err(Status::SGL_DATA_LENGTH_INVALID.do_not_retry());
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// Takes the data of a descriptor, or returns it if it is a pointer to a
    /// segment.
    fn step(&mut self, descriptor: Descriptor) -> Result<Option<Descriptor>, Status> {
        if descriptor.subtype() != 0 {
            return Err(Status::SGL_TYPE_INVALID.do_not_retry());
        }
        let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX).min(self.rest);
        match descriptor.kind() {
            kind::DATA_BLOCK => {
                if len > 0 {
                    self.segments.push(self.host, descriptor.address(), len)?;
                }
                self.rest = self.rest.saturating_sub(len);
                Ok(None)
            }
            // Data for the guest that it does not want. In what it sends, a
            // bit bucket stands for no bytes.
            kind::BIT_BUCKET => {
                if self.direction == Direction::ToGuest {
                    self.segments.push_sink(len)?;
                    self.rest = self.rest.saturating_sub(len);
                }
                Ok(None)
            }
            kind::SEGMENT | kind::LAST_SEGMENT => Ok(Some(descriptor)),
            _ => Err(Status::SGL_TYPE_INVALID.do_not_retry()),
        }
    }

    /// Walks along the segment that `pointer` names; returns the pointer to
    /// the next one.
    fn segment(&mut self, pointer: Descriptor) -> Result<Option<Descriptor>, Status> {
        let bytes = usize::try_from(pointer.len()).unwrap_or(usize::MAX);
        if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR_SIZE) {
            return Err(Status::SGL_SEGMENT_INVALID.do_not_retry());
        }
        self.left = self
            .left
            .checked_sub(bytes / DESCRIPTOR_SIZE)
            .ok_or(Status::SGL_COUNT_INVALID.do_not_retry())?;
        let mut at = 0;
        while at < bytes {
            let copied = bytes.saturating_sub(at).min(PAGE_SIZE);
            self.copy(pointer.address(), at, copied)?;
            for place in (0..copied).step_by(DESCRIPTOR_SIZE) {
                at = at.saturating_add(DESCRIPTOR_SIZE);
                let descriptor = self.descriptor(place)?;
                if let Some(next) = self.step(descriptor)? {
                    return if at < bytes {
                        Err(Status::SGL_COUNT_INVALID.do_not_retry())
                    } else if pointer.kind() == kind::LAST_SEGMENT {
                        Err(Status::SGL_SEGMENT_INVALID.do_not_retry())
                    } else {
                        Ok(Some(next))
                    };
                }
                if self.rest == 0 {
                    return Ok(None);
                }
            }
        }
        if pointer.kind() == kind::SEGMENT {
            return Err(Status::SGL_SEGMENT_INVALID.do_not_retry());
        }
        Ok(None)
    }

    /// Copies `len` bytes of a segment from byte `at` on, a page at most.
    fn copy(&mut self, segment: u64, at: usize, len: usize) -> Result<(), Status> {
        const NO_MEMORY: Status = Status::DATA_TRANSFER_ERROR.do_not_retry();
        let address = segment.checked_add(at as u64).ok_or(NO_MEMORY)?;
        let mapped = self.host.map(address, len).ok_or(NO_MEMORY)?;
        let copy = self.segments.entries.get_mut(..len).ok_or(Status::INTERNAL_ERROR)?;
        mapped.read(copy).ok_or(NO_MEMORY)
    }

    /// The descriptor at byte `place` of what was copied.
    fn descriptor(&self, place: usize) -> Result<Descriptor, Status> {
        self.segments
            .entries
            .get(place..)
            .and_then(<[u8]>::first_chunk)
            .map(Descriptor::from_bytes)
            .ok_or(Status::INTERNAL_ERROR)
    }
}
