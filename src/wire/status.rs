// SPDX-License-Identifier: BSD-2-Clause

//! Status codes (section 4.6.1).

/// The status field of a completion, without the phase tag: status code in
/// bits 7:0, status code type in bits 10:8, more (M) in bit 13, do not retry
/// (DNR) in bit 14.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

const fn generic(code: u16) -> Status {
    Status(code)
}

const fn specific(code: u16) -> Status {
    Status(0x100 | code)
}

const fn media(code: u16) -> Status {
    Status(0x200 | code)
}

impl Status {
    /// Successful Completion.
    pub const SUCCESS: Status = generic(0x00);
    /// Invalid Command Opcode.
    pub const INVALID_OPCODE: Status = generic(0x01);
    /// Invalid Field in Command.
    pub const INVALID_FIELD: Status = generic(0x02);
    /// Data Transfer Error: the guest's memory cannot be reached.
    pub const DATA_TRANSFER_ERROR: Status = generic(0x04);
    /// Internal Error.
    pub const INTERNAL_ERROR: Status = generic(0x06);
    /// Command Abort Requested.
    pub const ABORT_REQUESTED: Status = generic(0x07);
    /// Command Aborted due to SQ Deletion.
    pub const ABORTED_SQ_DELETION: Status = generic(0x08);
    /// Command Aborted due to Failed Fused Command: its other half failed.
    pub const ABORTED_FAILED_FUSED: Status = generic(0x09);
    /// Command Aborted due to Missing Fused Command: the entry beside it is not
    /// its other half.
    pub const ABORTED_MISSING_FUSED: Status = generic(0x0a);
    /// Invalid Namespace or Format.
    pub const INVALID_NAMESPACE: Status = generic(0x0b);
    /// Command Sequence Error.
    pub const COMMAND_SEQUENCE_ERROR: Status = generic(0x0c);
    /// Invalid SGL Segment Descriptor.
    pub const SGL_SEGMENT_INVALID: Status = generic(0x0d);
    /// Invalid Number of SGL Descriptors.
    pub const SGL_COUNT_INVALID: Status = generic(0x0e);
    /// Data SGL Length Invalid.
    pub const SGL_DATA_LENGTH_INVALID: Status = generic(0x0f);
    /// SGL Descriptor Type Invalid.
    pub const SGL_TYPE_INVALID: Status = generic(0x11);
    /// PRP Offset Invalid.
    pub const PRP_OFFSET_INVALID: Status = generic(0x13);
    /// Keep Alive Timer Expired.
    pub const KEEP_ALIVE_EXPIRED: Status = generic(0x19);
    /// Namespace is Write Protected.
    pub const WRITE_PROTECTED: Status = generic(0x20);
    /// LBA Out of Range.
    pub const LBA_OUT_OF_RANGE: Status = generic(0x80);
    /// Capacity Exceeded.
    pub const CAPACITY_EXCEEDED: Status = generic(0x81);

    /// Format in Progress.
    pub const FORMAT_IN_PROGRESS: Status = generic(0x84);

    /// Completion Queue Invalid.
    pub const COMPLETION_QUEUE_INVALID: Status = specific(0x00);
    /// Invalid Queue Identifier.
    pub const INVALID_QUEUE_ID: Status = specific(0x01);
    /// Invalid Queue Size.
    pub const INVALID_QUEUE_SIZE: Status = specific(0x02);
    /// Asynchronous Event Request Limit Exceeded.
    pub const AER_LIMIT_EXCEEDED: Status = specific(0x05);
    /// Invalid Interrupt Vector.
    pub const INVALID_INTERRUPT_VECTOR: Status = specific(0x08);
    /// Invalid Log Page.
    pub const INVALID_LOG_PAGE: Status = specific(0x09);
    /// Invalid Format.
    pub const INVALID_FORMAT: Status = specific(0x0a);
    /// Invalid Queue Deletion.
    pub const INVALID_QUEUE_DELETION: Status = specific(0x0c);
    /// Feature Identifier Not Saveable.
    pub const FEATURE_NOT_SAVEABLE: Status = specific(0x0d);
    /// Feature Not Namespace Specific.
    pub const FEATURE_NOT_NAMESPACE_SPECIFIC: Status = specific(0x0f);

    /// Write Fault.
    pub const WRITE_FAULT: Status = media(0x80);
    /// Unrecovered Read Error.
    pub const UNRECOVERED_READ_ERROR: Status = media(0x81);
    /// Compare Failure: the data are not those that the guest expects.
    pub const COMPARE_FAILURE: Status = media(0x85);

    const MORE: u16 = 1 << 13;
    const DNR: u16 = 1 << 14;

    /// The same status with DNR set: retried as it is, the command would fail
    /// again.
    pub const fn do_not_retry(self) -> Status {
        Status(self.0 | Status::DNR)
    }

    /// The same status with M set: the Error Information log has an entry of
    /// the command.
    pub const fn with_more(self) -> Status {
        Status(self.0 | Status::MORE)
    }

    /// Whether it is `other`, but for M and DNR.
    pub const fn is(self, other: Status) -> bool {
        self.0 & 0x7ff == other.0 & 0x7ff
    }

    /// Whether it reports an error.
    pub const fn is_error(self) -> bool {
        self.0 & 0x7ff != 0
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dnr = if self.0 & Status::DNR != 0 { " DNR" } else { "" };
        write!(f, "Status({:x}/{:02x}h{dnr})", self.0 >> 8 & 0x7, self.0 & 0xff)
    }
}
