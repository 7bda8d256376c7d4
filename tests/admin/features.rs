// SPDX-License-Identifier: BSD-2-Clause

use super::*;

/// Features that are a number: identifier, default, another legal value.
const NUMBERS: [(u8, u32, u32); 9] = [
    (0x01, 0x0000_0007, 0x0102_0304),
    (0x02, 0, 0x0000_0020),
    (0x04, 0x0000_0157, 0x0000_0150),
    (0x05, 0, 0x0000_1234),
    (0x06, 1, 0),
    (0x08, 0, 0x0000_0203),
    (0x0a, 0, 1),
    (0x0b, 0, 0x0000_011f),
    (0x0f, 0, 60_000),
];

fn nsid_of(feature: u8) -> u32 {
    if feature == 0x05 { 1 } else { 0 }
}

fn get(feature: u8, select: u32, nsid: u32) -> Entry {
    Entry::new(0x0a).nsid(nsid).word(10, select << 8 | u32::from(feature))
}

fn set(feature: u8, value: u32, nsid: u32) -> Entry {
    Entry::new(0x09).nsid(nsid).word(10, u32::from(feature)).word(11, value)
}

#[test]
fn values_are_read_back_under_each_selection_and_reset_to_their_defaults() {
    let setup = setup();
    for (feature, default, value) in NUMBERS {
        let nsid = nsid_of(feature);
        let read = |select| setup.nvme.get_feature(feature, select, nsid).unwrap();
        let capabilities = if feature == 0x05 { 0b110 } else { 0b100 };
        let all = || [0, 1, 2, 3].map(read);
        assert_eq!(all(), [default, default, default, capabilities], "{feature:#x}");
        setup.nvme.set_feature(feature, value, nsid).unwrap();
        assert_eq!(all(), [value, default, default, capabilities], "{feature:#x}");
        for select in 4..8 {
            let code = setup.refused(get(feature, select, nsid));
            assert_eq!(code, Status::INVALID_FIELD, "{feature:#x}");
        }
        // Nothing is saveable, and what was refused changes nothing.
        let code =
            setup.refused(set(feature, default, nsid).word(10, 1 << 31 | u32::from(feature)));
        assert_eq!(code, Status::FEATURE_NOT_SAVEABLE);
        assert_eq!(read(0), value, "{feature:#x}");
    }
    setup.reset();
    for (feature, default, _) in NUMBERS {
        let now = setup.nvme.get_feature(feature, 0, nsid_of(feature)).unwrap();
        assert_eq!(now, default, "{feature:#x} after a reset");
    }
}

#[test]
fn unknown_features_are_an_invalid_field() {
    let setup = setup();
    let known = [0x07, 0x09, 0x0e, 0x16, 0x81];
    for feature in 0..=255u8 {
        if known.contains(&feature) || NUMBERS.iter().any(|(id, ..)| *id == feature) {
            continue;
        }
        for select in 0..4 {
            let code = setup.refused(get(feature, select, 0));
            assert_eq!(code, Status::INVALID_FIELD, "{feature:#x}");
        }
        assert_eq!(setup.refused(set(feature, 0, 0)), Status::INVALID_FIELD, "{feature:#x}");
    }
    // Without a cache there is no such feature.
    let setup = setup_with(settings(), MIB, Gate::uncached);
    assert_eq!(setup.refused(get(0x06, 0, 0)), Status::INVALID_FIELD);
    assert_eq!(setup.refused(set(0x06, 1, 0)), Status::INVALID_FIELD);
}

#[test]
fn a_feature_belongs_to_the_controller_or_to_the_namespace() {
    let setup = setup();
    for (feature, default, _) in NUMBERS.into_iter().filter(|(id, ..)| *id != 0x05) {
        assert!(setup.admin(set(feature, default, 0xffff_ffff)).status.is_success());
        assert_eq!(setup.refused(set(feature, default, 1)), 0x10f, "not namespace specific");
        for nsid in [2, 0xffff_fffe] {
            let code = setup.refused(set(feature, default, nsid));
            assert_eq!(code, Status::INVALID_NAMESPACE, "{feature:#x}");
        }
    }
    for nsid in [1, 0xffff_ffff] {
        assert!(setup.admin(set(0x05, 7, nsid)).status.is_success());
    }
    for nsid in [0, 2, 0xffff_fffe] {
        assert_eq!(setup.refused(set(0x05, 7, nsid)), Status::INVALID_NAMESPACE);
        assert_eq!(setup.refused(get(0x05, 0, nsid)), Status::INVALID_NAMESPACE);
    }
    assert_eq!(setup.refused(get(0x05, 0, 0xffff_ffff)), Status::INVALID_NAMESPACE);
}

