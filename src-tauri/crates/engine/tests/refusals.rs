//! Broken checkpoints and impossible requests: each a clear error that names what is wrong, never a panic.

mod common;

use std::fs;
use std::path::Path;

use common::{load, micro, plain, run};
use mobile_engine::{Engine, Error, LoadOptions, Message, Prefill, Request, Sampling};
use serde_json::{Value, json};

/// The error of loading a changed copy of a micro checkpoint.
fn refusal(name: &str, change: impl FnOnce(&Path)) -> String {
    let folder = micro(name);
    change(folder.path());
    match Engine::load(LoadOptions::new(folder.path()), |_| Ok(())) {
        Ok(_) => panic!("{name} was loaded all the same"),
        Err(error) => error.to_string(),
    }
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    edit(&mut value);
    fs::write(path, value.to_string()).expect("written");
}

fn config(name: &str, edit: impl FnOnce(&mut Value)) -> String {
    refusal(name, |folder| edit_json(&folder.join("config.json"), edit))
}

/// Every word must be in the message.
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

const SINGLE: &str = "mixtral-window";

#[test]
fn a_folder_that_is_not_there() {
    let error = Engine::load(LoadOptions::new("/nonexistent/model"), |_| Ok(())).expect_err("refused").to_string();
    assert_says(&error, &["/nonexistent/model", "No such file"]);
}

#[test]
fn a_missing_file_of_each_kind() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let message = refusal(SINGLE, |f| fs::remove_file(f.join(name)).expect("removed"));
        assert_says(&message, &[name, "No such file"]);
    }
}

#[test]
fn a_config_that_is_not_one() {
    assert_says(
        &refusal(SINGLE, |f| fs::write(f.join("config.json"), "{").expect("written")),
        &["config.json", "JSON"],
    );
    assert_says(
        &refusal(SINGLE, |f| fs::write(f.join("config.json"), "[1]").expect("written")),
        &["an object"].map(|_| "object"),
    );
    assert_says(
        &refusal(SINGLE, |f| fs::write(f.join("config.json"), b"\xff\xfe").expect("written")),
        &["config.json", "UTF-8"],
    );
}

#[test]
fn a_config_without_a_field_or_with_a_wrong_one() {
    for field in ["hidden_size", "num_hidden_layers", "vocab_size", "num_local_experts", "num_experts_per_tok"] {
        let message = config(SINGLE, |c| drop(c.as_object_mut().expect("an object").remove(field)));
        assert_says(&message, &["config.json", field, "missing"]);
        assert_says(&config(SINGLE, |c| c[field] = json!("many")), &["config.json", field, "positive integer"]);
        assert_says(&config(SINGLE, |c| c[field] = json!(0)), &["config.json", field, "positive integer"]);
    }
    assert_says(&config(SINGLE, |c| c["num_experts_per_tok"] = json!(900)), &["900", "experts"]);
    assert_says(&config(SINGLE, |c| c["num_key_value_heads"] = json!(3)), &["num_key_value_heads", "divide"]);
    assert_says(&config(SINGLE, |c| c["hidden_act"] = json!("gelu")), &["gelu"]);
    assert_says(&config(SINGLE, |c| c["rope_scaling"] = json!({"type": "yarn", "factor": 2.0})), &["yarn"]);
    assert_says(&config(SINGLE, |c| c["quantization_config"] = json!({"quant_method": "gptq"})), &["gptq"]);
    assert_says(&config("olmoe-mlx-4bit", |c| c["quantization"]["bits"] = json!(7)), &["7 bits"]);
    assert_says(&config("olmoe-mlx-4bit", |c| c["quantization"]["mode"] = json!("mxfp4")), &["mxfp4"]);
}

#[test]
fn an_unknown_architecture_names_those_that_are_known() {
    let message = config(SINGLE, |c| c["architectures"] = json!(["LlamaForCausalLM"]));
    assert_says(&message, &["LlamaForCausalLM", "OlmoeForCausalLM", "Qwen2MoeForCausalLM", "MixtralForCausalLM"]);
}

