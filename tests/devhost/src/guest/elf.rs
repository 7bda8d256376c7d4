// SPDX-License-Identifier: BSD-2-Clause

//! Which shared libraries a program asks for.

/// The `DT_NEEDED` names of a 64-bit little-endian ELF file, in its order; none
/// for a static program. None where `file` is not such a file or is cut short.
pub(super) fn needed(file: &[u8]) -> Option<Vec<String>> {
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let headers = usize::try_from(u64_at(file, 32)?).ok()?;
    let header_size = usize::from(u16_at(file, 54)?);
    let header_count = usize::from(u16_at(file, 56)?);
    let mut loads = Vec::new();
    let mut dynamic = None;
    for i in 0..header_count {
        let at = headers.checked_add(i * header_size)?;
        let segment = Segment {
            offset: u64_at(file, at + 8)?,
            address: u64_at(file, at + 16)?,
            size: u64_at(file, at + 32)?,
        };
        match u32_at(file, at)? {
            1 => loads.push(segment),
            2 => dynamic = Some(segment),
            _ => {}
        }
    }
    let Some(dynamic) = dynamic else { return Some(Vec::new()) };
    let mut names = Vec::new();
    let mut strings = None;
    let start = usize::try_from(dynamic.offset).ok()?;
    for at in (start..start.checked_add(usize::try_from(dynamic.size).ok()?)?).step_by(16) {
        match (u64_at(file, at)?, u64_at(file, at + 8)?) {
            (0, _) => break,
            (1, name) => names.push(name),
            (5, address) => strings = Some(address),
            _ => {}
        }
    }
    let Some(strings) = strings else { return Some(Vec::new()) };
    let load =
        loads.iter().find(|load| strings >= load.address && strings - load.address < load.size)?;
    let strings = usize::try_from(load.offset + (strings - load.address)).ok()?;
    names
        .into_iter()
        .map(|name| string_at(file, strings.checked_add(usize::try_from(name).ok()?)?))
        .collect()
}

struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

fn string_at(file: &[u8], at: usize) -> Option<String> {
    let tail = file.get(at..)?;
    let end = tail.iter().position(|&byte| byte == 0)?;
    String::from_utf8(tail[..end].to_vec()).ok()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_this_very_program() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert!(needed(&file).unwrap().iter().any(|name| name == "libc.so.6"));
    }

    #[test]
    fn what_is_no_program() {
        assert_eq!(needed(b"#!/bin/sh\n"), None);
        assert_eq!(needed(b"\x7fELF\x02\x01"), None);
    }
}
