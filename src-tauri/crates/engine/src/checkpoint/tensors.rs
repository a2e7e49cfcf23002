//! The tensors of a checkpoint: where each one lies, checked before a byte of weights is read.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype};
use mobile_files::{FromFile as _, Shard};

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
    file: File,
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
        self.files.push(WeightFile { path: path.to_owned(), file });
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
        self.read_stacked(std::slice::from_ref(&name), shape)?.reshape(&dims(shape)).map_err(Into::into)
    }

    /// Reads equally shaped tensors into one array of shape `[names.len(), shape...]`.
    pub(crate) fn read_stacked(&self, names: &[impl AsRef<str>], shape: &[usize]) -> Result<Array> {
        let mut dtype = None;
        let mut data: Vec<u8> = Vec::new();
        for name in names {
            let name = name.as_ref();
            let place = self.shaped(name, shape)?;
            if *dtype.get_or_insert(place.dtype) != place.dtype {
                let path = &self.files[place.file].path;
                return Err(Error::weights(path, format!("tensor {name:?} differs in type from its siblings")));
            }
            if data.is_empty() {
                data.reserve_exact(place.bytes * names.len());
            }
            self.append(name, place, 0..place.bytes, &mut data)?;
        }
        let Some(dtype) = dtype.filter(|_| !data.is_empty()) else {
            return Err(Error::weights(&self.folder, "an empty tensor where weights were expected"));
        };
        Ok(array_from_bytes(&data, &[&[names.len()], shape].concat(), dtype))
    }

    /// Reads one of `count` arrays of the given shape that are stacked in one tensor.
    pub(crate) fn read_of(&self, name: &str, index: usize, count: usize, shape: &[usize]) -> Result<Array> {
        let place = self.shaped(name, &[&[count], shape].concat())?;
        let bytes = place.bytes / count;
        let mut data = Vec::with_capacity(bytes);
        self.append(name, place, index * bytes..(index + 1) * bytes, &mut data)?;
        Ok(array_from_bytes(&data, shape, place.dtype))
    }

    /// Appends some of a tensor's bytes to `data`.
    fn append(&self, name: &str, place: &Place, range: Range<usize>, data: &mut Vec<u8>) -> Result<()> {
        let file = &self.files[place.file];
        let start = data.len();
        data.resize(start + range.len(), 0);
        file.file
            .read_exact_at(&mut data[start..], place.offset + range.start as u64)
            .map_err(|e| Error::weights(&file.path, format!("tensor {name:?} could not be read: {e}")))
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

#[allow(unsafe_code)]
fn array_from_bytes(data: &[u8], shape: &[usize], dtype: Dtype) -> Array {
    // SAFETY: MLX copies shape-product × item-size bytes, which is `data.len()`: the header's offsets were
    // checked against shape and dtype when the file was opened.
    unsafe { Array::from_raw_data(data.as_ptr().cast(), &dims(shape), dtype) }
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
