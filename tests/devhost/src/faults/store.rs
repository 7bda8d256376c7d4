// SPDX-License-Identifier: BSD-2-Clause

//! Any store, late, held or failing.

use super::strike::{End, Faults};
use bhyve_nvme::backend::sys::{Way, error};
use bhyve_nvme::backend::{Backend, Error, Geometry, SizeEvents};
use bhyve_nvme::memory::{Segment, total_len};
use std::sync::Arc;

/// Any store, of which each operation meets its faults first.
pub struct FaultyStore {
    store: Arc<dyn Backend>,
    faults: Faults,
}

impl FaultyStore {
    /// `store`, with `faults`. There are no system calls here: one that is
    /// short is one that goes well.
    pub fn new(store: Arc<dyn Backend>, faults: Faults) -> FaultyStore {
        FaultyStore { store, faults }
    }

    fn meet(&self, way: Way, offset: u64, len: u64) -> Result<(), Error> {
        match self.faults.strike(way, offset, len) {
            End::Well | End::Half => Ok(()),
            End::Failed(errno) => Err(error(way, errno)),
        }
    }
}

impl Backend for FaultyStore {
    fn geometry(&self) -> Geometry {
        self.store.geometry()
    }

    fn can_resize(&self) -> bool {
        self.store.can_resize()
    }

    fn size_events(&self) -> Option<Arc<dyn SizeEvents>> {
        self.store.size_events()
    }

    fn refresh(&self) -> Result<u64, Error> {
        self.store.refresh()
    }

    fn read(&self, offset: u64, segments: &[Segment]) -> Result<(), Error> {
        self.meet(Way::Read, offset, total_len(segments))?;
        self.store.read(offset, segments)
    }

    fn write(&self, offset: u64, segments: &[Segment], durable: bool) -> Result<(), Error> {
        self.meet(Way::Write, offset, total_len(segments))?;
        self.store.write(offset, segments, durable)?;
        // A durable write flushes.
        if durable { self.meet(Way::Flush, 0, 0) } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Error> {
        self.meet(Way::Flush, 0, 0)?;
        self.store.flush()
    }

    fn write_zeroes(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error> {
        self.meet(Way::Write, offset, len)?;
        self.store.write_zeroes(offset, len, deallocate)
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.meet(Way::Write, offset, len)?;
        self.store.deallocate(offset, len)
    }

    /// A store that may be late is none to run on a vCPU's thread.
    fn never_waits(&self) -> bool {
        false
    }
}
