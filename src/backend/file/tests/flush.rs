// SPDX-License-Identifier: BSD-2-Clause

//! Which call makes data durable, and in which order.

use super::fake::{Bend, Call, Fake, Guest};
use crate::backend::file::OpenOptions;
use crate::backend::sys::{FreeBsd, Linux, Policy, Request};
use crate::backend::{Backend, Error};

const FLUSH_DEVICE: Call = Call::Ioctl(Request::DIOCGFLUSH);

/// A flush is `flush` and nothing else; a durable write is the write and then
/// a flush; an ordinary write flushes nothing.
fn check_calls<P: Policy>(fake: &Fake, flush: Call) {
    let store = fake.store::<P>();
    let guest = Guest::new(&[4096], 0xaa);
    let write = Call::Write(8192, vec![4096]);

    store.flush().unwrap();
    assert_eq!(fake.log(), std::slice::from_ref(&flush));
    store.write(8192, &guest.list, false).unwrap();
    assert_eq!(fake.log(), std::slice::from_ref(&write));
    store.write(8192, &guest.list, true).unwrap();
    assert_eq!(fake.log(), [write, flush]);
}

#[test]
fn linux_syncs_the_data_of_a_file() {
    check_calls::<Linux>(&Fake::file(65536), Call::Fdatasync);
}

#[test]
fn linux_syncs_the_data_of_a_device() {
    check_calls::<Linux>(&Fake::linux_device(65536, 512, 4096), Call::Fdatasync);
}

#[test]
fn freebsd_syncs_a_file() {
    check_calls::<FreeBsd>(&Fake::file(65536), Call::Fsync);
}

#[test]
fn freebsd_flushes_a_device_by_ioctl_and_never_by_fsync() {
    check_calls::<FreeBsd>(&Fake::freebsd_device(65536, 512, 0), FLUSH_DEVICE);
}

/// A failed write is not followed by a flush that would hide it.
#[test]
fn a_failed_durable_write_says_so() {
    let fake = Fake::file(65536);
    let store = fake.store::<FreeBsd>();
    let guest = Guest::new(&[512], 1);
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::ENOSPC)));
    assert_eq!(store.write(0, &guest.list, true), Err(Error::NoSpace));
    assert_eq!(fake.log(), [Call::Write(0, vec![512])]);

    fake.with(|s| s.flushes.push_back(Bend::Fail(libc::EIO)));
    assert_eq!(store.write(0, &guest.list, true), Err(Error::Io));
}

/// `sync` on FreeBSD's devices, where O_SYNC does nothing: each write is
/// followed by a flush, and fails if that does.
#[test]
fn sync_flushes_a_freebsd_device_after_each_write() {
    let sync = OpenOptions { sync: true, ..OpenOptions::default() };
    let fake = Fake::freebsd_device(65536, 512, 0);
    let store = fake.store_with::<FreeBsd>(&sync);
    let guest = Guest::new(&[4096], 0xaa);
    let write = Call::Write(8192, vec![4096]);
    for durable in [false, true] {
        store.write(8192, &guest.list, durable).unwrap();
        assert_eq!(fake.log(), [write.clone(), FLUSH_DEVICE]);
    }
    store.write_zeroes(8192, 4096, true).unwrap();
    assert_eq!(fake.log(), [write, FLUSH_DEVICE]);
    store.read(0, &guest.list).unwrap();
    assert_eq!(fake.log(), [Call::Read(0, vec![4096])]);

    fake.with(|s| s.flushes.extend([Bend::Fail(libc::EIO); 2]));
    assert_eq!(store.write(8192, &guest.list, false), Err(Error::Io));
    assert_eq!(store.write_zeroes(8192, 4096, false), Err(Error::Io));
    fake.log();
    fake.with(|s| s.transfers.push_back(Bend::Fail(libc::ENOSPC)));
    assert_eq!(store.write(8192, &guest.list, false), Err(Error::NoSpace));
    assert!(!fake.log().contains(&FLUSH_DEVICE), "a failed write is not flushed");
}

