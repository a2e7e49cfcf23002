//! Requests over a storage that fails or hangs: each ends in time, nobody gets a wrong token, and what comes after it is
//! mended is right.

mod common;
#[path = "common/storage.rs"]
mod storage;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{fixtures, ids, micro, plain, run};
use mobile_engine::{
    Compute, Engine, Error, Event, ExpertMemory, ExpertReads, FinishReason, Finished, Generation, LoadOptions, Mobile,
    Policy, Prefill, Request, Token, arrange,
};
use storage::{Fault, Storage};
use tempfile::TempDir;

const MICRO: &str = "olmoe-sharded";

const TOKENS: usize = 12;

const PATIENCE: Duration = Duration::from_millis(200);

/// Longer than any test means to wait.
const LONG: Duration = Duration::from_secs(60);

/// Longer than anything here may take: some patiences, on a slow machine.
const SOON: Duration = Duration::from_secs(5);

fn prompt() -> Vec<u32> {
    (0..12).map(|n| 40 + n * 5 % 83).collect()
}

fn arranged(source: &Path) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let target = home.path().join("arranged");
    arrange(source, &target, Compute::F32, None, |_, _| Ok(())).expect("arranged");
    (home, target)
}

fn load(folder: &Path, change: impl FnOnce(&mut LoadOptions)) -> Result<Engine, Error> {
    let mut options = LoadOptions { compute: Some(Compute::F32), ..LoadOptions::new(folder) };
    options.expert_memory = ExpertMemory::Share(0.125);
    change(&mut options);
    Engine::load(options, |_| Ok(()))
}

fn with_reads(folder: &Path, reads: ExpertReads) -> Engine {
    load(folder, |options| options.reads = reads).expect("loaded")
}

fn mobile(gamma: f32) -> Policy {
    Policy::Mobile(Mobile { gamma, ..Mobile::default() })
}

fn request(policy: Policy) -> Request {
    Request { policy, ..plain(&prompt(), TOKENS, Prefill::All) }
}

/// The tokens that came, and how it ended.
fn follow(mut generation: Generation, mut each: impl FnMut(usize)) -> (Vec<Token>, Result<Finished, Error>) {
    let mut tokens = Vec::new();
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Started { .. } => {}
            Event::Token(token) => {
                tokens.push(token);
                each(tokens.len());
            }
            Event::Finished(finished) => return (tokens, Ok(*finished)),
            Event::Failed(error) => return (tokens, Err(error)),
        }
    }
    (tokens, Err(Error::Closed))
}

/// Runs something that must not take long.
fn soon<T>(run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = run();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    result
}

/// As [`run`], when the storage has just been mended. Until the reads that hung are back, the engine says to ask again.
fn run_mended(engine: &Engine, request: Request) -> Vec<Token> {
    let begun = Instant::now();
    loop {
        match engine.submit(request.clone()).expect("submitted").wait() {
            Ok((tokens, _)) => return tokens,
            Err(error) => assert!(
                error.to_string().contains("ask again once the storage answers") && begun.elapsed() < SOON,
                "{error}"
            ),
        }
    }
}

#[test]
fn a_read_that_fails_or_hangs_ends_its_request_and_the_next_is_right() {
    let (_home, folder) = arranged(micro(MICRO).path());
    let (storage, reads) = Storage::new(PATIENCE);
    let engine = with_reads(&folder, reads);
    for policy in [Policy::Full, mobile(0.9)] {
        let expected = ids(&run(&engine, request(policy)));
        for fault in [Fault::Fails, Fault::Hangs] {
            // In the prompt, and in the middle of the answer.
            for after in [0, 4] {
                let what = format!("{policy:?}, {fault:?} after {after}");
                let strike = |tokens| {
                    if tokens == after {
                        storage.set(fault, |_| true);
                    }
                };
                strike(0);
                let (tokens, end) = soon(|| follow(engine.submit(request(policy)).expect("submitted"), strike));
                let error = end.expect_err(&what);
                assert!(matches!(error, Error::Storage { .. }), "{what}: {error:?}");
                let said = error.to_string();
                assert!(said.contains("experts-0") && said.contains("ask again once"), "{what}: {said}");
                assert!(tokens.len() >= after && expected.starts_with(&ids(&tokens)), "{what}: {tokens:?}");
                assert_eq!((engine.status().running, engine.status().queued), (0, 0), "{what}");
                storage.mend();
                assert_eq!(ids(&run_mended(&engine, request(policy))), expected, "{what}");
            }
        }
    }
}

