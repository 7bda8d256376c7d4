// SPDX-License-Identifier: BSD-2-Clause

//! The C functions that bhyve's device table gets, through the glue.
//!
//! Nothing unwinds past them: a panic fails one disk, never the virtual
//! machine.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::bhyve::{
    BhyveHost, CfgWrite, ConfigNode, Instance, install_log, nvlist, pci_devinst, vm_name,
};
use crate::config::{Config, split_legacy};
use crate::controller::{Controller, Statistics};
use crate::device::{self, DeviceError};

/// The MSI-X table's BAR.
const MSIX_BAR: c_int = 4;

/// How long a teardown waits for commands that are in the store.
const TEARDOWN_WAIT: Duration = Duration::from_secs(10);

/// Makes the device `pi` as the options in `nvl` say, with everything that has
/// to be opened. Returns 0; or -1 with errno set, after a line that says why.
///
/// # Safety
/// `pi` and `nvl` are what bhyve's `pe_init` gets, on its main thread; `pi`
/// lives until the process ends or `pci_nvme_teardown` has returned 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pci_nvme_init(pi: *mut pci_devinst, nvl: *mut nvlist) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { init_over(pi, nvl, &device::open_store) }
}

/// Opens the store that a configuration names.
pub type Opener<'a> = &'a dyn Fn(&Config) -> Result<Arc<dyn Backend>, DeviceError>;

/// [`pci_nvme_init`] over a store that `open` opens: how tests put a store of
/// their own under a device that is otherwise what bhyve gets. Not part of the
/// C interface.
///
/// # Safety
/// As [`pci_nvme_init`].
pub unsafe fn init_over(pi: *mut pci_devinst, nvl: *mut nvlist, open: Opener<'_>) -> c_int {
    // SAFETY: as the caller promises.
    let instance = unsafe { Instance::new(pi) };
    // SAFETY: as the caller promises.
    let node = unsafe { ConfigNode::new(nvl) };
    let (Some(instance), Some(node)) = (instance, node) else {
        set_errno(libc::EINVAL);
        return -1;
    };
    install_log(log::LevelFilter::Info);
    let made = catch_unwind(AssertUnwindSafe(|| init(instance, &node, open)));
    let errno = match made {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => {
            log::error!("{error}");
            error.errno()
        }
        Err(_) => {
            log::error!("nvme: internal error while the device was made");
            libc::EIO
        }
    };
    set_errno(errno);
    -1
}

fn init(instance: Instance, node: &ConfigNode, open: Opener<'_>) -> Result<(), DeviceError> {
    let name = vm_name().unwrap_or_default();
    let (config, warnings) = Config::parse(node, instance.location(), &name)?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    let store = open(&config)?;
    let settings = device::settings(&config, store.geometry())?;
    instance
        .pci_init(Controller::vectors(&settings))
        .map_err(|_| DeviceError::refused("nvme: bhyve refused the PCI function".to_owned()))?;
    if let Some(bootindex) = config.bootindex {
        instance.boot_device(bootindex).map_err(|_| {
            DeviceError::refused(format!(
                "nvme: bootindex={bootindex}: bhyve refused it: it must not be taken by another device"
            ))
        })?;
    }
    let controller = device::controller(settings, Arc::new(BhyveHost::new(instance)), store)?;
    instance.set_softc(NonNull::new(Box::into_raw(Box::new(controller)).cast::<c_void>()));
    Ok(())
}

/// The controller of `pi`; `None` before it is made or after it is gone.
///
/// # Safety
/// `pi` is an instance of bhyve's whose pointer only this module sets.
unsafe fn controller<'a>(pi: *mut pci_devinst) -> Option<(Instance, &'a Controller)> {
    // SAFETY: as the caller promises.
    let instance = unsafe { Instance::new(pi) }?;
    let controller = instance.softc()?.cast::<Controller>();
    // SAFETY: set in `init` to a controller that lives until
    // `pci_nvme_teardown`, which no other call may overlap.
    Some((instance, unsafe { controller.as_ref() }))
}

/// A guest's write of `size` bytes (1, 2, 4 or 8) of `value` at `offset` in
/// the BAR `baridx`. Never waits.
///
/// # Safety
/// `pi` is an instance that `pci_nvme_init` has made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pci_nvme_write(
    pi: *mut pci_devinst,
    baridx: c_int,
    offset: u64,
    size: c_int,
    value: u64,
) {
    // SAFETY: as the caller promises.
    let Some((_, controller)) = (unsafe { controller(pi) }) else { return };
    let Ok(size) = usize::try_from(size) else { return };
    match baridx {
        0 => controller.write(offset, size, value),
        MSIX_BAR => controller.write_msix_table(offset, size, value),
        _ => {}
    }
}

