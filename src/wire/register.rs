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
    /// Controller Ready Timeouts.
    pub const CRTO: u64 = 0x68;
    /// The first doorbell; the others follow every four bytes (CAP.DSTRD 0).
    pub const DOORBELLS: u64 = 0x1000;
}

/// Version 2.0.
pub const VERSION: u32 = 0x0002_0000;

/// How long a change of CC.EN may take to show in CSTS.RDY: 30 s, in units of
/// 500 ms. CAP.TO and CRTO.CRWMT say the same, or Linux finds fault with it.
const READY_TIMEOUT: u32 = 60;

/// CRTO: Controller Ready With Media Timeout. There is no other mode.
pub const READY_TIMEOUTS: u32 = READY_TIMEOUT;

/// CAP for queues of at most `mqes_z + 1` entries: queues are physically
/// contiguous (CQR), the NVM command set (CSS), 4 KiB pages, and ready with the
/// medium at hand (CRMS.CRWMS), as revision 2.0 wants it of every controller.
pub const fn capabilities(mqes_z: u16) -> u64 {
    const CQR: u64 = 1 << 16;
    const TO: u64 = (READY_TIMEOUT as u64) << 24;
    const CSS_NVM: u64 = 1 << 37;
    const CRWMS: u64 = 1 << 59;
    mqes_z as u64 | CQR | TO | CSS_NVM | CRWMS
}

/// Controller Configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration(pub u32);

impl Configuration {
    /// Enable.
    pub const EN: u32 = 1;

    /// The bits that a guest can write: the others are reserved, or belong to
    /// what is not there (CRIME).
    pub const MASK: u32 = 0x00ff_fff1;

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
