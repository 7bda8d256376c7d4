// SPDX-License-Identifier: BSD-2-Clause

//! The system calls of a store, behind one seam.
//!
//! [`Calls`] is the set of calls, one method each, with no policy. [`Raw`] is
//! the real one; tests bring others that record, bend or lose data.
//!
//! [`Policy`] says what an operating system makes of these calls: how a disk's
//! size is asked for, what reaches the medium, which requests a device refuses.
//! [`Linux`] and [`FreeBsd`] are safe code over any [`Calls`] and are both
//! compiled everywhere, so that each can be tested on the other; [`Native`] is
//! the one of the system we are built for.

use std::path::Path;
use std::sync::Arc;

use crate::backend::SizeEvents;
use crate::memory::Segment;
use crate::sandbox::Rights;

mod errno;
mod freebsd;
#[cfg(target_os = "freebsd")]
#[allow(unsafe_code)]
mod kqueue;
mod linux;
#[allow(unsafe_code)]
pub(crate) mod pages;
#[allow(unsafe_code)]
mod raw;
mod request;

pub use errno::{Errno, Way, error, retry, unsupported};
pub use freebsd::FreeBsd;
pub use linux::Linux;
pub use raw::Raw;
pub use request::{Request, ask_attribute, ask_u32, ask_u64};

/// The policy of the system this is built for.
#[cfg(target_os = "freebsd")]
pub type Native = FreeBsd;
/// The policy of the system this is built for.
#[cfg(not(target_os = "freebsd"))]
pub type Native = Linux;

/// The most segments that one [`Calls::preadv`] or [`Calls::pwritev`] takes
/// (IOV_MAX of both systems).
pub const MAX_SEGMENTS: usize = 1024;

/// What kind of file a path or descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A block device. FreeBSD has none.
    Block,
    /// A character device: a disk on FreeBSD, never one on Linux.
    Character,
    /// A pipe, a socket, or anything else.
    Other,
}

/// What `stat(2)` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Kind of file.
    pub file_type: FileType,
    /// Size in bytes; says nothing for devices.
    pub size: u64,
    /// The file system's preferred unit in bytes.
    pub block_size: u64,
}

/// How to open a store; it is always opened for reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// For writing, too.
    pub write: bool,
    /// O_DIRECT.
    pub direct: bool,
    /// O_SYNC.
    pub sync: bool,
}

/// What `fallocate(2)` does to a range; the file's size stays in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Its space is given back, and it reads as zeroes.
    PunchHole,
    /// It reads as zeroes.
    ZeroRange,
}

/// The system calls that a store needs, each as it is: short transfers,
/// EINTR and all. An open file is closed when its value is dropped.
pub trait Calls: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync;

    /// `stat(2)`.
    fn stat(&self, path: &Path) -> Result<Status, Errno>;

    /// `open(2)`, for a file that exists.
    fn open(&self, path: &Path, how: How) -> Result<Self::File, Errno>;

    /// `fstat(2)`.
    fn fstat(&self, file: &Self::File) -> Result<Status, Errno>;

    /// `preadv(2)`: bytes read. At most [`MAX_SEGMENTS`] segments.
    fn preadv(&self, file: &Self::File, offset: u64, segments: &[Segment]) -> Result<usize, Errno>;

    /// `pwritev(2)`: bytes written. At most [`MAX_SEGMENTS`] segments.
    fn pwritev(&self, file: &Self::File, offset: u64, segments: &[Segment])
    -> Result<usize, Errno>;

    /// `fsync(2)`.
    fn fsync(&self, file: &Self::File) -> Result<(), Errno>;

    /// `fdatasync(2)`.
    fn fdatasync(&self, file: &Self::File) -> Result<(), Errno>;

    /// `ioctl(2)`. EINVAL unless `argument` has the length that the request
    /// demands.
    fn ioctl(&self, file: &Self::File, request: Request, argument: &mut [u8]) -> Result<(), Errno>;

    /// `fallocate(2)` of Linux; ENOSYS elsewhere.
    fn fallocate(
        &self,
        file: &Self::File,
        how: Fallocate,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno>;

    /// `fspacectl(2)` of FreeBSD with SPACECTL_DEALLOC; ENOSYS elsewhere.
    /// Returns what is left to be done: offset and length in bytes.
    fn fspacectl(&self, file: &Self::File, offset: u64, len: u64) -> Result<(u64, u64), Errno>;

    /// `fpathconf(2)` of FreeBSD for _PC_DEALLOC_PRESENT: whether the file
    /// system gives space back, rather than write zeroes. ENOSYS elsewhere.
    fn deallocates(&self, file: &Self::File) -> Result<bool, Errno>;

    /// `kqueue(2)` of FreeBSD with EVFILT_VNODE: what tells that the file's
    /// attributes were changed, its size among them, or that it was written to
    /// beyond its end. ENOSYS elsewhere.
    fn watch_size(&self, file: &Self::File) -> Result<Arc<dyn SizeEvents>, Errno>;

    /// Gives up all rights to the file but `rights`, where the system can.
    fn limit(&self, file: &Self::File, rights: &Rights) -> Result<(), Errno>;
}

