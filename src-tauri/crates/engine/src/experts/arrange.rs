//! Writes a checkpoint whose experts can be streamed: a file of experts per layer, everything else as it was.

use std::path::Path;

use mlx_rs::Array;
use mobile_files::FromFile as _;
use serde::{Deserialize, Serialize};

use super::layout::{Header, Part, Parts, Stored, write_layer};
use crate::checkpoint::{Bits, Config, Fields, Loader, Tensors};
use crate::convert::{begin, bytes_of, copy_companions, finish, write_as_stored, write_json};
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::families::{MlpSpec, Spec};
use crate::model::Matrix;

const INDEX: &str = "experts.json";

/// What a folder of arranged experts says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// Dtype of what is not packed.
    pub(super) compute: Compute,
    /// How weights were quantized on the way, to be repeated for those that are not experts.
    pub(super) quantize: Option<Bits>,
    /// Layers that have experts.
    pub(super) layers: Vec<usize>,
}

impl Index {
    pub(super) fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(INDEX);
        let Some(fields) = Fields::open_if_present(&path)? else { return Ok(None) };
        let index: Self = serde_json::from_value(fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .map_err(|e| fields.error(format!("not an index of experts: {e}")))?;
        index.quantize.map_or(Ok(()), |bits| bits.check(|what| fields.error(what)))?;
        if index.version != 1 {
            return Err(fields
                .error(format!("version {} of the layout is not known; arrange the experts again", index.version)));
        }
        Ok(Some(index))
    }
}

/// Whether the experts of the checkpoint in `folder` have been arranged for streaming.
#[must_use]
pub fn is_arranged(folder: &Path) -> bool {
    folder.join(INDEX).is_file()
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arranged {
    /// Layers with experts.
    pub layers: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// Bytes of one expert.
    pub expert_bytes: usize,
}

/// Writes the checkpoint of `source` to `target`, a folder that must not exist, with its experts arranged for streaming:
/// cast to `compute` and quantized to `quantize` exactly as loading would, so that streaming computes the same tokens.
/// One expert is in memory at a time. An interrupted run leaves `target` absent; its finished layers are used by the
/// next one with the same settings, while the source's files are what they were. The source is not needed afterwards.
/// `progress` is told of the layers that are done and of all, and may call the rest off.
///
/// # Errors
/// What is wrong with the checkpoint; [`Error::File`] for what is in the way of writing; what `progress` gives.
pub fn arrange(
    source: &Path,
    target: &Path,
    compute: Compute,
    quantize: Option<Bits>,
    mut progress: impl FnMut(usize, usize) -> Result<()>,
) -> Result<Arranged> {
    quantize.map_or(Ok(()), |bits| bits.check(Error::Parameter))?;
    let config = Config::open(&source.join("config.json"))?;
    let spec = Spec::of(&config)?;
    if is_arranged(source) {
        return Err(config.fields.error("the experts are arranged already"));
    }
    if target.exists() {
        return Err(Error::write(target)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let tensors = Tensors::open(source)?;
    let loader = Loader { tensors: &tensors, config: &config, dtype: compute.dtype(), quantize, store: None };
    let layers: Vec<usize> = (0..config.layers).filter(|&n| spec.mlps[n] == MlpSpec::Experts).collect();
    let index = Index { version: 1, compute, quantize, layers: layers.clone() };

    let partial = begin(source, target, &serde_json::json!(index))?;
    write_json(&partial.join(INDEX), &serde_json::json!(index))?;
    let total = layers.len() + 1;
    let mut expert_bytes = 0;
    for (n, &layer) in layers.iter().enumerate() {
        let path = partial.join(layer_name(layer));
        let block = format!("model.layers.{layer}.{}", spec.moe.names.block);
        let expert = |e: usize| loader.experts(&spec.moe, &block, Some(e));
        let [gate_up, down] = expert(0)?;
        let mut header = Header { layer, gate_up: parts(&gate_up)?, down: parts(&down)?, checksums: Vec::new() };
        expert_bytes = header.expert_bytes();
        if !path.exists() {
            write_layer(&path, &mut header, spec.moe.experts, |e| {
                let matrices = expert(e)?;
                matrices.iter().flat_map(|m| m.arrays().0).map(bytes_of).collect()
            })?;
        }
        progress(n + 1, total)?;
    }
    write_as_stored(&tensors, |name| !name.contains(".experts.") && !name.contains(".switch_mlp."), &partial)?;
    copy_companions(source, &partial)?;
    let config = partial.join("config.json");
    std::fs::copy(source.join("config.json"), &config).map_err(Error::write(&config))?;
    progress(total, total)?;
    finish(&partial, target)?;
    Ok(Arranged { layers: layers.len(), experts: spec.moe.experts, expert_bytes })
}

/// File name of a layer's experts.
pub(super) fn layer_name(layer: usize) -> String {
    format!("experts-{layer:03}.bin")
}

fn parts(matrix: &Matrix) -> Result<Parts> {
    let (arrays, bits) = matrix.arrays();
    let part = |array: &Array| {
        let dtype = Stored::of(array.dtype()).ok_or_else(|| Error::Mlx(format!("experts of {:?}", array.dtype())))?;
        Ok(Part { shape: array.shape().iter().map(|&n| n as usize).collect(), dtype })
    };
    Ok(Parts { arrays: arrays.into_iter().map(part).collect::<Result<_>>()?, bits })
}
