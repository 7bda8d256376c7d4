// SPDX-License-Identifier: BSD-2-Clause

//! Transfers, whatever the system makes of them.

use super::fake::{Bend, Call, Fake, Guest, fresh};
use crate::backend::file::{File, OpenOptions};
use crate::backend::sys::{FreeBsd, Linux, Policy};
use crate::backend::{Backend, Error};

const MIB: usize = 1 << 20;

#[test]
fn segments_go_as_they_are() {
    let fake = Fake::file(65536);
    let store = fake.store::<FreeBsd>();
    let guest = Guest::new(&[100, 412, 4096, 4], 0);
    store.read(1024, &guest.list).unwrap();
    assert_eq!(fake.log(), [Call::Read(1024, vec![100, 412, 4096, 4])]);
    assert_eq!(guest.contents(), fresh(1024, 4612));

    let guest = Guest::new(&[4092, 4096, 4], 0xee);
    store.write(512, &guest.list, false).unwrap();
    assert_eq!(fake.log(), [Call::Write(512, vec![4092, 4096, 4])]);
    fake.with(|s| {
        assert_eq!(s.data[..512], fresh(0, 512));
        assert!(s.data[512..512 + 8192].iter().all(|b| *b == 0xee));
        assert_eq!(s.data[512 + 8192..], fresh(512 + 8192, 65536 - 8704));
    });
}

#[test]
fn short_transfers_go_on_where_they_stopped() {
    let fake = Fake::file(65536);
    let store = fake.store::<Linux>();
    let bends = [Bend::Short(1), Bend::Short(510), Bend::Short(1), Bend::Short(1000)];
    let guest = Guest::new(&[512, 512, 1024], 0);
    fake.with(|s| s.transfers.extend(bends));
    store.read(0, &guest.list).unwrap();
    assert_eq!(guest.contents(), fresh(0, 2048));
    let expected = [
        (0, vec![512, 512, 1024]),
        (1, vec![511, 512, 1024]),
        (511, vec![1, 512, 1024]),
        (512, vec![512, 1024]),
        (1512, vec![536]),
    ];
    assert_eq!(fake.log(), expected.clone().map(|(at, list)| Call::Read(at, list)));

    let guest = Guest::new(&[512, 512, 1024], 0x55);
    fake.with(|s| s.transfers.extend(bends));
    store.write(0, &guest.list, false).unwrap();
    assert_eq!(fake.log(), expected.map(|(at, list)| Call::Write(at, list)));
    fake.with(|s| {
        assert!(s.data[..2048].iter().all(|b| *b == 0x55));
        assert_eq!(s.data[2048..], fresh(2048, 65536 - 2048));
    });
}

#[test]
fn long_lists_go_in_parts_of_what_the_system_takes() {
    let fake = Fake::file(MIB);
    let store = fake.store::<Linux>();
    let guest = Guest::new(&[512; 2047], 0);
    store.read(0, &guest.list).unwrap();
    let expected = [Call::Read(0, vec![512; 1024]), Call::Read(512 * 1024, vec![512; 1023])];
    assert_eq!(fake.log(), expected);
    assert_eq!(guest.contents(), fresh(0, 2047 * 512));
}

#[test]
fn empty_segments_and_transfers_do_no_harm() {
    let fake = Fake::file(4096);
    let store = fake.store::<FreeBsd>();
    let guest = Guest::new(&[0, 0, 512, 0, 512, 0], 0);
    store.read(0, &guest.list).unwrap();
    assert_eq!(guest.contents(), fresh(0, 1024));
    fake.log();

    store.read(4096, &[]).unwrap();
    store.write(4096, &Guest::new(&[0, 0], 0).list, false).unwrap();
    assert_eq!(fake.log(), []);
}