#[test]
fn others_in_the_batch_go_on_without_what_cannot_be_read() {
    let (_home, folder) = arranged(&fixtures().join("qwen2moe-tiny"));
    let (storage, reads) = Storage::new(PATIENCE);
    let engine = with_reads(&folder, reads);
    for policy in [Policy::Full, mobile(0.9)] {
        let requests = [40, 90].map(|first| {
            let prompt: Vec<u32> = (0..10).map(|n| first + n * 3).collect();
            Request { policy, ..plain(&prompt, 20, Prefill::All) }
        });
        let watch = engine.watch_experts();
        let [(failing, of_failing), (other, of_other)] = requests.map(|request| {
            let tokens = ids(&run(&engine, request.clone()));
            let used = watch.take();
            let used = used.big.iter().zip(&used.little).enumerate().filter(|(_, (big, little))| *big + *little > 0);
            ((request, tokens), used.map(|(place, _)| place).collect::<BTreeSet<_>>())
        });
        drop(watch);
        let experts = engine.info().experts;
        let only: BTreeSet<_> = of_failing.difference(&of_other).copied().collect();
        assert!(!only.is_empty());
        for fault in [Fault::Fails, Fault::Hangs] {
            let [one, two] = [&failing, &other].map(|(request, _)| engine.submit(request.clone()).expect("submitted"));
            let two = std::thread::spawn(|| follow(two, |_| {}));
            let only = only.clone();
            let strike = |tokens| {
                if tokens == 4 {
                    let only = only.clone();
                    storage.set(fault, move |read| {
                        let layer = read.file.file_stem().and_then(|s| s.to_str()?.strip_prefix("experts-"));
                        let layer: usize = layer.and_then(|layer| layer.parse().ok()).expect("a layer");
                        only.contains(&(layer * experts + read.expert))
                    });
                }
            };
            let (tokens, end) = soon(|| follow(one, strike));
            assert!(matches!(end, Err(Error::Storage { .. })), "{policy:?}, {fault:?}: {end:?}");
            assert!(failing.1.starts_with(&ids(&tokens)) && tokens.len() < failing.1.len());
            let (tokens, end) = soon(|| two.join().expect("joined"));
            assert!(end.is_ok(), "{policy:?}, {fault:?}: {end:?}");
            assert_eq!(ids(&tokens), other.1, "{policy:?}, {fault:?}");
            storage.mend();
            assert_eq!(ids(&run_mended(&engine, failing.0.clone())), failing.1, "{policy:?}, {fault:?}");
        }
    }
}

/// Prompts that come while another is read are read together, which takes each expert from the disk once. Where that fails,
/// each fails or is answered as it would be alone, and one that is cancelled is let go at once.
#[test]
fn prompts_that_wait_are_read_together_and_fail_apart() {
    let (_home, folder) = arranged(&fixtures().join("qwen2moe-tiny"));
    let (storage, reads) = Storage::new(LONG);
    let engine = with_reads(&folder, reads);
    let request = |first: u32| plain(&(0..6).map(|n| first + n * 3).collect::<Vec<_>>(), 1, Prefill::All);
    let read_of = |finished: &Finished| finished.statistics.counters.prefill_expert_cache.bytes_read;
    let alone = |first: u32| {
        let seen = Arc::<Mutex<BTreeSet<(PathBuf, usize)>>>::default();
        let noted = Arc::clone(&seen);
        storage.set(Fault::Fails, move |read| {
            noted.lock().expect("not poisoned").insert((read.file.to_owned(), read.expert));
            false
        });
        let (tokens, end) = follow(engine.submit(request(first)).expect("submitted"), |_| {});
        let seen = std::mem::take(&mut *seen.lock().expect("not poisoned"));
        (ids(&tokens), read_of(&end.expect("answered")), seen)
    };
    // Before each the busy one, whose experts are then in memory.
    let (busy, firsts) = (200, [40, 90, 120]);
    let (_, _, of_busy) = alone(busy);
    let expected = firsts.map(|first| {
        alone(busy);
        alone(first)
    });

    // One request hangs until the others have come.
    let together = |fault: Fault, wrong: BTreeSet<(PathBuf, usize)>| {
        alone(firsts[0]);
        storage.set(Fault::Hangs, |_| true);
        let busy = engine.submit(request(busy)).expect("submitted");
        storage.strikes();
        let waiting = firsts.map(|first| engine.submit(request(first)).expect("submitted"));
        storage.set(fault, move |read| wrong.contains(&(read.file.to_owned(), read.expert)));
        storage.go_on();
        busy.wait().expect("answered");
        waiting
    };
    let ended = |generation: Generation| soon(|| follow(generation, |_| {}));
    let mut read = 0;
    for ((tokens, end), (expected, ..)) in together(Fault::Fails, BTreeSet::new()).map(ended).into_iter().zip(&expected)
    {
        assert_eq!(&ids(&tokens), expected);
        read += read_of(&end.expect("answered"));
    }
    let [(first, read_first, of_first), (_, read_second, of_second), (_, read_third, of_third)] = &expected;
    let in_all = [of_first, of_second, of_third].into_iter().flatten().collect::<BTreeSet<_>>().len();
    let each_once = read_first / of_first.len() as u64 * in_all as u64;
    let alone = read_first + read_second + read_third;
    assert!(read <= each_once && each_once < alone, "{read} bytes together, {each_once} each once, {alone} alone");

    let wrong = |read: &&(PathBuf, usize)| [of_second, of_third, &of_busy].iter().all(|of| !of.contains(*read));
    let wrong: BTreeSet<_> = of_first.iter().filter(wrong).cloned().collect();
    let [(tokens, end), good @ ..] = together(Fault::Fails, wrong.clone()).map(ended);
    assert!(tokens.is_empty() && matches!(end, Err(Error::Storage { .. })), "{end:?}");
    for ((tokens, end), (expected, ..)) in good.into_iter().zip(&expected[1..]) {
        assert!(end.is_ok(), "{end:?}");
        assert_eq!(&ids(&tokens), expected);
    }

    let [cancelled, good @ ..] = together(Fault::Hangs, wrong);
    storage.strikes();
    cancelled.remote().cancel();
    for (generation, (expected, ..)) in good.into_iter().zip(&expected[1..]) {
        assert_eq!(&ids(&ended(generation).0), expected);
    }
    assert_eq!(ended(cancelled).1.expect("it was not the storage").reason, FinishReason::Cancelled);
    storage.mend();
    assert_eq!(&ids(&run_mended(&engine, request(firsts[0]))), first);
}

