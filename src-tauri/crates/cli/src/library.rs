//! `mobile list`, `info`, `pull`, `import` and `rm`: the library of models.

use indicatif::{ProgressBar, ProgressStyle};
use mobile_models::{
    Arranged, CancellationToken, Catalogue, Error, Fit, Import, Library, Machine, Offer, Pull, PullEvent, Shape,
    Status, Use, Verdict, assess, bytes, inspect,
};
use serde_json::json;

use crate::args::{ImportArgs, InfoArgs, ListArgs, PullArgs, RemoveArgs};
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::{self, home};
use crate::names::nearest;
use crate::table::table;

/// How the ids of imported folders begin.
const LOCAL: &str = "local/";

pub(crate) fn list(args: &ListArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    if args.available {
        return available(&library, args.json);
    }
    let entries = library.list().map_err(|e| failed(&library, e))?;
    if args.json {
        return print_json(&json!(entries));
    }
    if entries.is_empty() {
        write_now("No models yet. mobile list --available shows what can be had, mobile pull ID fetches one.\n")?;
    }
    for entry in &entries {
        let state = match &entry.status {
            Status::Ready { checkpoint } => format!("ready, {}", described(&checkpoint.shape)),
            Status::Incomplete { why } => format!("not complete: {why}"),
        };
        let size = bytes(entry.bytes);
        write_now(&format!("{}  {size}{}  {state}\n", entry.id, arranged(&entry.arranged)))?;
    }
    library.arranged_besides(&entries).iter().try_for_each(|copy| {
        let (path, size) = (copy.path.display(), bytes(copy.bytes));
        write_now(&format!("{path}  {size}  arranged for streaming, of a model outside the library\n"))
    })
}

/// What the copies take that are arranged for streaming, if there are any.
fn arranged(copies: &[Arranged]) -> String {
    match copies.iter().map(|copy| copy.bytes).sum::<u64>() {
        0 => String::new(),
        sum => format!(" + {} arranged for streaming", bytes(sum)),
    }
}

fn available(library: &Library, as_json: bool) -> Result<(), Failure> {
    let room = Machine::assess(library.cache(), None).room();
    let offers = &Catalogue::embedded().offers;
    let fits = offers.iter().map(|o| assess(&o.shape, &Use::default(), &room, o.bytes));
    if as_json {
        let rows: Vec<_> = offers.iter().zip(fits).map(|(offer, fit)| json!({ "offer": offer, "fit": fit })).collect();
        return print_json(&json!(rows));
    }
    let row = |(offer, fit): (&Offer, Fit)| {
        let disk = if fit.disk { "" } else { ", the disk is too full" };
        vec![
            offer.id.clone(),
            bytes(offer.bytes),
            count(offer.parameters),
            format!("{} of {}", offer.shape.top_k, offer.shape.experts),
            offer.shape.context.to_string(),
            offer.licence.clone(),
            format!("{}{disk}", verdict(fit.verdict)),
        ]
    };
    let header = ["model", "size", "parameters", "experts a token", "context", "licence", "on this machine"];
    write_now(&table(&header, &offers.iter().zip(fits).map(row).collect::<Vec<_>>()))
}

pub(crate) fn info(args: &InfoArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let embedded = model::embedded().filter(|_| args.model == model::EMBEDDED);
    let (shape, download, copies) = match embedded.map_or_else(|| library.resolve(&args.model), Ok) {
        Ok(folder) => (inspect(&folder).map_err(|e| failed(&library, e))?.shape, 0, library.arranged(&folder)),
        Err(Error::NotHere(id)) => match Catalogue::embedded().get(&id) {
            Some(offer) => (offer.shape.clone(), offer.bytes, Vec::new()),
            None => return Err(failed(&library, Error::NotHere(id))),
        },
        Err(error) => return Err(failed(&library, error)),
    };
    let offer = Catalogue::embedded().get(&args.model);
    let room = Machine::assess(library.cache(), None).room();
    let usage = Use { context: args.context, ..Use::default() };
    let fit = assess(&shape, &usage, &room, download);
    if args.json {
        let licence = offer.map(|offer| &offer.licence);
        let facts = json!({ "model": args.model, "licence": licence, "shape": shape, "fit": fit, "arranged": copies });
        return print_json(&facts);
    }
    let licence = offer.map_or_else(String::new, |offer| format!(", licence {}", offer.licence));
    write_now(&format!("{}: {}{licence}\n{}\n", args.model, described(&shape), verdict(fit.verdict)))?;
    let copies = copies.iter().map(|c| format!("arranged for streaming: {} in {}", bytes(c.bytes), c.path.display()));
    fit.lines.into_iter().chain(copies).try_for_each(|line| write_now(&format!("  {line}\n")))
}

