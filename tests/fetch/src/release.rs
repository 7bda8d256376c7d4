// SPDX-License-Identifier: BSD-2-Clause

//! A suite's `InRelease` file: its signature, and the checksums in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::index::field;

const KEYRINGS: [&str; 3] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg",
];

/// What came of looking at the signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// One of the keyring's keys signed the text.
    Good,
    /// It could not be checked, and why.
    No(String),
}

/// The keyring to check with, if the host has one.
pub(crate) fn keyring() -> Option<PathBuf> {
    KEYRINGS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The signed text of the file at `path`. A bad signature is an error; one that
/// cannot be checked (no gpgv, no keyring, no key) is told in the second value.
pub(crate) fn read(path: &Path, keyring: Option<&Path>) -> Result<(String, Checked)> {
    let text = fs::read_to_string(path).context(path.display())?;
    let unsigned = |why: &str| Ok((signed_part(&text), Checked::No(why.to_owned())));
    let Some(keyring) = keyring else { return unsigned("no Debian keyring on this machine") };
    let verified = path.with_extension("verified");
    let output = Command::new("gpgv")
        .args(["--status-fd", "1", "--keyring"])
        .arg(keyring)
        .arg("--output")
        .arg(&verified)
        .arg(path)
        .output();
    let Ok(output) = output else { return unsigned("no gpgv on this machine") };
    let result = fs::read_to_string(&verified);
    let _ = fs::remove_file(&verified);
    let status = String::from_utf8_lossy(&output.stdout);
    let says = |word: &str| status.lines().any(|line| line.split_whitespace().nth(1) == Some(word));
    if says("VALIDSIG") && !says("BADSIG") {
        return Ok((result.context(verified.display())?, Checked::Good));
    }
    if says("NO_PUBKEY") && !says("BADSIG") {
        return unsigned("the Debian keyring on this machine is older than the archive's keys");
    }
    Err(Error(format!(
        "{}: bad signature: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// The text between a clear signature's header and the signature itself.
fn signed_part(text: &str) -> String {
    let Some(rest) = text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----") else {
        return text.to_owned();
    };
    let body = rest.split_once("\n\n").map_or("", |(_, body)| body);
    let body = body.split("-----BEGIN PGP SIGNATURE-----").next().unwrap_or_default();
    body.lines()
        .map(|line| line.strip_prefix("- ").unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// Where a suite's package index is below `dists/SUITE/`, and its SHA-256.
pub(crate) fn index_file(release: &str, suite: &str) -> Result<(String, String)> {
    let value = |name: &str| field(release, name).unwrap_or_default();
    if !value("Origin").starts_with("Debian") || value("Codename") != suite {
        return Err(Error(format!("this is no Debian {suite}: Origin '{}'", value("Origin"))));
    }
    const NAME: &str = "main/binary-amd64/Packages.xz";
    for line in value("SHA256").lines() {
        if let [sha256, _size, NAME] = line.split_whitespace().collect::<Vec<_>>()[..] {
            let path = match value("Acquire-By-Hash") {
                // By hash the index cannot change between the two downloads.
                "yes" => format!("main/binary-amd64/by-hash/SHA256/{sha256}"),
                _ => NAME.to_owned(),
            };
            return Ok((path, sha256.to_owned()));
        }
    }
    Err(Error(format!("{suite}: no {NAME} in its InRelease file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_part_and_the_index_in_it() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nCodename: trixie\n\
            - Dashed: x\nAcquire-By-Hash: yes\nSHA256:\n aa 10 main/binary-amd64/Packages\n \
            bb 5 main/binary-amd64/Packages.xz\n-----BEGIN PGP SIGNATURE-----\nxx\n";
        let part = signed_part(text);
        assert!(part.contains("\nDashed: x\n") && !part.contains("PGP"));
        let (path, sha256) = index_file(&part, "trixie").unwrap();
        assert_eq!((path.as_str(), sha256.as_str()), ("main/binary-amd64/by-hash/SHA256/bb", "bb"));
        assert!(index_file(&part, "trixie-backports").is_err());
        assert!(index_file(&part.replace("Debian", "Other"), "trixie").is_err());
    }
}
