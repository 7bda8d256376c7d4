// SPDX-License-Identifier: BSD-2-Clause

//! Names that nobody knows, and what was probably meant.

use super::options::OPTIONS;

/// Names that bhyve itself keeps in the node of any PCI device. `pcireg` is a
/// child node, but a flat name of the same spelling deserves no warning either.
const HYPERVISOR: [&str; 2] = ["device", "pcireg"];

/// Whether `name` is one of ours, or one that bhyve keeps there.
pub(super) fn known(name: &str) -> bool {
    HYPERVISOR.contains(&name) || OPTIONS.iter().any(|option| option.name == name)
}

/// The option nearest to `name`; `None` where at least half of the letters
/// would have to change, because such a guess only confuses.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.trim().to_lowercase();
    let (distance, nearest) = OPTIONS
        .iter()
        .map(|option| (distance(&name, option.name), option.name))
        .min_by_key(|&(distance, _)| distance)?;
    (2 * distance <= name.chars().count().max(nearest.len())).then_some(nearest)
}

/// Letters to insert, delete or replace, or neighbours to swap, to get from
/// one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let replaced = above[j] + usize::from(from[i] != to[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "ser", 3),
            ("ser", "", 3),
            ("ser", "ser", 0),
            ("ioslot", "ioslots", 1),
            ("mxaq", "maxq", 1),
            ("qzs", "qsz", 1),
            ("serial", "ser", 3),
            ("sector", "sectsz", 2),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn suggestions() {
        for (name, expected) in [
            ("ioslot", Some("ioslots")),
            ("IOSLOTS", Some("ioslots")),
            ("maxq ", Some("maxq")),
            ("serial", Some("ser")),
            ("sectorsz", Some("sectsz")),
            ("eui-64", Some("eui64")),
            ("read-only", None),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(nearest(name), expected, "{name}");
        }
    }

    #[test]
    fn known_names() {
        assert!(known("device") && known("pcireg") && known("ram") && known("inline"));
        assert!(!known("Device") && !known("") && !known("rams"));
    }
}
