// SPDX-License-Identifier: BSD-2-Clause

//! Shadow doorbells, as Linux uses them.

use super::controller::Nvme;
use super::error::Error;
use super::function::Function;
use super::memory::{Buffer, Memory, PAGE};
use super::pair::QueuePair;
use super::wire::{Entry, admin_opcode as opcode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The two pages of Doorbell Buffer Config.
pub struct DoorbellBuffer {
    function: Arc<dyn Function>,
    /// The values, at the places that the doorbells have in BAR 0.
    pub values: Buffer,
    /// The event indexes, at the same places.
    pub events: Buffer,
    rung: AtomicU64,
    trapped: AtomicU64,
}

const DOORBELLS: u64 = 0x1000;

impl DoorbellBuffer {
    /// Two pages with `byte` in every place.
    pub fn new(
        function: &Arc<dyn Function>,
        memory: &Arc<Memory>,
        byte: u8,
    ) -> Result<Arc<DoorbellBuffer>, Error> {
        let page = || memory.alloc(PAGE as usize);
        let buffer = DoorbellBuffer {
            function: function.clone(),
            values: page()?,
            events: page()?,
            rung: AtomicU64::new(0),
            trapped: AtomicU64::new(0),
        };
        buffer.values.fill(byte);
        buffer.events.fill(byte);
        Ok(Arc::new(buffer))
    }

    /// The command that sets it up.
    pub fn entry(&self) -> Entry {
        Entry::new(opcode::DOORBELL_BUFFER_CONFIG)
            .long(6, self.values.address())
            .long(8, self.events.address())
    }

    fn word(&self, page: &Buffer, doorbell: u64) -> &AtomicU32 {
        let address = page.address() + (doorbell - DOORBELLS);
        let word = self.function.machine().pointer(address, 4).expect("guest memory");
        // SAFETY: four aligned bytes of the machine's memory, which `function`
        // keeps, and which is accessed by copies and atomic operations only.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// Stores `value` for the doorbell that is at byte `doorbell` of BAR 0, and
    /// writes to the register if the controller wants that: then, true.
    pub fn ring(&self, doorbell: u64, value: u32) -> bool {
        let before = self.word(&self.values, doorbell).swap(value, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let event = self.word(&self.events, doorbell).load(Ordering::SeqCst);
        let [value16, before16, event16] = [value, before, event].map(|word| word as u16);
        self.rung.fetch_add(1, Ordering::Relaxed);
        let passed = value16.wrapping_sub(event16).wrapping_sub(1);
        let wanted = passed < value16.wrapping_sub(before16);
        if wanted {
            self.trapped.fetch_add(1, Ordering::Relaxed);
            self.function.bar_write(0, doorbell, 4, u64::from(value));
        }
        wanted
    }

    /// How often doorbells were rung, and how often by their registers.
    pub fn counts(&self) -> (u64, u64) {
        (self.rung.load(Ordering::Relaxed), self.trapped.load(Ordering::Relaxed))
    }
}

impl Nvme {
    /// Sets up a doorbell buffer that begins with `byte` in every place.
    pub fn doorbell_buffer(&self, byte: u8) -> Result<Arc<DoorbellBuffer>, Error> {
        let buffer = DoorbellBuffer::new(self.function(), &self.memory, byte)?;
        self.admin().execute(buffer.entry())?;
        Ok(buffer)
    }
}

impl QueuePair {
    /// Rings by `buffer` from here on.
    pub fn use_doorbell_buffer(&self, buffer: &Arc<DoorbellBuffer>) {
        self.raw(|sq, cq| {
            sq.shadow = Some(buffer.clone());
            cq.shadow = Some(buffer.clone());
        });
    }
}
