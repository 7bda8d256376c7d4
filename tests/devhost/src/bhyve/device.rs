// SPDX-License-Identifier: BSD-2-Clause

//! A PCI function in a slot of a machine.

use super::ffi;
use super::log;
use super::machine::Machine;
use bhyve_nvme::abi::{self, Opener};
use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

/// bhyve's configuration is one per process and has no locks.
static CONFIGURATION: Mutex<()> = Mutex::new(());

/// What is behind a base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Nothing, or the upper half of the one before.
    None,
    /// Memory with a 32-bit address; its size in bytes.
    Memory32(u64),
    /// Memory with a 64-bit address; its size in bytes.
    Memory64(u64),
}

/// A device did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitError {
    /// What was said on the way.
    pub messages: Vec<String>,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))
    }
}

impl std::error::Error for InitError {}

/// A PCI function. Every method may be called from several threads at once,
/// which then stand for vCPUs.
pub struct Device {
    pi: NonNull<ffi::Instance>,
    machine: Arc<Machine>,
    messages: Vec<String>,
}

// SAFETY: the device's callbacks are made for calls from any vCPU's thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Starts the device of a `-s` option: `4,nvme,ram=512`,
    /// `0:4:1,nvme,disk.img,ser=ABC`, ...
    pub fn new(machine: &Arc<Machine>, slot: &str) -> Result<Device, InitError> {
        Device::with_settings(machine, Some(slot), &[])
    }

    /// Starts the device of a `-s` option and `-o` settings after it, such as
    /// `("pci.0.4.0.ser", "ABC")`, or of settings alone.
    pub fn with_settings(
        machine: &Arc<Machine>,
        slot: Option<&str>,
        settings: &[(&str, &str)],
    ) -> Result<Device, InitError> {
        Device::begin(machine, slot, settings, None)
    }

    /// As [`Device::with_settings`], over a store that `open` opens.
    pub fn over(
        machine: &Arc<Machine>,
        slot: Option<&str>,
        settings: &[(&str, &str)],
        open: Opener<'_>,
    ) -> Result<Device, InitError> {
        Device::begin(machine, slot, settings, Some(open))
    }

    fn begin(
        machine: &Arc<Machine>,
        slot: Option<&str>,
        settings: &[(&str, &str)],
        open: Option<Opener<'_>>,
    ) -> Result<Device, InitError> {
        let _one = CONFIGURATION.lock().unwrap_or_else(PoisonError::into_inner);
        let (pi, messages) = log::during(|| start(machine, slot, settings, open));
        match pi {
            Some(pi) => Ok(Device { pi, machine: machine.clone(), messages }),
            None => Err(InitError { messages }),
        }
    }

    /// The machine it is in.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// What was said while it started: warnings.
    pub fn start_messages(&self) -> &[String] {
        &self.messages
    }

    /// What the controller has done so far.
    pub fn statistics(&self) -> bhyve_nvme::controller::Statistics {
        // SAFETY: the instance lives.
        unsafe { bhyve_nvme::abi::statistics(self.pi.as_ptr().cast()) }.unwrap_or_default()
    }

    /// Kind and size of base address register `bar`, 0 to 5.
    pub fn bar_info(&self, bar: usize) -> Bar {
        let mut size = 0;
        // SAFETY: the instance lives; the number is checked there.
        match unsafe { ffi::devhost_bar_info(self.pi.as_ptr(), int(bar), &mut size) } {
            ffi::BAR_MEM32 => Bar::Memory32(size),
            ffi::BAR_MEM64 => Bar::Memory64(size),
            _ => Bar::None,
        }
    }

    /// Reads `size` bytes (1, 2, 4 or 8) at `offset`, as a vCPU does: 8 bytes
    /// reach the device as two accesses. Panics outside the BAR.
    pub fn bar_read(&self, bar: usize, offset: u64, size: usize) -> u64 {
        self.check(bar, offset, size);
        // SAFETY: the instance lives; the access is inside the BAR.
        let value = unsafe { ffi::devhost_bar_read(self.pi.as_ptr(), int(bar), offset, int(size)) };
        value & (u64::MAX >> (64 - 8 * size))
    }

    /// Writes `size` bytes (1, 2, 4 or 8) at `offset`, as a vCPU does: 8 bytes
    /// reach the device as two accesses, low half first. Panics outside the
    /// BAR.
    pub fn bar_write(&self, bar: usize, offset: u64, size: usize, value: u64) {
        self.check(bar, offset, size);
        let value = value & (u64::MAX >> (64 - 8 * size));
        // SAFETY: the instance lives; the access is inside the BAR.
        unsafe { ffi::devhost_bar_write(self.pi.as_ptr(), int(bar), offset, int(size), value) }
    }

    fn check(&self, bar: usize, offset: u64, size: usize) {
        let (Bar::Memory32(bytes) | Bar::Memory64(bytes)) = self.bar_info(bar) else {
            panic!("BAR {bar} is not there");
        };
        assert!(matches!(size, 1 | 2 | 4 | 8), "{size} bytes");
        let inside = offset.checked_add(size as u64).is_some_and(|end| end <= bytes);
        assert!(inside, "{size} bytes at {offset:#x} are not in BAR {bar}");
    }

    /// Reads `bytes` bytes (1, 2 or 4) of configuration space; all ones where
    /// that is not aligned or not there.
    pub fn cfg_read(&self, offset: usize, bytes: usize) -> u32 {
        // SAFETY: the instance lives; the rest is checked there.
        let value = unsafe { ffi::devhost_cfg_read(self.pi.as_ptr(), int(offset), int(bytes)) };
        if bytes < 4 { value & ((1 << (8 * bytes)) - 1) } else { value }
    }

    /// Writes `bytes` bytes (1, 2 or 4) of configuration space; nothing where
    /// that is not aligned or not there.
    pub fn cfg_write(&self, offset: usize, bytes: usize, value: u32) {
        // SAFETY: the instance lives; the rest is checked there.
        unsafe { ffi::devhost_cfg_write(self.pi.as_ptr(), int(offset), int(bytes), value) }
    }

    /// All of configuration space, for [`Device::cfg_restore`].
    pub fn cfg_save(&self) -> [u8; ffi::CFG_BYTES] {
        let mut saved = [0; ffi::CFG_BYTES];
        // SAFETY: the instance lives; as many bytes as it writes.
        unsafe { ffi::devhost_cfg_save(self.pi.as_ptr(), saved.as_mut_ptr()) };
        saved
    }

    /// Puts configuration space back, read-only fields included, without the
    /// device being asked: a reset of the host. All MSI-X vectors are masked
    /// and cleared. The controller itself is reset by [`Device::flr`].
    pub fn cfg_restore(&self, saved: &[u8; ffi::CFG_BYTES]) {
        // SAFETY: the instance lives; as many bytes as it reads.
        unsafe { ffi::devhost_cfg_restore(self.pi.as_ptr(), saved.as_ptr()) }
    }

    /// The offset of capability `id` in configuration space.
    pub fn capability(&self, id: u8) -> Option<usize> {
        let mut at = self.cfg_read(0x34, 1) as usize;
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            if self.cfg_read(at, 1) == u32::from(id) {
                return Some(at);
            }
            at = self.cfg_read(at + 1, 1) as usize;
        }
        None
    }

    /// Initiates a function level reset. It is complete once the controller's
    /// CSTS.RDY reads 0.
    pub fn flr(&self) {
        let control = self.capability(0x10).expect("a PCI Express capability") + 8;
        let value = self.cfg_read(control, 2);
        self.cfg_write(control, 2, value | 1 << 15);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the instance lives, and nobody uses it any more.
        if unsafe { ffi::devhost_teardown(self.pi.as_ptr()) } != 0 {
            // Its threads still run, on the machine's memory.
            std::mem::forget(self.machine.clone());
        }
    }
}

