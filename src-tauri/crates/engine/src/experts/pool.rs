//! Memory for some experts of a layer, stacked as MLX computes with them and written to in place.

use std::sync::Arc;
use std::time::Duration;

use mlx_rs::Array;
use mlx_rs::ops::zeros_dtype;
use mobile_files::FromFile as _;

use super::layout::{Header, Parts, Source};
use super::products::Products;
use super::reader::{Place, Reader, Urgency};
use crate::checkpoint::dims;
use crate::error::{Error, Result};
use crate::model::Matrix;

/// Slots for experts. Every slot is written by a read and computed with afterwards, never both at once: a pass has
/// evaluated everything that came before when it reads the router's choice back, and its own slots are kept.
#[derive(Debug)]
pub(crate) struct Pool {
    products: Products,
    /// For each part of an expert, where slot 0 begins and how long a slot is.
    parts: Vec<(*mut u8, usize)>,
    slots: usize,
}

impl Pool {
    /// Memory for `slots` experts of the layer that `header` describes.
    pub(crate) fn new(header: &Header, slots: usize) -> Result<Self> {
        let mut parts = Vec::new();
        let mut matrix = |of: &Parts| -> Result<Matrix> {
            let arrays = of
                .arrays
                .iter()
                .map(|part| {
                    let array =
                        zeros_dtype(&[&[slots as i32], dims(&part.shape).as_slice()].concat(), part.dtype.dtype())?;
                    array.eval()?;
                    parts.push((start_of(&array), part.bytes()));
                    Ok(array)
                })
                .collect::<Result<Vec<_>>>()?;
            Matrix::of_arrays(arrays, of.bits)
        };
        let products = Products { gate_up: matrix(&header.gate_up)?, down: matrix(&header.down)? };
        if parts.iter().any(|(start, _)| start.is_null()) {
            return Err(Error::Mlx("memory for streamed experts is not reachable".to_owned()));
        }
        Ok(Self { products, parts, slots })
    }

    /// Reads every expert into the slot of its number.
    pub(super) fn fill(&self, reader: &Reader, source: &Arc<dyn Source>, patience: Duration) -> Result<()> {
        let read = |slot| reader.read(source, slot, self.place(slot), Urgency::Demand);
        let tickets: Vec<_> = (0..self.slots).map(read).collect();
        // All are waited for, also after a failure: they write into this memory.
        let ends: Vec<_> = tickets.iter().map(|ticket| ticket.wait(patience)).collect();
        for (expert, end) in ends.into_iter().enumerate() {
            let failure = match end {
                Some(Ok(())) => continue,
                Some(Err(failure)) => failure.0,
                None => "the storage does not answer".to_owned(),
            };
            return Err(Error::weights(source.path(), format!("expert {expert} could not be read: {failure}")));
        }
        Ok(())
    }

    /// The pieces of a slot.
    pub(super) fn place(&self, slot: usize) -> Place {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let piece = |&(start, length): &(*mut u8, usize)| (start.wrapping_add(slot * length), length);
        Place(self.parts.iter().map(piece).collect())
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn products(&self) -> &Products {
        &self.products
    }

    pub(super) fn into_products(self) -> Products {
        self.products
    }

    pub(super) fn expert_bytes(&self) -> u64 {
        self.parts.iter().map(|&(_, length)| length as u64).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.products.bytes()
    }
}

/// Where the array's data lies. It was just made, so that it is contiguous and nobody else's.
#[allow(unsafe_code)]
fn start_of(array: &Array) -> *mut u8 {
    // SAFETY: the array is evaluated, and its memory lives as long as it does. On every back end this memory can be
    // reached from the CPU: main memory, unified memory on Apple silicon, managed memory under CUDA.
    unsafe { mlx_sys::mlx_array_data_uint8(array.as_ptr()).cast_mut() }
}
