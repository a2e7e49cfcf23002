//! Reading past the system's page cache, to measure what a disk gives or to leave memory to the models.

use std::fs::File;
use std::io;

/// Prepares an opened file.
#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
pub(super) fn open(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is open, and F_NOCACHE takes an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Prepares an opened file: nothing of it stays, and nothing is read ahead.
#[cfg(not(target_os = "macos"))]
pub(super) fn open(file: &File) -> io::Result<()> {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random)?;
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// macOS keeps nothing of a file prepared by [`open`].
#[cfg(target_os = "macos")]
pub(super) fn forget(_file: &File, _offset: u64, _bytes: u64) {}

/// Gives back the pages of what was just read. Advice that is not taken costs speed, not correctness.
#[cfg(not(target_os = "macos"))]
pub(super) fn forget(file: &File, offset: u64, bytes: u64) {
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(bytes), rustix::fs::Advice::DontNeed);
}
