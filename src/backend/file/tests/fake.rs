// SPDX-License-Identifier: BSD-2-Clause

//! System calls over a few bytes of memory: every call is recorded, and the
//! next ones can be made to fail or to fall short.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::backend::SizeEvents;
use crate::backend::file::{File, OpenOptions};
use crate::backend::sys::{Calls, Errno, Fallocate, FileType, How, Policy, Request, Status};
use crate::memory::{Region, Segment, total_len};
use crate::sandbox::Rights;

/// One call as it was made; transfers with the lengths of their segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Stat,
    Open(How),
    Fstat,
    Read(u64, Vec<usize>),
    Write(u64, Vec<usize>),
    Fsync,
    Fdatasync,
    Ioctl(Request),
    /// DIOCGDELETE, with its offset and length.
    Delete(u64, u64),
    Fallocate(Fallocate, u64, u64),
    Fspacectl(u64, u64),
    Deallocates,
    WatchSize,
    Limit(Rights),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bend {
    /// It is not bent.
    None,
    /// It fails with this number.
    Fail(i32),
    /// It moves so many bytes at most.
    Short(usize),
}

/// `len` bytes of a fresh store from `offset` on: none zero, and sectors of 512
/// bytes tell each other apart.
pub(super) fn fresh(offset: usize, len: usize) -> Vec<u8> {
    (offset..offset + len).map(|n| (n / 512 % 251) as u8 + 1).collect()
}

#[derive(Default)]
pub(super) struct State {
    pub(super) log: Vec<Call>,
    pub(super) file_type: Option<FileType>,
    pub(super) data: Vec<u8>,
    /// A segment must be a multiple of this, as on FreeBSD's devices.
    pub(super) strict: usize,
    pub(super) block_size: u64,
    pub(super) answers: HashMap<libc::c_ulong, u64>,
    /// For the next opens.
    pub(super) opens: VecDeque<Bend>,
    /// For the next transfers.
    pub(super) transfers: VecDeque<Bend>,
    /// For the next flushing calls of any kind.
    pub(super) flushes: VecDeque<Bend>,
    /// For the next calls that zero or deallocate; short ones of fspacectl
    /// say what is left.
    pub(super) spaces: VecDeque<Bend>,
    /// What the file system says of its holes.
    pub(super) deallocates: Option<bool>,
    /// What tells of changes of the size, if anything does.
    pub(super) size_events: Option<Arc<dyn SizeEvents>>,
    pub(super) stat: Option<i32>,
    pub(super) limit: Option<i32>,
}

#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

impl Fake {
    /// A regular file of `size` bytes, as [`fresh`] gives them.
    pub(super) fn file(size: usize) -> Fake {
        Fake(Arc::new(Mutex::new(State {
            file_type: Some(FileType::Regular),
            data: fresh(0, size),
            strict: 1,
            block_size: 4096,
            ..State::default()
        })))
    }

    /// A disk device of FreeBSD with such contents.
    pub(super) fn freebsd_device(size: usize, sector: u32, stripe: u64) -> Fake {
        let fake = Fake::file(size);
        fake.with(|state| {
            state.file_type = Some(FileType::Character);
            state.strict = sector as usize;
            state.answers.insert(Request::DIOCGSECTORSIZE.number(), u64::from(sector));
            state.answers.insert(Request::DIOCGSTRIPESIZE.number(), stripe);
            state.answers.insert(Request::DIOCGSTRIPEOFFSET.number(), 0);
            state.answers.insert(Request::DIOCGATTR.number(), 1);
        });
        fake
    }

    /// A block device of Linux with such contents.
    pub(super) fn linux_device(size: usize, sector: u32, physical: u32) -> Fake {
        let fake = Fake::file(size);
        fake.with(|state| {
            state.file_type = Some(FileType::Block);
            state.answers.insert(Request::BLKSSZGET.number(), u64::from(sector));
            state.answers.insert(Request::BLKPBSZGET.number(), u64::from(physical));
            state.answers.insert(Request::BLKROGET.number(), 0);
        });
        fake
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    /// The calls since the last time, without opening.
    pub(super) fn log(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().log)
    }

