//! Token ids to text as they come: whole characters only, and nothing of a stop string.

use std::sync::Arc;

use tokenizers::{Tokenizer, step_decode_stream};

/// Incremental detokenization with stop strings.
pub(crate) struct TextStream {
    tokenizer: Arc<Tokenizer>,
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
    stop: Vec<String>,
    /// Text that may turn out to be the start of a stop string.
    held: String,
}

/// What a token added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// A stop string ended the answer just behind `text`.
    pub(crate) stopped: bool,
}

impl TextStream {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, mut stop: Vec<String>) -> Self {
        stop.retain(|s| !s.is_empty());
        Self { tokenizer, ids: Vec::new(), prefix: String::new(), prefix_index: 0, stop, held: String::new() }
    }

    /// The text that is certain after token `id`.
    pub(crate) fn push(&mut self, id: u32) -> Piece {
        let (ids, prefix, index) = (&mut self.ids, &mut self.prefix, &mut self.prefix_index);
        // An error means that decoding is not prefix-stable here; the text then comes with a later token.
        let text = step_decode_stream(&self.tokenizer, vec![id], true, ids, prefix, index).ok().flatten();
        self.release(&text.unwrap_or_default())
    }

    /// What was held back, once no more tokens come: an unfinished character comes out as U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.tokenizer.decode(&self.ids, true).unwrap_or_default();
        let tail = rest.strip_prefix(self.prefix.as_str()).unwrap_or_default().to_owned();
        self.ids.clear();
        let piece = self.release(&tail);
        if piece.stopped { piece.text } else { piece.text + &std::mem::take(&mut self.held) }
    }

    fn release(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        if let Some(at) = self.stop.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.held.truncate(at);
            return Piece { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.stop.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Piece { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }
}

/// Length of the longest end of `text` that is a proper start of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    (1..stop.len()).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    /// One token per byte.
    fn bytes() -> Arc<Tokenizer> {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let vocab: serde_json::Map<_, _> =
            alphabet.iter().enumerate().map(|(i, c)| (c.to_string(), i.into())).collect();
        let level = serde_json::json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
        });
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [], "pre_tokenizer": level, "decoder": level,
            "model": { "type": "BPE", "vocab": vocab, "merges": [] }
        });
        Arc::new(Tokenizer::from_bytes(json.to_string()).expect("a tokenizer"))
    }

    fn run(stop: &[&str], text: &str) -> (Vec<String>, bool) {
        let tokenizer = bytes();
        let ids = tokenizer.encode(text, false).expect("encoded").get_ids().to_vec();
        let mut stream = TextStream::new(tokenizer, stop.iter().map(ToString::to_string).collect());
        let mut out = Vec::new();
        for id in ids {
            let piece = stream.push(id);
            out.push(piece.text);
            if piece.stopped {
                return (out, true);
            }
        }
        out.push(stream.finish());
        (out, false)
    }

    #[test]
    fn a_character_of_many_bytes_comes_whole() {
        let (pieces, _) = run(&[], "a🦊é");
        assert_eq!(pieces, ["a", "", "", "", "🦊", "", "é", ""]);
    }

    #[test]
    fn a_stop_string_over_several_tokens_leaves_no_trace() {
        let (pieces, stopped) = run(&["END"], "so ENDless");
        assert!(stopped);
        assert_eq!(pieces.concat(), "so ");
    }

    #[test]
    fn the_start_of_a_stop_string_is_held_only_while_it_may_become_one() {
        let (pieces, stopped) = run(&["END"], "ENE");
        assert!(!stopped);
        assert_eq!(pieces, ["", "", "EN", "E"]);
    }

    #[test]
    fn an_unfinished_character_is_marked_at_the_end() {
        let tokenizer = bytes();
        let ids = tokenizer.encode("é", false).expect("encoded").get_ids().to_vec();
        let mut stream = TextStream::new(tokenizer, vec![]);
        assert_eq!(stream.push(ids[0]).text, "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
