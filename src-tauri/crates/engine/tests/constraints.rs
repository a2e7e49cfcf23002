//! Answers that follow a JSON schema, under every policy, drawn greedily and at random.

mod common;

use std::time::{Duration, Instant};

use common::{embedded, ids, load, plain, run};
use mobile_engine::{
    Constraint, Decision, Engine, Error, FinishReason, Finished, Generation, Mobile, Policy, Prefill, Request,
    Sampling, Token,
};
use serde_json::{Value, json};

const PROMPT: &[u32] = &[869, 354, 262, 483, 477, 262, 2070, 282, 262, 1785, 18];

const LITTLE: Policy = Policy::Little { renormalize: false };

fn mobile(gamma: f32) -> Policy {
    Policy::Mobile(Mobile { gamma, ..Mobile::default() })
}

fn hot(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::default() }
}

/// A schema and whether a value follows it, said another way.
type Case = (&'static str, Value, fn(&Value) -> bool);

fn text(value: &Value, most: usize) -> bool {
    value.as_str().is_some_and(|s| s.chars().count() <= most)
}

fn cases() -> Vec<Case> {
    vec![
        (
            "required strings, nothing else",
            json!({
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 12}, "town": {"type": "string", "maxLength": 8}},
                "required": ["name", "town"],
                "additionalProperties": false,
            }),
            |v| v.as_object().is_some_and(|o| o.len() == 2) && text(&v["name"], 12) && text(&v["town"], 8),
        ),
        (
            "integers within bounds",
            json!({
                "type": "object",
                "properties": {
                    "age": {"type": "integer", "minimum": 7, "maximum": 121},
                    "debt": {"type": "integer", "exclusiveMinimum": -100, "maximum": 0},
                },
                "required": ["age", "debt"],
                "additionalProperties": false,
            }),
            |v| {
                let within = |name: &str, low, high| v[name].as_i64().is_some_and(|n| (low..=high).contains(&n));
                within("age", 7, 121) && within("debt", -99, 0)
            },
        ),
        (
            "enum, const and boolean",
            json!({
                "type": "object",
                "properties": {"colour": {"enum": ["red", "green", 3, null]}, "kind": {"const": "fox"}, "wild": {"type": "boolean"}},
                "required": ["colour", "kind", "wild"],
                "additionalProperties": false,
            }),
            |v| {
                [json!("red"), json!("green"), json!(3), json!(null)].contains(&v["colour"])
                    && v["kind"] == "fox"
                    && v["wild"].is_boolean()
                    && v.as_object().is_some_and(|o| o.len() == 3)
            },
        ),
        (
            "arrays of a length",
            json!({"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2, "maxItems": 4}),
            |v| v.as_array().is_some_and(|a| (2..=4).contains(&a.len()) && a.iter().all(|s| text(s, 5))),
        ),
        (
            "nested, by reference, with what may be left out",
            json!({
                "$defs": {
                    "point": {
                        "type": "object",
                        "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}, "note": {"type": "string", "maxLength": 3}},
                        "required": ["x"],
                        "additionalProperties": false,
                    },
                },
                "type": "object",
                "properties": {
                    "from": {"$ref": "#/$defs/point"},
                    "via": {"type": "array", "items": {"$ref": "#/$defs/point"}, "maxItems": 2},
                    "label": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]{2,6}$"}]},
                },
                "required": ["from", "via", "label"],
                "additionalProperties": false,
            }),
            |v| {
                let point = |p: &Value| {
                    let known = p.as_object().is_some_and(|o| o.keys().all(|k| k == "x" || k == "note"));
                    known && p["x"].as_u64().is_some_and(|x| x < 10) && (p["note"].is_null() || text(&p["note"], 3))
                };
                let word = |s: &str| (2..=6).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase());
                point(&v["from"])
                    && v["via"].as_array().is_some_and(|a| a.len() <= 2 && a.iter().all(point))
                    && (v["label"].is_null() || v["label"].as_str().is_some_and(word))
            },
        ),
        ("a bare number", json!({"type": "integer", "minimum": 10, "maximum": 99}), |v| {
            v.as_u64().is_some_and(|n| (10..100).contains(&n))
        }),
    ]
}

