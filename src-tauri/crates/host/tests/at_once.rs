//! Two programs that arrange the experts of one model at the same time.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use mobile_engine::{ExpertMemory, is_arranged};
use mobile_host::{MemoryChoice, Placed, Placing, Source, place};
use mobile_models::Library;

/// Where the other process has its library.
const HOME: &str = "MOBILE_TEST_HOME";

/// What the other process says when it has arranged a layer and stops there.
const BEGUN: &str = "one layer is done";

const NAME: &str = "the_other_is_waited_for";

fn placed(home: &Path, tell: &mut dyn FnMut(Placing)) -> Placed {
    let tell = &mut |step| {
        tell(step);
        Ok(())
    };
    let library = Library::with_cache(home.join("home"), home.join("cache"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/olmoe-tiny");
    let source = Source { folder, compute: None, quantize: None };
    place(&library, source, MemoryChoice::Exactly(ExpertMemory::Share(0.5)), tell).expect("placed")
}

/// Arranges a layer, then waits until standard input ends.
fn stopping(home: &Path) {
    placed(home, &mut |step| {
        if matches!(step, Placing::Arranging { done: 1, .. }) {
            println!("\n{BEGUN}");
            std::io::stdin().read_to_end(&mut Vec::new()).expect("readable");
        }
    });
}

/// A process that has arranged one layer.
fn other(home: &Path) -> Child {
    let program = std::env::current_exe().expect("known");
    let mut command = Command::new(program);
    command.args(["--exact", NAME, "--nocapture"]).env(HOME, home).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text") == BEGUN));
    // What it says later must find a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// When the only file of experts was written.
fn written(home: &Path) -> (PathBuf, SystemTime) {
    let folders = std::fs::read_dir(home.join("home/streamed")).expect("made").flatten().map(|e| e.path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path()));
    let layers: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "bin")).collect();
    let [layer] = layers.as_slice() else { panic!("{layers:?}") };
    (layer.clone(), layer.metadata().and_then(|m| m.modified()).expect("a time"))
}

#[test]
fn the_other_is_waited_for() {
    if let Some(home) = std::env::var_os(HOME) {
        return stopping(Path::new(&home));
    }
    let home = tempfile::tempdir().expect("a folder");
    let mut child = other(home.path());
    let mut steps = Vec::new();
    let placed = placed(home.path(), &mut |step| {
        steps.push(step);
        drop(child.stdin.take());
    });
    assert!(child.wait().expect("ended").success());
    assert_eq!(steps, [Placing::Waiting], "the work is found done");
    assert!(is_arranged(&placed.folder));
}

#[test]
fn a_killed_one_blocks_nobody() {
    let home = tempfile::tempdir().expect("a folder");
    let mut child = other(home.path());
    let (layer, before) = written(home.path());
    let mut steps = Vec::new();
    let placed = placed(home.path(), &mut |step| {
        steps.push(step);
        if step == Placing::Waiting {
            child.kill().expect("killed");
        }
    });
    assert!(!child.wait().expect("ended").success());
    assert_eq!(steps[0], Placing::Waiting);
    assert!(matches!(steps[1], Placing::Arranging { done: 1, .. }));
    let layer = placed.folder.join(layer.file_name().expect("a name"));
    assert_eq!(layer.metadata().and_then(|m| m.modified()).expect("a time"), before, "its layer is used");
    assert!(is_arranged(&placed.folder));
}
