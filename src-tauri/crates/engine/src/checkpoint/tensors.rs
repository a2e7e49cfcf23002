//! The tensors of a checkpoint: where each one lies, checked before a byte of weights is read.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlx_rs::{Array, Dtype};
use mobile_files::{FromFile as _, Shard};

use super::direct::{self, Span};
use crate::error::{Error, Result};

/// Every tensor of a folder, by name, with its place on disk.
#[derive(Debug)]
pub(crate) struct Tensors {
    folder: PathBuf,
    files: Vec<WeightFile>,
    places: HashMap<String, Place>,
}

#[derive(Debug)]
struct WeightFile {
    path: PathBuf,
    file: Arc<File>,
}

/// Where one tensor lies.
#[derive(Debug, Clone)]
struct Place {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

/// A tensor as it is stored, or one of several that are stacked in a tensor.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) name: String,
    /// Which of how many.
    pub(crate) stacked: Option<[usize; 2]>,
    /// Without the axis along which they are stacked.
    pub(crate) shape: Vec<usize>,
}

impl Tensors {
    /// Opens the weights of `folder`: one `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let mut tensors = Self { folder: folder.to_owned(), files: Vec::new(), places: HashMap::new() };
        for name in mobile_files::shards(folder)? {
            tensors.add_file(&folder.join(name))?;
        }
        Ok(tensors)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let Shard { file, metadata, data, .. } = Shard::open(path)?;
        let index = self.files.len();
        for (name, info) in metadata.tensors() {
            if info.shape.iter().any(|&n| n > i32::MAX as usize) {
                return Err(Error::weights(path, format!("tensor {name:?} has an impossible shape {:?}", info.shape)));
            }
            let place = Place {
                file: index,
                dtype: dtype_of(info.dtype).ok_or_else(|| {
                    Error::weights(path, format!("tensor {name:?} has unsupported type {:?}", info.dtype))
                })?,
                shape: info.shape.clone(),
                offset: data + info.data_offsets.0 as u64,
                bytes: info.data_offsets.1 - info.data_offsets.0,
            };
            if self.places.insert(name.clone(), place).is_some() {
                return Err(Error::weights(path, format!("tensor {name:?} appears in two files")));
            }
        }
        self.files.push(WeightFile { path: path.to_owned(), file: Arc::new(file) });
        Ok(())
    }

    /// Whether the checkpoint has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Names of all tensors, in no particular order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize]> {
        self.place(name).map(|p| p.shape.as_slice())
    }

    /// The type a tensor is stored in.
    pub(crate) fn dtype(&self, name: &str) -> Result<Dtype> {
        self.place(name).map(|p| p.dtype)
    }

    /// Reads one tensor as stored, after checking its shape.
    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Array> {
        self.read_joined(&[Piece { name: name.to_owned(), stacked: None, shape: shape.to_vec() }], shape)
    }

    /// Reads pieces of one type, one after the other, into one array of this shape.
    pub(crate) fn read_joined(&self, pieces: &[Piece], shape: &[usize]) -> Result<Array> {
        let mut spans = Vec::with_capacity(pieces.len());
        let mut dtype = None;
        for Piece { name, stacked, shape } in pieces {
            let whole: Vec<usize> = stacked.iter().map(|[_, of]| *of).chain(shape.iter().copied()).collect();
            let place = self.shaped(name, &whole)?;
            let file = &self.files[place.file];
            if *dtype.get_or_insert(place.dtype) != place.dtype {
                return Err(Error::weights(&file.path, format!("tensor {name:?} differs in type from its siblings")));
            }
            let [index, of] = stacked.unwrap_or([0, 1]);
            let bytes = place.bytes / of;
            let offset = place.offset + (index * bytes) as u64;
            spans.push(Span { file: Arc::clone(&file.file), offset, bytes });
        }
        let empty = spans.iter().all(|span| span.bytes == 0);
        let Some(dtype) = dtype.filter(|_| !empty) else {
            return Err(Error::weights(&self.folder, "an empty tensor where weights were expected"));
        };
        direct::read(spans, shape, stored_as(dtype), |piece, error| {
            let name = &pieces[piece].name;
            let path = self.places.get(name).map_or(&self.folder, |place| &self.files[place.file].path);
            Error::weights(path, format!("tensor {name:?} could not be read: {error}"))
        })
    }

    /// The place of a tensor that must have this shape.
    fn shaped(&self, name: &str, shape: &[usize]) -> Result<&Place> {
        let place = self.place(name)?;
        if place.shape == shape {
            return Ok(place);
        }
        let what = format!("tensor {name:?} has shape {:?}, expected {shape:?}", place.shape);
        Err(Error::weights(&self.files[place.file].path, what))
    }

    fn place(&self, name: &str) -> Result<&Place> {
        self.places.get(name).ok_or_else(|| Error::weights(&self.folder, format!("tensor {name:?} is missing")))
    }
}

/// Shape in MLX's integers; sizes were checked to fit when the header was read.
pub(crate) fn dims(shape: &[usize]) -> Vec<i32> {
    shape.iter().map(|&n| n as i32).collect()
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<Dtype> {
    Some(match dtype {
        safetensors::Dtype::F32 => Dtype::Float32,
        safetensors::Dtype::F16 => Dtype::Float16,
        safetensors::Dtype::BF16 => Dtype::Bfloat16,
        safetensors::Dtype::U32 => Dtype::Uint32,
        _ => return None,
    })
}

/// What safetensors calls a type that [`dtype_of`] gives.
pub(crate) fn stored_as(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::Uint32 => safetensors::Dtype::U32,
        Dtype::Bfloat16 => safetensors::Dtype::BF16,
        Dtype::Float16 => safetensors::Dtype::F16,
        _ => safetensors::Dtype::F32,
    }
}
