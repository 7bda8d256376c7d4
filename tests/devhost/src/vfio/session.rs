// SPDX-License-Identifier: BSD-2-Clause

//! One client's session: each message, and what it does to the function.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::channel::{Channel, End, Message};
use super::doorbells::{self, Page};
use super::function::{CONFIG_BYTES, Machine, PciFunction};
use super::interrupts::Interrupts;
use super::memory::GuestMemory;
use super::reset::{Baseline, Hung};
use super::wire::{self, Fields, Header};

/// Why a request fails.
enum Failure {
    /// It is answered with this error number.
    Errno(i32),
    /// The controller does not come to rest; the session cannot go on.
    Hung,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<Hung> for Failure {
    fn from(_: Hung) -> Failure {
        Failure::Hung
    }
}

const INVALID: Failure = Failure::Errno(libc::EINVAL);
const UNSUPPORTED: Failure = Failure::Errno(libc::EOPNOTSUPP);

/// How a session came to its end.
pub(super) enum Outcome {
    Ended(End),
    Hung,
}

/// A session's state. What must outlive it (memory that the controller may
/// still use, eventfds that it may still signal) is borrowed.
pub(super) struct Session<'a> {
    pub(super) function: &'a dyn PciFunction,
    pub(super) machine: &'a dyn Machine,
    pub(super) channel: &'a Channel,
    pub(super) memory: &'a mut GuestMemory,
    pub(super) interrupts: &'a Interrupts,
    pub(super) doorbells: Option<&'a Page>,
    pub(super) baseline: &'a Baseline,
    pub(super) reset_limit: Duration,
    /// Set by the first message, which tells the version.
    pub(super) greeted: bool,
}

