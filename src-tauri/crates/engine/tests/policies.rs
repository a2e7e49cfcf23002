//! What must hold of big, little and fallback, on all three families, quantized and not.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{embedded, fixtures, ids, load, micro, plain, run};
use mobile_engine::{
    Counters, Decision, Engine, Error, Event, FinishReason, Mobile, Policy, Prefill, Request, Sampling, Token,
};

const PROMPT: &[u32] = &[869, 354, 262, 483, 477, 262, 2070, 282, 262, 1785, 18];

fn mobile(gamma: f32) -> Policy {
    Policy::Mobile(Mobile { gamma, ..Mobile::default() })
}

const LITTLE: Policy = Policy::Little { renormalize: false };

/// The trained families, quantized, each with a prompt of its vocabulary.
fn trained() -> [(PathBuf, Vec<u32>); 3] {
    let fixture = |name: &str| (fixtures().join(name), PROMPT.to_vec());
    [(embedded(), PROMPT.to_vec()), fixture("qwen2moe-tiny"), fixture("mixtral-tiny")]
}

/// Unquantized micro checkpoints of the three families, with the folders that hold them.
fn unquantized() -> Vec<(tempfile::TempDir, Vec<u32>)> {
    let prompt: Vec<u32> = (40..60).collect();
    ["olmoe-sharded", "qwen2moe-gqa", "mixtral-window"].map(|name| (micro(name), prompt.clone())).into()
}

/// Runs `check` on every family, quantized and not.
fn on_all(check: impl Fn(&str, &Engine, &[u32])) {
    for (folder, prompt) in trained() {
        check(&folder.display().to_string(), &load(&folder), &prompt);
    }
    for (folder, prompt) in unquantized() {
        check("micro", &load(folder.path()), &prompt);
    }
}

fn decode(engine: &Engine, prompt: &[u32], policy: Policy) -> (Vec<Token>, Counters) {
    let request = Request { policy, ..plain(prompt, 40, Prefill::All) };
    let (tokens, finished) = engine.submit(request).expect("submitted").wait().expect("decoded");
    (tokens, finished.statistics.counters)
}

#[test]
fn gamma_above_one_is_the_big_model_and_gamma_zero_the_little_one() {
    on_all(|what, engine, prompt| {
        let (full, _) = decode(engine, prompt, Policy::Full);
        let (little, _) = decode(engine, prompt, LITTLE);
        let (above, counters) = decode(engine, prompt, mobile(1.01));
        assert_eq!(ids(&above), ids(&full), "{what}");
        assert!(above[1..].iter().all(|t| t.decision == Decision::Fallback), "{what}");
        assert_eq!(counters.fallbacks, 39, "{what}: the first token comes from the prompt's big pass");
        let (zero, counters) = decode(engine, prompt, mobile(0.0));
        assert_eq!(ids(&zero), ids(&little), "{what}");
        assert!(zero[1..].iter().all(|t| t.decision == Decision::Little), "{what}");
        assert_eq!(counters.fallbacks, 0, "{what}");
    });
}

#[test]
fn gamma_zero_after_a_halved_prompt_is_the_reference_of_the_little_model() {
    for name in ["olmoe-tiny", "qwen2moe-tiny", "mixtral-tiny"] {
        let folder = if name == "olmoe-tiny" { embedded() } else { fixtures().join(name) };
        let engine = load(&folder);
        let golden = common::Golden::open(&fixtures().join(format!("golden/{name}-quantized.json")));
        for prompt in &golden.prompts {
            let expected = prompt.little.as_ref().expect("a little side");
            let request = Request { policy: mobile(0.0), ..plain(&prompt.ids, 48, Prefill::Half) };
            common::assert_greedy(&format!("{name}, {}", prompt.name), &ids(&run(&engine, request)), expected);
            let request = Request { policy: mobile(1.01), ..plain(&prompt.ids, 48, Prefill::All) };
            common::assert_greedy(&format!("{name}, {}", prompt.name), &ids(&run(&engine, request)), &prompt.full);
        }
    }
}