#[test]
fn values_that_cannot_be_are_refused() {
    let setup = setup();
    for (feature, value, nsid) in [
        (0x02, 1, 0),           // no power state 1
        (0x04, 0x0001_0100, 0), // no sensor 1
        (0x04, 0x0020_0100, 0), // neither over nor under
        (0x05, 1 << 16, 1),     // deallocated blocks are not told apart
        (0x07, 0x0000_ffff, 0), // too many
        (0x07, 0xffff_0000, 0),
        (0x09, 5, 0), // vectors are 0 to 4
        (0x09, 0x0001_ffff, 0),
    ] {
        let code = setup.refused(set(feature, value, nsid));
        assert_eq!(code, Status::INVALID_FIELD, "{feature:#x} {value:#x}");
    }
    for cdw11 in [0x0001_0000, 0x000f_0000, 0x0020_0000] {
        assert_eq!(setup.refused(get(0x04, 0, 0).word(11, cdw11)), Status::INVALID_FIELD);
    }
    assert_eq!(setup.refused(get(0x09, 0, 0).word(11, 5)), Status::INVALID_FIELD);
}

/// How many queues there can be, how many the guest was granted, and what it
/// may create are three things.
#[test]
fn granted_and_maximum_queues_are_kept_apart() {
    let setup = setup();
    let queues = |select| setup.nvme.get_feature(0x07, select, 0).unwrap();
    assert_eq!([0, 1, 2].map(queues), [0x0003_0003; 3], "all, before the guest asks");
    assert_eq!(setup.nvme.set_queue_count(2).unwrap(), (2, 2));
    assert_eq!([0, 1, 2].map(queues), [0x0001_0001, 0x0003_0003, 0x0003_0003]);
    assert_eq!(setup.nvme.create_cq(3, 16, None).err().unwrap().code(), Some(0x101));
    assert_eq!(setup.nvme.set_queue_count(9).unwrap(), (4, 4));
    setup.pair(4, 16);
    assert_eq!(setup.refused(set(0x07, 0, 0)), Status::SEQUENCE_ERROR);
    assert_eq!(queues(0), 0x0003_0003);
    setup.reset();
    assert_eq!(queues(0), 0x0003_0003);
    assert_eq!(setup.nvme.set_queue_count(1).unwrap(), (1, 1));
    setup.reset();
    assert_eq!(queues(0), 0x0003_0003);
}

#[test]
fn each_vector_has_its_own_coalescing() {
    let setup = setup();
    let vector = |vector: u32| setup.admin(get(0x09, 0, 0).word(11, vector)).dw0;
    assert_eq!([0, 1, 4].map(vector), [0, 1, 4]);
    setup.nvme.set_feature(0x09, 1 << 16 | 4, 0).unwrap();
    assert_eq!([0, 1, 4].map(vector), [0, 1, 1 << 16 | 4]);
    assert_eq!(setup.admin(get(0x09, 1, 0).word(11, 4)).dw0, 4, "default");
    setup.reset();
    assert_eq!(vector(4), 4);
}

#[test]
fn both_temperature_thresholds_are_kept() {
    let setup = setup();
    let under = |select| setup.admin(get(0x04, select, 0).word(11, 1 << 20)).dw0;
    assert_eq!([0, 1].map(under), [0, 0]);
    setup.nvme.set_feature(0x04, 1 << 20 | 0x100, 0).unwrap();
    assert_eq!([0, 1].map(under), [0x100, 0]);
    // All sensors at once: there is one.
    setup.nvme.set_feature(0x04, 0xf << 16 | 0x160, 0).unwrap();
    assert_eq!(setup.nvme.get_feature(0x04, 0, 0).unwrap(), 0x160);
    assert_eq!(under(0), 0x100);
}

/// Sends `bytes` as the data structure of a feature.
fn send(setup: &Setup, feature: u8, cdw11: u32, bytes: &[u8]) -> Completion {
    let data = setup.data(bytes.len());
    data.write(bytes);
    setup.admin(set(feature, cdw11, 0).prp(&data.prp().unwrap()))
}

