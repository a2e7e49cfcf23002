//! What `config.json` alone says of a model: its family and sizes, and the bytes that follow from them.

mod config;

use std::path::Path;

use mobile_files::{FromFile as _, read_text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use config::Config;

/// A supported family. The names are those of `architectures` in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `OlmoeForCausalLM`.
    Olmoe,
    /// `Qwen2MoeForCausalLM`: Qwen1.5-MoE and Qwen2-MoE.
    Qwen2Moe,
    /// `MixtralForCausalLM`.
    Mixtral,
}

/// Affine quantization: one scale and one bias per group of a row, in the width of unquantized weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    /// Bits per weight.
    pub bits: u64,
    /// Weights that share a scale.
    pub group_size: u64,
}

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The architecture.
    pub family: Family,
    /// Decoder layers.
    pub layers: u64,
    /// Hidden size.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Size of one head.
    pub head_dim: u64,
    /// Vocabulary entries.
    pub vocab: u64,
    /// Positions of the longest context.
    pub context: u64,
    /// Experts of a layer.
    pub experts: u64,
    /// K: experts per token.
    pub top_k: u64,
    /// Intermediate size of an expert.
    pub expert_size: u64,
    /// Intermediate size of the expert that every token passes.
    pub shared_size: Option<u64>,
    /// Layers with one dense feed-forward part in place of experts.
    pub dense_layers: u64,
    /// Intermediate size of those.
    pub dense_size: u64,
    /// Whether the output matrix is the embedding's.
    pub tied: bool,
    /// Whether attention has biases: `(on q, k and v, on the output)`.
    pub attention_bias: (bool, bool),
    /// Bytes of a weight that is not quantized.
    pub weight_bytes: u64,
    /// How the stored weights are quantized, if they are.
    pub quantization: Option<Quantization>,
}

impl Shape {
    /// Reads `config.json` at `path`.
    ///
    /// # Errors
    /// [`Error::Architecture`] for a family that is not supported, [`Error::File`] for anything else amiss.
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(&read_text(path)?, path)
    }

    /// Reads the text of a `config.json`; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Shape::open`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| Error::config(path, format!("not valid JSON: {e}")))?;
        Self::from_value(&value, path)
    }

    pub(crate) fn from_value(value: &Value, path: &Path) -> Result<Self> {
        let config = Config { value, path };
        let family = config.family()?;
        let (hidden, heads, layers) =
            (config.size("hidden_size")?, config.size("num_attention_heads")?, config.size("num_hidden_layers")?);
        let intermediate = config.optional("intermediate_size")?;
        let (experts, expert_size, shared_size, bias) = match family {
            Family::Olmoe => {
                let bias = config.flag("attention_bias", false)?;
                (config.size("num_experts")?, config.size("intermediate_size")?, None, (bias, bias))
            }
            Family::Qwen2Moe => (
                config.size("num_experts")?,
                config.size("moe_intermediate_size")?,
                config.optional("shared_expert_intermediate_size")?,
                (config.flag("qkv_bias", true)?, false),
            ),
            Family::Mixtral => {
                (config.size("num_local_experts")?, config.size("intermediate_size")?, None, (false, false))
            }
        };
        let top_k = config.size("num_experts_per_tok")?;
        if top_k > experts {
            return Err(config.error(format!("{top_k} experts per token are more than the {experts} there are")));
        }
        Ok(Self {
            family,
            layers,
            hidden,
            heads,
            kv_heads: config.optional("num_key_value_heads")?.unwrap_or(heads),
            head_dim: config.optional("head_dim")?.unwrap_or(hidden / heads),
            vocab: config.size("vocab_size")?,
            context: config.size("max_position_embeddings")?,
            experts,
            top_k,
            expert_size,
            shared_size,
            dense_layers: if family == Family::Qwen2Moe { config.dense_layers(layers)? } else { 0 },
            dense_size: intermediate.unwrap_or(0),
            tied: config.flag("tie_word_embeddings", false)?,
            attention_bias: bias,
            weight_bytes: config.weight_bytes(),
            quantization: config.quantization()?,
        })
    }

    /// Parameters in all.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.resident_parameters() + self.moe_layers() * self.experts * self.expert_parameters()
    }

    /// Parameters that one token passes with `k` experts, the embedding counted whole.
    #[must_use]
    pub fn active_parameters(&self, k: u64) -> u64 {
        self.resident_parameters() + self.moe_layers() * k.min(self.experts) * self.expert_parameters()
    }

    /// Layers that have experts.
    #[must_use]
    pub fn moe_layers(&self) -> u64 {
        self.layers - self.dense_layers
    }

    /// Parameters of one expert: its gate, up and down projections.
    #[must_use]
    pub fn expert_parameters(&self) -> u64 {
        3 * self.hidden * self.expert_size
    }

    /// Bytes of keys and values per token of context, at 16 bits.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        2 * self.layers * self.kv_heads * self.head_dim * 2
    }

    /// Bytes of one expert as held under `quantization`, or as stored where that is `None`.
    #[must_use]
    pub fn expert_bytes(&self, quantization: Option<Quantization>) -> u64 {
        let matrix = self.hidden * self.expert_size;
        2 * self.matrix_bytes(matrix, self.hidden, quantization)
            + self.matrix_bytes(matrix, self.expert_size, quantization)
    }

    /// Bytes of everything but the experts, in the same way.
    #[must_use]
    pub fn resident_bytes(&self, quantization: Option<Quantization>) -> u64 {
        let matrices = self.resident_matrices();
        self.matrix_bytes(matrices, self.hidden, quantization)
            + (self.resident_parameters() - matrices) * self.weight_bytes
    }

    /// Bytes of all weights, in the same way; for a checkpoint as stored, what there is to download.
    #[must_use]
    pub fn bytes(&self, quantization: Option<Quantization>) -> u64 {
        self.resident_bytes(quantization) + self.moe_layers() * self.experts * self.expert_bytes(quantization)
    }

    /// Bytes of `n` weights in rows of `row`; a group has a scale and a bias. Rows that do not fill a group stay as they are.
    fn matrix_bytes(&self, n: u64, row: u64, quantization: Option<Quantization>) -> u64 {
        match quantization.or(self.quantization) {
            Some(q) if row.is_multiple_of(q.group_size) => n * q.bits / 8 + n / q.group_size * 2 * self.weight_bytes,
            _ => n * self.weight_bytes,
        }
    }

    /// Weights of matrices outside the experts; routers included.
    fn resident_matrices(&self) -> u64 {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = self.hidden * (2 * queries + 2 * keys);
        let router = self.hidden * self.experts;
        let shared = self.shared_size.map_or(0, |s| 3 * self.hidden * s + self.hidden);
        let embedding = self.vocab * self.hidden * if self.tied { 1 } else { 2 };
        embedding
            + self.layers * attention
            + self.moe_layers() * (router + shared)
            + self.dense_layers * 3 * self.hidden * self.dense_size
    }

    fn resident_parameters(&self) -> u64 {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let head_norms = if self.family == Family::Olmoe { queries + keys } else { 0 };
        let (inner, outer) = self.attention_bias;
        let biases = if inner { queries + 2 * keys } else { 0 } + if outer { self.hidden } else { 0 };
        self.resident_matrices() + self.layers * (2 * self.hidden + head_norms + biases) + self.hidden
    }
}

#[cfg(test)]
mod tests;
