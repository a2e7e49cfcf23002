//! Whether a model runs on a machine, and the arithmetic that says so. Nothing here touches disk or network.

use serde::Serialize;

use crate::shape::{Quantization, Shape};
use crate::units::bytes;

/// Room for the program itself, the tokenizer and what MLX keeps for reuse: a margin, not a measurement.
pub const MARGIN: u64 = 512 << 20;

/// What `mobile convert` makes unless told otherwise.
const FOUR_BITS: Quantization = Quantization { bits: 4, group_size: 64 };

/// Positions that the engine reads in one pass, at most.
const PASS: u64 = 512;

/// How a model is meant to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Tokens of context per sequence; the model's own limit caps it.
    pub context: u64,
    /// Sequences decoded together.
    pub sequences: u64,
    /// Quantize on load.
    pub quantize: Option<Quantization>,
    /// Bytes that streamed experts may take; `None` takes all there is.
    pub expert_budget: Option<u64>,
}

impl Default for Use {
    fn default() -> Self {
        Self { context: 4096, sequences: 1, quantize: None, expert_budget: None }
    }
}

/// What a machine has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Bytes of memory that a model may take.
    pub memory: u64,
    /// Bytes free on the disk of the models.
    pub disk: u64,
}

/// Whether and how a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it fits in memory.
    Fits,
    /// It runs with its experts read from disk as they are needed.
    FitsStreamed,
    /// Not even one token's experts fit beside the rest.
    DoesNotFit,
}

/// The assessment of one model on one machine. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// Whether and how it runs.
    pub verdict: Verdict,
    /// Weights of every token: embedding, attention, routers, shared experts.
    pub dense: u64,
    /// Weights of all experts.
    pub experts: u64,
    /// Keys and values of the context.
    pub kv: u64,
    /// Activations of a pass, and the margin.
    pub overhead: u64,
    /// Memory with all experts resident.
    pub resident: u64,
    /// Memory that streaming needs at least: the K experts of every layer.
    pub streamed: u64,
    /// Bytes left for cached experts when streaming, within the budget.
    pub expert_cache: u64,
    /// Still to be downloaded.
    pub download: u64,
    /// Whether the disk has room for that.
    pub disk: bool,
    /// What a conversion to 4 bits would take on the disk besides; `None` where the weights are quantized already.
    pub converted: Option<u64>,
    /// What a copy arranged for streaming would take on the disk besides, at the width of the weights as stored or
    /// quantized; more where experts are computed with in a wider one.
    pub arranged: u64,
    /// The arithmetic, one line each.
    pub lines: Vec<String>,
}

/// Assesses `shape` used as `usage` in `room`, with `download` bytes still to be fetched.
#[must_use]
pub fn assess(shape: &Shape, usage: &Use, room: &Room, download: u64) -> Fit {
    let context = usage.context.min(shape.context);
    let dense = shape.resident_bytes(usage.quantize);
    let expert = shape.expert_bytes(usage.quantize);
    let experts = shape.moe_layers() * shape.experts * expert;
    let sequences = usage.sequences.max(1);
    let kv = shape.kv_bytes_per_token() * context * sequences;
    let activations = activations(shape, sequences);
    let overhead = activations + MARGIN;
    let resident = dense + experts + kv + overhead;
    let token_experts = shape.moe_layers() * shape.top_k * expert;
    let streamed = dense + token_experts + kv + overhead;
    let left = room.memory.saturating_sub(dense + kv + overhead);
    let expert_cache = left.min(usage.expert_budget.unwrap_or(u64::MAX)).min(experts);
    let budget_holds = usage.expert_budget.is_none_or(|b| b >= experts);
    let verdict = match () {
        () if resident <= room.memory && budget_holds => Verdict::Fits,
        () if expert_cache >= token_experts => Verdict::FitsStreamed,
        () => Verdict::DoesNotFit,
    };
    let disk = download <= room.disk;
    let b = |n| bytes(n);
    let stored = usage.quantize.or(shape.quantization);
    let width = stored.map_or_else(|| format!("{} bits", shape.weight_bytes * 8), |q| format!("{} bits", q.bits));
    let mut lines = vec![
        format!("weights at {width}: {} for every token + {} of experts", b(dense), b(experts)),
        format!("experts: {} layers × {} × {}", shape.moe_layers(), shape.experts, b(expert)),
        format!("KV cache: {context} tokens × {sequences} × {} = {}", b(shape.kv_bytes_per_token()), b(kv)),
        format!("overhead: {} of activations + {} margin", b(activations), b(MARGIN)),
        format!("all in memory: {} + {} + {} + {} = {}", b(dense), b(experts), b(kv), b(overhead), b(resident)),
        format!("streamed, at least K = {} experts a layer: {}", shape.top_k, b(streamed)),
        format!("memory for models: {}", b(room.memory)),
    ];
    lines.push(match verdict {
        Verdict::Fits => format!("fits, {} to spare", b(room.memory - resident)),
        Verdict::FitsStreamed => format!("fits streamed, with {} of {} of experts cached", b(expert_cache), b(experts)),
        Verdict::DoesNotFit if streamed <= room.memory => {
            format!(
                "does not fit: the budget of {} is under the {} of one token's experts",
                b(expert_cache),
                b(token_experts)
            )
        }
        Verdict::DoesNotFit => format!("does not fit: {} short even when streamed", b(streamed - room.memory)),
    });
    if download > 0 {
        let end = if disk { String::new() } else { format!(": {} short", b(download - room.disk)) };
        lines.push(format!("download: {} of {} free{end}", b(download), b(room.disk)));
    }
    let converted = stored.is_none().then(|| shape.bytes(Some(FOUR_BITS)));
    let arranged = dense + experts;
    let conversion = converted.map_or_else(String::new, |n| format!(", {} converted to 4 bits", b(n)));
    lines.push(format!("disk besides, if wanted: {} arranged for streaming{conversion}", b(arranged)));
    Fit {
        verdict,
        dense,
        experts,
        kv,
        overhead,
        resident,
        streamed,
        expert_cache,
        download,
        disk,
        converted,
        arranged,
        lines,
    }
}