/// Elsewhere O_SYNC is all it takes.
#[test]
fn sync_is_the_descriptors_business_on_files_and_on_linux() {
    fn check<P: Policy>(fake: &Fake) {
        let sync = OpenOptions { sync: true, ..OpenOptions::default() };
        let store = fake.store_with::<P>(&sync);
        store.write(0, &Guest::new(&[512], 1).list, false).unwrap();
        assert_eq!(fake.log(), [Call::Write(0, vec![512])]);
    }
    check::<FreeBsd>(&Fake::file(4096));
    check::<Linux>(&Fake::file(4096));
    check::<Linux>(&Fake::linux_device(4096, 512, 512));
}

#[test]
fn an_interrupted_flush_is_made_again() {
    fn check<P: Policy>(fake: &Fake) {
        let store = fake.store::<P>();
        fake.with(|s| s.flushes.extend([Bend::Fail(libc::EINTR), Bend::Fail(libc::EAGAIN)]));
        store.flush().unwrap();
        assert_eq!(fake.log().len(), 3);
    }
    check::<Linux>(&Fake::file(4096));
    check::<FreeBsd>(&Fake::file(4096));
    check::<FreeBsd>(&Fake::freebsd_device(4096, 512, 0));
}

#[test]
fn kinds_of_flush_errors_are_kept() {
    for (errno, error) in
        [(libc::EIO, Error::Io), (libc::ENOSPC, Error::NoSpace), (libc::EROFS, Error::ReadOnly)]
    {
        let fake = Fake::freebsd_device(4096, 512, 0);
        let store = fake.store::<FreeBsd>();
        fake.with(|s| s.flushes.push_back(Bend::Fail(errno)));
        assert_eq!(store.flush(), Err(error));
        // The disk still has the data, and may do better the next time.
        assert_eq!(store.flush(), Ok(()));
    }
}

/// A disk that knows no flush has no cache to lose.
#[test]
fn a_freebsd_device_without_a_cache_flushes_well() {
    let fake = Fake::freebsd_device(4096, 512, 0);
    let store = fake.store::<FreeBsd>();
    fake.with(|s| s.flushes.push_back(Bend::Fail(libc::EOPNOTSUPP)));
    assert_eq!(store.flush(), Ok(()));
    assert_eq!(fake.log(), [FLUSH_DEVICE]);
}

/// Linux marks pages clean that it could not write, and the next fdatasync
/// succeeds: the store must not.
#[test]
fn data_that_linux_lost_stays_lost() {
    let fake = Fake::file(4096);
    let store = fake.store::<Linux>();
    let guest = Guest::new(&[512], 1);
    fake.with(|s| s.flushes.push_back(Bend::Fail(libc::EIO)));
    assert_eq!(store.write(0, &guest.list, true), Err(Error::Io));
    assert_eq!(store.flush(), Err(Error::Io));
    assert_eq!(store.write(512, &guest.list, true), Err(Error::Io));
    assert_eq!(store.write(512, &guest.list, false), Ok(()));

    // Around the page cache there is nothing to be marked.
    let fake = Fake::file(4096);
    let direct = OpenOptions { nocache: true, ..OpenOptions::default() };
    let store = fake.store_with::<Linux>(&direct);
    fake.with(|s| s.flushes.push_back(Bend::Fail(libc::EIO)));
    assert_eq!(store.flush(), Err(Error::Io));
    assert_eq!(store.flush(), Ok(()));
}

#[test]
fn a_read_only_store_neither_writes_nor_flushes() {
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    for fake in [Fake::file(4096), Fake::freebsd_device(4096, 512, 0)] {
        let store = fake.store_with::<FreeBsd>(&read_only);
        let guest = Guest::new(&[512], 1);
        assert_eq!(store.write(0, &guest.list, false), Err(Error::ReadOnly));
        assert_eq!(store.write(0, &guest.list, true), Err(Error::ReadOnly));
        assert_eq!(store.flush(), Ok(()));
        assert_eq!(fake.log(), []);
        assert!(!store.geometry().volatile_cache);
        assert!(store.geometry().read_only);
    }
}
