//! The library of models: what this machine can run, what is on disk, and how the rest gets there.
//!
//! | part | what it answers |
//! |---|---|
//! | [`Machine`] | what is this machine? |
//! | [`Catalogue`] | which models are offered by name? |
//! | [`Shape`], [`assess`] | what does a model need, and does it fit? |
//! | [`Library`] | what is on disk, whole or not? |
//! | [`Pull`] | how does the rest get here? |
//!
//! Nothing here knows MLX: a model is recognised by its `config.json` alone.

mod cache;
mod catalogue;
mod checkpoint;
mod error;
mod files;
mod fit;
mod id;
mod library;
mod machine;
mod pull;
mod shape;
mod units;

pub use catalogue::{Catalogue, Offer};
pub use checkpoint::{Checkpoint, inspect};
pub use error::{Error, Result};
pub use files::free_space;
pub use fit::{Fit, MARGIN, Room, Use, Verdict, assess};
pub use id::ModelId;
pub use library::{Arranged, Entry, Import, LOCAL, Library, Origin, Status};
pub use machine::{Cores, Disk, Gpu, Machine, Mlx, available_memory};
pub use mobile_files::FileError;
pub use pull::{CancellationToken, FreeSpace, Preview, Pull, PullEvent, RESERVE};
pub use shape::{Family, Quantization, Shape};
pub use units::bytes;
