//! Experts stacked in memory, computed with MLX's gathered products.

use mlx_rs::Array;
use mlx_rs::ops::indexing::take_axis;
use mlx_rs::ops::{argsort, floor_divide};

use crate::checkpoint::{ExpertPart, Loader};
use crate::error::Result;
use crate::families::MoeSpec;
use crate::model::{Matrix, Routing, swiglu};

/// From this many products on, rows are sorted by expert, so that each expert's weights are read once.
const SORT_FROM: i32 = 64;

/// Gate and up projections fused, and the down projection, of all experts of a layer.
#[derive(Debug)]
pub(crate) struct Resident {
    gate_up: Matrix,
    down: Matrix,
}

impl Resident {
    pub(crate) fn load(loader: &Loader<'_>, spec: &MoeSpec, block: &str) -> Result<Self> {
        let [gate, up, down] = spec.names.expert;
        let (hidden, intermediate) = (loader.config.hidden, spec.intermediate);
        let each = |name: &'static str| move |e: usize| format!("{block}.experts.{e}.{name}");
        let (each_gate, each_up, each_down) = (each(gate), each(up), each(down));
        let stacked = |name: &str| format!("{block}.switch_mlp.{name}");
        let gate_up = [
            ExpertPart { stacked: stacked("gate_proj"), each: &each_gate },
            ExpertPart { stacked: stacked("up_proj"), each: &each_up },
        ];
        let down = [ExpertPart { stacked: stacked("down_proj"), each: &each_down }];
        Ok(Self {
            gate_up: loader.experts(&gate_up, spec.experts, intermediate, hidden)?,
            down: loader.experts(&down, spec.experts, hidden, intermediate)?,
        })
    }

    pub(crate) fn forward(&self, x: &Array, routing: &Routing) -> Result<Array> {
        let (rows, k) = (x.dim(0), routing.experts.dim(1));
        let outputs = if rows * k >= SORT_FROM {
            self.sorted(x, &routing.experts, k)?
        } else {
            let x = x.expand_dims_axes(&[1, 2])?;
            self.products(&x, &routing.experts, false)?.squeeze_axes(&[2])?
        };
        // [rows, 1, k] times [rows, k, hidden] is the weighted sum in one product.
        let weights = routing.weights.expand_dims(1)?;
        Ok(weights.matmul(outputs)?.squeeze_axes(&[1])?)
    }

    /// As one product per (row, expert), in the order of the experts; gives `[rows, k, hidden]`.
    fn sorted(&self, x: &Array, experts: &Array, k: i32) -> Result<Array> {
        let rows = x.dim(0);
        let flat = experts.reshape(&[-1])?;
        let order = argsort(&flat)?;
        let inputs = take_axis(x, floor_divide(&order, Array::from_int(k).as_type::<u32>()?)?, 0)?.expand_dims(1)?;
        let outputs = self.products(&inputs, &take_axis(&flat, &order, 0)?, true)?.squeeze_axes(&[1])?;
        Ok(take_axis(outputs, argsort(&order)?, 0)?.reshape(&[rows, k, -1])?)
    }

    fn products(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        let hidden = swiglu(&self.gate_up.gather(x, experts, sorted)?)?;
        self.down.gather(&hidden, experts, sorted)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.gate_up.bytes() + self.down.bytes()
    }
}