/// What a store is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A disk device.
    Device,
}

/// Units of a store in bytes, as the system reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sectors {
    /// The smallest unit that can be read and written.
    pub logical: u32,
    /// The unit handled without read-modify-write; 0 if unknown.
    pub physical: u64,
}

/// What an operating system makes of the calls.
pub trait Policy: Send + Sync + 'static {
    /// The files that can be a store, in words for an error message.
    const ALLOWED: &'static str;

    /// What a store of this file type is; `None` if it cannot be one.
    fn kind(file_type: FileType) -> Option<Kind>;

    /// The store's size in bytes, now.
    fn size<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<u64, Errno>;

    /// Whether the system tells when a store changes its size
    /// ([`Calls::watch_size`]), so that it need hardly be asked.
    fn tells_of_size(kind: Kind) -> bool;

    /// The store's units.
    fn sectors<C: Calls>(
        calls: &C,
        file: &C::File,
        kind: Kind,
        direct: bool,
    ) -> Result<Sectors, Errno>;

    /// Whether a store that could be opened for writing refuses writes all the
    /// same.
    fn refuses_writes<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<bool, Errno>;

    /// Whether these segments should go to the system as they are, and not
    /// through a buffer of ours. `sector` is the store's smallest unit in
    /// bytes.
    fn takes(kind: Kind, sector: u32, segments: &[Segment]) -> bool;

    /// Brings every write that completed before to stable storage.
    fn flush<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> Result<(), Errno>;

    /// Whether what a descriptor opened with O_SYNC has written is on stable
    /// storage, as far as a flush could bring it there.
    fn syncs_writes(kind: Kind) -> bool;

    /// Whether the store gives space back when it is asked to.
    fn can_deallocate<C: Calls>(calls: &C, file: &C::File, kind: Kind) -> bool;

    /// Whether the space that was given back reads as zeroes.
    fn deallocated_is_zero(kind: Kind) -> bool;

    /// Gives the space of a range back, with its contents. The range is not
    /// empty, inside the store, and in whole units of it.
    fn deallocate<C: Calls>(
        calls: &C,
        file: &C::File,
        kind: Kind,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno>;

    /// Makes a range, as for [`Policy::deallocate`], read as zeroes without
    /// giving its space back; EOPNOTSUPP where only writing does that.
    fn zero<C: Calls>(calls: &C, file: &C::File, offset: u64, len: u64) -> Result<(), Errno>;

    /// Whether a flush that fails drops the data it could not write, so that
    /// the next one may succeed without them.
    fn forgets(kind: Kind, direct: bool) -> bool;
}