    /// Opens it and forgets the calls that took.
    pub(super) fn store<P: Policy>(&self) -> File<Fake, P> {
        self.store_with(&OpenOptions::default())
    }

    pub(super) fn store_with<P: Policy>(&self, options: &OpenOptions) -> File<Fake, P> {
        let store = File::open(self.clone(), Path::new("disk"), options).unwrap();
        self.log();
        store
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Zeroes what a call may zero; returns the end of that.
    fn erase(state: &mut State, offset: u64, len: u64) -> Result<u64, Errno> {
        let bend = state.spaces.pop_front().unwrap_or(Bend::None);
        let most = match bend {
            Bend::Fail(errno) => return Err(Errno(errno)),
            Bend::Short(most) => most as u64,
            Bend::None => u64::MAX,
        };
        let end = offset + len.min(most);
        state.data[offset as usize..end as usize].fill(0);
        Ok(end)
    }

    /// The bytes that a transfer at `offset` may move.
    fn moved(
        state: &mut State,
        offset: u64,
        segments: &[Segment],
        bend: Bend,
    ) -> Result<usize, Errno> {
        if let Bend::Fail(errno) = bend {
            return Err(Errno(errno));
        }
        let strict = state.strict;
        if segments.iter().any(|s| s.len() % strict != 0)
            || !(offset as usize).is_multiple_of(strict)
        {
            return Err(Errno(libc::EINVAL));
        }
        let inside = state.data.len().saturating_sub(offset as usize);
        let most = if let Bend::Short(most) = bend { most } else { usize::MAX };
        Ok(inside.min(most).min(total_len(segments) as usize))
    }
}

fn lengths(segments: &[Segment]) -> Vec<usize> {
    segments.iter().map(Segment::len).collect()
}

fn outcome(bend: Option<Bend>) -> Result<(), Errno> {
    match bend {
        Some(Bend::Fail(errno)) => Err(Errno(errno)),
        _ => Ok(()),
    }
}

impl Calls for Fake {
    type File = ();

    fn stat(&self, path: &Path) -> Result<Status, Errno> {
        assert_eq!(path, Path::new("disk"));
        self.lock().log.push(Call::Stat);
        if let Some(errno) = self.lock().stat {
            return Err(Errno(errno));
        }
        let status = self.fstat(&());
        self.lock().log.pop();
        status
    }

    fn open(&self, path: &Path, how: How) -> Result<(), Errno> {
        assert_eq!(path, Path::new("disk"));
        let mut state = self.lock();
        state.log.push(Call::Open(how));
        let bend = state.opens.pop_front();
        outcome(bend)
    }

    fn fstat(&self, _file: &()) -> Result<Status, Errno> {
        let mut state = self.lock();
        state.log.push(Call::Fstat);
        let file_type = state.file_type.unwrap();
        // Devices say nothing of their size here.
        let size = if file_type == FileType::Regular { state.data.len() as u64 } else { 0 };
        Ok(Status { file_type, size, block_size: state.block_size })
    }

    fn preadv(&self, _file: &(), offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        let mut state = self.lock();
        state.log.push(Call::Read(offset, lengths(segments)));
        let bend = state.transfers.pop_front().unwrap_or(Bend::None);
        let count = Fake::moved(&mut state, offset, segments, bend)?;
        let mut from = state.data.iter().skip(offset as usize).take(count);
        for segment in segments {
            let part: Vec<u8> = from.by_ref().take(segment.len()).copied().collect();
            segment.write(&part).unwrap();
        }
        Ok(count)
    }

    fn pwritev(&self, _file: &(), offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        let mut state = self.lock();
        state.log.push(Call::Write(offset, lengths(segments)));
        let bend = state.transfers.pop_front().unwrap_or(Bend::None);
        let count = Fake::moved(&mut state, offset, segments, bend)?;
        let mut bytes = contents(segments);
        bytes.truncate(count);
        state.data[offset as usize..][..count].copy_from_slice(&bytes);
        Ok(count)
    }

