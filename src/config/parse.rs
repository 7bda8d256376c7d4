// SPDX-License-Identifier: BSD-2-Clause

//! From a node to a configuration.

use std::ffi::OsStr;

use super::options::{Draft, OPTIONS, Opt};
use super::value::shown;
use super::{Config, Dsm, Error, Location, Node, Store, identity, names, sectors};

/// See [`Config::parse`].
pub(super) fn parse(
    node: &dyn Node,
    location: Location,
    vm_name: &str,
) -> Result<(Config, Vec<String>), Error> {
    let mut draft = Draft::new();
    for option in &OPTIONS {
        if let Some(value) = node.value(option.name) {
            option.set(&mut draft, &value).ok_or_else(|| illegal(option, &value))?;
        }
    }

    let mut warnings: Vec<String> = node.names().iter().filter_map(|name| unknown(name)).collect();
    let store = store(&mut draft, &mut warnings)?;
    let sectorsize = sectors::merge(draft.sectsz, draft.sectorsize, &mut warnings);

    let config = Config {
        location,
        vm_name: vm_name.to_string(),
        store,
        maxq: draft.maxq,
        qsz: draft.qsz,
        ioslots: draft.ioslots,
        sectsz: draft.sectsz,
        sectorsize,
        ser: draft.ser.unwrap_or_else(|| identity::serial(location)),
        eui64: draft.eui64.unwrap_or_else(|| identity::derived_eui64(vm_name, location)),
        dsm: draft.dsm.unwrap_or(Dsm::Auto),
        sgl: draft.sgl,
        dbbuf: draft.dbbuf,
        spin: draft.spin,
        bootindex: draft.bootindex,
        nocache: draft.nocache,
        sync: draft.sync || draft.direct,
        ro: draft.ro,
        nodelete: draft.nodelete,
        inline_io: draft.inline_io,
        nguid: draft.nguid,
    };
    Ok((config, warnings))
}

fn illegal(option: &Opt, value: &OsStr) -> Error {
    Error(format!("nvme: {}={}: must be {}", option.name, shown(value), option.legal()))
}

fn unknown(name: &str) -> Option<String> {
    if names::known(name) {
        return None;
    }
    let mut warning = format!("nvme: unknown option \"{}\" ignored", shown(OsStr::new(name)));
    if let Some(nearest) = names::nearest(name) {
        warning.push_str(&format!("; did you mean \"{nearest}\"?"));
    }
    Some(warning)
}

/// RAM wins over a path, as in the in-tree device. What makes no sense there is
/// switched off, and said.
fn store(draft: &mut Draft, warnings: &mut Vec<String>) -> Result<Store, Error> {
    let Some(mib) = draft.ram else {
        let Some(path) = draft.path.take() else {
            return Err(Error(
                "nvme: path is missing: give a file or disk device, or ram=MiB".to_string(),
            ));
        };
        warnings.extend(misplaced_option(path.as_os_str()));
        return Ok(Store::Path(path));
    };
    let mut ignored = |what: &str| {
        warnings.push(format!("nvme: {what} ignored: ram={mib} makes a RAM disk"));
    };
    if let Some(path) = &draft.path {
        ignored(&format!("path={}", shown(path.as_os_str())));
    }
    for (name, flag) in [
        ("nocache", &mut draft.nocache),
        ("sync", &mut draft.sync),
        ("direct", &mut draft.direct),
        ("ro", &mut draft.ro),
    ] {
        if std::mem::take(flag) {
            ignored(name);
        }
    }
    Ok(Store::Ram { mib })
}

/// The first word of a command line is the path, even where the operator meant
/// it to be an option.
fn misplaced_option(path: &OsStr) -> Option<String> {
    let name = path.to_str()?.split_once('=')?.0;
    OPTIONS
        .iter()
        .any(|option| option.name == name)
        .then(|| format!("nvme: path={}: the first word is the path, not an option", shown(path)))
}
