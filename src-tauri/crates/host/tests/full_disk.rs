//! A disk that runs full while experts are arranged for streaming.

use std::path::{Path, PathBuf};
use std::process::Command;

use mobile_engine::{Engine, ExpertMemory, LoadOptions, Policy, Request};
use mobile_host::{MemoryChoice, PlaceError, Placing, Source, place};
use mobile_models::Library;

/// Where the small disk is, in a process of its own.
const DISK: &str = "MOBILE_TEST_DISK";

const NAME: &str = "a_disk_that_runs_full_is_said_and_the_next_run_goes_on";

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/olmoe-tiny")
}

/// Runs a script in a mount namespace of its own.
fn apart(script: &str, disk: &Path) -> std::io::Result<std::process::Output> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-eu", "-c", script]);
    command.env(DISK, disk).env("TEST", std::env::current_exe()?).output()
}

#[test]
fn a_disk_that_runs_full_is_said_and_the_next_run_goes_on() {
    if let Some(disk) = std::env::var_os(DISK) {
        return on_small_disk(Path::new(&disk));
    }
    let disk = tempfile::tempdir().expect("a temporary folder");
    match apart(&format!("mount -t tmpfs -o size=1M tmpfs \"${DISK}\""), disk.path()) {
        Ok(output) if output.status.success() => {}
        other => return eprintln!("skipped: this system lets no test mount a disk of its own: {other:?}"),
    }
    let again = format!("mount -t tmpfs -o size=100M tmpfs \"${DISK}\"; exec \"$TEST\" --exact {NAME} --nocapture");
    let output = apart(&again, disk.path()).expect("ran");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn on_small_disk(disk: &Path) {
    let library = Library::with_cache(disk.join("home"), disk.join("cache"));
    let source = Source { folder: embedded(), compute: None, quantize: None };
    let half = MemoryChoice::Exactly(ExpertMemory::Share(0.5));
    let filler = disk.join("filler");
    let streamed = || std::fs::read_dir(disk.join("home/streamed")).into_iter().flatten().flatten().map(|e| e.path());
    let layers = |folder: &Path| -> Vec<PathBuf> {
        let files = std::fs::read_dir(folder).expect("the folder").flatten().map(|e| e.path());
        files.filter(|path| path.extension().is_some_and(|e| e == "bin")).collect()
    };
    let mut arranged = 0;
    let mut fill = |step: Placing| {
        let Placing::Arranging { done, .. } = step else { return Ok(()) };
        arranged = done;
        if done == 2 {
            // Somebody else takes all the rest but a page.
            let mut file = std::fs::File::create(&filler).expect("made");
            let full = std::io::copy(&mut std::io::repeat(1), &mut file).expect_err("a small disk");
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            let length = file.metadata().expect("known").len();
            file.set_len(length - 4096).expect("shortened");
        }
        Ok(())
    };
    let error = place(&library, source.clone(), half, &mut fill).expect_err("the disk is full");
    assert!(matches!(error, PlaceError::NoSpace(_)), "{error:?}");
    let said = error.to_string();
    for words in ["ran full", "streamed", "what is done is kept", "MOBILE_HOME"] {
        assert!(said.contains(words), "{said:?} does not say {words:?}");
    }
    assert_eq!(arranged, 2);
    let partial: Vec<PathBuf> = streamed().collect();
    let [partial] = partial.as_slice() else { panic!("{partial:?}") };
    assert!(partial.to_string_lossy().ends_with(".partial"), "{}", partial.display());
    let names = || std::fs::read_dir(partial).expect("there").flatten().map(|e| e.file_name());
    assert!(names().all(|name| !name.to_string_lossy().starts_with(".begun-")), "{:?}", names().collect::<Vec<_>>());
    let times = |folder: &Path| {
        let mut files = layers(folder);
        files.sort();
        let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).expect("a time");
        files.iter().take(2).map(modified).collect::<Vec<_>>()
    };
    let before = times(partial);
    assert_eq!(before.len(), 2);

    std::fs::remove_file(&filler).expect("freed");
    let placed = place(&library, source, half, &mut |_| Ok(())).expect("there is room again");
    assert_eq!(times(&placed.folder), before, "finished layers are used");
    assert_eq!(streamed().collect::<Vec<_>>(), std::slice::from_ref(&placed.folder));
    let answer = |folder: PathBuf, memory| {
        let options = LoadOptions { expert_memory: memory, ..LoadOptions::new(folder) };
        let engine = Engine::load(options, |_| Ok(())).expect("loaded");
        let request = Request { policy: Policy::Full, ..Request::new((40..60).collect(), 16) };
        let (tokens, _) = engine.submit(request).expect("submitted").wait().expect("decoded");
        tokens.iter().map(|t| t.id).collect::<Vec<_>>()
    };
    assert_eq!(answer(placed.folder, placed.memory), answer(embedded(), ExpertMemory::All));
}
