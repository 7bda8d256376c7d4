// SPDX-License-Identifier: BSD-2-Clause

use super::*;
use devhost::driver::Prp;

/// Identify with its fields; the 4096 bytes, or the status.
fn ask(setup: &Setup, cns: u8, nsid: u32, controller: u16, csi: u8) -> Result<Vec<u8>, u16> {
    let entry = Entry::new(0x06)
        .nsid(nsid)
        .word(10, u32::from(controller) << 16 | u32::from(cns))
        .word(11, u32::from(csi) << 24);
    setup.fetch(entry, 4096)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

/// Namespace identifiers at every limit, but for 1, the one there is.
const OTHERS: [u32; 5] = [0, 2, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

#[test]
fn structures_of_a_namespace_are_for_that_namespace_alone() {
    let setup = setup();
    for cns in [0x00, 0x03, 0x05, 0x08, 0x11, 0x12] {
        assert!(ask(&setup, cns, 1, 0, 0).is_ok(), "{cns:#x}");
        for nsid in OTHERS {
            let status = ask(&setup, cns, nsid, 0, 0);
            assert_eq!(status, Err(Status::INVALID_NAMESPACE), "{cns:#x} {nsid:#x}");
        }
    }
    assert_eq!(ask(&setup, 0x11, 1, 0, 0), ask(&setup, 0x00, 1, 0, 0));
}

#[test]
fn lists_begin_above_the_namespace_asked_for() {
    let setup = setup();
    let mut one = vec![0; 4096];
    one[0] = 1;
    for cns in [0x02, 0x07, 0x10] {
        assert_eq!(ask(&setup, cns, 0, 0, 0).as_ref(), Ok(&one), "{cns:#x}");
        for nsid in [1, 2, 0xffff_fffd] {
            assert_eq!(ask(&setup, cns, nsid, 0, 0), Ok(vec![0; 4096]), "{cns:#x} {nsid:#x}");
        }
        for nsid in [0xffff_fffe, 0xffff_ffff] {
            let status = ask(&setup, cns, nsid, 0, 0);
            assert_eq!(status, Err(Status::INVALID_NAMESPACE), "{cns:#x} {nsid:#x}");
        }
    }
}

#[test]
fn structures_of_the_controller_heed_no_namespace() {
    let setup = setup();
    for nsid in [0, 1, 2, 0xffff_fffe, 0xffff_ffff] {
        assert!(ask(&setup, 0x01, nsid, 0, 0).is_ok());
        assert_eq!(ask(&setup, 0x06, nsid, 0, 0), Ok(vec![0; 4096]), "no limits of its own");
        assert!(ask(&setup, 0x13, nsid, 0, 0).is_ok());
    }
}

#[test]
fn lists_of_controllers_begin_at_the_one_asked_for() {
    let setup = setup();
    let mut one = vec![0; 4096];
    one[0] = 1;
    for (cns, nsid) in [(0x12, 1), (0x13, 0)] {
        assert_eq!(ask(&setup, cns, nsid, 0, 0).as_ref(), Ok(&one));
        for controller in [1, 0xfffe, 0xffff] {
            assert_eq!(ask(&setup, cns, nsid, controller, 0), Ok(vec![0; 4096]));
        }
    }
    // The I/O command sets of a controller: the first combination is NVM alone.
    for controller in [0, 0xffff] {
        assert_eq!(ask(&setup, 0x1c, 0, controller, 0).as_ref(), Ok(&one));
    }
    assert_eq!(ask(&setup, 0x1c, 0, 1, 0), Err(Status::INVALID_FIELD));
}

#[test]
fn only_the_nvm_command_set_is_there() {
    let setup = setup();
    for csi in [1, 2, 3, 0x30, 0xff] {
        for cns in [0x05, 0x06, 0x07] {
            let status = ask(&setup, cns, 1, 0, csi);
            assert_eq!(status, Err(Status::INVALID_FIELD), "{cns:#x} {csi}");
        }
        // Elsewhere the field means nothing.
        assert!(ask(&setup, 0x00, 1, 0, csi).is_ok());
    }
}

/// What is not there is Invalid Field, with no word about the namespace.
#[test]
fn an_unknown_structure_is_an_invalid_field() {
    let setup = setup();
    let known = [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x08, 0x10, 0x11, 0x12, 0x13, 0x1c];
    for cns in (0..=255u8).filter(|cns| !known.contains(cns)) {
        for nsid in [0, 1, 0xffff_ffff] {
            let entry = Entry::new(0x06).nsid(nsid).word(10, u32::from(cns));
            assert_eq!(setup.refused(entry), Status::INVALID_FIELD, "{cns:#x}");
        }
    }
}

#[test]
fn data_lies_wherever_the_pointers_say() {
    let setup = setup();
    let expected = ask(&setup, 0x01, 0, 0, 0).unwrap();
    for offset in [4, 512, 2048, 4092] {
        let data = Data::scattered(&setup.memory, 4096, offset).unwrap();
        data.fill(0xee);
        let entry = Entry::new(0x06).word(10, 1).prp(&data.prp().unwrap());
        assert!(setup.admin(entry).status.is_success());
        assert!(data.to_vec() == expected, "at {offset}");
        assert_eq!(data.spilt(0xee), 0, "at {offset}");
    }
    let page = setup.data(4096).pages()[0];
    for (prp1, prp2, code) in [
        (page + 1, 0, Status::PRP_OFFSET_INVALID),
        (page + 2, 0, Status::PRP_OFFSET_INVALID),
        (page + 4, page + 4, Status::PRP_OFFSET_INVALID),
        (64 * MIB, 0, Status::DATA_TRANSFER_ERROR),
        (page + 4, !4095, Status::DATA_TRANSFER_ERROR),
    ] {
        let entry = Entry::new(0x06).word(10, 1).prp(&Prp::raw(prp1, prp2));
        assert_eq!(setup.refused(entry), code, "{prp1:#x} {prp2:#x}");
    }
}

#[test]
fn the_controller_says_what_it_has() {
    let setup = setup();
    let id = ask(&setup, 0x01, 0, 0, 0).unwrap();
    assert_eq!((half(&id, 0), half(&id, 2)), (0xfb5d, 0));
    assert_eq!(&id[4..24], b"TEST                ");
    assert_eq!(&id[24..64], format!("{:<40}", "bhyve-NVMe").as_bytes());
    assert_eq!(&id[64..72], b"1.0     ");
    assert_eq!(id[73..76], [0xfc, 0x9c, 0x58], "the Foundation's OUI, lowest byte first");
    assert_eq!(id[77], 9, "MDTS");
    assert_eq!(word(&id, 80), setup.nvme.read32(0x08), "VER is VS");
    assert_eq!(word(&id, 80), 0x0002_0000);
    assert_eq!(word(&id, 92), 1 << 8, "OAES");
    assert_eq!(word(&id, 96), 1, "CTRATT");
    assert_eq!(id[111], 1, "I/O controller");
    assert_eq!(half(&id, 256), 1 << 8 | 1 << 1, "OACS");
    assert_eq!(id[258..260], [2, 4], "ACL, AERL");
    assert_eq!(id[260..263], [0b11, 0b10_0111, 63], "FRMW, LPA, ELPE");
    assert_eq!((half(&id, 266), half(&id, 268)), (0x157, 0x157), "WCTEMP, CCTEMP");
    assert_eq!(half(&id, 320), 10, "KAS");
    assert_eq!(id[512..514], [0x66, 0x44]);
    assert_eq!(word(&id, 516), 1, "NN");
    assert_eq!(half(&id, 520) & 0b101_0000, 0b101_0000, "ONCS: select, timestamp");
    assert_eq!(half(&id, 520) & 0b10, 0, "ONCS: no Write Uncorrectable");
    assert_eq!(id[524..526], [0, 0b111], "FNA, VWC");
    assert_eq!(half(&id, 526), 0, "AWUN");
    assert!(id[768..].starts_with(b"nqn.2013-12.org.freebsd:bhyve-test-0-4-0\0"));
}

/// The granularity is the store's physical sector; nothing larger than a
/// logical block is promised to be atomic.
#[test]
fn the_namespace_is_what_the_store_gives() {
    for (block_size, physical, granule_z) in
        [(512, 512, 0), (512, 4096, 7), (512, 131_072, 255), (4096, 4096, 0), (8192, 4096, 0)]
    {
        let settings = Settings { block_size, ..settings() };
        let bytes = 16 * MIB;
        let setup = setup_with(settings, bytes, |gate| gate.physical(physical));
        let ns = ask(&setup, 0x00, 1, 0, 0).unwrap();
        let blocks = bytes / u64::from(block_size);
        for at in [0, 8, 16] {
            assert_eq!(ns[at..at + 8], blocks.to_le_bytes());
        }
        assert_eq!(ns[24], 1 << 4, "NSFEAT");
        assert_eq!(ns[25..29], [0, 0, 0, 0], "one format, no metadata");
        assert_eq!(ns[32], 0x80, "FPI: supported, nothing to do");
        assert_eq!(ns[34..48], [0; 14], "atomic units, NOIOB and NVMCAP's like");
        assert_eq!(ns[48..56], bytes.to_le_bytes(), "NVMCAP");
        for at in [64, 66, 68, 70, 72] {
            assert_eq!(half(&ns, at), granule_z, "{block_size}/{physical}: {at}");
        }
        assert_eq!(ns[99], 0, "NSATTR");
        assert_eq!(word(&ns, 128), block_size.trailing_zeros() << 16);
        assert_eq!(ns[132..384], [0; 252]);
    }
}

#[test]
fn a_read_only_store_shows_wherever_attributes_do() {
    for read_only in [false, true] {
        let setup =
            setup_with(settings(), MIB, |gate| if read_only { gate.read_only() } else { gate });
        assert_eq!(ask(&setup, 0x00, 1, 0, 0).unwrap()[99], u8::from(read_only));
        let independent = ask(&setup, 0x08, 1, 0, 0).unwrap();
        assert_eq!(independent[8], u8::from(read_only));
        assert_eq!(independent[14], 1, "NSTAT: ready");
        // Bit 4 says that there are granularities in Identify Namespace, and
        // that the medium rotates here: Linux then schedules for a hard disk.
        assert_eq!(ask(&setup, 0x00, 1, 0, 0).unwrap()[24] & 1 << 4, 1 << 4);
        assert_eq!(independent[0], 0, "NSFEAT");
        assert_eq!(independent[15..], [0; 4081]);
    }
}

/// EUI64, NGUID and UUID; none is zero, and where they are told twice they
/// agree.
#[test]
fn identifiers_agree_and_are_never_zero() {
    let setup = setup();
    let ns = ask(&setup, 0x00, 1, 0, 0).unwrap();
    let list = ask(&setup, 0x03, 1, 0, 0).unwrap();
    let mut rest = &list[..];
    let mut seen = Vec::new();
    while rest[0] != 0 {
        let (kind, len) = (rest[0], usize::from(rest[1]));
        assert_eq!(rest[2..4], [0, 0]);
        assert!(rest[4..4 + len].iter().any(|byte| *byte != 0), "type {kind} is zero");
        seen.push((kind, rest[4..4 + len].to_vec()));
        rest = &rest[4 + len..];
    }
    assert!(rest.iter().all(|byte| *byte == 0));
    assert_eq!(seen[0], (1, ns[120..128].to_vec()), "EUI64");
    assert_eq!(seen[1], (2, ns[104..120].to_vec()), "NGUID");
    assert_eq!((seen[2].0, seen[2].1.len(), seen.len()), (3, 16, 3), "UUID");

    // Without the option only the EUI64 is told: guests keep their disks' names.
    let mut plain = settings();
    plain.identity.global_ids = false;
    let setup = setup_with(plain, MIB, |gate| gate);
    let list = ask(&setup, 0x03, 1, 0, 0).unwrap();
    assert_eq!(list[..4], [1, 8, 0, 0]);
    assert_eq!(list[12..], [0; 4084]);
    assert_eq!(ask(&setup, 0x00, 1, 0, 0).unwrap()[104..120], [0; 16]);
}
