// SPDX-License-Identifier: BSD-2-Clause

//! The `ioctl(2)` requests that a store makes.

use super::{Calls, Errno};

/// A request and the length of its argument. Only those named here exist, so
/// that no request ever gets an argument shorter than what the kernel copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    number: libc::c_ulong,
    argument: usize,
}

impl Request {
    /// FreeBSD: a device's sector size in bytes, `u_int`.
    pub const DIOCGSECTORSIZE: Request = Request { number: 0x4004_6480, argument: 4 };
    /// FreeBSD: a device's size in bytes, `off_t`.
    pub const DIOCGMEDIASIZE: Request = Request { number: 0x4008_6481, argument: 8 };
    /// FreeBSD: flushes a device's write cache.
    pub const DIOCGFLUSH: Request = Request { number: 0x2000_6487, argument: 0 };
    /// FreeBSD: deallocates a range, `off_t[2]` of offset and length in bytes.
    pub const DIOCGDELETE: Request = Request { number: 0x8010_6488, argument: 16 };
    /// FreeBSD: a device's stripe (or physical sector) size in bytes, `off_t`.
    pub const DIOCGSTRIPESIZE: Request = Request { number: 0x4008_648b, argument: 8 };
    /// FreeBSD: where in its stripe a device begins, in bytes, `off_t`.
    pub const DIOCGSTRIPEOFFSET: Request = Request { number: 0x4008_648c, argument: 8 };
    /// FreeBSD: an attribute of a device, `struct diocgattr_arg`.
    pub const DIOCGATTR: Request = Request { number: 0xc148_648e, argument: 328 };

    /// Linux: whether a device is read-only, `int`.
    pub const BLKROGET: Request = Request { number: 0x125e, argument: 4 };
    /// Linux: a device's logical sector size in bytes, `int`.
    pub const BLKSSZGET: Request = Request { number: 0x1268, argument: 4 };
    /// Linux: a device's size in bytes, `u64`.
    pub const BLKGETSIZE64: Request = Request { number: 0x8008_1272, argument: 8 };
    /// Linux: a device's physical sector size in bytes, `unsigned int`.
    pub const BLKPBSZGET: Request = Request { number: 0x127b, argument: 4 };

    /// The number that `ioctl(2)` takes.
    pub fn number(self) -> libc::c_ulong {
        self.number
    }

    /// Length of the argument in bytes.
    pub fn argument_len(self) -> usize {
        self.argument
    }
}

/// Asks for a 32-bit number.
pub fn ask_u32<C: Calls>(calls: &C, file: &C::File, request: Request) -> Result<u32, Errno> {
    let mut answer = [0; 4];
    calls.ioctl(file, request, &mut answer)?;
    Ok(u32::from_ne_bytes(answer))
}

/// Asks for a 64-bit number.
pub fn ask_u64<C: Calls>(calls: &C, file: &C::File, request: Request) -> Result<u64, Errno> {
    let mut answer = [0; 8];
    calls.ioctl(file, request, &mut answer)?;
    Ok(u64::from_ne_bytes(answer))
}

/// Asks a FreeBSD device for an attribute that is an `int`.
pub fn ask_attribute<C: Calls>(calls: &C, file: &C::File, name: &str) -> Result<i32, Errno> {
    // The name, padded with zeroes; the length of the answer; the answer, where
    // an off_t may begin.
    const NAME: usize = 64;
    const ANSWER: usize = 72;
    let mut argument = [0; 328];
    for (to, from) in argument.iter_mut().zip(name.bytes().take(NAME - 1)) {
        *to = from;
    }
    argument[NAME..NAME + 4].copy_from_slice(&4i32.to_ne_bytes());
    calls.ioctl(file, Request::DIOCGATTR, &mut argument)?;
    let mut answer = [0; 4];
    answer.copy_from_slice(&argument[ANSWER..ANSWER + 4]);
    Ok(i32::from_ne_bytes(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FreeBSD's `_IOC(inout, 'd', number, length)`.
    fn ioc(direction: u64, number: u64, length: u64) -> u64 {
        direction | (length << 16) | (u64::from(b'd') << 8) | number
    }

    #[test]
    fn freebsd_numbers_hold_their_own_length() {
        const VOID: u64 = 0x2000_0000;
        const OUT: u64 = 0x4000_0000;
        const IN: u64 = 0x8000_0000;
        for (request, direction, number) in [
            (Request::DIOCGSECTORSIZE, OUT, 128),
            (Request::DIOCGMEDIASIZE, OUT, 129),
            (Request::DIOCGFLUSH, VOID, 135),
            (Request::DIOCGDELETE, IN, 136),
            (Request::DIOCGSTRIPESIZE, OUT, 139),
            (Request::DIOCGSTRIPEOFFSET, OUT, 140),
            (Request::DIOCGATTR, IN | OUT, 142),
        ] {
            let length = request.argument_len() as u64;
            assert_eq!(request.number(), ioc(direction, number, length), "{number}");
        }
    }
}