#[test]
fn the_counters_add_up() {
    on_all(|what, engine, prompt| {
        let k = engine.info().top_k as u64;
        for policy in [Policy::Full, LITTLE, mobile(0.7), mobile(0.4), Policy::Mass { share: 0.6 }, Policy::default()] {
            let (tokens, c) = decode(engine, prompt, policy);
            let count = |d| tokens.iter().filter(|t| t.decision == d).count() as u64;
            let what = format!("{what}, {policy:?}: {c:?}");
            assert_eq!(c.tokens_processed, 40, "{what}");
            assert_eq!(c.important_tokens + c.unimportant_tokens, 40, "{what}");
            assert_eq!(c.unimportant_tokens, count(Decision::Little), "{what}");
            assert_eq!(c.fallbacks, count(Decision::Fallback), "{what}");
            assert_eq!(c.important_tokens, count(Decision::Big) + c.fallbacks, "{what}");
            assert_eq!(c.confidence_histogram.iter().sum::<u64>(), 40, "{what}");
            // The first token comes from the prompt's pass.
            assert!(c.big_passes.rows + c.little_passes.rows >= 39, "{what}");
            assert_eq!(c.experts_full % (40 * k), 0, "{what}");
            if let Policy::Mobile(m) = policy {
                let per_token = c.experts_full / 40;
                let little = per_token / k * engine.info().little_k as u64;
                let expected = per_token * (1 + c.fallbacks) + little * (c.unimportant_tokens + c.fallbacks);
                assert_eq!(c.experts_computed, expected, "{what}");
                for token in &tokens[1..] {
                    assert_eq!(token.decision == Decision::Fallback, token.confidence < m.gamma, "{what}: {token:?}");
                }
            }
        }
    });
}

#[test]
fn confidence_is_read_before_the_sampling_filter() {
    let engine = load(&embedded());
    // With one candidate left the filtered distribution is certain of every token; the confidence must not be.
    let sampling = Sampling { temperature: 0.5, top_k: 1, seed: Some(1), ..Sampling::default() };
    let request = Request { sampling, policy: mobile(0.7), ..plain(PROMPT, 40, Prefill::All) };
    let sampled = run(&engine, request);
    let greedy = run(&engine, Request { policy: mobile(0.7), ..plain(PROMPT, 40, Prefill::All) });
    assert!(sampled.iter().any(|t| t.confidence < 0.7));
    for (a, b) in sampled.iter().zip(&greedy) {
        assert_eq!((a.id, a.decision), (b.id, b.decision));
        assert!((a.confidence - b.confidence).abs() < 1e-5);
    }
}

#[test]
fn a_fallback_samples_once_from_the_big_distribution() {
    let engine = load(&embedded());
    let sampling = Sampling { temperature: 1.0, seed: Some(5), ..Sampling::default() };
    let with = |policy| {
        let request = Request { sampling, policy, ..plain(PROMPT, 40, Prefill::All) };
        ids(&run(&engine, request))
    };
    assert_eq!(with(mobile(1.01)), with(Policy::Full));
    assert_eq!(with(mobile(0.0)), with(LITTLE));
}

#[test]
fn no_fallback_keeps_what_the_little_model_said() {
    let engine = load(&embedded());
    let policy = Policy::Mobile(Mobile { gamma: 0.9, fallback: false, ..Mobile::default() });
    let (tokens, counters) = decode(&engine, PROMPT, policy);
    assert_eq!(counters.fallbacks, 0);
    assert_eq!(ids(&tokens), ids(&decode(&engine, PROMPT, LITTLE).0));
}

#[test]
fn mass_goes_from_one_expert_to_all() {
    on_all(|what, engine, prompt| {
        let (all, counters) = decode(engine, prompt, Policy::Mass { share: 1.0 });
        assert_eq!(ids(&all), ids(&decode(engine, prompt, Policy::Full).0), "{what}");
        assert_eq!(counters.experts_computed, counters.experts_full, "{what}");
        let (_, one) = decode(engine, prompt, Policy::Mass { share: 0.0 });
        let layers = one.experts_full / 40 / engine.info().top_k as u64;
        // One expert a layer for each token but the first, which the prompt's pass gave.
        assert_eq!(one.experts_computed, layers * (39 + engine.info().top_k as u64), "{what}");
    });
}

