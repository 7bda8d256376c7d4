// SPDX-License-Identifier: BSD-2-Clause

//! Arithmetic on the positions of a ring.

/// How far `to` is ahead of `from` in a ring of `size` entries; both positions
/// are below `size`.
pub(crate) fn distance(from: u32, to: u32, size: u32) -> u32 {
    if to >= from { to.wrapping_sub(from) } else { to.wrapping_add(size).wrapping_sub(from) }
}

/// The position `by` entries after `from`; `from` is below `size`, `by` at most
/// `size`.
pub(crate) fn advance(from: u32, by: u32, size: u32) -> u32 {
    let to = from.wrapping_add(by);
    if to >= size { to.wrapping_sub(size) } else { to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_and_advance_agree() {
        for size in [2, 3, 8, 65536] {
            for from in [0, 1, size / 2, size - 1] {
                for by in [0, 1, size - 1] {
                    assert_eq!(distance(from, advance(from, by, size), size), by);
                }
            }
        }
    }
}
