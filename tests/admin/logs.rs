// SPDX-License-Identifier: BSD-2-Clause

use super::*;

/// The log pages there are, and their sizes in bytes.
const PAGES: [(u8, usize); 8] = [
    (0x00, 1024),
    (0x01, 64 * 64),
    (0x02, 512),
    (0x03, 512),
    (0x04, 4096),
    (0x05, 4096),
    (0x12, 1024),
    (0x13, 1024),
];

fn ask(setup: &Setup, page: u8, nsid: u32, offset: u64, len: usize) -> Result<Vec<u8>, u16> {
    setup.fetch(entry(page, nsid, offset, (len / 4 - 1) as u32), len)
}

fn entry(page: u8, nsid: u32, offset: u64, dwords_z: u32) -> Entry {
    Entry::new(0x02)
        .nsid(nsid)
        .word(10, (dwords_z & 0xffff) << 16 | u32::from(page))
        .word(11, dwords_z >> 16)
        .long(12, offset)
}

fn word(page: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(page[4 * index..4 * index + 4].try_into().unwrap())
}

/// Offsets and lengths at every limit: inside, it is the page; past its end,
/// zeroes; an offset beyond the page, an error. Never a byte of anything else.
#[test]
fn every_page_at_every_offset_and_length() {
    let setup = setup();
    for (page, size) in PAGES {
        let whole = ask(&setup, page, 0, 0, size).unwrap();
        for offset in [0, 4, size - 4, size] {
            for len in [4, size, 4096, 65536, 2 << 20] {
                let got = ask(&setup, page, 0, offset as u64, len).unwrap();
                let inside = (size - offset).min(len);
                assert!(
                    got[..inside] == whole[offset..offset + inside],
                    "{page:#x} {offset} {len}"
                );
                assert!(got[inside..].iter().all(|byte| *byte == 0), "{page:#x} {offset} {len}");
            }
        }
        for offset in [size as u64 + 4, 1 << 20, 1 << 32, 1 << 63, u64::MAX - 3, 1, 2, 6] {
            for len in [4, size] {
                let status = ask(&setup, page, 0, offset, len);
                assert_eq!(status, Err(Status::INVALID_FIELD), "{page:#x} {offset:#x}");
            }
        }
        // More than MDTS, up to the largest number that can be said.
        for dwords_z in [(2 << 20) / 4, 0xffff_fffe, 0xffff_ffff] {
            let begun = Instant::now();
            let code = setup.refused(entry(page, 0, 0, dwords_z));
            assert_eq!(code, Status::INVALID_FIELD, "{page:#x} {dwords_z:#x}");
            assert!(begun.elapsed() < Duration::from_secs(5), "it held the controller");
        }
    }
}

#[test]
fn unknown_pages_are_refused_as_such() {
    let setup = setup();
    for page in (0..=255).filter(|page| PAGES.iter().all(|(known, _)| known != page)) {
        assert_eq!(setup.refused(entry(page, 0, 0, 0)), Status::INVALID_LOG_PAGE, "{page:#x}");
    }
}

#[test]
fn pages_are_of_the_controller_and_health_of_the_namespace_too() {
    let setup = setup();
    for (page, _) in PAGES {
        for nsid in [0, 0xffff_ffff] {
            assert!(ask(&setup, page, nsid, 0, 4).is_ok(), "{page:#x}");
        }
        let code = if page == 0x02 { Status::INVALID_NAMESPACE } else { Status::INVALID_FIELD };
        for nsid in [2, 0xffff_fffe] {
            assert_eq!(ask(&setup, page, nsid, 0, 4), Err(code), "{page:#x}");
        }
        assert_eq!(ask(&setup, page, 1, 0, 4).is_ok(), page == 0x02, "{page:#x}");
    }
}

/// There is no UUID list and one command set: both fields mean nothing. No page
/// is a list that could be entered by an index.
#[test]
fn uuid_index_and_command_set_mean_nothing_and_an_index_is_refused() {
    let setup = setup();
    for (page, _) in PAGES {
        for word in [0x7f, 0x01, 0x0200_0000, 0xff00_0000] {
            assert!(setup.fetch(entry(page, 0, 0, 0).word(14, word), 4).is_ok(), "{page:#x}");
        }
        let indexed = entry(page, 0, 0, 0).word(14, 1 << 23);
        assert_eq!(setup.refused(indexed), Status::INVALID_FIELD, "{page:#x}");
    }
}

/// The page of pages names exactly those that are answered.
#[test]
fn supported_pages_are_those_that_are_there() {
    let setup = setup();
    let pages = ask(&setup, 0x00, 0, 0, 1024).unwrap();
    for page in 0..=255u8 {
        let there = ask(&setup, page, 0, 0, 4).is_ok();
        assert_eq!(word(&pages, usize::from(page)), u32::from(there), "{page:#x}");
    }
}

