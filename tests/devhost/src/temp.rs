// SPDX-License-Identifier: BSD-2-Clause

//! Temporary folders.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// The folders to remove if the program is interrupted.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder of this process's own, removed with all in it when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one whose name says what it is for. The path is short enough for
    /// the address of a Unix socket in it.
    pub fn new(what: &str) -> io::Result<TempDir> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("devhost-{what}-{}-{n}", std::process::id()));
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("{}: {error}", path.display()),
                    ));
                }
                Ok(()) => {
                    live().push(path.clone());
                    return Ok(TempDir(path));
                }
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        live().retain(|path| *path != self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes all folders of this process, which is about to end without
/// unwinding.
#[cfg(target_os = "linux")]
pub(crate) fn remove_all() {
    for path in live().drain(..) {
        let _ = std::fs::remove_dir_all(path);
    }
}

fn live() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
