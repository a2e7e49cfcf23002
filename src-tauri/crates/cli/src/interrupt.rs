//! Ctrl-C ends the answer that is being written; a second one ends the program.

use std::sync::{Mutex, PoisonError};

use mobile_engine::Remote;

use crate::error::Failure;

static RUNNING: Mutex<Option<Remote>> = Mutex::new(None);

/// Takes over Ctrl-C.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| match RUNNING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(remote) => remote.cancel(),
        None => std::process::exit(130),
    })
    .map_err(|e| Failure::Other(format!("cannot take over Ctrl-C: {e}")))
}

/// Names the request that Ctrl-C ends.
pub(crate) fn watch(remote: Option<Remote>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = remote;
}
