//! The products of chosen experts, over a stack of experts in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlx_rs::Array;
use mlx_rs::ops::indexing::take_axis;
use mlx_rs::ops::{addmm, argsort, floor_divide};

use crate::device::on_cuda;
use crate::error::Result;
use crate::model::{Matrix, qmv, swiglu, weighted_swiglu};

/// From this many products on, MLX gets rows that are sorted by expert, so that each expert's weights are read once.
pub(super) const SORT_FROM: i32 = 64;

/// Gate and up projections fused, and the down projection, of a stack of experts.
#[derive(Debug)]
pub(super) struct Products {
    pub(super) gate_up: Matrix,
    pub(super) down: Matrix,
    numbers: RefCell<BTreeMap<[i32; 2], Numbers>>,
}

/// What the two products of `[rows, k]` chosen experts read, uint32 of shape `[rows, k]`: rows of the input, and rows of
/// what the first gives. MLX makes and broadcasts them anew where they are not given.
#[derive(Debug, Clone)]
struct Numbers {
    inputs: Array,
    hidden: Array,
}

impl Products {
    pub(super) fn new(gate_up: Matrix, down: Matrix) -> Self {
        Self { gate_up, down, numbers: RefCell::default() }
    }

    /// Weighted sums over the chosen, added to `onto`: `x` and `onto` of shape `[rows, hidden]`, `experts` (uint32
    /// places in the stack) and `weights` of shape `[rows, k]` give `[rows, hidden]`.
    pub(super) fn forward(&self, x: &Array, onto: &Array, experts: &Array, weights: &Array) -> Result<Array> {
        let (rows, k) = (x.dim(0), experts.dim(1));
        if let Some(sums) = qmv::experts(x, onto, [&self.gate_up, &self.down], experts, weights)? {
            return Ok(sums);
        }
        let outputs = if rows * k >= SORT_FROM {
            self.sorted(x, experts, k)?
        } else {
            let Numbers { inputs, hidden } = self.numbers(rows, k);
            let gate_up = self.gate_up.gather(&x.expand_dims(1)?, Some(&inputs), experts, false)?;
            if on_cuda() {
                // As `Matrix::forward_onto`: no product with a sum.
                let outputs = weighted_swiglu(&gate_up, &weights.expand_dims_axes(&[2, 3])?)?;
                let outputs = self.down.gather(&outputs, Some(&hidden), experts, false)?;
                return Ok(onto.add(outputs.sum_axes(&[1, 2], false)?)?);
            }
            self.down.gather(&swiglu(&gate_up)?, Some(&hidden), experts, false)?.squeeze_axes(&[2])?
        };
        weighted(&outputs, weights, onto)
    }

    fn numbers(&self, rows: i32, k: i32) -> Numbers {
        let made =
            |pick: fn(u32, u32) -> u32| Array::from_iter((0..(rows * k) as u32).map(|n| pick(n, k as u32)), &[rows, k]);
        let mut known = self.numbers.borrow_mut();
        let make = || Numbers { inputs: made(|n, k| n / k), hidden: made(|n, _| n) };
        known.entry([rows, k]).or_insert_with(make).clone()
    }

    /// As one product per (row, expert), in the order of the experts; gives `[rows, k, hidden]`.
    fn sorted(&self, x: &Array, experts: &Array, k: i32) -> Result<Array> {
        let rows = x.dim(0);
        let flat = experts.reshape(&[-1])?;
        let order = argsort(&flat)?;
        let inputs = rows_of(x, &floor_divide(&order, Array::from_int(k).as_type::<u32>()?)?)?;
        let outputs = self.of(&inputs, &take_axis(&flat, &order, 0)?, true)?.squeeze_axes(&[1])?;
        Ok(take_axis(outputs, argsort(&order)?, 0)?.reshape(&[rows, k, -1])?)
    }

    /// `x` of shape `[n, 1, hidden]`, each row through its expert, to the same. `sorted`: the experts ascend.
    pub(super) fn of(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        let hidden = swiglu(&self.gate_up.gather(x, None, experts, sorted)?)?;
        self.down.gather(&hidden, None, experts, sorted)
    }

    pub(super) fn experts(&self) -> usize {
        self.down.stacked()
    }

    /// The same without quantization. The larger weights are made when they are computed with, and gone afterwards.
    pub(super) fn unpacked(&self) -> Result<Self> {
        Ok(Self::new(self.gate_up.unpacked()?, self.down.unpacked()?))
    }

    pub(super) fn bytes(&self) -> usize {
        self.gate_up.bytes() + self.down.bytes()
    }
}

/// The rows of `x`, `[rows, hidden]`, that `indices` (uint32) name, as `[indices, 1, hidden]`.
///
/// They are copied in that shape. Sorted products on Metal and CUDA step from row to row by the stride of the middle
/// axis, which is 1 where that axis was inserted afterwards, and would read other numbers without a word
/// (<https://github.com/ml-explore/mlx/issues/4253>, in MLX up to 0.32).
pub(super) fn rows_of(x: &Array, indices: &Array) -> Result<Array> {
    Ok(take_axis(x.reshape(&[x.dim(0), 1, -1])?, indices, 0)?)
}

/// `[rows, k, hidden]` summed by `weights` of shape `[rows, k]` and added to `onto`, `[rows, hidden]`, in one product.
pub(super) fn weighted(outputs: &Array, weights: &Array, onto: &Array) -> Result<Array> {
    let sums = addmm(onto.expand_dims(1)?, weights.expand_dims(1)?, outputs, None, None)?;
    Ok(sums.squeeze_axes(&[1])?)
}
