//! Memory for some experts of a layer, stacked as MLX computes with them and written to in place.

use std::sync::Arc;

use mlx_rs::Array;
use mlx_rs::ops::indexing::take_axis;
use mlx_rs::ops::zeros_dtype;

use super::layout::{Header, Part, Parts, Source};
use super::products::Products;
use super::reader::{Place, Reader, Urgency, Waited};
use crate::checkpoint::{Bits, dims};
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
        let stack = |part: &Part| -> Result<Array> {
            let shape = [&[slots as i32], dims(&part.shape).as_slice()].concat();
            Ok(zeros_dtype(&shape, part.dtype.dtype())?)
        };
        let matrix =
            |of: &Parts| -> Result<Arrays> { Ok((of.arrays.iter().map(stack).collect::<Result<_>>()?, of.bits)) };
        Self::of([matrix(&header.gate_up)?, matrix(&header.down)?], slots)
    }

    /// Other memory of `slots` slots, in the first of which lies what `kept` slots hold.
    pub(super) fn moved(&self, kept: &[usize], slots: usize) -> Result<Self> {
        // The slots behind them hold anything.
        let from: Vec<u32> = kept.iter().map(|&s| s as u32).chain(std::iter::repeat(0)).take(slots).collect();
        let from = Array::from_slice(&from, &[slots as i32]);
        let matrix = |of: &Matrix| -> Result<Arrays> {
            let (arrays, bits) = of.arrays();
            Ok((arrays.into_iter().map(|array| Ok(take_axis(array, &from, 0)?)).collect::<Result<_>>()?, bits))
        };
        Self::of([matrix(&self.products.gate_up)?, matrix(&self.products.down)?], slots)
    }

    /// Of the arrays of the fused gate and up projections and of the down projection, which nobody else has.
    fn of(matrices: [Arrays; 2], slots: usize) -> Result<Self> {
        let mut parts = Vec::new();
        for array in matrices.iter().flat_map(|(arrays, _)| arrays) {
            array.eval()?;
            let start = start_of(array);
            if start.is_null() {
                return Err(Error::Mlx("memory for streamed experts is not reachable".to_owned()));
            }
            parts.push((start, array.nbytes() / slots));
        }
        let [gate_up, down] = matrices.map(|(arrays, bits)| Matrix::of_arrays(arrays, bits));
        Ok(Self { products: Products::new(gate_up?, down?), parts, slots })
    }

    /// The same, with every expert in the slot of its number.
    pub(super) fn filled(self, reader: &Reader, source: &Arc<dyn Source>) -> Result<Self> {
        let read = |slot| reader.read(source, slot, self.place(slot), Urgency::Demand);
        let tickets: Vec<_> = (0..self.slots).map(read).collect();
        let failure = tickets.iter().enumerate().find_map(|(expert, ticket)| match reader.wait(ticket, || false) {
            Waited::Ended(Ok(())) | Waited::Gone => None,
            Waited::Ended(Err(failure)) | Waited::Withdrawn(failure) | Waited::GivenUp(failure) => {
                Some(Error::Storage { path: source.path().to_owned(), expert, what: failure.0 })
            }
        });
        let Some(error) = failure else { return Ok(self) };
        // The others write into this memory: it goes when they have ended, and stays where one never does.
        if tickets.iter().filter(|ticket| !reader.part(ticket)).count() > 0 {
            std::mem::forget(self);
        }
        Err(error)
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

/// What [`Matrix::of_arrays`] takes.
type Arrays = (Vec<Array>, Option<Bits>);

/// Where the array's data lies. It was just made, so that it is contiguous and nobody else's.
#[allow(unsafe_code)]
fn start_of(array: &Array) -> *mut u8 {
    // SAFETY: the array is evaluated, and its memory lives as long as it does. On every back end this memory can be
    // reached from the CPU: main memory, unified memory on Apple silicon, managed memory under CUDA.
    unsafe { mlx_sys::mlx_array_data_uint8(array.as_ptr()).cast_mut() }
}
