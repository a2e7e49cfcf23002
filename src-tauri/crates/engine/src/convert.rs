//! Writes a checkpoint quantized, in mlx-lm's layout: experts stacked under `switch_mlp`, packed weights with their
//! scales and biases, `quantization` in the config.
//!
//! Tensors are read, quantized and written one expert at a time, so that memory stays near the largest tensor whatever
//! the model's size. Routers and the shared experts' gates stay as they are: they decide, and cost next to nothing.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlx_rs::ops::quantize;
use mlx_rs::{Array, Dtype};
use mobile_files::{FromFile as _, read_shared_text};
use safetensors::{SafeTensorError, View};
use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::{Bits, Config, Fields, Tensors, stored_as};
use crate::error::{Error, Result};
use crate::families::{MoeNames, Spec};

/// Bytes of a weight file at most, as on the hub.
const SHARD_BYTES: usize = 5_000_000_000;

/// In an unfinished folder, what it is to become.
const BEGUN: &str = ".begun.json";

/// Files that come along as they are.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Converted {
    /// Bytes of the weights.
    pub bytes: u64,
    /// Weight files.
    pub files: usize,
    /// Bits per quantized weight, scales and biases included.
    pub bits_per_weight: f64,
}

/// Converts the checkpoint in `source` to `target`, a folder that must not exist. An interrupted conversion leaves
/// `target` absent; its finished files are used by the next attempt with the same settings, while the source's files are
/// what they were. Two at once to one target would get into each other's way.
///
/// # Errors
/// What is wrong with the checkpoint, [`Error::File`] when it is quantized already or what is in the way of writing.
pub fn convert(source: &Path, target: &Path, bits: Bits, mut progress: impl FnMut(usize, usize)) -> Result<Converted> {
    bits.check(Error::Parameter)?;
    let config = Config::open(&source.join("config.json"))?;
    if config.quantization.is_some() {
        return Err(config.fields.error("the checkpoint is quantized already; convert the original instead"));
    }
    if target.exists() {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(Error::write(target)(exists));
    }
    let spec = Spec::of(&config)?;
    let tensors = Tensors::open(source)?;
    let entries = entries(&tensors, &spec, bits)?;

    let partial = begin(source, target, &json!(bits))?;
    let shards = shards(entries);
    let mut index = BTreeMap::new();
    let (mut bytes, files) = (0, shards.len());
    for (n, shard) in shards.into_iter().enumerate() {
        let name = match files {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{files:05}.safetensors", n + 1),
        };
        bytes += shard.iter().map(|e| e.bytes() as u64).sum::<u64>();
        index.extend(shard.iter().map(|e| (e.name.clone(), Value::from(name.clone()))));
        write_shard(&tensors, shard, bits, &partial.join(name))?;
        progress(n + 1, files);
    }
    if files > 1 {
        let index = json!({ "metadata": { "total_size": bytes }, "weight_map": index });
        write_json(&partial.join("model.safetensors.index.json"), &index)?;
    }
    write_config(&config.fields, &partial.join("config.json"), bits)?;
    copy_companions(source, &partial)?;
    finish(&partial, target)?;
    Ok(Converted { bytes, files, bits_per_weight: f64::from(bits.bits) + 32.0 / f64::from(bits.group_size) })
}

/// Copies tokenizer, template and generation settings: their contents, not their permissions, which may be read-only.
pub(crate) fn copy_companions(source: &Path, target: &Path) -> Result<()> {
    for name in COMPANIONS.iter().filter(|n| source.join(n).exists()) {
        let text = read_shared_text(&source.join(name))?;
        std::fs::write(target.join(name), text).map_err(Error::write(target.join(name)))?;
    }
    Ok(())
}

/// Writes the tensors that `wanted` names to `model.safetensors` in `folder`, as they are.
pub(crate) fn write_as_stored(tensors: &Tensors, wanted: impl Fn(&str) -> bool, folder: &Path) -> Result<()> {
    let mut names: Vec<&str> = tensors.names().filter(|name| wanted(name)).collect();
    names.sort_unstable();
    let entry = |name: &str| {
        let (shape, dtype) = (tensors.shape(name)?.to_vec(), tensors.dtype(name)?);
        let sources = vec![name.to_owned()];
        Ok(Entry { name: name.to_owned(), dtype, source_shape: shape.clone(), shape, sources, part: Part::AsStored })
    };
    let entries = names.into_iter().map(entry).collect::<Result<_>>()?;
    write_shard(tensors, entries, Bits::new(4), &folder.join("model.safetensors"))
}

/// The folder in which `target` grows until it is whole.
#[must_use]
pub fn partial_of(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.partial"))
}

