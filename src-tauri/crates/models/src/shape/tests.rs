use std::path::Path;

use super::{Family, Quantization, Shape};
use crate::error::Error;

fn fixture(name: &str) -> (Shape, u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro").join(name);
    let shape = Shape::open(&folder.join("config.json")).expect("the fixture's config is sound");
    let stored = crate::checkpoint::inspect(&folder).expect("the fixture's weights are sound").tensor_bytes;
    (shape, stored)
}

#[test]
fn bytes_of_unquantized_checkpoints_are_those_on_disk() {
    for name in [
        "olmoe-sharded",
        "olmoe-tied-norm",
        "olmoe-bias",
        "qwen2moe-gqa",
        "qwen2moe-odd-k",
        "qwen2moe-rope-parameters",
        "mixtral-window",
        "mixtral-k1",
        "mixtral-head-dim",
    ] {
        let (shape, stored) = fixture(name);
        assert_eq!(shape.bytes(None), stored, "{name}");
    }
}

#[test]
fn bytes_of_quantized_checkpoints_are_close() {
    // Routers and rows that do not fill a group are stored in other widths than the rest.
    for name in ["olmoe-mlx-4bit", "mixtral-mlx-8bit"] {
        let (shape, stored) = fixture(name);
        let ratio = shape.bytes(None) as f64 / stored as f64;
        assert!((0.85..1.15).contains(&ratio), "{name}: {} computed, {stored} stored", shape.bytes(None));
    }
}

#[test]
fn a_group_costs_its_weights_and_two_halves() {
    let (mut shape, _) = fixture("olmoe-sharded");
    let q = Quantization { bits: 4, group_size: 32 };
    assert_eq!(shape.expert_bytes(Some(q)), 3 * (32 * 32 / 2 + 32 * 4));
    shape.quantization = Some(q);
    assert_eq!(shape.expert_bytes(None), shape.expert_bytes(Some(q)));
}

#[test]
fn dense_layers_have_no_experts() {
    let (shape, _) = fixture("qwen2moe-odd-k");
    assert_eq!((shape.family, shape.moe_layers(), shape.dense_layers), (Family::Qwen2Moe, 1, 1));
}

#[test]
fn fewer_experts_are_fewer_active_parameters() {
    let (shape, _) = fixture("olmoe-sharded");
    let step = shape.layers * shape.expert_parameters();
    assert_eq!(shape.active_parameters(4) - shape.active_parameters(2), 2 * step);
    assert_eq!(shape.active_parameters(u64::MAX), shape.parameters());
}

fn refused(text: &str) -> Error {
    Shape::parse(text, Path::new("config.json")).expect_err("the config is wrong")
}

#[test]
fn a_config_that_is_wrong_is_refused_with_the_field() {
    assert!(
        matches!(refused(r#"{"architectures":["LlamaForCausalLM"]}"#), Error::Architecture { found, .. } if found == "LlamaForCausalLM")
    );
    assert!(refused("{}").to_string().contains("architectures"));
    assert!(refused("[").to_string().contains("not valid JSON"));
    assert!(refused(r#"{"model_type":"olmoe","hidden_size":-1}"#).to_string().contains("hidden_size"));
    assert!(refused(r#"{"model_type":"olmoe","hidden_size":1e30}"#).to_string().contains("hidden_size"));
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(refused(&nested), Error::File(_)));
}
