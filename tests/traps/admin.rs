// SPDX-License-Identifier: BSD-2-Clause

//! Admin commands at the edges of what they take.

use devhost::driver::{Completion, Entry, Prp, Status, Wait, admin_opcode};
use devhost::rig::{RAM, Rig, STORES, Store, pause, read, write};
use std::time::{Duration, Instant};

fn run(rig: &Rig, entry: Entry) -> Completion {
    rig.nvme.admin().run(entry).unwrap()
}

fn code(rig: &Rig, entry: Entry) -> u16 {
    run(rig, entry).status.code()
}

/// The log pages there are, and their sizes in bytes.
const PAGES: [(u8, usize); 8] = [
    (0x00, 1024),
    (0x01, 4096),
    (0x02, 512),
    (0x03, 512),
    (0x04, 4096),
    (0x05, 4096),
    (0x12, 1024),
    (0x13, 1024),
];

/// Those that have nothing to say here: no namespace has changed, and there is
/// no management interface.
const EMPTY: [u8; 2] = [0x04, 0x13];

const MAX_TRANSFER: usize = 2 << 20;

fn get_log(page: u8, words: u32, offset: u64, prp: &Prp) -> Entry {
    let words_z = words.wrapping_sub(1);
    Entry::new(admin_opcode::GET_LOG_PAGE)
        .prp(prp)
        .word(10, (words_z & 0xffff) << 16 | 1 << 15 | u32::from(page))
        .word(11, words_z >> 16)
        .long(12, offset)
}

/// CVE-2024-51562: what is left of a page was computed from what was asked
/// for, not from what there is.
#[test]
fn log_pages_end_where_they_end_at_every_offset_and_length() {
    let rig = Rig::new(Store::Ram, "");
    // Something to be in the logs.
    assert_eq!(code(&rig, Entry::new(0x7f)), Status::INVALID_OPCODE);
    let data = rig.data(MAX_TRANSFER);
    let prp = data.prp().unwrap();
    for (page, size) in PAGES {
        let whole = rig.nvme.get_log(page, 0, 0, size, true).unwrap();
        let empty = whole.iter().all(|byte| *byte == 0);
        assert_eq!(empty, EMPTY.contains(&page), "page {page:#x}");
        for offset in [0, 4, size - 4, size, size + 4] {
            for len in [4, size, 4096, MAX_TRANSFER] {
                let entry = get_log(page, (len / 4) as u32, offset as u64, &prp);
                data.fill(0xee);
                let status = code(&rig, entry);
                if offset > size {
                    assert_eq!(status, Status::INVALID_FIELD, "{page} {offset} {len}");
                    continue;
                }
                assert_eq!(status, Status::SUCCESS, "{page} {offset} {len}");
                let mut expected = whole[offset..].to_vec();
                expected.resize(len.max(expected.len()), 0);
                let found = data.to_vec();
                assert!(found[..len] == expected[..len], "{page} {offset} {len}");
                assert!(found[len..].iter().all(|byte| *byte == 0xee), "{page} {offset} {len}");
            }
        }
        for offset in [1 << 32, 1 << 63, !3, u64::MAX, 2] {
            let status = code(&rig, get_log(page, 1, offset, &prp));
            assert_eq!(status, Status::INVALID_FIELD, "{page} {offset:#x}");
        }
    }
}