fn constrained(engine: &Engine, schema: &Value) -> Request {
    let constraint = Constraint::json_schema(engine.text(), schema).expect("compiled");
    Request { constraint: Some(constraint), ..plain(PROMPT, 300, Prefill::All) }
}

fn answer(engine: &Engine, request: Request) -> (String, Vec<Token>, Finished) {
    whole(engine.submit(request).expect("submitted"))
}

fn whole(generation: Generation) -> (String, Vec<Token>, Finished) {
    let (tokens, finished) = generation.wait().expect("decoded");
    let text = tokens.iter().map(|t| t.text.as_str()).chain([finished.text.as_str()]).collect();
    (text, tokens, finished)
}

#[test]
fn every_answer_follows_its_schema() {
    let engine = load(&embedded());
    for (what, schema, follows) in cases() {
        let request = constrained(&engine, &schema);
        let policies = [Policy::Full, LITTLE, mobile(0.7)];
        let samplings = [Sampling::default(), hot(1), hot(2)];
        let ways = policies.iter().flat_map(|&p| samplings.iter().map(move |&s| (p, s)));
        let running: Vec<_> = ways
            .map(|(policy, sampling)| {
                let what = format!("{what}, {policy:?}, {sampling:?}");
                (what, engine.submit(Request { policy, sampling, ..request.clone() }).expect("submitted"))
            })
            .collect();
        for (what, generation) in running {
            let (text, tokens, finished) = whole(generation);
            let what = format!("{what}: {text}");
            assert_eq!(finished.reason, FinishReason::Stop, "{what}");
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(follows(&value), "{what}");
            // A bare number may go on where an object or an array may not.
            let by_eos = tokens.last().is_some_and(|t| engine.text().eos().contains(&t.id));
            assert!(!by_eos || value.is_number(), "{what}: ends by itself");
        }
    }
}

#[test]
fn any_object_is_json_when_it_ends() {
    let engine = load(&embedded());
    let constraint = Constraint::json_object(engine.text()).expect("compiled");
    let request = Request { constraint: Some(constraint), ..plain(PROMPT, 150, Prefill::All) };
    let running: Vec<_> = (0..8)
        .map(|seed| engine.submit(Request { sampling: hot(seed), ..request.clone() }).expect("submitted"))
        .collect();
    let mut ended = 0;
    for generation in running {
        let (text, _, finished) = whole(generation);
        assert!(text.starts_with('{'), "{text}");
        if finished.reason == FinishReason::Stop {
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(value.is_object());
            ended += 1;
        }
    }
    assert!(ended > 0, "some of them end");
}

#[test]
fn confidence_is_of_the_distribution_before_the_mask() {
    let engine = load(&embedded());
    let schema = json!({"const": {"Once upon a time": "there was a fox"}});
    let request = constrained(&engine, &schema);
    let (text, tokens, _) = answer(&engine, Request { policy: Policy::Full, ..request.clone() });
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), schema["const"]);
    // Few tokens may come next at any place, but the model is not told.
    assert!(tokens.iter().any(|t| t.confidence < 0.7));
    let (_, judged, finished) = answer(&engine, Request { policy: mobile(0.7), ..request.clone() });
    for token in &judged[1..] {
        assert_eq!(token.decision == Decision::Fallback, token.confidence < 0.7, "{token:?}");
    }
    assert!(finished.statistics.counters.fallbacks > 0);
    // The first confidence is of the prompt's pass: the same with and without a constraint.
    let free = run(&engine, plain(PROMPT, 1, Prefill::All));
    assert!((free[0].confidence - tokens[0].confidence).abs() < 1e-6);
}

#[test]
fn gamma_above_one_is_the_big_model_and_gamma_zero_the_little_one() {
    let engine = load(&embedded());
    let request = constrained(&engine, &cases()[0].1);
    for sampling in [Sampling::default(), hot(5)] {
        let with = |policy| ids(&run(&engine, Request { policy, sampling, ..request.clone() }));
        assert_eq!(with(mobile(1.01)), with(Policy::Full));
        assert_eq!(with(mobile(0.0)), with(LITTLE));
    }
}

