// SPDX-License-Identifier: BSD-2-Clause

//! What the guest knows the disk by, where no option says otherwise. All of it
//! equals what the in-tree device gives, so that a guest finds its disks under
//! the names it has stored.

use super::Location;
use super::value::SERIAL_MAX;

/// 58-9C-FC is the FreeBSD Foundation's; the next digit is bhyve's block of it.
const OUI_BLOCK: u64 = 0x589c_fc20_0000;

/// The only namespace.
const NSID: u64 = 1;

/// Longest qualified name that the NVMe specification allows, in bytes.
const NQN_MAX: usize = 223;

const NQN_PREFIX: &str = "nqn.2013-12.org.freebsd:bhyve";

/// `NVME-slot-func`, padded with spaces. The in-tree device pads with NULs,
/// which the specification forbids; guests strip either.
pub(super) fn serial(location: Location) -> [u8; SERIAL_MAX] {
    let text = format!("NVME-{}-{}", location.slot, location.func);
    let mut serial = [b' '; SERIAL_MAX];
    for (place, byte) in serial.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    serial
}

/// The given EUI64, in the order in which the in-tree device shows it: lowest
/// byte first.
pub(super) fn given_eui64(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// OUI, a checksum of the VM's name and the PCI address, the namespace.
pub(super) fn derived_eui64(vm_name: &str, location: Location) -> [u8; 8] {
    let Location { bus, slot, func } = location;
    let sum = crc16(format!("{vm_name}{bus}{slot}{func}").as_bytes());
    ((OUI_BLOCK | u64::from(sum)) << 16 | NSID).to_be_bytes()
}

/// See [`super::Config::subnqn`].
pub(super) fn subnqn(vm_name: &str, location: Location) -> String {
    let Location { bus, slot, func } = location;
    let address = format!("-{bus}-{slot}-{func}");
    let room = NQN_MAX - NQN_PREFIX.len() - address.len();
    let name = match vm_name.len() {
        0 => String::new(),
        length if length < room => format!("-{vm_name}"),
        _ => {
            let sum = format!("-{:04x}", crc16(vm_name.as_bytes()));
            let mut end = room - 1 - sum.len();
            while !vm_name.is_char_boundary(end) {
                end -= 1;
            }
            format!("-{}{sum}", &vm_name[..end])
        }
    };
    format!("{NQN_PREFIX}{name}{address}")
}

/// CRC-16 with the polynomial 8005h, lowest bit first, starting at 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, &byte| {
        (0..8).fold(
            sum ^ u16::from(byte),
            |sum, _| {
                if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xa001 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_4: Location = Location { bus: 0, slot: 4, func: 0 };
    const AT_5_1: Location = Location { bus: 0, slot: 5, func: 1 };

    #[test]
    fn crc16_check_value() {
        assert_eq!(crc16(b""), 0);
        assert_eq!(crc16(b"123456789"), 0xbb3d);
    }

    #[test]
    fn eui64_is_what_the_in_tree_device_shows() {
        assert_eq!(derived_eui64("vm0", AT_4), [0x58, 0x9c, 0xfc, 0x20, 0x44, 0xbf, 0x00, 0x01]);
        assert_eq!(
            derived_eui64("freebsd", AT_5_1),
            [0x58, 0x9c, 0xfc, 0x20, 0x20, 0xa8, 0x00, 0x01]
        );
        assert_eq!(
            given_eui64(0x0123_4567_89ab_cdef),
            [0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]
        );
    }

    #[test]
    fn serial_is_padded_with_spaces() {
        assert_eq!(&serial(AT_4), b"NVME-4-0            ");
        assert_eq!(&serial(Location { bus: 9, slot: 31, func: 7 }), b"NVME-31-7           ");
        assert_eq!(&serial(Location { bus: 0, slot: 255, func: 255 }), b"NVME-255-255        ");
    }

    #[test]
    fn subnqn_of_any_name() {
        assert_eq!(subnqn("vm0", AT_4), "nqn.2013-12.org.freebsd:bhyve-vm0-0-4-0");
        assert_eq!(subnqn("", AT_4), "nqn.2013-12.org.freebsd:bhyve-0-4-0");
    }

    #[test]
    fn subnqn_of_long_names_stays_legal_and_distinct() {
        let room = NQN_MAX - "nqn.2013-12.org.freebsd:bhyve--0-4-0".len();
        let fits = "v".repeat(room);
        assert_eq!(subnqn(&fits, AT_4), format!("nqn.2013-12.org.freebsd:bhyve-{fits}-0-4-0"));
        assert_eq!(subnqn(&fits, AT_4).len(), NQN_MAX);

        let one = subnqn(&"v".repeat(room + 1), AT_4);
        let two = subnqn(&"v".repeat(room + 2), AT_4);
        assert_eq!((one.len(), two.len()), (NQN_MAX, NQN_MAX));
        assert!(one.ends_with("-0-4-0") && two.ends_with("-0-4-0"));
        assert_ne!(one, two);

        // Cut between characters, wherever the limit falls.
        for lead in 0..4 {
            let name = format!("{}{}", "v".repeat(lead), "\u{1f4be}".repeat(100));
            let nqn = subnqn(&name, AT_4);
            assert!((NQN_MAX - 3..=NQN_MAX).contains(&nqn.len()), "{lead}");
        }
    }
}
