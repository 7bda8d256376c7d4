// SPDX-License-Identifier: BSD-2-Clause

//! Zeroes and deallocation, by the rules of both systems.

use super::fake::{Bend, Call, Fake, fresh};
use crate::backend::file::OpenOptions;
use crate::backend::sys::Fallocate::{PunchHole, ZeroRange};
use crate::backend::sys::{FreeBsd, Linux, Policy};
use crate::backend::{Backend, Error};

const MIB: usize = 1 << 20;
const NODELETE: OpenOptions = OpenOptions {
    nocache: false,
    sync: false,
    read_only: false,
    nodelete: true,
    sector_size: None,
};

fn file_that_frees(size: usize) -> Fake {
    let fake = Fake::file(size);
    fake.with(|s| s.deallocates = Some(true));
    fake
}

/// Nothing but `from..to` has been zeroed.
fn check_zeroed(fake: &Fake, from: usize, to: usize) {
    fake.with(|s| {
        assert!(s.data[from..to].iter().all(|b| *b == 0), "{from}..{to}");
        assert_eq!(s.data[..from], fresh(0, from));
        assert_eq!(s.data[to..], fresh(to, s.data.len() - to));
    });
}

/// The calls for `len` bytes of zeroes at `offset`; they are zero afterwards,
/// and nothing else is.
fn zeroing<P: Policy>(
    fake: &Fake,
    options: &OpenOptions,
    (offset, len): (u64, u64),
    deallocate: bool,
) -> Vec<Call> {
    let store = fake.store_with::<P>(options);
    store.write_zeroes(offset, len, deallocate).unwrap();
    check_zeroed(fake, offset as usize, (offset + len) as usize);
    fake.log()
}

#[test]
fn zeroes_come_the_shortest_way_that_keeps_the_promise() {
    const RANGE: (u64, u64) = (512, 8192);
    let plain = OpenOptions::default();
    let written = [Call::Write(512, vec![8192])];

    let linux = || [Fake::file(65536), Fake::linux_device(65536, 512, 4096)];
    for fake in linux() {
        let calls = zeroing::<Linux>(&fake, &plain, RANGE, true);
        assert_eq!(calls, [Call::Fallocate(PunchHole, 512, 8192)]);
    }
    for fake in linux() {
        let calls = zeroing::<Linux>(&fake, &plain, RANGE, false);
        assert_eq!(calls, [Call::Fallocate(ZeroRange, 512, 8192)]);
    }
    for fake in linux() {
        assert_eq!(zeroing::<Linux>(&fake, &NODELETE, RANGE, true), written);
    }

    let calls = zeroing::<FreeBsd>(&file_that_frees(65536), &plain, RANGE, true);
    assert_eq!(calls, [Call::Fspacectl(512, 8192)]);
    assert_eq!(zeroing::<FreeBsd>(&file_that_frees(65536), &plain, RANGE, false), written);
    assert_eq!(zeroing::<FreeBsd>(&file_that_frees(65536), &NODELETE, RANGE, true), written);
    assert_eq!(zeroing::<FreeBsd>(&Fake::file(65536), &plain, RANGE, true), written);
    // DIOCGDELETE promises no zeroes.
    for deallocate in [false, true] {
        let fake = Fake::freebsd_device(65536, 512, 0);
        assert_eq!(zeroing::<FreeBsd>(&fake, &plain, RANGE, deallocate), written);
    }
}

#[test]
fn zeroes_are_written_in_bounded_parts() {
    let fake = Fake::freebsd_device(4 * MIB, 512, 0);
    let store = fake.store::<FreeBsd>();
    fake.with(|s| {
        s.transfers.extend([Bend::Fail(libc::EINTR), Bend::Short(512), Bend::Fail(libc::EAGAIN)]);
    });
    store.write_zeroes(512, (2 * MIB + 1024) as u64, false).unwrap();
    check_zeroed(&fake, 512, 2 * MIB + 1536);
    let at = |offset: usize, len: usize| Call::Write(offset as u64, vec![len]);
    assert_eq!(
        fake.log(),
        [
            at(512, MIB),
            at(512, MIB),
            at(1024, MIB - 512),
            at(1024, MIB - 512),
            at(512 + MIB, MIB),
            at(512 + 2 * MIB, 1024),
        ]
    );
    // The buffer of zeroes is one and stays zero.
    store.write_zeroes(0, 512, false).unwrap();
    check_zeroed(&fake, 0, 2 * MIB + 1536);
}

