// SPDX-License-Identifier: BSD-2-Clause

//! Which mirror to ask: the one in `DEBIAN_MIRROR`, else those that the host's
//! own apt sources name.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Suites that only Debian's main archive has. Its security archive and other
/// vendors' use other names, or hold only one of these and fail on the next.
const SUITES: [&str; 14] = [
    "stable",
    "oldstable",
    "testing",
    "unstable",
    "sid",
    "experimental",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "bookworm-updates",
    "trixie-updates",
    "trixie-backports",
];

/// The base addresses to try, in order, each without a trailing slash.
pub(crate) fn candidates() -> Result<Vec<String>> {
    if let Ok(mirror) = std::env::var("DEBIAN_MIRROR")
        && !mirror.is_empty()
    {
        return Ok(vec![mirror.trim_end_matches('/').to_owned()]);
    }
    let mut found = Vec::new();
    for (text, deb822) in source_files(Path::new("/etc/apt")) {
        let uris = if deb822 { from_deb822(&text) } else { from_list(&text) };
        for uri in uris.into_iter().flat_map(resolve_mirror_file) {
            let uri = uri.trim_end_matches('/').to_owned();
            if !found.contains(&uri) {
                found.push(uri);
            }
        }
    }
    if found.is_empty() {
        return Err(Error(
            "no Debian mirror known: set DEBIAN_MIRROR to the base address of one (the folder that holds dists/ and \
             pool/); this machine's apt sources name none"
                .to_owned(),
        ));
    }
    Ok(found)
}

fn source_files(apt: &Path) -> Vec<(String, bool)> {
    let mut paths = vec![apt.join("sources.list")];
    if let Ok(dir) = fs::read_dir(apt.join("sources.list.d")) {
        let mut more: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
        more.sort();
        paths.extend(more);
    }
    let mut files = Vec::new();
    for path in paths {
        let deb822 = match path.extension().and_then(|e| e.to_str()) {
            Some("list") => false,
            Some("sources") => true,
            _ => continue,
        };
        if let Ok(text) = fs::read_to_string(&path) {
            files.push((text, deb822));
        }
    }
    files
}

/// `mirror+file:/path` names a file with one address a line.
fn resolve_mirror_file(uri: String) -> Vec<String> {
    let Some(path) = uri.strip_prefix("mirror+file:") else { return vec![uri] };
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| !word.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// The one-line format: `deb [options] URI suite component...`.
fn from_list(text: &str) -> Vec<String> {
    let mut uris = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|r| r.starts_with([' ', '\t'])) else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        if SUITES.contains(&suite) && words.any(|component| component == "main") {
            uris.push(uri.to_owned());
        }
    }
    uris
}

/// The deb822 format: stanzas of `Types`, `URIs`, `Suites`, `Components`.
fn from_deb822(text: &str) -> Vec<String> {
    let mut uris = Vec::new();
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in plain.split(|line| line.trim().is_empty()) {
        let stanza = stanza.join("\n");
        let words = |field: &str| -> Vec<String> {
            crate::index::field(&stanza, field)
                .map(|value| value.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let disabled = words("Enabled")
            .first()
            .is_some_and(|word| matches!(word.as_str(), "no" | "false" | "0"));
        if !disabled
            && words("Types").iter().any(|t| t == "deb")
            && words("Components").iter().any(|c| c == "main")
            && words("Suites").iter().any(|s| SUITES.contains(&s.as_str()))
        {
            uris.extend(words("URIs"));
        }
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_format() {
        let text = "# deb http://a.test/debian trixie main\n\
            deb http://b.test/debian/ bookworm main contrib # note\n\
            deb-src http://c.test/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] https://d.test/debian trixie main\n\
            deb http://e.test/apt cloud-sdk-bookworm main\n\
            deb http://f.test/linux/debian bookworm stable\n\
            deb http://g.test/debian-security bookworm-security main\n";
        assert_eq!(from_list(text), ["http://b.test/debian/", "https://d.test/debian"]);
    }

    #[test]
    fn deb822_format() {
        let text = "Types: deb deb-src\n# a note\nURIs: http://a.test/debian\n  http://b.test/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
            Types: deb\nURIs: http://c.test/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://d.test/debian\nSuites: trixie\nComponents: main\n";
        assert_eq!(from_deb822(text), ["http://a.test/debian", "http://b.test/debian"]);
    }
}
