// SPDX-License-Identifier: BSD-2-Clause

//! The archive's package index: stanzas, and the relations between packages.

use std::collections::HashMap;

use crate::version;

/// One package of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The binary package's name.
    pub name: String,
    /// Its full version.
    pub version: String,
    /// The suite whose index names it.
    pub suite: String,
    /// The file's path below the mirror's base.
    pub filename: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// `Pre-Depends` and `Depends`: all groups are needed, one of each group is enough.
    pub depends: Vec<Vec<Relation>>,
    /// Virtual packages it stands in for, with a version where one is given.
    pub provides: Vec<(String, Option<String>)>,
}

/// A package name with an optional condition on its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The name wanted.
    pub name: String,
    /// `>=`, `=`, ... and the version.
    pub version: Option<(String, String)>,
}

impl Relation {
    /// Whether `version` of the named package is good enough.
    pub fn accepts(&self, version: &str) -> bool {
        match &self.version {
            Some((relation, wanted)) => version::satisfies(version, relation, wanted),
            None => true,
        }
    }
}

/// All packages of all suites read so far.
#[derive(Debug, Default)]
pub struct Index {
    by_name: HashMap<String, Vec<Package>>,
    /// Virtual name to the names of its providers.
    providers: HashMap<String, Vec<String>>,
}

impl Index {
    /// Adds the text of one `Packages` file.
    pub fn add(&mut self, suite: &str, text: &str) {
        for stanza in text.split("\n\n") {
            let Some(package) = parse_stanza(suite, stanza) else { continue };
            for (name, _) in &package.provides {
                let names = self.providers.entry(name.clone()).or_default();
                if !names.contains(&package.name) {
                    names.push(package.name.clone());
                }
            }
            self.by_name.entry(package.name.clone()).or_default().push(package);
        }
    }

    /// Every version of a real package, in the order of the suites.
    pub fn versions(&self, name: &str) -> &[Package] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Names of the real packages that provide `name`, in the index's order.
    pub fn providers(&self, name: &str) -> &[String] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The value of a field with its continuation lines, found without regard to case.
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let mut offset = 0;
    for line in stanza.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let Some((key, _)) = line.split_once(':') else { continue };
        if line.starts_with([' ', '\t']) || !key.eq_ignore_ascii_case(name) {
            continue;
        }
        let mut end = offset;
        for more in stanza[offset..].split_inclusive('\n') {
            if !more.starts_with([' ', '\t']) {
                break;
            }
            end += more.len();
        }
        return Some(stanza[start + key.len() + 1..end].trim());
    }
    None
}

/// `a (>= 1) | b, c` as groups of alternatives.
pub fn parse_relations(text: &str) -> Vec<Vec<Relation>> {
    text.split(',')
        .map(|group| group.split('|').filter_map(parse_relation).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

fn parse_relation(text: &str) -> Option<Relation> {
    let text = text.trim();
    let (name, version) = match text.split_once('(') {
        Some((name, condition)) => {
            let condition = condition.trim_end().trim_end_matches(')').trim();
            let split = condition.find(|c: char| !"<>=".contains(c))?;
            let (relation, version) = condition.split_at(split);
            (name, Some((relation.to_owned(), version.trim().to_owned())))
        }
        None => (text, None),
    };
    // `python3:any` asks for any architecture's; there is only one here.
    let name = name.trim().split(':').next()?.to_owned();
    (!name.is_empty()).then_some(Relation { name, version })
}

fn parse_stanza(suite: &str, stanza: &str) -> Option<Package> {
    let mut package = Package {
        name: String::new(),
        version: String::new(),
        suite: suite.to_owned(),
        filename: String::new(),
        size: 0,
        sha256: String::new(),
        depends: Vec::new(),
        provides: Vec::new(),
    };
    // Package indexes put each of these fields on one line.
    for line in stanza.lines() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        match key {
            "Package" => package.name = value.to_owned(),
            "Version" => package.version = value.to_owned(),
            "Filename" => package.filename = value.to_owned(),
            "Size" => package.size = value.parse().ok()?,
            "SHA256" => package.sha256 = value.to_owned(),
            "Depends" | "Pre-Depends" => package.depends.extend(parse_relations(value)),
            "Provides" => {
                package.provides = parse_relations(value)
                    .into_iter()
                    .flatten()
                    .map(|provided| (provided.name, provided.version.map(|(_, version)| version)))
                    .collect();
            }
            _ => {}
        }
    }
    let complete = !package.name.is_empty()
        && !package.version.is_empty()
        && !package.filename.is_empty()
        && package.sha256.len() == 64;
    complete.then_some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_with_alternatives_conditions_and_architectures() {
        let groups = parse_relations("libc6 (>= 2.38), a (= 1:2-3) | b, python3:any");
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0][0].version, Some((">=".to_owned(), "2.38".to_owned())));
        assert_eq!(groups[1][0].version, Some(("=".to_owned(), "1:2-3".to_owned())));
        assert_eq!(groups[1][1], Relation { name: "b".to_owned(), version: None });
        assert_eq!(groups[2][0].name, "python3");
    }

    #[test]
    fn fields_with_continuation_lines() {
        let stanza = "A: 1\nSHA256:\n aa 1 x\n bb 2 y\nurIs: u v\n w";
        assert_eq!(field(stanza, "SHA256"), Some("aa 1 x\n bb 2 y"));
        assert_eq!(field(stanza, "URIs"), Some("u v\n w"));
        assert_eq!(field(stanza, "aa"), None);
    }
}
