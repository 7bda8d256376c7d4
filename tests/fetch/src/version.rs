// SPDX-License-Identifier: BSD-2-Clause

//! The order of Debian package versions.

use std::cmp::Ordering;

/// Compares two versions of the form `[epoch:]upstream[-revision]` as Debian's
/// policy manual (section 5.6.12) says.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, rest_a) = split_epoch(a);
    let (epoch_b, rest_b) = split_epoch(b);
    let (upstream_a, revision_a) = rest_a.rsplit_once('-').unwrap_or((rest_a, "0"));
    let (upstream_b, revision_b) = rest_b.rsplit_once('-').unwrap_or((rest_b, "0"));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| compare_part(upstream_a, upstream_b))
        .then_with(|| compare_part(revision_a, revision_b))
}

/// Whether `version` stands in `relation` (`=`, `>=`, `<<`, ...) to `wanted`.
pub fn satisfies(version: &str, relation: &str, wanted: &str) -> bool {
    let order = compare(version, wanted);
    match relation {
        "=" => order == Ordering::Equal,
        ">=" => order != Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">>" => order == Ordering::Greater,
        "<<" => order == Ordering::Less,
        _ => false,
    }
}

fn split_epoch(version: &str) -> (u32, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// Alternating runs of non-digits and digits, from the left.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        // The end of the text sorts as weight 0: after '~', before all else.
        for i in 0..=text_a.len().max(text_b.len()) {
            let order = weight(text_a.as_bytes().get(i)).cmp(&weight(text_b.as_bytes().get(i)));
            if order.is_ne() {
                return order;
            }
        }
        let (digits_a, next_a) = split_digits(rest_a);
        let (digits_b, next_b) = split_digits(rest_b);
        let order = digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

/// The leading number without its leading zeros, and what follows it.
fn split_digits(s: &str) -> (&str, &str) {
    let (digits, rest) = s.split_at(s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len()));
    (digits.trim_start_matches('0'), rest)
}

fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_the_policy_manual_says() {
        let ascending = [
            "0.9",
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0~rc1-1",
            "1.0",
            "1.0-1~bpo13+1",
            "1.0-1",
            "1.0-1+b2",
            "1.0-1+b10",
            "1.0a",
            "1.0+dfsg",
            "1.09",
            "1.10",
            "1:0.1",
            "2:0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} against {b}");
            }
        }
        assert_eq!(compare("1.0", "0:1.0-0"), Ordering::Equal);
        assert_eq!(compare("1.007", "1.7"), Ordering::Equal);
    }

    #[test]
    fn relations() {
        assert!(satisfies("1:11.1.3+ds-1~bpo13+1", ">>", "1:11.1.3+ds~"));
        assert!(satisfies("2.41-12", ">=", "2.38"));
        assert!(!satisfies("2.41-12", "<<", "2.41"));
        assert!(satisfies("2.41-12", "=", "2.41-12"));
    }
}
