//! OLMoE: 64 small experts, eight a token, norms on queries and keys.
//!
//! Paper: <https://arxiv.org/abs/2409.02060>. Reference: `OlmoeForCausalLM` in Hugging Face transformers.

use super::{AttentionSpec, MLP_NAMES, MlpSpec, MoeSpec, Spec};
use crate::checkpoint::Config;
use crate::error::Result;

pub(super) fn describe(config: &Config) -> Result<Spec> {
    let fields = &config.fields;
    Ok(Spec {
        rope_theta: config.rope.theta.unwrap_or(1e4),
        attention: AttentionSpec {
            qk_norm: true,
            clip: fields.opt_number("clip_qkv")?,
            windows: vec![None; config.layers],
        },
        mlps: vec![MlpSpec::Experts; config.layers],
        moe: MoeSpec {
            experts: fields.size("num_experts")?,
            top_k: fields.size("num_experts_per_tok")?,
            intermediate: fields.size("intermediate_size")?,
            normalize: fields.flag("norm_topk_prob", false)?,
            shared: None,
            names: MLP_NAMES,
        },
    })
}
