// SPDX-License-Identifier: BSD-2-Clause

//! The options of one device: names, legal values, defaults, and the one clear
//! line for whatever is wrong with them.
//!
//! bhyve keeps a device's options as a node of names and strings, filled from
//! `-s slot,nvme,...` or from a configuration file. [`Config::parse`] turns a
//! [`Node`] into a [`Config`], or says which option stops the start and what
//! it may be. [`OPTIONS`] is the one table behind it: the parser, its messages
//! and the tests of the manual page all read that.
//!
//! A leaf: no I/O here, and nothing of NVMe but the identity that the options
//! set or default to.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

mod identity;
mod legacy;
mod names;
mod options;
mod parse;
mod sectors;
mod value;

pub use legacy::{Legacy, split_legacy};
pub use options::{OPTIONS, Opt};

/// A device's options as the hypervisor holds them.
pub trait Node {
    /// The value of `name`; `None` where it is not set. bhyve stores "true"
    /// for a bare word. A path may hold any bytes, so this is no `String`.
    fn value(&self, name: &str) -> Option<OsString>;

    /// Every name that is set to a value. Child nodes are left out.
    fn names(&self) -> Vec<String>;
}

/// The PCI address of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// PCI bus.
    pub bus: u8,
    /// Slot on the bus.
    pub slot: u8,
    /// Function in the slot.
    pub func: u8,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.bus, self.slot, self.func)
    }
}

/// Where the blocks live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory, zeroed at the start.
    Ram {
        /// Size in MiB; at least 1, and in bytes it fits an `i64`.
        mib: u64,
    },
    /// In a file or a disk device. Not empty; not yet looked at.
    Path(PathBuf),
}

/// Whether Dataset Management is offered to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dsm {
    /// Where the store can free blocks.
    Auto,
    /// Always.
    Enable,
    /// Never.
    Disable,
}

/// What one controller is configured to be. Every value is in its legal range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// PCI address.
    pub location: Location,
    /// Name of the virtual machine, empty if it has none.
    pub vm_name: String,
    /// Where the blocks live.
    pub store: Store,
    /// I/O queue pairs, 1 to 64.
    pub maxq: u16,
    /// Largest number of entries of a queue, 2 to 65535.
    pub qsz: u16,
    /// Commands executing in the store at once, 1 to 256.
    pub ioslots: u16,
    /// `sectsz`: 512, 4096 or 8192. [`Config::sector_sizes`] weighs it against
    /// the store's own.
    pub sectsz: Option<u32>,
    /// `sectorsize`: logical size, a power of two from 512 to 8192 (that of
    /// `sectsz`, where both are given), and physical size, a power of two from
    /// there to 16 MiB. A store at a path takes it when it is opened.
    pub sectorsize: Option<(u32, Option<u32>)>,
    /// Serial number: printable ASCII, padded with spaces.
    pub ser: [u8; 20],
    /// EUI64 of the namespace, in the order in which the guest reads it.
    pub eui64: [u8; 8],
    /// Whether Dataset Management is offered.
    pub dsm: Dsm,
    /// Whether SGLs are offered beside PRPs.
    pub sgl: bool,
    /// Whether shadow doorbells are offered.
    pub dbbuf: bool,
    /// Microseconds for which a worker looks for work before it sleeps.
    pub spin: u16,
    /// Place in the firmware's boot order, not negative.
    pub bootindex: Option<i32>,
    /// Bypass the host's cache. False for a RAM disk, as are `sync` and `ro`.
    pub nocache: bool,
    /// Every write is on stable storage when it completes.
    pub sync: bool,
    /// Refuse writes.
    pub ro: bool,
    /// Never free blocks of the store.
    pub nodelete: bool,
    /// Run I/O to a file or device on the thread of the vCPU that rings the
    /// doorbell.
    pub inline_io: bool,
    /// Give the namespace an NGUID and a UUID too.
    pub nguid: bool,
}

impl Config {
    /// Reads and checks all options of `node`.
    ///
    /// Returns warnings beside the configuration: one line each, for options
    /// that are unknown or that have no effect beside another one. `vm_name` is
    /// empty if the virtual machine has no name.
    ///
    /// # Errors
    /// The first option, in the order of [`OPTIONS`], that is malformed or out
    /// of range, or the lack of both `path` and `ram`.
    pub fn parse(
        node: &dyn Node,
        location: Location,
        vm_name: &str,
    ) -> Result<(Config, Vec<String>), Error> {
        parse::parse(node, location, vm_name)
    }

    /// The logical and the physical sector size of the namespace, in bytes, over
    /// a store whose own are `logical` and `physical`. A RAM disk takes any, so
    /// there these two do not matter.
    ///
    /// # Errors
    /// `sectsz` is smaller than what the store reads and writes.
    pub fn sector_sizes(&self, logical: u32, physical: u32) -> Result<(u32, u32), Error> {
        sectors::weigh(self, logical, physical)
    }

    /// The NVM subsystem's qualified name, at most 223 bytes of UTF-8:
    /// `nqn.2013-12.org.freebsd:bhyve-VM-BUS-SLOT-FUNC`, as the in-tree device
    /// gives it. Of a name too long for that, the end is replaced by a checksum
    /// of the whole; a machine without a name leaves it and its hyphen out.
    pub fn subnqn(&self) -> String {
        identity::subnqn(&self.vm_name, self.location)
    }
}

/// Why the device cannot start: one line that names the option, its value and
/// what is allowed, ready to be logged as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
