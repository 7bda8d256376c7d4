// SPDX-License-Identifier: BSD-2-Clause

//! A vfio-user server: it lends a PCI function to another process.
//!
//! Two kinds of client use it. A virtual machine monitor (QEMU's
//! `vfio-user-pci`) forwards its guest's register accesses and gives eventfds
//! for interrupts. A polled initiator brings its own driver, maps the doorbell
//! page and wants no interrupts.
//!
//! - [`Server`] listens, and serves one client after the other.
//! - `session` answers the messages of one client; `wire` has their layouts,
//!   `channel` carries them, file descriptors included.
//! - `memory` keeps the client's memory mapped, `interrupts` its eventfds,
//!   `doorbells` the page that it may map.
//! - `reset` does what the host does: between two sessions the function is
//!   reset and put back as it was, and only then is the client's memory
//!   unmapped.
//! - [`PciFunction`] and [`Machine`] are all it knows of the device; `bhyve`
//!   is where bhyve's stand-in implements them.
//!
//! A client is not trusted to keep to the protocol: what is malformed ends its
//! session, not the server. It is trusted with its own memory alone: a client
//! that shrinks a file it has lent kills the server, as it could kill any
//! process that maps a file.

mod bhyve;
mod channel;
mod doorbells;
mod function;
mod interrupts;
mod memory;
mod reset;
mod server;
mod session;
mod stop;
#[cfg(test)]
mod tests;
mod wire;

pub use function::{CONFIG_BYTES, Machine, MsiSink, PciFunction, Range};
pub use server::{Error, Options, Server, SessionEnd};
pub use stop::StopHandle;
