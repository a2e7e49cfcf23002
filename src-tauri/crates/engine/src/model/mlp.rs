//! A dense SwiGLU: `down(silu(gate(x)) * up(x))`.

use std::cell::RefCell;

use mlx_rs::Array;
use mlx_rs::error::Exception;
use mlx_rs::ops::sigmoid;
use mlx_rs::transforms::compile::compile;

use super::Matrix;
use crate::checkpoint::Loader;
use crate::device::on_cpu;
use crate::error::Result;

/// A dense feed-forward block.
#[derive(Debug)]
pub(crate) struct Mlp {
    gate_up: Matrix,
    down: Matrix,
}

impl Mlp {
    pub(crate) fn load(loader: &Loader<'_>, path: &str, intermediate: usize) -> Result<Self> {
        let hidden = loader.config.hidden;
        let gate_up = [(format!("{path}.gate_proj"), intermediate), (format!("{path}.up_proj"), intermediate)];
        Ok(Self {
            gate_up: loader.fused(&gate_up, hidden)?,
            down: loader.linear(&format!("{path}.down_proj"), hidden, intermediate)?,
        })
    }

    /// What becomes of `x`, added to `onto`: both of shape `[rows, hidden]`, to the same.
    pub(crate) fn forward(&self, x: &Array, onto: &Array) -> Result<Array> {
        self.down.forward_onto(&swiglu(&self.gate_up.forward(x)?)?, onto)
    }

    /// As [`Mlp::forward`], times the sigmoid of `gate`, of shape `[rows, 1]`.
    pub(crate) fn forward_gated(&self, x: &Array, gate: &Array, onto: &Array) -> Result<Array> {
        let halves = self.gate_up.forward(x)?.split_equal(2, -1)?;
        let hidden = GATED.with_borrow_mut(|activation| activation((&halves[0], &halves[1], gate)))?;
        self.down.forward_onto(&hidden, onto)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.gate_up.bytes() + self.down.bytes()
    }
}

/// `silu(gate) * up` of the two halves of the last axis.
pub(crate) fn swiglu(gate_up: &Array) -> Result<Array> {
    let halves = gate_up.split_equal(2, -1)?;
    Ok(ACTIVATION.with_borrow_mut(|activation| activation((&halves[0], &halves[1])))?)
}

/// [`swiglu`] times `weights`, which broadcast; for a GPU. A product of what it gives is so weighted without an operation of
/// its own.
pub(crate) fn weighted_swiglu(gate_up: &Array, weights: &Array) -> Result<Array> {
    let halves = gate_up.split_equal(2, -1)?;
    Ok(WEIGHTED.with_borrow_mut(|activation| activation((&halves[0], &halves[1], weights)))?)
}

type Computed = std::result::Result<Array, Exception>;
type Activation = Box<dyn for<'a> FnMut((&'a Array, &'a Array)) -> Computed>;
type ScaledActivation = Box<dyn for<'a> FnMut((&'a Array, &'a Array, &'a Array)) -> Computed>;

thread_local! {
    /// One launch instead of three on a GPU. For a CPU, MLX would call the system's C++ compiler, which need not be
    /// there. MLX keeps what it compiled by thread.
    static ACTIVATION: RefCell<Activation> =
        RefCell::new(if on_cpu() { Box::new(silu_times) } else { Box::new(compile(silu_times, true)) });
    /// The same with the gate of a whole row.
    static GATED: RefCell<ScaledActivation> =
        RefCell::new(if on_cpu() { Box::new(gated_silu_times) } else { Box::new(compile(gated_silu_times, true)) });
    /// The same with weights, which a CPU never asks for.
    static WEIGHTED: RefCell<ScaledActivation> = RefCell::new(Box::new(compile(weighted_silu_times, true)));
}

fn silu_times((gate, up): (&Array, &Array)) -> Computed {
    gate.multiply(sigmoid(gate)?)?.multiply(up)
}

fn weighted_silu_times((gate, up, weights): (&Array, &Array, &Array)) -> Computed {
    silu_times((gate, up))?.multiply(weights)
}

fn gated_silu_times((gate, up, row): (&Array, &Array, &Array)) -> Computed {
    silu_times((gate, up))?.multiply(sigmoid(row)?)
}
