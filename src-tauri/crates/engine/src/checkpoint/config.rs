//! `config.json`: the sizes every family shares, read once.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::json::Fields;
use crate::error::{Error, Result};

/// Bits and group size of affine quantization: one scale and one bias per `group_size` weights of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bits {
    /// Bits per weight: 2, 3, 4, 5, 6 or 8.
    pub bits: i32,
    /// Weights that share a scale: 32, 64 or 128.
    pub group_size: i32,
}

impl Bits {
    /// `bits` in groups of 64, mlx-lm's default.
    #[must_use]
    pub fn new(bits: i32) -> Self {
        Self { bits, group_size: 64 }
    }

    /// # Errors
    /// What `error` makes of the words, where MLX does not quantize so.
    pub(crate) fn check(self, error: impl FnOnce(String) -> Error) -> Result<()> {
        let Self { bits, group_size } = self;
        if [2, 3, 4, 5, 6, 8].contains(&bits) && [32, 64, 128].contains(&group_size) {
            return Ok(());
        }
        Err(error(format!("quantization to {bits} bits in groups of {group_size} is not supported")))
    }
}

/// The `quantization` object that mlx-lm writes into a config.
#[derive(Debug, Clone)]
pub(crate) struct Quantization {
    default: Bits,
    overrides: HashMap<String, Bits>,
}

impl Quantization {
    fn from_config(config: &Fields) -> Result<Option<Self>> {
        let Some(q) = config.object("quantization")? else {
            if let Some(other) = config.object("quantization_config")? {
                let method = other.text("quant_method")?.unwrap_or("unknown").to_owned();
                return Err(config.error(format!(
                    "weights quantized by {method:?} are not supported; use the original or an MLX conversion"
                )));
            }
            return Ok(None);
        };
        if let Some(mode) = q.text("mode")?.filter(|&m| m != "affine") {
            return Err(config.error(format!("quantization mode {mode:?} is not supported, only \"affine\" is")));
        }
        let default = bits_of(&q)?;
        let mut overrides = HashMap::new();
        for (module, value) in q.iter().filter(|(_, v)| v.is_object()) {
            let object = q.object(module)?.unwrap_or_else(|| q.clone());
            debug_assert!(value.is_object());
            overrides.insert(module.clone(), bits_of(&object)?);
        }
        Ok(Some(Self { default, overrides }))
    }

    /// Bits of the module `path`, for example `model.layers.0.mlp.gate`.
    pub(crate) fn of(&self, path: &str) -> Bits {
        self.overrides.get(path).copied().unwrap_or(self.default)
    }
}

fn bits_of(q: &Fields) -> Result<Bits> {
    let bits = Bits { bits: q.size("bits")? as i32, group_size: q.size("group_size")? as i32 };
    bits.check(|what| q.error(what))?;
    Ok(bits)
}

/// No model comes near so many layers; what is kept per layer is made before a tensor is looked for.
const MOST_LAYERS: usize = 4096;

/// What all families say in the same words.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) fields: Fields,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    pub(crate) norm_eps: f32,
    pub(crate) rope: Rope,
    pub(crate) tied: bool,
    pub(crate) quantization: Option<Quantization>,
}

/// Rotary position embedding: base and position scale (1 / factor of linear scaling).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rope {
    /// `None` where the config leaves it to the family.
    pub(crate) theta: Option<f32>,
    pub(crate) scale: f32,
}

impl Config {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fields = Fields::open(path)?;
        let hidden = fields.size("hidden_size")?;
        let heads = fields.size("num_attention_heads")?;
        let kv_heads = fields.opt_size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(fields.error(format!(
                "field \"num_key_value_heads\" ({kv_heads}) must divide \"num_attention_heads\" ({heads})"
            )));
        }
        let head_dim = match fields.opt_size("head_dim")? {
            Some(n) => n,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                return Err(fields.error(format!(
                    "field \"hidden_size\" ({hidden}) is not a multiple of \"num_attention_heads\" ({heads})"
                )));
            }
        };
        let layers = fields.size("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            return Err(fields.error(format!("field \"num_hidden_layers\" ({layers}) is above {MOST_LAYERS}")));
        }
        Ok(Self {
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab: fields.size("vocab_size")?,
            context: fields.size("max_position_embeddings")?,
            norm_eps: fields.opt_number("rms_norm_eps")?.unwrap_or(1e-5),
            rope: Rope::from_config(&fields)?,
            tied: fields.flag("tie_word_embeddings", false)?,
            quantization: Quantization::from_config(&fields)?,
            fields,
        })
    }

    /// The architecture's class name; older mlx conversions carry only `model_type`.
    pub(crate) fn architecture(&self) -> Result<String> {
        if let Some(Value::Array(names)) = self.fields.get("architectures")
            && let Some(name) = names.first().and_then(Value::as_str)
        {
            return Ok(name.to_owned());
        }
        match self.fields.text("model_type")? {
            Some(kind) => Ok(kind.to_owned()),
            None => Err(self.fields.error("neither \"architectures\" nor \"model_type\" names the architecture")),
        }
    }
}

impl Rope {
    /// `rope_theta` and `rope_scaling` of the classic configs, `rope_parameters` of transformers 5.
    fn from_config(fields: &Fields) -> Result<Self> {
        let parameters = match fields.object("rope_parameters")? {
            Some(p) => Some(p),
            None => fields.object("rope_scaling")?,
        };
        let mut theta = fields.opt_number("rope_theta")?;
        let mut scale = 1.0;
        if let Some(p) = parameters {
            theta = p.opt_number("rope_theta")?.or(theta);
            match p.text("rope_type")?.or(p.text("type")?).unwrap_or("default") {
                "default" => {}
                "linear" => scale = 1.0 / p.number("factor")?,
                other => return Err(fields.error(format!("RoPE scaling of type {other:?} is not supported"))),
            }
        }
        Ok(Self { theta, scale })
    }
}