#[test]
fn what_is_fetched_ahead_fails_nobody_and_changes_no_token() {
    let (_home, folder) = arranged(micro(MICRO).path());
    // Every token falls back, and every layer looks ahead.
    let policy = mobile(1.01);
    for fault in [Fault::Fails, Fault::Hangs] {
        let (storage, reads) = Storage::new(PATIENCE);
        let engine = load(&folder, |options| {
            (options.reads, options.look_ahead, options.expert_memory) = (reads, true, ExpertMemory::Share(0.5));
        })
        .expect("loaded");
        let expected = ids(&run(&engine, request(policy)));
        storage.set(fault, |read| read.ahead);
        let other = Request { prompt: (0..20).map(|n| 60 + n * 7).collect(), ..request(policy) };
        for request in [request(policy), other] {
            let (tokens, end) = soon(|| follow(engine.submit(request.clone()).expect("submitted"), |_| {}));
            assert!(end.is_ok(), "{fault:?}: {end:?}");
            if request.prompt == prompt() {
                assert_eq!(ids(&tokens), expected, "{fault:?}");
            }
        }
        assert!(storage.struck() > 0, "{fault:?}");
        storage.mend();
        assert_eq!(ids(&run_mended(&engine, request(policy))), expected, "{fault:?}");
    }
}

#[test]
fn a_request_whose_read_hangs_can_be_cancelled() {
    let (_home, folder) = arranged(micro(MICRO).path());
    let (storage, reads) = Storage::new(LONG);
    let engine = with_reads(&folder, reads);
    let expected = ids(&run(&engine, request(Policy::Full)));
    for after in [0, 3] {
        // By a word, and by not listening any more.
        for says_so in [true, false] {
            let strike = |tokens| {
                if tokens == after {
                    storage.set(Fault::Hangs, |_| true);
                }
            };
            strike(0);
            let generation = engine.submit(request(Policy::Full)).expect("submitted");
            let remote = generation.remote();
            if says_so {
                let following = std::thread::scope(|scope| {
                    let following = scope.spawn(|| follow(generation, strike));
                    storage.strikes();
                    remote.cancel();
                    soon(|| following.join().expect("joined"))
                });
                let (tokens, end) = following;
                assert_eq!(end.expect("it was not the storage").reason, FinishReason::Cancelled);
                assert!(expected.starts_with(&ids(&tokens)));
            } else {
                let mut generation = generation;
                let mut tokens = 0;
                while tokens < after {
                    tokens += usize::from(matches!(generation.blocking_next(), Some(Event::Token(_))));
                    strike(tokens);
                }
                storage.strikes();
                drop(generation);
                soon(|| while engine.status().running > 0 {});
            }
            storage.mend();
            assert_eq!(ids(&run_mended(&engine, request(Policy::Full))), expected);
        }
    }
}

