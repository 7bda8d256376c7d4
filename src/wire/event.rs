// SPDX-License-Identifier: BSD-2-Clause

//! Asynchronous events (section 5.2).

/// Asynchronous Event Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Error status.
    Error = 0,
    /// SMART / Health status.
    Health = 1,
    /// Notice.
    Notice = 2,
}

/// What a completion of an Asynchronous Event Request reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Asynchronous Event Type.
    pub kind: Kind,
    /// Asynchronous Event Information.
    pub info: u8,
    /// The log page to read for more; reading it (without RAE) clears the event.
    pub log_page: u8,
}

impl Event {
    /// The guest wrote the doorbell of a queue that does not exist.
    pub const INVALID_DOORBELL_REGISTER: Event =
        Event { kind: Kind::Error, info: 0x00, log_page: super::log::ERROR_INFORMATION };

    /// The guest wrote a value to a doorbell that its queue cannot have.
    pub const INVALID_DOORBELL_VALUE: Event =
        Event { kind: Kind::Error, info: 0x01, log_page: super::log::ERROR_INFORMATION };

    /// The temperature has crossed a threshold.
    pub const TEMPERATURE_THRESHOLD: Event =
        Event { kind: Kind::Health, info: 0x01, log_page: super::log::HEALTH_INFORMATION };

    /// A namespace has changed.
    pub const NAMESPACE_ATTRIBUTE_CHANGED: Event =
        Event { kind: Kind::Notice, info: 0x00, log_page: super::log::CHANGED_NAMESPACES };

    /// Dword 0 of the completion.
    pub fn dw0(&self) -> u32 {
        self.kind as u32 | u32::from(self.info) << 8 | u32::from(self.log_page) << 16
    }
}
