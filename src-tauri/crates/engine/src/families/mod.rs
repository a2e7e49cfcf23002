//! The model families: what each one's config says, in the words of the one decoder they share.
//!
//! A new family is a file here and a line in [`FAMILIES`].

mod mixtral;
mod olmoe;
mod qwen2_moe;

use crate::checkpoint::Config;
use crate::error::{Error, Result};

/// No model comes near so many experts a layer; each has a name before its tensor is looked for.
const MOST_EXPERTS: usize = 1 << 16;

/// How to read one family's config.
struct Family {
    /// Class name in `architectures`.
    class: &'static str,
    /// `model_type`, for configs without a class name.
    model_type: &'static str,
    describe: fn(&Config) -> Result<Spec>,
}

const FAMILIES: &[Family] = &[
    Family { class: "OlmoeForCausalLM", model_type: "olmoe", describe: olmoe::describe },
    Family { class: "Qwen2MoeForCausalLM", model_type: "qwen2_moe", describe: qwen2_moe::describe },
    Family { class: "MixtralForCausalLM", model_type: "mixtral", describe: mixtral::describe },
];

/// Class names of the supported architectures.
pub fn supported_architectures() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|f| f.class)
}

/// What a family adds to the sizes of [`Config`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    /// RoPE's base; where the config gives none, the default of the family's config class.
    pub(crate) rope_theta: f32,
    pub(crate) attention: AttentionSpec,
    /// One entry per layer.
    pub(crate) mlps: Vec<MlpSpec>,
    pub(crate) moe: MoeSpec,
}

/// Attention beyond grouped queries with RoPE.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionSpec {
    /// RMS norms over all of q and all of k, before RoPE (OLMoE).
    pub(crate) qk_norm: bool,
    /// q, k and v are clamped to ±this, after the norms (OLMoE's `clip_qkv`).
    pub(crate) clip: Option<f32>,
    /// A query sees this many positions, its own included; one entry per layer.
    pub(crate) windows: Vec<Option<usize>>,
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MlpSpec {
    Experts,
    /// A dense SwiGLU of this intermediate size.
    Dense(usize),
}

/// Experts of a family and how they are chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MoeSpec {
    pub(crate) experts: usize,
    /// K: experts per token.
    pub(crate) top_k: usize,
    pub(crate) intermediate: usize,
    /// Whether the weights of the chosen experts are scaled to sum to one.
    pub(crate) normalize: bool,
    /// Intermediate size of the shared expert, which every token passes through a sigmoid gate.
    pub(crate) shared: Option<usize>,
    /// Names of the weights.
    pub(crate) names: MoeNames,
}

/// Where a family keeps its MoE weights, under `model.layers.N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MoeNames {
    /// The block that holds `gate`, `experts.E.*` and, in mlx-lm's layout, `switch_mlp.*`.
    pub(crate) block: &'static str,
    /// An expert's gate, up and down projections in the hub's layout.
    pub(crate) expert: [&'static str; 3],
}

/// Names that OLMoE and Qwen share.
const MLP_NAMES: MoeNames = MoeNames { block: "mlp", expert: ["gate_proj", "up_proj", "down_proj"] };

impl Spec {
    /// The description of the family that `config` names.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let found = config.architecture()?;
        let family =
            FAMILIES.iter().find(|f| f.class == found || f.model_type == found).ok_or_else(|| Error::Architecture {
                path: config.fields.path().to_owned(),
                found: found.clone(),
                supported: supported_architectures().collect::<Vec<_>>().join(", "),
            })?;
        if let Some(activation) = config.fields.text("hidden_act")?.filter(|&a| a != "silu") {
            return Err(config.fields.error(format!("activation {activation:?} is not supported, only \"silu\" is")));
        }
        let spec = (family.describe)(config)?;
        if spec.moe.experts > MOST_EXPERTS {
            return Err(config.fields.error(format!("{} experts are above {MOST_EXPERTS}", spec.moe.experts)));
        }
        if spec.moe.top_k > spec.moe.experts {
            return Err(config.fields.error(format!(
                "field \"num_experts_per_tok\" ({}) is more than the {} experts",
                spec.moe.top_k, spec.moe.experts
            )));
        }
        Ok(spec)
    }
}
