//! Streaming never changes a token, keeps to its memory, and survives its files.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{embedded, fixtures, ids, micro, plain, run};
use mobile_engine::{
    Bits, Compute, Engine, Error, Event, ExpertCache, ExpertMemory, FileError, LoadOptions, Mobile, Policy, Prefetch,
    Prefill, Pressure, PressureWatch, Replacement, Request, Token, arrange, is_arranged,
};
use tempfile::TempDir;

/// Long enough that the prompt's products are sorted by expert.
fn prompt() -> Vec<u32> {
    (0..40).map(|n| 40 + n * 5 % 83).collect()
}

const SHARES: [ExpertMemory; 4] =
    [ExpertMemory::Share(1.0), ExpertMemory::Share(0.5), ExpertMemory::Share(0.25), ExpertMemory::Share(0.125)];

/// Every policy whose tokens do not hang on measured times.
fn policies() -> [Policy; 7] {
    let mobile = |gamma, prefetch| Policy::Mobile(Mobile { gamma, prefetch, ..Mobile::default() });
    [
        Policy::Full,
        Policy::Little { renormalize: false },
        Policy::Little { renormalize: true },
        mobile(0.5, true),
        mobile(0.9, false),
        Policy::Mobile(Mobile { renormalize: true, ..Mobile::default() }),
        Policy::Mass { share: 0.6 },
    ]
}

/// The checkpoint of `source` arranged in a folder of its own.
fn arranged(source: &Path, quantize: Option<Bits>) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let target = home.path().join("arranged");
    arrange(source, &target, Compute::F32, quantize, |_, _| Ok(()))
        .unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    (home, target)
}

fn load(folder: &Path, change: impl FnOnce(&mut LoadOptions)) -> Result<Engine, Error> {
    let mut options = LoadOptions { compute: Some(Compute::F32), ..LoadOptions::new(folder) };
    change(&mut options);
    Engine::load(options, |_| Ok(()))
}

fn with_memory(folder: &Path, memory: ExpertMemory) -> Engine {
    load(folder, |o| o.expert_memory = memory).unwrap_or_else(|e| panic!("{memory:?}: {e}"))
}

fn decode(engine: &Engine, policy: Policy) -> (Vec<Token>, ExpertCache) {
    let request = Request { policy, ..plain(&prompt(), 24, Prefill::All) };
    let (tokens, finished) = engine.submit(request).expect("submitted").wait().expect("decoded");
    (tokens, finished.statistics.counters.expert_cache)
}

/// Token, decision and the very bits of the confidence.
fn exact(tokens: &[Token]) -> Vec<(u32, mobile_engine::Decision, u32)> {
    tokens.iter().map(|t| (t.id, t.decision, t.confidence.to_bits())).collect()
}

/// At the given shares, and with one expert of each layer in memory.
fn same_at_every_memory(source: &Path, memories: &[ExpertMemory]) {
    let what = source.display();
    let resident = common::load(source);
    let one = ExpertMemory::Share(1.0 / resident.info().experts as f64);
    let memories = [memories, &[one]].concat();
    let expected: Vec<_> = policies().map(|policy| exact(&decode(&resident, policy).0)).into();
    drop(resident);
    let (_home, folder) = arranged(source, None);
    for memory in memories {
        let engine = with_memory(&folder, memory);
        for (policy, expected) in policies().into_iter().zip(&expected) {
            let (tokens, cache) = decode(&engine, policy);
            assert_eq!(&exact(&tokens), expected, "{what}, {memory:?}, {policy:?}");
            let streamed = memory != ExpertMemory::Share(1.0);
            assert_eq!(cache.hits + cache.misses > 0, streamed, "{what}, {memory:?}: {cache:?}");
            assert!(!streamed || cache.bytes_read > 0, "{what}, {memory:?}: {cache:?}");
        }
    }
}

#[test]
fn olmoe_quantized_is_the_same_at_every_memory() {
    same_at_every_memory(&embedded(), &SHARES);
}

