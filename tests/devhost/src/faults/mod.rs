// SPDX-License-Identifier: BSD-2-Clause

//! Stores that misbehave as they are told.
//!
//! A [`Fault`] is one thing that goes wrong, and where and how often; a
//! [`Faults`] is all that goes wrong with one store, changeable at any time.
//! The controller above is the one that bhyve gets:
//!
//! - [`FaultyCalls`] bends the system calls of a store that is a file or a
//!   disk, so that the library's own handling of short transfers, EINTR,
//!   EAGAIN and errors runs.
//! - [`FaultyStore`] stands before any store, of which it is only known how
//!   long it takes and what it ends with.
//! - [`device`] starts a device of a `-s` option with the one that fits.
//!
//! [`parse`] reads a fault as `devhost --fault` takes it.

mod calls;
mod fault;
mod store;
mod strike;
mod text;

pub use calls::FaultyCalls;
pub use fault::{Fault, Kind, Ops};
pub use store::FaultyStore;
pub use strike::Faults;
pub use text::{Place, parse};

use crate::bhyve::{Device, InitError, Machine};
use bhyve_nvme::backend::Backend;
use bhyve_nvme::backend::sys::Raw;
use bhyve_nvme::config::{Config, Store};
use bhyve_nvme::device::{DeviceError, open_store, open_store_over};
use std::sync::Arc;

/// Opens the store of `config`, which then meets `faults`.
///
/// # Errors
/// As without faults; or a fault that a RAM disk cannot have.
pub fn open(config: &Config, faults: &Faults) -> Result<Arc<dyn Backend>, DeviceError> {
    match &config.store {
        Store::Path(_) => open_store_over(FaultyCalls::new(Raw, faults.clone()), config),
        Store::Ram { .. } => {
            if let Some(fault) = faults.list().iter().find(|fault| fault.kind.needs_calls()) {
                let line = format!("nvme: --fault {}: a RAM disk makes no system call", fault.kind);
                return Err(DeviceError::new(line, libc::EINVAL));
            }
            Ok(Arc::new(FaultyStore::new(open_store(config)?, faults.clone())))
        }
    }
}

/// Starts the device of a `-s` option and of settings, as
/// [`Device::with_settings`], over a store that meets `faults`.
///
/// # Errors
/// As [`Device::with_settings`] and [`open`].
pub fn device(
    machine: &Arc<Machine>,
    slot: Option<&str>,
    settings: &[(&str, &str)],
    faults: &Faults,
) -> Result<Device, InitError> {
    Device::over(machine, slot, settings, &|config| open(config, faults))
}
