// SPDX-License-Identifier: BSD-2-Clause

//! What may be a store, how it is opened, and what it says of itself.

use std::io;
use std::path::Path;

use super::fake::{Bend, Call, Fake};
use crate::backend::file::{File, OpenError, OpenOptions};
use crate::backend::sys::{FileType, FreeBsd, How, Linux, Policy, Request};
use crate::backend::{Backend, Geometry};

const DEFAULT: OpenOptions = OpenOptions {
    nocache: false,
    sync: false,
    read_only: false,
    nodelete: false,
    sector_size: None,
};

fn refused<P: Policy>(fake: &Fake, options: &OpenOptions) -> OpenError {
    File::<Fake, P>::open(fake.clone(), Path::new("disk"), options).err().unwrap()
}

#[test]
fn a_file_says_what_it_is() {
    let expected = Geometry {
        size: 65536,
        sector_size: 512,
        physical_sector_size: 4096,
        read_only: false,
        volatile_cache: true,
        can_deallocate: true,
        deallocation_unit: 4096,
        deallocated_is_zero: true,
    };
    let fake = Fake::file(65536);
    assert_eq!(fake.store::<Linux>().geometry(), expected);
    // UFS says no; what cannot be asked is taken for a no.
    for (answer, can_deallocate) in [(Some(true), true), (Some(false), false), (None, false)] {
        fake.with(|s| s.deallocates = answer);
        assert_eq!(
            fake.store::<FreeBsd>().geometry(),
            Geometry { can_deallocate, ..expected },
            "{answer:?}"
        );
    }
    assert!(!fake.store::<Linux>().never_waits());
}

#[test]
fn a_device_says_what_it_is() {
    for (sector, physical, told) in [(512, 512, 512), (512, 4096, 4096), (4096, 0, 4096)] {
        let expected = Geometry {
            size: 65536,
            sector_size: sector,
            physical_sector_size: told,
            read_only: false,
            volatile_cache: true,
            can_deallocate: true,
            deallocation_unit: told,
            deallocated_is_zero: true,
        };
        let fake = Fake::freebsd_device(65536, sector, u64::from(physical));
        // What the disk returns afterwards is its own business.
        let unsure = Geometry { deallocated_is_zero: false, ..expected };
        assert_eq!(fake.store::<FreeBsd>().geometry(), unsure);
        fake.with(|s| s.answers.insert(Request::DIOCGATTR.number(), 0));
        assert!(!fake.store::<FreeBsd>().geometry().can_deallocate);
        let fake = Fake::linux_device(65536, sector, physical);
        assert_eq!(fake.store::<Linux>().geometry(), expected);
    }
}

/// A stripe that is no power of two, or that the device begins inside of, is
/// no unit to align to.
#[test]
fn odd_stripes_are_not_told() {
    for (stripe, begin, told) in [
        (131072, 0, 131072),
        (196608, 0, 512),
        (131072, 512, 512),
        (1 << 40, 0, 512),
        (256, 0, 512),
    ] {
        let fake = Fake::freebsd_device(65536, 512, stripe);
        fake.with(|s| s.answers.insert(Request::DIOCGSTRIPEOFFSET.number(), begin));
        let geometry = fake.store::<FreeBsd>().geometry();
        assert_eq!(geometry.physical_sector_size, told, "{stripe} {begin}");
    }
    // Not every provider answers.
    let fake = Fake::freebsd_device(65536, 512, 4096);
    fake.with(|s| {
        s.answers.remove(&Request::DIOCGSTRIPESIZE.number());
        s.answers.remove(&Request::DIOCGSTRIPEOFFSET.number());
    });
    assert_eq!(fake.store::<FreeBsd>().geometry().physical_sector_size, 512);
}

#[test]
fn options_become_flags() {
    let opened = |options: OpenOptions| {
        let fake = Fake::file(4096);
        File::<Fake, FreeBsd>::open(fake.clone(), Path::new("disk"), &options).unwrap();
        fake.log().into_iter().find_map(|call| match call {
            Call::Open(how) => Some(how),
            _ => None,
        })
    };
    let how = How { write: true, direct: false, sync: false };
    assert_eq!(opened(DEFAULT), Some(how));
    assert_eq!(opened(OpenOptions { nocache: true, ..DEFAULT }), Some(How { direct: true, ..how }));
    assert_eq!(opened(OpenOptions { sync: true, ..DEFAULT }), Some(How { sync: true, ..how }));
    assert_eq!(
        opened(OpenOptions { read_only: true, ..DEFAULT }),
        Some(How { write: false, ..how })
    );
}

