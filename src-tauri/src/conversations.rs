//! Conversations on disk, one file each.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use crate::contract::{Conversation, ConversationSummary};
use crate::error::{CommandError, Result};
use crate::storage::{self, Stored};

/// Characters shown on either side of what a search found.
const AROUND: usize = 40;

/// The conversations in one folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Titles and times, read once; `None` before anyone asked.
    heads: Mutex<Heads>,
    /// Where files that could not be understood were put, until somebody is told.
    damaged: Mutex<Vec<PathBuf>>,
}

type Heads = Option<HashMap<String, Head>>;

/// What the list shows of a conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    id: String,
    title: String,
    updated_at: u64,
}

/// What a search looks at.
#[derive(Debug, Deserialize)]
struct Texts {
    title: String,
    messages: Vec<Said>,
}

#[derive(Debug, Deserialize)]
struct Said {
    content: String,
}

impl Store {
    pub(crate) fn new(data: &Path) -> Self {
        Self { folder: data.join("conversations"), heads: Mutex::new(None), damaged: Mutex::default() }
    }

    /// All conversations, the latest first.
    pub(crate) fn list(&self) -> Result<Vec<ConversationSummary>> {
        let mut heads = self.heads();
        let mut list: Vec<_> = self.known(&mut heads)?.values().map(|head| summary(head, None)).collect();
        list.sort_by(|a, b| b.updated_at.cmp(&a.updated_at).then_with(|| a.id.cmp(&b.id)));
        Ok(list)
    }

    /// Where the files now are that were found damaged since this was last asked.
    pub(crate) fn take_damaged(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The conversations whose title or messages contain `query`, in any case.
    pub(crate) fn search(&self, query: &str) -> Result<Vec<ConversationSummary>> {
        let query: Vec<char> = folded(query.trim()).collect();
        let mut found = Vec::new();
        for mut entry in self.list()? {
            let Ok(Stored::Found(texts)) = storage::read::<Texts>(&self.path(&entry.id)?) else { continue };
            let titled = excerpt(&texts.title, &query).is_some();
            entry.excerpt = texts.messages.iter().find_map(|said| excerpt(&said.content, &query));
            if titled || entry.excerpt.is_some() {
                found.push(entry);
            }
        }
        Ok(found)
    }

    pub(crate) fn get(&self, id: &str) -> Result<Conversation> {
        self.read(id, &mut self.heads())
    }

    pub(crate) fn save(&self, conversation: &Conversation) -> Result<()> {
        self.write(conversation, &mut self.heads())
    }

    pub(crate) fn rename(&self, id: &str, title: &str) -> Result<()> {
        // Held over both, so that what is saved in between is not overwritten.
        let mut heads = self.heads();
        let mut conversation = self.read(id, &mut heads)?;
        title.trim().clone_into(&mut conversation.title);
        self.write(&conversation, &mut heads)
    }

    fn read(&self, id: &str, heads: &mut Heads) -> Result<Conversation> {
        match storage::read(&self.path(id)?).map_err(CommandError::disk)? {
            Stored::Found(conversation) => Ok(conversation),
            Stored::Absent => Err(CommandError::new("not_found", "this conversation is not there any more")),
            Stored::SetAside(aside) => {
                self.known(heads)?.remove(id);
                Err(CommandError::new(
                    "corrupt",
                    format!("this conversation's file is damaged; it was kept as {}", aside.display()),
                ))
            }
        }
    }

    fn write(&self, conversation: &Conversation, heads: &mut Heads) -> Result<()> {
        let path = self.path(&conversation.id)?;
        storage::write(&path, conversation).map_err(|e| CommandError::disk(format!("not saved: {e}")))?;
        let Conversation { id, title, updated_at, .. } = conversation;
        let head = Head { id: id.clone(), title: title.clone(), updated_at: *updated_at };
        self.known(heads)?.insert(id.clone(), head);
        Ok(())
    }

    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        let path = self.path(id)?;
        let mut heads = self.heads();
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(CommandError::disk(format!("{}: {e}", path.display())));
            }
            _ => {}
        }
        self.known(&mut heads)?.remove(id);
        Ok(())
    }

    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known<'a>(&self, heads: &'a mut Heads) -> Result<&'a mut HashMap<String, Head>> {
        if heads.is_none() {
            *heads = Some(self.scan()?);
        }
        Ok(heads.get_or_insert_default())
    }

    fn scan(&self) -> Result<HashMap<String, Head>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
            Err(e) => return Err(CommandError::disk(format!("{}: {e}", self.folder.display()))),
        };
        let mut heads = HashMap::new();
        for path in entries.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "json")) {
            match storage::read::<Head>(&path) {
                Ok(Stored::Found(head)) if path.file_stem().is_some_and(|stem| stem == head.id.as_str()) => {
                    heads.insert(head.id.clone(), head);
                }
                Ok(Stored::Found(_)) => tracing::warn!("{}: not the file of its conversation", path.display()),
                Ok(Stored::SetAside(aside)) => {
                    self.damaged.lock().unwrap_or_else(PoisonError::into_inner).push(aside);
                }
                Ok(Stored::Absent) => {}
                Err(e) => tracing::warn!("{e}"),
            }
        }
        Ok(heads)
    }

    /// The file of a conversation; ids come from the window and become file names.
    fn path(&self, id: &str) -> Result<PathBuf> {
        let plain = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if plain {
            Ok(self.folder.join(format!("{id}.json")))
        } else {
            Err(CommandError::new("invalid", format!("{id:?} is not the id of a conversation")))
        }
    }
}

fn summary(head: &Head, excerpt: Option<String>) -> ConversationSummary {
    ConversationSummary { id: head.id.clone(), title: head.title.clone(), updated_at: head.updated_at, excerpt }
}

/// One lower-case character for each character, so that places found in it are places in the text.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c))
}

/// The place of the first match with what stands around it.
fn excerpt(text: &str, query: &[char]) -> Option<String> {
    let haystack: Vec<char> = folded(text).collect();
    let at = haystack.windows(query.len().max(1)).position(|window| window == query)?;
    let (from, to) = (at.saturating_sub(AROUND), at + query.len() + AROUND);
    let words: String = text.chars().skip(from).take(to - from).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < haystack.len() { "…" } else { "" });
    Some(format!("{before}{words}{after}"))
}

#[cfg(test)]
mod tests;
