// SPDX-License-Identifier: BSD-2-Clause

//! What the driver drives.

use crate::bhyve::{Device, Interrupts, Machine};
use std::sync::Arc;

/// A PCI function with the machine around it. Every method may be called from
/// several threads at once.
pub trait Function: Send + Sync {
    /// Reads `size` bytes (1, 2, 4 or 8) at `offset` of BAR `bar`.
    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64;

    /// Writes `size` bytes (1, 2, 4 or 8) at `offset` of BAR `bar`.
    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64);

    /// Reads `bytes` bytes (1, 2 or 4) of configuration space.
    fn cfg_read(&self, offset: usize, bytes: usize) -> u32;

    /// Writes `bytes` bytes (1, 2 or 4) of configuration space.
    fn cfg_write(&self, offset: usize, bytes: usize, value: u32);

    /// The guest's memory.
    fn machine(&self) -> &Arc<Machine>;

    /// New counters for `vectors` vectors, and the message address that leads
    /// to them; a message's data is the vector's number.
    fn interrupts(&self, vectors: usize) -> (u64, Arc<Interrupts>);
}

impl Function for Device {
    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64 {
        Device::bar_read(self, bar, offset, size)
    }

    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64) {
        Device::bar_write(self, bar, offset, size, value);
    }

    fn cfg_read(&self, offset: usize, bytes: usize) -> u32 {
        Device::cfg_read(self, offset, bytes)
    }

    fn cfg_write(&self, offset: usize, bytes: usize, value: u32) {
        Device::cfg_write(self, offset, bytes, value);
    }

    fn machine(&self) -> &Arc<Machine> {
        Device::machine(self)
    }

    fn interrupts(&self, vectors: usize) -> (u64, Arc<Interrupts>) {
        Device::machine(self).interrupts(vectors)
    }
}