#[test]
fn what_cannot_be_written_is_read_only() {
    for errno in [libc::EACCES, libc::EPERM, libc::EROFS] {
        let fake = Fake::file(4096);
        fake.with(|s| s.opens.push_back(Bend::Fail(errno)));
        let store = File::<Fake, Linux>::open(fake.clone(), Path::new("disk"), &DEFAULT).unwrap();
        assert!(store.geometry().read_only);
        assert!(!store.geometry().volatile_cache);
        let opens: Vec<_> =
            fake.log().into_iter().filter(|call| matches!(call, Call::Open(_))).collect();
        let how = How { write: true, ..How::default() };
        assert_eq!(opens, [Call::Open(how), Call::Open(How { write: false, ..how })]);
    }

    // Other errors, and those of the second try, are the user's to see.
    let fake = Fake::file(4096);
    fake.with(|s| s.opens.push_back(Bend::Fail(libc::EMFILE)));
    assert_eq!(refused::<Linux>(&fake, &DEFAULT).errno(), libc::EMFILE);
    fake.with(|s| s.opens.extend([Bend::Fail(libc::EROFS), Bend::Fail(libc::EACCES)]));
    assert_eq!(refused::<Linux>(&fake, &DEFAULT).errno(), libc::EACCES);
    let read_only = OpenOptions { read_only: true, ..DEFAULT };
    fake.with(|s| s.opens.push_back(Bend::Fail(libc::EACCES)));
    assert_eq!(refused::<Linux>(&fake, &read_only).errno(), libc::EACCES);

    // Linux opens a device for writing that is set read-only.
    let fake = Fake::linux_device(4096, 512, 512);
    fake.with(|s| s.answers.insert(Request::BLKROGET.number(), 1));
    assert!(fake.store::<Linux>().geometry().read_only);
}

#[test]
fn what_is_no_disk_is_refused() {
    use FileType::{Block, Character, Directory, Other};
    fn check<P: Policy>(types: &[FileType]) {
        for file_type in types {
            let fake = Fake::file(4096);
            fake.with(|s| s.file_type = Some(*file_type));
            let error = refused::<P>(&fake, &DEFAULT);
            let errno = if *file_type == Directory { libc::EISDIR } else { libc::EINVAL };
            assert_eq!(error.errno(), errno);
            // It was not even opened.
            assert_eq!(fake.log(), [Call::Stat]);
        }
    }
    check::<Linux>(&[Directory, Character, Other]);
    check::<FreeBsd>(&[Directory, Block, Other]);

    let fake = Fake::file(4096);
    fake.with(|s| s.file_type = Some(Directory));
    assert_eq!(
        refused::<FreeBsd>(&fake, &DEFAULT).to_string(),
        "path=disk: is a directory; allowed is an existing regular file or disk device"
    );

    // A character device that answers no disk's question: a terminal, say.
    let fake = Fake::file(4096);
    fake.with(|s| s.file_type = Some(Character));
    let error = refused::<FreeBsd>(&fake, &DEFAULT);
    assert_eq!(error.errno(), libc::ENOTTY);
    assert_eq!(
        error.to_string(),
        "path=disk: is not a disk; allowed is an existing regular file or disk device"
    );
}

#[test]
fn errors_keep_their_number_and_name_the_path() {
    let fake = Fake::file(4096);
    fake.with(|s| s.stat = Some(libc::ENOENT));
    let error = refused::<Linux>(&fake, &DEFAULT);
    assert_eq!(error.errno(), libc::ENOENT);
    assert_eq!(
        error.to_string(),
        "path=disk: No such file or directory; allowed is an existing regular file or block device"
    );
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().starts_with("path=disk: No such file"));

    let fake = Fake::file(4096);
    fake.with(|s| s.limit = Some(libc::EPERM));
    assert_eq!(refused::<FreeBsd>(&fake, &DEFAULT).errno(), libc::EPERM);

    // A file system without O_DIRECT.
    let fake = Fake::file(4096);
    fake.with(|s| s.opens.push_back(Bend::Fail(libc::EINVAL)));
    let error = refused::<Linux>(&fake, &OpenOptions { nocache: true, ..DEFAULT });
    assert!(error.to_string().starts_with("nocache=true: disk is on"), "{error}");
}

