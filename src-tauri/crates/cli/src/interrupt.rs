//! Ctrl-C ends the answer that is being written, or a measurement, which keeps what it has; a second one ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use mobile_engine::Remote;

use crate::error::Failure;

static RUNNING: Mutex<Option<Remote>> = Mutex::new(None);

static MEASURING: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| match RUNNING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(remote) => remote.cancel(),
        None if MEASURING.load(Ordering::Relaxed) && !INTERRUPTED.swap(true, Ordering::Relaxed) => {}
        None => std::process::exit(130),
    })
    .map_err(|e| Failure::Other(format!("cannot take over Ctrl-C: {e}")))
}

/// Names the request that Ctrl-C ends.
pub(crate) fn watch(remote: Option<Remote>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = remote;
}

/// From now on the first Ctrl-C is for [`requested`] to see.
pub(crate) fn measuring() {
    MEASURING.store(true, Ordering::Relaxed);
}

/// Whether a measurement is to end early.
pub(crate) fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
