//! Products of one row with a matrix of 4 bits, and of a few rows with chosen experts, by a kernel of their own for CUDA.
//!
//! MLX's kernel reads such weights at a fifth of an H200's speed, which is most of a token where experts are large, as
//! Mixtral's. For weights in bfloat16 no kernel that was tried is faster than MLX's. Experts that are computed while others
//! still come from the disk, which takes far longer, are left to MLX as well.

mod kernel;

use std::cell::RefCell;

use mlx_rs::error::Exception;
use mlx_rs::transforms::compile::compile;
use mlx_rs::{Array, Dtype};

use self::kernel::{More, TILE, is_there, run};
use super::Matrix;
use crate::checkpoint::Bits;
use crate::device::on_cuda;
use crate::error::{Error, Result};

/// From this many weights of a matrix on; smaller ones were not tried.
const LARGE: usize = 1 << 20;

/// Up to this many chosen experts, for each of which its matrices are read anew. 256 is the most that was measured; from
/// 1024 on, OLMoE's experts in memory are unpacked for the pass.
const CHOSEN: usize = 1023;

/// `x Wᵀ + b`, added to `onto` where it is given: `[1, input]` to `[1, output]`. `None` where MLX is to do it.
pub(super) fn product(x: &Array, matrix: &Matrix, onto: Option<&Array>) -> Result<Option<Array>> {
    if x.dim(0) != 1 {
        return Ok(None);
    }
    let Some((read, bias)) = fitting(x, matrix) else { return Ok(None) };
    let more = match (bias, onto) {
        (Some(_), Some(_)) => return Ok(None),
        (one, other) => one.or(other),
    };
    if !more.is_none_or(|more| is_like(more, x.dtype(), outputs_of(read))) {
        return Ok(None);
    }
    let first = FIRST.with(Clone::clone);
    let arguments = [x].into_iter().chain(read).chain([&first]).chain(more).cloned().collect::<Vec<_>>();
    made(DENSE.with_borrow_mut(|dense| dense(&arguments)))
}

/// Weighted sums over chosen experts, added to `onto`: `x` and `onto` of shape `[rows, hidden]`, `experts` (uint32 places
/// in the stacks) and `weights` of shape `[rows, k]` give `[rows, hidden]`. `None` where MLX is to do it.
pub(crate) fn experts(
    x: &Array,
    onto: &Array,
    [gate_up, down]: [&Matrix; 2],
    experts: &Array,
    weights: &Array,
) -> Result<Option<Array>> {
    let few = experts.size() <= CHOSEN;
    let (true, Some((gate_up, None)), Some((down, None))) = (few, fitting(x, gate_up), fitting(x, down)) else {
        return Ok(None);
    };
    let sums = x.dim(0) as usize * outputs_of(down);
    if !is_like(onto, x.dtype(), sums) || !is_like(weights, x.dtype(), experts.size()) {
        return Ok(None);
    }
    let arguments = [x, onto, experts, weights].into_iter().chain(gate_up).chain(down).cloned().collect::<Vec<_>>();
    made(EXPERTS.with_borrow_mut(|experts| experts(&arguments)))
}

/// What a function of one output has computed. Errors of the kernel do not get through MLX's tracing.
fn made(computed: Computed) -> Result<Option<Array>> {
    let made = computed.map_err(|error| Error::Mlx(format!("no kernel for products of 4 bits: {error}")))?.pop();
    Ok(made)
}

fn is_like(array: &Array, dtype: Dtype, size: usize) -> bool {
    array.dtype() == dtype && array.size() == size
}

fn outputs_of([weight, ..]: [&Array; 3]) -> usize {
    weight.dim(-2) as usize
}

/// What the kernel reads of a matrix that is one for it, times `x`, and its bias.
fn fitting<'a>(x: &Array, matrix: &'a Matrix) -> Option<([&'a Array; 3], Option<&'a Array>)> {
    let Matrix::Quantized { weight, scales, biases, bits, bias } = matrix else { return None };
    let [outputs, inputs] = [weight.dim(-2), weight.dim(-1) * 8];
    let known = *bits == Bits::new(4) && [x, scales].iter().all(|array| array.dtype() == Dtype::Bfloat16);
    let fits = known && outputs % TILE == 0 && inputs % 128 == 0 && (outputs as usize * inputs as usize) >= LARGE;
    (fits && on_cuda() && is_there()).then_some(([weight, scales, biases], bias.as_ref()))
}

type Computed = std::result::Result<Vec<Array>, Exception>;
type Function = Box<dyn for<'a> FnMut(&'a [Array]) -> Computed>;

thread_local! {
    /// Where there is one matrix only.
    static FIRST: Array = Array::from_slice(&[0_u32], &[1, 1]);
    /// Compiled, because MLX puts the source of a kernel together in every call of its own, which takes the host longer
    /// than the launch; what it compiled it only launches. It keeps that by thread.
    static DENSE: RefCell<Function> = RefCell::new(Box::new(compile(dense, false)));
    static EXPERTS: RefCell<Function> = RefCell::new(Box::new(compile(gated_and_summed, false)));
}

/// The kernel's arguments, of which the last may be absent.
fn dense(arguments: &[Array]) -> Computed {
    let [x, weight, scales, biases, first, more @ ..] = arguments else { return Err(Exception::custom("no matrix")) };
    let more = more.first().map_or(More::Nothing, More::Added);
    Ok(vec![run([x, weight, scales, biases, first], more, &[1, weight.dim(-2)])?])
}

