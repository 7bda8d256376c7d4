// SPDX-License-Identifier: BSD-2-Clause

//! What bhyve hands over for `-s slot,nvme,OPTS`: OPTS as one string.

/// The two parts of a command line's options. Both go to the device's node:
/// `path` under that name, `rest` split at its commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legacy<'a> {
    /// The first word, unless it is `ram=`.
    pub path: Option<&'a [u8]>,
    /// `name=value` or `name`, separated by commas; `None` if there is nothing
    /// more.
    pub rest: Option<&'a [u8]>,
}

/// Splits off the first word, which is the path unless it starts with `ram=`,
/// as the in-tree device does. A comma at the end adds nothing.
pub fn split_legacy(opts: &[u8]) -> Legacy<'_> {
    if opts.starts_with(b"ram=") {
        return Legacy { path: None, rest: Some(opts) };
    }
    let mut words = opts.splitn(2, |&byte| byte == b',');
    Legacy { path: words.next(), rest: words.next().filter(|rest| !rest.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(opts: &str) -> (Option<&str>, Option<&str>) {
        let legacy = split_legacy(opts.as_bytes());
        (
            legacy.path.and_then(|p| std::str::from_utf8(p).ok()),
            legacy.rest.and_then(|r| std::str::from_utf8(r).ok()),
        )
    }

    #[test]
    fn first_word_is_the_path_unless_it_is_ram() {
        assert_eq!(split("/dev/da0"), (Some("/dev/da0"), None));
        assert_eq!(split("/dev/da0,"), (Some("/dev/da0"), None));
        assert_eq!(split("/dev/da0,ro,maxq=4"), (Some("/dev/da0"), Some("ro,maxq=4")));
        assert_eq!(split("a,ram=4"), (Some("a"), Some("ram=4")));
        assert_eq!(split("ram=4"), (None, Some("ram=4")));
        assert_eq!(split("ram=4,ser=A"), (None, Some("ram=4,ser=A")));
        assert_eq!(split("ram"), (Some("ram"), None));
        assert_eq!(split(""), (Some(""), None));
    }
}
