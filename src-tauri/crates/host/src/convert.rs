//! A checkpoint quantized, where there is room for it and nobody else does the same.

use std::path::Path;

use mobile_engine::{Bits, Converted};
use mobile_models::{Quantization, Shape};

use crate::experts::PlaceError;
use crate::target::Target;

/// As [`mobile_engine::convert`]. `waiting` is told when another program writes a model beside `target`, which is waited
/// for.
///
/// # Errors
/// [`PlaceError`]; [`PlaceError::NoSpace`] before anything is written, or when others fill the disk meanwhile.
pub fn convert(
    source: &Path,
    target: &Path,
    bits: Bits,
    waiting: impl FnOnce(),
    progress: impl FnMut(usize, usize),
) -> Result<Converted, PlaceError> {
    let target = Target { folder: target, doing: "the conversion", elsewhere: "name a folder on another disk" };
    target.must_be_new()?;
    let _alone = target.alone(|| {
        waiting();
        Ok(())
    })?;
    target.must_be_new()?;
    if let Ok(shape) = Shape::open(&source.join("config.json")) {
        let quantization = Quantization { bits: bits.bits as u64, group_size: bits.group_size as u64 };
        target.must_hold(shape.bytes(Some(quantization)))?;
    }
    mobile_engine::convert(source, target.folder, bits, progress).map_err(|error| target.failed(error))
}
