//! `mobile generate`: one prompt, one answer.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use mobile_engine::{Constraint, Engine, Error, Event, FinishReason, Finished, Message, Request, Token};
use serde_json::{Value, json};

use crate::args::GenerateArgs;
use crate::error::Failure;
use crate::{interrupt, model};

pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let prompt = prompt(args.prompt.as_deref())?;
    let schema = args.json_schema.as_deref().map(schema).transpose()?;
    interrupt::install()?;
    let engine = model::load(&args.model)?;
    let ids = encode(&engine, args, prompt).map_err(Failure::Request)?;
    let request = Request {
        sampling: args.decoding.sampling(),
        policy: args.decoding.policy.policy(engine.info()),
        prefill: args.prefill.into(),
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
        constraint: schema.map(|s| Constraint::json_schema(engine.text(), &s)).transpose().map_err(Failure::Request)?,
        ..Request::new(ids, args.decoding.max_tokens as usize)
    };
    let (tokens, finished) = answer(&engine, request, |text| if args.json { Ok(()) } else { write_now(text) })?;
    if args.json {
        let text: String = tokens.iter().map(|t| t.text.as_str()).chain([finished.text.as_str()]).collect();
        let object = json!({
            "text": text,
            "tokens": tokens,
            "finish_reason": finished.reason,
            "stats": finished.statistics,
        });
        write_now(&format!("{object:#}\n"))?;
    } else {
        write_now("\n")?;
        eprintln!("{}", summary(&finished));
    }
    if finished.reason == FinishReason::Cancelled { Err(Failure::Interrupted) } else { Ok(()) }
}

fn encode(engine: &Engine, args: &GenerateArgs, prompt: String) -> Result<Vec<u32>, Error> {
    // An empty prompt is refused before a template makes something of it.
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let text = engine.text();
    if args.raw || !text.has_template() {
        return text.encode(&prompt);
    }
    let system = args.system.iter().map(|s| Message::new("system", s));
    let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
    text.encode_chat(&messages)
}

/// Runs a request to its end, handing on the text as it becomes certain.
pub(crate) fn answer(
    engine: &Engine,
    request: Request,
    mut show: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(Vec<Token>, Finished), Failure> {
    let mut generation = engine.submit(request).map_err(Failure::Request)?;
    interrupt::watch(Some(generation.remote()));
    let mut tokens = Vec::new();
    let ended = loop {
        match generation.blocking_next() {
            Some(Event::Started { .. }) => {}
            Some(Event::Token(token)) => {
                show(&token.text)?;
                tokens.push(token);
            }
            Some(Event::Finished(finished)) => {
                show(&finished.text)?;
                break Ok((tokens, *finished));
            }
            Some(Event::Failed(error)) => break Err(Failure::Request(error)),
            None => break Err(Failure::Request(Error::Closed)),
        }
    };
    interrupt::watch(None);
    ended
}

fn schema(file: &Path) -> Result<Value, Failure> {
    let text = std::fs::read(file).map_err(|e| Failure::Input(format!("cannot read {}: {e}", file.display())))?;
    serde_json::from_slice(&text).map_err(|e| Failure::Input(format!("{}: not JSON: {e}", file.display())))
}

/// The prompt from the arguments or from standard input.
fn prompt(given: Option<&str>) -> Result<String, Failure> {
    match given {
        Some(prompt) if prompt != "-" => return Ok(prompt.to_owned()),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::Input("give a prompt, as in: mobile generate \"Tell me a story.\"".to_owned()));
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|e| Failure::Input(format!("cannot read standard input: {e}")))?;
    String::from_utf8(bytes).map_err(|e| {
        Failure::Input(format!(
            "the prompt on standard input is not UTF-8: byte {} is wrong",
            e.utf8_error().valid_up_to()
        ))
    })
}

/// Writes to standard output at once.
pub(crate) fn write_now(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The figures of an answer, in two lines.
pub(crate) fn summary(finished: &Finished) -> String {
    let s = &finished.statistics;
    let c = &s.counters;
    let share = |n: u64| if c.tokens_processed == 0 { 0.0 } else { 100.0 * n as f64 / c.tokens_processed as f64 };
    let mut lines = format!(
        "{} tokens at {:.1} tok/s after {} prompt tokens in {:.2} s, {} on {}, peak {:.0} MB",
        s.tokens_generated,
        s.tokens_per_second,
        s.prompt_tokens,
        s.prefill_seconds,
        s.model,
        s.device,
        s.peak_memory_bytes as f64 / 1e6,
    );
    lines.push_str(&format!(
        "\npolicy {}: {:.0}% of the tokens by half of the experts, {:.0}% computed again, {:.0}% of the experts used",
        s.policy,
        share(c.unimportant_tokens),
        share(c.fallbacks),
        100.0 * c.experts_computed as f64 / c.experts_full.max(1) as f64,
    ));
    let mut streamed = c.expert_cache;
    streamed.merge(&c.prefill_expert_cache);
    let wanted = streamed.hits + streamed.misses;
    if wanted > 0 {
        lines.push_str(&format!(
            "\nexperts streamed: {:.0}% found in memory, {:.1} MB read, {:.2} s waited for",
            100.0 * streamed.hits as f64 / wanted as f64,
            streamed.bytes_read as f64 / 1e6,
            streamed.wait_seconds,
        ));
    }
    if let Some(auto) = &s.auto {
        lines.push_str(&format!("\nauto chose {}: {}", auto.chosen, auto.why));
    }
    lines
}
