//! Experts on disk for streaming: one file a layer, in it one expert after the other, each a single aligned piece.
//!
//! | place | content |
//! |---|---|
//! | 0 | the eight bytes of [`MAGIC`] |
//! | 8 | length of the header, little-endian u64 |
//! | 16 | [`Header`] as JSON, filled up to a multiple of [`ALIGN`] |
//! | then | the records: an expert's parts back to back, filled up to a multiple of [`ALIGN`] |
//!
//! A record holds exactly the bytes that the engine computes with, so that fetching one is a read and nothing else. Its
//! checksum is verified at every read: a damaged file gives an error, never a wrong token. When a read fails, the file
//! that lies in the place now is tried, if it is another one with the same experts.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, IoSliceMut, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mlx_rs::Dtype;
use mobile_files::FromFile as _;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::checkpoint::Bits;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"MoBiLEx1";

/// The page size of Apple silicon, and a multiple of everybody else's.
const ALIGN: u64 = 16 << 10;

/// How the name of a file begins that is not finished. The next run removes what is hidden.
const BEGUN: &str = ".begun-";

/// A header longer than this is not one.
const LONGEST_HEADER: u64 = 16 << 20;

/// What a layer's file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) layer: usize,
    /// Gate and up projections fused.
    pub(crate) gate_up: Parts,
    pub(crate) down: Parts,
    /// XXH3-64 of each expert's parts; one entry per expert.
    pub(crate) checksums: Vec<u64>,
}

/// One matrix of an expert: the weight, and where it is quantized the scales and biases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) arrays: Vec<Part>,
    pub(crate) bits: Option<Bits>,
}

/// One array of an expert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Stored,
}

/// Types that occur in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stored {
    U32,
    F32,
    Bf16,
    F16,
}

impl Stored {
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::Uint32 => Self::U32,
            Dtype::Float32 => Self::F32,
            Dtype::Bfloat16 => Self::Bf16,
            Dtype::Float16 => Self::F16,
            _ => return None,
        })
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::U32 => Dtype::Uint32,
            Self::F32 => Dtype::Float32,
            Self::Bf16 => Dtype::Bfloat16,
            Self::F16 => Dtype::Float16,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::U32 | Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

impl Part {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

impl Header {
    /// The arrays of an expert in the order of its record.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.gate_up.arrays.iter().chain(&self.down.arrays)
    }

    pub(crate) fn experts(&self) -> usize {
        self.checksums.len()
    }

    /// Bytes of one expert.
    pub(crate) fn expert_bytes(&self) -> usize {
        self.parts().map(Part::bytes).sum()
    }

    fn record_bytes(&self) -> u64 {
        (self.expert_bytes() as u64).next_multiple_of(ALIGN)
    }
}

/// Where experts are read from. The file of a layer, or something that fails on purpose.
pub(crate) trait Source: std::fmt::Debug + Send + Sync {
    /// Reads an expert's parts into `parts`, whose lengths are those of [`Header::parts`].
    fn read(&self, expert: usize, parts: &mut [IoSliceMut<'_>]) -> io::Result<()>;

    /// The file, for messages.
    fn path(&self) -> &Path;
}

/// An open layer file.
#[derive(Debug)]
pub(crate) struct LayerFile {
    file: Mutex<Arc<File>>,
    path: PathBuf,
    pub(crate) header: Header,
    start: u64,
    page_cache: bool,
}

impl LayerFile {
    /// Opens and checks the file of `layer`. Without `page_cache` the system is told to keep nothing of what is read.
    pub(crate) fn open(path: PathBuf, layer: usize, page_cache: bool) -> Result<Self> {
        let file = mobile_files::open(&path)?;
        let length = file.metadata().map_err(Error::read(&path))?.len();
        let (header, start) = read_header(&file, &path)?;
        let wanted = start + header.record_bytes() * header.experts() as u64;
        if length != wanted {
            return Err(Error::weights(
                &path,
                format!("the file has {length} bytes instead of {wanted}; arrange the experts again"),
            ));
        }
        if header.layer != layer {
            return Err(Error::weights(
                &path,
                format!("holds the experts of layer {} instead of {layer}", header.layer),
            ));
        }
        if !page_cache {
            super::uncached::open(&file).map_err(Error::read(&path))?;
        }
        let file = Mutex::new(Arc::new(file));
        Ok(Self { file, path, header, start, page_cache })
    }

    /// The file as it was last opened.
    fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file that has come to the place of `old`, with the same experts: restored from elsewhere, or on a disk that
    /// was away.
    fn replacement(&self, old: &File) -> Option<Arc<File>> {
        let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).ok();
        let fresh = Self::open(self.path.clone(), self.header.layer, self.page_cache).ok()?;
        let file = fresh.file();
        if identity(&file)? == identity(old)? || fresh.header != self.header {
            return None;
        }
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&file);
        Some(file)
    }

