//! Keeps the process alive when a page of a mapped file cannot be had.
//!
//! The kernel raises SIGBUS on an access to a page behind the end of a file that somebody has shortened, on a
//! page that the disk cannot read, and on a page for which a full disk has no room. By default that ends the
//! process. The handler maps zeros over such a page of a guarded mapping instead, and the access goes on. The
//! journal reads zeros as a damaged record, and asks [`Guard::has_replaced_pages`] regularly.
//!
//! The zeros belong to the process alone: what is written to them does not reach the disk until
//! [`Guard::remap`]. A bus error anywhere else ends the process as before.
//!
//! What the handler calls (`futex`, `fstat`, `mmap`, `signal`, `raise`) are plain system calls. It takes no lock
//! that the interrupted thread may hold: the lock of a region is only taken here and in `remap`, and neither
//! of these accesses the mapping meanwhile.

#![allow(
    unsafe_code,
    reason = "a signal handler, and mmap over a mapping; each block says why it is sound"
)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

/// A mapping whose bus errors the process survives.
#[derive(Debug)]
pub(super) struct Guard {
    region: &'static Region,
}

/// A guarded mapping, as the handler sees it. Regions are never freed, because the handler may look at them at
/// any time; those that are unused are used again.
#[derive(Debug)]
struct Region {
    taken: AtomicBool,
    /// The mapping's address; 0 if the region is unused.
    start: AtomicUsize,
    bytes: AtomicUsize,
    file: AtomicI32,
    busy: AtomicBool,
    replaced: AtomicBool,
    next: AtomicPtr<Region>,
}

static REGIONS: AtomicPtr<Region> = AtomicPtr::new(ptr::null_mut());
/// The size of a page, asked for once: the handler only reads it.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

impl Guard {
    /// Guards the mapping of `bytes` bytes of `file` at `start`. The guard must be dropped before either.
    pub(super) fn new(start: *mut u8, bytes: usize, file: &File) -> io::Result<Self> {
        install()?;
        let region = Region::take();
        region.file.store(file.as_raw_fd(), Ordering::Release);
        region.bytes.store(bytes, Ordering::Release);
        region.start.store(start.expose_provenance(), Ordering::Release);
        Ok(Self { region })
    }

    /// Whether some of the mapping's pages are no longer the file's.
    pub(super) fn has_replaced_pages(&self) -> bool {
        self.region.replaced.load(Ordering::Acquire)
    }

    /// Maps `file`, which must be at least as long as the mapping, in place of the pages that are there.
    pub(super) fn remap(&self, file: &File) -> io::Result<()> {
        let region = self.region;
        let start = region.start.load(Ordering::Acquire);
        let bytes = region.bytes.load(Ordering::Acquire);
        region.locked(|| {
            map_over(start, bytes, Some(file.as_raw_fd()))?;
            region.file.store(file.as_raw_fd(), Ordering::Release);
            region.replaced.store(false, Ordering::Release);
            Ok(())
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.region.start.store(0, Ordering::Release);
        self.region.replaced.store(false, Ordering::Release);
        self.region.taken.store(false, Ordering::Release);
    }
}

impl Region {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            file: AtomicI32::new(-1),
            busy: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// An unused region, or a new one.
    fn take() -> &'static Self {
        let unused = all().find(|region| !region.taken.swap(true, Ordering::AcqRel));
        unused.unwrap_or_else(|| {
            let region: &'static Self = Box::leak(Box::new(Self::new()));
            let mut first = REGIONS.load(Ordering::Acquire);
            loop {
                region.next.store(first, Ordering::Release);
                let this = ptr::from_ref(region).cast_mut();
                match REGIONS.compare_exchange(first, this, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return region,
                    Err(newer) => first = newer,
                }
            }
        })
    }

    /// Runs `action` while no other thread replaces pages of this region.
    fn locked<T>(&self, action: impl FnOnce() -> T) -> T {
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let result = action();
        self.busy.store(false, Ordering::Release);
        result
    }

    /// Maps zeros at `address` if that is in this region. Returns whether the access may be repeated.
    fn survives(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let bytes = self.bytes.load(Ordering::Acquire);
        if start == 0 || !(start..start + bytes).contains(&address) {
            return false;
        }
        self.locked(|| is_accessible(address) || self.replace(start, bytes, address - start))
    }

    fn replace(&self, start: usize, bytes: usize, offset: usize) -> bool {
        let page = PAGE_BYTES.load(Ordering::Acquire);
        let file_end = length_of(self.file.load(Ordering::Acquire)).next_multiple_of(page);
        // Behind the file's end nothing is left; elsewhere, one page is bad.
        let (from, to) = if offset >= file_end {
            (file_end, bytes)
        } else {
            let from = offset / page * page;
            (from, (from + page).min(bytes))
        };
        let is_mapped = map_over(start + from, to - from, None).is_ok();
        self.replaced.store(true, Ordering::Release);
        is_mapped
    }
}

fn all() -> impl Iterator<Item = &'static Region> {
    std::iter::successors(region_at(&REGIONS), |region| region_at(&region.next))
}

