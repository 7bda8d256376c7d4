// SPDX-License-Identifier: BSD-2-Clause

//! The checked-in record of what the tests were last run with, `packages.lock`.

use crate::error::{Error, Result};
use crate::index::Package;

/// One line: `name version minimum sha256`. A minimum of `0` leaves the choice
/// to the packages' own relations. A name may stand in several lines, where
/// several of its versions are in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The binary package's name.
    pub name: String,
    /// The version that is preferred while the mirror has it.
    pub version: String,
    /// No older version is accepted.
    pub minimum: String,
    /// SHA-256 of that version's file.
    pub sha256: String,
}

/// The whole record.
#[derive(Debug, Default)]
pub struct Record {
    /// All lines, sorted by name and version.
    pub lines: Vec<Line>,
}

const HEAD: &str = "# Debian packages that the tests run: name, version, minimum version, SHA-256 of the file.\n\
    # Written by `fetch --update-lock`, which keeps the minimum; edit that column by hand.\n";

impl Record {
    /// Reads the record's text.
    pub fn parse(text: &str) -> Result<Record> {
        let mut lines = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, version, minimum, sha256] = words[..] else {
                return Err(Error(format!(
                    "packages.lock: not 'name version minimum sha256': {line}"
                )));
            };
            lines.push(Line {
                name: name.to_owned(),
                version: version.to_owned(),
                minimum: minimum.to_owned(),
                sha256: sha256.to_owned(),
            });
        }
        Ok(Record { lines })
    }

    /// The recorded versions of a package.
    pub fn versions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.name == name)
    }

    /// The oldest version of a package that may be used.
    pub fn minimum(&self, name: &str) -> &str {
        self.lines.iter().find(|line| line.name == name).map_or("0", |line| &line.minimum)
    }

    /// Replaces the lines of the packages given, keeps each one's minimum and
    /// drops what is no longer used.
    pub fn update(&self, packages: &[Package]) -> Record {
        let mut lines: Vec<Line> = packages
            .iter()
            .map(|package| Line {
                name: package.name.clone(),
                version: package.version.clone(),
                minimum: self.minimum(&package.name).to_owned(),
                sha256: package.sha256.clone(),
            })
            .collect();
        lines.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.version.cmp(&b.version)));
        lines.dedup();
        Record { lines }
    }

    /// The record as text.
    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for line in &self.lines {
            text.push_str(&format!(
                "{} {} {} {}\n",
                line.name, line.version, line.minimum, line.sha256
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let text = format!("{HEAD}a 1-1 0 {0}\nb 2:3 2:1 {1}\n", "a".repeat(64), "b".repeat(64));
        let record = Record::parse(&text).unwrap();
        assert_eq!(record.text(), text);
        assert_eq!(record.minimum("b"), "2:1");
        assert_eq!(record.minimum("c"), "0");
        assert!(Record::parse("a 1 2\n").is_err());
    }
}
