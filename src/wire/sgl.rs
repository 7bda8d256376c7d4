// SPDX-License-Identifier: BSD-2-Clause

//! The SGL descriptor (section 4.4.1).

/// Bytes of a descriptor.
pub const DESCRIPTOR_SIZE: usize = 16;

/// Descriptor types.
pub mod kind {
    /// Data Block.
    pub const DATA_BLOCK: u8 = 0x0;
    /// Bit Bucket.
    pub const BIT_BUCKET: u8 = 0x1;
    /// Segment: points to more descriptors, of which the last is again a
    /// pointer.
    pub const SEGMENT: u8 = 0x2;
    /// Last Segment: points to more descriptors, none of which is a pointer.
    pub const LAST_SEGMENT: u8 = 0x3;
}

/// SGLS of Identify Controller (figure 251).
pub mod support {
    /// SGLs are supported, without a rule for alignment or granularity.
    pub const BYTE_GRANULAR: u32 = 0b01;
    /// Bit Bucket descriptors are supported.
    pub const BIT_BUCKET: u32 = 1 << 16;
    /// An SGL may be longer than the data.
    pub const LONGER_THAN_DATA: u32 = 1 << 18;
}

/// One descriptor. Its first bytes mean the same in all types that are
/// supported: address and length, of data or of more descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    address: u64,
    /// Length in bits 31:0, subtype in bits 59:56, type in bits 63:60.
    rest: u64,
}

impl Descriptor {
    /// From its two 64-bit words.
    pub fn from_words(address: u64, rest: u64) -> Descriptor {
        Descriptor { address, rest }
    }

    /// From its bytes.
    pub fn from_bytes(bytes: &[u8; DESCRIPTOR_SIZE]) -> Descriptor {
        let both = u128::from_le_bytes(*bytes);
        Descriptor { address: (both & u128::from(u64::MAX)) as u64, rest: (both >> 64) as u64 }
    }

    /// Guest-physical address.
    pub fn address(self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn len(self) -> u32 {
        (self.rest & 0xffff_ffff) as u32
    }

    /// Whether its length is zero.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The descriptor type: one of [`kind`], or another.
    pub fn kind(self) -> u8 {
        (self.rest >> 60) as u8
    }

    /// The subtype: 0 for an address.
    pub fn subtype(self) -> u8 {
        (self.rest >> 56 & 0xf) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_figures_have_them() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x20, 0x30, 0x40, 0xff, 0xff, 0xff, 0x3a];
        let descriptor = Descriptor::from_bytes(&bytes);
        assert_eq!(descriptor.address(), 0x0807_0605_0403_0201);
        assert_eq!(descriptor.len(), 0x4030_2010);
        assert_eq!((descriptor.kind(), descriptor.subtype()), (kind::LAST_SEGMENT, 0xa));
        let words = Descriptor::from_words(0x0807_0605_0403_0201, 0x3aff_ffff_4030_2010);
        assert_eq!(words, descriptor);
        assert!(Descriptor::from_words(1, 0).is_empty() && !words.is_empty());
    }
}
