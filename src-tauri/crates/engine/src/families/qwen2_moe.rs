//! Qwen1.5-MoE and Qwen2-MoE: many small experts beside a shared one behind a sigmoid gate; some layers may be dense.
//!
//! Report: <https://arxiv.org/abs/2407.10671>. Reference: `Qwen2MoeForCausalLM` in Hugging Face transformers.

use std::collections::BTreeSet;

use super::{AttentionSpec, MLP_NAMES, MlpSpec, MoeSpec, Spec};
use crate::checkpoint::Config;
use crate::error::Result;

pub(super) fn describe(config: &Config) -> Result<Spec> {
    let fields = &config.fields;
    let dense_only = match fields.get("mlp_only_layers") {
        None => BTreeSet::new(),
        Some(value) => serde_json::from_value::<BTreeSet<usize>>(value.clone())
            .map_err(|_| fields.error(format!("field \"mlp_only_layers\" must be a list of layers, found {value}")))?,
    };
    let step = fields.opt_size("decoder_sparse_step")?.unwrap_or(1);
    let experts = fields.size("num_experts")?;
    let mlps = (0..config.layers)
        .map(|layer| {
            let sparse = !dense_only.contains(&layer) && (layer + 1) % step == 0;
            if sparse { Ok(MlpSpec::Experts) } else { fields.size("intermediate_size").map(MlpSpec::Dense) }
        })
        .collect::<Result<_>>()?;
    Ok(Spec {
        rope_theta: config.rope.theta.unwrap_or(1e4),
        attention: AttentionSpec { qk_norm: false, clip: None, windows: windows(config)? },
        mlps,
        moe: MoeSpec {
            experts,
            top_k: fields.size("num_experts_per_tok")?,
            intermediate: fields.size("moe_intermediate_size")?,
            normalize: fields.flag("norm_topk_prob", false)?,
            shared: fields.opt_size("shared_expert_intermediate_size")?,
            names: MLP_NAMES,
        },
    })
}

/// `sliding_window` counts only with `use_sliding_window`, and then for the layers that `layer_types` names.
fn windows(config: &Config) -> Result<Vec<Option<usize>>> {
    let fields = &config.fields;
    if !fields.flag("use_sliding_window", false)? {
        return Ok(vec![None; config.layers]);
    }
    let window = fields.opt_size("sliding_window")?;
    if let Some(types) = fields.get("layer_types") {
        let types: Vec<String> = serde_json::from_value(types.clone())
            .ok()
            .filter(|t: &Vec<String>| t.len() == config.layers)
            .ok_or_else(|| fields.error("field \"layer_types\" must name one type per layer"))?;
        return Ok(types.iter().map(|t| window.filter(|_| t == "sliding_attention")).collect());
    }
    // As the config class does: every other layer below `max_window_layers`, whose default is 28.
    let last = match fields.get("max_window_layers") {
        None => 28,
        Some(value) => value
            .as_u64()
            .ok_or_else(|| fields.error(format!("field \"max_window_layers\" must be an integer, found {value}")))?,
    };
    Ok((0..config.layers as u64).map(|layer| window.filter(|_| layer % 2 == 0 && layer < last)).collect())
}