#[test]
fn weights_that_are_cut_off_or_nonsense() {
    let cut = |keep: usize| {
        move |f: &Path| {
            let path = f.join("model.safetensors");
            let bytes = fs::read(&path).expect("read");
            fs::write(path, &bytes[..keep.min(bytes.len())]).expect("written");
        }
    };
    for keep in [1000, 20_000, 100_000] {
        assert_says(&refusal(SINGLE, cut(keep)), &["model.safetensors", "truncated", "fetch it again"]);
    }
    assert_says(&refusal(SINGLE, cut(4)), &["model.safetensors"]);
    let overwritten =
        |bytes: &'static [u8]| move |f: &Path| fs::write(f.join("model.safetensors"), bytes).expect("written");
    assert_says(&refusal(SINGLE, overwritten(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}")), &["model.safetensors"]);
    assert_says(&refusal(SINGLE, overwritten(b"\x02\0\0\0\0\0\0\0{]")), &["model.safetensors"]);
}

#[test]
fn a_tensor_of_another_shape_or_missing() {
    // Twice as many layers as there are weights for.
    assert_says(&config(SINGLE, |c| c["num_hidden_layers"] = json!(3)), &["model.layers.2", "missing"]);
    assert_says(
        &config(SINGLE, |c| c["vocab_size"] = json!(300)),
        &["model.embed_tokens.weight", "[264, 32]", "[300, 32]"],
    );
    assert_says(&config(SINGLE, |c| c["num_local_experts"] = json!(9)), &["gate.weight", "[4, 32]", "[9, 32]"]);
}

#[test]
fn an_index_that_points_elsewhere() {
    let index =
        |edit: fn(&mut Value)| refusal("olmoe-sharded", |f| edit_json(&f.join("model.safetensors.index.json"), edit));
    let outside = index(|v| v["weight_map"]["lm_head.weight"] = json!("../../secret.safetensors"));
    assert_says(&outside, &["lm_head.weight", "not a file of the folder"]);
    assert_says(&index(|v| v["weight_map"]["lm_head.weight"] = json!(7)), &["lm_head.weight", "is 7, not a file"]);
    assert_says(&index(|v| v["weight_map"] = json!({})), &["weight_map", "empty"]);
    let gone = refusal("olmoe-sharded", |f| {
        fs::remove_file(f.join("model-00002-of-00003.safetensors")).expect("removed");
    });
    assert_says(&gone, &["model-00002-of-00003.safetensors", "No such file"]);
}

#[test]
fn a_broken_tokenizer() {
    let message = refusal(SINGLE, |f| fs::write(f.join("tokenizer.json"), "{}").expect("written"));
    assert_says(&message, &["tokenizer.json", "not a tokenizer"]);
    let message = refusal(SINGLE, |f| fs::write(f.join("chat_template.jinja"), "{% if %}").expect("written"));
    assert_says(&message, &["chat_template.jinja", "parse"]);
}

#[test]
fn a_prompt_at_the_context_limit_works_and_one_past_it_is_refused_with_the_numbers() {
    let folder = micro(SINGLE);
    let engine = load(folder.path());
    assert_eq!(engine.info().context, 128);
    let tokens = run(&engine, plain(&[40; 128], 10, Prefill::All));
    assert_eq!(tokens.len(), 1, "the context is full after one token");
    assert_eq!(run(&engine, plain(&[40; 120], 100, Prefill::All)).len(), 9);
    let error = engine.submit(plain(&[40; 131], 10, Prefill::All)).expect_err("refused");
    assert_says(&error.to_string(), &["131 tokens", "holds 128", "by 3 tokens"]);
}

#[test]
fn requests_that_make_no_sense() {
    let folder = micro(SINGLE);
    let engine = load(folder.path());
    let refused = |request: Request| engine.submit(request).expect_err("refused").to_string();
    assert_says(&refused(Request::new(vec![], 4)), &["empty"]);
    assert_says(&refused(Request::new(vec![264], 4)), &["264", "vocabulary of 264"]);
    assert_says(&refused(Request::new(vec![1], 0)), &["max_tokens"]);
    let sampling = |s: Sampling| refused(Request { sampling: s, ..Request::new(vec![1], 4) });
    assert_says(&sampling(Sampling { temperature: -1.0, ..Sampling::default() }), &["temperature", "-1"]);
    assert_says(&sampling(Sampling { top_p: 1.5, ..Sampling::default() }), &["top_p", "1.5"]);
    assert_says(&sampling(Sampling { min_p: f32::NAN, ..Sampling::default() }), &["min_p", "NaN"]);
    let error = engine.text().encode_chat(&[Message::new("user", "hi")]).expect_err("no template");
    assert!(matches!(error, Error::Text { .. }));
    assert_says(&error.to_string(), &["no chat template"]);
    // None of this harmed the engine.
    assert_eq!(run(&engine, plain(&[40], 3, Prefill::All)).len(), 3);
}

#[test]
fn a_full_queue_says_so() {
    let folder = micro(SINGLE);
    let options = LoadOptions { queue: 2, max_sequences: 1, ..LoadOptions::new(folder.path()) };
    let engine = Engine::load(options, |_| Ok(())).expect("loaded");
    let mut accepted = Vec::new();
    let refused = (0..50).find_map(|_| match engine.submit(plain(&[40; 100], 28, Prefill::All)) {
        Ok(generation) => {
            accepted.push(generation);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(refused, Some(Error::QueueFull(2))), "{refused:?}");
    for generation in accepted {
        assert_eq!(generation.wait().expect("decoded").0.len(), 28);
    }
}