pub(crate) fn pull(args: &PullArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let id = args.id.parse().map_err(|e| failed(&library, e))?;
    let pull = Pull { revision: args.revision.clone(), ..Pull::new(id, &library) };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::Other(format!("cannot start: {e}")))?;
    let done = runtime.block_on(async {
        let (events, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let interrupted = cancel.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupted.cancel();
            }
        });
        let as_json = args.json;
        let shown = tokio::spawn(async move {
            let bar = ProgressBar::hidden();
            while let Some(event) = receiver.recv().await {
                show(&bar, &event, as_json);
            }
            bar.finish_and_clear();
        });
        let done = pull.run(events, &cancel).await;
        // The bar is only a picture of what has been said already.
        let _ = shown.await;
        done
    });
    match done {
        Ok(path) if !args.json => write_now(&format!("{} is ready in {}\n", args.id, path.display())),
        Ok(_) => Ok(()),
        Err(Error::Cancelled) => {
            eprintln!("What has arrived is kept; the same command goes on from there.");
            Err(Failure::Interrupted)
        }
        Err(error) => Err(failed(&library, error)),
    }
}

fn show(bar: &ProgressBar, event: &PullEvent, as_json: bool) {
    if as_json {
        if let Ok(line) = serde_json::to_string(event) {
            println!("{line}");
        }
        return;
    }
    match event {
        PullEvent::Started { total, present, .. } => {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            bar.set_style(style());
            bar.set_length(*total);
            bar.set_position(*present);
        }
        PullEvent::Progress { file, done, .. } => {
            bar.set_message(file.clone());
            bar.set_position(*done);
        }
        PullEvent::Waiting { file } => bar.println(format!("another program is fetching {file}; waiting for it")),
        PullEvent::Retrying { what, why, seconds, .. } => {
            bar.println(format!("{what}: {why}; again in {seconds:.0} s"));
        }
        PullEvent::Damaged { file } => bar.println(format!("{file} arrived damaged and is fetched again")),
        PullEvent::Verified { .. } | PullEvent::Done { .. } => {}
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

pub(crate) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let how = if args.copy { Import::Copy } else { Import::InPlace };
    let library = Library::open(home()?);
    let entry = library.import(&args.folder, args.name.as_deref(), how).map_err(|e| failed(&library, e))?;
    if args.json {
        return print_json(&json!(entry));
    }
    write_now(&format!("{} is in the library\n", entry.id))
}

pub(crate) fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let freed = library.remove(&args.id).map_err(|e| failed(&library, e))?;
    if args.json {
        return print_json(&json!({ "id": args.id, "freed_bytes": freed }));
    }
    write_now(&format!("{} is gone, {} came free\n", args.id, bytes(freed)))
}

/// A number of parameters as it is written in models' names.
fn count(parameters: u64) -> String {
    let millions = parameters as f64 / 1e6;
    if millions < 1e3 { format!("{millions:.0}M") } else { format!("{:.1}B", millions / 1e3) }
}

fn described(shape: &Shape) -> String {
    let bits = shape.quantization.map_or_else(String::new, |q| format!(", {} bits", q.bits));
    format!(
        "{} parameters, {} experts of which {} a token, {} tokens of context{bits}",
        count(shape.parameters()),
        shape.experts,
        shape.top_k,
        shape.context
    )
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fits => "fits in memory",
        Verdict::FitsStreamed => "larger than memory: needs its experts streamed",
        Verdict::DoesNotFit => "does not fit this machine",
    }
}

fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    write_now(&format!("{value:#}\n"))
}

/// The error, with the name that was probably meant where it is about one that nothing has.
pub(crate) fn failed(library: &Library, error: Error) -> Failure {
    let meant = match &error {
        Error::Id(name) | Error::NotHere(name) | Error::NoRepository { id: name, .. } => meant(library, name),
        _ => None,
    };
    Failure::Model(meant.map_or_else(|| error.to_string(), |meant| format!("{error}. Did you mean {meant}?")))
}

/// The id, of the library or the catalogue, that is most like `name`, and not the same.
fn meant(library: &Library, name: &str) -> Option<String> {
    let here = library.list().unwrap_or_default().into_iter().map(|entry| entry.id);
    // Imported folders have names of the user's own, which have only `local/` in common.
    if let Some(own) = name.strip_prefix(LOCAL) {
        let owns = here.filter_map(|id| id.strip_prefix(LOCAL).map(str::to_owned));
        return nearest(own, owns).filter(|meant| meant != own).map(|meant| format!("{LOCAL}{meant}"));
    }
    let offers = Catalogue::embedded().offers.iter().map(|offer| offer.id.clone());
    let ids: Vec<String> = here.chain(offers).collect();
    if ids.iter().any(|id| id == name) {
        return None;
    }
    let name = name.to_lowercase();
    let likeness = |id: &String| {
        let id = id.to_lowercase();
        // People leave the owner out.
        let short = id.split_once('/').map_or(id.as_str(), |(_, short)| short);
        strsim::jaro_winkler(&id, &name).max(strsim::jaro_winkler(short, &name))
    };
    let best = ids.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then(|| best.clone())
}
