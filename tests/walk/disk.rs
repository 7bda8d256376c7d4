// SPDX-License-Identifier: BSD-2-Clause

//! The model of the disk: for each block, the writes that may be the last.
//!
//! A write that was submitted after another had been seen complete comes after
//! it. Two that overlap in time may come in either order, in each word of a
//! block for itself; so may one that a reset has cut short, or it never was.

/// Bytes of a block, and of a word in it.
pub(crate) const BLOCK: usize = 512;
/// What is copied as a whole at least: guest memory begins at such a multiple.
const WORD: usize = 4;

/// What a write is known by. Zeroes have a tag of their own.
pub(crate) type Tag = u32;
pub(crate) const ZEROES: Tag = 0;

/// A moment: each submission and each completion that is seen has one.
pub(crate) type Moment = u64;

#[derive(Clone, Copy, Debug)]
struct Write {
    tag: Tag,
    begun: Moment,
    /// When it was seen complete; a reset ends it too.
    ended: Option<Moment>,
    /// When a later one was seen complete.
    replaced: Option<Moment>,
}

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    blocks: Vec<Vec<Write>>,
}

/// Word `word` of block `lba`, as write `tag` writes it.
fn value(tag: Tag, lba: u64, word: usize) -> u32 {
    if tag == ZEROES {
        return 0;
    }
    let mut mixed = u64::from(tag) << 32 ^ lba << 8 ^ word as u64;
    mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 29) as u32 | 1
}

/// Block `lba` as write `tag` writes it.
pub(crate) fn block(tag: Tag, lba: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    if tag != ZEROES {
        for (word, bytes) in bytes.chunks_exact_mut(WORD).enumerate() {
            bytes.copy_from_slice(&value(tag, lba, word).to_le_bytes());
        }
    }
    bytes
}

impl Disk {
    /// All zero.
    pub(crate) fn new(blocks: u64) -> Disk {
        let first = Write { tag: ZEROES, begun: 0, ended: Some(0), replaced: None };
        Disk { blocks: vec![vec![first]; blocks as usize] }
    }

    /// A write has been submitted.
    pub(crate) fn begin(&mut self, tag: Tag, now: Moment, lba: u64, blocks: u64) {
        for at in lba..lba + blocks {
            let write = Write { tag, begun: now, ended: None, replaced: None };
            self.blocks[at as usize].push(write);
        }
    }

    /// It has succeeded.
    pub(crate) fn end(&mut self, tags: &[Tag], begun: Moment, now: Moment, lba: u64, blocks: u64) {
        for at in lba..lba + blocks {
            let block = &mut self.blocks[at as usize];
            for write in block.iter_mut() {
                if write.begun == begun && tags.contains(&write.tag) {
                    write.ended = Some(now);
                } else if write.replaced.is_none() && write.ended.is_some_and(|end| end < begun) {
                    write.replaced = Some(now);
                }
            }
        }
    }

    /// It never was.
    pub(crate) fn cancel(&mut self, begun: Moment, lba: u64, blocks: u64) {
        for at in lba..lba + blocks {
            self.blocks[at as usize].retain(|write| write.begun != begun);
        }
    }

    /// It was or was not, and is over.
    pub(crate) fn abandon(&mut self, begun: Moment, now: Moment, lba: u64, blocks: u64) {
        for at in lba..lba + blocks {
            for write in &mut self.blocks[at as usize] {
                if write.begun == begun {
                    write.ended = Some(now);
                }
            }
        }
    }

    /// Nothing is under way that began before `now`.
    pub(crate) fn settle(&mut self, now: Moment) {
        for block in &mut self.blocks {
            block.retain(|write| write.replaced.is_none_or(|replaced| replaced > now));
        }
    }

    /// The writes that one who began to look at `since` may see in block `lba`.
    fn visible(&self, lba: u64, since: Moment) -> impl Iterator<Item = Tag> {
        let block = &self.blocks[lba as usize];
        let seen = move |write: &&Write| write.replaced.is_none_or(|replaced| replaced > since);
        block.iter().filter(seen).map(|write| write.tag)
    }

    /// One of the writes that may be the last in block `lba`.
    pub(crate) fn likely(&self, lba: u64) -> Tag {
        self.visible(lba, Moment::MAX).last().unwrap_or(ZEROES)
    }

    /// Why `data`, which was read from `lba` on since `since`, cannot be.
    pub(crate) fn check(&self, data: &[u8], lba: u64, since: Moment) -> Result<(), String> {
        for (at, found) in (lba..).zip(data.chunks_exact(BLOCK)) {
            if !self.may_be(found, at, since) {
                let writes = &self.blocks[at as usize];
                return Err(format!("block {at} is of none of {writes:?}: {:x?}", &found[..16]));
            }
        }
        Ok(())
    }

    fn may_be(&self, found: &[u8], lba: u64, since: Moment) -> bool {
        // Most often it is all of one write.
        if self.visible(lba, since).any(|tag| block(tag, lba) == found) {
            return true;
        }
        found.chunks_exact(WORD).enumerate().all(|(word, bytes)| {
            let bytes = u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
            self.visible(lba, since).any(|tag| value(tag, lba, word) == bytes)
        })
    }

    /// Whether comparing `data` may find them equal, and whether it may find
    /// them different.
    pub(crate) fn compare(&self, data: &[u8], lba: u64, since: Moment) -> (bool, bool) {
        let mut blocks = (lba..).zip(data.chunks_exact(BLOCK));
        let equal = blocks.clone().all(|(at, found)| self.may_be(found, at, since));
        let different =
            blocks.any(|(at, found)| self.visible(at, since).any(|tag| block(tag, at) != found));
        (equal, different)
    }
}