/// An opcode is in the effects log if, and only if, it is not refused as
/// unknown.
#[test]
fn command_effects_are_those_of_the_commands_that_are_there() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let log = ask(&setup, 0x05, 0, 0, 4096).unwrap();
    for opcode in 0..=255u8 {
        // With a flag that every known command refuses, so that none is done.
        let status = setup.admin(Entry::new(opcode).flags(0x80)).status;
        assert!(!status.is_success());
        let effects = word(&log, usize::from(opcode));
        let status = match opcode {
            // These would wait, or are tried elsewhere.
            0x0c | 0x80 => continue,
            _ => setup.admin(Entry::new(opcode).word(10, 0xfff0_fff0)).status,
        };
        let there = status.code() != Status::INVALID_OPCODE;
        assert_eq!(effects & 1 == 1, there, "admin {opcode:#x}");
    }
    for opcode in 0..=255u8 {
        let status = pair.run(Entry::new(opcode).nsid(9)).unwrap().status;
        let there = status.code() != Status::INVALID_OPCODE;
        assert_eq!(word(&log, 256 + usize::from(opcode)) & 1 == 1, there, "I/O {opcode:#x}");
    }
    // Format NVM changes contents and wants to be alone; Write changes contents.
    assert_eq!(word(&log, 0x80), 1 | 1 << 1 | 1 << 16 | 1 << 20);
    // Linux complains of any other bit of an I/O command.
    for opcode in 0..256 {
        let effects = word(&log, 256 + opcode);
        assert_eq!(effects & !0x3, 0, "I/O {opcode:#x}: {effects:#x}");
    }
    assert_eq!(word(&log, 256 + 1), 1 | 1 << 1);
    assert!(log[2048..].iter().all(|byte| *byte == 0));
}

#[test]
fn feature_effects_are_those_of_the_features_that_are_there() {
    for cached in [false, true] {
        let setup = setup_with(settings(), MIB, |gate| if cached { gate } else { gate.uncached() });
        let log = ask(&setup, 0x12, 0, 0, 1024).unwrap();
        for feature in 0..=255u8 {
            let there = setup.nvme.get_feature(feature, 3, 1).is_ok();
            let scope = if feature == 5 { 1 << 20 } else { 1 << 21 };
            let expected = if there { 1 | scope } else { 0 };
            assert_eq!(word(&log, usize::from(feature)), expected, "{feature:#x}");
        }
        assert_eq!(word(&log, 6) & 1 == 1, cached);
    }
    let setup = setup();
    assert_eq!(ask(&setup, 0x13, 0, 0, 1024), Ok(vec![0; 1024]), "no NVMe-MI commands");
}

#[test]
fn the_firmware_slot_has_the_revision_of_the_controller() {
    let setup = setup();
    let log = ask(&setup, 0x03, 0, 0, 512).unwrap();
    assert_eq!(log[0], 1);
    assert_eq!(log[8..16], setup.nvme.identify(1, 0).unwrap()[64..72]);
    assert!(log[16..].iter().all(|byte| *byte == 0));
}

#[test]
fn health_counts_what_was_done() {
    let setup = setup();
    let pair = setup.pair(1, 16);
    let data = setup.data(512);
    let count = |at: usize| {
        let log = ask(&setup, 0x02, 1, 0, 512).unwrap();
        u64::from_le_bytes(log[at..at + 8].try_into().unwrap())
    };
    assert_eq!([32, 48, 64, 80].map(count), [0; 4]);
    for lba in 0..3 {
        pair.execute(write(&data, lba)).unwrap();
    }
    pair.execute(read(&data, 0)).unwrap();
    // Thousands of 512 bytes, rounded up.
    assert_eq!([32, 48, 64, 80].map(count), [1, 1, 1, 3]);
    let big = setup.data(1 << 20);
    pair.execute(write(&big, 0)).unwrap();
    assert_eq!(count(48), 3, "2051 units of 512");
    setup.gate.fail(Some(bhyve_nvme::backend::Error::Io));
    pair.run(read(&data, 0)).unwrap();
    setup.gate.fail(None);
    assert_eq!((count(160), count(176)), (1, 1), "media errors, entries of the error log");
    let log = ask(&setup, 0x02, 0, 0, 512).unwrap();
    assert_eq!(u16::from_le_bytes([log[1], log[2]]), 296);
    assert_eq!((log[0], log[3], log[5]), (0, 100, 0));
    assert_eq!(count(112), 1, "power cycles");
}
