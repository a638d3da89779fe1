//! Bytes by page number, of which as many are in memory as there is room for: a table that changes in place, on a disk
//! that likes to be written in large pieces.
//!
//! Pages that changed are not written where they were: those that leave memory together are written together, one behind the
//! other, as a chunk; what is left of a chunk that is mostly stale moves to the next one, so that a file holds at most about
//! twice what is kept. Who leaves is decided by a clock: a page that was used since the hand last passed stays.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Extent, Space};
use crate::Result;

/// Bytes of a page. Small: what is looked up is a few dozen bytes, anywhere.
pub(in super::super) const PAGE: usize = 512;
/// Pages of a chunk, at most; also frames that are allocated at once.
const CHUNK: usize = 128;
/// Pages that may be in memory, whatever the budget.
const LEAST: usize = 64;
/// Chunks may hold so many stale pages beyond as many as there are live ones.
const SLACK: usize = 8 * CHUNK;

const NONE: u32 = u32::MAX;

/// A page in memory.
#[derive(Debug, Clone, Copy)]
struct Frame {
    page: u32,
    /// It was used since the hand passed.
    used: bool,
    /// It is not as on disk.
    changed: bool,
}

/// Pages that were written together.
#[derive(Debug)]
struct Chunk {
    extent: Extent,
    pages: Vec<u32>,
    /// How many of them are the newest version.
    live: usize,
}

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Pages {
    space: Arc<Space>,
    /// By page: its frame, or [`NONE`].
    frame_of: Vec<u32>,
    /// By page: where it was last written, as chunk number times [`CHUNK`] and place; or [`NONE`].
    place_of: Vec<u32>,
    frames: Vec<Frame>,
    memory: Vec<Box<[u8]>>,
    vacant: Vec<u32>,
    hand: usize,
    chunks: Vec<Option<Chunk>>,
    vacant_chunks: Vec<u32>,
    /// Pages in chunks, and those that are live.
    written: usize,
    live: usize,
}

impl Pages {
    /// No pages yet.
    pub(in super::super) fn new(space: Arc<Space>) -> Self {
        Self {
            space,
            frame_of: Vec::new(),
            place_of: Vec::new(),
            frames: Vec::new(),
            memory: Vec::new(),
            vacant: Vec::new(),
            hand: 0,
            chunks: Vec::new(),
            vacant_chunks: Vec::new(),
            written: 0,
            live: 0,
        }
    }

    /// There are pages up to this number; new ones hold zeros.
    pub(in super::super) fn grow(&mut self, pages: usize) {
        if self.frame_of.is_empty() && pages > 0 {
            self.space.disk().shares.fetch_add(1, Relaxed);
        }
        self.frame_of.resize(pages, NONE);
        self.place_of.resize(pages, NONE);
    }

    /// The bytes of a page.
    pub(in super::super) fn get(&mut self, page: usize) -> Result<&[u8]> {
        let frame = self.frame(page)?;
        Ok(&*self.bytes_of(frame))
    }

    /// The same, to be changed.
    pub(in super::super) fn get_mut(&mut self, page: usize) -> Result<&mut [u8]> {
        let frame = self.frame(page)?;
        self.frames[frame].changed = true;
        Ok(self.bytes_of(frame))
    }

    /// Bytes in memory, about.
    pub(in super::super) fn bytes(&self) -> usize {
        let tables = 4 * (self.frame_of.capacity() + self.place_of.capacity()) + size_of::<Frame>() * self.frames.capacity();
        self.memory.len() * CHUNK * PAGE + tables + 4 * self.written
    }

    /// Bytes of the file, about.
    pub(in super::super) fn disk_bytes(&self) -> u64 {
        (self.written * PAGE) as u64
    }

    fn bytes_of(&mut self, frame: usize) -> &mut [u8] {
        let at = frame % CHUNK * PAGE;
        &mut self.memory[frame / CHUNK][at..at + PAGE]
    }

    #[inline]
    fn frame(&mut self, page: usize) -> Result<usize> {
        match self.frame_of[page] {
            NONE => self.load(page),
            frame => {
                self.frames[frame as usize].used = true;
                Ok(frame as usize)
            }
        }
    }

