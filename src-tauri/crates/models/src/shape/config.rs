//! Fields of a `config.json`, read so that an error names the file and the field.

use std::collections::BTreeSet;
use std::path::Path;

use mobile_files::FromFile as _;
use serde_json::Value;

use super::{Family, Quantization};
use crate::error::{Error, Result};

/// Class name, `model_type` and family, one line per supported architecture.
const FAMILIES: &[(&str, &str, Family)] = &[
    ("OlmoeForCausalLM", "olmoe", Family::Olmoe),
    ("Qwen2MoeForCausalLM", "qwen2_moe", Family::Qwen2Moe),
    ("MixtralForCausalLM", "mixtral", Family::Mixtral),
];

/// The most that a size may be: several times what the largest models have, and so little that the bytes of a whole model
/// and of its context, which are products of these, stay below 2^63.
fn most(field: &str) -> u64 {
    match field {
        "num_hidden_layers" => 1 << 10,
        "num_experts"
        | "num_local_experts"
        | "num_experts_per_tok"
        | "num_attention_heads"
        | "num_key_value_heads"
        | "head_dim" => 1 << 12,
        "vocab_size" | "max_position_embeddings" => 1 << 21,
        _ => 1 << 17,
    }
}

/// A `config.json` that is being read.
pub(super) struct Config<'a> {
    pub(super) value: &'a Value,
    pub(super) path: &'a Path,
}

impl Config<'_> {
    pub(super) fn error(&self, what: impl Into<String>) -> Error {
        Error::config(self.path, what)
    }

    pub(super) fn family(&self) -> Result<Family> {
        let class = self.value.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        let kind = self.value.get("model_type").and_then(Value::as_str);
        let Some(found) = class.or(kind) else {
            return Err(self.error("neither \"architectures\" nor \"model_type\" names the architecture"));
        };
        FAMILIES.iter().find(|(class, kind, _)| found == *class || found == *kind).map(|f| f.2).ok_or_else(|| {
            Error::Architecture {
                model: self.path.display().to_string(),
                found: found.to_owned(),
                supported: FAMILIES.iter().map(|f| f.0).collect::<Vec<_>>().join(", "),
            }
        })
    }

    pub(super) fn size(&self, name: &str) -> Result<u64> {
        self.optional(name)?.ok_or_else(|| self.error(format!("field {name:?} is missing")))
    }

    pub(super) fn optional(&self, name: &str) -> Result<Option<u64>> {
        let most = most(name);
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => v
                .as_u64()
                .filter(|n| (1..=most).contains(n))
                .map(Some)
                .ok_or_else(|| self.error(format!("field {name:?} must be an integer from 1 to {most}, found {v}"))),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => {
                v.as_bool().ok_or_else(|| self.error(format!("field {name:?} must be true or false, found {v}")))
            }
        }
    }

    /// Layers without experts: those of `mlp_only_layers`, and all but every `decoder_sparse_step`-th.
    pub(super) fn dense_layers(&self, layers: u64) -> Result<u64> {
        let listed: BTreeSet<u64> = match self.value.get("mlp_only_layers") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(v) => serde_json::from_value(v.clone())
                .map_err(|_| self.error(format!("field \"mlp_only_layers\" must be a list of layers, found {v}")))?,
        };
        let step = self.optional("decoder_sparse_step")?.unwrap_or(1);
        Ok((0..layers).filter(|layer| listed.contains(layer) || (layer + 1) % step != 0).count() as u64)
    }

    /// Checkpoints of these families come in 16 bits; the config of a float32 one says so.
    pub(super) fn weight_bytes(&self) -> u64 {
        let dtype = self.value.get("torch_dtype").or_else(|| self.value.get("dtype")).and_then(Value::as_str);
        if dtype == Some("float32") { 4 } else { 2 }
    }

    pub(super) fn quantization(&self) -> Result<Option<Quantization>> {
        let Some(object) = self.value.get("quantization").filter(|v| !v.is_null()) else {
            return match self.value.get("quantization_config").filter(|v| !v.is_null()) {
                None => Ok(None),
                Some(other) => {
                    let method = other.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
                    Err(self.error(format!(
                        "weights quantized by {method:?} are not supported; use the original or an MLX conversion"
                    )))
                }
            };
        };
        let field = |name: &str, allowed: &[u64]| {
            object
                .get(name)
                .and_then(Value::as_u64)
                .filter(|n| allowed.contains(n))
                .ok_or_else(|| self.error(format!("field \"quantization.{name}\" must be one of {allowed:?}")))
        };
        Ok(Some(Quantization {
            bits: field("bits", &[2, 3, 4, 5, 6, 8])?,
            group_size: field("group_size", &[32, 64, 128])?,
        }))
    }
}
