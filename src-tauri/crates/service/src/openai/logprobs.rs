//! Log probabilities in the two shapes that OpenAI has for them.

use mobile_engine::{Logprob, Text, Token};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Of a chat's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    content: Vec<ChatToken>,
    #[schema(value_type = Option<()>)]
    refusal: Option<()>,
}

/// A token of the answer.
#[derive(Debug, Serialize, ToSchema)]
struct ChatToken {
    #[serde(flatten)]
    token: Candidate,
    top_logprobs: Vec<Candidate>,
}

/// A token and its probability.
#[derive(Debug, Serialize, ToSchema)]
struct Candidate {
    token: String,
    /// Natural logarithm of the probability at temperature 1.
    logprob: f32,
    /// The token's bytes in UTF-8; null where it is a part of a character.
    bytes: Option<Vec<u8>>,
}

impl Candidate {
    fn new(text: &Text, id: u32, logprob: f32) -> Self {
        let token = piece(text, id);
        let bytes = (!token.contains(char::REPLACEMENT_CHARACTER)).then(|| token.clone().into_bytes());
        Self { token, logprob: floor(logprob), bytes }
    }
}

impl ChatLogprobs {
    pub(crate) fn new(text: &Text, tokens: &[Token]) -> Self {
        let of = |l: &Logprob| Candidate::new(text, l.id, l.logprob);
        let content = tokens
            .iter()
            .map(|t| ChatToken {
                token: Candidate::new(text, t.id, t.logprob.unwrap_or(f32::NEG_INFINITY)),
                top_logprobs: t.top_logprobs.iter().map(of).collect(),
            })
            .collect();
        Self { content, refusal: None }
    }
}

/// Of a completion: four lists of the same length.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    text_offset: Vec<usize>,
    token_logprobs: Vec<f32>,
    tokens: Vec<String>,
    #[schema(value_type = Vec<Object>)]
    top_logprobs: Vec<Map<String, Value>>,
}

impl CompletionLogprobs {
    /// `offset`: where in the answer the first token begins, in characters. Moves it to the end of the last.
    pub(crate) fn new(text: &Text, tokens: &[Token], offset: &mut usize) -> Self {
        let mut lists = Self::default();
        for token in tokens {
            let written = piece(text, token.id);
            lists.text_offset.push(*offset);
            *offset += written.chars().count();
            lists.tokens.push(written);
            lists.token_logprobs.push(floor(token.logprob.unwrap_or(f32::NEG_INFINITY)));
            let top = token.top_logprobs.iter().map(|l| (piece(text, l.id), floor(l.logprob).into())).collect();
            lists.top_logprobs.push(top);
        }
        lists
    }
}

/// A token as text, special tokens by their names.
fn piece(text: &Text, id: u32) -> String {
    match text.decode(&[id]) {
        Ok(piece) if !piece.is_empty() => piece,
        _ => text.token(id).unwrap_or_default(),
    }
}

/// JSON knows no infinity; OpenAI writes −9999 for what is as good as impossible.
fn floor(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}
