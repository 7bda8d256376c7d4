// SPDX-License-Identifier: BSD-2-Clause

//! Two options and a store that each know a sector size.
//!
//! `sectsz` is NVMe's own and decides what the guest sees, as in the in-tree
//! device; `sectorsize` is of the block layer, and says what the store is taken
//! to have.

use super::{Config, Error, Store};

/// Of a RAM disk, where nothing is given.
const RAM_DISK: u32 = 4096;

/// `sectorsize` with its logical size after `sectsz`, where both are given.
pub(super) fn merge(
    sectsz: Option<u32>,
    sectorsize: Option<(u32, Option<u32>)>,
    warnings: &mut Vec<String>,
) -> Option<(u32, Option<u32>)> {
    let (logical, physical) = sectorsize?;
    let Some(seen) = sectsz.filter(|&seen| seen != logical) else {
        return sectorsize;
    };
    let given = physical.map_or(logical.to_string(), |size| format!("{logical}/{size}"));
    warnings.push(format!("nvme: sectsz={seen} wins over the logical size of sectorsize={given}"));
    Some((seen, Some(physical.unwrap_or(logical).max(seen))))
}

/// See [`Config::sector_sizes`].
pub(super) fn weigh(config: &Config, logical: u32, physical: u32) -> Result<(u32, u32), Error> {
    let (logical, physical) = match &config.store {
        Store::Path(_) => (logical, physical),
        Store::Ram { .. } => {
            let given = config.sectorsize;
            let (logical, physical) = given.unwrap_or((config.sectsz.unwrap_or(RAM_DISK), None));
            (logical, physical.unwrap_or(logical))
        }
    };
    let seen = config.sectsz.unwrap_or(logical);
    if seen < logical {
        return Err(Error(format!(
            "nvme: sectsz={seen}: must be at least {logical}, the sector size of the store"
        )));
    }
    Ok((seen, physical.max(seen)))
}