/// Activations of the widest pass: for each position the residual stream and its norm, queries, keys, values and
/// attention's output, and gate, up and product of its K experts, in 16 bits; and one row of float32 logits and its
/// softmax per sequence.
fn activations(shape: &Shape, sequences: u64) -> u64 {
    let rows = PASS.max(sequences);
    let attention = 2 * shape.heads * shape.head_dim + 2 * shape.kv_heads * shape.head_dim;
    let experts = 3 * shape.top_k * shape.expert_size + shape.top_k * shape.hidden;
    let shared = shape.shared_size.map_or(0, |s| 3 * s);
    rows * (2 * shape.hidden + attention + experts + shared) * 2 + sequences * shape.vocab * 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Catalogue;

    fn shape(id: &str) -> Shape {
        Catalogue::embedded().get(id).expect("in the catalogue").shape.clone()
    }

    fn verdict(id: &str, gib: u64, usage: Use) -> Verdict {
        assess(&shape(id), &usage, &Room { memory: gib << 30, disk: u64::MAX }, 0).verdict
    }

    #[test]
    fn the_sums_are_those_of_the_lines() {
        let fit = assess(&shape("allenai/OLMoE-1B-7B-0924"), &Use::default(), &Room { memory: 24 << 30, disk: 0 }, 1);
        // 16 layers × 16 heads × 128 × keys and values × 2 bytes.
        assert_eq!(fit.kv, 4096 * 16 * 16 * 128 * 2 * 2);
        assert_eq!(fit.dense + fit.experts, 13_838_323_712);
        assert_eq!(fit.resident, fit.dense + fit.experts + fit.kv + fit.overhead);
        assert_eq!(fit.verdict, Verdict::Fits);
        assert!(!fit.disk && fit.lines.iter().any(|l| l.ends_with("1 bytes short")), "{:#?}", fit.lines);
    }

    #[test]
    fn verdicts_follow_memory() {
        let (olmoe, mixtral) = ("allenai/OLMoE-1B-7B-0924", "mistralai/Mixtral-8x7B-v0.1");
        assert_eq!(verdict(olmoe, 16, Use::default()), Verdict::Fits);
        assert_eq!(verdict(olmoe, 8, Use::default()), Verdict::FitsStreamed);
        assert_eq!(verdict(olmoe, 2, Use::default()), Verdict::DoesNotFit);
        assert_eq!(verdict(mixtral, 64, Use::default()), Verdict::FitsStreamed);
        assert_eq!(verdict(mixtral, 100, Use::default()), Verdict::Fits);
        let q4 = Use { quantize: Some(Quantization { bits: 4, group_size: 64 }), ..Use::default() };
        assert_eq!(verdict(mixtral, 32, q4), Verdict::Fits);
        assert_eq!(verdict("mlx-community/Mixtral-8x7B-Instruct-v0.1-4bit", 32, Use::default()), Verdict::Fits);
    }

    #[test]
    fn context_counts_up_to_the_models_own() {
        let shape = shape("allenai/OLMoE-1B-7B-0924");
        let room = Room { memory: 64 << 30, disk: u64::MAX };
        let at = |context| assess(&shape, &Use { context, ..Use::default() }, &room, 0).kv;
        assert_eq!(at(2048) * 2, at(4096));
        assert_eq!(at(4096), at(1_000_000));
    }

    #[test]
    fn a_budget_streams_what_would_fit() {
        let id = "allenai/OLMoE-1B-7B-0924";
        let with = |budget| verdict(id, 64, Use { expert_budget: Some(budget), ..Use::default() });
        assert_eq!(with(4 << 30), Verdict::FitsStreamed);
        assert_eq!(with(1 << 20), Verdict::DoesNotFit);
        assert_eq!(with(u64::MAX), Verdict::Fits);
    }

    proptest! {
        #[test]
        fn more_memory_is_never_worse(memory in 0u64..200 << 30, more in 0u64..50 << 30, context in 1u64..40_000, sequences in 0u64..64) {
            let usage = Use { context, sequences, ..Use::default() };
            let rank = |memory| {
                let fit = assess(&shape("Qwen/Qwen1.5-MoE-A2.7B"), &usage, &Room { memory, disk: 0 }, 0);
                prop_assert!(fit.streamed <= fit.resident);
                prop_assert!(fit.lines.iter().all(|l| !l.is_empty()));
                Ok(match fit.verdict { Verdict::Fits => 2, Verdict::FitsStreamed => 1, Verdict::DoesNotFit => 0 })
            };
            prop_assert!(rank(memory)? <= rank(memory + more)?);
        }
    }
}