/// The folder in which `target` grows, with the finished files of an interrupted run. One of another source, of files that
/// have changed since or with other settings is of no use, nor is what one was at when it was killed.
pub(crate) fn begin(source: &Path, target: &Path, settings: &Value) -> Result<PathBuf> {
    let partial = partial_of(target);
    let begun = partial.join(BEGUN);
    let source = source.canonicalize().map_err(Error::read(source))?;
    let files = mobile_files::file_states(&source)?;
    // The target may lie in the source.
    let files = files.iter().filter(|file| Some(file.name.as_os_str()) != partial.file_name());
    let files: Vec<_> = files.map(|f| (f.name.to_string_lossy(), f.length, f.changed.to_string())).collect();
    let becomes = json!({ "source": source.to_string_lossy(), "files": files, "settings": settings });
    let same =
        std::fs::read(&begun).is_ok_and(|text| serde_json::from_slice::<Value>(&text).is_ok_and(|v| v == becomes));
    if !same {
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(Error::write(&partial))?;
        }
        std::fs::create_dir_all(&partial).map_err(Error::write(&partial))?;
        write_json(&begun, &becomes)?;
    }
    let files = std::fs::read_dir(&partial).map_err(Error::read(&partial))?.flatten();
    // Files are written under hidden names.
    for file in files.filter(|file| file.file_name().as_encoded_bytes().starts_with(b".") && file.path() != begun) {
        std::fs::remove_file(file.path()).map_err(Error::write(file.path()))?;
    }
    Ok(partial)
}

/// Moves what [`begin`] began to its place.
pub(crate) fn finish(partial: &Path, target: &Path) -> Result<()> {
    std::fs::rename(partial, target).map_err(Error::write(target))?;
    let begun = target.join(BEGUN);
    std::fs::remove_file(&begun).map_err(Error::write(begun))
}

/// One tensor to write.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Tensors it is made from: several are stacked along a new first axis.
    sources: Vec<String>,
    /// Shape of each of them.
    source_shape: Vec<usize>,
    part: Part,
}

/// What of its sources an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    AsStored,
    Packed,
    Scales,
    Biases,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * item_bytes(self.dtype)
    }
}

/// Every tensor of the converted checkpoint, in the order of the modules.
fn entries(tensors: &Tensors, spec: &Spec, bits: Bits) -> Result<Vec<Entry>> {
    let mut modules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in tensors.names() {
        let target = stacked_name(name, &spec.moe.names).unwrap_or_else(|| name.to_owned());
        modules.entry(target).or_default().push(name.to_owned());
    }
    let mut entries = Vec::new();
    for (name, mut sources) in modules {
        sources.sort_by_key(|n| expert_number(n));
        let source_shape = tensors.shape(&sources[0])?.to_vec();
        let dtype = tensors.dtype(&sources[0])?;
        let stacked = sources.len() > 1 || sources[0] != name;
        let mut shape = if stacked { vec![sources.len()] } else { Vec::new() };
        shape.extend_from_slice(&source_shape);
        let entry = |name: String, dtype, columns: Option<usize>, part| {
            let mut shape = shape.clone();
            if let (Some(last), Some(columns)) = (shape.last_mut(), columns) {
                *last = columns;
            }
            Entry { name, dtype, shape, sources: sources.clone(), source_shape: source_shape.clone(), part }
        };
        let columns = source_shape.last().copied().unwrap_or(0);
        match name.strip_suffix(".weight") {
            Some(module) if quantizable(module, &source_shape, bits) => {
                let groups = Some(columns / bits.group_size as usize);
                let packed = columns * bits.bits as usize / 32;
                entries.push(entry(name.clone(), Dtype::Uint32, Some(packed), Part::Packed));
                entries.push(entry(format!("{module}.scales"), dtype, groups, Part::Scales));
                entries.push(entry(format!("{module}.biases"), dtype, groups, Part::Biases));
            }
            _ => entries.push(entry(name.clone(), dtype, None, Part::AsStored)),
        }
    }
    Ok(entries)
}

/// `….experts.7.up_proj.weight` to `….switch_mlp.up_proj.weight`; `None` for what is no expert's.
fn stacked_name(name: &str, names: &MoeNames) -> Option<String> {
    let (block, rest) = name.split_once(".experts.")?;
    let (_, part) = rest.split_once('.')?;
    let module = part.strip_suffix(".weight")?;
    let at = names.expert.iter().position(|n| *n == module)?;
    Some(format!("{block}.switch_mlp.{}.weight", ["gate_proj", "up_proj", "down_proj"][at]))
}

fn expert_number(name: &str) -> usize {
    let number = name.split_once(".experts.").and_then(|(_, rest)| rest.split('.').next()?.parse().ok());
    number.unwrap_or(0)
}

fn quantizable(module: &str, shape: &[usize], bits: Bits) -> bool {
    let decides = module.ends_with(".gate") || module.ends_with("shared_expert_gate");
    shape.len() == 2 && !decides && shape[1].is_multiple_of(bits.group_size as usize)
}

/// Consecutive entries, as many to a file as [`SHARD_BYTES`] allows.
fn shards(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut shards: Vec<Vec<Entry>> = Vec::new();
    let mut room = 0;
    for entry in entries {
        let bytes = entry.bytes();
        // The parts of one module stay together: they are made in one go.
        let begins = matches!(entry.part, Part::AsStored | Part::Packed);
        if shards.is_empty() || (bytes > room && begins) {
            shards.push(Vec::new());
            room = SHARD_BYTES;
        }
        room = room.saturating_sub(bytes);
        if let Some(shard) = shards.last_mut() {
            shard.push(entry);
        }
    }
    shards
}