    fn read_from(&self, file: &File, expert: usize, parts: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let offset = self.start + self.header.record_bytes() * expert as u64;
        let total: usize = parts.iter().map(|p| p.len()).sum();
        let mut done = rustix::io::preadv(file, parts, offset).map_err(io::Error::from)?;
        // One call reads it all but at a signal or the end of the file; what it left is read part by part.
        let mut begins = 0;
        for part in parts.iter_mut() {
            let ends = begins + part.len();
            if done < ends {
                file.read_exact_at(&mut part[done - begins..], offset + done as u64)?;
                done = ends;
            }
            begins = ends;
        }
        if !self.page_cache {
            super::uncached::forget(file, offset, total as u64);
        }
        if checksum(parts.iter().map(|p| &**p)) != self.header.checksums[expert] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the bytes differ from their checksum"));
        }
        Ok(())
    }
}

fn read_header(file: &File, path: &Path) -> Result<(Header, u64)> {
    let damaged = |what: &str| Error::weights(path, format!("{what}; arrange the experts again"));
    let mut fixed = [0; 16];
    file.read_exact_at(&mut fixed, 0).map_err(|_| damaged("the file is too short for a header"))?;
    let (magic, length) = fixed.split_at(8);
    if magic != MAGIC {
        return Err(damaged("not a file of experts in this version's layout"));
    }
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    if length > LONGEST_HEADER {
        return Err(damaged("the header is impossibly long"));
    }
    let mut json = vec![0; length as usize];
    file.read_exact_at(&mut json, 16).map_err(|_| damaged("the header is cut short"))?;
    let header: Header =
        serde_json::from_slice(&json).map_err(|e| damaged(&format!("the header cannot be read: {e}")))?;
    let sane = header.parts().all(|p| {
        p.shape.iter().try_fold(1_usize, |a, &n| a.checked_mul(n)).is_some_and(|n| n > 0 && n <= i32::MAX as usize)
    });
    if !sane || header.experts() == 0 || header.gate_up.arrays.is_empty() || header.down.arrays.is_empty() {
        return Err(damaged("the header describes impossible experts"));
    }
    Ok((header, (16 + length).next_multiple_of(ALIGN)))
}

impl Source for LayerFile {
    fn read(&self, expert: usize, parts: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        let file = self.file();
        self.read_from(&file, expert, parts).or_else(|error| {
            let file = self.replacement(&file).ok_or(error)?;
            self.read_from(&file, expert, parts)
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = XxHash3_64::new();
    parts.for_each(|part| hasher.write(part));
    hasher.finish()
}

/// Writes a layer's file, complete or not at all: under another name until its last byte is on the disk. `record` gives
/// the parts of an expert, in the order of the header.
pub(crate) fn write_layer(
    path: &Path,
    header: &mut Header,
    experts: usize,
    mut record: impl FnMut(usize) -> Result<Vec<Vec<u8>>>,
) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(BEGUN).tempfile_in(folder).map_err(Error::write(path))?;
    // The checksums are known last; numbers of full length keep their place.
    header.checksums = vec![u64::MAX; experts];
    let longest = json_of(header, path)?.len() as u64;
    let start = (16 + longest).next_multiple_of(ALIGN);
    let out = file.as_file_mut();
    for expert in 0..experts {
        let parts = record(expert)?;
        let mut offset = start + header.record_bytes() * expert as u64;
        header.checksums[expert] = checksum(parts.iter().map(Vec::as_slice));
        for part in parts {
            out.write_all_at(&part, offset).map_err(Error::write(path))?;
            offset += part.len() as u64;
        }
    }
    out.set_len(start + header.record_bytes() * experts as u64).map_err(Error::write(path))?;
    let mut json = json_of(header, path)?;
    json.resize(longest as usize, b' ');
    let mut front = Vec::with_capacity(16 + json.len());
    front.extend_from_slice(MAGIC);
    front.extend_from_slice(&longest.to_le_bytes());
    front.extend_from_slice(&json);
    out.write_all_at(&front, 0).map_err(Error::write(path))?;
    out.flush().and_then(|()| out.sync_all()).map_err(Error::write(path))?;
    file.persist(path).map_err(|e| Error::write(path)(e.error))?;
    crate::convert::make_readable(path)
}

fn json_of(header: &Header, path: &Path) -> Result<Vec<u8>> {
    serde_json::to_vec(header).map_err(|e| Error::write(path)(io::Error::other(e)))
}
