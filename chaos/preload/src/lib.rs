//! Clocks and syncs of one process, as the rig wants them (chaos/src/preload.rs): loaded before libc (`LD_PRELOAD`), it answers
//! in its place. What the rig wants stands in the file that `QUORATE_CHAOS_DIALS` names, little-endian numbers:
//!
//! 1. nanoseconds that CLOCK_REALTIME is off,
//! 2. nanoseconds that CLOCK_MONOTONIC is off,
//! 3. nanoseconds that each `fsync` and `fdatasync` takes longer,
//! 4. not 0: they fail with EIO,
//! 5. how many of them met either: counted here.
//!
//! CLOCK_BOOTTIME is the kernel's: a monotonic clock that is behind it is that of a machine that was suspended. So is whatever
//! asks the kernel without libc; the kernel's timers know nothing of offsets.

use std::{
    ptr,
    sync::atomic::{AtomicI64, AtomicPtr, Ordering},
    thread,
    time::Duration,
};

use libc::{c_int, clockid_t, timespec};

const SECOND: i64 = 1_000_000_000;
const DIALS: usize = 5;

type Dials = [AtomicI64; DIALS];

/// Where no file is named.
static NONE: Dials = [const { AtomicI64::new(0) }; DIALS];
static MAPPED: AtomicPtr<Dials> = AtomicPtr::new(ptr::null_mut());

/// In place of libc's.
///
/// # Safety
/// As libc's: `time` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the same call with the same arguments.
    let ended = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    let which = match clock {
        libc::CLOCK_REALTIME => 0,
        libc::CLOCK_MONOTONIC => 1,
        _ => return ended,
    };
    if ended == 0 && !time.is_null() {
        // SAFETY: the kernel has just written there.
        shift(unsafe { &mut *time }, dial(which));
    }
    ended
}

/// In place of libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(file: c_int) -> c_int {
    sync(libc::SYS_fsync, file)
}

/// In place of libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(libc::SYS_fdatasync, file)
}

fn sync(call: libc::c_long, file: c_int) -> c_int {
    let (longer, fails) = (dial(2).unsigned_abs(), dial(3) != 0);
    if longer > 0 || fails {
        dials()[4].fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_nanos(longer));
    }
    if fails {
        // SAFETY: this thread's own.
        unsafe { *libc::__errno_location() = libc::EIO };
        return -1;
    }
    // SAFETY: the same call with the same argument.
    unsafe { libc::syscall(call, file) as c_int }
}

fn shift(time: &mut timespec, by: i64) {
    let nanoseconds = time.tv_nsec + by % SECOND;
    time.tv_sec += by / SECOND + nanoseconds.div_euclid(SECOND);
    time.tv_nsec = nanoseconds.rem_euclid(SECOND);
}

fn dial(which: usize) -> i64 {
    dials()[which].load(Ordering::Relaxed)
}

fn dials() -> &'static Dials {
    let mut dials = MAPPED.load(Ordering::Acquire);
    if dials.is_null() {
        // Two threads may both map it: the same page.
        dials = map().unwrap_or(&raw const NONE as *mut Dials);
        MAPPED.store(dials, Ordering::Release);
    }
    // SAFETY: the static above, or a page that is never unmapped.
    unsafe { &*dials }
}

/// The file's first page, shared with whoever writes to it.
fn map() -> Option<*mut Dials> {
    // SAFETY: calls of libc with strings that end in zero; the file is as long as what is read (the rig writes it whole before
    // the process begins).
    let page = unsafe {
        let path = libc::getenv(c"QUORATE_CHAOS_DIALS".as_ptr());
        if path.is_null() {
            return None;
        }
        let file = libc::open(path, libc::O_RDWR | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(ptr::null_mut(), size_of::<Dials>(), access, libc::MAP_SHARED, file, 0);
        libc::close(file);
        page
    };
    (page != libc::MAP_FAILED).then_some(page.cast())
}