#[test]
fn qwen_quantized_is_the_same_at_every_memory() {
    same_at_every_memory(&fixtures().join("qwen2moe-tiny"), &SHARES);
}

#[test]
fn mixtral_quantized_is_the_same_at_every_memory() {
    same_at_every_memory(&fixtures().join("mixtral-tiny"), &SHARES);
}

#[test]
fn unquantized_models_are_the_same_down_to_one_expert_a_layer() {
    for name in ["olmoe-sharded", "qwen2moe-gqa", "mixtral-window"] {
        same_at_every_memory(micro(name).path(), &[ExpertMemory::Share(0.5)]);
    }
}

#[test]
fn quantizing_on_the_way_is_quantizing_on_load() {
    let source = micro("olmoe-sharded");
    let bits = Some(Bits { bits: 4, group_size: 32 });
    let resident = load(source.path(), |o| o.quantize = bits).expect("loaded");
    let (_home, folder) = arranged(source.path(), bits);
    let streamed = with_memory(&folder, ExpertMemory::Share(0.25));
    assert_eq!(exact(&decode(&streamed, Policy::Full).0), exact(&decode(&resident, Policy::Full).0));
    let error = load(&folder, |o| o.quantize = Some(Bits::new(8))).expect_err("refused").to_string();
    assert!(error.contains("arranged for F32, 4 bits"), "{error}");
}

#[test]
fn both_replacements_and_no_page_cache_give_the_same() {
    let (_home, folder) = arranged(&embedded(), None);
    let policy = Policy::Mobile(Mobile::default());
    let expected = exact(&decode(&with_memory(&folder, ExpertMemory::All), policy).0);
    for replacement in [Replacement::Lru, Replacement::Lfu] {
        let engine = load(&folder, |o| {
            (o.expert_memory, o.replacement, o.page_cache) = (ExpertMemory::Share(0.25), replacement, false);
        });
        assert_eq!(exact(&decode(&engine.expect("loaded"), policy).0), expected, "{replacement:?}");
    }
}

#[test]
fn many_at_once_are_each_as_alone() {
    let (_home, folder) = arranged(&embedded(), None);
    let engine = with_memory(&folder, ExpertMemory::Share(0.125));
    let prompts: Vec<Vec<u32>> = (0..6).map(|n| (0..12 + n).map(|i| 50 + (i * 7 + n * 11) % 90).collect()).collect();
    let request = |prompt: &[u32], n: usize| Request { policy: policies()[n % 3], ..plain(prompt, 16, Prefill::All) };
    let alone: Vec<_> = prompts.iter().enumerate().map(|(n, p)| ids(&run(&engine, request(p, n)))).collect();
    let running: Vec<_> =
        prompts.iter().enumerate().map(|(n, p)| engine.submit(request(p, n)).expect("submitted")).collect();
    let together: Vec<_> = running.into_iter().map(|g| ids(&g.wait().expect("decoded").0)).collect();
    assert_eq!(together, alone);
}

#[test]
fn a_fallback_fetches_ahead_what_it_wants() {
    let (_home, folder) = arranged(&embedded(), None);
    let engine = with_memory(&folder, ExpertMemory::Share(0.5));
    let always = |prefetch| Policy::Mobile(Mobile { gamma: 1.01, prefetch, ..Mobile::default() });
    let (_, without) = decode(&engine, always(false));
    let (_, with) = decode(&engine, always(true));
    assert_eq!(without.fallback_prefetch, Prefetch::default());
    let Prefetch { issued, useful, late, .. } = with.fallback_prefetch;
    assert!(issued > 0 && useful + late > issued / 2, "{with:?}");
    assert_eq!((without.look_ahead, with.look_ahead), Default::default());
}

