// SPDX-License-Identifier: BSD-2-Clause

//! A disk in memory, gone with the process.

use std::io;

use super::chunks::{CHUNK, Chunks};
use super::sys::pages;
use super::{Backend, Error, Geometry};
use crate::memory::{Region, Segment, total_len};

/// A store in memory. It takes any offset and length within its size.
pub struct Ram {
    region: Region,
    chunks: Chunks,
    nodelete: bool,
}

/// A place in a list of segments.
#[derive(Clone, Copy)]
struct Place<'a> {
    segments: &'a [Segment],
    /// Bytes of the first that lie before it.
    at: usize,
}

impl Place<'_> {
    /// Goes on to the end of the segment, `most` bytes at most; these bytes.
    fn take(&mut self, most: usize) -> Option<Segment> {
        loop {
            let (first, rest) = self.segments.split_first()?;
            let len = (first.len() - self.at).min(most);
            if len > 0 {
                let taken = first.slice(self.at, len);
                self.at += len;
                return taken;
            }
            *self = Place { segments: rest, at: 0 };
        }
    }

    /// Goes on by as many bytes as `part` has, and calls `copy` with each piece
    /// of `part` and its like here.
    fn along(
        mut self,
        part: &Segment,
        copy: impl Fn(&Segment, &Segment) -> Option<()>,
    ) -> Option<Self> {
        let mut at = 0;
        while at < part.len() {
            let here = self.take(part.len() - at)?;
            copy(&part.slice(at, here.len())?, &here)?;
            at += here.len();
        }
        Some(self)
    }
}

impl Ram {
    /// A store of `bytes` bytes, all zero. The host's memory is taken as the
    /// store is written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for no bytes, and
    /// [`io::ErrorKind::OutOfMemory`] where the host cannot give as many.
    pub fn new(bytes: u64) -> io::Result<Ram> {
        if bytes == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let region = usize::try_from(bytes).ok().and_then(Region::zeroed);
        let region = region.ok_or(io::ErrorKind::OutOfMemory)?;
        let chunks = Chunks::new(region.segment().len());
        Ok(Ram { region, chunks, nodelete: false })
    }

    /// Whether it gives no memory back to the host, whatever is deallocated.
    #[must_use]
    pub fn nodelete(self, nodelete: bool) -> Ram {
        Ram { nodelete, ..self }
    }

    /// The chunk and the part of it that are meant, and the only segment, where
    /// a transfer is that simple: most are.
    fn in_one_piece<'a>(
        &self,
        offset: u64,
        segments: &'a [Segment],
    ) -> Option<(usize, Segment, &'a Segment)> {
        let [segment] = segments else { return None };
        let offset = usize::try_from(offset).ok()?;
        if segment.len() > CHUNK - offset % CHUNK {
            return None;
        }
        let part = self.region.segment().slice(offset, segment.len())?;
        Some((offset / CHUNK, part, segment))
    }

    /// Calls `each` with the parts of the `len` bytes from `offset` on, none of
    /// which lies in two chunks, and with the number of its chunk.
    fn in_chunks(
        &self,
        offset: u64,
        len: u64,
        mut each: impl FnMut(usize, &Segment) -> Option<()>,
    ) -> Result<(), Error> {
        let offset = usize::try_from(offset).map_err(|_| Error::OutOfRange)?;
        let len = usize::try_from(len).map_err(|_| Error::OutOfRange)?;
        let all = self.region.segment().slice(offset, len).ok_or(Error::OutOfRange)?;
        let mut at = 0;
        while at < len {
            let part = (CHUNK - (offset + at) % CHUNK).min(len - at);
            let piece = all.slice(at, part).ok_or(Error::OutOfRange)?;
            each((offset + at) / CHUNK, &piece).ok_or(Error::OutOfRange)?;
            at += part;
        }
        Ok(())
    }
}