fn start(
    machine: &Machine,
    slot: Option<&str>,
    settings: &[(&str, &str)],
    mut open: Option<Opener<'_>>,
) -> Option<NonNull<ffi::Instance>> {
    // SAFETY: the caller holds the lock of the configuration.
    unsafe { ffi::init_config() };
    set("name", machine.name());
    if let Some(slot) = slot {
        let slot = text(slot);
        // SAFETY: a C string, which is not changed; the lock is held.
        if unsafe { ffi::pci_parse_slot(slot.as_ptr().cast_mut()) } != 0 {
            return None;
        }
    }
    for (path, value) in settings {
        set(path, value);
    }
    NonNull::new(match &mut open {
        // SAFETY: the machine lives as long as the device that will hold it;
        // the lock is held.
        None => unsafe { ffi::devhost_init_by(machine.vm(), None, ptr::null_mut()) },
        Some(open) => {
            let arg = ptr::from_mut(open).cast::<c_void>();
            // SAFETY: as above; the argument lives over the call.
            unsafe { ffi::devhost_init_by(machine.vm(), Some(init_over), arg) }
        }
    })
}

/// The library's initialisation over the store that the [`Opener`] at `arg`
/// opens.
extern "C" fn init_over(arg: *mut c_void, pi: *mut ffi::Instance, nvl: *mut ffi::Nvlist) -> c_int {
    // SAFETY: what `start` passes.
    let open = unsafe { *arg.cast::<Opener<'_>>() };
    // SAFETY: the stand-in's own instance and node, as `pe_init` gets them.
    unsafe { abi::init_over(pi.cast(), nvl.cast(), open) }
}

fn set(path: &str, value: &str) {
    let (path, value) = (text(path), text(value));
    // SAFETY: C strings, which are copied; the caller holds the lock.
    unsafe { ffi::set_config_value(path.as_ptr(), value.as_ptr()) };
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL in an option")
}

fn int(number: usize) -> c_int {
    c_int::try_from(number).unwrap_or(c_int::MAX)
}