#[test]
fn signals_and_shortage_are_survived() {
    let fake = Fake::file(4096);
    let store = fake.store::<Linux>();
    let guest = Guest::new(&[1024], 3);
    let bends = [Bend::Fail(libc::EINTR), Bend::Fail(libc::EAGAIN), Bend::Short(512)];
    fake.with(|s| s.transfers.extend(bends));
    store.write(0, &guest.list, false).unwrap();
    assert_eq!(fake.log().len(), 4);

    fake.with(|s| s.transfers.extend([Bend::Fail(libc::EAGAIN); 100]));
    assert_eq!(store.write(0, &guest.list, false), Err(Error::Io));
    assert!(fake.log().len() < 100);
}

#[test]
fn errors_keep_their_kind() {
    let guest = Guest::new(&[512], 1);
    for (errno, read, write) in [
        (libc::EIO, Error::Io, Error::Io),
        (libc::ENOSPC, Error::NoSpace, Error::NoSpace),
        (libc::EDQUOT, Error::NoSpace, Error::NoSpace),
        (libc::EFBIG, Error::NoSpace, Error::NoSpace),
        (libc::EROFS, Error::ReadOnly, Error::ReadOnly),
        (libc::EBADF, Error::Io, Error::ReadOnly),
        (libc::EINVAL, Error::Invalid, Error::Invalid),
        (libc::EFAULT, Error::Memory, Error::Memory),
        (libc::ENXIO, Error::Io, Error::Io),
    ] {
        for fake in [Fake::file(4096), Fake::freebsd_device(4096, 512, 0)] {
            let store = fake.store::<FreeBsd>();
            // Also when it comes after a part that went well.
            for before in [None, Some(Bend::Short(0x100))] {
                let bends = before.into_iter().chain([Bend::Fail(errno)]);
                fake.with(|s| s.strict = 1);
                fake.with(|s| s.transfers.extend(bends.clone()));
                assert_eq!(store.read(0, &guest.list), Err(read), "{errno}");
                fake.with(|s| s.transfers.extend(bends));
                assert_eq!(store.write(0, &guest.list, false), Err(write), "{errno}");
            }
        }
    }
}

/// What is outside is refused before the system sees it: a write would make a
/// file grow.
#[test]
fn nothing_outside_reaches_the_system() {
    fn check<P: Policy>(fake: &Fake) {
        let store = fake.store::<P>();
        let guest = Guest::new(&[512, 512], 1);
        for offset in [3584, 4096, 8192, 1 << 62, i64::MAX as u64 - 1023, u64::MAX - 511] {
            assert_eq!(store.read(offset, &guest.list), Err(Error::OutOfRange), "{offset}");
            assert_eq!(store.write(offset, &guest.list, true), Err(Error::OutOfRange), "{offset}");
        }
        assert_eq!(fake.log(), []);
        store.write(3072, &guest.list, false).unwrap();
        fake.with(|s| assert_eq!(s.data.len(), 4096));
    }
    check::<Linux>(&Fake::file(4096));
    check::<Linux>(&Fake::linux_device(4096, 512, 512));
    check::<FreeBsd>(&Fake::file(4096));
    check::<FreeBsd>(&Fake::freebsd_device(4096, 512, 0));
}

/// A file that became shorter, or a device that shrank, ends the transfer and
/// not the patience: reads come back short, device writes do nothing.
#[test]
fn a_store_that_shrank_is_out_of_range() {
    fn check<P: Policy>(fake: &Fake) {
        let store = fake.store::<P>();
        let guest = Guest::new(&[2048, 2048], 1);
        fake.with(|s| s.data.truncate(3072));
        assert_eq!(store.read(0, &guest.list), Err(Error::OutOfRange));
        assert_eq!(store.geometry().size, 3072);
        fake.log();
        // Now it is known.
        assert_eq!(store.write(0, &guest.list, false), Err(Error::OutOfRange));
        assert_eq!(fake.log(), []);
        store.read(1024, &guest.list[..1]).unwrap();
    }
    check::<Linux>(&Fake::file(65536));
    check::<FreeBsd>(&Fake::file(65536));
    check::<FreeBsd>(&Fake::freebsd_device(65536, 512, 0));

    let fake = Fake::freebsd_device(65536, 512, 0);
    let store = fake.store::<FreeBsd>();
    let guest = Guest::new(&[4096], 1);
    fake.with(|s| s.data.truncate(3072));
    assert_eq!(store.write(0, &guest.list, true), Err(Error::OutOfRange));

    // Past its end, a device says EIO; but a device that is as long as ever
    // and says EIO means that.
    let fake = Fake::freebsd_device(65536, 512, 0);
    let store = fake.store::<FreeBsd>();
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::EIO)));
    assert_eq!(store.read(32768, &guest.list), Err(Error::Io));
    fake.with(|s| s.data.truncate(3072));
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::EIO)));
    assert_eq!(store.read(32768, &guest.list), Err(Error::OutOfRange));
}

