//! What the routes answer.

mod common;

use common::{MODEL, ready, start, within_a_minute};
use serde_json::{Value, json};

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 12,
        "policy": "full",
    });
    merge(&mut body, more);
    body
}

fn completion(more: Value) -> Value {
    let mut body = json!({ "model": MODEL, "prompt": "abc", "temperature": 0, "max_tokens": 12, "policy": "full" });
    merge(&mut body, more);
    body
}

fn merge(body: &mut Value, more: Value) {
    let (Value::Object(body), Value::Object(more)) = (body, more) else { panic!("objects") };
    body.extend(more);
}

#[test]
fn health_follows_the_slot() {
    within_a_minute(async {
        let s = start(common::config()).await;
        let (status, health) = s.get("/health").await;
        assert_eq!((status, &health["status"], &health["model"]), (200, &json!("initializing"), &Value::Null));
        s.slot.set_loading("m", mobile_engine::Progress { done: 1, total: 2 });
        let (_, health) = s.get("/health").await;
        assert_eq!((&health["status"], &health["progress"]["done"]), (&json!("loading"), &json!(1)));
        s.slot.set_failed("m", "broken");
        let (_, health) = s.get("/health").await;
        assert_eq!((&health["status"], &health["error"]), (&json!("error"), &json!("broken")));
        s.slot.set_ready(common::engine(true, |_| {}));
        let (_, health) = s.get("/health").await;
        assert_eq!((&health["status"], &health["model"]), (&json!("healthy"), &json!(MODEL)));
        assert_eq!((&health["device"], &health["mlx_available"]), (&json!("cpu"), &json!(true)));
        s.slot.clear();
        assert_eq!(s.get("/health").await.1["status"], "initializing");
    });
}

#[test]
fn generate_answers_the_gateway() {
    within_a_minute(async {
        let s = ready().await;
        let (status, answer) = s.post("/generate", &json!({"prompt": "hi", "max_tokens": 8})).await;
        assert_eq!((status, &answer["status"]), (200, &json!("success")), "{answer}");
        assert!(answer["text"].is_string());
        let stats = &answer["stats"];
        for field in ["elapsed_seconds", "tokens_per_second", "tokens_generated", "tokens_processed"] {
            assert!(stats[field].is_number(), "{field} in {stats}");
        }
        for field in ["important_tokens", "unimportant_tokens", "fallbacks", "cache_hits"] {
            assert!(stats[field].is_u64(), "{field} in {stats}");
        }
        assert_eq!((&stats["device"], &stats["model"]), (&json!("cpu"), &json!(MODEL)));
        let sum = stats["important_tokens"].as_u64().zip(stats["unimportant_tokens"].as_u64()).map(|(a, b)| a + b);
        assert_eq!(sum, stats["tokens_processed"].as_u64());
    });
}

#[test]
fn a_prompt_goes_through_the_chat_template_unless_it_is_raw() {
    within_a_minute(async {
        let s = ready().await;
        let tokens = |answer: Value| answer["stats"]["prompt_tokens"].as_u64().expect("a count");
        let templated = tokens(s.post("/generate", &json!({"prompt": "hi", "max_tokens": 1})).await.1);
        let raw = tokens(s.post("/generate", &json!({"prompt": "hi", "max_tokens": 1, "raw": true})).await.1);
        assert_eq!((templated, raw), (5, 2));
    });
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    within_a_minute(async {
        let s = ready().await;
        let (_, answer) =
            s.post("/v1/completions", &completion(json!({"max_tokens": 3.0, "prompt": [70.0, 71]}))).await;
        assert_eq!(answer["usage"]["completion_tokens"], 3, "{answer}");
    });
}

