// SPDX-License-Identifier: BSD-2-Clause

//! The store itself.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::bounce::Pool;
use super::open::{self, OpenError, OpenOptions, Opened};
use crate::backend::sys::{Calls, Errno, Kind, Native, Policy, Raw, Way, error, retry};
use crate::backend::{Backend, Error, Geometry, SizeEvents};
use crate::memory::{Region, Segment};

/// A store in a regular file or on a disk device, over the system calls `C`
/// and by the rules of the system `P`.
pub struct File<C: Calls = Raw, P: Policy = Native> {
    pub(super) calls: C,
    pub(super) file: C::File,
    pub(super) kind: Kind,
    pub(super) direct: bool,
    /// The unit in bytes that the system insists on.
    pub(super) unit: u32,
    pub(super) size: AtomicU64,
    size_events: Option<Arc<dyn SizeEvents>>,
    pub(super) pool: Pool,
    /// The smallest unit in bytes that is not read, changed and written.
    pub(super) physical: u32,
    pub(super) nodelete: bool,
    pub(super) can_deallocate: bool,
    /// Only writing makes zeroes here, as has been found.
    pub(super) only_writes: AtomicBool,
    /// Never written to, and so of hardly any memory.
    pub(super) zeroes: OnceLock<Option<Region>>,
    logical: u32,
    read_only: bool,
    /// Each write is to be durable, and only a flush makes it so here.
    flushes_writes: bool,
    /// The error number of the flush that lost data; 0 for none.
    lost: AtomicI32,
    policy: PhantomData<fn() -> P>,
}

impl<C: Calls, P: Policy> File<C, P> {
    /// Opens the store at `path`: for reading and writing, or for reading
    /// alone where `options` say so or the system forbids writing.
    ///
    /// # Errors
    /// One line for the user: a path that names no store, or that cannot be
    /// opened; a `sectorsize` that is no size or that the store cannot do.
    pub fn open(calls: C, path: &Path, options: &OpenOptions) -> Result<File<C, P>, OpenError> {
        let Opened {
            file,
            kind,
            read_only,
            can_deallocate,
            size,
            size_events,
            unit,
            logical,
            physical,
        } = open::open::<C, P>(&calls, path, options)?;
        Ok(File {
            calls,
            file,
            kind,
            direct: options.nocache,
            unit,
            size: AtomicU64::new(size),
            size_events,
            pool: Pool::new(),
            physical,
            nodelete: options.nodelete,
            can_deallocate,
            only_writes: AtomicBool::new(false),
            zeroes: OnceLock::new(),
            logical,
            read_only,
            flushes_writes: options.sync && !P::syncs_writes(kind),
            lost: AtomicI32::new(0),
            policy: PhantomData,
        })
    }
}

impl<C: Calls, P: Policy> Backend for File<C, P> {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: self.size.load(Ordering::Relaxed),
            sector_size: self.logical,
            physical_sector_size: self.physical,
            read_only: self.read_only,
            volatile_cache: !self.read_only,
            can_deallocate: self.can_deallocate,
            deallocation_unit: self.physical,
            deallocated_is_zero: P::deallocated_is_zero(self.kind),
        }
    }

    fn can_resize(&self) -> bool {
        true
    }

    fn size_events(&self) -> Option<Arc<dyn SizeEvents>> {
        self.size_events.clone()
    }

    fn refresh(&self) -> Result<u64, Error> {
        let size = retry(|| P::size(&self.calls, &self.file, self.kind))
            .map_err(|errno| error(Way::Read, errno))?;
        self.size.store(size, Ordering::Relaxed);
        Ok(size)
    }

    fn read(&self, offset: u64, segments: &[Segment]) -> Result<(), Error> {
        self.transfer(Way::Read, offset, segments)
    }

    fn write(&self, offset: u64, segments: &[Segment], durable: bool) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.transfer(Way::Write, offset, segments)?;
        if durable || self.flushes_writes {
            self.flush()?;
        }
        Ok(())
    }

    /// Where a failed flush loses data for good, no later one succeeds: it
    /// would vouch for writes that are gone.
    fn flush(&self) -> Result<(), Error> {
        if self.read_only {
            return Ok(());
        }
        let flushed = match retry(|| P::flush(&self.calls, &self.file, self.kind)) {
            Err(errno) if P::forgets(self.kind, self.direct) => {
                self.lost.store(errno.0, Ordering::Release);
                Err(errno)
            }
            result => result,
        };
        flushed.map_err(|errno| error(Way::Flush, errno))?;
        match self.lost.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(error(Way::Flush, Errno(errno))),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.zero(offset, len, deallocate)?;
        if self.flushes_writes {
            self.flush()?;
        }
        Ok(())
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.give_back(offset, len)
    }

    fn never_waits(&self) -> bool {
        false
    }
}
