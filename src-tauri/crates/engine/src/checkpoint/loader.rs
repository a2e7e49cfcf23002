//! From tensors on disk to the matrices of the model, in either of the two layouts.
//!
//! | layout | experts | quantized |
//! |---|---|---|
//! | the hub's | one tensor per expert | no |
//! | mlx-lm's | stacked, under `switch_mlp` | where `.scales` stands beside `.weight` |
//!
//! Everything is read, cast, quantized and evaluated tensor by tensor, so that the peak stays near the final size.

use mlx_rs::ops::{concatenate, quantize};
use mlx_rs::{Array, Dtype};

use super::{Bits, Config, Tensors};
use crate::error::Result;
use crate::experts::Store;
use crate::families::MoeSpec;
use crate::model::Matrix;

/// Reads weights of one checkpoint in one compute dtype.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    pub(crate) tensors: &'a Tensors,
    pub(crate) config: &'a Config,
    /// Dtype of activations, norms, biases and unquantized weights.
    pub(crate) dtype: Dtype,
    /// Quantize what is not quantized yet.
    pub(crate) quantize: Option<Bits>,
    /// Experts that lie apart from the tensors.
    pub(crate) store: Option<Store>,
}

impl Loader<'_> {
    /// A vector, for example a norm's weight, shape `[n]`.
    pub(crate) fn vector(&self, name: &str, n: usize) -> Result<Array> {
        self.evaluated(self.tensors.read(name, &[n])?)
    }

    /// Linear layers that share an input, fused along their outputs into one matrix of shape `[sum, input]`.
    ///
    /// `parts` are module paths and outputs; a part's bias is read where the checkpoint has one.
    pub(crate) fn fused(&self, parts: &[(String, usize)], input: usize) -> Result<Matrix> {
        let weights = parts
            .iter()
            .map(|(path, output)| self.weight(Source::One(path), &[*output, input], true))
            .collect::<Result<Vec<_>>>()?;
        let mut bias = None;
        if parts.iter().any(|(path, _)| self.tensors.has(&format!("{path}.bias"))) {
            let biases = parts
                .iter()
                .map(|(path, output)| self.vector(&format!("{path}.bias"), *output))
                .collect::<Result<Vec<_>>>()?;
            bias = Some(self.evaluated(concatenate(&biases, 0)?)?);
        }
        Matrix::concatenated(weights, bias)?.laid_out()
    }

    /// One linear layer of shape `[output, input]`.
    pub(crate) fn linear(&self, path: &str, output: usize, input: usize) -> Result<Matrix> {
        self.fused(&[(path.to_owned(), output)], input)
    }

    /// A matrix of which rows are looked up, shape `[rows, width]`.
    pub(crate) fn table(&self, path: &str, rows: usize, width: usize) -> Result<Matrix> {
        Matrix::concatenated(vec![self.weight(Source::One(path), &[rows, width], true)?], None)
    }

    /// As [`Loader::fused`], without biases and never quantized here: a router decides, and costs next to nothing.
    pub(crate) fn router(&self, parts: &[(String, usize)], input: usize) -> Result<Matrix> {
        let weights = parts.iter().map(|(path, output)| self.weight(Source::One(path), &[*output, input], false));
        Matrix::concatenated(weights.collect::<Result<_>>()?, None)?.laid_out()
    }

    /// Experts of the MoE block at the module path `block`: gate and up projections fused, shape
    /// `[experts, 2 · intermediate, hidden]`, and the down projection, `[experts, hidden, intermediate]`. With `only`,
    /// that expert alone, without the first axis.
    pub(crate) fn experts(&self, spec: &MoeSpec, block: &str, only: Option<usize>) -> Result<[Matrix; 2]> {
        let [gate, up, down] = spec.names.expert;
        let (hidden, intermediate) = (self.config.hidden, spec.intermediate);
        let part = |stacked: &str, each: &str, output: usize, input: usize| {
            let module = format!("{block}.switch_mlp.{stacked}");
            let each = |e: usize| format!("{block}.experts.{e}.{each}");
            // The hub's layout, and conversions older than mlx-lm's `switch_mlp`, keep experts one by one.
            match (self.tensors.has(&format!("{module}.weight")), only) {
                (true, None) => self.weight(Source::One(&module), &[spec.experts, output, input], true),
                (true, Some(e)) => self.weight(Source::Of(&module, e, spec.experts), &[output, input], true),
                (false, Some(e)) => self.weight(Source::One(&each(e)), &[output, input], true),
                (false, None) => {
                    let modules: Vec<String> = (0..spec.experts).map(each).collect();
                    self.weight(Source::Each(&modules), &[output, input], true)
                }
            }
        };
        let gate = part("gate_proj", gate, intermediate, hidden)?;
        let up = part("up_proj", up, intermediate, hidden)?;
        let down = part("down_proj", down, hidden, intermediate)?;
        Ok([Matrix::concatenated(vec![gate, up], None)?, Matrix::concatenated(vec![down], None)?])
    }

    /// The weight of a module, quantized or not, or those of several modules stacked along a new first axis.
    fn weight(&self, source: Source<'_>, shape: &[usize], may_quantize: bool) -> Result<Matrix> {
        let first = source.first();
        if let Some(q) = &self.config.quantization
            && self.tensors.has(&format!("{first}.scales"))
        {
            let bits = q.of(first);
            let (columns, rest) = shape.split_last().map_or((0, &[][..]), |(c, r)| (*c, r));
            let sized = |n: usize| [rest, &[n]].concat();
            let packed = sized(columns * bits.bits as usize / 32);
            let groups = sized(columns / bits.group_size as usize);
            return Ok(Matrix::Quantized {
                weight: evaluated(self.read(source, "weight", &packed)?)?,
                scales: self.evaluated(self.read(source, "scales", &groups)?)?,
                biases: self.evaluated(self.read(source, "biases", &groups)?)?,
                bits,
                bias: None,
            });
        }
        let weight = self.evaluated(self.read(source, "weight", shape)?)?;
        match self.quantize {
            Some(bits) if may_quantize && weight.dim(-1) % bits.group_size == 0 => {
                let (weight, scales, biases) = quantize(&weight, bits.group_size, bits.bits)?;
                mlx_rs::transforms::eval([&weight, &scales, &biases])?;
                Ok(Matrix::Quantized { weight, scales, biases, bits, bias: None })
            }
            _ => Matrix::dense(weight, None),
        }
    }

    fn read(&self, source: Source<'_>, part: &str, shape: &[usize]) -> Result<Array> {
        match source {
            Source::One(module) => self.tensors.read(&format!("{module}.{part}"), shape),
            Source::Each(modules) => {
                let names: Vec<String> = modules.iter().map(|module| format!("{module}.{part}")).collect();
                self.tensors.read_stacked(&names, shape)
            }
            Source::Of(module, expert, experts) => {
                self.tensors.read_of(&format!("{module}.{part}"), expert, experts, shape)
            }
        }
    }

    fn evaluated(&self, array: Array) -> Result<Array> {
        evaluated(array.as_dtype(self.dtype)?)
    }
}

/// Forces the array now, so that what it was made from can go.
fn evaluated(array: Array) -> Result<Array> {
    array.eval()?;
    Ok(array)
}

/// Where a weight comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// One module.
    One(&'a str),
    /// Several of the same shape, stacked.
    Each(&'a [String]),
    /// One of so many that are stacked in one module.
    Of(&'a str, usize, usize),
}

impl<'a> Source<'a> {
    fn first(self) -> &'a str {
        match self {
            Self::One(module) | Self::Of(module, ..) => module,
            Self::Each(modules) => modules.first().map_or("", String::as_str),
        }
    }
}
