// SPDX-License-Identifier: BSD-2-Clause

//! SGLs: every descriptor type where it may and where it may not be.

use super::*;
use crate::data_pointer::MAX_DESCRIPTORS;

/// A descriptor's bytes: identifier (type and subtype), address, length.
fn descriptor(identifier: u8, address: u64, len: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[15] = identifier;
    bytes
}

const DATA: u8 = 0x00;
const BUCKET: u8 = 0x10;
const SEGMENT: u8 = 0x20;
const LAST: u8 = 0x30;

fn data(address: u64, len: u32) -> [u8; 16] {
    descriptor(DATA, address, len)
}

/// Puts descriptors at `at`; the pointer of type `identifier` to them.
fn put(ram: &Ram, identifier: u8, at: u64, list: &[[u8; 16]]) -> [u8; 16] {
    let bytes = list.concat();
    ram.0.segment().slice(at as usize, bytes.len()).unwrap().write(&bytes).unwrap();
    descriptor(identifier, at, bytes.len() as u32)
}

fn resolve(
    ram: &Ram,
    first: [u8; 16],
    len: usize,
    direction: Direction,
) -> Result<Segments, Status> {
    let mut command = Command::zeroed();
    command.flags = 0x40;
    let (low, high) = first.split_at(8);
    command.dptr = [
        u64::from_le_bytes(low.try_into().unwrap()).into(),
        u64::from_le_bytes(high.try_into().unwrap()).into(),
    ];
    let mut segments = Segments::default();
    super::super::resolve(&command, ram, len, direction, &mut segments)?;
    Ok(segments)
}

fn error(ram: &Ram, first: [u8; 16], len: usize) -> Option<Status> {
    resolve(ram, first, len, Direction::ToGuest).err()
}

