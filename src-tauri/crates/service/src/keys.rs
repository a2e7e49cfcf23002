//! Bearer keys: named, several, kept as hashes only.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;
use std::{fs, io};

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
    file: Option<Arc<KeyFile>>,
}

/// Where keys are kept that another program may change meanwhile.
#[derive(Debug)]
struct KeyFile {
    path: PathBuf,
    /// Keys that count whatever the file holds.
    given: Vec<StoredKey>,
    /// What [`version`] said when it was last read.
    seen: Mutex<Option<(SystemTime, u64)>>,
}

impl Keys {
    /// The keys of the JSON file at `path`, whatever it comes to hold, and `given` besides. A file that is absent holds none;
    /// one that becomes unreadable changes nothing. Whoever changes the keys writes what [`Keys::stored`] gives.
    ///
    /// # Errors
    /// The file is there and is not a list of keys, or cannot be read.
    pub fn kept(path: &Path, given: Vec<StoredKey>) -> io::Result<Self> {
        let seen = Mutex::new(version(path));
        let stored = RwLock::new([read(path)?, given.clone()].concat());
        let file = Some(Arc::new(KeyFile { path: path.to_owned(), given, seen }));
        Ok(Self { stored: Arc::new(stored), used: Arc::default(), file })
    }

    /// Takes in what the file has come to hold.
    fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let mut seen = file.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = version(&file.path);
        if *seen == now {
            return;
        }
        *seen = now;
        match read(&file.path) {
            Ok(stored) => {
                *self.stored.write().unwrap_or_else(PoisonError::into_inner) = [stored, file.given.clone()].concat();
            }
            // Its path is nobody's business who reads the log.
            Err(error) => tracing::error!("the keys stay as they are, the file is {}", error.kind()),
        }
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
        self.refresh();
        let mut keys = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        if keys.iter().any(|k| k.name == name) {
            return Err(KeyError::NameTaken(name.to_owned()));
        }
        keys.push(StoredKey { name: name.to_owned(), sha256: digest(secret), created: unix_seconds() });
        Ok(())
    }

    /// Makes a key useless from the next request on. False when there is none of that name.
    pub fn revoke(&self, name: &str) -> bool {
        self.refresh();
        let mut keys = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        let before = keys.len();
        keys.retain(|k| k.name != name);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        keys.len() < before
    }

    /// What to store.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredKey> {
        self.refresh();
        self.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a secret is one of the keys. Takes the same time wherever it differs and whichever it is.
    #[must_use]
    pub fn accept(&self, secret: &str) -> bool {
        self.recognise(secret).is_some()
    }

    /// The name of the key that a secret is, and remembers that it was shown. Takes its time as [`Keys::accept`] does.
    pub(crate) fn recognise(&self, secret: &str) -> Option<String> {
        self.refresh();
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

/// Tells one version of a file from the next; `None` for one that is absent.
fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino()))
}

fn read(path: &Path) -> io::Result<Vec<StoredKey>> {
    let named = |kind, what: String| io::Error::new(kind, format!("{}: {what}", path.display()));
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| named(io::ErrorKind::InvalidData, format!("not a file of keys: {e}"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(named(e.kind(), e.to_string())),
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
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.json");
        fs::write(&path, json).expect("written");
        assert!(Keys::kept(&path, Vec::new()).expect("keys").accept(&secret));
    }

    #[test]
    fn what_becomes_of_the_file_counts_from_the_next_request_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.json");
        let given = Keys::default();
        let flag = given.create("a flag").expect("made");
        let keys = Keys::kept(&path, given.stored()).expect("no file, no keys");
        let elsewhere = Keys::default();
        let first = elsewhere.create("first").expect("made");
        let keep = |keys: &Keys| {
            let next = folder.path().join("next");
            fs::write(&next, serde_json::to_string(&keys.stored()).expect("JSON")).expect("written");
            fs::rename(&next, &path).expect("renamed");
        };
        assert!(!keys.accept(&first) && keys.accept(&flag));
        keep(&elsewhere);
        assert!(keys.accept(&first) && keys.accept(&flag));
        elsewhere.revoke("first");
        keep(&elsewhere);
        assert!(!keys.accept(&first) && keys.accept(&flag));
        let second = elsewhere.create("second").expect("made");
        keep(&elsewhere);
        assert!(keys.accept(&second));
        fs::write(&path, "{").expect("written");
        assert!(keys.accept(&second) && !keys.accept(&first), "what cannot be read changes nothing");
        assert!(Keys::kept(&path, Vec::new()).is_err_and(|e| e.to_string().contains("not a file of keys")));
        fs::remove_file(&path).expect("removed");
        assert!(!keys.accept(&second) && keys.accept(&flag));
    }

    #[test]
    fn short_secrets_and_taken_names_are_refused() {
        let keys = Keys::default();
        assert_eq!(keys.add("a", "password"), Err(KeyError::TooShort));
        keys.add("a", "a secret that is long enough").expect("added");
        assert_eq!(keys.create("a"), Err(KeyError::NameTaken("a".to_owned())));
    }
}
