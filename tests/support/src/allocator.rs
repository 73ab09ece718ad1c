//! Counts the bytes that a process holds, as its allocator:
//!
//! ```
//! use party_testing::allocator::Counting;
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! Counting::begin();
//! let held = Counting::held();
//! let kept = vec![0_u8; 100];
//! assert_eq!(Counting::held() - held, 100);
//! drop(kept);
//! assert!(Counting::peak() - held >= 100);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Hands everything on to the system's allocator, and counts in a process that asks for it: counting costs more than
/// what is timed in others.
#[derive(Debug)]
pub struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

impl Counting {
    /// Begins to count, or begins anew to look for the peak.
    pub fn begin() {
        COUNTING.store(true, Ordering::Relaxed);
        PEAK.store(Counting::held(), Ordering::Relaxed);
    }

    /// Returns how many bytes are held more than when counting began.
    pub fn held() -> isize {
        HELD.load(Ordering::Relaxed)
    }

    /// Returns the most that were held since [`begin`](Counting::begin).
    pub fn peak() -> isize {
        PEAK.load(Ordering::Relaxed)
    }

    fn count(bytes: isize) {
        if COUNTING.load(Ordering::Relaxed) {
            let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
            PEAK.fetch_max(held, Ordering::Relaxed);
        }
    }
}

#[allow(
    unsafe_code,
    reason = "an allocator is unsafe; this one hands everything on"
)]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Counting::count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
