// SPDX-License-Identifier: BSD-2-Clause

//! The guest's kernel and initramfs, made from the packages of the set `guest`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fetch::Fetched;

use super::cpio::Cpio;
use super::{Result, elf};

const INIT: &[u8] = include_bytes!("../../../guest/init");

/// Programs of the guest beside busybox; each brings the libraries it needs.
const PROGRAMS: [&str; 20] = [
    "usr/bin/fio",
    "usr/bin/findmnt",
    "usr/bin/lsblk",
    "usr/bin/lscpu",
    "usr/bin/taskset",
    "usr/sbin/blkdiscard",
    "usr/sbin/blkid",
    "usr/sbin/blkzone",
    "usr/sbin/blockdev",
    "usr/sbin/dumpe2fs",
    "usr/sbin/e2fsck",
    "usr/sbin/fsck.ext4",
    "usr/sbin/fsfreeze",
    "usr/sbin/fstrim",
    "usr/sbin/mke2fs",
    "usr/sbin/mkfs.ext4",
    "usr/sbin/nvme",
    "usr/sbin/resize2fs",
    "usr/sbin/tune2fs",
    "usr/sbin/wipefs",
];

/// Modules of what the kernel does not have built in, in loading order: the
/// file system of EFI system partitions.
const MODULES: [&str; 5] =
    ["fs/fat/fat", "fs/fat/vfat", "fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/nls/nls_utf8"];

const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What every run starts from; a run appends its commands to the initramfs.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// The kernel, as `-kernel` takes it.
    pub(super) kernel: PathBuf,
    /// A cpio archive, not packed: a guest under emulation takes longer to unpack
    /// it than QEMU takes to hand over all of it.
    pub(super) initramfs: PathBuf,
}

/// Makes the image, or finds the one that an earlier run made in `cache`.
pub(super) fn build(guest: &Fetched, cache: &Path) -> Result<Image> {
    let root = &guest.root;
    let kernel = only_file(&root.join("boot"), "vmlinuz-")?;
    // A set's folder is named for its contents, so its name and the parts that
    // are not in it tell one image from another.
    let set = root
        .parent()
        .and_then(Path::file_name)
        .ok_or("the guest's root has no parent")?
        .to_string_lossy();
    let recipe = fletcher(&[INIT, format!("{PROGRAMS:?} {MODULES:?}").as_bytes()].concat());
    let initramfs = cache.join(format!("{set}-{recipe:016x}.cpio"));
    if !initramfs.exists() {
        let bytes = pack(root)?;
        let part = cache.join(format!("{set}-{recipe:016x}.{}.part", std::process::id()));
        fs::write(&part, bytes).map_err(|e| format!("{}: {e}", part.display()))?;
        fs::rename(&part, &initramfs).map_err(|e| format!("{}: {e}", initramfs.display()))?;
    }
    Ok(Image { kernel, initramfs })
}

fn pack(root: &Path) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for dir in
        ["dev", "proc", "sys", "tmp", "run", "mnt", "root", "etc", "usr/bin", "usr/sbin", LIBRARIES]
    {
        cpio.dir(dir);
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        cpio.dir(&format!("usr/{dir}"));
        cpio.symlink(dir, &format!("usr/{dir}"));
    }
    // The kernel opens it for the first program before anything is mounted.
    cpio.device("dev/console", 5, 1);
    cpio.file("init", 0o755, INIT);
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\n");
    cpio.file("usr/bin/busybox", 0o755, &read(&root.join("usr/bin/busybox"))?);

    let mut libraries = BTreeMap::new();
    for program in PROGRAMS {
        let bytes = read(&root.join(program))?;
        add_libraries(root, &bytes, program, &mut libraries)?;
        cpio.file(program, 0o755, &bytes);
    }
    cpio.file(&format!("usr/{LOADER}"), 0o755, &read(&root.join(LOADER))?);
    // All in one folder, which the loader searches without a cache or paths.
    for (name, bytes) in &libraries {
        cpio.file(&format!("{LIBRARIES}/{name}"), 0o644, bytes);
    }

    let modules = only_file(&root.join("usr/lib/modules"), "")?.join("kernel");
    for (i, module) in MODULES.iter().enumerate() {
        let packed = modules.join(format!("{module}.ko.xz"));
        let name = module.rsplit('/').next().unwrap_or(module);
        // The numbers keep the loading order in the shell's listing.
        cpio.file(&format!("usr/lib/modules/{i}-{name}.ko"), 0o644, &fetch::read_xz(&packed)?);
    }

    Ok(cpio.finish())
}

/// Adds the libraries that `program` needs, and those that they need.
fn add_libraries(
    root: &Path,
    file: &[u8],
    program: &str,
    found: &mut BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let names = elf::needed(file).ok_or_else(|| format!("{program}: not an ELF program"))?;
    for name in names {
        if found.contains_key(&name) || LOADER.ends_with(&name) {
            continue;
        }
        let path = find_library(&root.join(LIBRARIES), &name)
            .ok_or_else(|| format!("{program} needs {name}, which no package brought"))?;
        let bytes = read(&path)?;
        found.insert(name.clone(), bytes.clone());
        add_libraries(root, &bytes, &name, found)?;
    }
    Ok(())
}

/// Looks in the library folder, then in those directly below it, where some
/// packages keep private libraries.
fn find_library(folder: &Path, name: &str) -> Option<PathBuf> {
    let direct = folder.join(name);
    if direct.exists() {
        return Some(direct);
    }
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists())
}

/// The one entry of `folder` whose name starts with `prefix`.
fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(format!("{}: not exactly one {prefix}*", folder.display()).into()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// A checksum that tells recipes apart.
fn fletcher(bytes: &[u8]) -> u64 {
    let (mut a, mut b) = (1u64, 0u64);
    for byte in bytes {
        a = (a + u64::from(*byte)) % 0xffff_ffff;
        b = (b + a) % 0xffff_ffff;
    }
    b << 32 | a
}