/// What a file system cannot do is written, and not tried each time.
#[test]
fn what_the_system_cannot_do_is_written() {
    for errno in [libc::EOPNOTSUPP, libc::ENOSYS, libc::ENODEV, libc::EINVAL] {
        let fake = Fake::file(65536);
        fake.with(|s| s.spaces.extend([Bend::Fail(errno); 2]));
        let store = fake.store::<Linux>();
        store.write_zeroes(0, 4096, true).unwrap();
        let write = Call::Write(0, vec![4096]);
        assert_eq!(
            fake.log(),
            [
                Call::Fallocate(PunchHole, 0, 4096),
                Call::Fallocate(ZeroRange, 0, 4096),
                write.clone()
            ]
        );
        store.write_zeroes(0, 4096, false).unwrap();
        assert_eq!(fake.log(), [write]);
        check_zeroed(&fake, 0, 4096);
    }
}

#[test]
fn errors_keep_their_kind_and_hide_nothing() {
    for (errno, error) in [
        (libc::EIO, Error::Io),
        (libc::ENOSPC, Error::NoSpace),
        (libc::EROFS, Error::ReadOnly),
        (libc::ENXIO, Error::Io),
    ] {
        for (fake, deallocate) in [(Fake::file(65536), true), (Fake::file(65536), false)] {
            let store = fake.store::<Linux>();
            fake.with(|s| s.spaces.push_back(Bend::Fail(errno)));
            assert_eq!(store.write_zeroes(0, 4096, deallocate), Err(error));
            fake.with(|s| s.spaces.push_back(Bend::Fail(errno)));
            assert_eq!(store.deallocate(0, 4096), Err(error));
            assert_eq!(fake.log().len(), 2, "no other way is tried");
        }
        let fake = Fake::freebsd_device(65536, 512, 0);
        let store = fake.store::<FreeBsd>();
        fake.with(|s| s.transfers.push_back(Bend::Fail(errno)));
        assert_eq!(store.write_zeroes(0, 4096, true), Err(error));
        fake.with(|s| s.spaces.push_back(Bend::Fail(errno)));
        assert_eq!(store.deallocate(0, 4096), Err(error));
    }
}

/// A device that has become smaller fails with EIO: that is no medium error.
#[test]
fn a_device_that_shrank_says_out_of_range() {
    let fake = Fake::freebsd_device(65536, 512, 0);
    let store = fake.store::<FreeBsd>();
    fake.with(|s| {
        s.data.truncate(32768);
        s.spaces.push_back(Bend::Fail(libc::EIO));
    });
    assert_eq!(store.deallocate(0, 65536), Err(Error::OutOfRange));
    assert_eq!(store.geometry().size, 32768);
}

#[test]
fn deallocation_takes_the_call_of_the_system() {
    let linux = Fake::file(65536);
    linux.store::<Linux>().deallocate(4096, 8192).unwrap();
    assert_eq!(linux.log().last(), Some(&Call::Fallocate(PunchHole, 4096, 8192)));
    check_zeroed(&linux, 4096, 12288);

    let file = file_that_frees(65536);
    let store = file.store::<FreeBsd>();
    // A part at a time, with a signal between.
    file.with(|s| {
        s.spaces.extend([Bend::Short(4096), Bend::Fail(libc::EINTR), Bend::Short(100)]);
    });
    store.deallocate(4096, 8192).unwrap();
    assert_eq!(
        file.log(),
        [
            Call::Fspacectl(4096, 8192),
            Call::Fspacectl(8192, 4096),
            Call::Fspacectl(8192, 4096),
            Call::Fspacectl(8292, 3996),
        ]
    );
    check_zeroed(&file, 4096, 12288);
    // A call that does nothing and says that it was well is not made for ever.
    file.with(|s| s.spaces.push_back(Bend::Short(0)));
    assert_eq!(store.deallocate(4096, 8192), Err(Error::Io));

    let device = Fake::freebsd_device(65536, 512, 0);
    device.store::<FreeBsd>().deallocate(512, 1024).unwrap();
    assert_eq!(device.log().last(), Some(&Call::Delete(512, 1024)));
    check_zeroed(&device, 512, 1536);
}

/// 512-byte blocks over 4096-byte sectors: only whole sectors go, and nothing
/// is read or written for the rest.
#[test]
fn deallocation_is_aligned_inward() {
    for (range, done) in [
        ((0, 4096), Some((0, 4096))),
        ((512, 4096), None),
        ((512, 8192), Some((4096, 4096))),
        ((4096, 4608), Some((4096, 4096))),
        ((3584, 1024), None),
        ((0, 512), None),
        ((8192, 0), None),
        ((65536, 0), None),
        ((512, 65024), Some((4096, 61440))),
    ] {
        let fake = Fake::freebsd_device(65536, 512, 4096);
        let store = fake.store::<FreeBsd>();
        store.deallocate(range.0, range.1).unwrap();
        let calls: Vec<Call> = done.map(|(at, len)| Call::Delete(at, len)).into_iter().collect();
        assert_eq!(fake.log(), calls, "{range:?}");
    }
}

