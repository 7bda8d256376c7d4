// SPDX-License-Identifier: BSD-2-Clause

//! The file that the device and the limit beside it share.

use super::Result;
use super::work::{Op, PAGE, stamp};
use bhyve_nvme::memory::Segment;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where files go unless somebody says otherwise.
const MEMORY: &str = "/dev/shm";

/// The variable that names another folder.
const DIR_VARIABLE: &str = "BHYVE_NVME_BENCH_DIR";

/// A file full of stamps. Where a path through procfs leads to it, it has no
/// name, and is gone with the process however that ends; else it is removed when
/// this is dropped.
pub(crate) struct FileStore {
    file: File,
    size: u64,
    dir: PathBuf,
    /// Its name, if it has one.
    name: Option<PathBuf>,
}

impl FileStore {
    /// A file of `size` bytes in `dir`, or in memory.
    pub(crate) fn new(dir: Option<&Path>, size: u64) -> Result<FileStore> {
        let dir = dir
            .map(Path::to_owned)
            .or_else(|| std::env::var_os(DIR_VARIABLE).map(PathBuf::from))
            .or_else(|| Path::new(MEMORY).is_dir().then(|| PathBuf::from(MEMORY)))
            .unwrap_or_else(std::env::temp_dir);
        let path = dir.join(format!("bhyve-nvme-bench-{}", std::process::id()));
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path).map_err(told)?;
        let named = cfg!(not(target_os = "linux"));
        if !named {
            std::fs::remove_file(&path).map_err(told)?;
        }
        let mut store = FileStore { file, size, dir, name: named.then(|| path.clone()) };
        store.fill().map_err(told)?;
        Ok(store)
    }

    fn fill(&mut self) -> io::Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut piece = vec![0x5a; PIECE as usize];
        for start in (0..self.size / PAGE).step_by((PIECE / PAGE) as usize) {
            for (page, bytes) in (start..).zip(piece.chunks_exact_mut(PAGE as usize)) {
                bytes[..8].copy_from_slice(&stamp(page).to_le_bytes());
            }
            self.file.write_all(&piece)?;
        }
        Ok(())
    }

    /// Bytes in it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The folder that it was made in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path that opens it, in this process.
    pub(crate) fn path(&self) -> String {
        match &self.name {
            Some(name) => name.display().to_string(),
            None => format!("/proc/self/fd/{}", self.file.as_raw_fd()),
        }
    }

    /// One transfer, by one system call.
    pub(crate) fn transfer(&self, op: Op, offset: u64, buffer: &Segment) -> io::Result<()> {
        let (fd, offset) = (self.file.as_raw_fd(), offset as libc::off_t);
        let list = Segment::as_iovec(std::slice::from_ref(buffer));
        let moved = match op {
            // SAFETY: the buffer is mapped, and its list has one element.
            Op::Read => unsafe { libc::preadv(fd, list, 1, offset) },
            // SAFETY: as above.
            Op::Write => unsafe { libc::pwritev(fd, list, 1, offset) },
        };
        match usize::try_from(moved) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(moved) if moved == buffer.len() => Ok(()),
            Ok(moved) => Err(io::Error::other(format!("{moved} bytes of {}", buffer.len()))),
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = std::fs::remove_file(name);
        }
    }
}
