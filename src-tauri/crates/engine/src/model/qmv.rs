//! Products of single rows with large matrices of 4 bits on CUDA, by a kernel of their own.
//!
//! MLX's kernel reads such weights at a fifth of an H200's speed, which is most of a token where experts are large, as
//! Mixtral's. Small products are left to MLX: they wait for the host, for which MLX puts the source of a kernel of one's own
//! together in every call. With bfloat16 no kernel that was tried is faster than MLX's.

use std::ffi::CStr;

use mlx_rs::{Array, Dtype, Stream};
use mlx_sys::{
    mlx_dtype__MLX_BFLOAT16 as BFLOAT16, mlx_fast_cuda_kernel, mlx_fast_cuda_kernel_config,
    mlx_fast_cuda_kernel_config_add_output_arg, mlx_fast_cuda_kernel_config_add_template_arg_bool,
    mlx_fast_cuda_kernel_config_add_template_arg_int, mlx_fast_cuda_kernel_config_set_grid,
    mlx_fast_cuda_kernel_config_set_thread_group,
};

use crate::checkpoint::Bits;
use crate::device::on_cuda;
use crate::error::{Error, Result};

/// From this many weights of a matrix on.
const LARGE: i32 = 1 << 24;

/// Up to this many rows, each of which reads its matrix anew.
const ROWS: usize = 63;

/// Warps of a block.
const WARPS: i32 = 4;

/// Which rows of the input meet which matrices of a stack: uint32 of one shape. Without `inputs` row n meets the n-th.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub(super) inputs: Option<&'a Array>,
    pub(super) experts: &'a Array,
}

/// A matrix, or a stack of them, packed by MLX.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) weight: &'a Array,
    pub(super) scales: &'a Array,
    pub(super) biases: &'a Array,
    pub(super) bits: Bits,
}

/// `x Wᵀ` of `x` with the shape `[1, input]`, or of `[.., 1, input]` with the chosen of a stack, which gives
/// `[chosen.., 1, output]`. `None` where MLX is to do it.
pub(super) fn product(x: &Array, matrix: Packed<'_>, chosen: Option<Chosen<'_>>) -> Result<Option<Array>> {
    let Packed { weight, scales, biases, bits } = matrix;
    let rows = chosen.map_or(1, |chosen| chosen.experts.size());
    let [outputs, inputs] = [weight.dim(-2), weight.dim(-1) * 8];
    let each = outputs_of_a_warp(outputs, rows);
    let known = bits == Bits::new(4) && [x, scales].iter().all(|array| array.dtype() == Dtype::Bfloat16);
    let fits = known && x.dim(-2) == 1 && rows <= ROWS && outputs % (each * WARPS) == 0;
    if !fits || LARGE / inputs > outputs || !on_cuda() {
        return Ok(None);
    }
    let mut shape = chosen.map_or_else(Vec::new, |chosen| chosen.experts.shape().to_vec());
    shape.extend([1, outputs]);
    let run = |experts: &Array, inputs: Option<&Array>| {
        let arguments = [x, weight, scales, biases, experts, inputs.unwrap_or(experts)];
        KERNEL.with(|kernel| kernel.run(arguments, &shape, rows, each, inputs.is_none()))
    };
    match chosen {
        Some(Chosen { inputs, experts }) => run(experts, inputs),
        None => FIRST.with(|first| run(first, None)),
    }
    .map(Some)
}

/// More share the loads of the input, fewer keep more of the device busy.
fn outputs_of_a_warp(outputs: i32, rows: usize) -> i32 {
    if outputs as usize * rows >= 8192 { 4 } else { 2 }
}

thread_local! {
    static KERNEL: Kernel = Kernel::new();
    /// Where there is one matrix only.
    static FIRST: Array = Array::from_slice(&[0_u32], &[1]);
}

const SOURCE: &str = concat!(include_str!("qmv.cu"), "\0");

struct Kernel(mlx_fast_cuda_kernel);

impl Kernel {
    #[allow(unsafe_code)]
    fn new() -> Self {
        let strings = |of: &[&CStr]| {
            let mut pointers: Vec<_> = of.iter().map(|name| name.as_ptr()).collect();
            // SAFETY: MLX copies as many strings as there are, all of which end with a NUL.
            unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) }
        };
        let inputs = strings(&[c"x", c"weight", c"scales", c"biases", c"experts", c"inputs"]);
        let outputs = strings(&[c"y"]);
        // SAFETY: the strings, `SOURCE` too, end with a NUL; MLX copies all that it is given, so that the lists are freed.
        unsafe {
            let (name, source, header) = (c"qmv".as_ptr(), SOURCE.as_ptr().cast(), c"".as_ptr());
            let kernel = mlx_sys::mlx_fast_cuda_kernel_new(name, inputs, outputs, source, header, true, 0);
            mlx_sys::mlx_vector_string_free(inputs);
            mlx_sys::mlx_vector_string_free(outputs);
            Self(kernel)
        }
    }

    /// Each warp sums `each` of the last axis of `shape` for one of `rows`. `counted`: the last of the arguments is not read,
    /// because the rows of the input count up.
    #[allow(unsafe_code)]
    fn run(&self, arguments: [&Array; 6], shape: &[i32], rows: usize, each: i32, counted: bool) -> Result<Array> {
        let outputs = shape[shape.len() - 1];
        let arguments = arguments.map(Array::as_ptr);
        let stream = Stream::thread_local_or_default();
        // SAFETY: all pointers live until MLX returns, which copies what it keeps; what is made here is freed here. What MLX
        // gives is owned by nobody else, and is an array whether it succeeded or not.
        let (status, product) = unsafe {
            let config = mlx_sys::mlx_fast_cuda_kernel_config_new();
            let status = configure(config, shape, [outputs / each * 32, rows as i32], each, counted);
            let arguments = mlx_sys::mlx_vector_array_new_data(arguments.as_ptr(), arguments.len());
            let (mut products, mut product) = (mlx_sys::mlx_vector_array_new(), mlx_sys::mlx_array_new());
            let mut status =
                status | mlx_sys::mlx_fast_cuda_kernel_apply(&mut products, self.0, arguments, config, stream.as_ptr());
            if status == 0 {
                status = mlx_sys::mlx_vector_array_get(&mut product, products, 0);
            }
            mlx_sys::mlx_vector_array_free(products);
            mlx_sys::mlx_vector_array_free(arguments);
            mlx_sys::mlx_fast_cuda_kernel_config_free(config);
            (status, Array::from_ptr(product))
        };
        if status == 0 { Ok(product) } else { Err(Error::Mlx(format!("no kernel for a product of {shape:?}"))) }
    }
}

