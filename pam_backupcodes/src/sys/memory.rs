//! Memory mappings, and a check for free memory.

use std::ptr::NonNull;

use argon2::Block;
use backupcodes_core::hash::{Memory, OutOfMemory};

/// Memory for one hash, mapped directly and unmapped right after. A large mapping uses huge pages, since faults of small pages
/// take a third of a hash's time; it is excluded from core dumps.
#[derive(Default)]
pub(crate) struct FreshMemory(Option<Mapping>);

/// A memory mapping, unmapped on drop.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    pub(super) length: usize,
}

/// The size of huge pages on x86-64, and on arm64 with 4 KiB pages.
const HUGE: usize = 2 << 20;

impl Memory for FreshMemory {
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
        const { assert!(size_of::<Block>() == Block::SIZE && align_of::<Block>() <= 4096) };
        let bytes = count.checked_mul(Block::SIZE).filter(|&bytes| bytes > 0);
        // Whole, aligned huge pages.
        let (unit, slack) = if bytes < Some(HUGE) { (1, 0) } else { (HUGE, HUGE) };
        let room =
            bytes.and_then(|bytes| bytes.checked_next_multiple_of(unit)).ok_or(OutOfMemory { kib: count })?;
        let mapping = Mapping::new(room.saturating_add(slack)).ok_or(OutOfMemory { kib: count })?;
        let skip = if slack == 0 { 0 } else { mapping.start.align_offset(HUGE) };
        // SAFETY: `skip` is less than HUGE, the slack, so this is inside the mapping.
        let start = unsafe { mapping.start.add(skip) };
        // SAFETY: the range is inside the mapping. It is only advice: a failure affects only the speed.
        unsafe {
            libc::madvise(start.as_ptr().cast(), room, libc::MADV_DONTDUMP);
            if slack > 0 {
                libc::madvise(start.as_ptr().cast(), room, libc::MADV_HUGEPAGE);
            }
        }
        self.0 = Some(mapping);
        // SAFETY: only `self` uses the mapping; it is readable, writable and at least page-aligned, has `count` blocks after
        // `start`, and lives until `self` is dropped or borrowed again. A block is an array of u64, so zero bytes are valid.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), count) })
    }
}

impl Mapping {
    pub(super) fn new(length: usize) -> Option<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address chosen by the kernel touches no memory in use.
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
        // SAFETY: `self` owns the mapping of this start and length, and no reference to it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Whether there is memory for an attempt, besides its hash. Without it the attempt must not go on: Rust aborts the process if a
/// small allocation fails, and the caller of su may limit its memory.
pub(crate) fn has_memory() -> bool {
    // Enough for a set of 31 codes, in a block that libc keeps when it is freed.
    const ATTEMPT: usize = 64 << 10;
    let mut room = Vec::<u8>::new();
    let is_available = room.try_reserve_exact(ATTEMPT).is_ok();
    // Otherwise the compiler removes the unused allocation.
    std::hint::black_box(&mut room);
    is_available
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_the_requested_size_is_zero_and_aligned() {
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
