//! Bearer keys: named, several, kept as hashes only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::clock::unix_seconds;

/// Letters a secret must have at least: a plain SHA-256 protects long random secrets, not short ones.
const SHORTEST_SECRET: usize = 20;

/// A key as it is stored: enough to recognise it, not to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// What the owner calls it.
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal.
    pub sha256: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A name that is taken.
    #[error("a key named {0:?} exists already; revoke it first or choose another name")]
    NameTaken(String),
    /// A secret that could be guessed.
    #[error("the key is too short: use at least {SHORTEST_SECRET} characters, or have one made")]
    TooShort,
    /// The system gave no randomness.
    #[error("the system's random source failed: {0}")]
    Random(String),
}

/// The keys that peers from the network may show. Clones are the same keys.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    stored: Arc<RwLock<Vec<StoredKey>>>,
    /// When a key was last shown, by name; from the start of the program on.
    used: Arc<Mutex<HashMap<String, u64>>>,
}

impl Keys {
    /// Keys as they were stored.
    #[must_use]
    pub fn new(stored: Vec<StoredKey>) -> Self {
        Self { stored: Arc::new(RwLock::new(stored)), used: Arc::default() }
    }

    /// Makes a key and gives its secret, which is not kept and cannot be shown again.
    ///
    /// # Errors
    /// [`KeyError::NameTaken`], [`KeyError::Random`].
    pub fn create(&self, name: &str) -> Result<String, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| KeyError::Random(e.to_string()))?;
        let secret = format!("mobile-{}", hexadecimal(&bytes));
        self.add(name, &secret)?;
        Ok(secret)
    }

    /// Takes in a secret that was made elsewhere.
    ///
    /// # Errors
    /// [`KeyError::NameTaken`], [`KeyError::TooShort`].
    pub fn add(&self, name: &str, secret: &str) -> Result<(), KeyError> {
        if secret.chars().count() < SHORTEST_SECRET {
            return Err(KeyError::TooShort);
        }
        let mut keys = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        if keys.iter().any(|k| k.name == name) {
            return Err(KeyError::NameTaken(name.to_owned()));
        }
        keys.push(StoredKey { name: name.to_owned(), sha256: digest(secret), created: unix_seconds() });
        Ok(())
    }

    /// Takes these for all that there were.
    pub fn replace(&self, stored: Vec<StoredKey>) {
        *self.stored.write().unwrap_or_else(PoisonError::into_inner) = stored;
    }

    /// Makes a key useless from the next request on. False when there is none of that name.
    pub fn revoke(&self, name: &str) -> bool {
        let mut keys = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        let before = keys.len();
        keys.retain(|k| k.name != name);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        keys.len() < before
    }

    /// What to store.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredKey> {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a secret is one of the keys. Takes the same time wherever it differs and whichever it is.
    #[must_use]
    pub fn accept(&self, secret: &str) -> bool {
        self.recognise(secret).is_some()
    }

    /// The name of the key that a secret is, and remembers that it was shown. Takes its time as [`Keys::accept`] does.
    pub(crate) fn recognise(&self, secret: &str) -> Option<String> {
        let shown = digest(secret);
        let keys = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        // The place of the key that fits, counted from one.
        let mut place = 0_u64;
        for (n, key) in (1..).zip(keys.iter()) {
            place.conditional_assign(&n, key.sha256.as_bytes().ct_eq(shown.as_bytes()));
        }
        let name = keys.get(usize::try_from(place.checked_sub(1)?).ok()?)?.name.clone();
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), unix_seconds());
        Some(name)
    }

    /// When the key of this name was last shown, in seconds since 1970; `None` where it was not since the program began.
    #[must_use]
    pub fn last_used(&self, name: &str) -> Option<u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}

fn digest(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_until_it_is_revoked() {
        let keys = Keys::default();
        let (one, two) = (keys.create("one").expect("made"), keys.create("two").expect("made"));
        assert_eq!(keys.last_used("one"), None);
        assert!(keys.accept(&one) && keys.accept(&two));
        assert_eq!(keys.recognise(&two).as_deref(), Some("two"));
        assert!(keys.last_used("one").is_some_and(|at| at > 0));
        assert!(!keys.accept("") && !keys.accept(&one[..one.len() - 1]));
        assert!(keys.revoke("one") && !keys.revoke("one"));
        assert!(!keys.accept(&one) && keys.accept(&two));
        assert_eq!(keys.last_used("one"), None);
    }

    #[test]
    fn what_is_stored_recognises_the_key_and_does_not_hold_it() {
        let keys = Keys::default();
        let secret = keys.create("gateway").expect("made");
        let json = serde_json::to_string(&keys.stored()).expect("JSON");
        assert!(!json.contains(&secret));
        assert!(Keys::new(serde_json::from_str(&json).expect("keys")).accept(&secret));
    }

    #[test]
    fn short_secrets_and_taken_names_are_refused() {
        let keys = Keys::default();
        assert_eq!(keys.add("a", "password"), Err(KeyError::TooShort));
        keys.add("a", "a secret that is long enough").expect("added");
        assert_eq!(keys.create("a"), Err(KeyError::NameTaken("a".to_owned())));
    }
}
