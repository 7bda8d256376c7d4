// SPDX-License-Identifier: BSD-2-Clause

//! The completion queue entry (section 4.6).

use super::status::Status;

/// Bytes of a completion queue entry (CC.IOCQES 4).
pub const ENTRY_SIZE: usize = 16;

/// What the controller says of one command it has finished with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Command-specific result.
    pub dw0: u32,
    /// Head of the submission queue the command came from.
    pub sq_head: u16,
    /// The submission queue the command came from.
    pub sq_id: u16,
    /// The command's identifier.
    pub cid: u16,
    /// How it ended.
    pub status: Status,
}

impl Completion {
    /// The entry as two 64-bit words. The second holds the phase tag, so it is
    /// to be stored last.
    pub fn words(&self, phase: bool) -> (u64, u64) {
        let high = u64::from(self.sq_head)
            | u64::from(self.sq_id) << 16
            | u64::from(self.cid) << 32
            | u64::from(self.status.0 << 1 | u16::from(phase)) << 48;
        (u64::from(self.dw0), high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_figure_122() {
        let entry = Completion {
            dw0: 0xdead_beef,
            sq_head: 0x1234,
            sq_id: 0x5678,
            cid: 0x9abc,
            status: Status::INVALID_FIELD.do_not_retry(),
        };
        assert_eq!(entry.words(true), (0xdead_beef, 0x8005_9abc_5678_1234));
        assert_eq!(entry.words(false).1, 0x8004_9abc_5678_1234);
    }
}
