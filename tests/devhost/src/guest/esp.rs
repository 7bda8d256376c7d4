// SPDX-License-Identifier: BSD-2-Clause

//! A disk with an EFI system partition: what firmware looks for.

/// Bytes of a cluster, for sectors of any size up to this.
const CLUSTER: usize = 4096;
const CLUSTERS: usize = 32_000;
/// Where the partition starts, in bytes.
const START: usize = 1 << 20;
const ROOT_ENTRIES: usize = 512;
const ENTRY: usize = 32;
const FAT_BYTES: usize = (CLUSTERS + 2) * 2;
const LAST: u16 = 0xffff;
const DIRECTORY: u8 = 0x10;
const FILE: u8 = 0x20;
const EFI_SYSTEM: u8 = 0xef;

/// A disk of 128 MiB and sectors of `sector` bytes (512 or 4096): a FAT16 file
/// system in a partition of its own, with `loader` as what firmware starts from
/// a disk and `files` in its root folder, named in capitals as 8.3.
///
/// # Panics
/// With names of any other form, and when there is no room.
pub(super) fn esp(sector: usize, loader: &[u8], files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut fat = Fat { next: vec![0xfff8, LAST], data: Vec::new() };
    let efi = fat.add(&[0; CLUSTER]);
    let boot = fat.add(&[0; CLUSTER]);
    let application = fat.add(loader);
    fat.set(
        efi,
        &[
            entry(".", DIRECTORY, efi, 0),
            entry("..", DIRECTORY, 0, 0),
            entry("BOOT", DIRECTORY, boot, 0),
        ],
    );
    let bootx64 = entry("BOOTX64.EFI", FILE, application, loader.len());
    fat.set(boot, &[entry(".", DIRECTORY, boot, 0), entry("..", DIRECTORY, efi, 0), bootx64]);
    let mut root = vec![entry("EFI", DIRECTORY, efi, 0)];
    for (name, contents) in files {
        let first = fat.add(contents);
        root.push(entry(name, FILE, first, contents.len()));
    }
    assert!(fat.next.len() <= CLUSTERS + 2, "no room in the EFI system partition");

    let fat_sectors = FAT_BYTES.div_ceil(sector);
    let table = START + sector;
    let root_at = table + 2 * fat_sectors * sector;
    let data_at = root_at + ROOT_ENTRIES * ENTRY;
    let partition_sectors = (data_at + CLUSTERS * CLUSTER - START) / sector;

    let mut disk = vec![0; 128 << 20];
    put(&mut disk, 0, &master_boot_record(START / sector, partition_sectors));
    put(&mut disk, START, &parameters(sector, fat_sectors, partition_sectors));
    let chains: Vec<u8> = fat.next.iter().flat_map(|next| next.to_le_bytes()).collect();
    put(&mut disk, table, &chains);
    put(&mut disk, table + fat_sectors * sector, &chains);
    put(&mut disk, root_at, &root.concat());
    put(&mut disk, data_at, &fat.data);
    disk
}

/// The file system's clusters.
struct Fat {
    /// Of each cluster the next one in its file.
    next: Vec<u16>,
    /// From cluster 2 on.
    data: Vec<u8>,
}

impl Fat {
    /// Puts `bytes` into clusters of their own, and returns the first.
    fn add(&mut self, bytes: &[u8]) -> u16 {
        let first = self.next.len();
        let end = first + bytes.len().div_ceil(CLUSTER).max(1);
        self.next
            .extend((first + 1..end).map(|next| u16::try_from(next).expect("too many clusters")));
        self.next.push(LAST);
        self.data.extend_from_slice(bytes);
        self.data.resize((end - 2) * CLUSTER, 0);
        u16::try_from(first).expect("too many clusters")
    }

    /// Fills the folder in `cluster`.
    fn set(&mut self, cluster: u16, entries: &[[u8; ENTRY]]) {
        put(&mut self.data, (usize::from(cluster) - 2) * CLUSTER, &entries.concat());
    }
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn entry(name: &str, attribute: u8, cluster: u16, size: usize) -> [u8; ENTRY] {
    let (stem, extension) = match name {
        "." | ".." => (name, ""),
        _ => name.split_once('.').unwrap_or((name, "")),
    };
    assert!(stem.len() <= 8 && extension.len() <= 3, "{name}: not 8.3");
    let mut entry = [0; ENTRY];
    entry[..11].fill(b' ');
    put(&mut entry, 0, stem.as_bytes());
    put(&mut entry, 8, extension.as_bytes());
    entry[11] = attribute;
    // A day that exists: the first of January 1980.
    put(&mut entry, 24, &0x21u16.to_le_bytes());
    put(&mut entry, 26, &cluster.to_le_bytes());
    put(&mut entry, 28, &u32::try_from(size).expect("a file of 4 GiB").to_le_bytes());
    entry
}

fn master_boot_record(start: usize, sectors: usize) -> [u8; 512] {
    let mut record = [0; 512];
    record[446 + 4] = EFI_SYSTEM;
    put(&mut record, 446 + 8, &(start as u32).to_le_bytes());
    put(&mut record, 446 + 12, &(sectors as u32).to_le_bytes());
    put(&mut record, 510, &[0x55, 0xaa]);
    record
}

/// The file system's first sector.
fn parameters(sector: usize, fat_sectors: usize, sectors: usize) -> [u8; 512] {
    let mut block = [0; 512];
    put(&mut block, 0, &[0xeb, 0x3c, 0x90]);
    put(&mut block, 3, b"DEVHOST ");
    put(&mut block, 11, &(sector as u16).to_le_bytes());
    block[13] = (CLUSTER / sector) as u8;
    put(&mut block, 14, &1u16.to_le_bytes()); // sectors before the tables
    block[16] = 2; // tables
    put(&mut block, 17, &(ROOT_ENTRIES as u16).to_le_bytes());
    block[21] = 0xf8; // a fixed disk
    put(&mut block, 22, &(fat_sectors as u16).to_le_bytes());
    put(&mut block, 28, &((START / sector) as u32).to_le_bytes());
    put(&mut block, 32, &(sectors as u32).to_le_bytes());
    block[36] = 0x80;
    block[38] = 0x29; // a label follows
    put(&mut block, 43, b"EFI SYSTEM ");
    put(&mut block, 54, b"FAT16   ");
    put(&mut block, 510, &[0x55, 0xaa]);
    block
}
