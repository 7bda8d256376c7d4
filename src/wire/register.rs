// SPDX-License-Identifier: BSD-2-Clause

//! Controller registers (section 3.1).

use bitflags::bitflags;

/// Bytes of BAR0. Windows refuses a smaller window.
pub const BAR_SIZE: u64 = 0x4000;

/// Offsets in BAR0.
pub mod offset {
    /// Controller Capabilities, 64 bits.
    pub const CAP: u64 = 0x00;
    /// Version.
    pub const VS: u64 = 0x08;
    /// Interrupt Mask Set.
    pub const INTMS: u64 = 0x0c;
    /// Interrupt Mask Clear.
    pub const INTMC: u64 = 0x10;
    /// Controller Configuration.
    pub const CC: u64 = 0x14;
    /// Controller Status.
    pub const CSTS: u64 = 0x1c;
    /// Admin Queue Attributes.
    pub const AQA: u64 = 0x24;
    /// Admin Submission Queue Base Address, 64 bits.
    pub const ASQ: u64 = 0x28;
    /// Admin Completion Queue Base Address, 64 bits.
    pub const ACQ: u64 = 0x30;
    /// The first doorbell; the others follow every four bytes (CAP.DSTRD 0).
    pub const DOORBELLS: u64 = 0x1000;
}

/// Version 1.4.
pub const VERSION: u32 = 0x0001_0400;

/// CAP for queues of at most `mqes_z + 1` entries: queues are physically
/// contiguous (CQR), the NVM command set (CSS), 4 KiB pages, and 30 s (TO, in
/// units of 500 ms) for a change of CC.EN to show in CSTS.RDY.
pub const fn capabilities(mqes_z: u16) -> u64 {
    const CQR: u64 = 1 << 16;
    const TO: u64 = 60 << 24;
    const CSS_NVM: u64 = 1 << 37;
    mqes_z as u64 | CQR | TO | CSS_NVM
}

/// Controller Configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration(pub u32);

impl Configuration {
    /// Enable.
    pub const EN: u32 = 1;

    /// Enable (EN).
    pub const fn enabled(self) -> bool {
        self.0 & Configuration::EN != 0
    }

    /// I/O Command Set Selected (CSS).
    pub const fn command_set(self) -> u32 {
        self.0 >> 4 & 0x7
    }

    /// Memory Page Size (MPS), as a power of two above 4 KiB.
    pub const fn page_size(self) -> u32 {
        self.0 >> 7 & 0xf
    }

    /// Arbitration Mechanism Selected (AMS).
    pub const fn arbitration(self) -> u32 {
        self.0 >> 11 & 0x7
    }

    /// Shutdown Notification (SHN): 01b normal, 10b abrupt.
    pub const fn shutdown(self) -> u32 {
        self.0 >> 14 & 0x3
    }

    /// I/O Submission Queue Entry Size (IOSQES), as a power of two.
    pub const fn sq_entry_size(self) -> u32 {
        self.0 >> 16 & 0xf
    }

    /// I/O Completion Queue Entry Size (IOCQES), as a power of two.
    pub const fn cq_entry_size(self) -> u32 {
        self.0 >> 20 & 0xf
    }
}

bitflags! {
    /// Controller Status.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ControllerStatus: u32 {
        /// Ready (RDY).
        const READY = 1 << 0;
        /// Controller Fatal Status (CFS).
        const FATAL = 1 << 1;
        /// Shutdown Status (SHST): processing.
        const SHUTDOWN_PROCESSING = 1 << 2;
        /// Shutdown Status (SHST): complete.
        const SHUTDOWN_COMPLETE = 1 << 3;
    }
}

/// Admin Queue Attributes: the entries of the admin queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminQueueAttributes(pub u32);

impl AdminQueueAttributes {
    /// The bits that are not reserved.
    pub const MASK: u32 = 0x0fff_0fff;

    /// Admin Submission Queue Size (ASQS).
    pub const fn sq_size_z(self) -> u16 {
        (self.0 & 0xfff) as u16
    }

    /// Admin Completion Queue Size (ACQS).
    pub const fn cq_size_z(self) -> u16 {
        (self.0 >> 16 & 0xfff) as u16
    }
}
