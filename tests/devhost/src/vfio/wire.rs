// SPDX-License-Identifier: BSD-2-Clause

//! The vfio-user protocol's numbers and layouts: little-endian, no logic.

/// Bytes of the header that starts every message.
pub(super) const HEADER_BYTES: usize = 16;

/// The most bytes of data in one region access; told to the client.
pub(super) const MAX_TRANSFER: usize = 64 << 10;

/// The most bytes of a message, header included.
pub(super) const MAX_MESSAGE: usize = MAX_TRANSFER + 4096;

/// The most file descriptors in one message; told to the client.
pub(super) const MAX_FDS: usize = 16;

/// What the server can do, in the JSON that ends its version message. QEMU
/// accepts no reply longer than its own proposal, so it is short.
pub(super) const CAPABILITIES: &str =
    concat!(r#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":65536}}"#, "\0");

// Commands.
pub(super) const VERSION: u16 = 1;
pub(super) const DMA_MAP: u16 = 2;
pub(super) const DMA_UNMAP: u16 = 3;
pub(super) const DEVICE_GET_INFO: u16 = 4;
pub(super) const DEVICE_GET_REGION_INFO: u16 = 5;
pub(super) const DEVICE_GET_IRQ_INFO: u16 = 7;
pub(super) const DEVICE_SET_IRQS: u16 = 8;
pub(super) const REGION_READ: u16 = 9;
pub(super) const REGION_WRITE: u16 = 10;
pub(super) const DEVICE_RESET: u16 = 13;

// Header flags.
pub(super) const TYPE_MASK: u32 = 0xf;
pub(super) const TYPE_COMMAND: u32 = 0;
pub(super) const TYPE_REPLY: u32 = 1;
pub(super) const NO_REPLY: u32 = 1 << 4;
pub(super) const ERROR: u32 = 1 << 5;

// DMA map and unmap flags.
pub(super) const MAP_READ_WRITE: u32 = 3;
pub(super) const UNMAP_DIRTY_BITMAP: u32 = 1;
pub(super) const UNMAP_ALL: u32 = 1 << 1;

// Device flags.
pub(super) const DEVICE_RESETTABLE: u32 = 1;
pub(super) const DEVICE_PCI: u32 = 1 << 1;

// Regions of a PCI device: six BARs, expansion ROM, configuration space, VGA.
pub(super) const REGIONS: u32 = 9;
pub(super) const REGION_BARS: u32 = 6;
pub(super) const REGION_CONFIG: u32 = 7;
pub(super) const REGION_INFO_BYTES: usize = 32;
pub(super) const REGION_READ_WRITE: u32 = 3;
pub(super) const REGION_MMAP: u32 = 1 << 2;
pub(super) const REGION_CAPS: u32 = 1 << 3;
pub(super) const CAP_SPARSE_MMAP: u16 = 1;

// Interrupt indexes of a PCI device: INTx, MSI, MSI-X, error, request.
pub(super) const IRQS: u32 = 5;
pub(super) const IRQ_INTX: u32 = 0;
pub(super) const IRQ_MSIX: u32 = 2;
pub(super) const IRQ_EVENTFD: u32 = 1;
pub(super) const IRQ_MASKABLE: u32 = 1 << 1;
pub(super) const IRQ_AUTOMASKED: u32 = 1 << 2;

// Flags of a request to set interrupts: one kind of data, one action.
pub(super) const SET_DATA_NONE: u32 = 1;
pub(super) const SET_DATA_BOOL: u32 = 1 << 1;
pub(super) const SET_DATA_EVENTFD: u32 = 1 << 2;
pub(super) const SET_DATA_MASK: u32 = 7;
pub(super) const SET_MASK: u32 = 1 << 3;
pub(super) const SET_UNMASK: u32 = 1 << 4;
pub(super) const SET_TRIGGER: u32 = 1 << 5;
pub(super) const SET_ACTION_MASK: u32 = 7 << 3;

/// The header of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) command: u16,
    /// Bytes of the whole message.
    pub(super) size: u32,
    pub(super) flags: u32,
    pub(super) error: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Header {
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, e0, e1, e2, e3] = *bytes;
        Header {
            id: u16::from_le_bytes([i0, i1]),
            command: u16::from_le_bytes([c0, c1]),
            size: u32::from_le_bytes([s0, s1, s2, s3]),
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
            error: u32::from_le_bytes([e0, e1, e2, e3]),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.error.to_le_bytes());
        bytes
    }
}

/// Takes fields off the front of a payload; `None` where it is too short.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*first))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_wire() {
        let header = Header { id: 0x1234, command: 9, size: 0x20, flags: 0x21, error: 22 };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..8], [0x34, 0x12, 9, 0, 0x20, 0, 0, 0]);
        assert_eq!(Header::parse(&bytes), header);
    }

    #[test]
    fn fields_end_with_the_payload() {
        let mut fields = Fields(&[1, 0, 2, 0, 0, 0, 9]);
        assert_eq!(fields.u16(), Some(1));
        assert_eq!(fields.u32(), Some(2));
        assert_eq!(fields.u16(), None);
        assert_eq!(fields.bytes(1), Some(&[9][..]));
        assert_eq!(fields.bytes(1), None);
    }
}