#[test]
fn gamma_reaches_the_engine() {
    within_a_minute(async {
        let s = ready().await;
        let run = async |policy: Value, gamma: Value| {
            let body = json!({"prompt": "hello", "max_tokens": 10, "policy": policy, "gamma": gamma});
            s.post("/generate", &body).await.1["stats"].clone()
        };
        let always = run(json!("mobile"), json!(1.5)).await;
        assert_eq!(always["unimportant_tokens"], 0, "{always}");
        let never = run(json!("mobile"), json!(0.0)).await;
        assert_eq!(never["fallbacks"], 0, "{never}");
        assert!(never["unimportant_tokens"].as_u64() > Some(0), "{never}");
        let object = run(json!({"kind": "mobile", "gamma": 1.5}), Value::Null).await;
        assert_eq!((&object["policy"], &object["unimportant_tokens"]), (&json!("mobile"), &json!(0)));
        assert_eq!(run(json!("full"), Value::Null).await["policy"], "full");
        s.slot.set_policy(mobile_engine::Policy::Full);
        assert_eq!(run(Value::Null, Value::Null).await["policy"], "full");
    });
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    within_a_minute(async {
        let s = ready().await;
        let (_, whole) = s.post("/v1/chat/completions", &chat(json!({}))).await;
        let events = s.stream("/v1/chat/completions", &chat(json!({"stream": true}))).await;
        let content = |e: &Value| e["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
        let text: String = events.iter().map(content).collect();
        assert_eq!(json!(text), whole["choices"][0]["message"]["content"]);
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let last = events.last().expect("events");
        assert_eq!(last["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
        assert!(events.iter().all(|e| e["id"] == events[0]["id"] && e["object"] == "chat.completion.chunk"));
        assert!(events.iter().all(|e| e.get("usage").is_none()));

        let (_, whole) = s.post("/v1/completions", &completion(json!({}))).await;
        let events = s.stream("/v1/completions", &completion(json!({"stream": true}))).await;
        let text: String = events.iter().map(|e| e["choices"][0]["text"].as_str().unwrap_or_default()).collect();
        assert_eq!(json!(text), whole["choices"][0]["text"]);

        let (_, whole) = s.post("/generate", &json!({"prompt": "hi", "max_tokens": 9})).await;
        let events = s.stream("/generate", &json!({"prompt": "hi", "max_tokens": 9, "stream": true})).await;
        let text: String = events.iter().map(|e| e["text"].as_str().unwrap_or_default()).collect();
        assert_eq!(json!(text), whole["text"]);
        assert_eq!(events.last().expect("events")["status"], "success");
    });
}

#[test]
fn usage_comes_last_where_it_is_asked_for() {
    within_a_minute(async {
        let s = ready().await;
        let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
        for (path, body) in [("/v1/chat/completions", chat(usage.clone())), ("/v1/completions", completion(usage))] {
            let events = s.stream(path, &body).await;
            let (last, before) = events.split_last().expect("events");
            assert_eq!(last["choices"], json!([]));
            assert!(before.iter().all(|e| e["usage"] == Value::Null && e.get("usage").is_some()));
            let usage = &last["usage"];
            let sum = usage["prompt_tokens"].as_u64().zip(usage["completion_tokens"].as_u64()).map(|(a, b)| a + b);
            assert_eq!(sum, usage["total_tokens"].as_u64());
        }
    });
}

#[test]
fn several_answers_are_numbered_and_seeds_repeat_them() {
    within_a_minute(async {
        let s = ready().await;
        let body = chat(json!({"n": 3, "temperature": 1.5, "seed": 7}));
        let texts = |answer: &Value| -> Vec<Value> {
            answer["choices"].as_array().expect("choices").iter().map(|c| c["message"]["content"].clone()).collect()
        };
        let (_, one) = s.post("/v1/chat/completions", &body).await;
        let (_, two) = s.post("/v1/chat/completions", &body).await;
        assert_eq!(texts(&one), texts(&two));
        assert_ne!(texts(&one)[0], texts(&one)[1]);
        assert_eq!(one["choices"][2]["index"], 2);
        let (_, many) = s.post("/v1/completions", &completion(json!({"prompt": ["a", "b"], "n": 2}))).await;
        assert_eq!(many["choices"].as_array().map(Vec::len), Some(4));
        assert_eq!(many["usage"]["prompt_tokens"], 2);
        let events = s.stream("/v1/chat/completions", &chat(json!({"n": 2, "stream": true}))).await;
        let ends = events.iter().filter(|e| e["choices"][0]["finish_reason"].is_string()).count();
        assert_eq!(ends, 2);
    });
}

#[test]
fn logprobs_belong_to_the_text() {
    within_a_minute(async {
        let s = ready().await;
        let body = chat(json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 20}));
        let (_, answer) = s.post("/v1/chat/completions", &body).await;
        let content = answer["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
        assert!(!content.is_empty());
        for token in content {
            assert!(token["logprob"].as_f64() <= Some(0.0), "{token}");
            let top = token["top_logprobs"].as_array().expect("top");
            assert_eq!(top.len(), 2);
            assert_eq!(token["logprob"], top[0]["logprob"], "greedy takes the most probable: {token}");
        }
        let (_, answer) = s.post("/v1/completions", &completion(json!({"logprobs": 1}))).await;
        let lists = &answer["choices"][0]["logprobs"];
        let length = |name: &str| lists[name].as_array().map(Vec::len);
        assert!(length("tokens") > Some(0));
        for name in ["token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(length(name), length("tokens"));
        }
    });
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_in_it() {
    within_a_minute(async {
        let s = ready().await;
        let (_, whole) = s.post("/v1/completions", &completion(json!({"max_tokens": 24}))).await;
        let text = whole["choices"][0]["text"].as_str().expect("text").to_owned();
        let stop: String = text.chars().skip(2).take(2).collect();
        let expected = text.split(&stop).next().expect("a part").to_owned();
        let body = completion(json!({"max_tokens": 24, "stop": [stop], "logprobs": 0}));
        let (_, cut) = s.post("/v1/completions", &body).await;
        assert_eq!(
            (&cut["choices"][0]["text"], &cut["choices"][0]["finish_reason"]),
            (&json!(expected), &json!("stop"))
        );
        let tokens = cut["choices"][0]["logprobs"]["tokens"].as_array().map_or(0, Vec::len);
        assert!(tokens <= expected.chars().count().max(1) * 4, "{cut}");
    });
}

#[test]
fn decisions_are_reported_on_request_only() {
    within_a_minute(async {
        let s = ready().await;
        let body = chat(json!({"mobile": true, "stream": true, "policy": "mobile", "gamma": 0.5}));
        let events = s.stream("/v1/chat/completions", &body).await;
        let tokens: Vec<&Value> =
            events.iter().filter_map(|e| e["choices"][0]["mobile"]["tokens"].as_array()).flatten().collect();
        let statistics = &events.last().expect("events")["choices"][0]["mobile"]["statistics"];
        assert_eq!(Some(tokens.len() as u64), statistics["tokens_generated"].as_u64());
        let fallbacks = tokens.iter().filter(|t| t["decision"] == "fallback").count();
        assert_eq!(Some(fallbacks as u64), statistics["fallbacks"].as_u64());
        let plain = s.stream("/v1/chat/completions", &chat(json!({"stream": true}))).await;
        assert!(plain.iter().all(|e| e["choices"][0].get("mobile").is_none()));
    });
}

#[test]
fn the_counters_agree_everywhere() {
    within_a_minute(async {
        let s = ready().await;
        let mut tokens = 0;
        for _ in 0..3 {
            let (_, answer) = s.post("/generate", &json!({"prompt": "hi", "max_tokens": 5})).await;
            tokens += answer["stats"]["tokens_processed"].as_u64().expect("a count");
        }
        let (_, health) = s.get("/health").await;
        assert_eq!(health["totals"]["tokens_processed"].as_u64(), Some(tokens));
        let text = s.client.get(s.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
        assert!(text.contains(&format!("mobile_tokens_total{{model=\"{MODEL}\"}} {tokens}\n")), "{text}");
        assert!(text.contains("mobile_generation_seconds_count 3\n"), "{text}");
        assert!(text.contains("mobile_http_responses_total{route=\"/generate\",status=\"200\"} 3\n"), "{text}");
    });
}

#[test]
fn models_hardware_and_documents_are_there() {
    within_a_minute(async {
        let mut config = common::config();
        config.hardware = json!({"chip": "a chip"});
        let s = start(config).await;
        assert_eq!(s.get("/v1/models").await.1["data"], json!([]));
        s.slot.set_ready(common::engine(true, |_| {}));
        assert_eq!(s.get("/v1/models").await.1["data"][0]["id"], MODEL);
        assert_eq!(s.get("/v1/models/org/micro").await.1["id"], MODEL);
        assert_eq!(s.get("/v1/hardware").await.1, json!({"chip": "a chip"}));
        let (_, api) = s.get("/openapi.json").await;
        assert!(api["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")));
        assert!(api["paths"]["/v1/models/{model}"].is_object());
        let page = s.client.get(s.url("/docs")).send().await.expect("docs").text().await.expect("text");
        for part in ["/v1/chat/completions", "max_completion_tokens", "<code>429</code>"] {
            assert!(page.contains(part), "{part} in {page}");
        }
    });
}
