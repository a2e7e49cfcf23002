//! From tensors on disk to the matrices of the model, in either of the two layouts.
//!
//! | layout | experts | quantized |
//! |---|---|---|
//! | the hub's | one tensor per expert | no |
//! | mlx-lm's | stacked, under `switch_mlp` | where `.scales` stands beside `.weight` |
//!
//! What is computed with as one matrix is read as one, from wherever its rows lie, if it is stored as it is computed with.
//! Everything is cast, quantized and evaluated matrix by matrix, so that the peak stays near the final size.

use std::ops::Range;

use mlx_rs::ops::{concatenate, quantize};
use mlx_rs::{Array, Dtype};

use super::{Bits, Config, Piece, Tensors};
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
        let matrix = self.joined(&linear(parts), None, input, true)?;
        if !parts.iter().any(|(path, _)| self.tensors.has(&format!("{path}.bias"))) {
            return matrix.laid_out();
        }
        let biases = parts
            .iter()
            .map(|(path, output)| self.vector(&format!("{path}.bias"), *output))
            .collect::<Result<Vec<_>>>()?;
        matrix.with_bias(self.evaluated(concatenate(&biases, 0)?)?).laid_out()
    }

    /// One linear layer of shape `[output, input]`.
    pub(crate) fn linear(&self, path: &str, output: usize, input: usize) -> Result<Matrix> {
        self.fused(&[(path.to_owned(), output)], input)
    }

    /// A matrix of which rows are looked up, shape `[rows, width]`.
    pub(crate) fn table(&self, path: &str, rows: usize, width: usize) -> Result<Matrix> {
        self.joined(&linear(&[(path.to_owned(), rows)]), None, width, true)
    }

    /// As [`Loader::fused`], without biases and never quantized here: a router decides, and costs next to nothing.
    pub(crate) fn router(&self, parts: &[(String, usize)], input: usize) -> Result<Matrix> {
        self.joined(&linear(parts), None, input, false)?.laid_out()
    }

    /// Experts of the MoE block at the module path `block`: gate and up projections fused, shape
    /// `[experts, 2 · intermediate, hidden]`, and the down projection, `[experts, hidden, intermediate]`. With `only`,
    /// that expert alone, without the first axis.
    pub(crate) fn experts(&self, spec: &MoeSpec, block: &str, only: Option<usize>) -> Result<[Matrix; 2]> {
        let [gate, up, down] = spec.names.expert;
        let (hidden, intermediate) = (self.config.hidden, spec.intermediate);
        let chosen = only.map_or(0..spec.experts, |e| e..e + 1);
        let part = |stacked: &str, each: &str, output: usize| {
            let module = format!("{block}.switch_mlp.{stacked}");
            // The hub's layout, and conversions older than mlx-lm's `switch_mlp`, keep experts one by one.
            let source = if self.tensors.has(&format!("{module}.weight")) {
                Source::Stacked(module, spec.experts, chosen.clone())
            } else {
                Source::Each(chosen.clone().map(|e| format!("{block}.experts.{e}.{each}")).collect())
            };
            Part { source, output }
        };
        let gate_up = [part("gate_proj", gate, intermediate), part("up_proj", up, intermediate)];
        let down = [part("down_proj", down, hidden)];
        let stack = only.is_none().then_some(spec.experts);
        Ok([self.joined(&gate_up, stack, hidden, true)?, self.joined(&down, stack, intermediate, true)?])
    }

    /// The matrix whose rows are those of `parts`, `[stack, sum, columns]`, or `[sum, columns]` without a stack.
    fn joined(&self, parts: &[Part], stack: Option<usize>, columns: usize, may_quantize: bool) -> Result<Matrix> {
        let form = |part: &Part| {
            let module = part.source.first();
            (self.bits(module), ["weight", "scales"].map(|part| self.tensors.dtype(&format!("{module}.{part}")).ok()))
        };
        let alike = parts.windows(2).all(|w| form(&w[0]) == form(&w[1]));
        let matrix = |parts: &[Part]| self.matrix(parts, stack, columns, may_quantize);
        // What is quantized here is so part by part: it takes several times the memory of the outcome.
        if parts.len() == 1 || alike && !(may_quantize && self.quantize.is_some()) {
            return matrix(parts);
        }
        Matrix::concatenated(parts.iter().map(|part| matrix(std::slice::from_ref(part))).collect::<Result<_>>()?)
    }

    /// As [`Loader::joined`], of parts that are stored in one form.
    fn matrix(&self, parts: &[Part], stack: Option<usize>, columns: usize, may_quantize: bool) -> Result<Matrix> {
        let read = |tensor, columns| self.read(parts, tensor, stack, columns);
        if let Some(bits) = parts.first().and_then(|part| self.bits(part.source.first())) {
            let groups = columns / bits.group_size as usize;
            return Ok(Matrix::Quantized {
                weight: read("weight", columns * bits.bits as usize / 32)?,
                scales: self.evaluated(read("scales", groups)?)?,
                biases: self.evaluated(read("biases", groups)?)?,
                bits,
                bias: None,
            });
        }
        let weight = self.evaluated(read("weight", columns)?)?;
        match self.quantize {
            Some(bits) if may_quantize && weight.dim(-1) % bits.group_size == 0 => {
                let (weight, scales, biases) = quantize(&weight, bits.group_size, bits.bits)?;
                mlx_rs::transforms::eval([&weight, &scales, &biases])?;
                Ok(Matrix::Quantized { weight, scales, biases, bits, bias: None })
            }
            _ => Matrix::dense(weight, None),
        }
    }

    /// How the weight of a module is quantized on disk, if it is.
    fn bits(&self, module: &str) -> Option<Bits> {
        let quantization = self.config.quantization.as_ref()?;
        self.tensors.has(&format!("{module}.scales")).then(|| quantization.of(module))
    }

    fn read(&self, parts: &[Part], tensor: &str, stack: Option<usize>, columns: usize) -> Result<Array> {
        let piece = |n: usize, Part { source, output }: &Part| {
            let (module, stacked) = source.at(n);
            Piece { name: format!("{module}.{tensor}"), stacked, shape: vec![*output, columns] }
        };
        let pieces: Vec<_> =
            (0..stack.unwrap_or(1)).flat_map(|n| parts.iter().map(move |part| piece(n, part))).collect();
        let rows = parts.iter().map(|part| part.output).sum();
        let shape: Vec<_> = stack.into_iter().chain([rows, columns]).collect();
        self.tensors.read_joined(&pieces, &shape)
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

/// Linear layers in modules of their own, with their outputs.
fn linear(parts: &[(String, usize)]) -> Vec<Part> {
    parts.iter().map(|(path, output)| Part { source: Source::Each(vec![path.clone()]), output: *output }).collect()
}

/// A linear layer of so many outputs, or a stack of them.
struct Part {
    source: Source,
    output: usize,
}

/// Where the matrices of a [`Part`] lie.
enum Source {
    /// Each in a module of its own.
    Each(Vec<String>),
    /// In one module that holds so many, of which these.
    Stacked(String, usize, Range<usize>),
}

impl Source {
    fn first(&self) -> &str {
        self.at(0).0
    }

    /// The module of the matrix at this place, and which it is there of how many.
    fn at(&self, n: usize) -> (&str, Option<[usize; 2]>) {
        match self {
            Self::Each(modules) => (&modules[n], None),
            Self::Stacked(module, of, chosen) => (module, Some([chosen.start + n, *of])),
        }
    }
}
