// SPDX-License-Identifier: BSD-2-Clause

//! What the server drives in earnest: a device of bhyve's stand-in.

use super::function::{CONFIG_BYTES, Machine, MsiSink, PciFunction, Range};
use crate::bhyve::{self, Bar, Device};

impl PciFunction for Device {
    fn bar_size(&self, bar: usize) -> u64 {
        match self.bar_info(bar) {
            Bar::None => 0,
            Bar::Memory32(size) | Bar::Memory64(size) => size,
        }
    }

    fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64 {
        Device::bar_read(self, bar, offset, size)
    }

    fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64) {
        Device::bar_write(self, bar, offset, size, value);
    }

    fn config_read(&self, offset: usize, size: usize) -> u32 {
        self.cfg_read(offset, size)
    }

    fn config_write(&self, offset: usize, size: usize, value: u32) {
        self.cfg_write(offset, size, value);
    }

    fn config_save(&self) -> [u8; CONFIG_BYTES] {
        self.cfg_save()
    }

    fn config_restore(&self, saved: &[u8; CONFIG_BYTES]) {
        self.cfg_restore(saved);
    }
}

impl Machine for bhyve::Machine {
    unsafe fn set_ranges(&self, ranges: &[Range]) {
        let ranges: Vec<bhyve::Range> = ranges
            .iter()
            // SAFETY: the caller promises the same.
            .map(|range| unsafe { bhyve::Range::new(range.address, range.len, range.host) })
            .collect();
        bhyve::Machine::set_ranges(self, &ranges);
    }

    fn set_msi_sink(&self, sink: Option<MsiSink>) {
        bhyve::Machine::set_msi_sink(self, sink);
    }
}