#[test]
fn looking_ahead_changes_nothing_but_what_is_there_in_time() {
    let (_home, folder) = arranged(&embedded(), None);
    for share in [0.5, 0.125] {
        for policy in policies() {
            let plain = with_memory(&folder, ExpertMemory::Share(share));
            let ahead = load(&folder, |o| (o.expert_memory, o.look_ahead) = (ExpertMemory::Share(share), true));
            let (expected, _) = decode(&plain, policy);
            let (tokens, counted) = decode(&ahead.expect("loaded"), policy);
            assert_eq!(exact(&tokens), exact(&expected), "{policy:?} at {share}");
            let Prefetch { issued, useful, late, .. } = counted.look_ahead;
            // An eighth of the slots is fewer than twice a token's experts: no guess is worth crowding them out.
            let guessed = share > 0.2 || matches!(policy, Policy::Little { .. } | Policy::Mobile(_));
            assert_eq!(issued > 0, guessed, "{policy:?} at {share}: {counted:?}");
            assert!(useful + late <= issued && (issued == 0 || useful > 0), "{policy:?} at {share}: {counted:?}");
        }
    }
}

#[test]
fn memory_stays_within_what_was_promised() {
    let (_home, folder) = arranged(&embedded(), None);
    let resident = with_memory(&folder, ExpertMemory::All);
    let all = resident.info().clone();
    // Keys, values and activations, which are not small beside the weights of so small a model.
    let answer = resident.submit(plain(&prompt(), 24, Prefill::All)).expect("submitted").wait();
    let besides = answer.expect("decoded").1.statistics.peak_memory_bytes - all.weight_bytes;
    drop(resident);
    let engine = with_memory(&folder, ExpertMemory::Share(0.25));
    let answer = engine.submit(plain(&prompt(), 24, Prefill::All)).expect("submitted").wait();
    let (tokens, finished) = answer.expect("decoded");
    assert_eq!(tokens.len(), 24);
    let experts = all.expert_bytes * all.experts * all.layers;
    let promised = all.weight_bytes - experts + experts / 4;
    assert_eq!(engine.info().weight_bytes, promised);
    assert!(
        engine.info().load_peak_bytes <= promised + promised / 10,
        "{} > {promised}",
        engine.info().load_peak_bytes
    );
    assert_eq!(engine.status().expert_memory_bytes, experts / 4);
    let read = finished.statistics.counters.prefill_expert_cache.bytes_read as usize;
    assert!(read > experts / 2 && read <= experts, "a prompt reads each expert once at most: {read} of {experts}");
    let peak = finished.statistics.peak_memory_bytes;
    assert!(peak <= promised + promised / 10 + besides, "{peak} > {promised} and {besides}");
}

