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
    /// The token's bytes, which may be a part of a character; null for a special token.
    bytes: Option<Vec<u8>>,
}

impl Candidate {
    fn new(text: &Text, id: u32, logprob: f32) -> Self {
        let (token, bytes) = (piece(text, id), text.bytes(id).map(<[u8]>::to_vec));
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

/// Where in the answer the next token begins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offset {
    characters: usize,
    /// An answer begins without the space that its first token may have.
    begun: bool,
}

impl Offset {
    fn pass(&mut self, text: &Text, id: u32) {
        let spare = !self.begun && text.bytes(id).is_some_and(|bytes| bytes.starts_with(b" "));
        let stripped = spare && !decoded(text, id).starts_with(' ');
        self.characters += characters(text, id) - usize::from(stripped);
        self.begun |= self.characters > 0 || stripped;
    }
}

impl CompletionLogprobs {
    /// `offset`: where the first token begins. Moves it to the end of the last.
    pub(crate) fn new(text: &Text, tokens: &[Token], offset: &mut Offset) -> Self {
        let mut lists = Self::default();
        for token in tokens {
            lists.text_offset.push(offset.characters);
            offset.pass(text, token.id);
            lists.tokens.push(piece(text, token.id));
            lists.token_logprobs.push(floor(token.logprob.unwrap_or(f32::NEG_INFINITY)));
            let top = token.top_logprobs.iter().map(|l| (piece(text, l.id), floor(l.logprob).into())).collect();
            lists.top_logprobs.push(top);
        }
        lists
    }
}

/// A token as text, special tokens by their names, a part of a character as U+FFFD.
fn piece(text: &Text, id: u32) -> String {
    if let Some(bytes) = text.bytes(id) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let alone = decoded(text, id);
    if alone.is_empty() { text.token(id).unwrap_or_default() } else { alone }
}

/// How many characters of the answer begin in a token.
fn characters(text: &Text, id: u32) -> usize {
    let continues = |byte: &u8| byte & 0xC0 == 0x80;
    let begun = |bytes: &[u8]| bytes.iter().filter(|byte| !continues(byte)).count();
    text.bytes(id).map_or_else(|| decoded(text, id).chars().count(), begun)
}

fn decoded(text: &Text, id: u32) -> String {
    text.decode(&[id]).unwrap_or_default()
}

/// JSON knows no infinity; OpenAI writes −9999 for what is as good as impossible.
fn floor(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

#[cfg(test)]
mod tests {
    use mobile_engine::Decision;
    use serde_json::json;

    use super::*;

    /// As Mixtral's: spaces are "▁", one is taken from the front, and what is not in the vocabulary is bytes.
    fn sentence_pieces() -> Text {
        let words = ["<s>", "▁the", "▁", "<0xF0>", "<0x9F>", "<0xA6>", "<0x8A>", "s"];
        let vocabulary: Map<_, _> = words.iter().enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let decoders = json!([
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }
        ]);
        let begin = json!({ "id": 0, "content": "<s>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false });
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [begin], "decoder": { "type": "Sequence", "decoders": decoders },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": true }
        });
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).expect("written");
        Text::open(folder.path()).expect("a tokenizer")
    }

    fn tokens(ids: &[u32]) -> Vec<Token> {
        let token = |&id| Token {
            id,
            text: String::new(),
            decision: Decision::Big,
            confidence: 1.0,
            ms: 0.0,
            predicted: None,
            logprob: Some(-1.0),
            top_logprobs: vec![Logprob { id, logprob: -1.0 }],
        };
        ids.iter().map(token).collect()
    }

    #[test]
    fn offsets_are_those_of_the_answer_with_spaces_and_characters_of_many_tokens() {
        let text = sentence_pieces();
        let offsets = |ids: &[u32]| {
            let answer = text.decode(ids).expect("decoded");
            let mut offset = Offset::default();
            let lists = ids.iter().map(|&id| CompletionLogprobs::new(&text, &tokens(&[id]), &mut offset));
            let lists = lists.flat_map(|list| {
                assert!(list.top_logprobs[0].contains_key(&list.tokens[0]));
                list.tokens.into_iter().zip(list.text_offset).collect::<Vec<_>>()
            });
            let (tokens, offsets): (Vec<_>, Vec<_>) = lists.unzip();
            assert_eq!(offset.characters, answer.chars().count(), "{answer}");
            (answer, tokens.concat(), offsets)
        };
        let (answer, tokens, places) = offsets(&[1, 1, 3, 4, 5, 6, 7, 0]);
        assert_eq!(answer, "the the🦊s");
        assert_eq!(tokens, " the the\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}s<s>");
        assert_eq!(places, [0, 3, 7, 8, 8, 8, 8, 9]);
        assert_eq!(offsets(&[2, 7]).2, [0, 0]);
        assert_eq!(offsets(&[2, 1]).2, [0, 0]);
        assert_eq!(offsets(&[0, 7, 1]).2, [0, 0, 1]);
    }

    #[test]
    fn a_chats_tokens_come_with_their_bytes() {
        let text = sentence_pieces();
        let chat = ChatLogprobs::new(&text, &tokens(&[1, 3, 4, 5, 6, 0]));
        let bytes: Vec<_> = chat.content.iter().map(|t| t.token.bytes.clone()).collect();
        assert_eq!(bytes[5], None, "a special token stands for no text");
        let all: Vec<u8> = bytes.into_iter().flatten().flatten().collect();
        assert_eq!(String::from_utf8(all).as_deref(), Ok(" the🦊"));
        assert_eq!(chat.content[0].token.token, " the");
    }
}