impl Backend for Ram {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: self.region.segment().len() as u64,
            sector_size: 512,
            physical_sector_size: 512,
            read_only: false,
            volatile_cache: false,
            can_deallocate: !self.nodelete,
            // Of the rest of a range, the host gets nothing back.
            deallocation_unit: u32::try_from(pages::page_size()).unwrap_or(4096),
            deallocated_is_zero: true,
        }
    }

    fn read(&self, offset: u64, segments: &[Segment]) -> Result<(), Error> {
        if let Some((chunk, part, to)) = self.in_one_piece(offset, segments) {
            return self.chunks.read(chunk, || to.copy_from(&part)).ok_or(Error::OutOfRange);
        }
        let mut place = Place { segments, at: 0 };
        self.in_chunks(offset, total_len(segments), |chunk, part| {
            let copy = || place.along(part, |from, to| to.copy_from(from));
            place = self.chunks.read(chunk, copy)?;
            Some(())
        })
    }

    fn write(&self, offset: u64, segments: &[Segment], _durable: bool) -> Result<(), Error> {
        // What is written is seldom read soon: it takes no room in the caches.
        if let Some((chunk, part, from)) = self.in_one_piece(offset, segments) {
            return self.chunks.write(chunk, || part.stream_from(from)).ok_or(Error::OutOfRange);
        }
        let mut place = Place { segments, at: 0 };
        self.in_chunks(offset, total_len(segments), |chunk, part| {
            let copy = || place.along(part, |to, from| to.stream_from(from));
            place = self.chunks.write(chunk, copy)?;
            Some(())
        })
    }

    /// There is no storage more stable than this memory to bring data to.
    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, deallocate: bool) -> Result<(), Error> {
        let gives_back = deallocate && !self.nodelete;
        let zero = if gives_back { pages::give_back } else { Segment::zero };
        self.in_chunks(offset, len, |chunk, part| {
            self.chunks.write(chunk, || zero(part));
            Some(())
        })
    }

    /// All of it reads as zeroes, also what is no whole unit.
    fn deallocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        if self.nodelete {
            return self.in_chunks(offset, len, |_, _| Some(()));
        }
        self.write_zeroes(offset, len, true)
    }

    fn never_waits(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(region: &Region, from: usize, len: usize, value: u8) -> Segment {
        let segment = region.segment().slice(from, len).unwrap();
        segment.write(&vec![value; len]).unwrap();
        segment
    }

    fn contents(segment: &Segment) -> Vec<u8> {
        let mut bytes = vec![0; segment.len()];
        segment.read(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn scattered_data_comes_back() {
        let ram = Ram::new(1 << 20).unwrap();
        let guest = Region::zeroed(1 << 16).unwrap();
        let list =
            [filled(&guest, 0, 100, 1), filled(&guest, 4096, 0, 0), filled(&guest, 8192, 412, 2)];
        ram.write(512, &list, true).unwrap();
        ram.flush().unwrap();

        let back = guest.segment().slice(20000, 1024).unwrap();
        back.write(&[9; 1024]).unwrap();
        ram.read(0, &[back.slice(512, 512).unwrap(), back.slice(0, 512).unwrap()]).unwrap();
        let expected: Vec<u8> = [&[1; 100][..], &[2; 412], &[0; 512]].concat();
        assert_eq!(contents(&back), expected);
    }

    #[test]
    fn nothing_outside_is_touched() {
        let ram = Ram::new(4096).unwrap();
        let guest = Region::zeroed(8192).unwrap();
        let sector = filled(&guest, 0, 512, 5);
        ram.write(3584, &[sector], false).unwrap();
        for offset in [3585, 4096, 4097, u64::MAX - 511, u64::MAX] {
            assert_eq!(ram.write(offset, &[sector], false), Err(Error::OutOfRange), "{offset}");
            assert_eq!(ram.read(offset, &[sector]), Err(Error::OutOfRange), "{offset}");
        }
        assert_eq!(ram.read(0, &[sector; 9]), Err(Error::OutOfRange));
        assert_eq!(contents(&sector), [5; 512]);
    }

    #[test]
    fn zeroes_are_written_and_what_is_deallocated_is_zero() {
        let ram = Ram::new(4096).unwrap();
        let guest = Region::zeroed(4096).unwrap();
        let all = filled(&guest, 0, 4096, 7);
        ram.write(0, &[all], false).unwrap();
        ram.write_zeroes(512, 512, false).unwrap();
        ram.deallocate(2048, 2048).unwrap();
        ram.read(0, &[all]).unwrap();
        let expected = [&[7; 512][..], &[0; 512], &[7; 1024], &[0; 2048]].concat();
        assert_eq!(contents(&all), expected);
        for (offset, len) in [(4096, 1), (0, 4097), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(ram.write_zeroes(offset, len, true), Err(Error::OutOfRange));
            assert_eq!(ram.deallocate(offset, len), Err(Error::OutOfRange));
        }
    }

    #[test]
    fn nothing_is_given_back_where_it_is_not_wanted() {
        let ram = Ram::new(16384).unwrap().nodelete(true);
        let guest = Region::zeroed(16384).unwrap();
        let all = filled(&guest, 0, 16384, 7);
        ram.write(0, &[all], false).unwrap();
        assert!(!ram.geometry().can_deallocate);
        ram.deallocate(0, 8192).unwrap();
        ram.write_zeroes(8192, 4096, true).unwrap();
        ram.read(0, &[all]).unwrap();
        let expected = [&[7; 8192][..], &[0; 4096], &[7; 4096]].concat();
        assert_eq!(contents(&all), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_host_has_its_memory_back_and_gives_it_again() {
        const SIZE: usize = 8 << 20;
        let ram = Ram::new(SIZE as u64).unwrap();
        let guest = Region::zeroed(SIZE).unwrap();
        let all = filled(&guest, 0, SIZE, 7);
        let used = || pages::resident(&ram.region.segment());
        for give_back in
            [Ram::deallocate, |ram: &Ram, offset, len| ram.write_zeroes(offset, len, true)]
        {
            ram.write(0, &[all], false).unwrap();
            assert_eq!(used(), SIZE);
            give_back(&ram, 0, SIZE as u64 / 2).unwrap();
            assert_eq!(used(), SIZE / 2);
            give_back(&ram, 0, SIZE as u64).unwrap();
            assert_eq!(used(), 0);
            ram.read(0, &[all]).unwrap();
            assert!(contents(&all).iter().all(|byte| *byte == 0));
            all.write(&[7; SIZE]).unwrap();
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(Ram::new(0).err().unwrap().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Ram::new(u64::MAX).err().unwrap().kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(Ram::new(1 << 62).err().unwrap().kind(), io::ErrorKind::OutOfMemory);
    }
}