#[test]
fn renormalising_changes_only_families_that_do_not_normalise() {
    let differs = |folder: &Path| {
        let engine = load(folder);
        let with = |renormalize| {
            let request = Request { logprobs: Some(1), ..plain(PROMPT, 30, Prefill::All) };
            let tokens = run(&engine, Request { policy: Policy::Little { renormalize }, ..request });
            tokens.iter().map(|t| t.logprob.expect("asked for")).collect::<Vec<_>>()
        };
        with(true) != with(false)
    };
    assert!(differs(&embedded()), "OLMoE does not normalise");
    assert!(!differs(&fixtures().join("mixtral-tiny")), "Mixtral does");
}

#[test]
fn one_expert_a_token_cannot_be_halved() {
    let folder = micro("mixtral-k1");
    let engine = load(folder.path());
    for policy in [LITTLE, mobile(0.7)] {
        let refused = engine.submit(Request { policy, ..Request::new(vec![40], 4) });
        assert!(matches!(refused, Err(Error::NothingToHalve { k: 1, .. })));
    }
    let (_, finished) = engine.submit(Request::new(vec![40], 4)).expect("auto works").wait().expect("decoded");
    let auto = finished.statistics.auto.expect("auto reports");
    assert_eq!(auto.chosen, "full");
    assert!(auto.why.contains("nothing to halve"));
}

#[test]
fn the_policy_changes_between_two_tokens() {
    let engine = load(&embedded());
    let request = Request { policy: LITTLE, ..plain(PROMPT, 400, Prefill::All) };
    let mut generation = engine.submit(request).expect("submitted");
    let mut decisions = Vec::new();
    let mut changed_at = None;
    while let Some(event) = generation.blocking_next() {
        if let Event::Token(token) = event {
            decisions.push(token.decision);
            if decisions.len() == 20 {
                generation.set_policy(Policy::Full).expect("valid");
                changed_at = Some(decisions.len());
            }
        }
    }
    let changed_at = changed_at.expect("changed");
    assert!(decisions[1..changed_at].iter().all(|&d| d == Decision::Little));
    let first_big = decisions[1..].iter().position(|&d| d == Decision::Big).expect("the change arrived") + 1;
    assert!(decisions[first_big..].iter().all(|&d| d == Decision::Big));
    assert!(generation.set_policy(Policy::Mass { share: 2.0 }).is_err());
}

#[test]
fn sequences_decoded_together_say_what_each_says_alone() {
    let engine = load(&embedded());
    let policies = [Policy::Full, LITTLE, mobile(0.7), mobile(0.9), Policy::Mass { share: 0.7 }];
    let requests: Vec<Request> = (0..10)
        .map(|n| Request { policy: policies[n % 5], ..plain(&PROMPT[..PROMPT.len() - n], 10 + 4 * n, Prefill::All) })
        .collect();
    let alone: Vec<_> = requests.iter().map(|r| run(&engine, r.clone())).collect();
    let together: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).expect("submitted")).collect();
    for (n, (alone, generation)) in alone.into_iter().zip(together).enumerate() {
        let (tokens, _) = generation.wait().expect("decoded");
        assert_eq!(ids(&tokens), ids(&alone), "sequence {n}");
        let decisions = |t: &[Token]| t.iter().map(|t| t.decision).collect::<Vec<_>>();
        assert_eq!(decisions(&tokens), decisions(&alone), "sequence {n}");
    }
}

/// The pass after the one that is read has been begun when they come.
#[test]
fn newcomers_and_those_who_decode_already_say_what_each_says_alone() {
    let engine = load(&embedded());
    let request = |n: usize| plain(&PROMPT[n..], 30, Prefill::All);
    let alone: Vec<_> = (0..5).map(|n| ids(&run(&engine, request(n)))).collect();
    let submitted = |n| engine.submit(request(n)).expect("submitted");
    let mut early: Vec<_> = (0..3).map(submitted).collect();
    let mut begun = 0;
    while begun < 3 {
        begun += usize::from(matches!(early[0].blocking_next(), Some(Event::Token(_))));
    }
    let late = [3, 4].map(submitted);
    for (n, generation) in early.into_iter().chain(late).enumerate() {
        let tokens = ids(&generation.wait().expect("decoded").0);
        assert!(alone[n].ends_with(&tokens) && tokens.len() + 3 >= alone[n].len(), "sequence {n}: {tokens:?}");
    }
}

