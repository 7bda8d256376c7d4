// SPDX-License-Identifier: BSD-2-Clause

//! MSI-X, programmed as a guest does it: the capability in configuration space
//! and the table behind its BAR, nothing else.

use super::function::Function;
use crate::bhyve::Interrupts;
use std::sync::Arc;

const CAPABILITY: u32 = 0x11;
const ENTRY: u64 = 16;
const ENABLE: u32 = 1 << 15;
const FUNCTION_MASK: u32 = 1 << 14;

/// A function's interrupts.
pub struct Msix {
    function: Arc<dyn Function>,
    /// Offset of the capability.
    at: usize,
    bar: usize,
    table: u64,
    vectors: u16,
    address: u64,
    interrupts: Arc<Interrupts>,
}

impl Msix {
    /// Finds the capability; all is left as it is. `None` if there is none.
    pub fn new(function: &Arc<dyn Function>) -> Option<Msix> {
        let at = find(function.as_ref())?;
        let vectors = (function.cfg_read(at + 2, 2) & 0x7ff) as u16 + 1;
        let table = function.cfg_read(at + 4, 4);
        let (address, interrupts) = function.interrupts(usize::from(vectors));
        Some(Msix {
            function: function.clone(),
            at,
            bar: (table & 7) as usize,
            table: u64::from(table & !7),
            vectors,
            address,
            interrupts,
        })
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Gives every vector its message, unmasks all, and enables MSI-X.
    pub fn setup(&self) {
        for vector in 0..self.vectors {
            self.program(vector);
        }
        self.set_control(ENABLE, FUNCTION_MASK);
    }

    /// Gives `vector` its message and unmasks it.
    pub fn program(&self, vector: u16) {
        let at = self.entry(vector);
        self.function.bar_write(self.bar, at + 12, 4, 1);
        self.function.bar_write(self.bar, at, 4, self.address & 0xffff_ffff);
        self.function.bar_write(self.bar, at + 4, 4, self.address >> 32);
        self.function.bar_write(self.bar, at + 8, 4, u64::from(vector));
        self.function.bar_write(self.bar, at + 12, 4, 0);
    }

    /// Masks or unmasks `vector`.
    pub fn mask(&self, vector: u16, masked: bool) {
        self.function.bar_write(self.bar, self.entry(vector) + 12, 4, u64::from(masked));
    }

    /// Whether `vector` is masked.
    pub fn masked(&self, vector: u16) -> bool {
        self.function.bar_read(self.bar, self.entry(vector) + 12, 4) & 1 == 1
    }

    /// Masks or unmasks the whole function.
    pub fn mask_function(&self, masked: bool) {
        if masked { self.set_control(FUNCTION_MASK, 0) } else { self.set_control(0, FUNCTION_MASK) }
    }

    /// Enables or disables MSI-X.
    pub fn enable(&self, enabled: bool) {
        if enabled { self.set_control(ENABLE, 0) } else { self.set_control(0, ENABLE) }
    }

    /// The control word of the capability.
    pub fn control(&self) -> u32 {
        self.function.cfg_read(self.at + 2, 2)
    }

    /// Counters of what arrived.
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    fn set_control(&self, set: u32, clear: u32) {
        self.function.cfg_write(self.at + 2, 2, self.control() & !clear | set);
    }

    fn entry(&self, vector: u16) -> u64 {
        assert!(vector < self.vectors, "vector {vector} of {}", self.vectors);
        self.table + u64::from(vector) * ENTRY
    }
}

fn find(function: &dyn Function) -> Option<usize> {
    let mut at = function.cfg_read(0x34, 1) as usize;
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        if function.cfg_read(at, 1) == CAPABILITY {
            return Some(at);
        }
        at = function.cfg_read(at + 1, 1) as usize;
    }
    None
}
