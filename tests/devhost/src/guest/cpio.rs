// SPDX-License-Identifier: BSD-2-Clause

//! Archives in the `newc` form of cpio, which the kernel unpacks as its first
//! root file system.

use std::collections::BTreeSet;

/// An archive in the making. All files belong to root and bear no time, so
/// that the same input gives the same bytes.
#[derive(Debug, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    dirs: BTreeSet<String>,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;
const FILE: u32 = 0o100_000;

impl Cpio {
    /// Adds a folder and those above it. Paths have no leading slash.
    pub(super) fn dir(&mut self, path: &str) {
        let mut end = 0;
        while end < path.len() {
            end = path[end + 1..].find('/').map_or(path.len(), |at| end + 1 + at);
            if self.dirs.insert(path[..end].to_owned()) {
                self.entry(&path[..end], DIRECTORY, (0, 0), &[]);
            }
        }
    }

    /// Adds a file with permissions `mode`, and the folders above it.
    pub(super) fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.parent(path);
        self.entry(path, FILE | mode, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.parent(path);
        self.entry(path, SYMLINK, (0, 0), target.as_bytes());
    }

    /// Adds a character device node.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.parent(path);
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[]);
    }

    /// The archive's bytes; their number is a multiple of four.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parent(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.dir(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            u32::try_from(data.len()).expect("a file of 4 GiB or more"),
            0, // the archive's own device
            0,
            major,
            minor,
            u32::try_from(name.len() + 1).expect("a name of 4 GiB or more"),
            0, // checksum, unused in this form
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_folders_come_first_and_once() {
        let mut cpio = Cpio::default();
        cpio.file("a/b/c", 0o644, b"12345");
        cpio.file("a/b/d", 0o755, b"");
        cpio.symlink("l", "a/b");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&bytes[at + 110..at + 109 + name_size]).unwrap();
            let data = (at + 110 + name_size).next_multiple_of(4);
            names.push((name.to_owned(), mode, bytes[data..data + size].to_vec()));
            at = (data + size).next_multiple_of(4);
        }
        let want: [(&str, usize, &[u8]); 6] = [
            ("a", 0o040_755, b""),
            ("a/b", 0o040_755, b""),
            ("a/b/c", 0o100_644, b"12345"),
            ("a/b/d", 0o100_755, b""),
            ("l", 0o120_777, b"a/b"),
            ("TRAILER!!!", 0, b""),
        ];
        let want: Vec<_> = want.iter().map(|(n, m, d)| ((*n).to_owned(), *m, d.to_vec())).collect();
        assert_eq!(names, want);
    }
}
