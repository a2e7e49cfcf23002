//! Text in and out: the tokenizer, the chat template and the way back, character by character.

mod stream;
mod template;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokenizers::Tokenizer;

pub(crate) use stream::{Piece, TextStream};
pub use template::Message;
use template::Template;

use crate::checkpoint::Fields;
use crate::constraint::{self, LazyVocabulary, Vocabulary, Words};
use crate::error::{Error, Result};

/// The tokenizer and chat template of a checkpoint.
#[derive(Debug, Clone)]
pub struct Text {
    path: PathBuf,
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<Template>>,
    eos: BTreeSet<u32>,
    words: Arc<OnceLock<Result<Words, String>>>,
    vocabulary: Arc<LazyVocabulary>,
}

impl Text {
    /// Reads `tokenizer.json`, the chat template (`chat_template.jinja`, else the one in `tokenizer_config.json`) and
    /// the end-of-sequence ids (`generation_config.json`, else `config.json`, else the tokenizer's `eos_token`).
    ///
    /// # Errors
    /// [`Error::Text`] or [`Error::File`] naming the file that cannot be used.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = mobile_files::read_shared_text(&path)?;
        let tokenizer =
            Tokenizer::from_bytes(&bytes).map_err(|e| Error::text(&path, format!("not a tokenizer: {e}")))?;
        let settings = Fields::open_if_present(&folder.join("tokenizer_config.json"))?;
        let template = Template::open(folder, settings.as_ref())?.map(Arc::new);
        let eos = eos_ids(folder, settings.as_ref(), &tokenizer)?;
        Ok(Self {
            path,
            tokenizer: Arc::new(tokenizer),
            template,
            eos,
            words: Arc::default(),
            vocabulary: Arc::default(),
        })
    }

    /// Token ids of a text as it stands, with the special tokens that the tokenizer itself adds (a BOS, say).
    ///
    /// # Errors
    /// [`Error::Text`] when the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    /// Token ids of a conversation, ready for the assistant's answer.
    ///
    /// # Errors
    /// [`Error::Text`] without a chat template, [`Error::Template`] when the template refuses the conversation.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.encode_with(&self.render(messages)?, false)
    }

    /// The conversation as the template writes it.
    ///
    /// # Errors
    /// As [`Text::encode_chat`].
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        match &self.template {
            Some(template) => template.render(messages),
            None => Err(Error::text(
                &self.path.with_file_name("tokenizer_config.json"),
                "the model has no chat template; give it a raw prompt instead",
            )),
        }
    }

    /// Whether the checkpoint has a chat template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// [`Error::Text`] when the tokenizer cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|e| Error::text(&self.path, e.to_string()))
    }

    /// Ids that end an answer.
    #[must_use]
    pub fn eos(&self) -> &BTreeSet<u32> {
        &self.eos
    }

    /// A token as its vocabulary writes it, special tokens included.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The bytes of text that a token stands for, wherever it stands: with the space that it begins with, and a part of a
    /// character as it is. `None` for a special token, and where the vocabulary is of a kind that does not say. The first
    /// call takes a fraction of a second; never make it where nobody may wait.
    #[must_use]
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let word = self.words().as_ref().ok()?.get(id as usize)?;
        (!matches!(word[..], [0xFF, _, ..])).then_some(word)
    }

    fn words(&self) -> &Result<Words, String> {
        self.words.get_or_init(|| constraint::words(&self.tokenizer))
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, special).map_err(|e| Error::text(&self.path, e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The vocabulary as constraints see it, sorted when the first of them is made.
    pub(crate) fn vocabulary(&self) -> Result<&Vocabulary> {
        let make = || Vocabulary::new(self.words().as_ref().map_err(Clone::clone)?, self.eos.iter().copied());
        let made = self.vocabulary.get_or_init(make);
        made.as_ref().map_err(|why| Error::Constraint(format!("this model's vocabulary cannot be constrained: {why}")))
    }

    pub(crate) fn stream(&self, stop: Vec<String>) -> TextStream {
        TextStream::new(Arc::clone(&self.tokenizer), stop)
    }
}

fn eos_ids(folder: &Path, settings: Option<&Fields>, tokenizer: &Tokenizer) -> Result<BTreeSet<u32>> {
    for file in ["generation_config.json", "config.json"] {
        let Some(fields) = Fields::open_if_present(&folder.join(file))? else { continue };
        let Some(value) = fields.get("eos_token_id") else { continue };
        let ids = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        return ids
            .into_iter()
            .map(|id| {
                id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                    fields.error(format!("field \"eos_token_id\" must be a token id or a list of them, found {value}"))
                })
            })
            .collect();
    }
    let token = settings.and_then(|s| s.get("eos_token")).and_then(template::token_text);
    Ok(token.and_then(|t| tokenizer.token_to_id(t)).into_iter().collect())
}
