// SPDX-License-Identifier: BSD-2-Clause

//! Real files and the system's own calls.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::fake::Guest;
use crate::backend::file::{self, OpenOptions};
use crate::backend::{Backend, Error};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("bhyve-nvme-{name}.{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// A file of `size` zero bytes.
    fn file(&self, size: usize) -> PathBuf {
        let path = self.0.join("disk");
        fs::write(&path, vec![0; size]).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn data_reaches_the_file_and_comes_back() {
    for (n, options) in [
        OpenOptions::default(),
        OpenOptions { sync: true, ..OpenOptions::default() },
        OpenOptions { nodelete: true, sector_size: Some((4096, None)), ..OpenOptions::default() },
    ]
    .into_iter()
    .enumerate()
    {
        let directory = Directory::new(&format!("data{n}"));
        let path = directory.file(1 << 20);
        let store = file::open(&path, &options).unwrap();
        assert_eq!(store.geometry().size, 1 << 20);
        assert!(!store.geometry().read_only);

        store.write(4092, &Guest::new(&[4, 100, 3996], 0xa5).list, true).unwrap();
        store.flush().unwrap();
        let found = fs::read(&path).unwrap();
        assert_eq!(found.len(), 1 << 20);
        assert!(found[4092..8192].iter().all(|b| *b == 0xa5));
        assert!(found[..4092].iter().chain(&found[8192..]).all(|b| *b == 0));

        let back = Guest::new(&[2000, 2100], 0);
        store.read(4092, &back.list).unwrap();
        assert_eq!(back.contents(), [0xa5; 4100]);

        let long = Guest::new(&[512; 1500], 0x5a);
        store.write(512, &long.list, false).unwrap();
        let back = Guest::new(&[512; 1500], 0);
        store.read(512, &back.list).unwrap();
        assert_eq!(back.contents(), long.contents());
    }
}

#[test]
fn a_truncated_file_is_out_of_range_and_stays_so() {
    let directory = Directory::new("truncated");
    let path = directory.file(65536);
    let store = file::open(&path, &OpenOptions::default()).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3000).unwrap();

    let guest = Guest::new(&[512; 8], 1);
    assert_eq!(store.read(0, &guest.list), Err(Error::OutOfRange));
    assert_eq!(store.write(0, &guest.list, false), Err(Error::OutOfRange));
    assert_eq!(fs::metadata(&path).unwrap().len(), 3000);
    assert_eq!(store.refresh(), Ok(3000));
}

#[test]
fn a_file_without_permission_to_write_is_read_only() {
    let directory = Directory::new("read-only");
    let path = directory.file(4096);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // The superuser may write all the same.
    let superuser = fs::OpenOptions::new().write(true).open(&path).is_ok();
    let store = file::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(store.geometry().read_only, !superuser);

    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let store = file::open(&path, &read_only).unwrap();
    let guest = Guest::new(&[512], 1);
    assert_eq!(store.write(0, &guest.list, true), Err(Error::ReadOnly));
    store.flush().unwrap();
    store.read(0, &guest.list).unwrap();
    assert_eq!(guest.contents(), [0; 512]);
}

#[test]
fn what_is_no_store_is_refused_and_does_not_hang() {
    let directory = Directory::new("refused");
    let options = OpenOptions::default();
    let error = |path: PathBuf| file::open(&path, &options).err().unwrap();

    let missing = error(directory.0.join("missing"));
    assert_eq!(missing.errno(), libc::ENOENT);
    assert!(missing.to_string().contains("missing: No such file or directory"), "{missing}");
    assert_eq!(error(directory.0.clone()).errno(), libc::EISDIR);
    assert_eq!(error(directory.file(0)).errno(), libc::EINVAL);
    assert_eq!(error(directory.0.join("a\0b")).errno(), libc::EINVAL);

    let socket = directory.0.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(error(socket).errno(), libc::EINVAL);
    let null = error(PathBuf::from("/dev/null"));
    assert!(null.to_string().starts_with("path=/dev/null: is "), "{null}");
    assert!(null.to_string().contains("allowed is an existing regular file"), "{null}");
}

/// O_DIRECT, where the file system of the temporary directory has it.
#[test]
fn memory_of_any_alignment_goes_around_the_cache() {
    let directory = Directory::new("direct");
    let path = directory.file(1 << 20);
    let options = OpenOptions { nocache: true, ..OpenOptions::default() };
    let store = match file::open(&path, &options) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.errno(), libc::EINVAL, "{error}");
            return;
        }
    };
    let unit = store.geometry().sector_size as usize;
    assert!(unit <= 4096);
    // Segments of the test's guest lie apart by 64 bytes more than their
    // length: the second is not aligned.
    for list in [vec![8192], vec![4096, 4096], vec![4092, 4096, 4]] {
        let guest = Guest::new(&list, list.len() as u8);
        store.write(4096, &guest.list, true).unwrap();
        let back = Guest::new(&list, 0);
        store.read(4096, &back.list).unwrap();
        assert_eq!(back.contents(), guest.contents());
        let mut found = vec![0; 8192];
        fs::OpenOptions::new()
            .read(true)
            .open(&path)
            .unwrap()
            .read_exact_at(&mut found, 4096)
            .unwrap();
        assert_eq!(found, guest.contents());
    }
    // FreeBSD takes any offset.
    #[cfg(target_os = "linux")]
    assert_eq!(store.read(1, &Guest::new(&[512], 0).list), Err(Error::Invalid));
}

/// Both in a file that has data, of which some is outside.
#[test]
fn zeroes_and_holes_are_where_they_should_be() {
    const SIZE: usize = 1 << 20;
    for (name, options) in [
        ("free", OpenOptions::default()),
        ("kept", OpenOptions { nodelete: true, ..OpenOptions::default() }),
    ] {
        let directory = Directory::new(&format!("space-{name}"));
        let path = directory.file(SIZE);
        fs::write(&path, vec![0xa5; SIZE]).unwrap();
        let store = file::open(&path, &options).unwrap();
        store.write_zeroes(512, 1024, false).unwrap();
        store.write_zeroes(100 * 512, 300 * 512, true).unwrap();
        store.deallocate(500 * 512 + 512, 200 * 512).unwrap();
        store.flush().unwrap();
        let found = fs::read(&path).unwrap();
        assert_eq!(found.len(), SIZE);
        let unit = store.geometry().deallocation_unit as usize;
        let holes = if store.geometry().can_deallocate {
            (501_usize * 512).next_multiple_of(unit)..701 * 512 / unit * unit
        } else {
            0..0
        };
        for (sector, bytes) in found.chunks(512).enumerate() {
            let at = sector * 512;
            let zero = (512..1536).contains(&at)
                || (100 * 512..400 * 512).contains(&at)
                || holes.contains(&at);
            let expected = if zero { 0 } else { 0xa5 };
            assert!(bytes.iter().all(|b| *b == expected), "{name}: sector {sector}");
        }
    }
}
