// SPDX-License-Identifier: BSD-2-Clause

//! The real system calls, the same for Linux and FreeBSD.

use std::fs::{File, FileType as StdFileType, Metadata, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::{Calls, Errno, Fallocate, FileType, How, MAX_SEGMENTS, Request, Status};
use crate::backend::SizeEvents;
use crate::memory::Segment;
use crate::sandbox::{self, Rights};

/// The system's own calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Calls for Raw {
    type File = File;

    fn stat(&self, path: &Path) -> Result<Status, Errno> {
        std::fs::metadata(path).map(|m| status(&m)).map_err(|e| Errno::of(&e))
    }

    fn open(&self, path: &Path, how: How) -> Result<File, Errno> {
        // A terminal named by mistake must not become ours.
        let mut flags = libc::O_NOCTTY;
        if how.direct {
            flags |= libc::O_DIRECT;
        }
        if how.sync {
            flags |= libc::O_SYNC;
        }
        OpenOptions::new()
            .read(true)
            .write(how.write)
            .custom_flags(flags)
            .open(path)
            .map_err(|e| Errno::of(&e))
    }

    fn fstat(&self, file: &File) -> Result<Status, Errno> {
        file.metadata().map(|m| status(&m)).map_err(|e| Errno::of(&e))
    }

    #[inline]
    fn preadv(&self, file: &File, offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        let (list, count, offset) = vector(offset, segments)?;
        if count == 1 {
            // The system has less to do for it.
            // SAFETY: `list` is an array of one iovec.
            let only = unsafe { *list };
            // SAFETY: it names memory that is mapped and writable (`Segment`'s
            // promise) and that no Rust reference looks at.
            let result =
                unsafe { libc::pread(file.as_raw_fd(), only.iov_base, only.iov_len, offset) };
            return count_of(result);
        }
        // SAFETY: `list` is an array of `count` iovecs; each names memory as
        // above.
        count_of(unsafe { libc::preadv(file.as_raw_fd(), list, count, offset) })
    }

    #[inline]
    fn pwritev(&self, file: &File, offset: u64, segments: &[Segment]) -> Result<usize, Errno> {
        let (list, count, offset) = vector(offset, segments)?;
        if count == 1 {
            // SAFETY: as in `preadv`.
            let only = unsafe { *list };
            // SAFETY: as in `preadv`; the memory is only read.
            let result =
                unsafe { libc::pwrite(file.as_raw_fd(), only.iov_base, only.iov_len, offset) };
            return count_of(result);
        }
        // SAFETY: as in `preadv`; the memory is only read.
        count_of(unsafe { libc::pwritev(file.as_raw_fd(), list, count, offset) })
    }

    fn fsync(&self, file: &File) -> Result<(), Errno> {
        // SAFETY: touches no memory of ours.
        done(unsafe { libc::fsync(file.as_raw_fd()) })
    }

    fn fdatasync(&self, file: &File) -> Result<(), Errno> {
        // SAFETY: touches no memory of ours.
        done(unsafe { libc::fdatasync(file.as_raw_fd()) })
    }

    fn ioctl(&self, file: &File, request: Request, argument: &mut [u8]) -> Result<(), Errno> {
        if argument.len() != request.argument_len() {
            return Err(Errno(libc::EINVAL));
        }
        let (fd, number, at) = (file.as_raw_fd(), request.number(), argument.as_mut_ptr());
        // SAFETY: the kernel copies `argument_len` bytes to or from `at`, which
        // has exactly that many.
        done(unsafe { libc::ioctl(fd, number as _, at) })
    }

    #[cfg(target_os = "linux")]
    fn fallocate(&self, file: &File, how: Fallocate, offset: u64, len: u64) -> Result<(), Errno> {
        let mode = libc::FALLOC_FL_KEEP_SIZE
            | match how {
                Fallocate::PunchHole => libc::FALLOC_FL_PUNCH_HOLE,
                Fallocate::ZeroRange => libc::FALLOC_FL_ZERO_RANGE,
            };
        // SAFETY: touches no memory of ours.
        done(unsafe { libc::fallocate(file.as_raw_fd(), mode, signed(offset)?, signed(len)?) })
    }

    #[cfg(not(target_os = "linux"))]
    fn fallocate(&self, _: &File, _: Fallocate, _: u64, _: u64) -> Result<(), Errno> {
        Err(Errno(libc::ENOSYS))
    }

    #[cfg(target_os = "freebsd")]
    fn fspacectl(&self, file: &File, offset: u64, len: u64) -> Result<(u64, u64), Errno> {
        let range = libc::spacectl_range { r_offset: signed(offset)?, r_len: signed(len)? };
        let mut left = libc::spacectl_range { r_offset: 0, r_len: 0 };
        // SAFETY: both point to ranges that live until the call returns.
        done(unsafe {
            libc::fspacectl(file.as_raw_fd(), libc::SPACECTL_DEALLOC, &range, 0, &mut left)
        })?;
        Ok((left.r_offset as u64, left.r_len as u64))
    }

    #[cfg(not(target_os = "freebsd"))]
    fn fspacectl(&self, _: &File, _: u64, _: u64) -> Result<(u64, u64), Errno> {
        Err(Errno(libc::ENOSYS))
    }

    #[cfg(target_os = "freebsd")]
    fn deallocates(&self, file: &File) -> Result<bool, Errno> {
        /// `_PC_DEALLOC_PRESENT` of `sys/unistd.h`, which libc does not have.
        const PC_DEALLOC_PRESENT: libc::c_int = 65;
        // SAFETY: touches no memory of ours.
        let present = unsafe { libc::fpathconf(file.as_raw_fd(), PC_DEALLOC_PRESENT) };
        if present < 0 { Err(Errno::last()) } else { Ok(present == 1) }
    }

    #[cfg(not(target_os = "freebsd"))]
    fn deallocates(&self, _: &File) -> Result<bool, Errno> {
        Err(Errno(libc::ENOSYS))
    }

    #[cfg(target_os = "freebsd")]
    fn watch_size(&self, file: &File) -> Result<Arc<dyn SizeEvents>, Errno> {
        Ok(Arc::new(super::kqueue::FileEvents::new(file)?))
    }

    #[cfg(not(target_os = "freebsd"))]
    fn watch_size(&self, _: &File) -> Result<Arc<dyn SizeEvents>, Errno> {
        Err(Errno(libc::ENOSYS))
    }

    fn limit(&self, file: &File, rights: &Rights) -> Result<(), Errno> {
        sandbox::limit(file, rights).map_err(|e| Errno::of(&e))
    }
}

