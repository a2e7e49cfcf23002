//! `mobile keys`: the keys that clients from the network show, kept as hashes where the app keeps them, and followed by a
//! running `mobile serve`.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mobile_host::{Readers, write_json};
use mobile_service::{Keys, StoredKey};

use crate::args::KeysCommand;
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::home;

/// How soon a running endpoint takes notice of a change.
const PERIOD: Duration = Duration::from_secs(1);

pub(crate) fn run(command: &KeysCommand) -> Result<(), Failure> {
    let keys = Keys::new(stored()?);
    match command {
        KeysCommand::Create { name } => {
            let secret = keys.create(name).map_err(|e| Failure::Input(e.to_string()))?;
            write(&keys.stored())?;
            eprintln!("The key is shown this once; only its hash is kept.");
            write_now(&format!("{secret}\n"))
        }
        KeysCommand::Revoke { name } => {
            if !keys.revoke(name) {
                return Err(Failure::Input(format!("there is no key named {name:?}; `mobile keys list` lists them")));
            }
            write(&keys.stored())
        }
        KeysCommand::List { json: true } => write_now(&format!("{:#}\n", serde_json::json!(keys.stored()))),
        KeysCommand::List { json: false } if keys.stored().is_empty() => {
            write_now("No keys yet. `mobile keys create NAME` makes one.\n")
        }
        KeysCommand::List { json: false } => {
            keys.stored().iter().try_for_each(|key| write_now(&format!("{}\n", key.name)))
        }
    }
}

/// The keys that are kept.
pub(crate) fn stored() -> Result<Vec<StoredKey>, Failure> {
    let path = path()?;
    let refused = |what: String| Failure::Other(format!("{}: {what}", path.display()));
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| refused(format!("not a file of keys: {e}"))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(refused(e.to_string())),
    }
}

/// Keeps `keys` to what is kept and `given`, for ever.
pub(crate) async fn follow(keys: Keys, given: Vec<StoredKey>) {
    let mut seen = Some(SystemTime::UNIX_EPOCH);
    loop {
        let now = changed();
        if now == seen {
            tokio::time::sleep(PERIOD).await;
            continue;
        }
        match stored() {
            Ok(stored) => keys.replace(stored.into_iter().chain(given.iter().cloned()).collect()),
            // What cannot be read lets nobody in that was not let in before.
            Err(error) => {
                tracing::error!("the file of keys cannot be read; the keys stay as they are");
                tracing::debug!(%error);
            }
        }
        seen = now;
    }
}

fn changed() -> Option<SystemTime> {
    std::fs::metadata(path().ok()?).and_then(|m| m.modified()).ok()
}

fn write(keys: &[StoredKey]) -> Result<(), Failure> {
    Ok(write_json(&path()?, &keys, Readers::Owner)?)
}

fn path() -> Result<PathBuf, Failure> {
    Ok(home()?.join("keys.json"))
}
