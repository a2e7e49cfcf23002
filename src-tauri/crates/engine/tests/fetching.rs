//! How often experts are read, and whether `auto` fetches them ahead where that pays and only there.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{embedded, plain, run};
use mobile_engine::{
    Compute, Engine, ExpertMemory, ExpertRead, ExpertReads, LoadOptions, Mobile, Policy, Prefetch, Prefill, Request,
    arrange,
};
use tempfile::TempDir;

/// More tokens than are read in one pass where all experts are in memory.
const LONG: usize = 600;

fn streamed(memory: ExpertMemory, before: impl Fn(ExpertRead<'_>) + Send + Sync + 'static) -> (TempDir, Engine) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("arranged");
    arrange(&embedded(), &folder, Compute::F32, None, |_, _| Ok(())).expect("arranged");
    let mut options = LoadOptions { expert_memory: memory, ..LoadOptions::new(folder) };
    options.reads = ExpertReads {
        before: Some(Arc::new(move |read| {
            before(read);
            Ok(())
        })),
        ..ExpertReads::default()
    };
    (home, Engine::load(options, |_| Ok(())).expect("loaded"))
}

#[test]
fn a_prompt_reads_every_expert_once_at_most() {
    type Reads = BTreeMap<(PathBuf, usize), usize>;
    // One expert a layer, and some.
    for (experts, tokens) in [(1, 40), (16, LONG)] {
        let reads = Arc::<Mutex<Reads>>::default();
        let count = Arc::clone(&reads);
        let (_home, engine) = streamed(ExpertMemory::Share(f64::from(experts) / 64.0), move |read| {
            *count.lock().expect("not poisoned").entry((read.file.to_owned(), read.expert)).or_default() += 1;
        });
        assert_eq!(engine.info().expert_slots, experts as usize);
        let prompt: Vec<u32> = (0..tokens as u32).map(|n| 40 + n * 37 % 4000).collect();
        run(&engine, plain(&prompt, 1, Prefill::All));
        let reads = reads.lock().expect("not poisoned");
        let most = reads.values().max().copied();
        assert_eq!(most, Some(1), "{experts} in memory, {tokens} tokens");
        let (layers, all) = (engine.info().layers, engine.info().experts);
        assert!(reads.len() > layers * all / 2, "most experts are wanted: {}", reads.len());
        let mut by_layer = BTreeMap::<_, usize>::new();
        reads.keys().for_each(|(file, _)| *by_layer.entry(file).or_default() += 1);
        let fewest = by_layer.values().min().copied();
        assert_eq!(fewest, Some(engine.info().top_k), "the last layer computes with the last token alone");
    }
}

/// Lets `auto` decode over reads that take the given times on demand and ahead of need; gives what it says, and what it
/// fetched ahead once it had made up its mind.
fn decode_by_auto(on_demand: Duration, ahead: Duration) -> (String, Prefetch) {
    let (_home, engine) = streamed(ExpertMemory::Share(0.5), move |read| {
        std::thread::sleep(if read.ahead { ahead } else { on_demand });
    });
    // Every token would fall back, so that at first all are decoded plainly.
    let policy = Policy::Auto(Mobile { gamma: 1.01, ..Mobile::default() });
    let prompt: Vec<u32> = (0..12).map(|n| 40 + n * 5 % 83).collect();
    let decode = |tokens| {
        let request = Request { policy, ..plain(&prompt, tokens, Prefill::All) };
        engine.submit(request).expect("submitted").wait().expect("decoded").1.statistics
    };
    decode(45);
    let statistics = decode(45);
    (statistics.auto.expect("it was auto").why, statistics.counters.expert_cache.look_ahead)
}

#[test]
fn auto_looks_ahead_where_that_pays_and_only_there() {
    let millis = Duration::from_millis;
    // What is asked for takes its time, and what was asked for earlier is there.
    let (why, paid) = decode_by_auto(millis(8), Duration::ZERO);
    assert!(why.contains("fetching the next layer's ahead pays"), "{why}");
    // What is asked for comes at once, and what is on its way already does not.
    let (why, not) = decode_by_auto(Duration::ZERO, millis(8));
    assert!(why.contains("fetching the next layer's ahead does not pay"), "{why}");
    assert!(not.issued * 4 < paid.issued, "{not:?} {paid:?}");
    assert!(paid.useful > 0, "{paid:?}");
}