/// A part at a time: neither the disk nor its other users are held up for as
/// long as all takes.
#[test]
fn much_is_deallocated_in_parts() {
    const PART: u64 = 128 << 20;
    const SIZE: u64 = 2 * PART + 65536;
    fn check<P: Policy>(fake: &Fake, call: fn(u64, u64) -> Call) {
        // Not a byte of it is looked at.
        let well = |parts| vec![Bend::Short(0); parts];
        fake.with(|s| {
            s.deallocates = Some(true);
            s.data = vec![0; SIZE as usize];
        });
        let store = fake.store::<P>();
        fake.with(|s| s.spaces.extend(well(3)));
        store.deallocate(4096, SIZE - 4096).unwrap();
        let last = call(4096 + 2 * PART, 65536 - 4096);
        assert_eq!(fake.log(), [call(4096, PART), call(4096 + PART, PART), last]);

        // After a part that fails, or cannot be, no more are tried.
        for (errno, result) in [(libc::EROFS, Err(Error::ReadOnly)), (libc::EOPNOTSUPP, Ok(()))] {
            fake.with(|s| s.spaces.extend(well(1).into_iter().chain([Bend::Fail(errno)])));
            assert_eq!(store.deallocate(0, SIZE), result);
            let mut calls = fake.log();
            assert_eq!(calls.drain(..2).as_slice(), [call(0, PART), call(PART, PART)]);
            assert!(!calls.contains(&call(2 * PART, 65536)));
        }

        // Nor of a store that has become smaller meanwhile.
        fake.with(|s| {
            s.data.truncate(PART as usize);
            s.spaces.extend(well(1).into_iter().chain([Bend::Fail(libc::EIO)]));
        });
        assert_eq!(store.deallocate(0, SIZE), Err(Error::OutOfRange));
        assert!(!fake.log().contains(&call(2 * PART, 65536)));
    }
    check::<FreeBsd>(&Fake::freebsd_device(4096, 512, 4096), Call::Delete);
    let punch = |at, len| Call::Fallocate(PunchHole, at, len);
    check::<Linux>(&Fake::linux_device(4096, 512, 4096), punch);
}

#[test]
fn a_hint_that_cannot_be_followed_is_no_error() {
    for errno in [libc::EOPNOTSUPP, libc::ENODEV, libc::EINVAL, libc::ENOTTY] {
        let fake = Fake::freebsd_device(65536, 512, 0);
        let store = fake.store::<FreeBsd>();
        fake.with(|s| s.spaces.push_back(Bend::Fail(errno)));
        assert_eq!(store.deallocate(0, 4096), Ok(()));
    }
    // Stores that cannot, or may not, are not even asked.
    for fake in [Fake::file(65536), file_that_frees(65536), Fake::freebsd_device(65536, 512, 0)] {
        let store = fake.store_with::<FreeBsd>(&NODELETE);
        assert_eq!(store.deallocate(0, 65536), Ok(()));
        assert_eq!(fake.log(), []);
        assert!(!store.geometry().can_deallocate);
        check_zeroed(&fake, 0, 0);
    }
}

#[test]
fn ranges_are_checked_before_any_call() {
    for fake in [file_that_frees(65536), Fake::freebsd_device(65536, 512, 0)] {
        let store = fake.store::<FreeBsd>();
        for (offset, len) in [
            (65536, 512),
            (65024, 1024),
            (0, 66048),
            (u64::MAX - 511, 512),
            (u64::MAX - 511, 1024),
            (512, u64::MAX - 511),
        ] {
            assert_eq!(store.deallocate(offset, len), Err(Error::OutOfRange), "{offset} {len}");
            for deallocate in [false, true] {
                assert_eq!(store.write_zeroes(offset, len, deallocate), Err(Error::OutOfRange));
            }
        }
        store.write_zeroes(65536, 0, true).unwrap();
        assert_eq!(fake.log(), []);
    }
    // The kernel writes a line to the console for each of these.
    let fake = Fake::freebsd_device(65536, 4096, 0);
    let store = fake.store::<FreeBsd>();
    for (offset, len) in [(512, 4096), (4096, 512)] {
        assert_eq!(store.deallocate(offset, len), Err(Error::Invalid));
        assert_eq!(store.write_zeroes(offset, len, false), Err(Error::Invalid));
    }
    assert_eq!(fake.log(), []);
}

#[test]
fn a_read_only_store_refuses_both() {
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    for fake in [file_that_frees(65536), Fake::freebsd_device(65536, 512, 0)] {
        let store = fake.store_with::<FreeBsd>(&read_only);
        assert!(!store.geometry().can_deallocate);
        assert_eq!(store.deallocate(0, 4096), Err(Error::ReadOnly));
        assert_eq!(store.write_zeroes(0, 4096, true), Err(Error::ReadOnly));
        assert_eq!(fake.log(), []);
    }
}
