//! The files of a checkpoint, which may come from anybody: opened and checked without trusting whoever made them.
//!
//! [`open`] and [`read_text`] stay in the model's folder and read nothing that never ends; [`shards`] and [`Shard`] say
//! which files hold weights and where, before a byte of weights is read.

mod error;
mod read;
mod shards;
mod state;

pub use error::{FileError, FromFile, Result};
pub use read::{MAX_TEXT, open, read_shared_text, read_text};
pub use shards::{INDEX, Shard, is_plain_name, is_weights, shards, shards_of_index};
pub use state::{FileState, file_states};