#[test]
fn rows_with_and_without_a_constraint_share_a_batch() {
    let engine = load(&embedded());
    let policies = [Policy::Full, LITTLE, mobile(0.7)];
    let requests: Vec<Request> = cases()[..4]
        .iter()
        .enumerate()
        .flat_map(|(n, (_, schema, _))| {
            let (policy, sampling) = (policies[n % 3], if n % 2 == 0 { Sampling::default() } else { hot(n as u64) });
            let bound = Request { policy, sampling, ..constrained(&engine, schema) };
            [bound, Request { policy, sampling, ..plain(PROMPT, 10 + n, Prefill::All) }]
        })
        .collect();
    let alone: Vec<_> = requests.iter().map(|r| ids(&run(&engine, r.clone()))).collect();
    let together: Vec<_> = requests.into_iter().map(|r| engine.submit(r).expect("submitted")).collect();
    for (n, (alone, generation)) in alone.into_iter().zip(together).enumerate() {
        assert_eq!(ids(&generation.wait().expect("decoded").0), alone, "request {n}");
    }
}

#[test]
fn limits_stops_and_cancelling_end_a_constrained_answer_too() {
    let engine = load(&embedded());
    let schema = json!({"type": "array", "items": {"const": "again and again"}, "minItems": 50});
    let request = constrained(&engine, &schema);
    let (text, tokens, finished) = answer(&engine, Request { max_tokens: 9, ..request.clone() });
    assert_eq!((tokens.len(), finished.reason), (9, FinishReason::Length));
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
    let (text, _, finished) = answer(&engine, Request { stop: vec!["and".to_owned()], ..request.clone() });
    assert_eq!(finished.reason, FinishReason::Stop);
    assert!(text.ends_with("again "), "{text}");
    let mut generation = engine.submit(Request { max_tokens: 1500, ..request }).expect("submitted");
    while !matches!(generation.blocking_next(), Some(mobile_engine::Event::Token(_))) {}
    generation.cancel();
    assert_eq!(generation.wait().expect("ended").1.reason, FinishReason::Cancelled);
}

#[test]
fn a_schema_that_becomes_too_much_ends_its_own_answer_only() {
    let engine = load(&embedded());
    // The states that this pattern needs double with every character.
    let letters = "abcdefghijklmnop";
    let pattern: Vec<String> = letters.chars().map(|c| format!(".*{c}.{{20}}{c}")).collect();
    let request = constrained(&engine, &json!({"type": "string", "pattern": pattern.join("|")}));
    let beside = engine.submit(plain(PROMPT, 40, Prefill::All)).expect("submitted");
    let too_much = engine.submit(Request { sampling: hot(1), ..request.clone() }).expect("submitted");
    assert!(matches!(too_much.wait(), Err(Error::Constraint(_))));
    assert_eq!(beside.wait().expect("decoded").0.len(), 40);
    let refused = engine.submit(Request { forced: Some(vec![40]), ..request });
    assert!(matches!(refused, Err(Error::Parameter(_))));
}

#[test]
fn what_cannot_be_followed_is_named() {
    let engine = load(&embedded());
    let deep = (0..70).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    let broad: serde_json::Map<_, _> = (0..3000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
    let rows = [
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "minlength": 3}}}),
            "#/properties/a: the keyword \"minlength\"",
        ),
        (json!({"type": "array", "uniqueItems": true}), "\"uniqueItems\""),
        (json!({"type": "array", "contains": {}}), "\"contains\""),
        (json!({"not": {"type": "string"}}), "\"not\""),
        (json!({"if": {}, "then": {}}), "\"if\""),
        (json!({"anyOf": [{"type": "object", "propertyNames": {}}]}), "#/anyOf/0: the keyword \"propertyNames\""),
        (json!({"x-guidance": {"lenient": true}}), "\"x-guidance\""),
        (json!({"properties": {"a": {"$id": "https://example.org"}}}), "only at the root"),
        (json!({"type": "string", "format": "haiku"}), "haiku"),
        (json!({"type": "text"}), "text"),
        (json!({"type": "string", "pattern": "(?=a)b"}), "look"),
        (json!({"type": "object", "properties": 5}), "properties"),
        (json!({"items": 5}), "#/items: a schema must be"),
        (json!("string"), "#: a schema must be"),
        (json!({"$ref": "#/$defs/none"}), "none"),
        (json!({"$ref": "https://example.org/schema.json"}), "https://example.org/schema.json"),
        (json!({"type": "integer", "minimum": 5, "maximum": 4}), "minimum"),
        (json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 4}]}), "anyOf"),
        (json!(false), "nsatisfiable"),
        (deep, "64 deep"),
        (json!({"properties": broad}), "2000 subschemas"),
    ];
    for (schema, words) in rows {
        let shown = schema.to_string().chars().take(120).collect::<String>();
        let error = Constraint::json_schema(engine.text(), &schema).expect_err(&shown);
        assert!(matches!(error, Error::Constraint(_)), "{shown}: {error}");
        let message = error.to_string();
        assert!(message.contains(words), "{shown}: {message}");
        assert!(message.len() < 500 && !message.contains('\n'), "{message}");
    }
}

