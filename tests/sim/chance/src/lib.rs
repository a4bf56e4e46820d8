//! A process in which the system's randomness is the same each time.
//!
//! tokio wakes those who wait on one `watch` channel in a random order, and std's hash maps have a random order; both get
//! their seeds from std, and std from `getrandom`, by a weak symbol that a program may define itself. This one defines it.
//! Whoever links this crate has no secrets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// Makes sure that this crate is linked; how many bytes were drawn so far.
pub fn drawn() -> u64 {
    DRAWN.load(Relaxed)
}

/// The C library's, but the same in each process.
///
/// # Safety
///
/// `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let byte = mix(DRAWN.fetch_add(1, Relaxed)) as u8;
        // SAFETY: within the buffer, as the caller promises.
        unsafe { buffer.add(at).write(byte) };
    }
    length as isize
}

fn mix(count: u64) -> u64 {
    let z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}
