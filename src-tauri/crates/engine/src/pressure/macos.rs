//! What the kernel of macOS says of memory.

use super::Pressure;

/// `kern.memorystatus_vm_pressure_level`, which is 1, 2 or 4 as a dispatch source for memory pressure has it.
#[allow(unsafe_code)]
pub(super) fn level() -> Pressure {
    let (mut level, mut size) = (0_i32, size_of::<i32>());
    let name = c"kern.memorystatus_vm_pressure_level";
    // SAFETY: the name ends in a zero byte, and `size` is that of the place the number is written to.
    let status =
        unsafe { libc::sysctlbyname(name.as_ptr(), (&raw mut level).cast(), &raw mut size, std::ptr::null_mut(), 0) };
    match level {
        2 if status == 0 => Pressure::Warning,
        4 if status == 0 => Pressure::Critical,
        _ => Pressure::Normal,
    }
}
