// SPDX-License-Identifier: BSD-2-Clause

//! From a configuration to a running controller.

use crate::backend::file::{File, OpenOptions};
use crate::backend::ram::Ram;
use crate::backend::sys::{Calls, Native, Raw};
use crate::backend::{Backend, Geometry};
use crate::config::{Config, Dsm, Store};
use crate::controller::{Controller, Identity, Settings};
use crate::host::Host;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a device could not be made: one line for the operator, and the errno
/// that bhyve is to print.
#[derive(Debug)]
pub struct DeviceError {
    line: String,
    errno: i32,
}

impl DeviceError {
    fn invalid(line: String) -> DeviceError {
        DeviceError { line, errno: libc::EINVAL }
    }

    /// bhyve itself refused something.
    pub(crate) fn refused(line: String) -> DeviceError {
        DeviceError { line, errno: libc::ENXIO }
    }

    /// `line` for the operator, and the number of `errno(2)` that bhyve is to
    /// print.
    pub fn new(line: String, errno: i32) -> DeviceError {
        DeviceError { line, errno }
    }

    /// The number of `errno(2)` that comes closest.
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for DeviceError {}

impl From<crate::config::Error> for DeviceError {
    fn from(error: crate::config::Error) -> DeviceError {
        DeviceError::invalid(error.to_string())
    }
}

/// Opens the store that `config` names.
///
/// # Errors
/// When it cannot be opened or has not what the options demand.
pub fn open_store(config: &Config) -> Result<Arc<dyn Backend>, DeviceError> {
    open_store_over(Raw, config)
}

/// As [`open_store`], over other system calls than the system's own.
///
/// # Errors
/// As [`open_store`].
pub fn open_store_over<C: Calls>(
    calls: C,
    config: &Config,
) -> Result<Arc<dyn Backend>, DeviceError> {
    match &config.store {
        Store::Ram { mib } => {
            let ram = mib
                .checked_mul(1 << 20)
                .ok_or(std::io::ErrorKind::OutOfMemory.into())
                .and_then(Ram::new);
            let ram = ram.map_err(|error| DeviceError {
                line: format!("nvme: ram={mib}: the host has not so much memory: {error}"),
                errno: libc::ENOMEM,
            })?;
            Ok(Arc::new(ram.nodelete(config.nodelete)))
        }
        Store::Path(path) => {
            let store = File::<C, Native>::open(calls, path, &open_options(config));
            let store = store.map_err(|error| DeviceError {
                line: format!("nvme: {error}"),
                errno: error.errno(),
            })?;
            if store.geometry().read_only && !config.ro {
                log::warn!("nvme: path={}: cannot be written: opened read-only", path.display());
            }
            Ok(Arc::new(store))
        }
    }
}

/// How `config` has a file or disk device opened.
pub(crate) fn open_options(config: &Config) -> OpenOptions {
    OpenOptions {
        nocache: config.nocache,
        sync: config.sync,
        read_only: config.ro,
        // What is hidden from the guest is not even allowed.
        nodelete: config.nodelete || config.dsm == Dsm::Disable,
        sector_size: config.sectorsize,
    }
}

/// The settings of a controller for `config` over a store of `geometry`.
///
/// # Errors
/// When the store cannot have the sector size that the options demand, or is
/// smaller than one block.
pub fn settings(config: &Config, geometry: Geometry) -> Result<Settings, DeviceError> {
    let (block_size, _) =
        config.sector_sizes(geometry.sector_size, geometry.physical_sector_size)?;
    if geometry.size < u64::from(block_size) {
        let store = match &config.store {
            Store::Ram { mib } => format!("ram={mib}"),
            Store::Path(path) => format!("path={}", path.display()),
        };
        return Err(DeviceError::invalid(format!(
            "nvme: {store}: the store holds {} bytes: it must hold at least one block of {block_size}",
            geometry.size
        )));
    }
    Ok(Settings {
        name: format!("{}:{}", config.location.slot, config.location.func),
        queue_pairs: config.maxq,
        queue_entries: u32::from(config.qsz),
        io_slots: config.ioslots,
        block_size,
        inline: config.inline_io,
        dsm: match config.dsm {
            Dsm::Auto => geometry.can_deallocate,
            Dsm::Enable => true,
            Dsm::Disable => false,
        },
        sgl: config.sgl,
        dbbuf: config.dbbuf,
        spin: Duration::from_micros(config.spin.into()),
        identity: Identity {
            serial: config.ser,
            eui64: config.eui64,
            subnqn: config.subnqn(),
            global_ids: config.nguid,
        },
    })
}

/// Makes the controller for `settings` over `store`.
///
/// # Errors
/// When the host cannot give it a thread.
pub fn controller(
    settings: Settings,
    host: Arc<dyn Host>,
    store: Arc<dyn Backend>,
) -> Result<Controller, DeviceError> {
    Controller::new(settings, host, store).map_err(|error| DeviceError {
        line: format!("nvme: cannot make the controller: {error}"),
        errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}
