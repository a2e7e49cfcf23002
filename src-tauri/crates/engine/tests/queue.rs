//! Who waits, who is read first, and what the engine says of itself meanwhile.

mod common;

use std::time::{Duration, Instant};

use common::{embedded, load, plain};
use mobile_engine::{Engine, Error, Event, FinishReason, Generation, LoadOptions, Prefill};

const PROMPT: &[u32] = &[869, 354, 262, 483, 477, 262, 2070, 282, 262, 1785, 18];

/// An engine that decodes one request at a time and lets two wait.
fn narrow() -> Engine {
    let options = LoadOptions { queue: 2, max_sequences: 1, ..LoadOptions::new(embedded()) };
    Engine::load(options, |_| Ok(())).expect("loaded")
}

/// A request that runs until it is cancelled, or for many seconds.
fn endless(engine: &Engine) -> Generation {
    let mut generation = engine.submit(plain(PROMPT, 2000, Prefill::All)).expect("submitted");
    while !matches!(generation.blocking_next(), Some(Event::Token(_))) {}
    generation
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn whoever_leaves_the_queue_frees_the_place() {
    let engine = narrow();
    let running = endless(&engine);
    let submit = || engine.submit(plain(PROMPT, 3, Prefill::All));
    let (first, second) = (submit().expect("a place"), submit().expect("a place"));
    assert!(matches!(submit(), Err(Error::QueueFull(2))));
    assert_eq!(engine.status().queued, 2);
    drop(first);
    wait_until(|| engine.status().queued == 1);
    let third = submit().expect("the place that was left");
    second.cancel();
    let (tokens, finished) = second.wait().expect("told so while another runs");
    assert_eq!((tokens.len(), finished.reason), (0, FinishReason::Cancelled));
    assert_eq!(engine.status().running, 1);
    running.cancel();
    assert_eq!(third.wait().expect("decoded").0.len(), 3);
    wait_until(|| engine.status().queued == 0 && engine.status().running == 0);
}

#[test]
fn a_short_prompt_is_read_between_the_parts_of_a_long_one() {
    let engine = load(&embedded());
    let prompt = |tokens| -> Vec<u32> { PROMPT.iter().copied().cycle().take(tokens).collect() };
    let long = engine.submit(plain(&prompt(1030), 1, Prefill::All)).expect("submitted");
    let short = engine.submit(plain(&prompt(50), 1, Prefill::All)).expect("submitted");
    let (short, long) = (short.wait().expect("decoded").1.statistics, long.wait().expect("decoded").1.statistics);
    assert!(short.prefill_seconds < long.prefill_seconds, "{short:?} {long:?}");
}

#[test]
fn the_totals_count_requests_that_run() {
    let engine = load(&embedded());
    let mut generation = engine.submit(plain(PROMPT, 1500, Prefill::All)).expect("submitted");
    let mut seen = 0;
    while seen < 5 {
        seen += u64::from(matches!(generation.blocking_next(), Some(Event::Token(_))));
    }
    wait_until(|| engine.status().totals.tokens_processed >= 5);
    assert_eq!(engine.status().running, 1);
    generation.cancel();
    let (_, finished) = generation.wait().expect("ended");
    assert_eq!(engine.status().totals, finished.statistics.counters);
}
