// SPDX-License-Identifier: BSD-2-Clause

//! The guest's memory, and where its interrupts arrive.

use super::ffi;
use super::interrupts::Interrupts;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A run of guest memory: `len` bytes at guest-physical `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    address: u64,
    len: u64,
    host: NonNull<u8>,
}

// SAFETY: an address of memory that is shared with devices anyway; it is only
// accessed by raw copies and atomic operations.
unsafe impl Send for Range {}
// SAFETY: as above.
unsafe impl Sync for Range {}

impl Range {
    /// `len` bytes at guest-physical `address`, mapped at `host`.
    ///
    /// # Safety
    /// They must stay mapped, readable and writable for as long as a device of
    /// the machine may use them, and `address + len` must not overflow.
    pub unsafe fn new(address: u64, len: u64, host: NonNull<u8>) -> Range {
        Range { address, len, host }
    }

    /// Guest-physical address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn end(&self) -> u64 {
        self.address + self.len
    }
}

/// Receives a message-signalled interrupt: address and data. Called from any
/// thread; must not block.
pub type MsiSink = Arc<dyn Fn(u64, u32) + Send + Sync>;

/// Memory of the machine's own.
struct Ram {
    base: NonNull<u8>,
    layout: Layout,
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed with the machine,
        // which outlives its devices.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

// SAFETY: only the address of memory that is owned here.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

/// What the C side calls back into.
struct Inner {
    /// The map in force; read without a lock by every `vm_map_gpa`.
    map: AtomicPtr<Vec<Range>>,
    /// Every map there ever was: a reader may still look at an old one.
    #[expect(clippy::vec_box, reason = "`map` points to the vectors")]
    maps: Mutex<Vec<Box<Vec<Range>>>>,
    sink: RwLock<Option<MsiSink>>,
    counters: RwLock<Vec<Arc<Interrupts>>>,
}

/// Where the messages of the n-th set of counters go: one page each.
const MSI_BASE: u64 = 0xfee0_0000;
const MSI_STEP: u64 = 4096;

/// A virtual machine without a processor: tests bring that.
pub struct Machine {
    vm: NonNull<ffi::Vm>,
    inner: Box<Inner>,
    name: String,
    /// Freed last.
    _ram: Vec<Ram>,
}

// SAFETY: the C side keeps nothing but three pointers, which never change, and
// `Inner` is made for concurrent use.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    /// A machine with `bytes` bytes of zeroed RAM from guest address 0 on.
    pub fn with_ram(bytes: u64) -> Arc<Machine> {
        Machine::with_layout("devhost", &[(0, bytes)])
    }

    /// A machine called `name`, with zeroed RAM in each of `layout` (guest
    /// address and length in bytes, sorted and apart). Ranges never touch
    /// each other in the host's memory, not even where they do in the guest's.
    pub fn with_layout(name: &str, layout: &[(u64, u64)]) -> Arc<Machine> {
        let mut ram = Vec::new();
        let mut ranges = Vec::new();
        for &(address, len) in layout {
            // A page more, so that two allocations are never neighbours.
            let size = usize::try_from(len).expect("fits into memory") + 4096;
            let layout = Layout::from_size_align(size, 4096).expect("a legal size");
            // SAFETY: the size is not zero.
            let base = unsafe { alloc_zeroed(layout) };
            let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
            ram.push(Ram { base, layout });
            ranges.push(Range { address, len, host: base });
        }
        let inner = Box::new(Inner {
            map: AtomicPtr::new(ptr::null_mut()),
            maps: Mutex::new(Vec::new()),
            sink: RwLock::new(None),
            counters: RwLock::new(Vec::new()),
        });
        inner.set(ranges);
        let arg = (&raw const *inner).cast_mut().cast::<c_void>();
        // SAFETY: `inner` has a stable address and outlives the VM.
        let vm = unsafe { ffi::devhost_vm_open(arg, map, msi) };
        let vm = NonNull::new(vm).expect("memory for a VM");
        Arc::new(Machine { vm, inner, name: name.to_owned(), _ram: ram })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn vm(&self) -> *mut ffi::Vm {
        self.vm.as_ptr()
    }

    /// Makes `ranges` (sorted by address, apart) the guest's memory, all at
    /// once: whoever looks an address up meanwhile sees the old map or the
    /// new. Neighbours in both address spaces become one range.
    pub fn set_ranges(&self, ranges: &[Range]) {
        let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.end() == range.address && last.host_end() == range.host => {
                    last.len += range.len;
                }
                Some(last) => {
                    assert!(last.end() <= range.address, "{range:x?} follows {last:x?}");
                    joined.push(*range);
                }
                None => joined.push(*range),
            }
        }
        self.inner.set(joined);
    }

    /// The guest's memory, sorted by address.
    pub fn ranges(&self) -> Vec<Range> {
        self.inner.ranges().to_vec()
    }

    /// Sends every message-signalled interrupt to `sink` from now on; `None`
    /// brings back the counters of [`Machine::interrupts`].
    pub fn set_msi_sink(&self, sink: Option<MsiSink>) {
        *self.inner.sink.write().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// New counters for `vectors` vectors, and the message address that leads
    /// to them; the message's data is the vector's number.
    pub fn interrupts(&self, vectors: usize) -> (u64, Arc<Interrupts>) {
        let mut all = self.inner.counters.write().unwrap_or_else(PoisonError::into_inner);
        let address = MSI_BASE + all.len() as u64 * MSI_STEP;
        let counters = Arc::new(Interrupts::new(vectors));
        all.push(counters.clone());
        (address, counters)
    }

    /// Where `len` bytes at guest-physical `address` are in this process;
    /// `None` unless all of them lie in one range.
    pub fn pointer(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        self.inner.lookup(address, len)
    }

    /// Copies guest memory to `to`. Panics where there is none.
    pub fn read(&self, address: u64, to: &mut [u8]) {
        let from = self.must(address, to.len());
        // SAFETY: mapped, and long enough; a slice never overlaps it.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
    }

    /// Copies `from` to guest memory. Panics where there is none.
    pub fn write(&self, address: u64, from: &[u8]) {
        let to = self.must(address, from.len());
        // SAFETY: mapped, and long enough; a slice never overlaps it.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
    }

    /// Loads an aligned 32-bit word, in one access, before all that follows.
    /// Panics where there is no memory.
    pub fn load32(&self, address: u64) -> u32 {
        self.word32(address).load(Ordering::Acquire).to_le()
    }

    /// Stores an aligned 32-bit word, in one access, after all that went
    /// before. Panics where there is no memory.
    pub fn store32(&self, address: u64, value: u32) {
        self.word32(address).store(value.to_le(), Ordering::Release);
    }

    /// Loads an aligned 64-bit word, as [`Machine::load32`].
    pub fn load64(&self, address: u64) -> u64 {
        let at = self.must(address, 8).cast::<u64>();
        assert!(at.is_aligned(), "{address:#x} is not aligned");
        // SAFETY: mapped, aligned, and valid for as long as the machine.
        unsafe { AtomicU64::from_ptr(at.as_ptr()) }.load(Ordering::Acquire).to_le()
    }

    fn word32(&self, address: u64) -> &AtomicU32 {
        let at = self.must(address, 4).cast::<u32>();
        assert!(at.is_aligned(), "{address:#x} is not aligned");
        // SAFETY: mapped, aligned, and valid for as long as the machine.
        unsafe { AtomicU32::from_ptr(at.as_ptr()) }
    }

    fn must(&self, address: u64, len: usize) -> NonNull<u8> {
        self.pointer(address, len)
            .unwrap_or_else(|| panic!("no guest memory at {address:#x}, {len} bytes"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: every device holds the machine, so there is none left.
        unsafe { ffi::devhost_vm_close(self.vm.as_ptr()) };
    }
}

impl Range {
    fn host_end(&self) -> NonNull<u8> {
        self.at(self.len)
    }

    /// The address `by` bytes into the range, its end included.
    fn at(&self, by: u64) -> NonNull<u8> {
        NonNull::new(self.host.as_ptr().wrapping_add(by as usize)).expect("a mapping does not wrap")
    }
}

impl Inner {
    fn set(&self, ranges: Vec<Range>) {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.push(Box::new(ranges));
        let newest = maps.last().map_or(ptr::null(), |map| &raw const **map);
        self.map.store(newest.cast_mut(), Ordering::Release);
    }

    fn ranges(&self) -> &[Range] {
        let map = self.map.load(Ordering::Acquire);
        // SAFETY: never null after the first `set`, and no map is freed or
        // changed before `self` goes.
        unsafe { &*map }
    }

    fn lookup(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        let ranges = self.ranges();
        let after = ranges.partition_point(|range| range.address <= address);
        let range = &ranges[after.checked_sub(1)?];
        let offset = address - range.address;
        let left = range.len.checked_sub(offset)?;
        (len as u64 <= left).then(|| range.at(offset))
    }

    fn deliver(&self, address: u64, data: u32) {
        if let Some(sink) = &*self.sink.read().unwrap_or_else(PoisonError::into_inner) {
            sink(address, data);
            return;
        }
        let place = address.wrapping_sub(MSI_BASE) / MSI_STEP;
        let all = self.counters.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = all.get(place as usize) {
            counters.raise(data as usize);
        }
    }
}

extern "C" fn map(arg: *mut c_void, gpa: u64, len: usize) -> *mut c_void {
    // SAFETY: the argument of `devhost_vm_open`, which outlives the VM.
    let inner = unsafe { &*arg.cast::<Inner>() };
    inner.lookup(gpa, len).map_or(ptr::null_mut(), |host| host.as_ptr().cast())
}

extern "C" fn msi(arg: *mut c_void, address: u64, data: u32) {
    // SAFETY: as in `map`.
    let inner = unsafe { &*arg.cast::<Inner>() };
    inner.deliver(address, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_in_one_range_only() {
        let machine = Machine::with_layout("m", &[(0, 8192), (8192, 4096), (1 << 32, 4096)]);
        assert!(machine.pointer(0, 8192).is_some());
        assert!(machine.pointer(8191, 1).is_some());
        assert!(machine.pointer(8191, 2).is_none());
        assert!(machine.pointer(12288, 1).is_none());
        assert!(machine.pointer((1 << 32) + 4095, 1).is_some());
        assert!(machine.pointer((1 << 32) + 4096, 1).is_none());
        assert!(machine.pointer(u64::MAX, 2).is_none());
        assert!(machine.pointer(4096, usize::MAX).is_none());
    }

    #[test]
    fn neighbours_join() {
        let machine = Machine::with_ram(16384);
        let base = machine.pointer(0, 16384).unwrap();
        let page = |address, offset| {
            let host = machine.pointer(offset, 4096).unwrap();
            // SAFETY: a part of the machine's own memory.
            unsafe { Range::new(address, 4096, host) }
        };
        let (low, high, far) = (page(0x1000, 0), page(0x2000, 4096), page(0x3000, 12288));
        machine.set_ranges(&[low, high, far]);
        assert_eq!(machine.ranges().len(), 2);
        assert_eq!(machine.pointer(0x1000, 8192), Some(base));
        assert!(machine.pointer(0x2000, 8192).is_none());
        machine.set_ranges(&[]);
        assert!(machine.pointer(0x1000, 1).is_none());
    }

    #[test]
    fn words_are_little_endian() {
        let machine = Machine::with_ram(4096);
        machine.store32(8, 0x0102_0304);
        let mut bytes = [0; 4];
        machine.read(8, &mut bytes);
        assert_eq!(bytes, [4, 3, 2, 1]);
        assert_eq!(machine.load32(8), 0x0102_0304);
        assert_eq!(machine.load64(8), 0x0102_0304);
    }
}
