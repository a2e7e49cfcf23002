//! Mixture-of-Experts decoding on MLX with big and little experts: token ids in, token ids out.
//!
//! [`Engine::load`] reads a checkpoint folder, [`Engine::submit`] queues a [`Request`], and its [`Generation`] gives
//! [`Event`]s. One thread owns every MLX array; everything else talks to it through channels.
//!
//! | room | what it knows |
//! |---|---|
//! | `checkpoint` | config and safetensors, both layouts, quantization |
//! | `families` | what sets OLMoE, Qwen MoE and Mixtral apart |
//! | `model` | the decoder they share |
//! | `experts` | where expert weights live |
//! | `policy`, `auto` | who is important, and whether asking pays |
//! | `kv` | keys and values of sequences, side by side |
//! | `decode` | requests, batches, fallback, prefix reuse |
//! | `pressure` | how short memory is |
//! | `sampling` | logits to tokens |
//! | `constraint` | answers that follow a JSON schema |
//! | `statistics` | counters |
//! | `convert` | a checkpoint quantized, in mlx-lm's layout |
//! | `text` | tokenizer, chat template, detokenization |
//! | `bundle` | MLX's kernels inside a macOS app |

mod auto;
mod bundle;
mod checkpoint;
mod constraint;
mod convert;
mod decode;
mod device;
mod engine;
mod error;
mod exit;
mod experts;
mod families;
mod kv;
mod model;
mod policy;
mod pressure;
mod sampling;
mod statistics;
mod text;

pub use bundle::use_bundled_kernels;
pub use checkpoint::{Bits, check};
pub use constraint::Constraint;
pub use convert::{Converted, convert, partial_of};
pub use decode::{Event, FinishReason, Finished, Generation, Logprob, Prefill, Remote, Request, Token};
pub use device::{Compute, ComputeDevice, mlx_version};
pub use engine::{Engine, Live, LoadOptions, ModelInfo, Progress, Status};
pub use error::{Error, Result};
pub use experts::{Arranged, ExpertMemory, ExpertRead, ExpertReads, Replacement, arrange, is_arranged};
pub use families::supported_architectures;
pub use mobile_files::FileError;
pub use policy::{DEFAULT_GAMMA, DEFAULT_SHARE, Decision, Mobile, Policy};
pub use pressure::{Pressure, PressureWatch};
pub use sampling::Sampling;
pub use statistics::{
    AutoReport, CONFIDENCE_BINS, Counters, ExpertCache, ExpertUse, ExpertWatch, Passes, Prefetch, Statistics,
};
pub use text::{Message, Text};
