// SPDX-License-Identifier: BSD-2-Clause

//! Log pages (section 5.14.1).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Supported Log Pages.
pub const SUPPORTED_LOG_PAGES: u8 = 0x00;
/// Error Information.
pub const ERROR_INFORMATION: u8 = 0x01;
/// SMART / Health Information.
pub const HEALTH_INFORMATION: u8 = 0x02;
/// Firmware Slot Information.
pub const FIRMWARE_SLOT: u8 = 0x03;
/// Changed Namespace List.
pub const CHANGED_NAMESPACES: u8 = 0x04;
/// Commands Supported and Effects.
pub const COMMAND_EFFECTS: u8 = 0x05;
/// Feature Identifiers Supported and Effects.
pub const FEATURE_EFFECTS: u8 = 0x12;
/// NVMe-MI Commands Supported and Effects.
pub const MANAGEMENT_EFFECTS: u8 = 0x13;

/// Supported Log Pages: this one is supported (LSUPP).
pub const LOG_SUPPORTED: u32 = 1;

/// Bytes of the Changed Namespace List, and of Commands Supported and Effects.
pub const PAGE_LOG_SIZE: usize = 4096;

/// What a command or feature does besides its work, as the logs 05h, 12h and
/// 13h say it. The scopes are those of the last two and of commands alike.
pub mod effect {
    /// It is supported (CSUPP, FSUPP).
    pub const SUPPORTED: u32 = 1 << 0;
    /// It may change what logical blocks hold (LBCC, UDCC).
    pub const CONTENT_CHANGE: u32 = 1 << 1;
    /// It is to be alone with its namespace (CSE 001b).
    pub const ALONE_IN_NAMESPACE: u32 = 0b001 << 16;
    /// It is about a namespace.
    pub const NAMESPACE_SCOPE: u32 = 1 << 20;
    /// It is about the controller.
    pub const CONTROLLER_SCOPE: u32 = 1 << 21;
}

/// One entry of the Error Information log (figure 194).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ErrorEntry {
    /// Counts errors from one; zero marks an entry that is not used.
    pub error_count: U64,
    /// The queue of the command, or FFFFh.
    pub sq_id: U16,
    /// The command's identifier, or FFFFh.
    pub cid: U16,
    /// Status field as in the completion: phase tag in bit 0.
    pub status: U16,
    /// Byte (bits 7:0) and bit (bits 10:8) of the parameter in error, or FFFFh.
    pub parameter_error_location: U16,
    /// The first LBA in error, where there is one.
    pub lba: U64,
    /// The namespace of the command.
    pub nsid: U32,
    /// Vendor specific log page with more; none.
    pub vendor_log: u8,
    /// Transport type; zero for PCI Express.
    pub transport: u8,
    /// Reserved.
    pub reserved0: [u8; 2],
    /// Command specific.
    pub command_specific: U64,
    /// Transport specific.
    pub transport_specific: U16,
    /// Reserved.
    pub reserved1: [u8; 22],
}

const _: () = assert!(size_of::<ErrorEntry>() == 64);

/// SMART critical warning: the temperature is past a threshold.
pub const WARNING_TEMPERATURE: u8 = 1 << 1;

/// A 128-bit counter.
pub type U128 = [U64; 2];

/// The SMART / Health Information log (figure 195).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Health {
    /// Bits of what is wrong; zero when all is well.
    pub critical_warning: u8,
    /// In kelvins.
    pub composite_temperature: [u8; 2],
    /// In percent.
    pub available_spare: u8,
    /// In percent.
    pub available_spare_threshold: u8,
    /// In percent.
    pub percentage_used: u8,
    /// Endurance groups' warnings; none.
    pub endurance_warning: u8,
    /// Reserved.
    pub reserved0: [u8; 25],
    /// Thousands of 512-byte units read, rounded up.
    pub data_units_read: U128,
    /// Thousands of 512-byte units written, rounded up.
    pub data_units_written: U128,
    /// Completed read commands.
    pub host_reads: U128,
    /// Completed write commands.
    pub host_writes: U128,
    /// Minutes with an I/O command outstanding.
    pub busy_time: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Hours.
    pub power_on_hours: U128,
    /// Power losses without a shutdown notification.
    pub unsafe_shutdowns: U128,
    /// Unrecovered data integrity errors.
    pub media_errors: U128,
    /// Entries ever made in the Error Information log.
    pub error_log_entries: U128,
    /// Minutes above WCTEMP.
    pub warning_temperature_time: U32,
    /// Minutes above CCTEMP.
    pub critical_temperature_time: U32,
    /// In kelvins; zero for a sensor that is not there.
    pub temperature_sensors: [U16; 8],
    /// Thermal management counts and times; none.
    pub thermal_management: [U32; 4],
    /// Reserved.
    pub reserved1: [u8; 280],
}

const _: () = assert!(size_of::<Health>() == 512);

impl Health {
    /// A page of zeroes.
    pub fn zeroed() -> Health {
        Health::new_zeroed()
    }
}

/// The Firmware Slot Information log (figure 196).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FirmwareSlots {
    /// The slot in use (bits 2:0) and the one for the next reset (bits 6:4).
    pub active: u8,
    /// Reserved.
    pub reserved0: [u8; 7],
    /// Revision in each of the seven slots, ASCII, zeroes where empty.
    pub revisions: [[u8; 8]; 7],
    /// Reserved.
    pub reserved1: [u8; 448],
}

const _: () = assert!(size_of::<FirmwareSlots>() == 512);

impl FirmwareSlots {
    /// A page of zeroes.
    pub fn zeroed() -> FirmwareSlots {
        FirmwareSlots::new_zeroed()
    }
}
