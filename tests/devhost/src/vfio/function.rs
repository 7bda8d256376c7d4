// SPDX-License-Identifier: BSD-2-Clause

//! What the server drives: a PCI function and the machine it sits in.
//!
//! The server knows no more of a device than this, so that its own tests can
//! bring a device of a few lines.

use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes of PCI configuration space.
pub const CONFIG_BYTES: usize = 256;

/// A PCI function, as a hypervisor's vCPUs and its reset line drive it. Every
/// method may be called from several threads at once.
pub trait PciFunction: Send + Sync {
    /// Size in bytes of the memory behind base address register `bar` (0 to
    /// 5), 0 if there is none.
    fn bar_size(&self, bar: usize) -> u64;

    /// Reads `size` bytes (1, 2, 4 or 8) at `offset`, which is inside the BAR
    /// and a multiple of `size`.
    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64;

    /// Writes `size` bytes (1, 2, 4 or 8) at `offset`, which is inside the BAR
    /// and a multiple of `size`.
    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64);

    /// Reads `size` bytes (1, 2 or 4) of configuration space at `offset`, a
    /// multiple of `size`.
    fn config_read(&self, offset: usize, size: usize) -> u32;

    /// Writes `size` bytes (1, 2 or 4) of configuration space at `offset`, a
    /// multiple of `size`.
    fn config_write(&self, offset: usize, size: usize, value: u32);

    /// All of configuration space, for [`PciFunction::config_restore`].
    fn config_save(&self) -> [u8; CONFIG_BYTES];

    /// Puts configuration space back to what [`PciFunction::config_save`]
    /// returned, read-only fields included.
    fn config_restore(&self, saved: &[u8; CONFIG_BYTES]);
}

/// A run of guest memory: `len` bytes at guest-physical `address`, mapped
/// readable and writable at `host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Guest-physical address of the first byte.
    pub address: u64,
    /// Length in bytes, not 0; `address + len` does not overflow.
    pub len: u64,
    /// Where the first byte is mapped here.
    pub host: NonNull<u8>,
}

// SAFETY: an address of memory that is shared with another process anyway;
// whoever uses it goes through raw or atomic accesses.
unsafe impl Send for Range {}
// SAFETY: as above.
unsafe impl Sync for Range {}

/// Receives a message-signalled interrupt: address and data. Called from any
/// thread; must not block.
pub type MsiSink = Arc<dyn Fn(u64, u32) + Send + Sync>;

/// The machine around a function: its memory map and where its interrupts go.
pub trait Machine: Send + Sync {
    /// Makes `ranges` (sorted by address, apart) the guest's memory, all at
    /// once: whoever looks an address up meanwhile sees the old map or the new.
    ///
    /// # Safety
    /// A range stays mapped, readable and writable until it is out of the map
    /// and no device of the machine uses it any more.
    unsafe fn set_ranges(&self, ranges: &[Range]);

    /// Sends interrupts to `sink` from now on; `None` drops them.
    fn set_msi_sink(&self, sink: Option<MsiSink>);
}