fn fetch(setup: &Setup, feature: u8, select: u32, cdw11: u32, len: usize) -> Vec<u8> {
    setup.fetch(get(feature, select, 0).word(11, cdw11), len).unwrap()
}

#[test]
fn the_timestamp_goes_on_from_what_was_set() {
    let setup = setup();
    let now = |select| {
        let bytes = fetch(&setup, 0x0e, select, 0, 8);
        let mut eight: [u8; 8] = bytes[..8].try_into().unwrap();
        eight[6] = 0;
        (u64::from_le_bytes(eight), bytes[6])
    };
    let (first, origin) = now(0);
    assert!(first < 60_000 && origin == 0, "from the reset on: {first}");
    let base = 0x0192_3456_789a_u64;
    let mut bytes = base.to_le_bytes();
    bytes[6] = 0xff;
    bytes[7] = 0xff;
    assert!(send(&setup, 0x0e, 0, &bytes).status.is_success());
    let (second, origin) = now(0);
    assert!((base..base + 60_000).contains(&second), "{second:#x}");
    assert_eq!(origin, 0b0010, "set by the guest");
    assert!(soon(|| now(0).0 > second), "it stands still");
    assert_eq!(now(1), (0, 0), "default");
    assert_eq!(setup.nvme.get_feature(0x0e, 3, 0).unwrap(), 0b100);
    setup.reset();
    assert!(now(0).0 < 60_000 && now(0).1 == 0);
}

#[test]
fn the_timestamp_wraps_at_48_bits() {
    let setup = setup();
    assert!(send(&setup, 0x0e, 0, &[0xff; 8]).status.is_success());
    assert!(soon(|| {
        let bytes = fetch(&setup, 0x0e, 0, 0, 8);
        assert_eq!(bytes[6..], [0b0010, 0]);
        bytes[5] == 0
    }));
}

#[test]
fn the_host_says_how_it_behaves() {
    let setup = setup();
    let mut behavior = vec![0; 512];
    assert_eq!(fetch(&setup, 0x16, 0, 0, 512), behavior);
    behavior[0] = 1;
    assert!(send(&setup, 0x16, 0, &behavior).status.is_success());
    assert_eq!(fetch(&setup, 0x16, 0, 0, 512), behavior);
    assert_eq!(fetch(&setup, 0x16, 1, 0, 512), vec![0; 512]);
    // Values that are reserved, and what is not there.
    for (at, value) in [(0, 2), (0, 0xff), (1, 1), (2, 1)] {
        let mut wrong = vec![0; 512];
        wrong[at] = value;
        let status = send(&setup, 0x16, 0, &wrong).status;
        assert_eq!(status.code(), Status::INVALID_FIELD, "{at} {value}");
    }
    assert_eq!(fetch(&setup, 0x16, 0, 0, 512), behavior);
    setup.reset();
    assert_eq!(fetch(&setup, 0x16, 0, 0, 512), vec![0; 512]);
}

#[test]
fn the_host_identifier_has_8_or_16_bytes() {
    let setup = setup();
    let long: Vec<u8> = (1..=16).collect();
    assert_eq!(fetch(&setup, 0x81, 0, 1, 16), vec![0; 16]);
    assert!(send(&setup, 0x81, 1, &long).status.is_success());
    assert_eq!(fetch(&setup, 0x81, 0, 1, 16), long);
    assert!(send(&setup, 0x81, 0, &[9; 8]).status.is_success());
    assert_eq!(fetch(&setup, 0x81, 0, 0, 8), vec![9; 8]);
    assert_eq!(fetch(&setup, 0x81, 1, 0, 8), vec![0; 8]);
    setup.reset();
    assert_eq!(fetch(&setup, 0x81, 0, 1, 16), vec![0; 16]);
}

/// A data structure that cannot be reached changes nothing.
#[test]
fn structures_in_no_memory_are_transfer_errors() {
    let setup = setup();
    let nowhere = devhost::driver::Prp::raw(64 * MIB, 0);
    for feature in [0x0e, 0x16, 0x81] {
        for entry in [get(feature, 0, 0), set(feature, 0, 0)] {
            assert_eq!(setup.refused(entry.prp(&nowhere)), Status::DATA_TRANSFER_ERROR);
        }
    }
}
