//! Keys and values of finished requests, for the next one that begins the same way.

use crate::kv::KvCache;

/// Beginnings shorter than this are computed faster than they are looked after.
const MIN_TOKENS: usize = 16;

/// Finished requests' caches, the least recently used first, within a number of bytes.
#[derive(Debug)]
pub(crate) struct PrefixStore {
    entries: Vec<Entry>,
    budget: usize,
}

#[derive(Debug)]
struct Entry {
    tokens: Vec<u32>,
    cache: KvCache,
}

impl PrefixStore {
    pub(crate) fn new(budget: usize) -> Self {
        Self { entries: Vec::new(), budget }
    }

    /// Keeps `cache`, which holds `tokens`, all computed with all experts.
    pub(crate) fn put(&mut self, tokens: &[u32], mut cache: KvCache) {
        if tokens.len() < MIN_TOKENS || cache.bytes() > self.budget {
            return;
        }
        cache.truncate(tokens.len());
        // What cannot be kept is computed again.
        let Ok(cache) = cache.alone() else { return };
        // An entry that the new one continues has nothing to offer any more.
        self.entries.retain(|e| !tokens.starts_with(&e.tokens));
        self.entries.push(Entry { tokens: tokens.to_vec(), cache });
        while self.bytes() > self.budget {
            self.entries.remove(0);
        }
    }

    /// A cache with the longest known beginning of `prompt`, always short of its last token, whose pass gives the
    /// first logits.
    pub(crate) fn take(&mut self, prompt: &[u32]) -> Option<KvCache> {
        let limit = prompt.len().saturating_sub(1);
        let shared = |e: &Entry| e.tokens.iter().zip(&prompt[..limit]).take_while(|(a, b)| a == b).count();
        let (index, length) = self
            .entries
            .iter()
            .enumerate()
            .map(|(i, e)| (i, shared(e)))
            .max_by_key(|&(_, n)| n)
            .filter(|&(_, n)| n >= MIN_TOKENS)?;
        let entry = self.entries.remove(index);
        if length == entry.tokens.len() {
            // The whole entry is continued: handing it over lets the new positions be written in place.
            return Some(entry.cache);
        }
        let copy = entry.cache.copy();
        self.entries.push(entry);
        let mut cache = copy.ok()?;
        cache.truncate(length);
        Some(cache)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.iter().map(|e| e.cache.bytes()).sum()
    }
}
