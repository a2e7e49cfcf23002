//! A weight matrix, dense or quantized, and the products the model takes with it.

use mlx_rs::ops::{self, addmm, arange, concatenate, dequantize, gather_mm, gather_qmm, ones_dtype, quantized_matmul};
use mlx_rs::{Array, Dtype};

use super::qmv;
use crate::checkpoint::Bits;
use crate::device::{on_cpu, on_cuda};
use crate::error::{Error, Result};

/// From this many rows on, quantized weights are unpacked once for all of them on a CPU and on CUDA; MLX's products there
/// unpack them again and again.
const UNPACK_FROM: i32 = 64;

/// Quantized weights of up to this many values are unpacked at load on a CPU (8 MB in float32), where a product of one row
/// takes MLX twice as long with them as with floats laid out for it.
const UNPACK_TO: usize = 1 << 21;

/// Weights of shape `[output, input]`, or `[experts, output, input]` when stacked.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    Dense {
        weight: Array,
        /// The same with the last two axes exchanged. A view that is made once, not in every product.
        transposed: Array,
        bias: Option<Array>,
    },
    /// Affine quantization as in MLX: `weight` packs `32 / bits` values to a word.
    Quantized { weight: Array, scales: Array, biases: Array, bits: Bits, bias: Option<Array> },
}

impl Matrix {
    /// Without quantization.
    pub(crate) fn dense(weight: Array, bias: Option<Array>) -> Result<Self> {
        Ok(Self::Dense { transposed: weight.swap_axes(-1, -2)?, weight, bias })
    }

    /// Joins matrices without biases along their outputs. Parts quantized to different bits are dequantized first.
    pub(crate) fn concatenated(mut parts: Vec<Self>) -> Result<Self> {
        let uniform = parts.windows(2).all(|w| w[0].bits() == w[1].bits());
        if !uniform {
            parts = parts.iter().map(Self::unpacked).collect::<Result<_>>()?;
        }
        let join = |n: usize| -> Result<Array> {
            let joined = concatenate(&parts.iter().map(|part| part.arrays().0[n]).collect::<Vec<_>>(), -2)?;
            joined.eval()?;
            Ok(joined)
        };
        let joined = (0..parts[0].arrays().0.len()).map(join).collect::<Result<_>>()?;
        Self::of_arrays(joined, parts[0].bits())
    }

    /// The same, with a bias for all its outputs.
    pub(crate) fn with_bias(mut self, added: Array) -> Self {
        match &mut self {
            Self::Dense { bias, .. } | Self::Quantized { bias, .. } => *bias = Some(added),
        }
        self
    }

    /// The same matrix, laid out as [`Matrix::forward`] reads it fastest: on a CPU, what comes with MLX for Linux multiplies
    /// along the rows of a transpose twice as fast as down its columns, and small matrices are not worth packing.
    pub(crate) fn laid_out(self) -> Result<Self> {
        match self {
            Self::Quantized { ref scales, ref bias, bits, .. }
                if on_cpu()
                    && scales.dtype() == Dtype::Float32
                    && scales.size() * bits.group_size as usize <= UNPACK_TO =>
            {
                // Row by row, because unpacking at once takes several times the memory for a moment.
                let all = arange::<_, u32>(None, scales.dim(0), None)?;
                Self::dense(self.rows(&all)?, bias.clone())?.laid_out()
            }
            Self::Dense { transposed, bias, .. } if on_cpu() => {
                let transposed = transposed.contiguous()?;
                transposed.eval()?;
                Ok(Self::Dense { weight: transposed.swap_axes(-1, -2)?, transposed, bias })
            }
            other => Ok(other),
        }
    }

    /// From a weight, or from a packed weight, its scales and its biases.
    pub(crate) fn of_arrays(arrays: Vec<Array>, bits: Option<Bits>) -> Result<Self> {
        let found = arrays.len();
        let mut arrays = arrays.into_iter();
        match (arrays.next(), arrays.next(), arrays.next(), bits) {
            (Some(weight), None, None, None) => Self::dense(weight, None),
            (Some(weight), Some(scales), Some(biases), Some(bits)) if found == 3 => {
                Ok(Self::Quantized { weight, scales, biases, bits, bias: None })
            }
            _ => Err(Error::Mlx(format!("a matrix of {found} arrays"))),
        }
    }

