// SPDX-License-Identifier: BSD-2-Clause

//! Where a disk's blocks live. A leaf: it knows nothing of NVMe.

use crate::memory::Segment;
use std::sync::Arc;

mod chunks;
pub mod file;
pub mod ram;
pub mod sys;

/// What a store is like. All sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the store.
    pub size: u64,
    /// The smallest unit the store reads and writes; a power of two.
    pub sector_size: u32,
    /// The unit the store handles without read-modify-write; a power of two,
    /// at least `sector_size`.
    pub physical_sector_size: u32,
    /// Writes are refused with [`Error::ReadOnly`].
    pub read_only: bool,
    /// A completed write may be lost at a power cut until the next flush.
    pub volatile_cache: bool,
    /// [`Backend::deallocate`] gives space back. Where it does not, it does
    /// nothing or what costs more than it saves.
    pub can_deallocate: bool,
    /// The unit in which the store deallocates, counted from its start; a
    /// power of two, at least `sector_size`.
    pub deallocation_unit: u32,
    /// What has been deallocated reads as zeroes.
    pub deallocated_is_zero: bool,
}

/// Why the store did not do what was asked. Data of a failed read is
/// undefined; a failed write may have been done in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The medium failed, or anything else that has no better name (EIO).
    Io,
    /// No space left for the write (ENOSPC, EDQUOT, EFBIG).
    NoSpace,
    /// The store is read-only (EROFS, EBADF on a read-only descriptor).
    ReadOnly,
    /// The range is not, or no longer, inside the store.
    OutOfRange,
    /// The store cannot do this at this size or alignment (EINVAL).
    Invalid,
    /// The memory of a segment is not accessible (EFAULT).
    Memory,
}

/// The system's word that a store may have changed its size. For one thread,
/// but for [`SizeEvents::end`].
pub trait SizeEvents: Send + Sync {
    /// Waits for it, if it has not come since the last time, and returns true;
    /// false when it will come no more.
    fn wait(&self) -> bool;

    /// Ends all waiting, now and from now on.
    fn end(&self);
}

/// A store of blocks. Every method may be called from many threads at once,
/// and each call returns only when the store has done, or refused, the work.
///
/// `offset` is in bytes; the lengths of `segments` add up to the transfer.
pub trait Backend: Send + Sync {
    /// What the store is like now.
    fn geometry(&self) -> Geometry;

    /// Whether the store can become larger or smaller while it is open.
    fn can_resize(&self) -> bool {
        false
    }

    /// What tells when it is time to ask for the size; `None` where it has to
    /// be asked for now and then.
    fn size_events(&self) -> Option<Arc<dyn SizeEvents>> {
        None
    }

    /// Asks for the size that the store has now; [`Backend::geometry`] says it
    /// from then on. May wait, as a read does.
    ///
    /// # Errors
    /// Where the store cannot be asked; it keeps the size it had.
    fn refresh(&self) -> Result<u64, Error> {
        Ok(self.geometry().size)
    }

    /// Fills `segments` from `offset` on, completely or not at all
    /// ([`Error::OutOfRange`] where the store ends before).
    fn read(&self, offset: u64, segments: &[Segment]) -> Result<(), Error>;

    /// Writes `segments` at `offset`. With `durable`, returns only when the
    /// data (as after [`Backend::flush`]) is on stable storage.
    fn write(&self, offset: u64, segments: &[Segment], durable: bool) -> Result<(), Error>;

    /// Returns when every write that completed before the call is on stable
    /// storage.
    fn flush(&self) -> Result<(), Error>;

    /// Makes `len` bytes from `offset` on read as zeroes, as a write of zeroes
    /// would. With `deallocate`, their space is given back where the store can
    /// do that and still promises zeroes. Takes as long as writing `len` bytes
    /// at most, and a bounded amount of memory.
    fn write_zeroes(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error>;

    /// Gives back the space of the whole [units](Geometry::deallocation_unit)
    /// in the `len` bytes from `offset` on; their contents are lost. Only a
    /// hint: what cannot be given back stays as it was, and that is no error.
    fn deallocate(&self, offset: u64, len: u64) -> Result<(), Error>;

    /// Whether reads and writes run at memory speed and never wait, so that a
    /// vCPU's thread may run them itself.
    fn never_waits(&self) -> bool;
}