    fn fsync(&self, _file: &()) -> Result<(), Errno> {
        let mut state = self.lock();
        state.log.push(Call::Fsync);
        let bend = state.flushes.pop_front();
        outcome(bend)
    }

    fn fdatasync(&self, _file: &()) -> Result<(), Errno> {
        let mut state = self.lock();
        state.log.push(Call::Fdatasync);
        let bend = state.flushes.pop_front();
        outcome(bend)
    }

    fn ioctl(&self, _file: &(), request: Request, argument: &mut [u8]) -> Result<(), Errno> {
        assert_eq!(argument.len(), request.argument_len());
        let mut state = self.lock();
        if request == Request::DIOCGDELETE {
            let number = |at: usize| u64::from_ne_bytes(argument[at..at + 8].try_into().unwrap());
            state.log.push(Call::Delete(number(0), number(8)));
            return Fake::erase(&mut state, number(0), number(8)).map(drop);
        }
        state.log.push(Call::Ioctl(request));
        if state.file_type == Some(FileType::Regular) {
            return Err(Errno(libc::ENOTTY));
        }
        let answer = match request {
            Request::DIOCGFLUSH => {
                let bend = state.flushes.pop_front();
                return outcome(bend);
            }
            Request::DIOCGMEDIASIZE | Request::BLKGETSIZE64 => state.data.len() as u64,
            _ => *state.answers.get(&request.number()).ok_or(Errno(libc::ENOTTY))?,
        };
        match argument.len() {
            328 => {
                assert!(argument.starts_with(b"GEOM::candelete\0"));
                argument[72..76].copy_from_slice(&(answer as i32).to_ne_bytes());
            }
            4 => argument.copy_from_slice(&(answer as u32).to_ne_bytes()),
            _ => argument.copy_from_slice(&answer.to_ne_bytes()),
        }
        Ok(())
    }

    fn fallocate(&self, _file: &(), how: Fallocate, offset: u64, len: u64) -> Result<(), Errno> {
        let mut state = self.lock();
        state.log.push(Call::Fallocate(how, offset, len));
        Fake::erase(&mut state, offset, len).map(drop)
    }

    fn fspacectl(&self, _file: &(), offset: u64, len: u64) -> Result<(u64, u64), Errno> {
        let mut state = self.lock();
        state.log.push(Call::Fspacectl(offset, len));
        let end = Fake::erase(&mut state, offset, len)?;
        Ok((end, offset + len - end))
    }

    fn deallocates(&self, _file: &()) -> Result<bool, Errno> {
        let mut state = self.lock();
        state.log.push(Call::Deallocates);
        state.deallocates.ok_or(Errno(libc::EINVAL))
    }

    fn watch_size(&self, _file: &()) -> Result<Arc<dyn SizeEvents>, Errno> {
        let mut state = self.lock();
        state.log.push(Call::WatchSize);
        state.size_events.clone().ok_or(Errno(libc::EOPNOTSUPP))
    }

    fn limit(&self, _file: &(), rights: &Rights) -> Result<(), Errno> {
        let mut state = self.lock();
        state.log.push(Call::Limit(*rights));
        state.limit.map_or(Ok(()), |errno| Err(Errno(errno)))
    }
}

/// Memory of a guest, and segments of these lengths in it, apart from each
/// other and filled with `value`.
pub(super) struct Guest {
    _region: Region,
    pub(super) list: Vec<Segment>,
}

impl Guest {
    pub(super) fn new(lengths: &[usize], value: u8) -> Guest {
        let size: usize = lengths.iter().map(|len| len + 64).sum();
        let region = Region::zeroed(size).unwrap();
        let mut at = 0;
        let mut list = Vec::new();
        for len in lengths {
            let segment = region.segment().slice(at, *len).unwrap();
            segment.write(&vec![value; *len]).unwrap();
            list.push(segment);
            at += len + 64;
        }
        Guest { _region: region, list }
    }

    pub(super) fn contents(&self) -> Vec<u8> {
        contents(&self.list)
    }
}

fn contents(segments: &[Segment]) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in segments {
        let mut bytes = vec![0; segment.len()];
        segment.read(&mut bytes).unwrap();
        all.extend(bytes);
    }
    all
}