    fn load(&mut self, page: usize) -> Result<usize> {
        let frame = self.vacancy()?;
        let at = frame % CHUNK * PAGE;
        let bytes = &mut self.memory[frame / CHUNK][at..at + PAGE];
        match self.place_of[page] {
            NONE => bytes.fill(0),
            place => {
                let (chunk, at) = (place as usize / CHUNK, place as usize % CHUNK);
                if let Some(chunk) = &self.chunks[chunk] {
                    chunk.extent.read((at * PAGE) as u64, bytes)?;
                }
            }
        }
        self.frames[frame] = Frame { page: page as u32, used: true, changed: false };
        self.frame_of[page] = frame as u32;
        Ok(frame)
    }

    /// A frame that holds no page.
    fn vacancy(&mut self) -> Result<usize> {
        if let Some(frame) = self.vacant.pop() {
            return Ok(frame as usize);
        }
        let most = (self.space.disk().share() / PAGE).max(LEAST);
        if self.frames.len() < most {
            if self.frames.len() == self.memory.len() * CHUNK {
                self.memory.push(vec![0; CHUNK * PAGE].into());
            }
            self.frames.push(Frame { page: NONE, used: false, changed: false });
            return Ok(self.frames.len() - 1);
        }
        self.evict()?;
        let frame = self.vacant.pop();
        frame.map(|frame| frame as usize).ok_or_else(|| crate::Error::permanent("no page of state can leave memory"))
    }

    /// Takes pages out of memory that were not used of late.
    fn evict(&mut self) -> Result<()> {
        let wanted = CHUNK.min(self.frames.len() / 4).max(1);
        let (mut pages, mut bytes) = (Vec::with_capacity(wanted), Vec::with_capacity(wanted * PAGE));
        let mut left = 0;
        // Twice around: after the first time none is marked as used.
        for _ in 0..2 * self.frames.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.frames.len();
            let frame = &mut self.frames[at];
            if frame.page == NONE || std::mem::take(&mut frame.used) {
                continue;
            }
            let Frame { page, changed, .. } = std::mem::replace(frame, Frame { page: NONE, used: false, changed: false });
            if changed {
                pages.push(page);
                bytes.extend_from_slice(self.bytes_of(at));
            }
            self.frame_of[page as usize] = NONE;
            self.vacant.push(at as u32);
            left += 1;
            if left == wanted {
                break;
            }
        }
        self.write(pages, &bytes)?;
        self.clean()
    }

    /// Writes the newest version of some pages.
    fn write(&mut self, pages: Vec<u32>, bytes: &[u8]) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let extent = self.space.put(bytes)?;
        let id = self.vacant_chunks.pop().unwrap_or_else(|| {
            self.chunks.push(None);
            self.chunks.len() as u32 - 1
        });
        for (at, page) in (0..).zip(&pages) {
            let place = id * CHUNK as u32 + at;
            let old = std::mem::replace(&mut self.place_of[*page as usize], place);
            self.retire(old);
        }
        self.written += pages.len();
        self.live += pages.len();
        let live = pages.len();
        self.chunks[id as usize] = Some(Chunk { extent, pages, live });
        Ok(())
    }

    /// What stands at a place is not the newest version any more.
    fn retire(&mut self, place: u32) {
        if place == NONE {
            return;
        }
        let id = place as usize / CHUNK;
        let Some(chunk) = &mut self.chunks[id] else { return };
        chunk.live -= 1;
        self.live -= 1;
        if chunk.live == 0 {
            self.written -= chunk.pages.len();
            self.chunks[id] = None;
            self.vacant_chunks.push(id as u32);
        }
    }

    /// Writes what is left of the stalest chunks again, until at most about half of what is written is stale.
    fn clean(&mut self) -> Result<()> {
        while self.written > 2 * self.live + SLACK {
            let share = |chunk: &Chunk| chunk.live * CHUNK / chunk.pages.len();
            let stalest = self.chunks.iter().enumerate().filter_map(|(id, chunk)| Some((share(chunk.as_ref()?), id))).min();
            let Some((_, id)) = stalest else { break };
            let Some(chunk) = &self.chunks[id] else { break };
            let all = chunk.extent.bytes(0, chunk.pages.len() * PAGE)?;
            let (mut pages, mut bytes) = (Vec::with_capacity(chunk.live), Vec::with_capacity(chunk.live * PAGE));
            for (at, page) in chunk.pages.iter().enumerate() {
                if self.place_of[*page as usize] == (id * CHUNK + at) as u32 {
                    pages.push(*page);
                    bytes.extend_from_slice(&all[at * PAGE..][..PAGE]);
                }
            }
            self.write(pages, &bytes)?;
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if !self.frame_of.is_empty() {
            self.space.disk().shares.fetch_sub(1, Relaxed);
        }
    }
}
