// SPDX-License-Identifier: BSD-2-Clause

//! The table of options.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use super::value::{self, FALSE, SERIAL_MAX, TRUE};
use super::{Dsm, identity};

/// One option: what the parser does with it, and what its messages and the
/// manual say of it.
pub struct Opt {
    /// Name, on the command line and in a configuration node.
    pub name: &'static str,
    /// What it is for, in one sentence without a full stop.
    pub about: &'static str,
    fallback: Fallback,
    kind: Kind,
}

/// What holds where an option is not given.
enum Fallback {
    /// The same as if this had been given.
    Value(&'static str),
    /// Something that no value says, in words.
    Words(&'static str),
}

use Fallback::{Value, Words};

/// What an option may be, and where that goes.
enum Kind {
    Path(fn(&mut Draft, &OsStr) -> Option<()>),
    /// `what` names the number; both bounds are legal.
    Number {
        what: &'static str,
        min: u64,
        max: u64,
        set: fn(&mut Draft, u64),
    },
    Flag(fn(&mut Draft, bool)),
    OneOf(&'static [&'static str], fn(&mut Draft, &'static str)),
    /// Says in words what is legal.
    Text(&'static str, fn(&mut Draft, &str) -> Option<()>),
}

/// Options as they were given, before they are weighed against each other.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) path: Option<PathBuf>,
    pub(super) ram: Option<u64>,
    pub(super) maxq: u16,
    pub(super) qsz: u16,
    pub(super) ioslots: u16,
    pub(super) sectsz: Option<u32>,
    pub(super) ser: Option<[u8; SERIAL_MAX]>,
    pub(super) eui64: Option<[u8; 8]>,
    pub(super) dsm: Option<Dsm>,
    pub(super) sgl: bool,
    pub(super) dbbuf: bool,
    pub(super) spin: u16,
    pub(super) bootindex: Option<i32>,
    pub(super) nocache: bool,
    pub(super) sync: bool,
    pub(super) direct: bool,
    pub(super) ro: bool,
    pub(super) sectorsize: Option<(u32, Option<u32>)>,
    pub(super) nodelete: bool,
    pub(super) inline_io: bool,
    pub(super) nguid: bool,
}

impl Draft {
    /// Every option at its default.
    pub(super) fn new() -> Draft {
        let mut draft = Draft::default();
        for option in &OPTIONS {
            if let Value(value) = option.fallback {
                let legal = option.set(&mut draft, OsStr::new(value));
                debug_assert!(legal.is_some(), "default of {}", option.name);
            }
        }
        draft
    }
}

impl Opt {
    /// What the option may be: ends the sentence "it must be ...".
    pub fn legal(&self) -> String {
        self.kind.to_string()
    }

    /// What holds where it is not given: ends the sentence "the default is ...".
    pub fn default(&self) -> &'static str {
        match self.fallback {
            Value(text) | Words(text) => text,
        }
    }

    /// Whether it is a true or false value, so that its bare name turns it on.
    pub fn is_flag(&self) -> bool {
        matches!(self.kind, Kind::Flag(_))
    }

    /// Puts `value` into `draft`; `None` if the value is not legal.
    pub(super) fn set(&self, draft: &mut Draft, value: &OsStr) -> Option<()> {
        match self.kind {
            Kind::Path(set) => return set(draft, value),
            Kind::Number { min, max, set, .. } => {
                set(draft, value::number(value.to_str()?, min, max)?);
            }
            Kind::Flag(set) => set(draft, value::flag(value.to_str()?)?),
            Kind::OneOf(words, set) => set(draft, value::word(value.to_str()?, words)?),
            Kind::Text(_, set) => return set(draft, value.to_str()?),
        }
        Some(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Path(_) => f.write_str("a file or disk device"),
            Kind::Number { what, min, max, .. } => write!(f, "{what} from {min} to {max}"),
            Kind::Flag(_) => write!(f, "{}, or {}", either(&TRUE), either(&FALSE)),
            Kind::OneOf(words, _) => f.write_str(&either(words)),
            Kind::Text(legal, _) => f.write_str(legal),
        }
    }
}

/// "a, b or c".
fn either(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

// Numbers are cast below only where the row's own bounds fit the type.

/// Every option, in the order in which the manual page lists them.
pub const OPTIONS: [Opt; 21] = [
    Opt {
        name: "path",
        about: "The file or disk device that keeps the blocks",
        fallback: Words("none"),
        kind: Kind::Path(|draft, value| {
            draft.path = Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
            draft.path.is_some().then_some(())
        }),
    },
    Opt {
        name: "ram",
        about: "Keeps the blocks in memory instead, in a disk of this many MiB",
        fallback: Words("none"),
        // In bytes, a size must fit the signed 64 bits of an off_t.
        kind: Kind::Number {
            what: "a whole number of MiB",
            min: 1,
            max: i64::MAX as u64 >> 20,
            set: |draft, mib| draft.ram = Some(mib),
        },
    },
    Opt {
        name: "maxq",
        about: "Number of I/O queue pairs that the guest may create",
        fallback: Value("16"),
        kind: Kind::Number {
            what: "a whole number",
            min: 1,
            max: 64,
            set: |draft, pairs| draft.maxq = pairs as u16,
        },
    },
    Opt {
        name: "qsz",
        about: "Largest number of entries of an I/O queue",
        fallback: Value("2048"),
        // A queue of one entry can never hold any: full is one less. CAP.MQES
        // would go to 65536, but the in-tree device keeps the number in 16 bits
        // and never worked with that, and so it fits 16 bits here.
        kind: Kind::Number {
            what: "a whole number",
            min: 2,
            max: 65535,
            set: |draft, entries| draft.qsz = entries as u16,
        },
    },
    Opt {
        name: "ioslots",
        about: "Number of commands that the store executes at once",
        fallback: Value("8"),
        // Each is a thread. The in-tree device failed above 128 or so.
        kind: Kind::Number {
            what: "a whole number",
            min: 1,
            max: 256,
            set: |draft, slots| draft.ioslots = slots as u16,
        },
    },
    Opt {
        name: "sectsz",
        about: "Sector size that the guest sees, in bytes",
        fallback: Words(
            "the logical size of sectorsize, else the store's own, 4096 for a RAM disk",
        ),
        kind: Kind::OneOf(&["512", "4096", "8192"], |draft, size| draft.sectsz = size.parse().ok()),
    },
    Opt {
        name: "ser",
        about: "Serial number",
        fallback: Words("NVME-slot-function"),
        kind: Kind::Text("1 to 20 printable ASCII characters", |draft, text| {
            draft.ser = Some(value::serial(text)?);
            Some(())
        }),
    },
    Opt {
        name: "eui64",
        about: "IEEE Extended Unique Identifier of the namespace",
        fallback: Words("made from the name of the virtual machine and the PCI address"),
        kind: Kind::Text(
            "a number of at most 64 bits, in decimal, octal after 0 or hexadecimal after 0x",
            |draft, text| {
                // 0 asks for the default, as in the in-tree device: an EUI64 of
                // zeros would tell the guest that there is none.
                let number = value::number64(text)?;
                draft.eui64 = (number != 0).then(|| identity::given_eui64(number));
                Some(())
            },
        ),
    },
    Opt {
        name: "dsm",
        about: "Whether Dataset Management is offered to the guest",
        fallback: Value("auto"),
        kind: Kind::OneOf(&["auto", "enable", "disable"], |draft, word| {
            draft.dsm = Some(match word {
                "enable" => Dsm::Enable,
                "disable" => Dsm::Disable,
                _ => Dsm::Auto,
            });
        }),
    },
    Opt {
        name: "sgl",
        about: "Offers the guest scatter gather lists for the data of its I/O",
        fallback: Value("true"),
        kind: Kind::Flag(|draft, on| draft.sgl = on),
    },
    Opt {
        name: "dbbuf",
        about: "Offers the guest shadow doorbells",
        fallback: Value("true"),
        kind: Kind::Flag(|draft, on| draft.dbbuf = on),
    },
    Opt {
        name: "spin",
        about: "Microseconds for which a worker looks for more I/O before it sleeps",
        fallback: Value("0"),
        kind: Kind::Number {
            what: "a number of microseconds",
            min: 0,
            max: 1000,
            set: |draft, spin| draft.spin = spin as u16,
        },
    },
    Opt {
        name: "bootindex",
        about: "Place of the disk in the firmware's boot order",
        fallback: Words("none"),
        kind: Kind::Number {
            what: "a whole number",
            min: 0,
            max: i32::MAX as u64,
            set: |draft, index| draft.bootindex = Some(index as i32),
        },
    },
    Opt {
        name: "nocache",
        about: "Bypasses the host's cache",
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.nocache = on),
    },
    Opt {
        name: "sync",
        about: "Has every write reach stable storage before it completes",
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.sync = on),
    },
    Opt {
        name: "direct",
        about: "The same as sync",
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.direct = on),
    },
    Opt {
        name: "ro",
        about: "Opens the store for reading only",
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.ro = on),
    },
    Opt {
        name: "sectorsize",
        about: "Logical and physical sector size, in bytes",
        fallback: Words("the store's own"),
        kind: Kind::Text(
            "logical or logical/physical, powers of two: logical from 512 to 8192, physical \
             from logical to 16777216",
            |draft, text| {
                draft.sectorsize = Some(value::sector_size(text)?);
                Some(())
            },
        ),
    },
    Opt {
        name: "nodelete",
        about: "Never frees blocks of the store",
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.nodelete = on),
    },
    Opt {
        name: "inline",
        about: "Runs the I/O of a file or device on the thread of the vCPU that asks for it",
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.inline_io = on),
    },
    Opt {
        name: "nguid",
        about: "Gives the namespace an NGUID and a UUID beside its EUI64",
        // Linux names a disk by its UUID before its EUI64: the names that a
        // guest has stored would be gone.
        fallback: Value("false"),
        kind: Kind::Flag(|draft, on| draft.nguid = on),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_rows_are_sentences() {
        for (index, option) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS[..index].iter().all(|other| other.name != option.name));
            for text in [option.about, option.default(), &option.legal()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", option.name);
            }
        }
    }

    #[test]
    fn defaults_are_legal_values() {
        for option in &OPTIONS {
            if let Value(value) = option.fallback {
                let mut draft = Draft::default();
                assert!(option.set(&mut draft, OsStr::new(value)).is_some(), "{}", option.name);
            }
        }
        let draft = Draft::new();
        assert_eq!((draft.maxq, draft.qsz, draft.ioslots), (16, 2048, 8));
        assert_eq!(draft.dsm, Some(Dsm::Auto));
    }

    #[test]
    fn legal_texts() {
        let legal = |name: &str| OPTIONS.iter().find(|option| option.name == name).map(Opt::legal);
        assert_eq!(legal("maxq").as_deref(), Some("a whole number from 1 to 64"));
        assert_eq!(legal("sectsz").as_deref(), Some("512, 4096 or 8192"));
        assert_eq!(legal("ro").as_deref(), Some("true, on, yes or 1, or false, off, no or 0"));
    }

    #[test]
    fn either_of_few() {
        assert_eq!(either(&[]), "");
        assert_eq!(either(&["a"]), "a");
        assert_eq!(either(&["a", "b"]), "a or b");
    }
}
