//! Measures how much memory a thread allocates.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
};

thread_local! {
    /// Bytes that this thread has allocated and not freed. Negative if it frees what others have allocated.
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
    /// The highest value of `ALLOCATED` since it was last reset.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// An allocator that counts what each thread allocates.
pub struct Counting<A>(pub A);

fn count(change: isize) {
    // Not available while a thread ends.
    let _ = ALLOCATED.try_with(|allocated| {
        allocated.set(allocated.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(allocated.get())));
    });
}

// SAFETY: every call is passed on unchanged to an allocator that keeps the contract. A layout has at most `isize::MAX`
// bytes.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { self.0.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks exist while the content is moved.
        count(size as isize);
        count(-(layout.size() as isize));
        unsafe { self.0.realloc(memory, layout, size) }
    }
}

/// Runs `work`, and returns its result with the bytes that this thread had allocated at most, beyond what it had before.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_counted_also_after_memory_was_freed() {
        let ((), bytes) = peak(|| {
            drop(vec![0_u8; 1 << 20]);
            let mut grown = vec![0_u8; 100];
            grown.reserve_exact(2 << 20);
        });
        assert!((2 << 20..3 << 20).contains(&bytes), "{bytes}");
        assert_eq!(peak(|| ()).1, 0);
    }
}
