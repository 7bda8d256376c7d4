// SPDX-License-Identifier: BSD-2-Clause

//! What the host itself does to the function: it finds the capabilities,
//! programs the MSI-X table, and resets.

use std::thread;
use std::time::{Duration, Instant};

use super::function::{CONFIG_BYTES, PciFunction};

/// Where a message-signalled interrupt goes on a PC; any address would do, for
/// the data alone tells the vectors apart.
const MSI_ADDRESS: u64 = 0xfee0_0000;

/// Bytes of an entry of the MSI-X table.
const MSIX_ENTRY: u64 = 16;

/// Bits of the Device Control register.
const INITIATE_FLR: u32 = 1 << 15;

/// Registers of an NVMe controller, in BAR0: CC with its bit EN, and CSTS with
/// its bit RDY.
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const LOWEST: u64 = 1;

/// The MSI-X table: `vectors` entries from `offset` on in BAR `bar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsixTable {
    pub(super) bar: usize,
    pub(super) offset: u64,
    pub(super) vectors: usize,
}

/// The function's capabilities and its configuration space as the session
/// found them.
pub(super) struct Baseline {
    config: [u8; CONFIG_BYTES],
    pub(super) msix: Option<MsixTable>,
    /// Offset of the PCI Express capability's Device Control register.
    device_control: Option<usize>,
}

/// A controller did not become quiescent in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hung;

impl Baseline {
    /// Reads it from `function`.
    pub(super) fn read(function: &dyn PciFunction) -> Baseline {
        let config = function.config_save();
        let msix = find_capability(&config, 0x11).and_then(|at| {
            let field =
                |offset| u32::from_le_bytes(*config.get(at + offset..)?.first_chunk()?).into();
            let (control, table): (Option<u32>, Option<u32>) = (field(0), field(4));
            let (control, table) = (control?, table?);
            Some(MsixTable {
                bar: (table & 7) as usize,
                offset: u64::from(table & !7),
                vectors: (control >> 16 & 0x7ff) as usize + 1,
            })
        });
        let device_control = find_capability(&config, 0x10).map(|at| at + 8);
        Baseline { config, msix, device_control }
    }

    /// Number of MSI-X vectors.
    pub(super) fn vectors(&self) -> usize {
        self.msix.map_or(0, |table| table.vectors)
    }

    /// Programs the whole table, with a vector's number as its data and no
    /// vector masked: clients keep the guest's table to themselves.
    pub(super) fn program_msix(&self, function: &dyn PciFunction) {
        let Some(table) = self.msix else { return };
        for vector in 0..table.vectors as u64 {
            let entry = table.offset + vector * MSIX_ENTRY;
            function.bar_write(table.bar, entry, 4, MSI_ADDRESS);
            function.bar_write(table.bar, entry + 4, 4, MSI_ADDRESS >> 32);
            function.bar_write(table.bar, entry + 8, 4, vector);
            function.bar_write(table.bar, entry + 12, 4, 0);
        }
    }

    /// Masks or unmasks one vector.
    pub(super) fn mask_msix(&self, function: &dyn PciFunction, vector: usize, masked: bool) {
        let Some(table) = self.msix else { return };
        let entry = table.offset + vector as u64 * MSIX_ENTRY;
        function.bar_write(table.bar, entry + 12, 4, u64::from(masked));
    }

    /// Whether a write of `value` at `offset` of configuration space resets
    /// the function.
    pub(super) fn is_reset(&self, offset: usize, size: usize, value: u32) -> bool {
        self.device_control.is_some_and(|at| {
            // The bit is in the register's upper byte.
            let byte = at + 1;
            (offset..offset + size).contains(&byte)
                && value >> ((byte - offset) * 8) & (INITIATE_FLR >> 8) != 0
        })
    }

    /// Resets the function and waits until the controller has done with the
    /// guest: enabled no more and not ready. Then puts back configuration
    /// space and the MSI-X table.
    pub(super) fn reset(&self, function: &dyn PciFunction, limit: Duration) -> Result<(), Hung> {
        // The client may have broken the list of capabilities, and a function
        // whose capability is not found is not reset.
        function.config_restore(&self.config);
        if let Some(at) = self.device_control {
            let control = function.config_read(at, 2);
            function.config_write(at, 2, control | INITIATE_FLR);
        }
        let start = Instant::now();
        let mut pause = Duration::from_micros(50);
        let mut rests = 0;
        // Twice in a row: a controller that was about to become ready when the
        // reset came may show that once more.
        while rests < 2 {
            if start.elapsed() > limit {
                return Err(Hung);
            }
            thread::park_timeout(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
            rests = if is_quiescent(function) { rests + 1 } else { 0 };
        }
        function.config_restore(&self.config);
        self.program_msix(function);
        Ok(())
    }
}

fn is_quiescent(function: &dyn PciFunction) -> bool {
    function.bar_read(0, CC, 4) & LOWEST == 0 && function.bar_read(0, CSTS, 4) & LOWEST == 0
}

/// Offset of the first capability of kind `id`.
fn find_capability(config: &[u8; CONFIG_BYTES], id: u8) -> Option<usize> {
    let mut at = usize::from(config[0x34] & !3);
    // No more capabilities fit, so a list that goes on is a ring.
    for _ in 0..(CONFIG_BYTES - 0x40) / 4 {
        if at < 0x40 {
            return None;
        }
        if config[at] == id {
            return Some(at);
        }
        at = usize::from(config[at + 1] & !3);
    }
    None
}
