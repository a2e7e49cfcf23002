//! Fixtures and references shared by the engine's tests.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use mobile_engine::{Compute, Engine, LoadOptions, Prefill, Request, Token};
use serde::Deserialize;

/// What another implementation made of one prompt.
#[derive(Debug, Deserialize)]
pub(crate) struct Prompt {
    pub(crate) name: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) full: Expected,
    pub(crate) little: Option<Expected>,
}

/// The reference's last logits (all of the vocabulary, or the largest) and greedy continuation.
#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    #[serde(default)]
    pub(crate) last_logits: Vec<f32>,
    #[serde(default)]
    pub(crate) last_top_ids: Vec<u32>,
    #[serde(default)]
    pub(crate) last_top_logits: Vec<f32>,
    pub(crate) greedy_ids: Vec<u32>,
    pub(crate) greedy_margin: Vec<f32>,
    #[serde(default)]
    pub(crate) greedy_confidence: Vec<f32>,
}

/// A reference file.
#[derive(Debug, Deserialize)]
pub(crate) struct Golden {
    pub(crate) prompts: Vec<Prompt>,
}

impl Golden {
    pub(crate) fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures")
}

pub(crate) fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/olmoe-tiny")
}

/// A copy of a micro checkpoint that a test may change, with the tokenizer they share.
pub(crate) fn micro(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let micro = fixtures().join("micro");
    for entry in std::fs::read_dir(micro.join(name)).expect("the fixture") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    std::fs::copy(micro.join("tokenizer.json"), copy.path().join("tokenizer.json")).expect("copied");
    copy
}

pub(crate) fn load(folder: &Path) -> Engine {
    let options = LoadOptions { compute: Some(Compute::F32), ..LoadOptions::new(folder) };
    Engine::load(options, |_| Ok(())).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

/// A request that depends on nothing but its own tokens, past end-of-sequence tokens too.
pub(crate) fn plain(prompt: &[u32], max_tokens: usize, prefill: Prefill) -> Request {
    Request {
        policy: mobile_engine::Policy::Full,
        prefill,
        ignore_eos: true,
        reuse_prefix: false,
        ..Request::new(prompt.to_vec(), max_tokens)
    }
}

pub(crate) fn run(engine: &Engine, request: Request) -> Vec<Token> {
    engine.submit(request).expect("submitted").wait().expect("decoded").0
}

pub(crate) fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|t| t.id).collect()
}

/// Compares greedy tokens up to the first step where the reference's two best tokens are nearly equal, from where on
/// another implementation may rightly differ. Gives how many tokens were compared.
pub(crate) fn assert_greedy(what: &str, found: &[u32], expected: &Expected) -> usize {
    let sure = expected.greedy_margin.iter().take_while(|&&m| m > 1e-3).count();
    assert_eq!(found[..sure], expected.greedy_ids[..sure], "{what}");
    sure
}