#[test]
fn cancelling_ends_within_a_token_and_harms_nobody() {
    let engine = load(&embedded());
    let expected = run(&engine, plain(PROMPT, 60, Prefill::All));
    let kept = engine.submit(plain(PROMPT, 60, Prefill::All)).expect("submitted");
    let mut cancelled = engine.submit(plain(PROMPT, 1500, Prefill::All)).expect("submitted");
    let dropped = engine.submit(plain(PROMPT, 1500, Prefill::All)).expect("submitted");
    while !matches!(cancelled.blocking_next(), Some(Event::Token(_))) {}
    cancelled.cancel();
    drop(dropped);
    let (tokens, finished) = cancelled.wait().expect("ended");
    assert_eq!(finished.reason, FinishReason::Cancelled);
    assert!(tokens.len() < 50, "{} tokens after cancelling", tokens.len());
    assert_eq!(ids(&kept.wait().expect("decoded").0), ids(&expected));
    let waited = Instant::now();
    while engine.status().running > 0 && waited.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(engine.status().running, 0, "the dropped request gave its place back");
}

#[test]
fn ten_greedy_runs_and_two_seeded_ones_are_the_same() {
    let engine = load(&embedded());
    let request = Request { policy: mobile(0.7), ..plain(PROMPT, 50, Prefill::All) };
    let first = ids(&run(&engine, request.clone()));
    for _ in 0..9 {
        assert_eq!(ids(&run(&engine, request.clone())), first);
    }
    let sampled = |seed| {
        let sampling = Sampling { temperature: 0.9, top_p: 0.9, seed: Some(seed), ..Sampling::default() };
        ids(&run(&engine, Request { sampling, ..request.clone() }))
    };
    assert_eq!(sampled(11), sampled(11));
    assert_ne!(sampled(11), sampled(12));
}

#[test]
fn a_shared_beginning_is_reused_and_changes_nothing() {
    let engine = load(&embedded());
    let first: Vec<u32> = PROMPT.iter().copied().cycle().take(44).collect();
    let answer = |prompt: &[u32], reuse_prefix| {
        let request = Request { policy: mobile(0.7), reuse_prefix, ..plain(prompt, 30, Prefill::All) };
        engine.submit(request).expect("submitted").wait().expect("decoded")
    };
    let (tokens, _) = answer(&first, true);
    let mut second = first.clone();
    second.extend(ids(&tokens));
    second.extend([869, 354, 262]);
    let (fresh, _) = answer(&second, false);
    let (reused, finished) = answer(&second, true);
    assert!(finished.statistics.cached_tokens >= first.len(), "{} tokens", finished.statistics.cached_tokens);
    assert_eq!(ids(&reused), ids(&fresh));
    // Another ending of the same beginning.
    let other: Vec<u32> = first[..30].iter().copied().chain([2070, 18]).collect();
    let (fresh, _) = answer(&other, false);
    let (reused, finished) = answer(&other, true);
    assert_eq!(finished.statistics.cached_tokens, 30);
    assert_eq!(ids(&reused), ids(&fresh));
}

#[test]
fn auto_comes_to_a_verdict_with_many_at_once() {
    let engine = load(&embedded());
    let policy = Policy::Auto(Mobile::default());
    let request = |n: u32| Request { policy, ..plain(&[40 + n, 50 + n], 60, Prefill::All) };
    let running: Vec<_> = (0..8).map(|n| engine.submit(request(n)).expect("submitted")).collect();
    let auto = running.into_iter().map(|g| g.wait().expect("decoded").1.statistics.auto.expect("it was auto"));
    // The first to end says what eight together took.
    let said: Vec<_> = auto.collect();
    assert!(said.iter().any(|auto| auto.why.starts_with("a token costs")), "{said:?}");
}
