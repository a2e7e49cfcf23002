//! Logits and tokens against Hugging Face transformers and mlx-lm, on checkpoints made by scripts of theirs.

mod common;

use std::path::Path;

use common::{Golden, assert_greedy, embedded, fixtures, ids, load, micro, plain, run};
use mobile_engine::{Bits, Engine, Policy, Prefill, Request, convert, partial_of};

/// All logits of the position after the prompt, put together from the log probabilities of every token; they are the
/// reference's up to a constant, which the comparison takes out.
fn last_logprobs(engine: &Engine, prompt: &[u32], prefill: Prefill) -> Vec<f32> {
    let vocab = engine.info().vocab;
    let tokens = run(engine, Request { logprobs: Some(vocab), ..plain(prompt, 1, prefill) });
    let mut logprobs = vec![f32::NAN; vocab];
    for top in &tokens[0].top_logprobs {
        logprobs[top.id as usize] = top.logprob;
    }
    logprobs
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    logits.iter().map(|&l| (f64::from(l - most) - sum.ln()) as f32).collect()
}

fn check(name: &str, tolerance: f32) {
    let folder = micro(name);
    let engine = load(folder.path());
    let golden = Golden::open(&folder.path().join("golden.json"));
    let mut compared = 0;
    for prompt in &golden.prompts {
        let variants = [(Prefill::All, Some(&prompt.full)), (Prefill::Half, prompt.little.as_ref())];
        for (prefill, expected) in variants.into_iter().filter_map(|(p, e)| Some((p, e?))) {
            let what = format!("{name}, {}, {prefill:?}", prompt.name);
            let found = last_logprobs(&engine, &prompt.ids, prefill);
            for (id, (found, expected)) in found.iter().zip(log_softmax(&expected.last_logits)).enumerate() {
                assert!((found - expected).abs() < tolerance, "{what}: token {id} has {found}, expected {expected}");
            }
            let policy = match prefill {
                Prefill::Half if engine.info().top_k > 1 => Policy::Little { renormalize: false },
                _ => Policy::Full,
            };
            let request = Request { policy, ..plain(&prompt.ids, expected.greedy_ids.len(), prefill) };
            let tokens = run(&engine, request);
            let sure = assert_greedy(&what, &ids(&tokens), expected);
            for (token, confidence) in tokens.iter().zip(&expected.greedy_confidence).take(sure) {
                assert!((token.confidence - confidence).abs() < 1e-3, "{what}: {token:?}, expected {confidence}");
            }
            compared += sure;
        }
    }
    assert!(compared >= 20, "{name}: only {compared} tokens were compared");
}

macro_rules! micro_checkpoints {
    ($($test:ident: $folder:literal, $tolerance:literal;)*) => {
        $(#[test] fn $test() { check($folder, $tolerance); })*
    };
}

micro_checkpoints! {
    olmoe_in_three_shards: "olmoe-sharded", 5e-4;
    olmoe_tied_normalised_and_clipped: "olmoe-tied-norm", 5e-4;
    olmoe_with_biases: "olmoe-bias", 5e-4;
    qwen_with_grouped_queries: "qwen2moe-gqa", 5e-4;
    qwen_with_an_odd_k_and_a_dense_layer: "qwen2moe-odd-k", 5e-4;
    qwen_as_transformers_5_writes_it: "qwen2moe-rope-parameters", 5e-4;
    mixtral_with_a_sliding_window: "mixtral-window", 5e-4;
    mixtral_with_one_expert_a_token: "mixtral-k1", 5e-4;
    mixtral_with_wide_heads_in_half_precision: "mixtral-head-dim", 5e-4;
    mlx_layout_in_four_bits: "olmoe-mlx-4bit", 2e-2;
    mlx_layout_in_eight_bits_partly: "mixtral-mlx-8bit", 2e-2;
}

/// The trained checkpoints of this repository, quantized by our converter, against mlx-lm reading the same files.
fn check_quantized(name: &str, folder: &Path) {
    let engine = load(folder);
    let golden = Golden::open(&fixtures().join(format!("golden/{name}-quantized.json")));
    let mut compared = 0;
    for prompt in &golden.prompts {
        let little = prompt.little.as_ref().expect("both sides");
        for (prefill, policy, expected) in
            [(Prefill::All, Policy::Full, &prompt.full), (Prefill::Half, Policy::Little { renormalize: false }, little)]
        {
            let what = format!("{name}, {}, {prefill:?}", prompt.name);
            let found = last_logprobs(&engine, &prompt.ids, prefill);
            let base = found[expected.last_top_ids[0] as usize];
            for (&id, logit) in expected.last_top_ids.iter().zip(&expected.last_top_logits) {
                let (found, expected) = (found[id as usize] - base, logit - expected.last_top_logits[0]);
                assert!((found - expected).abs() < 5e-3, "{what}: token {id} is off by {}", found - expected);
            }
            let request = Request { policy, ..plain(&prompt.ids, expected.greedy_ids.len(), prefill) };
            compared += assert_greedy(&what, &ids(&run(&engine, request)), expected);
        }
    }
    assert!(compared >= 400, "{name}: only {compared} tokens were compared");
}

#[test]
fn the_embedded_model_agrees_with_mlx_lm() {
    check_quantized("olmoe-tiny", &embedded());
}

#[test]
fn quantized_qwen_agrees_with_mlx_lm() {
    check_quantized("qwen2moe-tiny", &fixtures().join("qwen2moe-tiny"));
}

#[test]
fn quantized_mixtral_agrees_with_mlx_lm() {
    check_quantized("mixtral-tiny", &fixtures().join("mixtral-tiny"));
}

#[test]
fn an_interrupted_conversion_goes_on_and_one_with_other_settings_begins_anew() {
    let (source, home) = (micro("olmoe-sharded"), tempfile::tempdir().expect("a folder"));
    let target = home.path().join("model");
    let with = |group_size| Bits { bits: 4, group_size };
    let interrupted = |bits| {
        let ended = std::panic::catch_unwind(|| convert(source.path(), &target, bits, |_, _| panic!("interrupted")));
        assert!(ended.is_err() && !target.exists());
        // What was being written when the process was killed.
        std::fs::write(partial_of(&target).join(".tmpKilled"), "half").expect("written");
        let weights = partial_of(&target).join("model.safetensors");
        weights.metadata().expect("finished").modified().expect("a time")
    };
    let converted = |bits| {
        convert(source.path(), &target, bits, |_, _| {}).expect("converted");
        let files = std::fs::read_dir(&target).expect("there").flatten();
        let hidden: Vec<_> = files.map(|f| f.file_name()).filter(|n| n.to_string_lossy().starts_with('.')).collect();
        assert!(hidden.is_empty() && !partial_of(&target).exists(), "{hidden:?}");
        let engine = load(&target);
        assert_eq!(engine.info().bits, Some(4));
        let written = target.join("model.safetensors").metadata().expect("there").modified().expect("a time");
        std::fs::remove_dir_all(&target).expect("removed");
        written
    };
    let before = interrupted(with(32));
    assert_eq!(converted(with(32)), before, "the finished file was used");
    let before = interrupted(with(64));
    assert_ne!(converted(with(32)), before, "a file of other groups is of no use");
}
