// SPDX-License-Identifier: BSD-2-Clause

//! A virtual machine and the devices in it, as bhyve makes them.
//!
//! [`Machine`] is the guest's memory and the place where its interrupts
//! arrive; [`Device`] is a PCI function in a slot of it, made from the same
//! `-s` option that bhyve takes. Underneath is C code (`tests/devhost/bhyve`)
//! that implements bhyve's functions under their own names, and the glue as it
//! goes into bhyve.

mod device;
mod ffi;
mod interrupts;
mod log;
mod machine;

// Nothing here names it: the glue calls its C functions.
use bhyve_nvme as _;

pub use device::{Bar, Device, InitError};
pub use interrupts::Interrupts;
pub use log::LogCapture;
pub use machine::{Machine, MsiSink, Range};
