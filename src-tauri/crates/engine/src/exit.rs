//! The end of the process, while an engine may still be decoding.
//!
//! MLX's allocator and threads are C++ statics, taken down when `main` returns. An engine's thread that works on then
//! touches what is gone. So every piece of work holds a shared lock, and the first thing the end of the process does is
//! to take it for good: work under way comes to its end, and no other begins.

use std::sync::{Once, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

static WORK: RwLock<()> = RwLock::new(());

/// How long the end waits for a pass, or for a model that is being loaded.
const PATIENCE: Duration = Duration::from_secs(3);

/// Held while MLX is used on an engine's thread; never comes once the process ends.
pub(crate) fn working() -> RwLockReadGuard<'static, ()> {
    WORK.read().unwrap_or_else(PoisonError::into_inner)
}

/// To be called once MLX's statics exist: what is registered last runs first.
#[allow(unsafe_code)]
pub(crate) fn guard() {
    static REGISTERED: Once = Once::new();
    // SAFETY: the handler neither panics nor unwinds. Were it not registered, the end would be as unguarded as before.
    REGISTERED.call_once(|| {
        let _ = unsafe { libc::atexit(hold) };
    });
}

extern "C" fn hold() {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Ok(guard) = WORK.try_write() {
            std::mem::forget(guard);
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
