// SPDX-License-Identifier: BSD-2-Clause

//! A store whose power can be cut.
//!
//! Below the seam of system calls, written data is in a cache until the call
//! that makes it durable on this system and in this kind of store: fdatasync
//! or fsync on Linux, fsync for a file on FreeBSD, DIOCGFLUSH for a device
//! there. Every other call is accepted, as the real one is, and does nothing.
//! When the power is cut, each sector falls back to what was durable or keeps
//! any of the values it was given since, by lot.
//!
//! ```ignore
//! let power = PowerCut::new(System::FreeBsd, Kind::Device, 1 << 20, seed);
//! let store: Arc<dyn Backend> = power.open();
//! // ... run a controller on `store`; then:
//! power.cut();               // calls on `store` fail from here on
//! let store = power.open();  // what has survived
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bhyve_nvme::backend::file::{File, OpenOptions};
use bhyve_nvme::backend::sys::{
    Calls, Errno, Fallocate, FileType, FreeBsd, How, Kind, Linux, Request, Status,
};
use bhyve_nvme::backend::{Backend, SizeEvents};
use bhyve_nvme::memory::{Segment, total_len};
use bhyve_nvme::sandbox::Rights;

/// The unit in bytes that survives as a whole.
pub(crate) const SECTOR: usize = 512;

/// Whose rules the store follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Linux.
    Linux,
    /// FreeBSD.
    FreeBsd,
}

/// Every system and kind of store there is.
pub(crate) const EVERY_KIND: [(System, Kind); 4] = [
    (System::Linux, Kind::Regular),
    (System::Linux, Kind::Device),
    (System::FreeBsd, Kind::Regular),
    (System::FreeBsd, Kind::Device),
];

/// Random numbers that are the same for the same seed (splitmix64).
pub(crate) struct Lot(u64);

impl Lot {
    /// The numbers of `seed`.
    pub(crate) fn new(seed: u64) -> Lot {
        Lot(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

struct State {
    /// What reads see.
    cache: Vec<u8>,
    /// What is on the medium.
    durable: Vec<u8>,
    /// The values of each sector since it was last durable, oldest first.
    since: HashMap<usize, Vec<Vec<u8>>>,
    lot: Lot,
    /// Counts the cuts: a file opened before one is dead.
    life: u64,
    /// Transfers and flushes until the power fails by itself.
    left: Option<u64>,
    /// Flushes that made something durable or could have.
    flushes: u64,
}

/// The store, and the system calls to it. Clones are the same store.
#[derive(Clone)]
pub(crate) struct PowerCut {
    system: System,
    kind: Kind,
    state: Arc<Mutex<State>>,
}

impl PowerCut {
    /// A store of `size` zero bytes; `seed` decides what survives, and which
    /// transfers fall short on the way.
    pub(crate) fn new(system: System, kind: Kind, size: usize, seed: u64) -> PowerCut {
        let state = State {
            cache: vec![0; size],
            durable: vec![0; size],
            since: HashMap::new(),
            lot: Lot::new(seed),
            life: 0,
            left: None,
            flushes: 0,
        };
        PowerCut { system, kind, state: Arc::new(Mutex::new(state)) }
    }

    /// The store as a backend, by the rules of its system.
    pub(crate) fn open(&self) -> Arc<dyn Backend> {
        let (path, options) = (Path::new("disk"), OpenOptions::default());
        match self.system {
            System::Linux => {
                Arc::new(File::<_, Linux>::open(self.clone(), path, &options).unwrap())
            }
            System::FreeBsd => {
                Arc::new(File::<_, FreeBsd>::open(self.clone(), path, &options).unwrap())
            }
        }
    }

    /// Cuts the power now. What is open fails every call from here on; what
    /// is opened next finds what has survived.
    pub(crate) fn cut(&self) {
        self.lock().cut();
    }

    /// Cuts the power at the call after the next `calls` transfers and
    /// flushes.
    pub(crate) fn cut_after(&self, calls: u64) {
        self.lock().left = Some(calls);
    }

    /// What is on the medium, sure to survive.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.lock().durable.clone()
    }

    /// How many flushes have reached the medium.
    pub(crate) fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The state for a transfer or flush of a file that was opened in `life`;
    /// now and then a signal interrupts it.
    fn call(&self, life: u64) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.lock();
        match state.left {
            Some(0) => state.cut(),
            Some(left) => state.left = Some(left - 1),
            None => {}
        }
        if life != state.life {
            return Err(Errno(libc::EIO));
        }
        if state.lot.below(16) == 0 {
            return Err(Errno(libc::EINTR));
        }
        Ok(state)
    }

    /// The bytes that a transfer moves: now and then less than it could.
    fn moved(
        &self,
        state: &mut State,
        offset: usize,
        segments: &[Segment],
    ) -> Result<usize, Errno> {
        let strict = self.system == System::FreeBsd && self.kind == Kind::Device;
        if strict && segments.iter().any(|segment| segment.len() % SECTOR != 0) {
            return Err(Errno(libc::EINVAL));
        }
        let most = (total_len(segments) as usize).min(state.cache.len().saturating_sub(offset));
        if most > SECTOR && state.lot.below(8) == 0 {
            return Ok((1 + state.lot.below(most / SECTOR)) * SECTOR);
        }
        Ok(most)
    }

    /// A call that zeroes a range, if it is there in this store at all.
    fn erase(&self, life: u64, there: bool, offset: u64, len: u64) -> Result<(), Errno> {
        if !there {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let mut state = self.call(life)?;
        state.write(offset as usize, &vec![0; len as usize]);
        Ok(())
    }

    /// A call that brings data to the medium if it is one of `flushing`.
    fn flush(&self, life: u64, flushing: &[(System, Kind)]) -> Result<(), Errno> {
        let mut state = self.call(life)?;
        if flushing.contains(&(self.system, self.kind)) {
            state.durable = state.cache.clone();
            state.since.clear();
            state.flushes += 1;
        }
        Ok(())
    }
}

impl State {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.cache[offset..][..bytes.len()].copy_from_slice(bytes);
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            let value = self.cache[sector * SECTOR..][..SECTOR].to_vec();
            self.since.entry(sector).or_default().push(value);
        }
    }

