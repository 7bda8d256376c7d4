// SPDX-License-Identifier: BSD-2-Clause

//! From the packages that a set names to all that they need.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::error::{Error, Result};
use crate::index::{Index, Package, Relation};
use crate::record::Record;
use crate::sets::{Set, Wanted};
use crate::version;

/// Every package of `set`, sorted by name: its roots and what they depend on,
/// the first alternative each time, recommended packages left out. Versions in
/// `record` are preferred.
pub fn resolve(index: &Index, set: &Set, record: &Record) -> Result<Vec<Package>> {
    let mut resolver = Resolver { index, set, record, conditions: HashMap::new() };
    // Each round learns at least one more condition on a version, or ends.
    loop {
        if let Some(chosen) = resolver.round()? {
            return Ok(chosen.into_values().collect());
        }
    }
}

struct Resolver<'a> {
    index: &'a Index,
    set: &'a Set,
    record: &'a Record,
    /// What the packages seen so far ask of each name's version.
    conditions: HashMap<String, Vec<Relation>>,
}

impl Resolver<'_> {
    /// One pass; None where a condition came up after its package was chosen.
    fn round(&mut self) -> Result<Option<BTreeMap<String, Package>>> {
        let mut chosen: BTreeMap<String, Package> = BTreeMap::new();
        let mut queue: VecDeque<String> =
            self.set.roots.iter().map(|root| root.package.to_owned()).collect();
        while let Some(name) = queue.pop_front() {
            if chosen.contains_key(&name) {
                continue;
            }
            let package = self.choose(&name)?;
            for group in &package.depends {
                let Some(relation) = self.pick(group, &chosen, &package)? else { continue };
                let target = relation.name.clone();
                let known = self.conditions.entry(target.clone()).or_default();
                let new = relation.version.is_some() && !known.contains(&relation);
                if new {
                    known.push(relation.clone());
                }
                match chosen.get(&target) {
                    Some(present) if !relation.accepts(&present.version) => {
                        if !new {
                            return Err(Error(format!(
                                "{name} and others disagree on the version of {target}"
                            )));
                        }
                        return Ok(None);
                    }
                    Some(_) => {}
                    None => queue.push_back(target),
                }
            }
            chosen.insert(name, package);
        }
        Ok(Some(chosen))
    }

    /// The one relation of a group to follow; None where it is met already.
    fn pick(
        &self,
        group: &[Relation],
        chosen: &BTreeMap<String, Package>,
        wanted_by: &Package,
    ) -> Result<Option<Relation>> {
        let without = |name: &str| self.set.without.contains(&name);
        let met = group.iter().any(|relation| {
            without(&relation.name)
                || chosen
                    .get(&relation.name)
                    .is_some_and(|package| relation.accepts(&package.version))
                || chosen.values().chain([wanted_by]).any(|package| provides(package, relation))
        });
        if met {
            return Ok(None);
        }
        for relation in group {
            if self
                .index
                .versions(&relation.name)
                .iter()
                .any(|package| relation.accepts(&package.version))
            {
                return Ok(Some(relation.clone()));
            }
            let providers: Vec<&String> = self
                .index
                .providers(&relation.name)
                .iter()
                .filter(|name| {
                    self.index.versions(name).iter().any(|package| provides(package, relation))
                })
                .collect();
            if providers.iter().any(|name| without(name)) {
                return Ok(None);
            }
            let recorded =
                providers.iter().find(|name| self.record.versions(name).next().is_some());
            if let Some(name) = recorded.or(providers.first()) {
                return Ok(Some(Relation { name: (*name).clone(), version: None }));
            }
        }
        Err(Error(format!(
            "{} needs {}, which the mirror does not have",
            wanted_by.name, group[0].name
        )))
    }

    /// The version of `name` to use: a recorded one, else the newest of the
    /// root's suite, else the newest of the first suite that has a fitting one.
    fn choose(&self, name: &str) -> Result<Package> {
        let root = self.set.roots.iter().find(|root| root.package == name);
        let minimum = self.record.minimum(name);
        let conditions = self.conditions.get(name).map_or(&[][..], Vec::as_slice);
        let fits = |package: &&Package| {
            let wanted = match root.map(|root| &root.wanted) {
                Some(Wanted::Release(release)) => is_release(&package.version, release),
                _ => version::compare(&package.version, minimum).is_ge(),
            };
            wanted && conditions.iter().all(|condition| condition.accepts(&package.version))
        };
        let mut fitting: Vec<&Package> = self.index.versions(name).iter().filter(fits).collect();
        fitting.sort_by(|a, b| version::compare(&b.version, &a.version));
        for package in &fitting {
            let mut lines = self.record.versions(name);
            let Some(line) = lines.find(|line| line.version == package.version) else { continue };
            if line.sha256 != package.sha256 {
                return Err(Error(format!(
                    "{name} {}: the mirror's SHA-256 differs from the recorded one; refused",
                    line.version
                )));
            }
            return Ok((*package).clone());
        }
        let suite = root.and_then(|root| root.suite).unwrap_or(crate::sets::SUITES[0]);
        let of_suite = fitting.iter().find(|package| package.suite == suite);
        match of_suite.or(fitting.first()) {
            Some(package) => Ok((*package).clone()),
            None => {
                let asked = match root.map(|root| &root.wanted) {
                    Some(Wanted::Release(release)) => format!("release {release}"),
                    _ => format!("version {minimum} or later"),
                };
                let has: Vec<&str> =
                    self.index.versions(name).iter().map(|p| p.version.as_str()).collect();
                Err(Error(format!(
                    "the mirror has no fitting {name}: {asked} is wanted, it has [{}]",
                    has.join(", ")
                )))
            }
        }
    }
}

