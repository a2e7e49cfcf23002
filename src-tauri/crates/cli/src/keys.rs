//! `mobile keys`: the keys that clients from the network show, kept as hashes where the app keeps them, and followed by a
//! running `mobile serve`.

use std::path::PathBuf;

use mobile_host::{Readers, write_json};
use mobile_service::{Keys, StoredKey};

use crate::args::KeysCommand;
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::home;

pub(crate) fn run(command: &KeysCommand) -> Result<(), Failure> {
    let keys = kept(Vec::new())?;
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

/// The keys that are kept, whoever changes them, and `given` besides.
pub(crate) fn kept(given: Vec<StoredKey>) -> Result<Keys, Failure> {
    Keys::kept(&path()?, given).map_err(|e| Failure::Other(e.to_string()))
}

fn write(keys: &[StoredKey]) -> Result<(), Failure> {
    Ok(write_json(&path()?, &keys, Readers::Owner)?)
}

fn path() -> Result<PathBuf, Failure> {
    Ok(home()?.join("keys.json"))
}
