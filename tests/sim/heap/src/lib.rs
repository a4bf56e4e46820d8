//! Memory as one thread wants it that makes and drops small things all the time, as a simulated world does: a list of free
//! blocks for each size, each thread's own, and nothing is looked for, merged or given back.
//!
//! A block that is freed by another thread than it was made by stays with that one. What a thread holds when it ends is
//! lost: a batch has a few of them, for all of its time.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::{self, null_mut},
};

/// Sizes go up by this; no block is aligned to more.
const STEP: usize = 16;
/// Larger blocks are the system's.
const LARGEST: usize = 1_024;
/// What is asked of the system at once.
const CHUNK: usize = 1 << 16;

/// A free block: where the next one is.
struct Free(*mut Free);

/// Of one thread.
struct Blocks {
    /// By size.
    free: [Cell<*mut Free>; LARGEST / STEP],
    /// What is left of the newest chunk: from here, so many bytes.
    rest: Cell<(*mut u8, usize)>,
}

thread_local! {
    static BLOCKS: Blocks = const {
        Blocks { free: [const { Cell::new(null_mut()) }; LARGEST / STEP], rest: Cell::new((null_mut(), 0)) }
    };
}

/// The allocator.
pub struct Heap;

/// Which list serves it; `None`: the system does.
fn class(layout: Layout) -> Option<usize> {
    let small = layout.size().wrapping_sub(1) < LARGEST && layout.align() <= STEP;
    small.then(|| (layout.size() - 1) / STEP)
}

impl Blocks {
    fn take(&self, class: usize) -> *mut u8 {
        let first = self.free[class].get();
        if first.is_null() {
            return self.cut((class + 1) * STEP);
        }
        // SAFETY: a block that `give` put there, and nobody has had since.
        self.free[class].set(unsafe { (*first).0 });
        first.cast()
    }

    /// A new block.
    #[cold]
    fn cut(&self, size: usize) -> *mut u8 {
        let (mut from, mut left) = self.rest.get();
        if left < size {
            // SAFETY: the layout is of `CHUNK` bytes, which are not none.
            from = unsafe { System.alloc(Layout::from_size_align_unchecked(CHUNK, STEP)) };
            left = CHUNK;
            if from.is_null() {
                return from;
            }
        }
        // SAFETY: at least `size` bytes are left of the chunk.
        self.rest.set((unsafe { from.add(size) }, left - size));
        from
    }

    fn give(&self, class: usize, block: *mut u8) {
        let block = block.cast::<Free>();
        // SAFETY: the block is whoever's who frees it, of `STEP` bytes and more, and aligned to `STEP`.
        unsafe { block.write(Free(self.free[class].get())) };
        self.free[class].set(block);
    }
}

// SAFETY: a block is of its class's size, which is the layout's or more, in a chunk that is never given back, aligned to `STEP`
// as all sizes and chunks are; and it is in one list at most, from its `dealloc` to the next `alloc` of its class.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            Some(class) => BLOCKS.with(|blocks| blocks.take(class)),
            // SAFETY: as the caller promises.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => BLOCKS.with(|blocks| blocks.give(class, block)),
            // SAFETY: as the caller promises; the system made it, as its layout is the same.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class(layout).is_none() {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it has so many bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size`, rounded up to the alignment, is no more than a layout may have.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            (Some(before), Some(after)) if before == after => return block,
            // SAFETY: the system made it and would make the new one, too.
            (None, None) => return unsafe { System.realloc(block, layout, size) },
            _ => {}
        }
        // SAFETY: `size` is not none, as the caller promises.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: two blocks, each of at least so many bytes; the old one is the caller's to free.
            unsafe {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_is_never_given_out_twice() {
        let layouts: Vec<Layout> =
            (1..200).map(|n| Layout::from_size_align(n * 7, 1 << (n % 5)).expect("small")).collect();
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for round in 0..20_000_usize {
            let layout = layouts[round * 31 % layouts.len()];
            let mark = round as u8;
            if round % 3 == 2 {
                let (block, layout, mark) = live.swap_remove(round * 17 % live.len());
                // SAFETY: it lives, and this is its layout.
                let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                assert!(bytes.iter().all(|byte| *byte == mark));
                // SAFETY: the same.
                unsafe { Heap.dealloc(block, layout) };
                continue;
            }
            // SAFETY: no layout is of nothing; the block is filled before it is read.
            unsafe {
                let block = Heap.alloc(layout);
                assert_eq!(block as usize % layout.align(), 0);
                block.write_bytes(mark, layout.size());
                live.push((block, layout, mark));
            }
        }
        for (block, layout, mark) in live {
            let size = layout.size() * 3;
            // SAFETY: it lives, with this layout and then with that of the new size.
            unsafe {
                let grown = Heap.realloc(block, layout, size);
                let bytes = std::slice::from_raw_parts(grown, layout.size());
                assert!(bytes.iter().all(|byte| *byte == mark));
                Heap.dealloc(grown, Layout::from_size_align_unchecked(size, layout.align()));
            }
        }
    }
}