/// The arguments of a vector call.
fn vector(
    offset: u64,
    segments: &[Segment],
) -> Result<(*const libc::iovec, libc::c_int, libc::off_t), Errno> {
    let offset = signed(offset)?;
    let count = segments.len().min(MAX_SEGMENTS) as libc::c_int;
    Ok((Segment::as_iovec(segments), count, offset))
}

fn signed(number: u64) -> Result<libc::off_t, Errno> {
    libc::off_t::try_from(number).map_err(|_| Errno(libc::EINVAL))
}

/// The result of a call that returns a count, or -1 and errno.
fn count_of(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// The result of a call that returns 0, or -1 and errno.
fn done(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

fn status(metadata: &Metadata) -> Status {
    Status {
        file_type: file_type(metadata.file_type()),
        size: metadata.len(),
        block_size: metadata.blksize(),
    }
}

fn file_type(of: StdFileType) -> FileType {
    match of {
        t if t.is_file() => FileType::Regular,
        t if t.is_dir() => FileType::Directory,
        t if t.is_block_device() => FileType::Block,
        t if t.is_char_device() => FileType::Character,
        _ => FileType::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::memory::Region;

    /// A descriptor that refuses every call a disk takes, each in its way.
    fn socket() -> File {
        File::from(OwnedFd::from(UnixStream::pair().unwrap().0))
    }

    #[test]
    fn every_call_reaches_the_system() {
        let file = socket();
        let region = Region::zeroed(512).unwrap();
        let segments = [region.segment()];
        assert_eq!(Raw.preadv(&file, 0, &segments), Err(Errno(libc::ESPIPE)));
        assert_eq!(Raw.pwritev(&file, 0, &segments), Err(Errno(libc::ESPIPE)));
        assert_eq!(Raw.fsync(&file), Err(Errno(libc::EINVAL)));
        assert_eq!(Raw.fdatasync(&file), Err(Errno(libc::EINVAL)));
        // With which number it is refused depends on the system.
        assert!(Raw.ioctl(&file, Request::DIOCGFLUSH, &mut []).is_err());
        assert_eq!(Raw.fstat(&file).unwrap().file_type, FileType::Other);
    }

    #[test]
    fn an_argument_of_the_wrong_length_never_reaches_the_system() {
        let file = socket();
        for length in [0, 7, 9] {
            let mut argument = vec![0; length];
            assert_eq!(
                Raw.ioctl(&file, Request::DIOCGMEDIASIZE, &mut argument),
                Err(Errno(libc::EINVAL))
            );
        }
    }

    #[test]
    fn offsets_beyond_the_systems_are_refused() {
        let file = socket();
        assert_eq!(Raw.preadv(&file, 1 << 63, &[]), Err(Errno(libc::EINVAL)));
        assert_eq!(Raw.pwritev(&file, u64::MAX, &[]), Err(Errno(libc::EINVAL)));
    }
}