#[test]
fn a_request_that_follows_one_cancelled_in_a_slow_read_waits_for_room() {
    let (_home, folder) = arranged(micro(MICRO).path());
    let (storage, reads) = Storage::new(LONG);
    let engine = load(&folder, |options| (options.reads, options.expert_memory) = (reads, ExpertMemory::Share(0.5)))
        .expect("loaded");
    let info = engine.info();
    assert_eq!(info.expert_slots, info.top_k, "what a token wants fills the memory");
    let asks = |token| plain(&[token], 2, Prefill::All);
    let expected: Vec<_> = (40..50).map(|token| ids(&run(&engine, asks(token)))).collect();
    for (token, expected) in (40..50).zip(expected) {
        storage.set(Fault::Takes(Duration::from_millis(120)), |_| true);
        let generation = engine.submit(asks(token + 17)).expect("submitted");
        storage.strikes();
        generation.remote().cancel();
        let cancelled = follow(generation, |_| {}).1.expect("not the storage's fault");
        assert_eq!(cancelled.reason, FinishReason::Cancelled);
        let (tokens, end) = follow(engine.submit(asks(token)).expect("submitted"), |_| {});
        assert!(end.is_ok(), "{end:?}");
        assert_eq!(ids(&tokens), expected);
        storage.mend();
    }
}

#[test]
fn an_engine_ends_while_its_reads_hang() {
    let (_home, folder) = arranged(micro(MICRO).path());
    for waits in [true, false] {
        let (storage, reads) = Storage::new(PATIENCE);
        let engine = with_reads(&folder, reads);
        storage.set(Fault::Hangs, |_| true);
        let generation = engine.submit(request(Policy::Full)).expect("submitted");
        storage.strikes();
        let generation = waits.then_some(generation);
        soon(|| drop(engine));
        if let Some(generation) = generation {
            assert!(matches!(follow(generation, |_| {}).1, Err(Error::Storage { .. })));
        }
        // What hung goes on to write into memory that must still be there.
        storage.mend();
    }
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn loading_from_a_storage_that_fails_or_hangs_is_given_up() {
    let (_home, folder) = arranged(micro(MICRO).path());
    for fault in [Fault::Fails, Fault::Hangs] {
        let (storage, reads) = Storage::new(PATIENCE);
        storage.set(fault, |read| read.expert == 5);
        let loaded = soon(|| load(&folder, |o| (o.reads, o.expert_memory) = (reads.clone(), ExpertMemory::All)));
        assert!(matches!(loaded, Err(Error::Storage { expert: 5, .. })), "{fault:?}: {loaded:?}");
        storage.mend();
        let engine = load(&folder, |o| (o.reads, o.expert_memory) = (reads, ExpertMemory::All)).expect("loaded");
        assert_eq!(run(&engine, request(Policy::Full)).len(), TOKENS);
    }
}

#[test]
fn a_file_put_back_in_place_of_a_damaged_one_is_read() {
    let (_home, folder) = arranged(micro(MICRO).path());
    let engine = load(&folder, |_| {}).expect("loaded");
    let expected = ids(&run(&engine, request(Policy::Full)));
    let [first, second] = [0, 1].map(|layer| folder.join(format!("experts-00{layer}.bin")));
    let whole = std::fs::read(&first).expect("the file");
    let fails = |words: &str| {
        let (tokens, end) = follow(engine.submit(request(Policy::Full)).expect("submitted"), |_| {});
        let error = end.expect_err("the file is damaged").to_string();
        assert!(error.contains("experts-000.bin") && error.contains(words), "{error}");
        assert!(expected.starts_with(&ids(&tokens)));
    };
    let restore = |bytes: &[u8]| {
        let beside = folder.join("restored");
        std::fs::write(&beside, bytes).expect("written");
        std::fs::rename(&beside, &first).expect("renamed");
    };

    let file = std::fs::OpenOptions::new().write(true).open(&first).expect("the file");
    for at in (32 << 10..whole.len()).step_by(4096) {
        file.write_all_at(&[!whole[at]], at as u64).expect("written");
    }
    fails("restore the file or arrange the experts again");
    // The experts of another layer are no help.
    restore(&std::fs::read(&second).expect("the file"));
    fails("checksum");
    restore(&whole);
    assert_eq!(ids(&run(&engine, request(Policy::Full))), expected);

    let file = std::fs::OpenOptions::new().write(true).open(&first).expect("the file");
    file.set_len(whole.len() as u64 / 4).expect("shortened");
    fails("cut short; restore it");
    restore(&whole);
    assert_eq!(ids(&run(&engine, request(Policy::Full))), expected);
}