/// A guest's read of `size` bytes (1, 2, 4 or 8) at `offset` in the BAR
/// `baridx`. Never waits.
///
/// # Safety
/// `pi` is an instance that `pci_nvme_init` has made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pci_nvme_read(
    pi: *mut pci_devinst,
    baridx: c_int,
    offset: u64,
    size: c_int,
) -> u64 {
    // SAFETY: as the caller promises.
    let Some((_, controller)) = (unsafe { controller(pi) }) else { return u64::MAX };
    let Ok(size) = usize::try_from(size) else { return u64::MAX };
    match baridx {
        0 => controller.read(offset, size),
        MSIX_BAR => controller.read_msix_table(offset, size),
        _ => u64::MAX,
    }
}

/// A guest's write of `bytes` bytes of `value` at `offset` in configuration
/// space. Returns 0 if it is done with, or 1 if bhyve is to handle it as usual.
///
/// # Safety
/// `pi` is an instance that `pci_nvme_init` has made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pci_nvme_cfgwrite(
    pi: *mut pci_devinst,
    offset: c_int,
    bytes: c_int,
    value: u32,
) -> c_int {
    // SAFETY: as the caller promises.
    let Some((instance, controller)) = (unsafe { controller(pi) }) else { return 1 };
    match instance.cfg_classify(offset, bytes, value) {
        CfgWrite::Other => 1,
        CfgWrite::Msix => {
            controller.change_interrupts(|| instance.cfg_write_msix(offset, bytes, value));
            0
        }
        CfgWrite::Flr => {
            controller.reset_function();
            controller.change_interrupts(|| instance.cfg_write_flr(offset, bytes, value));
            0
        }
    }
}

/// Puts the options `opts` of a `-s slot,nvme,opts` command line into the
/// device's node. Returns 0, or -1 if they are malformed.
///
/// # Safety
/// `nvl` is what bhyve's `pe_legacy_config` gets, on its main thread; `opts`
/// is a C string or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pci_nvme_legacy_config(nvl: *mut nvlist, opts: *const c_char) -> c_int {
    if opts.is_null() {
        return 0;
    }
    // SAFETY: as the caller promises.
    let Some(node) = (unsafe { ConfigNode::new(nvl) }) else { return -1 };
    // SAFETY: as the caller promises.
    let opts = unsafe { CStr::from_ptr(opts) };
    let stored = catch_unwind(AssertUnwindSafe(|| {
        let legacy = split_legacy(opts.to_bytes());
        if let Some(path) = legacy.path {
            node.set("path", path)?;
        }
        match legacy.rest {
            Some(rest) => node.parse(rest),
            None => Ok(()),
        }
    }));
    if matches!(stored, Ok(Ok(()))) { 0 } else { -1 }
}

/// Takes the device down: no command is started any more, and when 0 is
/// returned none runs and guest memory is not touched again. Returns -1 with
/// errno EBUSY, and the device stays, if commands do not end within ten
/// seconds. Nothing is flushed: a guest that wants that shuts down first.
///
/// # Safety
/// `pi` is an instance that `pci_nvme_init` has made, and no other call for it
/// is under way or follows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pci_nvme_teardown(pi: *mut pci_devinst) -> c_int {
    // SAFETY: as the caller promises.
    let Some((instance, running)) = (unsafe { controller(pi) }) else { return 0 };
    running.reset_function();
    let begun = Instant::now();
    while !running.is_quiescent() {
        if begun.elapsed() > TEARDOWN_WAIT {
            set_errno(libc::EBUSY);
            return -1;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if let Some(softc) = instance.softc() {
        instance.set_softc(None);
        // SAFETY: made by `Box::into_raw` in `init`; the instance no longer
        // points to it, so nothing will.
        drop(unsafe { Box::from_raw(softc.cast::<Controller>().as_ptr()) });
    }
    0
}

/// What the controller of `pi` has counted, for tests; `None` where there is
/// none. Not part of the C interface.
///
/// # Safety
/// `pi` is an instance that `pci_nvme_init` has made.
pub unsafe fn statistics(pi: *mut pci_devinst) -> Option<Statistics> {
    // SAFETY: as the caller promises.
    let (_, controller) = unsafe { controller(pi) }?;
    Some(controller.statistics())
}

fn set_errno(errno: c_int) {
    #[cfg(not(target_os = "freebsd"))]
    use libc::__errno_location as errno_location;
    #[cfg(target_os = "freebsd")]
    use libc::__error as errno_location;

    // SAFETY: takes nothing, and returns where the calling thread's errno is.
    let location = unsafe { errno_location() };
    // SAFETY: valid for as long as the thread lives.
    unsafe { *location = errno };
}
