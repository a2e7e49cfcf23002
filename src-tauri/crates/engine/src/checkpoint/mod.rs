//! A folder of weights: config, tensors and how they become arrays.

mod config;
mod direct;
mod json;
mod loader;
mod tensors;

pub use config::Bits;
pub(crate) use config::Config;
pub(crate) use json::Fields;
pub(crate) use loader::Loader;
pub(crate) use tensors::{Piece, Tensors, dims, stored_as};

use std::path::Path;

use crate::error::Result;
use crate::families::Spec;

/// Reads everything of the checkpoint in `folder` but its weights: config, index and headers.
///
/// # Errors
/// What loading would refuse for their sake.
pub fn check(folder: &Path) -> Result<()> {
    Spec::of(&Config::open(&folder.join("config.json"))?)?;
    Tensors::open(folder).map(drop)
}
