//! Numbers of experts, slots and rows on their way between host and device.

use mlx_rs::{Array, Dtype};

use crate::device::on_cuda;
use crate::error::Result;

/// Bytes up to which MLX on CUDA keeps an array where host and card both reach it. A larger one is moved to other memory
/// when it is read, and page by page when it is used again.
const SHARED: usize = 8;

/// `numbers` (uint32, all below `end`), still to be computed, as [`read`] takes them.
pub(super) fn readable(numbers: &Array, end: usize) -> Result<Array> {
    if on_cuda() && numbers.size() <= SHARED && end <= 256 {
        return Ok(numbers.as_dtype(Dtype::Uint8)?);
    }
    Ok(numbers.contiguous()?)
}

/// Numbers that have been computed.
pub(super) fn read(numbers: &Array) -> Result<Vec<usize>> {
    Ok(match numbers.dtype() {
        Dtype::Uint8 => numbers.try_as_slice::<u8>()?.iter().map(|&n| n.into()).collect(),
        _ => numbers.try_as_slice::<u32>()?.iter().map(|&n| n as usize).collect(),
    })
}

/// An array (uint32) of `numbers`.
pub(super) fn array(numbers: &[u32], shape: &[i32]) -> Result<Array> {
    if on_cuda() && numbers.len() <= SHARED {
        let narrow: Option<Vec<u8>> = numbers.iter().map(|&n| n.try_into().ok()).collect();
        if let Some(narrow) = narrow {
            return Ok(Array::from_slice(&narrow, shape).as_dtype(Dtype::Uint32)?);
        }
    }
    Ok(Array::from_slice(numbers, shape))
}
