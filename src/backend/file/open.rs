// SPDX-License-Identifier: BSD-2-Clause

//! Opening a store: what may be one, and in which units it is used.

use std::error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::backend::SizeEvents;
use crate::backend::sys::{Calls, Errno, FileType, How, Kind, Policy, retry};
use crate::sandbox::Rights;

/// How to open a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// `nocache`: around the host's page cache where it can be (O_DIRECT).
    pub nocache: bool,
    /// `sync`: each write is written through the host's cache (O_SYNC).
    pub sync: bool,
    /// `ro`: never written to.
    pub read_only: bool,
    /// `nodelete`: blocks are never deallocated.
    pub nodelete: bool,
    /// `sectorsize`: logical and physical sector size in bytes; the physical
    /// one is the logical one where it is not given. The store's own where
    /// nothing is given.
    pub sector_size: Option<(u32, Option<u32>)>,
}

/// Why a store did not open: one line that names the option, its value and
/// what is allowed, and the error number that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    errno: Errno,
    text: String,
}

impl OpenError {
    fn new(errno: Errno, text: String) -> OpenError {
        OpenError { errno, text }
    }

    /// The error number; EINVAL where no system call failed.
    pub fn errno(&self) -> i32 {
        self.errno.0
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl error::Error for OpenError {}

impl From<OpenError> for io::Error {
    /// Keeps the line and the number's kind; the number itself is in the
    /// `OpenError` that [`io::Error::get_ref`] returns.
    fn from(error: OpenError) -> io::Error {
        io::Error::new(io::Error::from_raw_os_error(error.errno.0).kind(), error)
    }
}

const EINVAL: Errno = Errno(libc::EINVAL);

/// A store that has just been opened. Sizes are in bytes.
pub(super) struct Opened<F> {
    pub(super) file: F,
    pub(super) kind: Kind,
    pub(super) read_only: bool,
    pub(super) can_deallocate: bool,
    pub(super) size: u64,
    pub(super) size_events: Option<Arc<dyn SizeEvents>>,
    /// The unit that the system insists on.
    pub(super) unit: u32,
    /// The units that the guest is told.
    pub(super) logical: u32,
    pub(super) physical: u32,
}

pub(super) fn open<C: Calls, P: Policy>(
    calls: &C,
    path: &Path,
    options: &OpenOptions,
) -> Result<Opened<C::File>, OpenError> {
    let name = path.display();
    let failed = |errno: Errno| {
        OpenError::new(errno, format!("path={name}: {errno}; allowed is {}", P::ALLOWED))
    };
    let refused = |what: &str| {
        OpenError::new(EINVAL, format!("path={name}: {what}; allowed is {}", P::ALLOWED))
    };

    // Looked at before it is opened: to open a pipe or a terminal may wait, or
    // have an effect.
    let status = retry(|| calls.stat(path)).map_err(failed)?;
    if P::kind(status.file_type).is_none() {
        let error = refused(description(status.file_type));
        let directory = status.file_type == FileType::Directory;
        return Err(if directory {
            OpenError { errno: Errno(libc::EISDIR), ..error }
        } else {
            error
        });
    }

    let (file, writable) = open_as_possible(calls, path, options).map_err(|errno| {
        if options.nocache && errno == EINVAL {
            let text = format!("nocache=true: {name} is on a file system without O_DIRECT");
            return OpenError::new(errno, text);
        }
        failed(errno)
    })?;
    let status = calls.fstat(&file).map_err(failed)?;
    let kind = P::kind(status.file_type).ok_or_else(|| refused("was replaced while it opened"))?;
    let refuses =
        P::refuses_writes(calls, &file, kind).map_err(|errno| not_a_disk(errno, refused))?;
    // Before the size is asked for, so that no change falls between; and while
    // there is the right to watch the file, which what is watched needs no
    // more. Without it, the size is asked for now and then.
    let watched = P::tells_of_size(kind).then(|| calls.watch_size(&file));
    let size_events = watched.and_then(Result::ok);
    let size = P::size(calls, &file, kind).map_err(|errno| not_a_disk(errno, refused))?;
    let own = P::sectors(calls, &file, kind, options.nocache)
        .map_err(|errno| not_a_disk(errno, refused))?;
    if !valid_unit(own.logical) {
        return Err(refused(&format!("has sectors of {} bytes", own.logical)));
    }

    let (logical, physical) = match options.sector_size {
        Some((logical, physical)) => {
            check_sector_size(logical, physical, own.logical, path)?;
            (logical, physical.unwrap_or(logical))
        }
        None => (own.logical, physical_unit(own.logical, own.physical)),
    };
    if size < u64::from(logical) {
        return Err(refused(&format!("has {size} bytes, less than a sector of {logical}")));
    }

    let read_only = !writable || refuses;
    // Asked here: afterwards the right to ask is gone.
    let can_deallocate = !read_only && !options.nodelete && P::can_deallocate(calls, &file, kind);
    let rights = Rights { device: kind == Kind::Device, write: !read_only, delete: can_deallocate };
    calls.limit(&file, &rights).map_err(|errno| {
        OpenError::new(errno, format!("path={name}: cannot limit its rights: {errno}"))
    })?;
    Ok(Opened {
        file,
        kind,
        read_only,
        can_deallocate,
        size,
        size_events,
        unit: own.logical,
        logical,
        physical,
    })
}

/// Opens for reading and writing, or for reading alone where it is asked for
/// or writing is forbidden; and says whether it can be written.
fn open_as_possible<C: Calls>(
    calls: &C,
    path: &Path,
    options: &OpenOptions,
) -> Result<(C::File, bool), Errno> {
    let how = How { write: !options.read_only, direct: options.nocache, sync: options.sync };
    let open = |how| retry(|| calls.open(path, how));
    match open(how) {
        Ok(file) => Ok((file, how.write)),
        Err(Errno(libc::EACCES | libc::EPERM | libc::EROFS)) if how.write => {
            Ok((open(How { write: false, ..how })?, false))
        }
        Err(errno) => Err(errno),
    }
}

/// A device that does not answer a disk's requests is no disk.
fn not_a_disk(errno: Errno, refused: impl Fn(&str) -> OpenError) -> OpenError {
    let mut error = match errno.0 {
        libc::ENOTTY | libc::ENODEV | libc::EOPNOTSUPP => refused("is not a disk"),
        _ => refused(&errno.to_string()),
    };
    error.errno = errno;
    error
}

fn description(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "is a regular file",
        FileType::Directory => "is a directory",
        FileType::Block => "is a block device",
        FileType::Character => "is a character device",
        FileType::Other => "is a pipe or a socket",
    }
}

fn valid_unit(size: u32) -> bool {
    size >= 512 && size.is_power_of_two()
}

/// What the store says of its physical unit, where that makes sense.
fn physical_unit(logical: u32, physical: u64) -> u32 {
    u32::try_from(physical)
        .ok()
        .filter(|size| size.is_power_of_two() && *size >= logical)
        .unwrap_or(logical)
}

/// The rules of `sectorsize`; `unit` is what the store insists on.
fn check_sector_size(
    logical: u32,
    physical: Option<u32>,
    unit: u32,
    path: &Path,
) -> Result<(), OpenError> {
    let value = physical.map_or(logical.to_string(), |physical| format!("{logical}/{physical}"));
    let physical = physical.unwrap_or(logical);
    let refused = |why: String| {
        let text = format!(
            "sectorsize={value}: {why}; allowed is logical[/physical], powers of two with \
             {unit} <= logical <= physical"
        );
        OpenError::new(EINVAL, text)
    };
    for size in [logical, physical] {
        if !valid_unit(size) {
            return Err(refused(format!("{size} is not a power of two of at least 512")));
        }
    }
    if physical < logical {
        return Err(refused("the physical sector is smaller than the logical one".to_string()));
    }
    if !logical.is_multiple_of(unit) {
        let path = path.display();
        return Err(refused(format!("not a multiple of the sectors of {path}, {unit} bytes")));
    }
    Ok(())
}