#[test]
fn experts_give_memory_back_while_it_is_short_and_compute_the_same() {
    static LEVEL: Mutex<Pressure> = Mutex::new(Pressure::Normal);
    let set = |level| *LEVEL.lock().expect("not poisoned") = level;
    let watch = PressureWatch {
        level: || *LEVEL.lock().expect("not poisoned"),
        every: Duration::from_millis(2),
        calm: Duration::from_millis(10),
    };
    let resident = common::load(&embedded());
    let (_home, folder) = arranged(&embedded(), None);
    let engine = load(&folder, |o| (o.expert_memory, o.pressure) = (ExpertMemory::Share(0.5), watch)).expect("loaded");
    let info = engine.info();
    let per_slot = info.expert_bytes * info.layers;
    let memory = || engine.status().expert_memory_bytes;
    let reaches = |wanted: usize| {
        let began = Instant::now();
        while memory() != wanted {
            assert!(began.elapsed() < Duration::from_secs(20), "{} instead of {wanted}", memory());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (budget, least) = (per_slot * info.experts / 2, per_slot * info.top_k);
    assert_eq!(memory(), budget);

    // While tokens are decoded, by every policy.
    let mut seen = BTreeSet::new();
    for policy in policies() {
        let request = || Request { policy, ..plain(&prompt(), 60, Prefill::All) };
        let (expected, _) = resident.submit(request()).expect("submitted").wait().expect("decoded");
        let mut generation = engine.submit(request()).expect("submitted");
        let mut tokens = Vec::new();
        while let Some(event) = generation.blocking_next() {
            match event {
                Event::Token(token) => tokens.push(token),
                Event::Failed(error) => panic!("{policy:?}: {error}"),
                Event::Started { .. } | Event::Finished(_) => continue,
            }
            set([Pressure::Warning, Pressure::Normal, Pressure::Critical][tokens.len() / 10 % 3]);
            seen.insert(memory());
        }
        assert_eq!(exact(&tokens), exact(&expected), "{policy:?}");
    }
    assert!(seen.len() > 3 && seen.iter().all(|m| (least..=budget).contains(m)), "{seen:?}");

    // While nothing is asked for.
    set(Pressure::Critical);
    reaches(least);
    let expected = exact(&decode(&resident, Policy::Full).0);
    assert_eq!(exact(&decode(&engine, Policy::Full).0), expected);
    set(Pressure::Normal);
    reaches(budget);
    assert_eq!(exact(&decode(&engine, Policy::Full).0), expected);
}

/// Every file of experts in `folder`.
fn expert_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path());
    entries.filter(|p| p.extension().is_some_and(|e| e == "bin")).collect()
}

fn failure(engine: &Engine) -> String {
    let request = plain(&prompt(), 24, Prefill::All);
    engine.submit(request).expect("submitted").wait().expect_err("the experts are damaged").to_string()
}

#[test]
fn a_damaged_or_shortened_file_fails_the_request_and_nothing_else() {
    let (_home, folder) = arranged(&embedded(), None);
    let engine = with_memory(&folder, ExpertMemory::Share(0.125));
    let expected = exact(&decode(&engine, Policy::Full).0);
    let path = expert_files(&folder).remove(0);
    let whole = std::fs::read(&path).expect("the file");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");

    // Past the header, a bit in every page.
    for at in (32 << 10..whole.len()).step_by(4096) {
        file.write_all_at(&[!whole[at]], at as u64).expect("written");
    }
    let error = failure(&engine);
    assert!(error.contains("checksum") && error.contains(".bin"), "{error}");

    file.set_len(whole.len() as u64 / 4).expect("shortened");
    let error = failure(&engine);
    assert!(error.contains("could not be read") && error.contains(".bin"), "{error}");

    file.write_all_at(&whole, 0).expect("mended");
    assert_eq!(exact(&decode(&engine, Policy::Full).0), expected);
}

#[test]
fn deleted_files_do_not_disturb_a_running_engine() {
    let (_home, folder) = arranged(&embedded(), None);
    let engine = with_memory(&folder, ExpertMemory::Share(0.125));
    let expected = exact(&decode(&engine, Policy::Full).0);
    std::fs::remove_dir_all(&folder).expect("deleted");
    assert_eq!(exact(&decode(&engine, Policy::Full).0), expected);
    drop(engine);
    assert!(matches!(load(&folder, |_| {}), Err(Error::File(FileError::Read { .. }))));
}

#[test]
fn what_cannot_be_streamed_is_refused_with_a_way_out() {
    let refused = |folder: &Path, memory| load(folder, |o| o.expert_memory = memory).expect_err("refused").to_string();
    let error = refused(&embedded(), ExpertMemory::Share(0.5));
    assert!(error.contains("convert --streamed"), "{error}");
    let (_home, folder) = arranged(&embedded(), None);
    let error = refused(&folder, ExpertMemory::Bytes(1000));
    assert!(error.contains("give at least"), "{error}");
    let error = load(&folder, |o| o.compute = Some(Compute::Bf16)).expect_err("refused").to_string();
    assert!(error.contains("arranged for F32"), "{error}");
    std::fs::remove_file(expert_files(&folder).remove(0)).expect("deleted");
    assert!(matches!(load(&folder, |_| {}), Err(Error::File(FileError::Read { .. }))));
}