#[test]
fn a_store_holds_at_least_one_sector() {
    for (size, sector_size) in [(0, None), (511, None), (4095, Some((4096, None)))] {
        let error = refused::<Linux>(&Fake::file(size), &OpenOptions { sector_size, ..DEFAULT });
        assert!(error.to_string().starts_with(&format!("path=disk: has {size} bytes")), "{error}");
    }
    Fake::file(512).store::<Linux>();
}

#[test]
fn sectorsize_is_told_to_the_guest() {
    for (sector_size, told) in [
        ((512, None), (512, 512)),
        ((4096, None), (4096, 4096)),
        ((512, Some(512)), (512, 512)),
        ((512, Some(4096)), (512, 4096)),
        ((4096, Some(1 << 17)), (4096, 1 << 17)),
    ] {
        let options = OpenOptions { sector_size: Some(sector_size), ..DEFAULT };
        let geometry = Fake::file(65536).store_with::<FreeBsd>(&options).geometry();
        assert_eq!((geometry.sector_size, geometry.physical_sector_size), told);
        let fake = Fake::freebsd_device(65536, 512, 0);
        let geometry = fake.store_with::<FreeBsd>(&options).geometry();
        assert_eq!((geometry.sector_size, geometry.physical_sector_size), told);
    }
}

#[test]
fn a_bad_sectorsize_is_explained() {
    let explain = |fake: &Fake, sector_size| {
        let error =
            refused::<FreeBsd>(fake, &OpenOptions { sector_size: Some(sector_size), ..DEFAULT });
        assert_eq!(error.errno(), libc::EINVAL);
        error.to_string()
    };
    let file = Fake::file(65536);
    let allowed = "allowed is logical[/physical], powers of two with 512 <= logical <= physical";
    for (sector_size, value, why) in [
        ((0, None), "0", "0 is not a power of two of at least 512"),
        ((256, None), "256", "256 is not a power of two of at least 512"),
        ((1000, Some(4096)), "1000/4096", "1000 is not a power of two of at least 512"),
        ((512, Some(5000)), "512/5000", "5000 is not a power of two of at least 512"),
        ((4096, Some(512)), "4096/512", "the physical sector is smaller than the logical one"),
        ((u32::MAX, None), "4294967295", "4294967295 is not a power of two of at least 512"),
    ] {
        assert_eq!(explain(&file, sector_size), format!("sectorsize={value}: {why}; {allowed}"));
    }

    let device = Fake::freebsd_device(65536, 4096, 0);
    assert_eq!(
        explain(&device, (512, Some(4096))),
        "sectorsize=512/4096: not a multiple of the sectors of disk, 4096 bytes; allowed is \
         logical[/physical], powers of two with 4096 <= logical <= physical"
    );

    // A disk with sectors for a checksum each is of no use to a guest.
    let odd = refused::<FreeBsd>(&Fake::freebsd_device(65000, 520, 0), &DEFAULT);
    assert!(odd.to_string().starts_with("path=disk: has sectors of 520 bytes"), "{odd}");
}

/// With O_DIRECT on Linux the file system's disk decides what can be read.
#[test]
fn the_unit_of_o_direct_is_found_by_trying() {
    let direct = OpenOptions { nocache: true, ..DEFAULT };
    for (refusals, unit) in [(0, 512), (1, 1024), (3, 4096)] {
        let fake = Fake::file(65536);
        fake.with(|s| s.transfers.extend(vec![Bend::Fail(libc::EINVAL); refusals]));
        assert_eq!(fake.store_with::<Linux>(&direct).geometry().sector_size, unit);
    }
    let fake = Fake::file(65536);
    fake.with(|s| s.transfers.extend([Bend::Fail(libc::EINVAL); 4]));
    refused::<Linux>(&fake, &direct);

    let fake = Fake::file(65536);
    fake.with(|s| s.transfers.extend([Bend::Fail(libc::EINVAL); 3]));
    let error = refused::<Linux>(&fake, &OpenOptions { sector_size: Some((512, None)), ..direct });
    assert!(error.to_string().starts_with("sectorsize=512: not a multiple"), "{error}");
}
