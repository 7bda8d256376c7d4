// SPDX-License-Identifier: BSD-2-Clause

//! Emulation or KVM.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use super::{Options, Result};

/// How the guest's code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// KVM where a guest was seen to run with it on this machine, else TCG.
    Auto,
    /// QEMU's emulation.
    Tcg,
    /// The host's virtual machines.
    Kvm,
}

impl Accel {
    /// The value of QEMU's `-accel`.
    pub(super) fn name(self, cache: &Path) -> Result<&'static str> {
        Ok(match self {
            Accel::Tcg => "tcg",
            Accel::Kvm => "kvm",
            Accel::Auto if kvm_works(cache)? => "kvm",
            Accel::Auto => "tcg",
        })
    }
}

/// Whether a guest boots with KVM. `/dev/kvm` may be there and still not run a
/// stock kernel (nested virtualisation), so one is started; the answer is kept
/// in the cache until the host's next boot.
fn kvm_works(cache: &Path) -> Result<bool> {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let answer = cache.join("kvm");
    let known = fs::read_to_string(&answer).unwrap_or_default();
    if let Some(works) = known.strip_prefix(&boot) {
        return Ok(works == "yes");
    }
    let probe = Options {
        commands: "true".to_owned(),
        timeout: Duration::from_secs(20),
        accel: Accel::Kvm,
        ..Options::default()
    };
    let works = super::run(&probe).is_ok_and(|outcome| outcome.status == 0);
    let part = cache.join(format!("kvm.{}.part", std::process::id()));
    fs::write(&part, format!("{boot}{}", if works { "yes" } else { "no" }))?;
    fs::rename(&part, &answer)?;
    Ok(works)
}
