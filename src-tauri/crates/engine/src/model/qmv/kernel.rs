//! The kernel's launch, through MLX's `cuda_kernel`.

use std::ffi::CStr;

use mlx_rs::error::Exception;
use mlx_rs::{Array, Stream};
use mlx_sys::{
    mlx_dtype__MLX_BFLOAT16 as BFLOAT16, mlx_fast_cuda_kernel, mlx_fast_cuda_kernel_config,
    mlx_fast_cuda_kernel_config_add_output_arg, mlx_fast_cuda_kernel_config_add_template_arg_bool,
    mlx_fast_cuda_kernel_config_add_template_arg_int, mlx_fast_cuda_kernel_config_set_grid,
    mlx_fast_cuda_kernel_config_set_thread_group,
};

use crate::device::cuda_capability;

/// Rows of a matrix that a block sums.
pub(super) const TILE: i32 = 16;

/// Warps of a block.
const WARPS: i32 = 2;

thread_local! {
    static KERNEL: Option<Kernel> = Kernel::new();
}

/// Whether the device has what the kernel asks for.
pub(super) fn is_there() -> bool {
    KERNEL.with(Option::is_some)
}

/// What the kernel does besides.
#[derive(Debug, Clone, Copy)]
pub(super) enum More<'a> {
    Nothing,
    /// Adds this, of as many values as its output.
    Added(&'a Array),
    /// Gives `silu(gate) * up` of the halves of its output times these, one for each row of it.
    Weights(&'a Array),
}

/// `x`, a stack of matrices as packed weights, scales and biases, and which of them, of shape `[rows, k]`, give `shape`,
/// whose first axis is that of the kernel's `y`.
///
/// # Errors
/// Where MLX refuses it.
pub(super) fn run(read: [&Array; 5], more: More<'_>, shape: &[i32]) -> Result<Array, Exception> {
    let made = KERNEL.with(|kernel| kernel.as_ref().and_then(|kernel| kernel.run(read, more, shape)));
    made.ok_or_else(|| Exception::custom("MLX refused it"))
}

struct Kernel(mlx_fast_cuda_kernel);

impl Kernel {
    /// `None` below compute capability 8.0, where tensor cores do not multiply bfloat16.
    #[allow(unsafe_code)]
    fn new() -> Option<Self> {
        if cuda_capability() < Some(8) {
            return None;
        }
        let strings = |of: &[&CStr]| {
            let mut pointers: Vec<_> = of.iter().map(|name| name.as_ptr()).collect();
            // SAFETY: MLX copies as many strings as there are, all of which end with a NUL.
            unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) }
        };
        let inputs = strings(&[c"x", c"weight", c"scales", c"biases", c"experts", c"more"]);
        let outputs = strings(&[c"y"]);
        // MLX hashes it in every launch, so it goes without what is for people.
        let lines = include_str!("kernel.cu").lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let source = lines.chain(["\0"]).collect::<Vec<_>>().join("\n");
        // SAFETY: the strings, `source` too, end with a NUL; MLX copies all that it is given, so that the lists are freed.
        unsafe {
            let (name, source, header) = (c"qmv".as_ptr(), source.as_ptr().cast(), c"".as_ptr());
            let kernel = mlx_sys::mlx_fast_cuda_kernel_new(name, inputs, outputs, source, header, true, 0);
            mlx_sys::mlx_vector_string_free(inputs);
            mlx_sys::mlx_vector_string_free(outputs);
            Some(Self(kernel))
        }
    }

    #[allow(unsafe_code)]
    fn run(&self, read: [&Array; 5], more: More<'_>, shape: &[i32]) -> Option<Array> {
        let unread = read[4];
        let (gated, added, more) = match more {
            More::Nothing => (false, false, unread),
            More::Added(onto) => (false, true, onto),
            More::Weights(weights) => (true, false, weights),
        };
        let blocks = read[1].dim(-2) / TILE;
        let arguments = read.into_iter().chain([more]).map(Array::as_ptr).collect::<Vec<_>>();
        let stream = Stream::thread_local_or_default();
        // SAFETY: all pointers live until MLX returns, which copies what it keeps; what is made here is freed here. What MLX
        // gives is owned by nobody else, and is an array whether it succeeded or not.
        let (status, product) = unsafe {
            let config = mlx_sys::mlx_fast_cuda_kernel_config_new();
            let status = configure(config, shape, [blocks * 32 * WARPS, shape[0]], gated, added);
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
        (status == 0).then_some(product)
    }
}

/// # Safety
/// `config` is a configuration.
#[allow(unsafe_code)]
unsafe fn configure(
    config: mlx_fast_cuda_kernel_config,
    shape: &[i32],
    [x, y]: [i32; 2],
    gated: bool,
    added: bool,
) -> i32 {
    // SAFETY: as the caller promises; MLX copies the shape and the names.
    unsafe {
        mlx_fast_cuda_kernel_config_add_output_arg(config, shape.as_ptr(), shape.len(), BFLOAT16)
            | mlx_fast_cuda_kernel_config_set_grid(config, x, y, 1)
            | mlx_fast_cuda_kernel_config_set_thread_group(config, 32 * WARPS, 1, 1)
            | mlx_fast_cuda_kernel_config_add_template_arg_int(config, c"WARPS".as_ptr(), WARPS)
            | mlx_fast_cuda_kernel_config_add_template_arg_bool(config, c"GATED".as_ptr(), gated)
            | mlx_fast_cuda_kernel_config_add_template_arg_bool(config, c"ADDED".as_ptr(), added)
    }
}

impl Drop for Kernel {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the kernel is used by nobody else.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_free(self.0) };
    }
}
