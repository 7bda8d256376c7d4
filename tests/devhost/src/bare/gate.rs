// SPDX-License-Identifier: BSD-2-Clause

//! A store whose every step a test decides.

use super::notices::Notices;
use bhyve_nvme::backend::ram::Ram;
use bhyve_nvme::backend::{Backend, Error, Geometry, SizeEvents};
use bhyve_nvme::memory::Segment;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What the controller asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operations of a store, offsets in bytes")]
pub enum Op {
    Read { offset: u64, len: u64 },
    Write { offset: u64, len: u64, durable: bool },
    Flush,
    Zero { offset: u64, len: u64, deallocate: bool },
    Deallocate { offset: u64, len: u64 },
    Size,
}

#[derive(Default)]
struct State {
    /// Operations wait while set.
    closed: bool,
    /// Operations that may pass though it is closed.
    passes: usize,
    /// The size that the store claims to have, if not its own.
    size: Option<u64>,
    inside: usize,
    peak: usize,
    log: Vec<Op>,
    /// What operations end with.
    failure: Option<Error>,
    panic: bool,
}

/// The store, to give to a controller.
pub struct Gate {
    ram: Ram,
    geometry: Geometry,
    never_waits: bool,
    can_resize: bool,
    notices: Option<Arc<Notices>>,
    handle: GateHandle,
}

/// The test's hand on a [`Gate`].
#[derive(Clone, Default)]
pub struct GateHandle(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// A store of `bytes` bytes with a volatile cache, open.
    pub fn new(bytes: u64) -> (Gate, GateHandle) {
        let handle = GateHandle::default();
        // What it frees it zeroes, so that a large piece takes its time.
        let ram = Ram::new(bytes).expect("memory").nodelete(true);
        let geometry = Geometry {
            volatile_cache: true,
            can_deallocate: true,
            deallocation_unit: 512,
            ..ram.geometry()
        };
        let gate = Gate {
            ram,
            geometry,
            never_waits: false,
            can_resize: false,
            notices: None,
            handle: handle.clone(),
        };
        (gate, handle)
    }

    /// A store that lets vCPUs run its commands.
    #[must_use]
    pub fn never_waiting(mut self) -> Gate {
        self.never_waits = true;
        self
    }

    /// A store that is asked for its size; else [`GateHandle::resize`] takes
    /// somebody to tell the controller.
    #[must_use]
    pub fn resizing(mut self) -> Gate {
        self.can_resize = true;
        self
    }

    /// A store that tells by `notices` when to ask for its size.
    #[must_use]
    pub fn telling(mut self, notices: &Arc<Notices>) -> Gate {
        self.notices = Some(notices.clone());
        self.resizing()
    }

    /// A store that says it is read-only.
    #[must_use]
    pub fn read_only(mut self) -> Gate {
        self.geometry.read_only = true;
        self
    }

    /// A store whose physical sectors have `bytes` bytes, and are freed whole.
    #[must_use]
    pub fn physical(mut self, bytes: u32) -> Gate {
        self.geometry.physical_sector_size = bytes;
        self.geometry.deallocation_unit = bytes;
        self
    }

    /// A store without a volatile cache.
    #[must_use]
    pub fn uncached(mut self) -> Gate {
        self.geometry.volatile_cache = false;
        self
    }

    fn pass(&self, op: Op, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let (lock, changed) = &*self.handle.0;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        state.log.push(op);
        state.inside += 1;
        state.peak = state.peak.max(state.inside);
        changed.notify_all();
        while state.closed && state.passes == 0 {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.passes = state.passes.saturating_sub(1);
        state.inside -= 1;
        changed.notify_all();
        let (failure, panics) = (state.failure, state.panic);
        drop(state);
        assert!(!panics, "the store panics, as the test asked");
        match failure {
            Some(error) => Err(error),
            None => work(),
        }
    }
}

impl GateHandle {
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (lock, changed) = &*self.0;
        let result = change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
        result
    }

    /// Holds every operation inside the store from now on.
    pub fn close(&self) {
        self.with(|state| state.closed = true);
    }

    /// Lets all operations go on.
    pub fn open(&self) {
        self.with(|state| {
            state.closed = false;
            state.passes = 0;
        });
    }

    /// Lets one operation go on, though it is closed.
    pub fn pass_one(&self) {
        self.with(|state| state.passes += 1);
    }

    /// The store claims to have `bytes` bytes, at most as many as it was made
    /// with.
    pub fn resize(&self, bytes: u64) {
        self.with(|state| state.size = Some(bytes));
    }

    /// Ends operations with `error` from now on, or lets them succeed again.
    pub fn fail(&self, error: Option<Error>) {
        self.with(|state| state.failure = error);
    }

    /// Makes operations panic from now on.
    pub fn panic(&self, panics: bool) {
        self.with(|state| state.panic = panics);
    }

    /// What was asked of the store so far.
    pub fn log(&self) -> Vec<Op> {
        self.with(|state| state.log.clone())
    }

    /// The most operations that were inside at once.
    pub fn peak(&self) -> usize {
        self.with(|state| state.peak)
    }

    /// Waits until `count` operations are inside, or patience ends; returns
    /// how many are.
    pub fn wait_inside(&self, count: usize) -> usize {
        let (lock, changed) = &*self.0;
        let end = Instant::now() + crate::PATIENCE;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while state.inside != count {
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.inside
    }
}

impl Backend for Gate {
    fn geometry(&self) -> Geometry {
        let size = self.handle.with(|state| state.size).unwrap_or(self.geometry.size);
        Geometry { size, ..self.geometry }
    }

    fn can_resize(&self) -> bool {
        self.can_resize
    }

    fn size_events(&self) -> Option<Arc<dyn SizeEvents>> {
        self.notices.clone().map(|notices| notices as Arc<dyn SizeEvents>)
    }

    fn refresh(&self) -> Result<u64, Error> {
        if self.can_resize {
            self.pass(Op::Size, || Ok(()))?;
        }
        Ok(self.geometry().size)
    }

    fn read(&self, offset: u64, segments: &[Segment]) -> Result<(), Error> {
        let len = bhyve_nvme::memory::total_len(segments);
        self.pass(Op::Read { offset, len }, || self.ram.read(offset, segments))
    }

    fn write(&self, offset: u64, segments: &[Segment], durable: bool) -> Result<(), Error> {
        let len = bhyve_nvme::memory::total_len(segments);
        self.pass(Op::Write { offset, len, durable }, || {
            if self.geometry.read_only {
                return Err(Error::ReadOnly);
            }
            self.ram.write(offset, segments, durable)
        })
    }

    fn flush(&self) -> Result<(), Error> {
        self.pass(Op::Flush, || self.ram.flush())
    }

    fn write_zeroes(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error> {
        self.pass(Op::Zero { offset, len, deallocate }, || {
            if self.geometry.read_only {
                return Err(Error::ReadOnly);
            }
            self.ram.write_zeroes(offset, len, deallocate)
        })
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.pass(Op::Deallocate { offset, len }, || {
            if self.geometry.read_only {
                return Err(Error::ReadOnly);
            }
            self.ram.write_zeroes(offset, len, true)
        })
    }

    fn never_waits(&self) -> bool {
        self.never_waits
    }
}
