//! Products of chosen experts that are not all in memory at the same time.

use std::collections::HashMap;

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::take_axis;
use mlx_rs::transforms::{async_eval, eval};

use super::numbers;
use super::products::{Products, SORT_FROM, rows_of, weighted};
use super::slots::Slots;
use crate::error::Result;

/// Products of one pass that are computed a few experts at a time.
pub(super) struct Waves<'a> {
    products: &'a Products,
    x: &'a Array,
    k: usize,
    /// By expert, the places in `chosen` where it was chosen.
    places: HashMap<usize, Vec<u32>>,
    outputs: Vec<Array>,
    /// Places in the order of the outputs' rows.
    order: Vec<u32>,
}

impl<'a> Waves<'a> {
    pub(super) fn new(products: &'a Products, x: &'a Array, chosen: &[usize], k: usize) -> Self {
        let mut places = HashMap::<usize, Vec<u32>>::new();
        for (place, &expert) in chosen.iter().enumerate() {
            places.entry(expert).or_default().push(place as u32);
        }
        Self { products, x, k, places, outputs: Vec::new(), order: Vec::new() }
    }

    pub(super) fn launched(&self) -> usize {
        self.outputs.len()
    }

    /// Starts to compute with `experts`, which are here, if there are any.
    pub(super) fn launch(&mut self, slots: &Slots, experts: &[usize]) -> Result<()> {
        let mut found: Vec<(usize, usize)> =
            experts.iter().filter_map(|&e| slots.find(e).map(|slot| (slot, e))).collect();
        found.sort_unstable();
        let (mut rows, mut slots) = (Vec::new(), Vec::new());
        for (slot, expert) in found {
            for &place in self.places.get(&expert).into_iter().flatten() {
                self.order.push(place);
                rows.push(place / self.k as u32);
                slots.push(slot as u32);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let n = rows.len() as i32;
        let x = rows_of(self.x, &numbers::array(&rows, &[n])?)?;
        let output = self.products.of(&x, &numbers::array(&slots, &[n])?, n >= SORT_FROM)?;
        async_eval([&output])?;
        self.outputs.push(output);
        Ok(())
    }

    /// Waits until the first `waves` waves are computed.
    pub(super) fn finish_first(&self, waves: usize) -> Result<()> {
        Ok(eval(&self.outputs[..waves])?)
    }

    pub(super) fn finish(&self) -> Result<()> {
        self.finish_first(self.outputs.len())
    }

    /// The weighted sums, added to `onto` of shape `[rows, hidden]`. Places never launched, of rows that have failed, get
    /// what another has.
    pub(super) fn collect(self, onto: &Array, k: usize, weights: &Array) -> Result<Array> {
        let outputs = concatenate(&self.outputs, 0)?;
        let mut place_of = vec![0_u32; onto.dim(0) as usize * k];
        for (at, &place) in self.order.iter().enumerate() {
            place_of[place as usize] = at as u32;
        }
        let back = numbers::array(&place_of, &[place_of.len() as i32])?;
        let outputs = take_axis(outputs.squeeze_axes(&[1])?, back, 0)?;
        weighted(&outputs.reshape(&[onto.dim(0), k as i32, -1])?, weights, onto)
    }
}