fn provides(package: &Package, relation: &Relation) -> bool {
    package.provides.iter().any(|(name, version)| {
        *name == relation.name
            && match (&relation.version, version) {
                (None, _) => true,
                (Some(_), Some(version)) => relation.accepts(version),
                (Some(_), None) => false,
            }
    })
}

/// Whether a Debian version packages the upstream release: `1.95.0+dfsg1-2` is 1.95.0.
fn is_release(version: &str, release: &str) -> bool {
    version
        .strip_prefix(release)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::Root;

    fn index(stable: &str, backports: &str) -> Index {
        let mut index = Index::default();
        index.add("trixie", &stanzas(stable));
        index.add("trixie-backports", &stanzas(backports));
        index
    }

    /// Lines of `name version [depends [provides]]`, parts parted by `;`.
    fn stanzas(text: &str) -> String {
        let mut out = String::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.split(';').map(str::trim).collect();
            let (name, version) = parts[0].split_once(' ').unwrap();
            out.push_str(&format!(
                "Package: {name}\nVersion: {version}\nFilename: pool/{name}\nSize: 1\nSHA256: {}\n",
                "0".repeat(64)
            ));
            if let Some(depends) = parts.get(1).filter(|d| !d.is_empty()) {
                out.push_str(&format!("Depends: {depends}\n"));
            }
            if let Some(provided) = parts.get(2) {
                out.push_str(&format!("Provides: {provided}\n"));
            }
            out.push('\n');
        }
        out
    }

    fn set(
        roots: &[(&'static str, Option<&'static str>, Wanted)],
        without: &[&'static str],
    ) -> Set {
        Set {
            name: "t",
            about: "",
            roots: roots
                .iter()
                .map(|(package, suite, wanted)| Root {
                    package,
                    suite: *suite,
                    wanted: wanted.clone(),
                })
                .collect(),
            without: without.to_vec(),
            keep: Vec::new(),
            programs: Vec::new(),
            main: "",
        }
    }

    fn names(packages: &[Package]) -> Vec<String> {
        packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect()
    }

    #[test]
    fn a_later_condition_moves_a_choice_to_backports() {
        let index = index("q 10; c\na 1; c\nc 10\nlibc 2", "q 11; a, c (= 11)\nc 11; libc (>= 1)");
        let set = set(&[("q", Some("trixie-backports"), Wanted::Any)], &[]);
        let got = resolve(&index, &set, &Record::default()).unwrap();
        assert_eq!(names(&got), ["a 1", "c 11", "libc 2", "q 11"]);
    }

    #[test]
    fn alternatives_virtual_packages_and_left_out_ones() {
        let index = index(
            "r 1; nothere | b, v, skip, w (>= 3)\nb 1\np 1; ;v\ns 1; ;w (= 2)\nt 1; ;w (= 3)\nskip 1",
            "",
        );
        let set = set(&[("r", None, Wanted::Any)], &["skip"]);
        assert_eq!(
            names(&resolve(&index, &set, &Record::default()).unwrap()),
            ["b 1", "p 1", "r 1", "t 1"]
        );
    }

    #[test]
    fn the_recorded_version_is_preferred_and_the_minimum_kept() {
        let index = index("r 1\nr 2", "r 3");
        let set = set(&[("r", None, Wanted::Any)], &[]);
        let zeros = "0".repeat(64);
        let with = |line: &str| resolve(&index, &set, &Record::parse(line).unwrap());
        assert_eq!(names(&with(&format!("r 1 0 {zeros}")).unwrap()), ["r 1"]);
        assert_eq!(
            names(&with(&format!("r 0.5 0 {zeros}")).unwrap()),
            ["r 2"],
            "the newest of the first suite"
        );
        assert_eq!(
            names(&with(&format!("r 2.5 2.5 {zeros}")).unwrap()),
            ["r 3"],
            "only backports has one new enough"
        );
        assert!(with(&format!("r 4 4 {zeros}")).unwrap_err().0.contains("version 4 or later"));
        assert!(with(&format!("r 1 0 {}", "1".repeat(64))).unwrap_err().0.contains("differs"));
    }

    #[test]
    fn one_upstream_release_of_several() {
        let index = index("r 1.85.1+d-1", "r 1.95.0+d-2~bpo\nr 1.96.1+d-2~bpo\nr 1.95.01-1");
        let set = |release: &str| {
            set(&[("r", Some("trixie-backports"), Wanted::Release(release.to_owned()))], &[])
        };
        let got = resolve(&index, &set("1.95.0"), &Record::default()).unwrap();
        assert_eq!(names(&got), ["r 1.95.0+d-2~bpo"]);
        assert!(resolve(&index, &set("1.95"), &Record::default()).is_err());
        assert!(resolve(&index, &set("1.97.0"), &Record::default()).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let index = index("r 1; x (>= 2) | y\nx 1", "");
        let set = set(&[("r", None, Wanted::Any)], &[]);
        assert!(resolve(&index, &set, &Record::default()).unwrap_err().0.contains("r needs x"));
    }
}
