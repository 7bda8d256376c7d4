// SPDX-License-Identifier: BSD-2-Clause

//! Capsicum: what is left of a store's descriptor once it is open.
//!
//! bhyve enters capability mode after its devices are made, but that alone
//! leaves every right on what is already open. So each store gives up what it
//! does not need. Elsewhere than on FreeBSD this does nothing.

use std::io;
use std::os::fd::AsFd;

use crate::backend::sys::Request;

/// One right to a descriptor, `rights(4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Read at an offset.
    Pread,
    /// Write, or deallocate, at an offset.
    Pwrite,
    /// `fsync(2)`.
    Fsync,
    /// `fstat(2)`, for the size of a file.
    Fstat,
    /// The requests of [`Rights::requests`].
    Ioctl,
}

/// What a store may still do to its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// It is a disk device, not a file.
    pub device: bool,
    /// It is written to.
    pub write: bool,
    /// Its blocks are deallocated.
    pub delete: bool,
}

impl Rights {
    /// The rights, as a list.
    pub fn list(&self) -> Vec<Right> {
        let mut list = vec![Right::Pread];
        list.push(if self.device { Right::Ioctl } else { Right::Fstat });
        if self.write {
            list.push(Right::Pwrite);
            if !self.device {
                list.push(Right::Fsync);
            }
        }
        list
    }

    /// The `ioctl(2)` requests that stay allowed. DIOCGDELETE and DIOCGFLUSH
    /// ask for no right to write, so they must go by name.
    pub fn requests(&self) -> Vec<Request> {
        let mut list = Vec::new();
        if self.device {
            list.push(Request::DIOCGMEDIASIZE);
            if self.write {
                list.push(Request::DIOCGFLUSH);
                if self.delete {
                    list.push(Request::DIOCGDELETE);
                }
            }
        }
        list
    }
}

/// Gives up every right to `file` but `rights`. It cannot be undone.
///
/// # Errors
/// As `cap_rights_limit(2)` and `cap_ioctls_limit(2)`. A kernel without
/// Capsicum is no error.
#[cfg(target_os = "freebsd")]
pub fn limit(file: &impl AsFd, rights: &Rights) -> io::Result<()> {
    use capsicum::{CapRights, FileRights, IoctlsBuilder};

    let mut file_rights = FileRights::new();
    for right in rights.list() {
        file_rights.allow(match right {
            Right::Pread => capsicum::Right::Pread,
            Right::Pwrite => capsicum::Right::Pwrite,
            Right::Fsync => capsicum::Right::Fsync,
            Right::Fstat => capsicum::Right::Fstat,
            Right::Ioctl => capsicum::Right::Ioctl,
        });
    }
    let mut ioctls = IoctlsBuilder::new();
    for request in rights.requests() {
        ioctls = ioctls.allow(request.number());
    }
    // A file gives up CAP_IOCTL as a whole, so there is no list to set.
    unless_missing(file_rights.limit(file).and_then(|()| match rights.device {
        true => ioctls.finalize().limit(file),
        false => Ok(()),
    }))
}

/// Gives up every right to `file` but `rights`: there is no such thing here.
///
/// # Errors
/// None.
#[cfg(not(target_os = "freebsd"))]
pub fn limit(_file: &impl AsFd, _rights: &Rights) -> io::Result<()> {
    Ok(())
}

/// Gives up every right to a `kqueue(2)` but to wait for its events and to
/// change them: one is added to end a wait.
///
/// # Errors
/// As [`limit`].
#[cfg(target_os = "freebsd")]
pub fn limit_events(queue: &impl AsFd) -> io::Result<()> {
    use capsicum::{CapRights, FileRights, Right};

    let mut rights = FileRights::new();
    rights.allow(Right::KqueueEvent).allow(Right::KqueueChange);
    unless_missing(rights.limit(queue))
}

/// A kernel without Capsicum refuses nothing, and so limits nothing.
#[cfg(target_os = "freebsd")]
fn unless_missing(limited: io::Result<()>) -> io::Result<()> {
    match limited {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_it_needs() {
        let rights = Rights { device: false, write: true, delete: true };
        assert_eq!(rights.list(), [Right::Pread, Right::Fstat, Right::Pwrite, Right::Fsync]);
        assert_eq!(rights.requests(), []);
    }

    #[test]
    fn a_device_flushes_and_deletes_by_name() {
        let rights = Rights { device: true, write: true, delete: true };
        assert_eq!(rights.list(), [Right::Pread, Right::Ioctl, Right::Pwrite]);
        assert_eq!(
            rights.requests(),
            [Request::DIOCGMEDIASIZE, Request::DIOCGFLUSH, Request::DIOCGDELETE]
        );
        let kept = Rights { delete: false, ..rights };
        assert_eq!(kept.requests(), [Request::DIOCGMEDIASIZE, Request::DIOCGFLUSH]);
    }

    #[test]
    fn a_read_only_store_can_change_nothing() {
        for device in [false, true] {
            let rights = Rights { device, write: false, delete: true };
            for right in [Right::Pwrite, Right::Fsync] {
                assert!(!rights.list().contains(&right), "{device} {right:?}");
            }
            for request in [Request::DIOCGFLUSH, Request::DIOCGDELETE] {
                assert!(!rights.requests().contains(&request), "{device} {request:?}");
            }
        }
    }

    /// The kernel holds a limited descriptor to its rights.
    #[cfg(target_os = "freebsd")]
    #[test]
    fn the_kernel_refuses_what_was_given_up() {
        use std::fs::OpenOptions;
        use std::os::unix::fs::FileExt;

        let path = std::env::temp_dir().join(format!("bhyve-nvme-rights.{}", std::process::id()));
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).open(&path).unwrap()
        };
        let (writable, read_only) = (open(), open());
        std::fs::remove_file(&path).unwrap();
        limit(&writable, &Rights { device: false, write: true, delete: true }).unwrap();
        limit(&read_only, &Rights { device: false, write: false, delete: true }).unwrap();

        let refused = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOTCAPABLE));
        writable.write_all_at(&[7; 512], 0).unwrap();
        writable.sync_all().unwrap();
        assert_eq!(writable.metadata().unwrap().len(), 512);
        refused(writable.set_len(0).unwrap_err());

        let mut bytes = [0; 512];
        read_only.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 512]);
        refused(read_only.write_all_at(&[8; 512], 0).unwrap_err());
        refused(read_only.sync_all().unwrap_err());
    }
}