/// # Safety
/// `config` is a configuration.
#[allow(unsafe_code)]
unsafe fn configure(
    config: mlx_fast_cuda_kernel_config,
    shape: &[i32],
    [x, y]: [i32; 2],
    each: i32,
    counted: bool,
) -> i32 {
    let [r, warps, counts] = [c"R", c"WARPS", c"COUNTED"].map(CStr::as_ptr);
    // SAFETY: as the caller promises; MLX copies the shape and the names.
    unsafe {
        mlx_fast_cuda_kernel_config_add_output_arg(config, shape.as_ptr(), shape.len(), BFLOAT16)
            | mlx_fast_cuda_kernel_config_set_grid(config, x, y, 1)
            | mlx_fast_cuda_kernel_config_set_thread_group(config, 32 * WARPS, 1, 1)
            | mlx_fast_cuda_kernel_config_add_template_arg_int(config, r, each)
            | mlx_fast_cuda_kernel_config_add_template_arg_int(config, warps, WARPS)
            | mlx_fast_cuda_kernel_config_add_template_arg_bool(config, counts, counted)
    }
}

impl Drop for Kernel {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the kernel is used by nobody else.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_free(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops::{dequantize, matmul, quantize};
    use mlx_rs::random::normal;

    use super::*;

    fn random(shape: &[i32]) -> Array {
        let values = normal::<f32>(shape, None, None, None).expect("values");
        values.as_dtype(Dtype::Bfloat16).expect("bfloat16")
    }

    fn row(of: &Array, at: u32) -> Array {
        of.take_axis(Array::from_int(at as i32), 0).expect("a row").as_dtype(Dtype::Float32).expect("float32")
    }

    /// With more outputs a warp sums four of them, with fewer two.
    #[test]
    fn large_products_of_single_rows_are_what_float32_gives_on_cuda_and_left_to_mlx_elsewhere() {
        for shape in [[8192, 2112], [4096, 4160]] {
            assert_products(shape);
        }
    }

    fn assert_products([outputs, inputs]: [i32; 2]) {
        let (weight, scales, biases) = quantize(random(&[3, outputs, inputs]), 64, 4).expect("quantized");
        let packed = |bits| Packed { weight: &weight, scales: &scales, biases: &biases, bits };
        let x = random(&[3, 1, inputs]);
        let (experts, named) = (Array::from_slice(&[2_u32, 0, 1], &[3]), Array::from_slice(&[1_u32, 1, 0], &[3]));
        let counted = Chosen { inputs: None, experts: &experts };
        let named = Chosen { inputs: Some(&named), experts: &experts };
        assert!(product(&x, packed(Bits::new(8)), Some(counted)).expect("no error").is_none());
        let cases = [(Some(counted), vec![(0, 2), (1, 0), (2, 1)]), (Some(named), vec![(1, 2), (1, 0), (0, 1)])];
        for (chosen, expected) in cases.into_iter().chain([(None, vec![(0, 0)])]) {
            let made = product(&x, packed(Bits::new(4)), chosen).expect("no error");
            assert_eq!(made.is_some(), on_cuda());
            let Some(made) = made else { continue };
            assert_eq!(made.shape().last(), Some(&outputs));
            let made = made.reshape(&[-1, outputs]).expect("rows");
            assert_eq!(made.dim(0) as usize, expected.len());
            let [scales, biases] = [&scales, &biases].map(|a| a.as_dtype(Dtype::Float32).expect("float32"));
            let weights = dequantize(&weight, &scales, &biases, 64, 4).expect("unpacked");
            for (at, (input, expert)) in expected.into_iter().enumerate() {
                let wanted = matmul(row(&x, input), row(&weights, expert).t()).expect("a product");
                let lost = row(&made, at as u32).subtract(&wanted).and_then(|lost| lost.abs()?.max(None));
                let lost = lost.expect("compared").item_exact::<f32>();
                // bfloat16 keeps eight bits of sums of up to 512.
                assert!(lost <= 1.01, "row {at} of {chosen:?}: {lost}");
            }
        }
    }
}
