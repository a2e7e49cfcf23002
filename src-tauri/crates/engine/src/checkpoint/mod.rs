//! A folder of weights: config, tensors and how they become arrays.

mod config;
mod json;
mod loader;
mod tensors;

pub use config::Bits;
pub(crate) use config::Config;
pub(crate) use json::{Fields, read_text};
pub(crate) use loader::Loader;
pub(crate) use tensors::{Tensors, dims};