#[test]
fn what_would_take_long_to_compile_ends_soon() {
    let engine = load(&embedded());
    let chain: serde_json::Map<_, _> = (0..990)
        .map(|n| (format!("d{n}"), json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", (n + 1) % 990)}})))
        .collect();
    let knot: serde_json::Map<_, _> = (0..900)
        .map(|n| (format!("d{n}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", (n + 1) % 900)}]})))
        .collect();
    let twice: serde_json::Map<_, _> = (0..60)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            (
                format!("d{n}"),
                if n < 59 { json!({"allOf": [next, next]}) } else { json!({"type": "string", "pattern": "a|b"}) },
            )
        })
        .collect();
    let options: Vec<Value> = (0..40).map(|n| json!({"properties": {format!("p{n}"): {"type": "string"}}})).collect();
    let product: Vec<Value> = (0..12).map(|_| json!({"anyOf": options})).collect();
    let words: Vec<String> = (0..20_000).map(|n| format!("word {n} {}", n * n)).collect();
    let rows = [
        json!({"$defs": chain, "$ref": "#/$defs/d0"}),
        json!({"$defs": knot, "$ref": "#/$defs/d0"}),
        json!({"$defs": twice, "$ref": "#/$defs/d0"}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"allOf": product}),
        json!({"type": "array", "items": {"type": "array", "maxItems": 100_000}, "minItems": 1_000_000}),
        json!({"type": "string", "minLength": 1_000_000, "maxLength": 100_000_000}),
        json!({"type": "string", "pattern": "((a{1000}){1000}){1000}"}),
        json!({"type": "string", "pattern": "(.*a){200}(.*b){200}(.*c){200}"}),
        json!({"type": "string", "pattern": "(".repeat(20_000)}),
        json!({"type": "string", "pattern": format!("{}a{}", "(".repeat(200), ")*".repeat(200))}),
        json!({"allOf": (0..200).map(|n| json!({"type": "string", "pattern": format!("^.*{n}.*{n}")})).collect::<Vec<_>>()}),
        json!({"enum": words}),
        json!({"type": "object", "minProperties": 10_000}),
        json!({"type": "integer", "multipleOf": 987_654_321, "minimum": -1e300, "maximum": 1e300}),
    ];
    for schema in rows {
        let shown = schema.to_string().chars().take(120).collect::<String>();
        let started = Instant::now();
        let compiled = Constraint::json_schema(engine.text(), &schema);
        let took = started.elapsed();
        let what = compiled.as_ref().map_or_else(ToString::to_string, |_| "compiled".to_owned());
        println!("{took:?} {shown}: {what}");
        assert!(took < Duration::from_secs(5), "{shown}: {took:?}, {what}");
        let Ok(constraint) = compiled else { continue };
        let request = Request { constraint: Some(constraint), sampling: hot(1), ..plain(PROMPT, 8, Prefill::All) };
        let started = Instant::now();
        let ended = engine.submit(request).expect("submitted").wait();
        let took = started.elapsed();
        println!("  {took:?}");
        assert!(took < Duration::from_secs(5), "{shown}: {took:?}");
        assert!(matches!(ended, Ok(_) | Err(Error::Constraint(_))), "{shown}: {ended:?}");
    }
}
