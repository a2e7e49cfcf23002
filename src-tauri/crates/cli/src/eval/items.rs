//! What a policy is asked to predict: windows of a text, or answers of a chat file.

use std::path::Path;

use mobile_engine::{Engine, Message, Text};
use mobile_host::{Item, sample, windows};
use serde::Deserialize;

use crate::args::EvalArgs;
use crate::error::Failure;

/// A line of a chat file.
#[derive(Debug, Deserialize)]
struct Row {
    messages: Vec<Turn>,
    reference: String,
}

#[derive(Debug, Deserialize)]
struct Turn {
    role: String,
    content: String,
}

/// The items of the file that the arguments name.
pub(super) fn items(engine: &Engine, args: &EvalArgs) -> Result<Vec<Item>, Failure> {
    let items = match (&args.text, &args.chat) {
        (Some(path), _) => {
            windows(&tokens(engine.text(), &read(path)?, args.separator.as_deref())?, args.window as usize)
        }
        (None, Some(path)) => answers(engine.text(), &read(path)?, path)?,
        (None, None) => Vec::new(),
    };
    let context = engine.info().context;
    if let Some((n, item)) = items.iter().enumerate().find(|(_, i)| i.prompt.len() + i.forced.len() > context + 1) {
        let total = item.prompt.len() + item.forced.len();
        return Err(Failure::Input(format!(
            "window or row {} has {total} tokens and the model's context holds {context}",
            n + 1
        )));
    }
    let items = sample(items, args.tokens);
    if items.is_empty() {
        return Err(Failure::Input("the file holds nothing to predict: it needs two tokens at least".to_owned()));
    }
    Ok(items)
}

/// A text file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::Input(format!("cannot read {}: {e}", path.display())))
}

/// Token ids of a text, document by document where a separator is given.
fn tokens(text: &Text, content: &str, separator: Option<&str>) -> Result<Vec<u32>, Failure> {
    let Some(separator) = separator.filter(|s| !s.is_empty()) else {
        return text.encode(content).map_err(Failure::Request);
    };
    let end = plain(text, separator)?;
    let mut ids = Vec::new();
    for document in content.split(separator) {
        let document = document.strip_prefix('\n').unwrap_or(document);
        if document.is_empty() {
            continue;
        }
        ids.extend(text.encode(document).map_err(Failure::Request)?);
        // Text that is not in the vocabulary as such was never learned as an end.
        if let [end] = end[..] {
            ids.push(end);
        }
    }
    Ok(ids)
}

fn answers(text: &Text, content: &str, path: &Path) -> Result<Vec<Item>, Failure> {
    let end = turn_end(text)?;
    let lines = content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let bad = |why: String| Failure::Input(format!("{}, line {}: {why}", path.display(), n + 1));
            let row: Row = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            let messages: Vec<Message> = row.messages.into_iter().map(|m| Message::new(m.role, m.content)).collect();
            let prompt = text.encode_chat(&messages).map_err(|e| bad(e.to_string()))?;
            let mut forced = plain(text, &row.reference)?;
            forced.extend(end);
            if forced.is_empty() { Err(bad("the reference is empty".to_owned())) } else { Ok(Item { prompt, forced }) }
        })
        .collect()
}

/// The end-of-sequence token that the chat template puts after an answer.
fn turn_end(text: &Text) -> Result<Option<u32>, Failure> {
    const PROBE: &str = "probe-of-an-answer";
    let turns = [Message::new("user", "a"), Message::new("assistant", PROBE)];
    let rendered = text.render(&turns).map_err(Failure::Request)?;
    let after = rendered.rsplit_once(PROBE).map_or("", |(_, after)| after);
    let place = |id: &u32| text.token(*id).and_then(|token| after.find(&token));
    let found = text.eos().iter().filter_map(|id| Some((place(id)?, *id))).min();
    Ok(found.map(|(_, id)| id).or_else(|| text.eos().first().copied()))
}

/// Token ids without what the tokenizer puts before a text of its own accord.
fn plain(text: &Text, content: &str) -> Result<Vec<u32>, Failure> {
    let ids = text.encode(content).map_err(Failure::Request)?;
    let added = text.encode("").map_err(Failure::Request)?;
    Ok(ids.strip_prefix(added.as_slice()).map_or_else(|| ids.clone(), <[u32]>::to_vec))
}
