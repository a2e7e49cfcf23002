//! Answers that follow a JSON schema: which tokens may come next, and when the answer is complete.
//!
//! The grammar is [llguidance](https://github.com/guidance-ai/llguidance)'s. A schema is compiled before its request is
//! queued, away from the engine's thread; while the request runs, the engine asks for a mask before each draw and
//! commits each token that stands. A little pass that falls back draws under the same mask and commits nothing.

mod guide;
mod schema;

use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::text::Text;

pub(crate) use guide::Guide;

/// Between two tokens of JSON: nothing, a space, or a new line with its indentation. A model that is unsure could
/// otherwise write white space to the end of its context.
const WHITE_SPACE: &str = r"\x20|\x0A\x20{0,32}";

/// Stack of the thread that compiles: a schema's depth and its chains of `$ref` are walked by recursion.
const STACK_BYTES: usize = 64 << 20;

/// What an answer must be, compiled for one model.
#[derive(Clone)]
pub struct Constraint(Box<Matcher>);

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// JSON that follows `schema` (draft 2020-12, or the one that `$schema` names). Takes milliseconds for usual
    /// schemas, and once for a model the time to sort its vocabulary; never call it where nobody may wait.
    ///
    /// # Errors
    /// [`Error::Constraint`] for a schema that is malformed, asks for a keyword that cannot be followed (it is named),
    /// cannot be satisfied, or is too large.
    pub fn json_schema(text: &Text, schema: &Value) -> Result<Self> {
        let compiled = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("schema".to_owned()).stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, || compile(text, schema));
            let joined = thread.map(std::thread::ScopedJoinHandle::join);
            joined.map_err(|e| Error::Constraint(format!("cannot start a thread to compile it: {e}")))
        })?;
        compiled.map_err(|_| Error::Constraint(INCOMPREHENSIBLE.to_owned()))?
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// [`Error::Constraint`] when the model's vocabulary is of a kind that is not known.
    pub fn json_object(text: &Text) -> Result<Self> {
        Self::json_schema(text, &json!({ "type": "object" }))
    }
}

fn compile(text: &Text, schema: &Value) -> Result<Constraint> {
    schema::check(schema)?;
    let mut schema = schema.clone();
    if schema.is_object() {
        JsonCompileOptions { whitespace_pattern: Some(WHITE_SPACE.to_owned()), ..JsonCompileOptions::default() }
            .apply_to(&mut schema);
    }
    let parser = text.vocabulary()?.0.create_parser(TopLevelGrammar::from_json_schema(schema));
    let parser = parser.map_err(|e| Error::Constraint(explained(&e.to_string())))?;
    Ok(Constraint(Box::new(Matcher::new(Ok(parser)))))
}

/// What is said of a schema that makes the library panic.
const INCOMPREHENSIBLE: &str = "it cannot be compiled";

/// The library's words for a schema's writer, in one line and without the library's own settings.
fn explained(message: &str) -> String {
    if message.contains("oneOf constraints are not supported") {
        return "oneOf can be followed only where its options plainly exclude each other: use anyOf".to_owned();
    }
    if message.starts_with("panic") {
        return INCOMPREHENSIBLE.to_owned();
    }
    let first = message.lines().next().unwrap_or_default();
    let reason = message.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
    [first, reason].join(" ").trim().chars().take(300).collect()
}

/// A model's vocabulary as a trie of bytes, and what is derived from it for all schemas.
pub(crate) struct Vocabulary(ParserFactory);

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

/// Made when the first constraint is.
pub(crate) type LazyVocabulary = OnceLock<Result<Vocabulary, String>>;

/// What each token stands for, by id.
pub(crate) type Words = Vec<Vec<u8>>;

/// The words of a tokenizer. A special token's begin with 0xFF, which no text does.
pub(crate) fn words(tokenizer: &Tokenizer) -> Result<Words, String> {
    // The library may panic over a vocabulary that is not as usual.
    let words = catch_unwind(AssertUnwindSafe(|| {
        llguidance::token_bytes_from_tokenizer_json(&serde_json::to_value(tokenizer)?)
    }));
    words.map_err(|e| explained(&e.to_string()))
}

impl Vocabulary {
    pub(crate) fn new(words: &Words, eos: impl IntoIterator<Item = u32>) -> Result<Self, String> {
        let factory = catch_unwind(AssertUnwindSafe(|| {
            let size = words.len() as u32;
            let mut trie = TokTrie::from(&TokRxInfo::new(size, INVALID_TOKEN), words);
            let eos: Vec<u32> = eos.into_iter().filter(|&id| id < size).collect();
            if !eos.is_empty() {
                trie = trie.with_eos_tokens(&eos);
            }
            let environment: TokEnv = std::sync::Arc::new(ApproximateTokEnv::new(trie));
            let slices = SlicedBiasComputer::json_slices();
            let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)?;
            *factory.quiet().limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
            Ok(factory)
        }));
        factory.map(Self).map_err(|e| explained(&e.to_string()))
    }
}
