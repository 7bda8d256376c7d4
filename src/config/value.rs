// SPDX-License-Identifier: BSD-2-Clause

//! The syntax of values. Blanks around a word or number are let pass: bhyve
//! does not trim the lines of its configuration files.

use std::ffi::OsStr;

/// What bhyve takes for a true or false value, in any case.
pub(super) const TRUE: [&str; 4] = ["true", "on", "yes", "1"];
pub(super) const FALSE: [&str; 4] = ["false", "off", "no", "0"];

/// Longest serial number, in bytes.
pub(super) const SERIAL_MAX: usize = 20;

/// Bounds of `sectorsize`. Guests know no logical sectors above 8192 bytes. The
/// largest ZFS record, and so volume block, has 16 MiB; in blocks of 512 bytes
/// that is still a legal preferred write granularity.
const LOGICAL_MIN: u32 = 512;
const LOGICAL_MAX: u32 = 8192;
const PHYSICAL_MAX: u32 = 16 << 20;

/// A whole number from `min` to `max`, in decimal digits alone. bhyve's own
/// reader stopped at the first other character, so no other base ever worked.
pub(super) fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    digits(text.trim_ascii(), 10).filter(|number| (min..=max).contains(number))
}

/// A true or false value.
pub(super) fn flag(text: &str) -> Option<bool> {
    if word(text, &TRUE).is_some() { Some(true) } else { word(text, &FALSE).map(|_| false) }
}

/// The one of `words` that `text` is, in any case.
pub(super) fn word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().copied().find(|word| word.eq_ignore_ascii_case(text.trim_ascii()))
}

/// A serial number, padded with spaces.
pub(super) fn serial(text: &str) -> Option<[u8; SERIAL_MAX]> {
    let legal = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !legal || text.is_empty() || text.len() > SERIAL_MAX {
        return None;
    }
    let mut serial = [b' '; SERIAL_MAX];
    serial[..text.len()].copy_from_slice(text.as_bytes());
    Some(serial)
}

/// A 64-bit number as strtoull(3) reads it with base 0: hexadecimal after 0x,
/// octal after 0, else decimal. Unlike there, nothing may follow, and neither
/// signs nor larger numbers are taken.
pub(super) fn number64(text: &str) -> Option<u64> {
    let text = text.trim_ascii();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        digits(hex, 16)
    } else if text.starts_with('0') {
        digits(text, 8)
    } else {
        digits(text, 10)
    }
}

/// `logical[/physical]` sector size.
pub(super) fn sector_size(text: &str) -> Option<(u32, Option<u32>)> {
    let size = |text: &str, min: u32, max: u32| {
        let size = number(text, min.into(), max.into())?;
        u32::try_from(size).ok().filter(|size| size.is_power_of_two())
    };
    match text.split_once('/') {
        None => Some((size(text, LOGICAL_MIN, LOGICAL_MAX)?, None)),
        Some((logical, physical)) => {
            let logical = size(logical, LOGICAL_MIN, LOGICAL_MAX)?;
            Some((logical, Some(size(physical, logical, PHYSICAL_MAX)?)))
        }
    }
}

/// `value` for a message: one line of bounded length, without what a terminal
/// would act on.
pub(super) fn shown(value: &OsStr) -> String {
    const MOST: usize = 64;
    let text = value.to_string_lossy();
    let mut shown: String =
        text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// `from_str_radix` alone would take a plus sign.
fn digits(text: &str, base: u32) -> Option<u64> {
    if !text.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    u64::from_str_radix(text, base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("1", Some(1)),
            ("64", Some(64)),
            (" 16 ", Some(16)),
            ("016", Some(16)),
            ("0", None),
            ("65", None),
            ("", None),
            (" ", None),
            ("+1", None),
            ("-1", None),
            ("1a", None),
            ("0x10", None),
            ("1.0", None),
            ("18446744073709551617", None),
            ("\u{661}", None),
        ] {
            assert_eq!(number(text, 1, 64), expected, "{text:?}");
        }
        assert_eq!(number("18446744073709551615", 0, u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn flags() {
        for text in ["true", "on", "yes", "1", "TRUE", "On", " yes "] {
            assert_eq!(flag(text), Some(true), "{text:?}");
        }
        for text in ["false", "off", "no", "0", "FALSE", "Off"] {
            assert_eq!(flag(text), Some(false), "{text:?}");
        }
        for text in ["", "t", "f", "y", "n", "2", "enable", "truee"] {
            assert_eq!(flag(text), None, "{text:?}");
        }
    }

    #[test]
    fn serials() {
        assert_eq!(serial("A"), Some(*b"A                   "));
        assert_eq!(serial("01234567890123456789"), Some(*b"01234567890123456789"));
        assert_eq!(serial("BVCP NVM Express ~!\""), Some(*b"BVCP NVM Express ~!\""));
        for text in ["", "012345678901234567890", "A\tB", "A\n", "\u{e4}", "\u{7f}"] {
            assert_eq!(serial(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_of_any_base() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("010", Some(8)),
            ("0x10", Some(16)),
            ("0XfF", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("0xffffffffffffffff", Some(u64::MAX)),
            ("01777777777777777777777", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0x10000000000000000", None),
            ("", None),
            ("0x", None),
            ("0x+1", None),
            ("08", None),
            ("-1", None),
            ("+1", None),
            ("xyz", None),
            ("12 34", None),
        ] {
            assert_eq!(number64(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sector_sizes() {
        for (text, expected) in [
            ("512", Some((512, None))),
            ("8192", Some((8192, None))),
            ("512/4096", Some((512, Some(4096)))),
            ("4096/4096", Some((4096, Some(4096)))),
            ("512/16777216", Some((512, Some(16 << 20)))),
            ("4096/512", None),
            ("513", None),
            ("512/513", None),
            ("256", None),
            ("16384", None),
            ("512/33554432", None),
            ("abc", None),
            ("", None),
            ("/", None),
            ("512/", None),
            ("/512", None),
            ("512/512/512", None),
        ] {
            assert_eq!(sector_size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn shown_values_are_one_short_line() {
        assert_eq!(shown(OsStr::new("a b\"c")), "a b\"c");
        assert_eq!(shown(OsStr::new("a\nb\x1b[2J")), "a?b?[2J");
        let long = "x".repeat(65);
        assert_eq!(shown(OsStr::new(&long[..64])), long[..64]);
        assert_eq!(shown(OsStr::new(&long)), format!("{}...", &long[..64]));
    }
}