impl Session<'_> {
    /// Answers messages until there are no more.
    pub(super) fn run(&mut self) -> Outcome {
        let mut message = Message::default();
        let mut reply = Vec::new();
        loop {
            if let Err(end) = self.channel.receive(&mut message) {
                return Outcome::Ended(end);
            }
            reply.clear();
            let header = message.header;
            let result = self.handle(&mut message, &mut reply);
            // A polled client sends descriptors that nobody asked for.
            message.fds.clear();
            if let Err(Failure::Hung) = result {
                return Outcome::Hung;
            }
            if header.flags & wire::NO_REPLY != 0 {
                continue;
            }
            if let Err(end) = self.answer(header, &reply, result) {
                return Outcome::Ended(end);
            }
        }
    }

    fn answer(
        &self,
        request: Header,
        reply: &[u8],
        result: Result<Option<RawFd>, Failure>,
    ) -> Result<(), End> {
        let (payload, fd, error) = match result {
            Ok(fd) => (reply, fd, None),
            Err(Failure::Errno(number)) => (&[][..], None, Some(number)),
            Err(Failure::Hung) => (&[][..], None, Some(libc::EIO)),
        };
        let flags = wire::TYPE_REPLY | if error.is_some() { wire::ERROR } else { 0 };
        let header = Header {
            size: (wire::HEADER_BYTES + payload.len()) as u32,
            flags,
            error: error.unwrap_or(0) as u32,
            ..request
        };
        self.channel.send(header, payload, fd)
    }

    /// Does what `message` asks for; appends the answer's payload to `reply`
    /// and returns the descriptor to send along.
    fn handle(
        &mut self,
        message: &mut Message,
        reply: &mut Vec<u8>,
    ) -> Result<Option<RawFd>, Failure> {
        let Header { command, flags, .. } = message.header;
        let is_first = command == wire::VERSION;
        if flags & wire::TYPE_MASK != wire::TYPE_COMMAND || is_first == self.greeted {
            return Err(INVALID);
        }
        let fields = Fields(&message.payload);
        match command {
            wire::VERSION => self.version(fields, reply)?,
            wire::DMA_MAP => self.dma_map(fields, message.fds.drain(..).next())?,
            wire::DMA_UNMAP => self.dma_unmap(fields, reply)?,
            wire::DEVICE_GET_INFO => {
                let flags = wire::DEVICE_PCI | wire::DEVICE_RESETTABLE;
                for field in [16, flags, wire::REGIONS, wire::IRQS] {
                    reply.extend(field.to_le_bytes());
                }
            }
            wire::DEVICE_GET_REGION_INFO => return self.region_info(fields, reply),
            wire::DEVICE_GET_IRQ_INFO => self.irq_info(fields, reply)?,
            wire::DEVICE_SET_IRQS => self.set_irqs(fields, &mut message.fds)?,
            wire::REGION_READ => self.region_read(fields, reply)?,
            wire::REGION_WRITE => self.region_write(fields, reply)?,
            wire::DEVICE_RESET => self.reset()?,
            _ => return Err(UNSUPPORTED),
        }
        Ok(None)
    }

    /// The client's capabilities do not matter: nothing is ever sent that the
    /// least of clients could not take.
    fn version(&mut self, mut fields: Fields, reply: &mut Vec<u8>) -> Result<(), Failure> {
        let (Some(0), Some(_minor)) = (fields.u16(), fields.u16()) else { return Err(INVALID) };
        self.greeted = true;
        // Version 0.0 is the least; no client refuses a smaller one.
        reply.extend([0; 4]);
        reply.extend(wire::CAPABILITIES.as_bytes());
        Ok(())
    }

    fn dma_map(&mut self, mut fields: Fields, file: Option<OwnedFd>) -> Result<(), Failure> {
        let _argsz = fields.u32();
        let flags = fields.u32().ok_or(INVALID)?;
        let offset = fields.u64().ok_or(INVALID)?;
        let address = fields.u64().ok_or(INVALID)?;
        let len = fields.u64().ok_or(INVALID)?;
        let writable = flags & wire::MAP_READ_WRITE == wire::MAP_READ_WRITE;
        self.memory.map(address, len, offset, writable, file)?;
        self.publish();
        Ok(())
    }

    fn dma_unmap(&mut self, mut fields: Fields, reply: &mut Vec<u8>) -> Result<(), Failure> {
        let argsz = fields.u32().ok_or(INVALID)?;
        let flags = fields.u32().ok_or(INVALID)?;
        let address = fields.u64().ok_or(INVALID)?;
        let len = fields.u64().ok_or(INVALID)?;
        if flags & wire::UNMAP_DIRTY_BITMAP != 0 {
            return Err(UNSUPPORTED);
        }
        let removed = if flags & wire::UNMAP_ALL != 0 {
            self.memory.unmap_all()
        } else {
            self.memory.unmap(address, len)?
        };
        self.publish();
        reply.extend(argsz.to_le_bytes());
        reply.extend(flags.to_le_bytes());
        reply.extend(address.to_le_bytes());
        reply.extend(removed.to_le_bytes());
        Ok(())
    }

    /// Makes what is mapped the guest's memory.
    fn publish(&self) {
        let ranges = self.memory.ranges();
        // SAFETY: a file stays mapped for as long as `memory` lives, and the
        // server drops that only once the controller is at rest.
        unsafe { self.machine.set_ranges(&ranges) };
    }

    fn region_size(&self, region: u32) -> Result<u64, Failure> {
        match region {
            wire::REGION_CONFIG => Ok(CONFIG_BYTES as u64),
            bar if bar < wire::REGION_BARS => Ok(self.function.bar_size(bar as usize)),
            other if other < wire::REGIONS => Ok(0),
            _ => Err(INVALID),
        }
    }

    fn region_info(
        &self,
        mut fields: Fields,
        reply: &mut Vec<u8>,
    ) -> Result<Option<RawFd>, Failure> {
        let room = fields.u32().ok_or(INVALID)?;
        let _flags = fields.u32();
        let index = fields.u32().ok_or(INVALID)?;
        let size = self.region_size(index)?;
        let mut sparse = Vec::new();
        let mut flags = if size == 0 { 0 } else { wire::REGION_READ_WRITE };
        let page = self.doorbells.filter(|_| index == 0);
        if page.is_some() {
            flags |= wire::REGION_MMAP | wire::REGION_CAPS;
            sparse.extend(wire::CAP_SPARSE_MMAP.to_le_bytes());
            // Version 1, no next capability, one area, reserved.
            sparse.extend(1u16.to_le_bytes());
            for field in [0u32, 1, 0] {
                sparse.extend(field.to_le_bytes());
            }
            sparse.extend(doorbells::OFFSET.to_le_bytes());
            sparse.extend(doorbells::BYTES.to_le_bytes());
        }
        let argsz = wire::REGION_INFO_BYTES + sparse.len();
        let cap_offset = if sparse.is_empty() { 0 } else { wire::REGION_INFO_BYTES };
        for field in [argsz as u32, flags, index, cap_offset as u32] {
            reply.extend(field.to_le_bytes());
        }
        reply.extend(size.to_le_bytes());
        // Where the region starts in the file that comes along.
        reply.extend(0u64.to_le_bytes());
        // A client without room asks again, now that it knows how much.
        if (room as usize) < argsz {
            return Ok(None);
        }
        reply.extend(sparse);
        Ok(page.map(|page| page.file().as_raw_fd()))
    }

    fn irq_info(&self, mut fields: Fields, reply: &mut Vec<u8>) -> Result<(), Failure> {
        let _argsz = fields.u32();
        let _flags = fields.u32();
        let index = fields.u32().ok_or(INVALID)?;
        let (flags, count) = match index {
            // The function has no such interrupt; that is how it would be.
            wire::IRQ_INTX => (wire::IRQ_EVENTFD | wire::IRQ_MASKABLE | wire::IRQ_AUTOMASKED, 0),
            wire::IRQ_MSIX => (wire::IRQ_EVENTFD, self.interrupts.count() as u32),
            other if other < wire::IRQS => (0, 0),
            _ => return Err(INVALID),
        };
        for field in [16, flags, index, count] {
            reply.extend(field.to_le_bytes());
        }
        Ok(())
    }

    fn set_irqs(&self, mut fields: Fields, fds: &mut Vec<OwnedFd>) -> Result<(), Failure> {
        let _argsz = fields.u32();
        let flags = fields.u32().ok_or(INVALID)?;
        let index = fields.u32().ok_or(INVALID)?;
        let start = fields.u32().ok_or(INVALID)? as usize;
        let count = fields.u32().ok_or(INVALID)? as usize;
        let vectors = match index {
            wire::IRQ_MSIX => self.interrupts.count(),
            other if other < wire::IRQS => 0,
            _ => return Err(INVALID),
        };
        let Some(range) =
            start.checked_add(count).filter(|&end| end <= vectors).map(|end| start..end)
        else {
            return Err(INVALID);
        };
        let data = flags & wire::SET_DATA_MASK;
        let action = flags & wire::SET_ACTION_MASK;
        if flags & !(wire::SET_DATA_MASK | wire::SET_ACTION_MASK) != 0 {
            return Err(INVALID);
        }
        if (action, data) == (wire::SET_TRIGGER, wire::SET_DATA_EVENTFD) {
            // None at all takes the eventfds away.
            if !fds.is_empty() && fds.len() != count {
                return Err(INVALID);
            }
            let mut fds = fds.drain(..);
            for vector in range {
                self.interrupts.connect(vector, fds.next())?;
            }
            return Ok(());
        }
        if (action, data, count) == (wire::SET_TRIGGER, wire::SET_DATA_NONE, 0) {
            for vector in 0..vectors {
                self.interrupts.connect(vector, None)?;
            }
            return Ok(());
        }
        let chosen = match data {
            wire::SET_DATA_NONE => None,
            wire::SET_DATA_BOOL => Some(fields.bytes(count).ok_or(INVALID)?),
            _ => return Err(INVALID),
        };
        for vector in range {
            if chosen.is_some_and(|chosen| chosen[vector - start] == 0) {
                continue;
            }
            match action {
                wire::SET_TRIGGER => self.interrupts.trigger(vector),
                wire::SET_MASK => self.baseline.mask_msix(self.function, vector, true),
                wire::SET_UNMASK => self.baseline.mask_msix(self.function, vector, false),
                _ => return Err(INVALID),
            }
        }
        Ok(())
    }

    /// The offset, region and length that both accesses start with, if they
    /// are inside the region and within what was agreed.
    fn access(&self, fields: &mut Fields) -> Result<(u64, u32, u32), Failure> {
        let offset = fields.u64().ok_or(INVALID)?;
        let region = fields.u32().ok_or(INVALID)?;
        let count = fields.u32().ok_or(INVALID)?;
        let size = self.region_size(region)?;
        let inside = offset.checked_add(u64::from(count)).is_some_and(|end| end <= size);
        if !inside || count == 0 || count as usize > wire::MAX_TRANSFER {
            return Err(INVALID);
        }
        // Doorbells stored before this message come before it.
        if let Some(page) = self.doorbells {
            page.forward(self.function);
        }
        Ok((offset, region, count))
    }

    fn region_read(&self, mut fields: Fields, reply: &mut Vec<u8>) -> Result<(), Failure> {
        let (offset, region, count) = self.access(&mut fields)?;
        reply.extend(offset.to_le_bytes());
        reply.extend(region.to_le_bytes());
        reply.extend(count.to_le_bytes());
        if region == wire::REGION_CONFIG {
            for (at, size) in pieces(offset, count, 4) {
                let value = self.function.config_read(at as usize, size);
                reply.extend(&value.to_le_bytes()[..size]);
            }
        } else {
            for (at, size) in pieces(offset, count, 8) {
                let value = self.function.bar_read(region as usize, at, size);
                reply.extend(&value.to_le_bytes()[..size]);
            }
        }
        Ok(())
    }

    fn region_write(&self, mut fields: Fields, reply: &mut Vec<u8>) -> Result<(), Failure> {
        let (offset, region, count) = self.access(&mut fields)?;
        let mut data = Fields(fields.bytes(count as usize).ok_or(INVALID)?);
        let largest = if region == wire::REGION_CONFIG { 4 } else { 8 };
        for (at, size) in pieces(offset, count, largest) {
            let mut value = [0; 8];
            value[..size].copy_from_slice(data.bytes(size).ok_or(INVALID)?);
            let value = u64::from_le_bytes(value);
            if region == wire::REGION_CONFIG {
                self.config_write(at as usize, size, value as u32);
            } else if !self.is_msix_table(region, at) {
                self.function.bar_write(region as usize, at, size, value);
            }
        }
        reply.extend(offset.to_le_bytes());
        reply.extend(region.to_le_bytes());
        reply.extend(count.to_le_bytes());
        Ok(())
    }

    fn config_write(&self, offset: usize, size: usize, value: u32) {
        self.function.config_write(offset, size, value);
        if self.baseline.is_reset(offset, size, value) {
            // The reset cleared the host's table with everything else.
            self.baseline.program_msix(self.function);
            self.interrupts.forget();
        }
    }

    /// The table is the host's, as in the kernel's VFIO: eventfds stand for
    /// what a client would write there.
    fn is_msix_table(&self, region: u32, offset: u64) -> bool {
        self.baseline.msix.is_some_and(|table| {
            let bytes = table.vectors as u64 * 16;
            region as usize == table.bar && (table.offset..table.offset + bytes).contains(&offset)
        })
    }

    fn reset(&self) -> Result<(), Failure> {
        if let Some(page) = self.doorbells {
            page.silence();
        }
        self.baseline.reset(self.function, self.reset_limit)?;
        self.interrupts.forget();
        Ok(())
    }
}

/// Splits `count` bytes at `offset` into aligned accesses of 1, 2, 4 or 8
/// bytes, `largest` at most.
fn pieces(offset: u64, count: u32, largest: usize) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + u64::from(count);
    let mut at = offset;
    std::iter::from_fn(move || {
        let mut size = largest;
        while size > 1 && (!at.is_multiple_of(size as u64) || at + size as u64 > end) {
            size /= 2;
        }
        (at < end).then(|| {
            at += size as u64;
            (at - size as u64, size)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_split_where_they_must() {
        let split = |offset, count, largest| pieces(offset, count, largest).collect::<Vec<_>>();
        assert_eq!(split(0, 8, 8), [(0, 8)]);
        assert_eq!(split(4, 8, 8), [(4, 4), (8, 4)]);
        assert_eq!(split(1, 8, 4), [(1, 1), (2, 2), (4, 4), (8, 1)]);
        assert_eq!(split(6, 2, 4), [(6, 2)]);
        assert_eq!(split(0, 0, 8), []);
        assert_eq!(split(0, 256, 4).len(), 64);
    }
}