/// A write that does nothing, inside the store, is an error and no endless
/// loop.
#[test]
fn a_write_that_does_nothing_ends() {
    for fake in [Fake::file(4096), Fake::freebsd_device(4096, 512, 0)] {
        let store = fake.store::<FreeBsd>();
        let guest = Guest::new(&[512], 1);
        fake.with(|s| s.transfers.push_back(Bend::Short(0)));
        assert_eq!(store.write(0, &guest.list, true), Err(Error::Io));
    }
}

#[test]
fn a_resized_store_is_noticed_when_asked() {
    fn check<P: Policy>(fake: &Fake) {
        let store = fake.store::<P>();
        fake.with(|s| s.data.resize(8192, 0));
        assert_eq!(store.geometry().size, 4096);
        assert_eq!(store.refresh(), Ok(8192));
        assert_eq!(store.geometry().size, 8192);
        store.read(7680, &Guest::new(&[512], 1).list).unwrap();
    }
    check::<Linux>(&Fake::file(4096));
    check::<Linux>(&Fake::linux_device(4096, 512, 512));
    check::<FreeBsd>(&Fake::file(4096));
    check::<FreeBsd>(&Fake::freebsd_device(4096, 512, 0));
}

fn device(size: usize, sector: u32) -> (Fake, File<Fake, FreeBsd>) {
    let fake = Fake::freebsd_device(size, sector, 0);
    let store = fake.store::<FreeBsd>();
    (fake, store)
}

/// Segments that a FreeBSD device refuses, or would run one by one, go through
/// a buffer, as one request.
#[test]
fn scattered_data_of_a_freebsd_device_is_one_request() {
    for list in [
        vec![4092, 4096, 4],
        vec![100, 412],
        vec![256, 256],
        vec![512; 64],
        vec![4096; 32],
        vec![0, 512],
    ] {
        let len: usize = list.iter().sum();
        let (fake, store) = device(65536 * 4, 512);
        let guest = Guest::new(&list, 0);
        store.read(1024, &guest.list).unwrap();
        assert_eq!(fake.log(), [Call::Read(1024, vec![len])], "{list:?}");
        assert_eq!(guest.contents(), fresh(1024, len));

        let guest = Guest::new(&list, 0x77);
        store.write(512, &guest.list, false).unwrap();
        assert_eq!(fake.log(), [Call::Write(512, vec![len])], "{list:?}");
        fake.with(|s| {
            assert_eq!(s.data[..512], fresh(0, 512));
            assert!(s.data[512..512 + len].iter().all(|b| *b == 0x77));
            assert_eq!(s.data[512 + len..], fresh(512 + len, s.data.len() - 512 - len));
        });
    }
}

#[test]
fn a_freebsd_device_takes_one_segment_or_long_ones_without_a_copy() {
    for list in [vec![512], vec![MIB], vec![2 * MIB], vec![128 * 1024, 128 * 1024]] {
        let len: usize = list.iter().sum();
        let (fake, store) = device(4 * MIB, 512);
        let guest = Guest::new(&list, 0);
        store.read(0, &guest.list).unwrap();
        assert_eq!(fake.log(), [Call::Read(0, list.clone())]);
        assert_eq!(guest.contents(), fresh(0, len));
    }
}