#[test]
fn hostile_expert_files_are_refused() {
    let (_home, folder) = arranged(micro("olmoe-sharded").path(), None);
    let path = expert_files(&folder).remove(0);
    let whole = std::fs::read(&path).expect("the file");
    let length = u64::from_le_bytes(whole[8..16].try_into().expect("eight bytes")) as usize;
    let header = String::from_utf8(whole[16..16 + length].to_vec()).expect("JSON");
    let with_header = |json: String| {
        let mut bytes = whole.clone();
        bytes[8..16].copy_from_slice(&(json.len() as u64).to_le_bytes());
        bytes.splice(16..16 + length, json.bytes());
        bytes
    };
    let mut endless = whole.clone();
    endless[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let cases = [
        ("too short", Vec::new()),
        ("not a file of experts", vec![b'x'; 64]),
        ("impossibly long", endless),
        ("cannot be read", with_header("{}".to_owned())),
        (
            "impossible experts",
            with_header(header.replacen("\"shape\":[", "\"shape\":[4294967295,4294967295,4294967295,", 1)),
        ),
        ("bytes instead of", whole[..whole.len() - 1].to_vec()),
    ];
    for (expected, bytes) in cases {
        std::fs::write(&path, bytes).expect("written");
        let error = load(&folder, |o| o.expert_memory = ExpertMemory::Share(0.5)).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains(".bin"), "{expected}: {error}");
    }
}

#[test]
fn an_interrupted_arrangement_goes_on_and_one_with_other_settings_begins_anew() {
    let source = micro("olmoe-sharded");
    let home = tempfile::tempdir().expect("a temporary folder");
    let target = home.path().join("model");
    let call_off = |done, _| if done < 1 { Ok(()) } else { Err(Error::CalledOff) };
    let interrupted = arrange(source.path(), &target, Compute::F32, None, call_off);
    assert!(matches!(interrupted, Err(Error::CalledOff)) && !target.exists());
    let finished = home.path().join(".model.partial/experts-000.bin");
    let before = std::fs::metadata(&finished).expect("the first layer").modified().expect("a time");
    arrange(source.path(), &target, Compute::F32, None, |_, _| Ok(())).expect("arranged");
    assert!(is_arranged(&target) && !home.path().join(".model.partial").exists());
    let after = std::fs::metadata(target.join("experts-000.bin")).expect("the first layer").modified().expect("a time");
    assert_eq!(after, before, "the finished layer was used");

    let changed = home.path().join("changed");
    let interrupted = arrange(source.path(), &changed, Compute::F32, None, call_off);
    assert!(matches!(interrupted, Err(Error::CalledOff)));
    let config = source.path().join("config.json");
    std::fs::write(&config, std::fs::read_to_string(&config).expect("a config") + "\n").expect("changed");
    let finished = home.path().join(".changed.partial/experts-000.bin");
    std::fs::write(&finished, "of files that were there before").expect("written");
    arrange(source.path(), &changed, Compute::F32, None, |_, _| Ok(())).expect("arranged");
    with_memory(&changed, ExpertMemory::Share(0.5));

    let other = home.path().join("other");
    std::fs::rename(&target, home.path().join(".other.partial")).expect("renamed");
    let bits = Some(Bits { bits: 4, group_size: 32 });
    arrange(source.path(), &other, Compute::F32, bits, |_, _| Ok(())).expect("arranged");
    let engine = with_memory(&other, ExpertMemory::Share(0.5));
    assert_eq!(engine.info().bits, Some(4));
    assert!(matches!(
        arrange(source.path(), &other, Compute::F32, bits, |_, _| Ok(())),
        Err(Error::File(FileError::Write { .. }))
    ));
    assert!(arrange(&other, &home.path().join("third"), Compute::F32, None, |_, _| Ok(())).is_err());
}
