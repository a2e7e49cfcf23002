//! Random schedules: requests that join at any time, change their policy, and are cancelled.

mod common;

use common::{ids, load, micro, plain};
use mobile_engine::{Decision, FinishReason, Mobile, Policy, Prefill, Request};
use proptest::collection::vec;
use proptest::prelude::*;

/// One request of a schedule.
#[derive(Debug, Clone)]
struct Plan {
    prompt: Vec<u32>,
    tokens: usize,
    policy: Policy,
    /// After so many milliseconds: another policy, and whether to cancel.
    later: Option<(u8, Policy)>,
    cancel: bool,
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Full),
        any::<bool>().prop_map(|renormalize| Policy::Little { renormalize }),
        (0.0f32..1.2, any::<bool>(), any::<bool>()).prop_map(|(gamma, fallback, renormalize)| {
            Policy::Mobile(Mobile { gamma, fallback, renormalize, prefetch: true })
        }),
        (0.0f32..=1.0).prop_map(|share| Policy::Mass { share }),
        Just(Policy::default()),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let later = proptest::option::of((0u8..20, policy()));
    (vec(5u32..260, 1..50), 1usize..30, policy(), later, any::<bool>())
        .prop_map(|(prompt, tokens, policy, later, cancel)| Plan { prompt, tokens, policy, later, cancel })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_its_books(plans in vec(plan(), 1..12)) {
        let folder = micro("olmoe-sharded");
        let engine = load(folder.path());
        let running: Vec<_> = plans
            .iter()
            .map(|p| {
                let request = Request { policy: p.policy, reuse_prefix: true, ..plain(&p.prompt, p.tokens, Prefill::All) };
                engine.submit(request).expect("submitted")
            })
            .collect();
        for (plan, generation) in plans.iter().zip(&running) {
            if let Some((ms, policy)) = plan.later {
                std::thread::sleep(std::time::Duration::from_millis(ms.into()));
                generation.set_policy(policy).expect("valid");
                if plan.cancel {
                    generation.cancel();
                }
            }
        }
        let mut processed = 0;
        for (plan, generation) in plans.iter().zip(running) {
            let (tokens, finished) = generation.wait().expect("decoded");
            let c = &finished.statistics.counters;
            let count = |d| tokens.iter().filter(|t| t.decision == d).count() as u64;
            prop_assert_eq!(c.tokens_processed, tokens.len() as u64);
            prop_assert_eq!(c.unimportant_tokens, count(Decision::Little));
            prop_assert_eq!(c.fallbacks, count(Decision::Fallback));
            prop_assert_eq!(c.important_tokens, count(Decision::Big) + count(Decision::Fallback));
            if finished.reason != FinishReason::Cancelled {
                prop_assert_eq!(tokens.len(), plan.tokens);
            }
            if plan.later.is_none() && plan.policy == Policy::Full {
                let alone = engine.submit(plain(&plan.prompt, plan.tokens, Prefill::All)).expect("submitted").wait();
                let alone = alone.expect("decoded").0;
                processed += alone.len() as u64;
                prop_assert_eq!(ids(&tokens), ids(&alone));
            }
            processed += tokens.len() as u64;
        }
        prop_assert_eq!(engine.status().totals.tokens_processed, processed);
    }
}
