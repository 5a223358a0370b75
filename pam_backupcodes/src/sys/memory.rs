//! Memory by the page, and whether there is any.

use std::ptr::NonNull;

use argon2::Block;
use backupcodes_core::hash::{Memory, OutOfMemory};

/// Memory for one hash, straight from the kernel and given back right after. Where it is large it is asked for in huge
/// pages, since a third of a hash's time goes into faults of small ones; it stays out of core dumps.
#[derive(Default)]
pub(crate) struct FreshMemory(Option<Mapping>);

/// A piece of memory that goes back when it is dropped.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    pub(super) length: usize,
}

/// Huge pages of x86-64, and of arm64 with 4 KiB pages.
const HUGE: usize = 2 << 20;

impl Memory for FreshMemory {
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
        const { assert!(size_of::<Block>() == Block::SIZE && align_of::<Block>() <= 4096) };
        let bytes = count.checked_mul(Block::SIZE).filter(|&bytes| bytes > 0);
        // Whole huge pages, from an address that is a multiple of their size.
        let (unit, slack) = if bytes < Some(HUGE) { (1, 0) } else { (HUGE, HUGE) };
        let room =
            bytes.and_then(|bytes| bytes.checked_next_multiple_of(unit)).ok_or(OutOfMemory { kib: count })?;
        let mapping = Mapping::new(room.saturating_add(slack)).ok_or(OutOfMemory { kib: count })?;
        let skip = if slack == 0 { 0 } else { mapping.start.align_offset(HUGE) };
        // SAFETY: skip is less than HUGE, which is the slack, so this is inside the mapping.
        let start = unsafe { mapping.start.add(skip) };
        // SAFETY: the range lies inside the mapping. Advice only: what is refused changes nothing but the speed.
        unsafe {
            libc::madvise(start.as_ptr().cast(), room, libc::MADV_DONTDUMP);
            if slack > 0 {
                libc::madvise(start.as_ptr().cast(), room, libc::MADV_HUGEPAGE);
            }
        }
        self.0 = Some(mapping);
        // SAFETY: the mapping is ours alone, readable and writable, at least `count` blocks long behind `start`, lives
        // until `self` is dropped or asked again, and is aligned to a page at least. A block is an array of u64: zero
        // bytes are one.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), count) })
    }
}

impl Mapping {
    pub(super) fn new(length: usize) -> Option<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            None
        } else {
            Some(Self { start: NonNull::new(start.cast())?, length })
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of a mapping that is ours, and no reference to it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Whether there is memory for an attempt beside its hash. Where it is missing the attempt must not go on: Rust ends the
/// process for a small piece that cannot be had, and whoever starts su may limit its memory.
pub(crate) fn has_memory() -> bool {
    // Enough for a set of 31 codes, and a piece that libc keeps when it is freed.
    const ATTEMPT: usize = 64 << 10;
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(ATTEMPT).is_ok();
    // A compiler leaves out memory that nobody looks at.
    std::hint::black_box(&mut room);
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_as_large_as_asked_zero_and_aligned() {
        let mut memory = FreshMemory::default();
        for count in [8, 2047, 2048, 2049, 19_456] {
            let blocks = memory.blocks(count).unwrap();
            assert_eq!(blocks.len(), count);
            if count >= 2048 {
                assert_eq!(blocks.as_ptr().align_offset(HUGE), 0);
            }
            assert!([0, count - 1].iter().all(|&at| blocks[at].as_ref().iter().all(|&word| word == 0)));
            blocks[count - 1].as_mut()[127] = 1;
        }
        assert!(memory.blocks(usize::MAX / Block::SIZE).is_err());
        assert!(memory.blocks(usize::MAX).is_err());
        assert!(memory.blocks(0).is_err());
    }
}
