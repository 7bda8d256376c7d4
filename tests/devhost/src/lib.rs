// SPDX-License-Identifier: BSD-2-Clause

//! A stand-in for bhyve, so that the library is tested through the C ABI and
//! the glue that bhyve will use. Never part of the library.
//!
//! - [`bare`]: a controller without the C ABI, over a store of the test's.
//! - [`bhyve`]: a virtual machine and its devices, over C code that implements
//!   bhyve's functions under their own names.
//! - [`driver`]: an NVMe driver in this process, for tests and benchmarks.
//! - [`faults`]: stores that misbehave as they are told.
//! - [`rig`]: a device with a driver at it, for tests.
//! - [`usage`]: what a thread costs, for measurements.
//! - `vfio` (on Linux): a server that lends a device to another process.
//! - `guest` (on Linux): a Linux guest in QEMU that uses such a server.

pub mod bare;
pub mod bhyve;
pub mod driver;
pub mod faults;
#[cfg(target_os = "linux")]
pub mod guest;
pub mod rig;
mod temp;
pub mod usage;
#[cfg(target_os = "linux")]
pub mod vfio;

/// How long anything that must happen is waited for. It ends a hang and measures
/// nothing: a host that is busy, or that stops for a while, is not a failure.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