/// Up and down through the experts.
fn gated_and_summed(arguments: &[Array]) -> Computed {
    let [x, onto, experts, weights, gate_up, up_scales, up_biases, down, down_scales, down_biases] = arguments else {
        return Err(Exception::custom("no experts"));
    };
    let shape = [experts.size() as i32, gate_up.dim(-2) / 2];
    let hidden = run([x, gate_up, up_scales, up_biases, experts], More::Weights(weights), &shape)?;
    Ok(vec![run([&hidden, down, down_scales, down_biases, experts], More::Added(onto), onto.shape())?])
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops::{dequantize, matmul, quantize, sigmoid};
    use mlx_rs::random::normal;

    use super::*;

    fn random(shape: &[i32]) -> Array {
        let values = normal::<f32>(shape, None, None, None).expect("values");
        values.as_dtype(Dtype::Bfloat16).expect("bfloat16")
    }

    fn float(of: &Array) -> Array {
        of.as_dtype(Dtype::Float32).expect("float32")
    }

    fn at(of: &Array, place: u32) -> Array {
        float(&of.take_axis(Array::from_int(place as i32), 0).expect("a part"))
    }

    /// A stack of matrices at 4 bits, and what they unpack to, in float32.
    fn stack(shape: &[i32]) -> (Matrix, Array) {
        let (weight, scales, biases) = quantize(random(shape), 64, 4).expect("quantized");
        let unpacked = dequantize(&weight, float(&scales), &float(&biases), 64, 4).expect("unpacked");
        (Matrix::Quantized { weight, scales, biases, bits: Bits::new(4), bias: None }, unpacked)
    }

    fn times(x: &Array, matrix: &Array) -> Array {
        matmul(x, matrix.t()).expect("a product")
    }

    /// To what bfloat16 keeps, which is eight bits, of the largest.
    fn assert_close(made: &Array, wanted: &Array, name: &str) {
        let largest = |of: &Array| of.abs().and_then(|of| of.max(None)).expect("the largest").item_exact::<f32>();
        let lost = largest(&float(made).subtract(wanted).expect("compared"));
        assert!(lost <= largest(wanted) / 128.0, "{name}: {lost} of {}", largest(wanted));
    }

    fn has_kernel() -> bool {
        on_cuda() && is_there()
    }

    /// 4224 is no multiple of the 512 values of a step.
    #[test]
    fn products_of_single_rows_are_what_float32_gives_on_cuda_and_left_to_mlx_elsewhere() {
        let (matrix, unpacked) = stack(&[4096, 4224]);
        let (x, onto) = (random(&[1, 4224]), random(&[1, 4096]));
        let alone = times(&float(&x), &unpacked);
        let sum = alone.add(float(&onto)).expect("a sum");
        let biased = matrix.clone().with_bias(onto.reshape(&[-1]).expect("a bias"));
        for (matrix, onto, expected) in [(&matrix, None, &alone), (&matrix, Some(&onto), &sum), (&biased, None, &sum)] {
            let made = product(&x, matrix, onto).expect("no error");
            assert_eq!(made.is_some(), has_kernel());
            let Some(made) = made else { continue };
            assert_eq!(made.shape(), expected.shape());
            assert_close(&made, expected, &format!("{matrix:?} added to {onto:?}"));
        }
        assert!(product(&x, &biased, Some(&onto)).expect("no error").is_none(), "two sums");
        assert!(product(&x, &matrix, Some(&float(&onto))).expect("no error").is_none(), "float32");
        assert!(product(&x, &matrix, Some(&random(&[1, 1]))).expect("no error").is_none(), "to be broadcast");
        assert!(product(&random(&[2, 4224]), &matrix, None).expect("no error").is_none(), "two rows");
        let Matrix::Quantized { weight, scales, biases, bits, bias } = matrix else { unreachable!("packed") };
        let eight = Bits { bits: 8, ..bits };
        let matrix = Matrix::Quantized { weight, scales, biases, bits: eight, bias };
        assert!(product(&x, &matrix, None).expect("no error").is_none(), "8 bits");
        let small = stack(&[4096, 128]).0;
        assert!(product(&random(&[1, 128]), &small, None).expect("no error").is_none(), "a small matrix");
    }

    #[test]
    fn experts_of_some_rows_are_what_float32_gives_on_cuda_and_left_to_mlx_elsewhere() {
        let (hidden, intermediate) = (4096, 4224);
        let ((gate_up, of_gate_up), (down, of_down)) =
            (stack(&[3, 2 * intermediate, hidden]), stack(&[3, hidden, intermediate]));
        let (x, onto) = (random(&[3, hidden]), random(&[3, hidden]));
        for (chosen, k) in [(&[2_u32, 0, 1, 2, 0, 1][..], 2), (&[1, 1, 2], 1)] {
            let places = Array::from_slice(chosen, &[3, k]);
            let weights = random(&[3, k]);
            let made = experts(&x, &onto, [&gate_up, &down], &places, &weights).expect("no error");
            assert_eq!(made.is_some(), has_kernel());
            let Some(made) = made else { continue };
            assert_eq!(made.shape(), onto.shape());
            let flat = weights.reshape(&[-1, 1]).expect("flat");
            for row in 0..3 {
                let x = at(&x, row).reshape(&[1, -1]).expect("a row");
                let mut expected = at(&onto, row);
                for slot in row * k as u32..(row + 1) * k as u32 {
                    let expert = chosen[slot as usize];
                    let halves = times(&x, &at(&of_gate_up, expert)).split_equal(2, -1).expect("gate and up");
                    let gate = halves[0].multiply(sigmoid(&halves[0]).expect("a sigmoid")).expect("a gate");
                    let hidden = gate.multiply(&halves[1]).and_then(|h| h.multiply(at(&flat, slot))).expect("hidden");
                    expected = expected.add(times(&hidden, &at(&of_down, expert))).expect("a sum");
                }
                assert_close(&at(&made, row), &expected.reshape(&[-1]).expect("a row"), &format!("row {row} of k {k}"));
            }
        }
    }
}