/// 16 GiB of log: refused, and at once.
#[test]
fn a_huge_log_length_does_not_hold_the_controller() {
    let rig = Rig::new(Store::Ram, "");
    let data = rig.data(4096);
    let prp = data.prp().unwrap();
    let begun = Instant::now();
    for (page, _) in PAGES {
        for words in [(MAX_TRANSFER / 4) as u32 + 1, 0x1_0000_u32 << 8, 0x8000_0000, 0] {
            // 0 words is 2^32 of them: the field is counted from zero.
            for offset in [0, 4] {
                let status = code(&rig, get_log(page, words, offset, &prp));
                assert_eq!(status, Status::INVALID_FIELD, "{page} {words:#x}");
            }
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn log_pages_that_are_not_there() {
    let rig = Rig::new(Store::Ram, "");
    let data = rig.data(4096);
    let prp = data.prp().unwrap();
    for page in (0..=255).filter(|page| PAGES.iter().all(|(there, _)| there != page)) {
        assert_eq!(code(&rig, get_log(page, 1, 0, &prp)), Status::INVALID_LOG_PAGE, "{page}");
    }
}

/// One slot, read-only, with the revision that Identify tells.
#[test]
fn the_firmware_slot_log_agrees_with_identify() {
    let rig = Rig::new(Store::Ram, "");
    let identify = rig.nvme.identify(1, 0).unwrap();
    let log = rig.nvme.get_log(3, 0, 0, 512, true).unwrap();
    assert_eq!(log[0], 1);
    assert_eq!(log[8..16], identify[64..72]);
    assert!(log[16..].iter().all(|byte| *byte == 0));
    assert_eq!(identify[260], 0b011, "FRMW: one slot, read-only");
}

/// Linux asks for structures of later versions; that is an Invalid Field, and
/// an invalid namespace only where a namespace is meant.
#[test]
fn identify_answers_every_cns() {
    let rig = Rig::new(Store::Ram, "");
    let data = rig.data(4096);
    let prp = data.prp().unwrap();
    for cns in 0..=255u32 {
        for nsid in [0, 1, 2, 0xffff_fffe, 0xffff_ffff] {
            let entry = Entry::new(admin_opcode::IDENTIFY).nsid(nsid).prp(&prp).word(10, cns);
            let expected = match (cns, nsid) {
                (0 | 3 | 5 | 8 | 0x11 | 0x12, 1) | (1 | 6 | 0x13 | 0x1c, _) => Status::SUCCESS,
                (2 | 7 | 0x10, 0..=2) => Status::SUCCESS,
                (0 | 2 | 3 | 5 | 7 | 8 | 0x10..=0x12, _) => Status::INVALID_NAMESPACE,
                _ => Status::INVALID_FIELD,
            };
            assert_eq!(code(&rig, entry), expected, "CNS {cns:#x}, NSID {nsid:#x}");
        }
    }
    for (after, first) in [(0u32, 1u32), (1, 0), (2, 0)] {
        let list = rig.nvme.identify(2, after).unwrap();
        assert_eq!(u32::from_le_bytes(list[..4].try_into().unwrap()), first, "after {after}");
        assert!(list[4..].iter().all(|byte| *byte == 0));
    }
}

/// What the review of the in-tree device asked for, and what users saw since.
#[test]
fn identify_says_what_is_so() {
    let rig = Rig::new(Store::Ram, "");
    let data = rig.nvme.identify(1, 0).unwrap();
    let ascii = |field: &[u8]| field.iter().all(|byte| (0x20..0x7f).contains(byte));
    assert!(ascii(&data[4..72]), "serial, model and revision are padded with spaces");
    assert_eq!(data[73..76], [0xfc, 0x9c, 0x58], "58-9C-FC, least significant byte first");
    assert_eq!(data[77], 9, "MDTS: 2 MiB");
    assert_eq!(data[80..84], rig.nvme.read32(8).to_le_bytes(), "VER is VS");
    assert_eq!(data[266..268], 0x0157u16.to_le_bytes(), "WCTEMP");
    assert_ne!(data[268..270], [0, 0], "CCTEMP");
    // Optional admin commands: Format NVM, and so no namespace management.
    assert_eq!(data[256..258], [1 << 1, 1], "OACS");
}

/// One value in force, from Set Features to the next reset.
#[test]
fn features_return_what_was_set_and_their_defaults_after_a_reset() {
    // Identifier, what is set, what is then read.
    let cases: [(u8, u32, u32); 9] = [
        (0x01, 0x0102_0304, 0x0102_0304),
        (0x02, 0, 0),
        (0x04, 0x0140, 0x0140),
        (0x05, 77, 77),
        (0x06, 0, 0),
        (0x07, 0x0002_0002, 0x0002_0002),
        (0x08, 0x0507, 0x0507),
        (0x0a, 1, 1),
        (0x0b, 0x31d, 0x31d),
    ];
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        for (feature, value, read) in cases {
            // Error Recovery belongs to the namespace.
            let nsid = u32::from(feature == 5);
            let get = |select| rig.nvme.get_feature(feature, select, nsid);
            if feature == 6 && store == Store::Ram {
                // No volatile cache, no feature.
                assert_eq!(get(0).unwrap_err().code(), Some(Status::INVALID_FIELD));
                continue;
            }
            let default = get(1).unwrap();
            assert_eq!(get(0).unwrap(), default, "{feature:#x}");
            assert_eq!(get(2).unwrap(), default, "{feature:#x}: nothing is saved");
            assert_eq!(get(3).unwrap() & 0b101, 0b100, "{feature:#x}: changeable, not saveable");
            rig.nvme.set_feature(feature, value, nsid).unwrap();
            assert_eq!(get(0).unwrap(), read, "{feature:#x}");
            assert_eq!(get(1).unwrap(), default, "{feature:#x}");
            let save = Entry::new(admin_opcode::SET_FEATURES)
                .nsid(nsid)
                .word(10, 1 << 31 | u32::from(feature))
                .word(11, value);
            assert_eq!(code(&rig, save), Status::FEATURE_NOT_SAVEABLE, "{feature:#x}");
        }
        let values = |rig: &Rig| -> Vec<Option<u32>> {
            let get = |feature| rig.nvme.get_feature(feature, 0, u32::from(feature == 5));
            cases.iter().map(|(feature, ..)| get(*feature).ok()).collect()
        };
        let set = values(&rig);
        rig.nvme.disable().unwrap();
        rig.enable();
        let fresh = values(&Rig::new(store, options));
        assert_ne!(set, fresh);
        assert_eq!(values(&rig), fresh);
    }
}

#[test]
fn features_that_are_not_there_and_values_that_cannot_be() {
    let rig = Rig::new(Store::Ram, "");
    for feature in [0x00, 0x03, 0x0c, 0x0d, 0x10, 0x11, 0x7f, 0x80, 0xc0, 0xff] {
        for entry in [
            Entry::new(admin_opcode::GET_FEATURES).word(10, feature),
            Entry::new(admin_opcode::SET_FEATURES).word(10, feature),
        ] {
            assert_eq!(code(&rig, entry), Status::INVALID_FIELD, "{feature:#x}");
        }
    }
    let set = |feature: u32, value: u32| {
        code(&rig, Entry::new(admin_opcode::SET_FEATURES).word(10, feature).word(11, value))
    };
    for (feature, value) in [
        // Queues: FFFFh of either kind.
        (0x07, 0xffff_0000),
        (0x07, 0x0000_ffff),
        (0x07, 0xffff_ffff),
        // Vectors that the table has not.
        (0x09, 17),
        (0x09, 0xffff),
        // A power state and a sensor that are not there.
        (0x02, 1),
        (0x04, 0x0001_0000),
        (0x04, 0x0020_0000),
    ] {
        assert_eq!(set(feature, value), Status::INVALID_FIELD, "{feature:#x} {value:#x}");
    }
    for vector in 0..17 {
        assert_eq!(set(0x09, 1 << 16 | vector), Status::SUCCESS);
        let get = Entry::new(admin_opcode::GET_FEATURES).word(10, 9).word(11, vector);
        assert_eq!(run(&rig, get).dw0, 1 << 16 | vector);
    }
    let get =
        |select: u32| code(&rig, Entry::new(admin_opcode::GET_FEATURES).word(10, select << 8 | 1));
    assert!((4..8).all(|select| get(select) == Status::INVALID_FIELD));
}

/// Bit 0 of the answer says that nothing was aborted. A heap was once read
/// past its end by a queue of FFFFh.
#[test]
fn an_abort_of_nothing_says_so() {
    let rig = Rig::new(Store::Ram, "");
    let pair = rig.pair(1, 8);
    for sqid in [0, 1, 2, 16, 17, 0x7fff, 0xffff] {
        for cid in [0, 1, 31, 500, 0xffff] {
            assert!(!rig.nvme.abort(sqid, cid).unwrap(), "{sqid} {cid}");
        }
    }
    // Itself: its own identifier is the next that the driver gives.
    let admin = rig.nvme.admin();
    let cid = admin.submit(Entry::new(0x7f)).unwrap();
    admin.wait(cid).unwrap();
    for own in 0..64u32 {
        let completion = run(&rig, Entry::new(admin_opcode::ABORT).word(10, own << 16));
        assert!(completion.status.is_success() && completion.dw0 == 1, "{completion:?}");
    }
    pair.execute(read(&rig.data(512), 0)).unwrap();
}

/// More at once than ACL says, from a guest whose I/O timed out.
#[test]
fn a_flood_of_aborts_is_answered() {
    let rig = Rig::new(Store::Ram, "");
    let abort = Entry::new(admin_opcode::ABORT).word(10, 0xffff_0001);
    rig.nvme
        .admin()
        .stream(
            31,
            1000,
            |_| abort,
            |_, completion| {
                assert!(completion.status.is_success() && completion.dw0 == 1);
            },
        )
        .unwrap();
}

#[test]
fn an_event_request_can_be_aborted() {
    let rig = Rig::new(Store::Ram, "");
    let admin = rig.nvme.admin();
    for _ in 0..20 {
        let events: Vec<u16> = (0..5).map(|_| rig.nvme.request_event().unwrap()).collect();
        for event in events {
            assert!(rig.nvme.abort(0, event).unwrap());
            assert_eq!(admin.wait(event).unwrap().status.code(), Status::ABORTED_BY_REQUEST);
            assert!(!rig.nvme.abort(0, event).unwrap());
        }
    }
}

/// AERL + 1 are held, one more is refused, and a reset drops them all.
#[test]
fn event_requests_are_held_up_to_the_limit_and_gone_after_a_reset() {
    let rig = Rig::new(Store::Ram, "");
    for _ in 0..10 {
        let admin = rig.nvme.admin();
        let limit = usize::from(rig.nvme.identify(1, 0).unwrap()[259]) + 1;
        let held: Vec<u16> = (0..limit).map(|_| rig.nvme.request_event().unwrap()).collect();
        let more = code(&rig, Entry::new(admin_opcode::ASYNC_EVENT_REQUEST));
        assert_eq!(more, Status::AER_LIMIT_EXCEEDED);
        rig.nvme.identify(1, 0).unwrap();
        assert!(held.iter().all(|cid| admin.take(*cid).is_none()));
        rig.nvme.disable().unwrap();
        assert_eq!(admin.poll(), 0, "an event request was answered by a reset");
        rig.enable();
    }
}

/// A kind of event that was reported is not reported again until its log was
/// read; reading it with Retain Asynchronous Event leaves it so.
#[test]
fn an_event_is_masked_until_its_log_is_read() {
    let rig = Rig::new(Store::Ram, "");
    let admin = rig.nvme.admin();
    let bad = || rig.nvme.write32(rig.nvme.sq_doorbell(9), 1);
    let first = rig.nvme.request_event().unwrap();
    let second = rig.nvme.request_event().unwrap();
    bad();
    assert_eq!(admin.wait(first).unwrap().dw0, 0x0001_0000);
    for retain in [true, true, false] {
        bad();
        rig.nvme.get_log(1, 0, 0, 64, true).unwrap();
        pause(Duration::from_millis(2));
        admin.poll();
        assert!(admin.take(second).is_none(), "reported though its log was not read");
        rig.nvme.get_log(1, 0, 0, 64, retain).unwrap();
    }
    assert_eq!(admin.wait(second).unwrap().dw0, 0x0001_0000);
}

#[test]
fn unknown_opcodes_and_fused_commands_are_refused() {
    let rig = Rig::new(Store::Ram, "");
    let known =
        [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x10, 0x18, 0x7c, 0x80];
    for opcode in (0..=255).filter(|opcode| !known.contains(opcode)) {
        let completion = run(&rig, Entry::new(opcode).nsid(1));
        assert_eq!(completion.status.code(), Status::INVALID_OPCODE, "{opcode:#x}");
        assert!(completion.status.dnr());
    }
    for opcode in known {
        // Fused, first and second; and each selector of SGLs.
        for flags in [0x01, 0x02, 0x03, 0x40, 0x80, 0xc0] {
            let code = code(&rig, Entry::new(opcode).flags(flags));
            assert_eq!(code, Status::INVALID_FIELD, "{opcode:#x} {flags:#x}");
        }
    }
}

/// A failed Format once left the phase bit flipped, and the queue hung. What
/// fails here are commands of every kind.
#[test]
fn ten_thousand_failures_leave_the_queue_in_step() {
    let rig = Rig::new(Store::Ram, "");
    let failing = [
        Entry::new(admin_opcode::IDENTIFY).word(10, 0x77),
        Entry::new(admin_opcode::IDENTIFY).nsid(7).word(10, 0),
        Entry::new(admin_opcode::IDENTIFY).word(10, 1).prp(&Prp::raw(RAM, 0)),
        Entry::new(admin_opcode::SET_FEATURES).word(10, 0x07).word(11, 0xffff_ffff),
        Entry::new(admin_opcode::GET_LOG_PAGE).word(10, 0xc7),
        Entry::new(admin_opcode::DELETE_SQ).word(10, 5),
        Entry::new(admin_opcode::CREATE_CQ).word(10, 0xffff_0001).word(11, 1),
        // Format, of which there is one.
        Entry::new(0x80).nsid(1).word(10, 15),
    ];
    rig.nvme
        .admin()
        .stream(
            16,
            10_000,
            |n| failing[n % failing.len()],
            |n, completion| {
                assert!(!completion.status.is_success(), "{n}: {completion:?}");
            },
        )
        .unwrap();
    assert_eq!(rig.errors(), 10_000);
    let newest = rig.error_log(64);
    assert!(
        newest.iter().zip((0..).map(|n| 10_000 - n)).all(|(entry, count)| entry.count == count)
    );
    rig.nvme.identify(1, 0).unwrap();
}

/// SMART counts what was done; a page of zeroes makes a disk look as failing.
#[test]
fn the_health_log_counts() {
    for (store, options) in STORES {
        let rig = Rig::new(store, options);
        let pair = rig.nvme.create_pair(1, 8, Some(1), Wait::Interrupt).unwrap();
        let data = rig.data(512 * 100);
        for n in 0..30 {
            pair.execute(write(&data, n)).unwrap();
            pair.execute(read(&data, n)).unwrap();
            pair.execute(read(&data, n)).unwrap();
        }
        let log = rig.nvme.get_log(2, 0xffff_ffff, 0, 512, true).unwrap();
        let count = |at: usize| u128::from_le_bytes(log[at..at + 16].try_into().unwrap());
        assert_eq!((count(32), count(48)), (6, 3), "thousands of 512 bytes, rounded up");
        assert_eq!((count(64), count(80)), (60, 30), "commands");
        assert_eq!((log[0], log[3], log[5]), (0, 100, 0), "no warning, all spare, none used");
        assert!((273..=343).contains(&u16::from_le_bytes([log[1], log[2]])), "temperature");
    }
}
