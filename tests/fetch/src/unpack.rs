// SPDX-License-Identifier: BSD-2-Clause

//! From package files to a private root that programs can run from.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use liblzma::read::XzDecoder;

use crate::error::{Context, Error, Result};
use crate::sets::Set;

/// Folders that no test reads.
const SKIP: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/doc-base",
];

/// Makes the root's top-level folders: Debian's merged `/usr`, where packages
/// may still ship files under the old names.
pub(crate) fn prepare_root(root: &Path) -> Result<()> {
    for dir in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(dir)).context(root.display())?;
        symlink(Path::new("usr").join(dir), root.join(dir)).context(root.display())?;
    }
    Ok(())
}

/// Unpacks one `.deb` file into `root`. Owners are not kept.
pub(crate) fn unpack(deb: &Path, root: &Path, keep: &[&str]) -> Result<()> {
    let file = File::open(deb).context(deb.display())?;
    let data = data_member(file).context(deb.display())?;
    let mut archive = tar::Archive::new(XzDecoder::new(data));
    archive.set_preserve_mtime(true);
    for entry in archive.entries().context(deb.display())? {
        let mut entry = entry.context(deb.display())?;
        let path = entry.path().context(deb.display())?.into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        let skipped = SKIP.iter().any(|dir| path.starts_with(dir));
        let kept = keep.is_empty() || keep.iter().any(|dir| path.starts_with(dir));
        if skipped || !kept || path.as_os_str().is_empty() {
            continue;
        }
        // unpack_in() refuses paths and links that lead out of the root.
        entry.unpack_in(root).context(format!("{}: {}", deb.display(), path.display()))?;
    }
    Ok(())
}

/// Finds `data.tar.xz` in the ar archive that a package is: a magic, then
/// members with headers of 60 bytes, each padded to an even length.
fn data_member(mut file: File) -> std::io::Result<impl Read> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(bad("not a Debian package"));
    }
    loop {
        let mut header = [0; 60];
        file.read_exact(&mut header).map_err(|_| bad("a package without data"))?;
        let text = String::from_utf8_lossy(&header).into_owned();
        let name = text[..16].trim_end().trim_end_matches('/').to_owned();
        let size: u64 = text[48..58].trim().parse().map_err(|_| bad("a broken archive header"))?;
        match name.as_str() {
            "data.tar.xz" => return Ok(file.take(size)),
            other if other.starts_with("data.tar") => {
                return Err(bad(&format!("{other}: only xz is understood")));
            }
            _ => {
                let padded = size + size % 2;
                std::io::copy(&mut (&file).take(padded), &mut std::io::sink())?;
            }
        }
    }
}

/// Writes `bin/NAME` for each program of the set: a script that starts it with
/// the root's own loader and libraries, so that the host's do not matter.
pub(crate) fn write_launchers(dir: &Path, set: &Set) -> Result<()> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).context(bin.display())?;
    for (name, program, variables) in &set.programs {
        let path = bin.join(name);
        let variables = variables.replace('@', "$root");
        let export =
            if variables.is_empty() { String::new() } else { format!("export \"{variables}\"\n") };
        let script = format!(
            "#!/bin/sh\nset=$(CDPATH= cd -- \"$(dirname -- \"$0\")/..\" && pwd) || exit 127\nroot=$set/root\n{export}\
             exec \"$root/lib64/ld-linux-x86-64.so.2\" --argv0 \"$set/bin/{name}\" \
             --library-path \"$root/usr/lib/x86_64-linux-gnu:$root/usr/lib\" \"$root/{program}\" \"$@\"\n"
        );
        if !dir.join("root").join(program).exists() {
            return Err(Error(format!("{}: no {program} in its packages", set.name)));
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(&path)
            .context(path.display())?;
        file.write_all(script.as_bytes()).context(path.display())?;
    }
    Ok(())
}
