//! The variables that Hugging Face's tools share.

use std::env::var;
use std::fs::read_to_string;

fn non_empty(name: &str) -> Option<String> {
    var(name).ok().filter(|v| !v.is_empty())
}

pub(super) fn endpoint() -> String {
    non_empty("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()).trim_end_matches('/').to_owned()
}

/// As huggingface_hub looks for it: the variable, then the file of `hf auth login`. The hf-hub crate does the same and
/// does not tell.
pub(super) fn token() -> Option<String> {
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let stored = || {
        let path = non_empty("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), Into::into);
        read_to_string(path).ok()
    };
    let token = non_empty("HF_TOKEN").or_else(stored)?;
    Some(token.trim().to_owned()).filter(|t| !t.is_empty())
}

pub(super) fn offline() -> bool {
    is_on("HF_HUB_OFFLINE")
}

fn is_on(name: &str) -> bool {
    non_empty(name).is_some_and(|v| matches!(v.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}
