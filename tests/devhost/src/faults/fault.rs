// SPDX-License-Identifier: BSD-2-Clause

//! One thing that goes wrong.

use bhyve_nvme::backend::sys::Errno;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It takes this much longer.
    Delay(Duration),
    /// It does not end before [`Faults::release`](super::Faults::release).
    Never,
    /// It fails with this error number, and nothing is done. EINTR and EAGAIN
    /// mean what they do for a system call: to be made again.
    Fail(Errno),
    /// A system call moves the first half of the bytes, at least one.
    Short,
}

impl Kind {
    /// The number of EIO.
    pub const EIO: Kind = Kind::Fail(Errno(libc::EIO));
    /// The number of ENOSPC.
    pub const ENOSPC: Kind = Kind::Fail(Errno(libc::ENOSPC));
    /// The number of EROFS.
    pub const EROFS: Kind = Kind::Fail(Errno(libc::EROFS));
    /// The number of EINTR.
    pub const EINTR: Kind = Kind::Fail(Errno(libc::EINTR));
    /// The number of EAGAIN.
    pub const EAGAIN: Kind = Kind::Fail(Errno(libc::EAGAIN));

    /// Whether only a system call can go wrong in this way.
    pub fn needs_calls(self) -> bool {
        matches!(self, Kind::Short | Kind::EINTR | Kind::EAGAIN)
    }
}

/// The kinds of error by their names.
pub(super) const NAMED: [(&str, Kind); 7] = [
    ("never", Kind::Never),
    ("short", Kind::Short),
    ("eio", Kind::EIO),
    ("enospc", Kind::ENOSPC),
    ("erofs", Kind::EROFS),
    ("eintr", Kind::EINTR),
    ("eagain", Kind::EAGAIN),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Delay(time) = self {
            return write!(f, "delay={time:?}");
        }
        match NAMED.iter().find(|(_, kind)| kind == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{self:?}"),
        }
    }
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the operations of a store")]
pub struct Ops {
    pub read: bool,
    pub write: bool,
    pub flush: bool,
}

impl Ops {
    /// All there are.
    pub const ALL: Ops = Ops { read: true, write: true, flush: true };
    /// Reads alone.
    pub const READ: Ops = Ops { read: true, write: false, flush: false };
    /// Writes alone.
    pub const WRITE: Ops = Ops { read: false, write: true, flush: false };
    /// Flushes alone.
    pub const FLUSH: Ops = Ops { read: false, write: false, flush: true };
}

/// One thing that goes wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// With which operations.
    pub on: Ops,
    /// Where in the store, in bytes: an operation meets the fault if it
    /// touches the range. `None` is everywhere. A flush touches no range.
    pub range: Option<Range<u64>>,
    /// How many in a million of these, by lot.
    pub per_million: u32,
    /// How many of these are let off first.
    pub skip: u64,
    /// How many it is for at most.
    pub times: u64,
    /// Which lot; the same seed and order of operations give the same.
    pub seed: u64,
}

impl Fault {
    /// `kind` goes wrong with every operation.
    pub fn always(kind: Kind) -> Fault {
        Fault {
            kind,
            on: Ops::ALL,
            range: None,
            per_million: 1_000_000,
            skip: 0,
            times: u64::MAX,
            seed: 0,
        }
    }

    /// The same for `ops` alone.
    #[must_use]
    pub fn on(self, ops: Ops) -> Fault {
        Fault { on: ops, ..self }
    }

    /// The same for the 512-byte sectors `sectors` alone.
    #[must_use]
    pub fn at(self, sectors: Range<u64>) -> Fault {
        let bytes = sectors.start.saturating_mul(512)..sectors.end.saturating_mul(512);
        Fault { range: Some(bytes), ..self }
    }

    /// The same for about `count` in a million operations.
    #[must_use]
    pub fn per_million(self, count: u32) -> Fault {
        Fault { per_million: count, ..self }
    }

    /// The same, but not for the first `count` operations.
    #[must_use]
    pub fn after(self, count: u64) -> Fault {
        Fault { skip: count, ..self }
    }

    /// The same for `count` operations at most.
    #[must_use]
    pub fn times(self, count: u64) -> Fault {
        Fault { times: count, ..self }
    }
}
