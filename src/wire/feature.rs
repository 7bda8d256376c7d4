// SPDX-License-Identifier: BSD-2-Clause

//! Features (section 5.21.1).

/// Arbitration.
pub const ARBITRATION: u8 = 0x01;
/// Power Management.
pub const POWER_MANAGEMENT: u8 = 0x02;
/// Temperature Threshold.
pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
/// Error Recovery.
pub const ERROR_RECOVERY: u8 = 0x05;
/// Volatile Write Cache.
pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
/// Number of Queues.
pub const NUMBER_OF_QUEUES: u8 = 0x07;
/// Interrupt Coalescing.
pub const INTERRUPT_COALESCING: u8 = 0x08;
/// Interrupt Vector Configuration.
pub const INTERRUPT_VECTOR_CONFIGURATION: u8 = 0x09;
/// Write Atomicity Normal.
pub const WRITE_ATOMICITY: u8 = 0x0a;
/// Asynchronous Event Configuration.
pub const ASYNC_EVENT_CONFIGURATION: u8 = 0x0b;

/// Timestamp.
pub const TIMESTAMP: u8 = 0x0e;
/// Keep Alive Timer.
pub const KEEP_ALIVE_TIMER: u8 = 0x0f;
/// Host Behavior Support.
pub const HOST_BEHAVIOR_SUPPORT: u8 = 0x16;
/// Host Identifier.
pub const HOST_IDENTIFIER: u8 = 0x81;

/// Bytes of the Timestamp data structure.
pub const TIMESTAMP_SIZE: usize = 8;
/// Bytes of the Host Behavior Support data structure.
pub const HOST_BEHAVIOR_SIZE: usize = 512;

/// Select (SEL) of Get Features.
pub mod select {
    /// The value in force.
    pub const CURRENT: u8 = 0;
    /// The value after a controller reset.
    pub const DEFAULT: u8 = 1;
    /// The value that a power cycle keeps.
    pub const SAVED: u8 = 2;
    /// What can be done with the feature.
    pub const SUPPORTED_CAPABILITIES: u8 = 3;
}

/// Asynchronous Event Configuration: Namespace Attribute Notices.
pub const NAMESPACE_ATTRIBUTE_NOTICES: u32 = 1 << 8;

/// Supported capabilities: the value can be changed.
pub const CAPABILITY_CHANGEABLE: u32 = 1 << 2;
/// Supported capabilities: the feature belongs to a namespace.
pub const CAPABILITY_NAMESPACE: u32 = 1 << 1;