    fn cut(&mut self) {
        for (sector, values) in std::mem::take(&mut self.since) {
            let survivor = self.lot.below(values.len() + 1);
            if let Some(value) = survivor.checked_sub(1).map(|n| &values[n]) {
                self.durable[sector * SECTOR..][..SECTOR].copy_from_slice(value);
            }
        }
        self.cache = self.durable.clone();
        self.life += 1;
        self.left = None;
    }
}

impl Calls for PowerCut {
    /// The life in which it was opened.
    type File = u64;

    fn stat(&self, _path: &Path) -> Result<Status, Errno> {
        let state = self.lock();
        let file_type = match (self.kind, self.system) {
            (Kind::Regular, _) => FileType::Regular,
            (Kind::Device, System::Linux) => FileType::Block,
            (Kind::Device, System::FreeBsd) => FileType::Character,
        };
        let size = if self.kind == Kind::Regular { state.cache.len() as u64 } else { 0 };
        Ok(Status { file_type, size, block_size: 4096 })
    }

    fn open(&self, _path: &Path, _how: How) -> Result<u64, Errno> {
        Ok(self.lock().life)
    }

    fn fstat(&self, _file: &u64) -> Result<Status, Errno> {
        self.stat(Path::new("disk"))
    }

    fn preadv(&self, file: &u64, offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        let mut state = self.call(*file)?;
        let offset = offset as usize;
        let count = self.moved(&mut state, offset, segments)?;
        let mut at = offset;
        for segment in segments {
            let part = segment.len().min(offset + count - at);
            segment.write(&state.cache[at..at + part]).unwrap();
            at += part;
        }
        Ok(count)
    }

    fn pwritev(&self, file: &u64, offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        let mut state = self.call(*file)?;
        let count = self.moved(&mut state, offset as usize, segments)?;
        let mut bytes = Vec::new();
        for segment in segments {
            let mut part = vec![0; segment.len()];
            segment.read(&mut part).unwrap();
            bytes.extend(part);
        }
        state.write(offset as usize, &bytes[..count]);
        Ok(count)
    }

    fn fsync(&self, file: &u64) -> Result<(), Errno> {
        self.flush(*file, &EVERY_KIND[..3])
    }

    fn fdatasync(&self, file: &u64) -> Result<(), Errno> {
        self.flush(*file, &EVERY_KIND[..2])
    }

    fn ioctl(&self, file: &u64, request: Request, argument: &mut [u8]) -> Result<(), Errno> {
        if self.kind == Kind::Regular {
            return Err(Errno(libc::ENOTTY));
        }
        let answer = match request {
            Request::DIOCGDELETE => {
                let number =
                    |at: usize| u64::from_ne_bytes(argument[at..at + 8].try_into().unwrap());
                return self.erase(*file, true, number(0), number(8));
            }
            // GEOM::candelete.
            Request::DIOCGATTR => {
                argument[72] = 1;
                return Ok(());
            }
            Request::DIOCGFLUSH => return self.flush(*file, &EVERY_KIND[3..]),
            Request::DIOCGMEDIASIZE | Request::BLKGETSIZE64 => self.lock().cache.len(),
            Request::DIOCGSECTORSIZE | Request::BLKSSZGET | Request::BLKPBSZGET => SECTOR,
            Request::DIOCGSTRIPESIZE | Request::DIOCGSTRIPEOFFSET | Request::BLKROGET => 0,
            _ => return Err(Errno(libc::ENOTTY)),
        };
        match argument.len() {
            4 => argument.copy_from_slice(&(answer as u32).to_ne_bytes()),
            _ => argument.copy_from_slice(&(answer as u64).to_ne_bytes()),
        }
        Ok(())
    }

    fn fallocate(&self, file: &u64, _: Fallocate, offset: u64, len: u64) -> Result<(), Errno> {
        self.erase(*file, self.system == System::Linux, offset, len)
    }

    fn fspacectl(&self, file: &u64, offset: u64, len: u64) -> Result<(u64, u64), Errno> {
        let there = (self.system, self.kind) == (System::FreeBsd, Kind::Regular);
        self.erase(*file, there, offset, len)?;
        Ok((offset + len, 0))
    }

    fn deallocates(&self, _file: &u64) -> Result<bool, Errno> {
        Ok(true)
    }

    /// Its size stays.
    fn watch_size(&self, _file: &u64) -> Result<Arc<dyn SizeEvents>, Errno> {
        Err(Errno(libc::EOPNOTSUPP))
    }

    fn limit(&self, _file: &u64, _rights: &Rights) -> Result<(), Errno> {
        Ok(())
    }
}
