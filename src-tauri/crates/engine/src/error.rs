//! What can go wrong between a folder of weights and a token, in words a user can act on.

use std::path::{Path, PathBuf};

use mobile_files::{FileError, FromFile};

/// Result of the engine's fallible operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. Messages name the file and the field, tensor or number at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint is missing, malformed or damaged, or cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),

    /// The checkpoint's architecture is none of the supported families.
    #[error("{}: architecture {found:?} is not supported; supported are {supported}", path.display())]
    Architecture {
        /// The config file.
        path: PathBuf,
        /// What the config names.
        found: String,
        /// The supported names, separated by commas.
        supported: String,
    },

    /// The tokenizer or chat template cannot be used.
    #[error("{}: {what}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// The chat template refused the conversation.
    #[error("the model's chat template refused the conversation: {0}")]
    Template(String),

    /// A prompt of no tokens.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,

    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab} tokens")]
    TokenId {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },

    /// The prompt alone is longer than the context.
    #[error(
        "the prompt has {prompt} tokens and the model's context holds {context}: shorten the prompt by {} tokens",
        prompt - context
    )]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },

    /// A parameter of a request is out of range.
    #[error("{0}")]
    Parameter(String),

    /// The policy needs a little model, and the checkpoint has none.
    #[error(
        "policy {policy}: this model computes {k} expert(s) a token, so there is nothing to halve; use full or auto"
    )]
    NothingToHalve {
        /// The policy asked for.
        policy: &'static str,
        /// Experts per token of the checkpoint.
        k: usize,
    },

    /// A constraint cannot be followed.
    #[error("the schema cannot be followed: {0}")]
    Constraint(String),

    /// MLX refused an operation.
    #[error("MLX: {0}")]
    Mlx(String),

    /// The queue of waiting requests is full.
    #[error("the engine's queue of {0} waiting requests is full; try again shortly")]
    QueueFull(usize),

    /// An expert could not be fetched from the storage. What needs it fails and nothing else; once the storage or the
    /// file is mended it works again.
    #[error("{}: expert {expert} could not be read: {what}", path.display())]
    Storage {
        /// The layer's file.
        path: PathBuf,
        /// The expert.
        expert: usize,
        /// What is wrong, and what to do.
        what: String,
    },

    /// The engine has shut down.
    #[error("the engine has shut down")]
    Closed,

    /// Nobody wants the model any more that was being loaded.
    #[error("loading was called off")]
    CalledOff,
}

impl FromFile for Error {}

impl Error {
    pub(crate) fn text(path: &Path, what: impl Into<String>) -> Self {
        Self::Text { path: path.to_owned(), what: what.into() }
    }

    /// The same, for another of the requests that it fails.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Storage { path, expert, what } => {
                Self::Storage { path: path.clone(), expert: *expert, what: what.clone() }
            }
            Self::Closed => Self::Closed,
            Self::CalledOff => Self::CalledOff,
            Self::Mlx(what) => Self::Mlx(what.clone()),
            other => Self::Mlx(other.to_string()),
        }
    }
}

impl From<mlx_rs::error::Exception> for Error {
    fn from(exception: mlx_rs::error::Exception) -> Self {
        Self::Mlx(exception.what().to_owned())
    }
}

impl From<mlx_rs::error::AsSliceError> for Error {
    fn from(error: mlx_rs::error::AsSliceError) -> Self {
        Self::Mlx(error.to_string())
    }
}
