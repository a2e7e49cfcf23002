//! The experts that are counted for those who look are those that were computed with, and looking changes nothing.

mod common;

use std::path::Path;

use common::{embedded, fixtures, ids, micro, plain};
use mobile_engine::{
    Compute, Counters, Engine, ExpertMemory, ExpertUse, LoadOptions, Mobile, Policy, Prefill, Request, Token, arrange,
};

const PROMPT: &[u32] = &[869, 354, 262, 483, 477, 262, 2070, 282, 262, 1785, 18];

/// For the micro checkpoints, whose vocabulary is one of bytes.
const PROMPT_OF_BYTES: &[u32] = &[40, 41, 42, 43, 44, 45];

const LITTLE: Policy = Policy::Little { renormalize: false };

fn mobile(gamma: f32) -> Policy {
    Policy::Mobile(Mobile { gamma, ..Mobile::default() })
}

fn policies() -> [Policy; 6] {
    [Policy::Full, LITTLE, mobile(0.7), mobile(1.01), Policy::Mass { share: 0.6 }, Policy::default()]
}

fn decode(engine: &Engine, prompt: &[u32], policy: Policy) -> (Vec<Token>, Counters) {
    let request = Request { policy, ..plain(prompt, 24, Prefill::All) };
    let (tokens, finished) = engine.submit(request).expect("submitted").wait().expect("decoded");
    (tokens, finished.statistics.counters)
}

/// Of an engine that streams a quarter of the experts.
fn streamed(source: &Path) -> (tempfile::TempDir, Engine) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("arranged");
    arrange(source, &folder, Compute::F32, None, |_, _| Ok(())).expect("arranged");
    let expert_memory = ExpertMemory::Share(0.25);
    let options = LoadOptions { compute: Some(Compute::F32), expert_memory, ..LoadOptions::new(&folder) };
    (home, Engine::load(options, |_| Ok(())).expect("loaded"))
}

/// What every table must be: as many evaluations as were counted otherwise, spread evenly over the layers.
fn check(what: &str, engine: &Engine, found: &ExpertUse, counters: &[Counters], is_mass: bool) {
    let info = engine.info();
    let sum = |figure: fn(&Counters) -> u64| counters.iter().map(figure).sum::<u64>();
    assert_eq!(found.total(), sum(|c| c.experts_computed), "{what}");
    assert_eq!((found.experts, found.big.len()), (info.experts, info.layers * info.experts), "{what}");
    let of_layers = |table: &[u64]| table.chunks(info.experts).map(|row| row.iter().sum()).collect::<Vec<u64>>();
    // The first token of every answer comes from the pass over its prompt.
    let rows = sum(|c| c.big_passes.rows) + counters.len() as u64;
    let evenly = |per_row: usize, rows: u64| vec![per_row as u64 * rows; info.layers];
    assert_eq!(of_layers(&found.big), evenly(info.top_k, rows), "{what}, all experts");
    if !is_mass {
        let rows = sum(|c| c.little_passes.rows);
        assert_eq!(of_layers(&found.little), evenly(info.little_k, rows), "{what}, half of the experts");
    }
}

#[test]
fn every_evaluation_is_counted_in_its_layer_and_no_token_changes() {
    let trained = ["qwen2moe-tiny", "mixtral-tiny"].map(|name| fixtures().join(name));
    for source in trained.into_iter().chain([embedded()]) {
        let (_home, streamed) = streamed(&source);
        for (kind, engine) in [("resident", common::load(&source)), ("streamed", streamed)] {
            for policy in policies() {
                let what = format!("{}, {kind}, {policy:?}", source.display());
                let (expected, _) = decode(&engine, PROMPT, policy);
                let watch = engine.watch_experts();
                let (tokens, counters) = decode(&engine, PROMPT, policy);
                let found = watch.take();
                check(&what, &engine, &found, &[counters], matches!(policy, Policy::Mass { .. }));
                if !matches!(policy, Policy::Auto(_)) {
                    assert_eq!(ids(&tokens), ids(&expected), "{what}");
                }
                assert_eq!(watch.take().total(), 0, "{what}: a taken count does not come again");
            }
        }
    }
}

#[test]
fn resident_and_streamed_experts_are_counted_alike() {
    let (_home, streamed) = streamed(&embedded());
    let of = |engine: &Engine, policy| {
        let watch = engine.watch_experts();
        decode(engine, PROMPT, policy);
        watch.take()
    };
    let resident = common::load(&embedded());
    for policy in [Policy::Full, LITTLE, mobile(0.7), Policy::Mass { share: 0.6 }] {
        assert_eq!(of(&streamed, policy), of(&resident, policy), "{policy:?}");
    }
}

#[test]
fn a_batch_is_counted_row_by_row() {
    let engine = common::load(&embedded());
    let watch = engine.watch_experts();
    let policies = [Policy::Full, LITTLE, mobile(0.7), mobile(0.9)];
    let running: Vec<_> = (0..8)
        .map(|n| Request { policy: policies[n % 4], ..plain(&PROMPT[n % 3..], 8 + 3 * n, Prefill::All) })
        .map(|request| engine.submit(request).expect("submitted"))
        .collect();
    let counters: Vec<_> = running.into_iter().map(|g| g.wait().expect("decoded").1.statistics.counters).collect();
    check("eight at once", &engine, &watch.take(), &counters, false);
}

#[test]
fn a_layer_without_experts_keeps_its_place() {
    let folder = micro("qwen2moe-odd-k");
    let engine = common::load(folder.path());
    let watch = engine.watch_experts();
    decode(&engine, PROMPT_OF_BYTES, Policy::Full);
    let found = watch.take();
    let rows: Vec<u64> = found.big.chunks(found.experts).map(|row| row.iter().sum()).collect();
    assert_eq!(rows, [0, 24 * 3], "layer 0 is dense, layer 1 has K = 3");
}

/// Of one model, as mlx-lm counts it; see `tests/fixtures/make_expert_use.py`.
#[derive(Debug, serde::Deserialize)]
struct Reference {
    ids: Vec<u32>,
    tokens: usize,
    big: Vec<Vec<u64>>,
    little: Vec<Vec<u64>>,
}

#[test]
fn the_counts_are_those_of_mlx_lm() {
    let path = fixtures().join("golden/expert-use.json");
    let text = std::fs::read_to_string(&path).expect("the reference");
    let models: std::collections::BTreeMap<String, Reference> = serde_json::from_str(&text).expect("tables");
    assert_eq!(models.len(), 3);
    for (name, reference) in models {
        let folder = if name == "olmoe-tiny" { embedded() } else { fixtures().join(&name) };
        let engine = common::load(&folder);
        let counted = |policy, prefill| {
            let watch = engine.watch_experts();
            common::run(&engine, Request { policy, ..plain(&reference.ids, reference.tokens, prefill) });
            watch.take()
        };
        assert_eq!(counted(Policy::Full, Prefill::All).big, reference.big.concat(), "{name}");
        assert_eq!(counted(LITTLE, Prefill::Half).little, reference.little.concat(), "{name}");
    }
}