    /// What [`Matrix::of_arrays`] takes. A bias is left out.
    pub(crate) fn arrays(&self) -> (Vec<&Array>, Option<Bits>) {
        match self {
            Self::Dense { weight, .. } => (vec![weight], None),
            Self::Quantized { weight, scales, biases, bits, .. } => (vec![weight, scales, biases], Some(*bits)),
        }
    }

    fn weight(&self) -> &Array {
        match self {
            Self::Dense { weight, .. } | Self::Quantized { weight, .. } => weight,
        }
    }

    fn bits(&self) -> Option<Bits> {
        match self {
            Self::Dense { .. } => None,
            Self::Quantized { bits, .. } => Some(*bits),
        }
    }

    /// The same without quantization.
    pub(crate) fn unpacked(&self) -> Result<Self> {
        match self {
            Self::Quantized { weight, scales, biases, bits, bias } => {
                Self::dense(dequantize(weight, scales, biases, bits.group_size, bits.bits)?, bias.clone())
            }
            dense @ Self::Dense { .. } => Ok(dense.clone()),
        }
    }

    /// `x Wᵀ + b`: shape `[rows, input]` to `[rows, output]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense { transposed, bias: None, .. } => Ok(ops::matmul(x, transposed)?),
            Self::Dense { transposed, bias: Some(bias), .. } => Ok(addmm(bias, x, transposed, None, None)?),
            Self::Quantized { .. } if x.dim(0) >= UNPACK_FROM && on_cuda() => self.unpacked()?.forward(x),
            Self::Quantized { weight, scales, biases, bits, bias } => {
                if let Some(product) = qmv::product(x, self, None)? {
                    return Ok(product);
                }
                let product = if x.dim(0) >= UNPACK_FROM && on_cpu() {
                    let weight = dequantize(weight, scales, biases, bits.group_size, bits.bits)?;
                    ops::matmul(weight, x.t().contiguous()?)?.t().contiguous()?
                } else {
                    quantized_matmul(x, weight, scales, biases, true, bits.group_size, bits.bits)?
                };
                Ok(match bias {
                    Some(bias) => product.add(bias)?,
                    None => product,
                })
            }
        }
    }

    /// As [`Matrix::forward`], added to `onto`: in the product, but where MLX multiplies on CUDA. There a product with a sum
    /// goes to cuBLASLt, which costs the host more than an operation, and one without need not.
    pub(crate) fn forward_onto(&self, x: &Array, onto: &Array) -> Result<Array> {
        match self {
            Self::Dense { transposed, bias: None, .. } if !on_cuda() => Ok(addmm(onto, x, transposed, None, None)?),
            _ => match qmv::product(x, self, Some(onto))? {
                Some(sum) => Ok(sum),
                None => Ok(onto.add(self.forward(x)?)?),
            },
        }
    }

    /// Row-wise products with chosen experts: `x` of shape `[.., rows, input]` and `experts` (uint32) that
    /// broadcast over the leading axes give `[.., rows, output]`. `inputs` (uint32) counts up over the leading axes of `x`;
    /// MLX makes it anew, with a launch, where it is not given. `sorted`: the ids ascend.
    pub(crate) fn gather(&self, x: &Array, inputs: Option<&Array>, experts: &Array, sorted: bool) -> Result<Array> {
        Ok(match self {
            Self::Dense { transposed, .. } => gather_mm(x, transposed, inputs, experts, sorted)?,
            Self::Quantized { weight, scales, biases, bits, .. } => {
                let Bits { bits, group_size } = *bits;
                gather_qmm(x, weight, scales, biases, inputs, experts, true, group_size, bits, sorted)?
            }
        })
    }

    /// Rows of the matrix, as an embedding looks them up: ids of shape `[n]` to `[n, input]`.
    pub(crate) fn rows(&self, ids: &Array) -> Result<Array> {
        Ok(match self {
            Self::Dense { weight, .. } => weight.take_axis(ids, 0)?,
            // The product of 1 with a row, which is one operation; unpacking is twenty on a CPU.
            Self::Quantized { weight, scales, biases, bits, .. } if on_cpu() => {
                // Reshaped, not expanded: to MLX, the strides of an expanded axis are not those of a matrix, and it would
                // copy the whole table for every token.
                let rows = |a: &Array| a.reshape(&[a.dim(0), 1, -1]);
                let (weight, scales, biases) = (rows(weight)?, rows(scales)?, rows(biases)?);
                let one = ones_dtype(&[ids.dim(0), 1, 1], scales.dtype())?;
                gather_qmm(one, weight, scales, &biases, None, ids, false, bits.group_size, bits.bits, false)?
                    .squeeze_axes(&[1])?
            }
            Self::Quantized { weight, scales, biases, bits, .. } => dequantize(
                weight.take_axis(ids, 0)?,
                scales.take_axis(ids, 0)?,
                &biases.take_axis(ids, 0)?,
                bits.group_size,
                bits.bits,
            )?,
        })
    }

    /// How many matrices are stacked.
    pub(crate) fn stacked(&self) -> usize {
        self.weight().dim(0).unsigned_abs() as usize
    }

    /// Bytes the arrays hold.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Dense { weight, bias, .. } => weight.nbytes() + bias.as_ref().map_or(0, Array::nbytes),
            Self::Quantized { weight, scales, biases, bias, .. } => {
                weight.nbytes() + scales.nbytes() + biases.nbytes() + bias.as_ref().map_or(0, Array::nbytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops::quantize;

    use super::*;

    /// Weights in -1..1 that follow no pattern of the groups, at 4 bits, with a bias.
    fn quantized(output: i32, input: i32) -> Matrix {
        let bits = Bits::new(4);
        let waves = |n: i32, step: f32| Array::from_iter((0..n).map(|i| (i as f32 * step).sin()), &[n]);
        let weight = waves(output * input, 0.7).reshape(&[output, input]).expect("as many values");
        let (weight, scales, biases) = quantize(weight, bits.group_size, bits.bits).expect("quantized");
        Matrix::Quantized { weight, scales, biases, bits, bias: Some(waves(output, 0.3)) }
    }

    fn assert_close(a: &Array, b: &Array) {
        let close = a.all_close(b, 1e-4, 1e-4, None).expect("compared");
        assert!(close, "{a:?}\nis not\n{b:?}");
    }

    #[test]
    fn packed_weights_give_what_they_unpack_to_however_many_rows_there_are() {
        let packed = quantized(96, 128);
        let dense = packed.unpacked().expect("unpacked");
        for rows in [1, UNPACK_FROM - 1, UNPACK_FROM, UNPACK_FROM + 1] {
            let x = Array::from_iter((0..rows * 128).map(|i| (i as f32 * 0.11).cos()), &[rows, 128]);
            let forward = |matrix: &Matrix| matrix.forward(&x).expect("a product");
            assert_close(&forward(&packed), &forward(&dense));
            let onto = Array::from_slice(&[2.0_f32], &[1, 1]);
            let sum = packed.forward_onto(&x, &onto).expect("a sum");
            assert_close(&sum, &forward(&dense).add(onto).expect("a sum"));
        }
    }

    #[test]
    fn small_weights_are_unpacked_at_load_where_a_cpu_computes() {
        let packed = quantized(96, 128);
        let x = Array::from_iter((0..128).map(|i| (i as f32 * 0.11).cos()), &[1, 128]);
        let before = packed.forward(&x).expect("a product");
        let laid_out = packed.laid_out().expect("laid out");
        assert_eq!(laid_out.bits().is_none(), on_cpu());
        assert_close(&laid_out.forward(&x).expect("a product"), &before);
        let large = quantized(2048, 1088).laid_out().expect("laid out");
        assert!(large.bits().is_some(), "a large matrix stays as it is");
    }
}
