// SPDX-License-Identifier: BSD-2-Clause

//! What a controller is made of, checked before it gets here.

use std::time::Duration;

/// How a guest tells this controller and its namespace from others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Serial number: ASCII, space padded.
    pub serial: [u8; 20],
    /// EUI-64 of the namespace, in the order the guest reads its bytes.
    pub eui64: [u8; 8],
    /// NVMe qualified name of the subsystem, at most 223 bytes.
    pub subnqn: String,
    /// Whether the namespace has an NGUID and a UUID too: see
    /// [`Identity::nguid`] and [`Identity::uuid`].
    pub global_ids: bool,
}

impl Identity {
    /// The NGUID: eight bytes made from the serial number and the EUI-64, then
    /// the EUI-64 itself, which has the OUI where an NGUID wants it. The same
    /// in every life of a disk that keeps these two, and never zero.
    pub fn nguid(&self) -> Option<[u8; 16]> {
        let mut nguid = [0; 16];
        let extension = self.digest(b"NGUID").max(1).to_be_bytes();
        for (to, from) in nguid.iter_mut().zip(extension.iter().chain(&self.eui64)) {
            *to = *from;
        }
        self.global_ids.then_some(nguid)
    }

    /// The UUID, of version 8 (RFC 9562): made from the same two, and so as
    /// stable. Version and variant keep it from being zero.
    pub fn uuid(&self) -> Option<[u8; 16]> {
        let (high, low) = (self.digest(b"UUID high"), self.digest(b"UUID low"));
        let high = high & !0xf000 | 0x8000;
        let low = low & !(0b11 << 62) | 0b10 << 62;
        self.global_ids.then_some((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// FNV-1a of `purpose`, serial number and EUI-64.
    fn digest(&self, purpose: &[u8]) -> u64 {
        let bytes = purpose.iter().chain(&self.serial).chain(&self.eui64);
        bytes.fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// The settings of one controller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names the controller in the log and its threads: `slot:function`.
    pub name: String,
    /// I/O queue pairs, 1 to 64.
    pub queue_pairs: u16,
    /// Entries of the largest I/O queue, 2 to 65536.
    pub queue_entries: u32,
    /// Commands executing in the backend at once, 1 to 256; those that a vCPU
    /// executes itself over a store that never waits do not count.
    pub io_slots: u16,
    /// Bytes of a logical block: 512, 4096 or 8192.
    pub block_size: u32,
    /// Run small commands on the vCPU's thread even if the store may wait.
    pub inline: bool,
    /// Offer Dataset Management.
    pub dsm: bool,
    /// Offer SGLs for the data of I/O commands.
    pub sgl: bool,
    /// Offer Doorbell Buffer Config, which is shadow doorbells.
    pub dbbuf: bool,
    /// For how long a worker looks for work before it sleeps,
    /// [`MAX_SPIN`](super::MAX_SPIN) at most.
    pub spin: Duration,
    /// Names and numbers.
    pub identity: Identity,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(serial: &[u8; 20], eui64: [u8; 8]) -> Identity {
        Identity { serial: *serial, eui64, subnqn: String::new(), global_ids: true }
    }

    /// Guests store these: they must never change.
    #[test]
    fn derived_identifiers_are_golden() {
        let disk = identity(b"NVME-4-0            ", [0x58, 0x9c, 0xfc, 0x20, 0x44, 0xbf, 0, 1]);
        let hex = |id: Option<[u8; 16]>| format!("{:032x}", u128::from_be_bytes(id.unwrap()));
        assert_eq!(hex(disk.nguid()), "795b7e537cd86990589cfc2044bf0001");
        assert_eq!(hex(disk.uuid()), "cf7b9d9f8a9a86229c7ab1433790a794");
    }

    #[test]
    fn derived_identifiers_are_well_formed_and_differ() {
        let one = identity(b"NVME-4-0            ", [0; 8]);
        let two = identity(b"NVME-5-0            ", [0; 8]);
        assert_ne!(one.nguid(), two.nguid());
        assert_ne!(one.uuid(), two.uuid());
        for disk in [one, two] {
            let (nguid, uuid) = (disk.nguid().unwrap(), disk.uuid().unwrap());
            assert!(nguid[..8] != [0; 8] && nguid[8..] == disk.eui64);
            assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 0b10), "version and variant");
            let without = Identity { global_ids: false, ..disk };
            assert_eq!((without.nguid(), without.uuid()), (None, None));
        }
    }
}
