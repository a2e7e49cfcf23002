//! Names for requests and answers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::keys::hexadecimal;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// A name that no other answer has: `prefix` and 32 hexadecimal digits.
pub(crate) fn new(prefix: &str) -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    }
    format!("{prefix}{}", hexadecimal(&bytes))
}
