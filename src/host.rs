// SPDX-License-Identifier: BSD-2-Clause

//! What a controller needs of the hypervisor around it.

use crate::memory::Segment;

/// The hypervisor, as one controller sees it. [`crate::bhyve`] implements it
/// over the C glue; tests bring their own.
///
/// Every method may be called from any thread, from several at once.
///
/// **The promise about guest memory.** A segment that [`Host::map`] returned
/// stays mapped, readable and writable for the life of the virtual machine.
/// bhyve's `vm_map_gpa` has no counterpart that unmaps, and a guest's memory
/// is mapped once, before any device exists, until the process ends: so
/// nothing needs to be given back, and a segment may be kept. A host with
/// shorter-lived memory must have the controller reset, and wait for that,
/// before it unmaps.
pub trait Host: Send + Sync {
    /// The `len` bytes of guest memory at guest-physical `address`; `None`
    /// unless all of them are RAM of one contiguous range.
    fn map(&self, address: u64, len: usize) -> Option<Segment>;

    /// Whether `vector` would be delivered if raised now: MSI-X is enabled and
    /// neither the function nor the vector is masked.
    fn msix_deliverable(&self, vector: u16) -> bool;

    /// Raises `vector`. What is masked or disabled is dropped without a trace.
    fn msix_raise(&self, vector: u16);

    /// A guest's write to the MSI-X table.
    fn msix_table_write(&self, offset: u64, size: usize, value: u64);

    /// A guest's read of the MSI-X table or pending bit array.
    fn msix_table_read(&self, offset: u64, size: usize) -> u64;
}

/// A host for unit tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::Host;
    use crate::memory::{Region, Segment};

    /// Guest memory from address 0 on, and no interrupts.
    pub(crate) struct Ram(pub(crate) Region);

    impl Host for Ram {
        fn map(&self, address: u64, len: usize) -> Option<Segment> {
            self.0.segment().slice(usize::try_from(address).ok()?, len)
        }

        fn msix_deliverable(&self, _: u16) -> bool {
            false
        }

        fn msix_raise(&self, _: u16) {}

        fn msix_table_write(&self, _: u64, _: usize, _: u64) {}

        fn msix_table_read(&self, _: u64, _: usize) -> u64 {
            0
        }
    }
}
