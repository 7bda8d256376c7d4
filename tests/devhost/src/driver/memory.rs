// SPDX-License-Identifier: BSD-2-Clause

//! An allocator of guest memory.

use super::error::Error;
use crate::bhyve::Machine;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a page of the guest's, and of the controller's.
pub const PAGE: u64 = 4096;

/// Guest memory that drivers take their queues and buffers from, in whole
/// pages.
pub struct Memory {
    machine: Arc<Machine>,
    /// Address and length in bytes of what is free, neighbours joined.
    free: Mutex<BTreeMap<u64, u64>>,
}

impl Memory {
    /// All of the machine's memory but the page at address 0, so that no
    /// buffer has the address 0.
    pub fn all(machine: &Arc<Machine>) -> Arc<Memory> {
        let free = machine.ranges().into_iter().filter_map(|range| {
            let end = (range.address() + range.len()) / PAGE * PAGE;
            let start = range.address().max(1).next_multiple_of(PAGE);
            (start < end).then(|| (start, end - start))
        });
        Memory::from_free(machine, free.collect())
    }

    /// `len` bytes at `address`, both multiples of the page.
    pub fn part(machine: &Arc<Machine>, address: u64, len: u64) -> Arc<Memory> {
        assert!((address | len).is_multiple_of(PAGE) && len > 0, "whole pages");
        Memory::from_free(machine, BTreeMap::from([(address, len)]))
    }

    fn from_free(machine: &Arc<Machine>, free: BTreeMap<u64, u64>) -> Arc<Memory> {
        Arc::new(Memory { machine: machine.clone(), free: Mutex::new(free) })
    }

    /// The machine whose memory it is.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// `len` zeroed bytes, contiguous, at the start of a page.
    pub fn alloc(self: &Arc<Memory>, len: usize) -> Result<Buffer, Error> {
        let size = (len.max(1) as u64).next_multiple_of(PAGE);
        let address = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let found = free.iter().find(|&(_, &there)| there >= size);
            let (&address, &there) = found.ok_or(Error::NoRoom("guest memory"))?;
            free.remove(&address);
            if there > size {
                free.insert(address + size, there - size);
            }
            address
        };
        let buffer = Buffer { memory: self.clone(), address, len, size };
        buffer.write(0, &vec![0; len]);
        Ok(buffer)
    }

    fn give_back(&self, mut address: u64, mut size: u64) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((&below, &len)) = free.range(..address).next_back()
            && below + len == address
        {
            free.remove(&below);
            address = below;
            size += len;
        }
        if let Some(len) = free.remove(&(address + size)) {
            size += len;
        }
        free.insert(address, size);
    }
}

/// Contiguous guest memory, given back on drop.
pub struct Buffer {
    memory: Arc<Memory>,
    address: u64,
    len: usize,
    size: u64,
}

impl Buffer {
    /// Guest-physical address, a multiple of the page.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `from` to byte `offset`. Panics outside the buffer.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= self.len, "inside the buffer");
        self.memory.machine.write(self.address + offset as u64, from);
    }

    /// Fills `to` from byte `offset` on. Panics outside the buffer.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= self.len, "inside the buffer");
        self.memory.machine.read(self.address + offset as u64, to);
    }

    /// All of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    /// Sets every byte to `byte`.
    pub fn fill(&self, byte: u8) {
        self.write(0, &vec![byte; self.len]);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.give_back(self.address, self.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_joins() {
        let machine = Machine::with_ram(8 * PAGE);
        let memory = Memory::all(&machine);
        let buffers: Vec<Buffer> = (0..7).map(|_| memory.alloc(1).unwrap()).collect();
        assert!(memory.alloc(1).is_err());
        assert!(buffers.iter().all(|buffer| buffer.address() != 0));
        drop(buffers);
        let all = memory.alloc(7 * PAGE as usize).unwrap();
        assert_eq!(all.address(), PAGE);
    }
}
