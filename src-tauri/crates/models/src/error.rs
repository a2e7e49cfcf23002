//! What can go wrong between a hub id and a model that is ready, in words a user can act on.

use std::path::PathBuf;

use mobile_files::{FileError, FromFile};

use crate::units::bytes;

/// Result of the library's fallible operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the library. Messages say what happened and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint is missing, malformed or damaged, or cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),

    /// The model's architecture is none of the supported families. Nothing but its config was fetched.
    #[error("{model}: architecture {found:?} is not supported; supported are {supported}")]
    Architecture {
        /// The hub id or folder.
        model: String,
        /// What the config names.
        found: String,
        /// The supported names, separated by commas.
        supported: String,
    },

    /// Not of the form `owner/name`.
    #[error("{0:?} is not a model id: write it as on the hub, for example allenai/OLMoE-1B-7B-0924-Instruct")]
    Id(String),

    /// Neither a folder nor a model of the library.
    #[error(
        "{0} is not on this machine; `mobile list` shows what is, `mobile pull {0}` fetches it; the path of a folder does as \
         well"
    )]
    NotHere(String),

    /// No folder was imported under this name.
    #[error("{0} is not in the library; `mobile list` shows what is, `mobile import FOLDER` adds a folder")]
    NotImported(String),

    /// What a folder is to be imported as.
    #[error("a model cannot be named {0:?}: give it a name of letters, digits, `-`, `_` and `.` with --name")]
    Name(String),

    /// Some of the model is on disk, and not all.
    #[error("{id} is not complete ({why}); `mobile pull {id}` fetches the rest")]
    Incomplete {
        /// The model.
        id: String,
        /// What is missing.
        why: String,
    },

    /// An imported folder is no longer what it was.
    #[error("{id} can no longer be loaded ({why}); mend the folder, or `mobile rm {id}` and import it again")]
    Damaged {
        /// The model.
        id: String,
        /// What is missing.
        why: String,
    },

    /// Another process is downloading the model.
    #[error("{0} is being downloaded; stop that first")]
    Busy(String),

    /// A model of this name is already in the library.
    #[error("{0} is already in the library; remove it first or choose another name")]
    Exists(String),

    /// The repository holds no model that could be loaded.
    #[error("{id} holds nothing that can be loaded ({what}); choose a conversion that does")]
    NotAModel {
        /// The model.
        id: String,
        /// What is missing.
        what: String,
    },

    /// The hub knows no such repository, or hides it.
    #[error(
        "{id} is not on {endpoint}: check the spelling; if it is private, set HF_TOKEN to a token that may read it"
    )]
    NoRepository {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },

    /// The hub has the repository without that branch, tag or commit.
    #[error("{id} has no revision {revision:?}: look at its branches and tags on {endpoint}/{id}")]
    NoRevision {
        /// The model.
        id: String,
        /// The revision asked for.
        revision: String,
        /// The hub.
        endpoint: String,
    },

    /// The repository lists a file and does not give it out.
    #[error("{id} has no file {file}: its owner may just have changed it, so try again")]
    NoFile {
        /// The model.
        id: String,
        /// The file.
        file: String,
    },

    /// The owner wants to be asked first.
    #[error(
        "{id} is gated: log in at {endpoint}/{id}, accept its terms, then set HF_TOKEN to a token of that account \
         (made at {endpoint}/settings/tokens)"
    )]
    Gated {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },

    /// The hub wants a token, or did not accept the one it was given.
    #[error(
        "{endpoint} refused to give out {id} without a valid token: set HF_TOKEN to one made at {endpoint}/settings/tokens"
    )]
    Unauthorized {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },

    /// The account of the token may not read the repository.
    #[error(
        "{endpoint} does not let everybody read {id}: ask its owner at {endpoint}/{id}, or set HF_TOKEN to a token that may"
    )]
    Forbidden {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },

    /// The hub could not be reached or kept failing.
    #[error("{endpoint} failed: {why}; what has arrived is kept, so the same command goes on from there")]
    Hub {
        /// The hub.
        endpoint: String,
        /// What happened last.
        why: String,
    },

    /// `HF_HUB_OFFLINE` is set and the model is not on this machine.
    #[error("{0} is not on this machine and HF_HUB_OFFLINE is set; unset it to download")]
    Offline(String),

    /// A downloaded file differs from what the hub says it is.
    #[error(
        "{file} arrived damaged (its checksum is {found}, the hub says {expected}); it was deleted, so try again, and \
         check HF_ENDPOINT or a proxy if that repeats"
    )]
    Checksum {
        /// The file.
        file: String,
        /// Checksum of the hub.
        expected: String,
        /// Checksum of what arrived.
        found: String,
    },

    /// Too little space on the disk.
    #[error(
        "{} needs {} more and {} are free: free {} and try again, or {instead}",
        path.display(), bytes(*needed), bytes(*free), bytes(needed.saturating_sub(*free))
    )]
    DiskFull {
        /// The folder written to.
        path: PathBuf,
        /// Bytes still to be written, the reserve included.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// What else can be done.
        instead: &'static str,
    },

    /// The caller cancelled. What has arrived is kept.
    #[error("cancelled; what has arrived is kept, so the same command goes on from there")]
    Cancelled,
}

impl FromFile for Error {}

impl Error {
    /// A word a program can match, the same in every release.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::File(FileError::Read { .. }) => "read",
            Self::File(FileError::Write { .. }) => "write",
            Self::File(FileError::Config { .. }) => "config",
            Self::File(FileError::Weights { .. }) => "weights",
            Self::Architecture { .. } => "architecture",
            Self::Id(_) => "id",
            Self::Name(_) => "name",
            Self::NotHere(_) | Self::NotImported(_) => "not_here",
            Self::Incomplete { .. } => "incomplete",
            Self::Damaged { .. } => "damaged",
            Self::Busy(_) => "busy",
            Self::Exists(_) => "exists",
            Self::NotAModel { .. } => "not_a_model",
            Self::NoRepository { .. } => "no_repository",
            Self::NoRevision { .. } => "no_revision",
            Self::NoFile { .. } => "no_file",
            Self::Gated { .. } => "gated",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::Hub { .. } => "hub",
            Self::Offline(_) => "offline",
            Self::Checksum { .. } => "checksum",
            Self::DiskFull { .. } => "disk_full",
            Self::Cancelled => "cancelled",
        }
    }
}
