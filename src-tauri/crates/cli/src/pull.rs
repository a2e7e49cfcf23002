//! `mobile pull`: a model from the hub, with a bar for all of it and one for each file on its way.

use std::collections::HashMap;

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use mobile_models::{CancellationToken, Error, Library, Pull, PullEvent, bytes};
use serde_json::json;

use crate::args::PullArgs;
use crate::error::Failure;
use crate::generate::write_now;
use crate::library::failed;
use crate::model::home;

pub(crate) fn run(args: &PullArgs) -> Result<(), Failure> {
    let library = Library::open(home()?);
    let id = args.id.parse().map_err(|e| failed(&library, e))?;
    let pull = Pull { revision: args.revision.clone(), ..Pull::new(id, &library) };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::Other(format!("cannot start: {e}")))?;
    let (done, told) = runtime.block_on(async {
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
            let mut bars = Bars::new();
            while let Some(event) = receiver.recv().await {
                if as_json { line(&json!(event))? } else { bars.show(&event) }
            }
            bars.clear();
            Ok::<_, Failure>(())
        });
        let done = pull.run(events, &cancel).await;
        // The bars are only a picture of what has been said already.
        (done, shown.await.unwrap_or(Ok(())))
    });
    if let Err(error) = &done
        && args.json
    {
        // Where nobody reads it, the exit code still says so.
        let _ = line(&json!({ "event": "failed", "code": error.code(), "error": error.to_string() }));
    }
    match done {
        Ok(path) if !args.json => write_now(&format!("{} is ready in {}\n", args.id, path.display())),
        Ok(_) => told,
        Err(Error::Cancelled) => {
            eprintln!("What has arrived is kept; the same command goes on from there.");
            Err(Failure::Interrupted)
        }
        Err(error) => Err(failed(&library, error)),
    }
}

fn line(event: &serde_json::Value) -> Result<(), Failure> {
    write_now(&format!("{event}\n"))
}

/// What is seen of a download. Where standard error is no terminal, there are no bars and the rest is said all the same.
struct Bars {
    together: MultiProgress,
    all: ProgressBar,
    files: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        Self { together: MultiProgress::new(), all: ProgressBar::hidden(), files: HashMap::new() }
    }

    fn show(&mut self, event: &PullEvent) {
        match event {
            PullEvent::Started { files, total, present, .. } => {
                let (size, here) = (bytes(*total), bytes(*present));
                match present {
                    0 => self.say(&format!("{size} in {files} files")),
                    n if n == total => return,
                    _ => self.say(&format!("{size} in {files} files, {here} of it is here already")),
                }
                self.all = self.add(*total, "{wide_bar} {msg}");
            }
            PullEvent::Progress { file, file_done, file_total, done, total, bytes_per_second, seconds_left } => {
                let left = seconds_left.map_or_else(String::new, |seconds| {
                    format!(", {} left", HumanDuration(std::time::Duration::from_secs_f64(seconds.min(1e9))))
                });
                self.all.set_position(*done);
                self.all.set_message(format!("{}, {}/s{left}", part(*done, *total), bytes(*bytes_per_second as u64)));
                self.file(file, *file_done, *file_total);
            }
            PullEvent::Waiting { file } => self.say(&format!("another program is fetching {file}; waiting for it")),
            PullEvent::Retrying { what, why, seconds, .. } => {
                self.say(&format!("{what}: {why}; again in {seconds:.0} s"));
            }
            PullEvent::Damaged { file } => self.say(&format!("{file} arrived damaged and is fetched again")),
            PullEvent::Verified { .. } | PullEvent::Done { .. } => {}
        }
    }

    /// A file has a bar while it is on its way.
    fn file(&mut self, name: &str, done: u64, total: u64) {
        if done == total {
            if let Some(bar) = self.files.remove(name) {
                bar.finish_and_clear();
            }
            return;
        }
        if !self.files.contains_key(name) {
            let bar = self.add(total, "  {bar:20} {msg}");
            self.files.insert(name.to_owned(), bar);
        }
        let bar = &self.files[name];
        bar.set_position(done);
        bar.set_message(format!("{name}, {}", part(done, total)));
    }

    fn add(&self, length: u64, template: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.together.add(ProgressBar::new(length).with_style(style))
    }

    fn say(&self, text: &str) {
        self.together.suspend(|| eprintln!("{text}"));
    }

    fn clear(&self) {
        self.files.values().chain([&self.all]).for_each(ProgressBar::finish_and_clear);
    }
}

fn part(done: u64, total: u64) -> String {
    format!("{} of {}", bytes(done), bytes(total))
}
