//! `mobile list`, `info`, `pull`, `import` and `rm`: the library of models.

use indicatif::{ProgressBar, ProgressStyle};
use mobile_models::{
    Arranged, CancellationToken, Catalogue, Error, Import, Library, Machine, Pull, PullEvent, Shape, Status, Use,
    Verdict, assess, bytes, inspect,
};
use serde_json::json;

use crate::args::{ImportArgs, InfoArgs, ListArgs, PullArgs, RemoveArgs};
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::{self, home};

pub(crate) fn list(args: &ListArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    if args.available {
        return available(&library, args.json);
    }
    let entries = library.list().map_err(failed)?;
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
    for (offer, fit) in offers.iter().zip(fits) {
        let disk = if fit.disk { "" } else { ", the disk is too full" };
        write_now(&format!("{}  {}  {}{disk}\n", offer.id, bytes(offer.bytes), verdict(fit.verdict)))?;
    }
    Ok(())
}

pub(crate) fn info(args: &InfoArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let embedded = model::embedded().filter(|_| args.model == model::EMBEDDED);
    let (shape, download, copies) = match embedded.map_or_else(|| library.resolve(&args.model), Ok) {
        Ok(folder) => (inspect(&folder).map_err(failed)?.shape, 0, library.arranged(&folder)),
        Err(Error::NotHere(id)) => match Catalogue::embedded().get(&id) {
            Some(offer) => (offer.shape.clone(), offer.bytes, Vec::new()),
            None => return Err(failed(Error::NotHere(id))),
        },
        Err(error) => return Err(failed(error)),
    };
    let room = Machine::assess(library.cache(), None).room();
    let usage = Use { context: args.context, ..Use::default() };
    let fit = assess(&shape, &usage, &room, download);
    if args.json {
        return print_json(&json!({ "model": args.model, "shape": shape, "fit": fit, "arranged": copies }));
    }
    write_now(&format!("{}: {}\n{}\n", args.model, described(&shape), verdict(fit.verdict)))?;
    let copies = copies.iter().map(|c| format!("arranged for streaming: {} in {}", bytes(c.bytes), c.path.display()));
    fit.lines.into_iter().chain(copies).try_for_each(|line| write_now(&format!("  {line}\n")))
}

pub(crate) fn pull(args: &PullArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let id = args.id.parse().map_err(failed)?;
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
        Err(error) => Err(failed(error)),
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
    let entry = Library::open(home()?).import(&args.folder, args.name.as_deref(), how).map_err(failed)?;
    write_now(&format!("{} is in the library\n", entry.id))
}

pub(crate) fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let freed = Library::open(home()?).remove(&args.id).map_err(failed)?;
    write_now(&format!("{} is gone, {} came free\n", args.id, bytes(freed)))
}

fn described(shape: &Shape) -> String {
    let bits = shape.quantization.map_or_else(String::new, |q| format!(", {} bits", q.bits));
    format!(
        "{:.1}B parameters, {} experts of which {} a token, {} tokens of context{bits}",
        shape.parameters() as f64 / 1e9,
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

fn failed(error: Error) -> Failure {
    Failure::Model(error.to_string())
}