/// Writes one file, complete or not at all; a file that is there already was finished by an earlier attempt.
fn write_shard(tensors: &Tensors, shard: Vec<Entry>, bits: Bits, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let maker = Maker { tensors, bits, last: RefCell::default(), failed: RefCell::default() };
    let views = shard.into_iter().map(|entry| (entry.name.clone(), Lazy { entry, maker: &maker }));
    let metadata = std::iter::once(("format".to_owned(), "mlx".to_owned())).collect();
    let written = safetensors::serialize_to_file(views, Some(metadata), path);
    if let Some(error) = maker.failed.into_inner() {
        // What was written in the failed tensor's place is not its weights.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    written.map_err(|e| match e {
        SafeTensorError::IoError(e) => Error::write(path)(e),
        e => Error::write(path)(std::io::Error::other(e)),
    })?;
    make_readable(path)
}

/// For a file that was written under a temporary name, which only its owner may read.
pub(crate) fn make_readable(path: &Path) -> Result<()> {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(path, readable).map_err(Error::write(path))
}

/// Makes the bytes of entries when they are asked for.
struct Maker<'a> {
    tensors: &'a Tensors,
    bits: Bits,
    /// Scales and biases of a module are asked for one after the other.
    last: RefCell<Option<Made>>,
    /// The first error; [`View`] has no way to give it.
    failed: RefCell<Option<Error>>,
}

/// A module's packed weights, scales and biases, and the tensors they were made from.
struct Made {
    sources: Vec<String>,
    parts: [Vec<u8>; 3],
}

struct Lazy<'a> {
    entry: Entry,
    maker: &'a Maker<'a>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        stored_as(self.entry.dtype)
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let failed = self.maker.failed.borrow().is_some();
        let made = if failed { None } else { Some(self.maker.make(&self.entry)) };
        match made {
            Some(Ok(bytes)) if bytes.len() == self.entry.bytes() => Cow::Owned(bytes),
            Some(Err(error)) => {
                self.maker.failed.replace(Some(error));
                Cow::Owned(vec![0; self.entry.bytes()])
            }
            _ => {
                let what = format!("tensor {:?} has another size than its shape says", self.entry.name);
                self.maker.failed.borrow_mut().get_or_insert_with(|| Error::Mlx(what));
                Cow::Owned(vec![0; self.entry.bytes()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.entry.bytes()
    }
}

impl Maker<'_> {
    fn make(&self, entry: &Entry) -> Result<Vec<u8>> {
        let at = match entry.part {
            Part::AsStored => {
                let mut bytes = Vec::with_capacity(entry.bytes());
                for source in &entry.sources {
                    bytes.extend(bytes_of(&self.tensors.read(source, &entry.source_shape)?)?);
                }
                return Ok(bytes);
            }
            Part::Packed => 0,
            Part::Scales => 1,
            Part::Biases => 2,
        };
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|made| made.sources != entry.sources) {
            *last = Some(Made { sources: entry.sources.clone(), parts: self.quantized(entry)? });
        }
        Ok(last.as_mut().map(|made| std::mem::take(&mut made.parts[at])).unwrap_or_default())
    }

    /// Packed weights, scales and biases of all sources, one expert after the other.
    fn quantized(&self, entry: &Entry) -> Result<[Vec<u8>; 3]> {
        let mut parts: [Vec<u8>; 3] = Default::default();
        for source in &entry.sources {
            let weight = self.tensors.read(source, &entry.source_shape)?;
            let (packed, scales, biases) = quantize(&weight, self.bits.group_size, self.bits.bits)?;
            for (part, array) in parts.iter_mut().zip([packed, scales, biases]) {
                part.extend(bytes_of(&array)?);
            }
        }
        Ok(parts)
    }
}

fn item_bytes(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Bfloat16 | Dtype::Float16 => 2,
        _ => 4,
    }
}

/// The array's bytes, row by row.
pub(crate) fn bytes_of(array: &Array) -> Result<Vec<u8>> {
    let array = array.contiguous()?;
    Ok(match array.dtype() {
        Dtype::Uint32 => bytemuck::cast_slice(array.try_as_slice::<u32>()?).to_vec(),
        Dtype::Bfloat16 => bytemuck::cast_slice(array.try_as_slice::<half::bf16>()?).to_vec(),
        Dtype::Float16 => bytemuck::cast_slice(array.try_as_slice::<half::f16>()?).to_vec(),
        _ => bytemuck::cast_slice(array.try_as_slice::<f32>()?).to_vec(),
    })
}

fn write_config(fields: &Fields, path: &Path, bits: Bits) -> Result<()> {
    let mut config: serde_json::Map<String, Value> = fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let quantization = json!({ "group_size": bits.group_size, "bits": bits.bits, "mode": "affine" });
    config.insert("quantization".to_owned(), quantization.clone());
    config.insert("quantization_config".to_owned(), quantization);
    write_json(path, &Value::Object(config))
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, format!("{value:#}\n")).map_err(Error::write(path))
}
