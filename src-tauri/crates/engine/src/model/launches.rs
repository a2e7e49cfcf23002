//! How many operations a pass asks of the device, and how many views it makes. On a GPU every operation is a launch, and
//! what the host does for launches and views is what bounds decoding there.

use std::collections::BTreeMap;
use std::ffi::c_char;

use mlx_rs::Array;

use super::{Batch, Logits, Model};
use crate::policy::Choice;
use crate::sampling::{confidence, greedy};

/// Operations that only look at memory in another way. (They may still copy, where strides forbid looking.)
const VIEWS: [&str; 11] = [
    "AsStrided",
    "Broadcast",
    "ExpandDims",
    "Flatten",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StopGradient",
    "Transpose",
    "Unflatten",
];

/// Operations and views between what is computed already and `outputs`, by name.
#[allow(unsafe_code)]
fn graph(outputs: &[&Array]) -> BTreeMap<String, usize> {
    let mut text: *mut c_char = std::ptr::null_mut();
    let mut length = 0;
    // SAFETY: the stream, the vector and the namer live until they are freed here, the arrays longer; the text is
    // complete when the stream is closed, is copied, and freed once.
    let graph = unsafe {
        let stream = libc::open_memstream(&mut text, &mut length);
        assert!(!stream.is_null(), "a stream in memory");
        let arrays: Vec<_> = outputs.iter().map(|a| a.as_ptr()).collect();
        let vector = mlx_sys::mlx_vector_array_new_data(arrays.as_ptr(), arrays.len());
        let namer = mlx_sys::mlx_node_namer_new();
        let status = mlx_sys::mlx_export_to_dot(stream.cast(), namer, vector);
        libc::fclose(stream);
        mlx_sys::mlx_node_namer_free(namer);
        mlx_sys::mlx_vector_array_free(vector);
        assert_eq!(status, 0, "MLX writes its graph");
        let graph = String::from_utf8_lossy(std::slice::from_raw_parts(text.cast::<u8>(), length)).into_owned();
        libc::free(text.cast());
        graph
    };
    let names = graph.lines().filter_map(|line| line.split_once("[label =\"")?.1.split_once('"')).map(|(name, _)| name);
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// Of decoding one token after a prompt.
fn of_a_token(name: &str, choice: Choice, watched: bool) -> BTreeMap<String, usize> {
    let model = Model::fixture(name);
    let mut cache = model.cache();
    let pass = |cache: &mut _, tokens: &[u32]| {
        let mut batch = Batch { watched, ..Batch::new([(tokens, cache)]) };
        let output = model.forward(&mut batch, choice, Logits::Last).expect("a pass");
        (output.logits.expect("logits"), output.routed.map(|routed| routed.ids))
    };
    pass(&mut cache, &[5, 6, 7]).0.eval().expect("the prompt");
    let (logits, ids) = pass(&mut cache, &[8]);
    let (confidence, token) = (confidence(&logits).expect("confidence"), greedy(&logits).expect("a token"));
    graph(&[&confidence, &token].into_iter().chain(&ids).collect::<Vec<_>>())
}

/// How many of `counts` are operations, and how many views.
fn launches_and_views(counts: &BTreeMap<String, usize>) -> (usize, usize) {
    let views = counts.iter().filter(|(name, _)| VIEWS.contains(&name.as_str())).map(|(_, count)| count).sum();
    (counts.values().sum::<usize>() - views, views)
}

/// The figures are those of MLX's CPU back end, which puts norms, RoPE and attention together from simple operations; a
/// GPU has a launch for each.
#[test]
fn a_token_takes_no_more_launches_and_views_than_it_did() {
    let models = [("micro/olmoe-mlx-4bit", 105, 81), ("micro/qwen2moe-gqa", 101, 89), ("micro/mixtral-window", 87, 79)];
    for (name, most, most_views) in models {
        for choice in [Choice::All, Choice::Half { renormalize: false }] {
            let counts = of_a_token(name, choice, false);
            let (launches, views) = launches_and_views(&counts);
            println!("{name}, {choice:?}: {launches} launches, {views} views: {counts:?}");
            assert!(launches <= most, "{name}, {choice:?}: {launches} launches: {counts:?}");
            assert!(views <= most_views, "{name}, {choice:?}: {views} views: {counts:?}");
        }
    }
}

/// The ids of all layers are still to be computed when the pass has been put together: no layer has read them back.
/// What is put together contiguously needs no copy to be so.
#[test]
fn watching_the_experts_takes_one_launch_more() {
    for name in ["micro/olmoe-mlx-4bit", "micro/qwen2moe-gqa", "micro/mixtral-window"] {
        for choice in [Choice::All, Choice::Half { renormalize: false }] {
            let launches = |watched| {
                let mut counts = of_a_token(name, choice, watched);
                counts.retain(|name, _| !VIEWS.contains(&name.as_str()));
                counts
            };
            let mut alone = launches(false);
            for more in ["Concatenate", "Contiguous"] {
                *alone.entry(more.to_owned()).or_default() += 1;
            }
            assert_eq!(launches(true), alone, "{name}, {choice:?}");
        }
    }
}
