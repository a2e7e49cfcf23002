//! `mobile list`, `info`, `import` and `rm`: the library of models.

use std::time::Duration;

use mobile_models::{
    Arranged, Catalogue, Entry, Error, Fit, Import, LOCAL, Library, Machine, Offer, Origin, Pull, Shape, Status, Use,
    Verdict, assess, bytes, inspect,
};
use serde_json::json;

use crate::args::{ImportArgs, InfoArgs, ListArgs, RemoveArgs};
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::{self, home};
use crate::names::nearest;
use crate::table::table;

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
        write_now(&format!(
            "No models yet besides the built-in {}. mobile list --available shows what can be had, mobile pull ID \
             fetches one.\n",
            model::EMBEDDED
        ))?;
    }
    for entry in &entries {
        let state = state(entry);
        let size = bytes(entry.bytes);
        write_now(&format!("{}  {size}{}  {state}\n", entry.id, arranged(&entry.arranged)))?;
    }
    library.arranged_besides(&entries).iter().try_for_each(|copy| {
        let (path, size) = (copy.path.display(), bytes(copy.bytes));
        write_now(&format!("{path}  {size}  arranged for streaming, of a model outside the library\n"))
    })
}

fn state(entry: &Entry) -> String {
    match &entry.status {
        Status::Ready { checkpoint } => format!("ready, {}", described(&checkpoint.shape)),
        Status::Incomplete { why } if entry.origin == Origin::Hub => {
            format!("not complete: {why}; `mobile pull {}` fetches the rest", entry.id)
        }
        Status::Incomplete { why } => format!("not complete: {why}"),
    }
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
            format!("{} or {} of {}", offer.shape.top_k, offer.little_k, offer.shape.experts),
            offer.shape.context.to_string(),
            offer.licence.clone(),
            bytes(offer.needs_resident),
            bytes(offer.needs_streamed),
            format!("{}{disk}", verdict(fit.verdict)),
        ]
    };
    let header = [
        "model",
        "size",
        "parameters",
        "experts a token",
        "context",
        "licence",
        "memory",
        "streamed from",
        "on this machine",
    ];
    write_now(&table(&header, &offers.iter().zip(fits).map(row).collect::<Vec<_>>()))
}

pub(crate) fn info(args: &InfoArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let embedded = model::embedded().filter(|_| args.model == model::EMBEDDED);
    let (shape, download, copies) = match embedded.map_or_else(|| library.resolve(&args.model), Ok) {
        Ok(folder) => (inspect(&folder).map_err(|e| failed(&library, e))?.shape, 0, library.arranged(&folder)),
        Err(Error::NotHere(id) | Error::Incomplete { id, .. }) => {
            let (shape, download) = to_be_fetched(&library, &id)?;
            (shape, download, Vec::new())
        }
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

/// What a model is that is not here, or not whole, and the bytes still to be fetched: by the catalogue, else by the hub.
fn to_be_fetched(library: &Library, id: &str) -> Result<(Shape, u64), Failure> {
    let here = library.info(id).map_or(0, |entry| entry.bytes);
    if let Some(offer) = Catalogue::embedded().get(id) {
        return Ok((offer.shape.clone(), offer.bytes.saturating_sub(here)));
    }
    let known = id.parse().map_err(|e| failed(library, e))?;
    let pull = Pull { attempts: 2, patience: Duration::from_secs(10), ..Pull::new(known, library) };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::Other(format!("cannot start: {e}")))?;
    match runtime.block_on(pull.preview()) {
        Ok(preview) => Ok((preview.shape, preview.missing)),
        Err(Error::Offline(_)) => Err(failed(library, Error::NotHere(id.to_owned()))),
        Err(Error::Hub { endpoint, why }) => {
            let failure = failed(library, Error::NotHere(id.to_owned()));
            Err(Failure::Model(format!("{failure}. {endpoint} was asked what it is, and failed: {why}")))
        }
        Err(error) => Err(failed(library, error)),
    }
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
    write_now(&format!("{} removed, {} freed\n", args.id, bytes(freed)))
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
        Verdict::FitsStreamed => "fits with its experts streamed",
        Verdict::DoesNotFit => "does not fit this machine",
    }
}

fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    write_now(&format!("{value:#}\n"))
}

/// The error, with the name that was probably meant where it is about one that nothing has.
pub(crate) fn failed(library: &Library, error: Error) -> Failure {
    let meant = match &error {
        Error::Id(name) | Error::NotHere(name) | Error::NotImported(name) | Error::NoRepository { id: name, .. } => {
            meant(library, name)
        }
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
