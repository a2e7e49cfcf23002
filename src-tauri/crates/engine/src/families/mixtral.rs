//! Mixtral: eight large experts, two a token, whose weights always sum to one.
//!
//! Paper: <https://arxiv.org/abs/2401.04088>. Reference: `MixtralForCausalLM` in Hugging Face transformers, where
//! the softmax runs over all experts and the chosen weights are divided by their sum; that equals a softmax over
//! the chosen.

use super::{AttentionSpec, MlpSpec, MoeNames, MoeSpec, Spec};
use crate::checkpoint::Config;
use crate::error::Result;

pub(super) fn describe(config: &Config) -> Result<Spec> {
    let fields = &config.fields;
    Ok(Spec {
        rope_theta: config.rope.theta.unwrap_or(1e6),
        attention: AttentionSpec {
            qk_norm: false,
            clip: None,
            windows: vec![fields.opt_size("sliding_window")?; config.layers],
        },
        mlps: vec![MlpSpec::Experts; config.layers],
        moe: MoeSpec {
            experts: fields.size("num_local_experts")?,
            top_k: fields.size("num_experts_per_tok")?,
            intermediate: fields.size("intermediate_size")?,
            normalize: true,
            shared: None,
            names: MoeNames { block: "block_sparse_moe", expert: ["w1", "w3", "w2"] },
        },
    })
}