/// What `parts` of guest memory hold, address and length.
fn held(ram: &Ram, parts: &[(u64, usize)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (address, len) in parts {
        let mut part = vec![0; *len];
        ram.map(*address, *len).unwrap().read(&mut part).unwrap();
        all.extend(part);
    }
    all
}

#[test]
fn a_data_block_is_any_run_of_bytes() {
    let ram = ram();
    for (address, len) in [(5 * PAGE, 4096), (5 * PAGE + 1, 4095), (PAGE - 3, 9000), (7, 512)] {
        let found = resolve(&ram, data(address, len as u32), len, Direction::FromGuest).unwrap();
        assert_eq!(bytes(&found), held(&ram, &[(address, len)]));
        assert_eq!(found.as_slice().len(), 1);
    }
    // More than the data: the rest of it need not even be memory.
    let last = (PAGES - 1) * PAGE;
    assert!(resolve(&ram, data(last, u32::MAX), 4096, Direction::ToGuest).is_ok());
}

#[test]
fn segments_are_followed_in_order() {
    let ram = ram();
    let tail = put(&ram, LAST, 3 * PAGE + 8, &[data(40 * PAGE + 2, 510), data(50 * PAGE, 1000)]);
    let middle = put(
        &ram,
        SEGMENT,
        2 * PAGE - 16,
        &[data(30 * PAGE, 1), data(0, 0), data(31 * PAGE, 1), tail],
    );
    let first = put(&ram, SEGMENT, PAGE, &[data(20 * PAGE, 512), middle]);
    let parts =
        [(20 * PAGE, 512), (30 * PAGE, 1), (31 * PAGE, 1), (40 * PAGE + 2, 510), (50 * PAGE, 1000)];
    let found = resolve(&ram, first, 2024, Direction::ToGuest).unwrap();
    assert_eq!(bytes(&found), held(&ram, &parts));
    // Longer than the data: it ends in the middle of the last block.
    let found = resolve(&ram, first, 1536, Direction::ToGuest).unwrap();
    assert_eq!(bytes(&found), held(&ram, &parts)[..1536]);
    assert_eq!(
        error(&ram, first, 2025),
        Some(Status::SGL_DATA_LENGTH_INVALID.do_not_retry()),
        "one byte short"
    );
}

#[test]
fn neighbouring_blocks_become_one_segment() {
    let ram = ram();
    let list: Vec<_> = (0..512).map(|n| data(100 * PAGE + n * PAGE, 4096)).collect();
    let first = put(&ram, LAST, 2 * PAGE + 16, &list);
    let found = resolve(&ram, first, MAX_TRANSFER, Direction::ToGuest).unwrap();
    assert_eq!(found.as_slice().len(), 1);
    assert_eq!(found.as_slice()[0].len(), MAX_TRANSFER);
}

/// A segment of more than a page, and as many blocks as there may be.
#[test]
fn the_longest_list_is_followed() {
    let ram = ram();
    let list: Vec<_> = (0..MAX_DESCRIPTORS as u64)
        .map(|n| data(1024 * PAGE + n * 512 % (900 * PAGE), 64))
        .collect();
    let first = put(&ram, LAST, 8 * PAGE, &list);
    let len = 64 * MAX_DESCRIPTORS;
    let found = resolve(&ram, first, len, Direction::ToGuest).unwrap();
    assert_eq!(crate::memory::total_len(found.as_slice()), len as u64);
    let too_long = put(&ram, LAST, 8 * PAGE, &[list, vec![data(PAGE, 64)]].concat());
    assert_eq!(error(&ram, too_long, len), Some(Status::SGL_COUNT_INVALID.do_not_retry()));
}

#[test]
fn bit_buckets_swallow_what_is_read() {
    let ram = ram();
    let list = [
        data(20 * PAGE, 512),
        descriptor(BUCKET, u64::MAX, 200_000),
        data(20 * PAGE + 512, 512),
        descriptor(BUCKET, 0, 0),
    ];
    let first = put(&ram, LAST, PAGE, &list);
    let found = resolve(&ram, first, 201_024, Direction::ToGuest).unwrap();
    let bytes: Vec<u8> = (0..201_024u32).map(|n| (n % 249) as u8 + 1).collect();
    found.write(&bytes).unwrap();
    let kept = held(&ram, &[(20 * PAGE, 1024)]);
    assert_eq!(kept[..512], bytes[..512]);
    assert_eq!(kept[512..], bytes[200_512..]);
    // All of it, from the command itself.
    let found = resolve(&ram, descriptor(BUCKET, 3, 4096), 4096, Direction::ToGuest).unwrap();
    assert_eq!(crate::memory::total_len(found.as_slice()), 4096);
    assert!(resolve(&ram, descriptor(BUCKET, 3, u32::MAX), 4096, Direction::ToGuest).is_ok());
}

#[test]
fn bit_buckets_stand_for_nothing_in_what_is_written() {
    let ram = ram();
    let list = [data(20 * PAGE, 512), descriptor(BUCKET, 9, 512), data(22 * PAGE, 512)];
    let first = put(&ram, LAST, PAGE, &list);
    let found = resolve(&ram, first, 1024, Direction::FromGuest).unwrap();
    assert_eq!(bytes(&found), held(&ram, &[(20 * PAGE, 512), (22 * PAGE, 512)]));
    let short = resolve(&ram, first, 1025, Direction::FromGuest).err();
    assert_eq!(short, Some(Status::SGL_DATA_LENGTH_INVALID.do_not_retry()));
}

#[test]
fn types_that_are_not_supported_are_refused_everywhere() {
    let ram = ram();
    let invalid = Some(Status::SGL_TYPE_INVALID.do_not_retry());
    for kind in 4..16u8 {
        let one = descriptor(kind << 4, 20 * PAGE, 512);
        assert_eq!(error(&ram, one, 512), invalid, "type {kind:x}");
        let first = put(&ram, LAST, PAGE, &[data(20 * PAGE, 256), one]);
        assert_eq!(error(&ram, first, 512), invalid, "type {kind:x}");
    }
    // Offsets, and subtypes of transports that are not this one.
    for kind in [DATA, BUCKET, SEGMENT, LAST] {
        for subtype in 1..16 {
            let one = descriptor(kind | subtype, 20 * PAGE, 512);
            assert_eq!(error(&ram, one, 512), invalid, "{kind:x} {subtype:x}");
        }
    }
}

#[test]
fn malformed_segments_are_refused() {
    let ram = ram();
    let invalid = Some(Status::SGL_SEGMENT_INVALID.do_not_retry());
    put(&ram, LAST, PAGE, &[data(20 * PAGE, 512); 4]);
    for pointer in [SEGMENT, LAST] {
        for len in [0, 1, 8, 15, 17, 31, u32::MAX] {
            let first = descriptor(pointer, PAGE, len);
            assert_eq!(error(&ram, first, 4096), invalid, "{pointer:x} {len}");
        }
    }
    // A segment that is not the last one, and ends in data.
    let first = put(&ram, SEGMENT, PAGE, &[data(20 * PAGE, 512); 4]);
    assert_eq!(error(&ram, first, 4096), invalid);
    // The last one, and it ends in a pointer.
    for pointer in [SEGMENT, LAST] {
        let more = put(&ram, pointer, 2 * PAGE, &[data(20 * PAGE, 4096)]);
        let first = put(&ram, LAST, PAGE, &[data(20 * PAGE, 512), more]);
        assert_eq!(error(&ram, first, 4096), invalid, "{pointer:x}");
    }
}

#[test]
fn a_pointer_is_the_last_of_its_segment() {
    let ram = ram();
    for (kind, pointer) in [(SEGMENT, SEGMENT), (SEGMENT, LAST), (LAST, SEGMENT), (LAST, LAST)] {
        let more = put(&ram, pointer, 2 * PAGE, &[data(20 * PAGE, 4096)]);
        let first = put(&ram, kind, PAGE, &[more, data(20 * PAGE, 4096)]);
        assert_eq!(
            error(&ram, first, 4096),
            Some(Status::SGL_COUNT_INVALID.do_not_retry()),
            "{kind:x} {pointer:x}"
        );
    }
}

/// Chained to itself, with or without data that leads nowhere.
#[test]
fn a_chain_without_end_ends() {
    let ram = ram();
    let count = Some(Status::SGL_COUNT_INVALID.do_not_retry());
    let alone = descriptor(SEGMENT, PAGE, 16);
    put(&ram, SEGMENT, PAGE, &[alone]);
    assert_eq!(error(&ram, alone, 512), count);
    let with_nothing = descriptor(SEGMENT, PAGE, 32);
    put(&ram, SEGMENT, PAGE, &[data(20 * PAGE, 0), with_nothing]);
    assert_eq!(error(&ram, with_nothing, 512), count);
    // With data, it ends with the transfer.
    let with_data = descriptor(SEGMENT, PAGE, 32);
    put(&ram, SEGMENT, PAGE, &[data(20 * PAGE, 512), with_data]);
    let found = resolve(&ram, with_data, MAX_TRANSFER, Direction::ToGuest).unwrap();
    assert_eq!(crate::memory::total_len(found.as_slice()), MAX_TRANSFER as u64);
}

#[test]
fn what_is_no_memory_is_refused() {
    let ram = ram();
    let end = PAGES * PAGE;
    let no_memory = Some(Status::DATA_TRANSFER_ERROR.do_not_retry());
    for address in [end, end - 256, 0xc000_0000, 1 << 63, u64::MAX - 15, u64::MAX] {
        assert_eq!(error(&ram, data(address, 512), 512), no_memory, "{address:#x}");
        let first = put(&ram, LAST, PAGE, &[data(20 * PAGE, 256), data(address, 512)]);
        assert_eq!(error(&ram, first, 768), no_memory, "{address:#x}");
        for pointer in [SEGMENT, LAST] {
            let first = descriptor(pointer, address, 512);
            assert_eq!(error(&ram, first, 512), no_memory, "{address:#x}");
        }
    }
    // Blocks of no bytes are nowhere.
    let first = put(&ram, LAST, PAGE, &[data(u64::MAX, 0), data(20 * PAGE, 512)]);
    assert!(resolve(&ram, first, 512, Direction::ToGuest).is_ok());
}

/// Descriptors are read once: what the guest changes afterwards has no effect.
#[test]
fn the_descriptors_are_copied() {
    let ram = ram();
    let first = put(&ram, LAST, PAGE, &[data(20 * PAGE, 512), data(22 * PAGE, 512)]);
    let found = resolve(&ram, first, 1024, Direction::FromGuest).unwrap();
    put(&ram, LAST, PAGE, &[data(30 * PAGE, 512), data(32 * PAGE, 512)]);
    assert_eq!(bytes(&found), held(&ram, &[(20 * PAGE, 512), (22 * PAGE, 512)]));
}

#[test]
fn other_selectors_are_refused() {
    let ram = ram();
    for flags in [0x80, 0xc0] {
        let mut command = Command::zeroed();
        command.flags = flags;
        let to = Direction::ToGuest;
        let found = super::super::resolve(&command, &ram, 512, to, &mut Segments::default());
        assert_eq!(found.err(), Some(Status::INVALID_FIELD.do_not_retry()));
    }
}

#[test]
fn data_are_compared_wherever_they_are_cut() {
    let ram = ram();
    let list =
        [data(20 * PAGE, 3), data(30 * PAGE, 9000), data(40 * PAGE, 1), data(50 * PAGE, 600)];
    let first = put(&ram, LAST, PAGE, &list);
    let found = resolve(&ram, first, 9604, Direction::FromGuest).unwrap();
    let copy = Region::zeroed(9604).unwrap();
    copy.segment().write(&bytes(&found)).unwrap();
    for (at, len) in [(0, 9604), (2, 2), (3, 9000), (9003, 1), (9600, 4), (100, 8192), (9604, 0)] {
        let part = copy.segment().slice(at, len).unwrap();
        assert_eq!(found.equals(at, &part), Ok(true), "{at} {len}");
        for wrong in
            (at..at + len).step_by(97).chain((at + len).checked_sub(1).filter(|n| *n >= at))
        {
            let byte = copy.segment().slice(wrong, 1).unwrap();
            let mut right = [0];
            byte.read(&mut right).unwrap();
            byte.write(&[right[0] ^ 1]).unwrap();
            assert_eq!(found.equals(at, &part), Ok(false), "{at} {len} {wrong}");
            byte.write(&right).unwrap();
        }
    }
    // There is nothing to compare with past the end.
    assert_eq!(found.equals(9604, &copy.segment().slice(0, 1).unwrap()), Ok(false));
}