/// More than a buffer holds goes in several requests; each may fall short.
#[test]
fn a_buffer_is_filled_more_than_once() {
    let (fake, store) = device(4 * MIB, 4096);
    let lengths = vec![2048; 2 * MIB / 2048 + 2];
    let guest = Guest::new(&lengths, 0);
    fake.with(|s| s.transfers.extend([Bend::None, Bend::Short(4096)]));
    store.read(4096, &guest.list).unwrap();
    let (mib, at) = (MIB as u64, 4096);
    let expected =
        [(at, MIB), (at + mib, MIB), (at + mib + 4096, MIB - 4096), (at + 2 * mib, 4096)];
    assert_eq!(fake.log(), expected.map(|(at, len)| Call::Read(at, vec![len])));
    assert_eq!(guest.contents(), fresh(4096, 2 * MIB + 4096));

    let guest = Guest::new(&lengths, 0x31);
    fake.with(|s| s.transfers.extend([Bend::None, Bend::Short(4096)]));
    store.write(4096, &guest.list, false).unwrap();
    assert_eq!(fake.log(), expected.map(|(at, len)| Call::Write(at, vec![len])));
    fake.with(|s| {
        assert_eq!(s.data[..4096], fresh(0, 4096));
        assert!(s.data[4096..][..2 * MIB + 4096].iter().all(|b| *b == 0x31));
        assert_eq!(s.data[2 * MIB + 8192..], fresh(2 * MIB + 8192, 2 * MIB - 8192));
    });
}

/// A buffer of a request that failed serves the next one.
#[test]
fn buffers_come_back() {
    let (fake, store) = device(65536, 512);
    let guest = Guest::new(&[256, 256], 9);
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::EIO)));
    assert_eq!(store.read(0, &guest.list), Err(Error::Io));
    assert_eq!(guest.contents(), [9; 512]);
    assert_eq!(store.pool.free(), 1);
    store.read(0, &guest.list).unwrap();
    assert_eq!(store.pool.free(), 1);
}

/// A part of a sector cannot be done without reading the rest first.
#[test]
fn a_device_does_whole_sectors_only() {
    let (fake, store) = device(65536, 4096);
    for (offset, len) in [(512, 4096), (0, 512), (4096, 4608)] {
        let guest = Guest::new(&[len], 1);
        assert_eq!(store.read(offset, &guest.list), Err(Error::Invalid));
        assert_eq!(store.write(offset, &guest.list, false), Err(Error::Invalid));
    }
    assert_eq!(fake.log(), []);
}

/// O_DIRECT on Linux refuses memory that is not aligned.
#[test]
fn unaligned_memory_goes_through_a_buffer_with_o_direct() {
    let fake = Fake::file(65536);
    let direct = OpenOptions { nocache: true, ..OpenOptions::default() };
    let store = fake.store_with::<Linux>(&direct);
    let guest = Guest::new(&[4092, 4096, 4], 0);
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::EINVAL)));
    store.read(512, &guest.list).unwrap();
    assert_eq!(fake.log(), [Call::Read(512, vec![4092, 4096, 4]), Call::Read(512, vec![8192])]);
    assert_eq!(guest.contents(), fresh(512, 8192));

    fake.with(|s| s.transfers.extend([Bend::Fail(libc::EINVAL); 2]));
    assert_eq!(store.write(512, &guest.list, false), Err(Error::Invalid));

    // Without it, EINVAL is what it is.
    let store = fake.store::<Linux>();
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::EINVAL)));
    assert_eq!(store.read(512, &guest.list), Err(Error::Invalid));
    assert_eq!(fake.log().len(), 1);
}

/// Many threads, scattered pieces, one device.
#[test]
fn threads_share_a_store() {
    let (_, store) = device(MIB, 512);
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..50_u64 {
                    let at = u64::from(n) * 256 * 1024 + round * 4096;
                    store.write(at, &Guest::new(&[2000, 2096], n + 1).list, true).unwrap();
                    let back = Guest::new(&[96, 4000], 0);
                    store.read(at, &back.list).unwrap();
                    assert_eq!(back.contents(), [n + 1; 4096]);
                }
            });
        }
    });
}