fn region_at(pointer: &AtomicPtr<Region>) -> Option<&'static Region> {
    // SAFETY: null, or a region that was leaked and so lives for ever.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

/// Whether the page can be read and written now: another thread may have faulted on it, too, and have put
/// zeros there, which zeros must not overwrite again. Asks the kernel to add 0 to the word: it returns an error
/// instead of raising a signal.
fn is_accessible(address: usize) -> bool {
    let word = address / 4 * 4;
    let add_zero = libc::FUTEX_OP_ADD << 28;
    // SAFETY: adds 0, atomically, to a word of a guarded mapping; nobody waits for it, so nobody is woken.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG,
            0,
            0_usize,
            word,
            add_zero,
        )
    };
    result >= 0
}

/// Maps `bytes` bytes of `file`, or zeros, over what is mapped at `address`.
fn map_over(address: usize, bytes: usize, file: Option<RawFd>) -> io::Result<()> {
    let kind = file.map_or(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, |_| libc::MAP_SHARED);
    // SAFETY: callers pass a page-aligned part of a guarded mapping, which lives as long as its guard and is
    // only accessed as atomic words, for which any content is valid.
    let mapped = unsafe {
        libc::mmap(
            ptr::with_exposed_provenance_mut(address),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            kind | libc::MAP_FIXED,
            file.unwrap_or(-1),
            0,
        )
    };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The length of an open file; 0 if the system does not say.
fn length_of(file: RawFd) -> usize {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fstat` fills the structure if it returns 0, and it is read only then.
    let length = unsafe {
        if libc::fstat(file, status.as_mut_ptr()) == 0 { status.assume_init().st_size } else { 0 }
    };
    usize::try_from(length).unwrap_or(0)
}

/// Installs the handler, once per process.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: has no preconditions.
        if let Ok(bytes) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
            PAGE_BYTES.store(bytes, Ordering::Release);
        }
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_bus_error;
        // SAFETY: the structure is valid as zeros (no flags, an empty mask), and the handler has the type that
        // SA_SIGINFO asks for.
        let failed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigfillset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) != 0
        };
        if failed { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
    });
    installed.map_err(io::Error::from_raw_os_error)
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info`, whose address is set if the kernel raised the signal. `errno` is
    // put back because the interrupted code may be about to read it.
    unsafe {
        let errno = *libc::__errno_location();
        let by_kernel = (*info).si_code > 0;
        let address = if by_kernel { (*info).si_addr().addr() } else { 0 };
        if !all().any(|region| region.survives(address)) {
            libc::signal(signal, libc::SIG_DFL);
            // A fault is raised again when the access is repeated; a signal that was sent is not.
            if !by_kernel {
                libc::raise(signal);
            }
        }
        *libc::__errno_location() = errno;
    }
}
