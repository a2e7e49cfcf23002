//! Every refusal: its status and its code.

mod common;

use common::{MODEL, Running, config, ready, start, within_a_minute};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

/// Status, code and field of a refusal, whose shape is checked on the way.
fn refusal(status: u16, body: &Value) -> (u16, String, Value) {
    let error = &body["error"];
    let keys: Vec<&String> = error.as_object().unwrap_or_else(|| panic!("{status} {body}")).keys().collect();
    assert_eq!(keys, ["message", "type", "code", "param"], "{body}");
    assert!(error["message"].as_str().is_some_and(|m| m.len() > 10), "{body}");
    (status, error["code"].as_str().expect("a code").to_owned(), error["param"].clone())
}

async fn refused(s: &Running, path: &str, body: Value) -> (u16, String, Value) {
    let (status, body) = s.post(path, &body).await;
    refusal(status, &body)
}

#[test]
fn fields() {
    within_a_minute(async {
        let s = ready().await;
        let chat = "/v1/chat/completions";
        let say = json!([{"role": "user", "content": "hi"}]);
        let long = "x".repeat(300);
        let schema = |schema| {
            let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
            json!({"model": MODEL, "messages": say, "response_format": format})
        };
        let rows = [
            ("/generate", json!({}), "missing_required_parameter", "prompt"),
            ("/generate", json!({"prompt": ""}), "invalid_value", "prompt"),
            ("/generate", json!({"prompt": 5}), "invalid_type", "prompt"),
            ("/generate", json!({"prompt": "a", "max_tokens": 0}), "invalid_value", "max_tokens"),
            ("/generate", json!({"prompt": "a", "max_tokens": -1}), "invalid_value", "max_tokens"),
            ("/generate", json!({"prompt": "a", "max_tokens": 1_000_000_000}), "invalid_value", "max_tokens"),
            ("/generate", json!({"prompt": "a", "max_tokens": "8"}), "invalid_type", "max_tokens"),
            ("/generate", json!({"prompt": "a", "temperature": 2.1}), "invalid_value", "temperature"),
            ("/generate", json!({"prompt": "a", "top_p": -0.1}), "invalid_value", "top_p"),
            ("/generate", json!({"prompt": "a", "top_k": -1}), "invalid_value", "top_k"),
            ("/generate", json!({"prompt": "a", "min_p": 2}), "invalid_value", "min_p"),
            ("/generate", json!({"prompt": "a", "repetition_penalty": 0}), "invalid_value", "repetition_penalty"),
            ("/generate", json!({"prompt": "a", "gamma": 3}), "invalid_value", "gamma"),
            ("/generate", json!({"prompt": "a", "gamma": 0.5, "policy": "full"}), "invalid_value", "gamma"),
            ("/generate", json!({"prompt": "a", "policy": "best"}), "invalid_type", "policy"),
            ("/generate", json!({"prompt": "a", "policy": {"kind": "full", "x": 1}}), "invalid_type", "policy"),
            ("/generate", json!({"prompt": "a", "policy": {"kind": "mass", "share": 2}}), "invalid_value", "policy"),
            ("/generate", json!({"prompt": "a", "stop": ""}), "invalid_value", "stop"),
            ("/generate", json!({"prompt": "a", "stop": [1]}), "invalid_type", "stop"),
            ("/generate", json!({"prompt": "a", "stop": vec!["s"; 17]}), "invalid_value", "stop"),
            ("/generate", json!({"prompt": "a", "stop": long}), "invalid_value", "stop"),
            ("/generate", json!({"prompt": "a", "temprature": 1}), "unknown_parameter", "temprature"),
            ("/generate", json!({"prompt": long}), "context_length_exceeded", "prompt"),
            ("/generate", json!({"prompt": "refuse me"}), "template_refused", "prompt"),
            (chat, json!({"messages": say}), "missing_required_parameter", "model"),
            (chat, json!({"model": MODEL}), "missing_required_parameter", "messages"),
            (chat, json!({"model": MODEL, "messages": []}), "invalid_value", "messages"),
            (chat, json!({"model": MODEL, "messages": [{"content": "a"}]}), "invalid_type", "messages[0]"),
            (chat, json!({"model": MODEL, "messages": say, "n": 0}), "invalid_value", "n"),
            (chat, json!({"model": MODEL, "messages": say, "n": 17}), "invalid_value", "n"),
            (chat, json!({"model": MODEL, "messages": say, "top_logprobs": 2}), "invalid_value", "top_logprobs"),
            (
                chat,
                json!({"model": MODEL, "messages": say, "stream_options": {"include_usage": true}}),
                "invalid_value",
                "stream_options",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": say, "stream": true, "stream_options": {"x": 1}}),
                "unknown_parameter",
                "stream_options.x",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": say, "max_tokens": 1, "max_completion_tokens": 1}),
                "invalid_value",
                "max_tokens",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": say, "tools": [{"type": "function"}]}),
                "unsupported_parameter",
                "tools",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": say, "response_format": {"type": "yaml"}}),
                "invalid_type",
                "response_format.type",
            ),
            (chat, schema(json!({"uniqueItems": true})), "invalid_response_format", "response_format"),
            (chat, schema(json!({"type": "word"})), "invalid_response_format", "response_format"),
            (chat, schema(json!([])), "invalid_response_format", "response_format"),
            (
                "/generate",
                json!({"prompt": "a", "response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}),
                "invalid_value",
                "response_format.json_schema.name",
            ),
            (
                "/generate",
                json!({"prompt": "a", "response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
                "invalid_type",
                "response_format",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": [{"role": "user", "content": "a", "name": "b"}]}),
                "unsupported_parameter",
                "messages[0].name",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "invalid_type",
                "messages[0].content",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": [{"role": "user", "content": "a", "x": 1}]}),
                "unknown_parameter",
                "messages[0].x",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": [{"role": "tool", "content": "a"}]}),
                "invalid_type",
                "messages[0].role",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": [{"role": "user", "content": long}]}),
                "context_length_exceeded",
                "messages",
            ),
            (
                chat,
                json!({"model": MODEL, "messages": [{"role": "user", "content": "refuse me"}]}),
                "template_refused",
                "messages",
            ),
            ("/v1/completions", json!({"model": MODEL, "prompt": [[1], [2.5]]}), "invalid_type", "prompt"),
            ("/v1/completions", json!({"model": MODEL, "prompt": [999_999]}), "invalid_value", "prompt"),
            ("/v1/completions", json!({"model": MODEL, "prompt": []}), "invalid_value", "prompt"),
            ("/v1/completions", json!({"model": MODEL, "prompt": vec!["a"; 17]}), "invalid_value", "prompt"),
            ("/v1/completions", json!({"model": MODEL, "prompt": "a", "logprobs": 21}), "invalid_value", "logprobs"),
            ("/v1/completions", json!({"model": MODEL, "prompt": "a", "echo": true}), "unsupported_parameter", "echo"),
        ];
        for (path, body, code, param) in rows {
            let expected = (400, code.to_owned(), json!(param));
            assert_eq!(refused(&s, path, body.clone()).await, expected, "{path} {body}");
        }
        let (_, body) = s.post("/generate", &json!({"prompt": long, "raw": true})).await;
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains("300") && message.contains("128"), "numbers in {message}");
        let unknown = json!({"model": "other", "messages": say});
        assert_eq!(refused(&s, chat, unknown).await, (404, "model_not_found".to_owned(), json!("model")));
        let unknown = json!({"model": "other", "prompt": "a"});
        assert_eq!(refused(&s, "/generate", unknown).await.1, "model_not_found");
        let (status, body) = s.get("/v1/models/other").await;
        assert_eq!(refusal(status, &body).1, "model_not_found");
    });
}

#[test]
fn without_a_chat_template() {
    within_a_minute(async {
        let s = start(config()).await;
        s.slot.set_ready(common::engine(false, |_| {}));
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(refused(&s, "/v1/chat/completions", body).await.1, "no_chat_template");
        assert_eq!(s.post("/generate", &json!({"prompt": "hi", "max_tokens": 2})).await.0, 200);
    });
}

#[test]
fn bodies() {
    within_a_minute(async {
        let s = ready().await;
        let send = async |kind: Option<&str>, body: String| {
            let mut request = s.client.post(s.url("/generate")).body(body);
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let (status, code, _) = refusal(status, &response.json().await.expect("JSON"));
            (status, code)
        };
        let json = Some("application/json");
        let row = |status: u16, code: &str| (status, code.to_owned());
        assert_eq!(send(json, "{".into()).await, row(400, "invalid_json"));
        assert_eq!(send(json, String::new()).await, row(400, "invalid_json"));
        assert_eq!(send(json, "{} {}".into()).await, row(400, "invalid_json"));
        assert_eq!(send(json, "[]".into()).await, row(400, "invalid_type"));
        assert_eq!(send(json, "[".repeat(100_000)).await, row(400, "invalid_json"));
        assert_eq!(send(json, format!("{{\"prompt\": \"{}\"}}", "\u{0}")).await, row(400, "invalid_json"));
        assert_eq!(send(json, " ".repeat(3 << 20)).await, row(413, "body_too_large"));
        assert_eq!(send(Some("text/plain"), "{}".into()).await, row(415, "unsupported_media_type"));
        assert_eq!(send(None, "{}".into()).await, row(415, "unsupported_media_type"));
        let part = || Ok::<_, std::io::Error>(vec![b' '; 1 << 16]);
        let parts = futures_util::stream::iter(std::iter::repeat_with(part).take(64));
        let chunked = s.client.post(s.url("/generate")).header("content-type", "application/json");
        let response = chunked.body(reqwest::Body::wrap_stream(parts)).send().await.expect("an answer");
        assert_eq!(response.status(), 413);
    });
}

#[test]
fn routes_and_methods() {
    within_a_minute(async {
        let s = ready().await;
        let (status, body) = s.get("/v1/embeddings").await;
        assert_eq!(refusal(status, &body), (404, "unknown_url".to_owned(), Value::Null));
        for (path, allow) in [("/generate", "POST"), ("/v1/chat/completions", "POST")] {
            let response = s.client.get(s.url(path)).send().await.expect("an answer");
            assert_eq!(
                (response.status().as_u16(), &response.headers()["allow"]),
                (405, &HeaderValue::from_static(allow))
            );
            assert_eq!(refusal(405, &response.json().await.expect("JSON")).1, "method_not_allowed");
        }
        let response = s.client.delete(s.url("/health")).send().await.expect("an answer");
        assert_eq!(response.status(), 405);
    });
}

#[test]
fn no_model_loading_and_failed() {
    within_a_minute(async {
        let s = start(config()).await;
        let code = async || {
            let response =
                s.client.post(s.url("/generate")).json(&json!({"prompt": "a"})).send().await.expect("an answer");
            assert!(response.headers().contains_key("retry-after"));
            let status = response.status().as_u16();
            let (status, code, _) = refusal(status, &response.json().await.expect("JSON"));
            (status, code)
        };
        assert_eq!(code().await, (503, "no_model".to_owned()));
        s.slot.set_loading("m", mobile_engine::Progress { done: 0, total: 1 });
        assert_eq!(code().await, (503, "model_loading".to_owned()));
        s.slot.set_failed("m", "/secret/path is broken");
        assert_eq!(code().await, (503, "model_failed".to_owned()));
    });
}

#[test]
fn hosts_and_origins() {
    within_a_minute(async {
        let mut c = config();
        c.hosts = vec!["node.example".to_owned()];
        c.origins = vec!["https://page.example".to_owned()];
        let s = start(c).await;
        let get = async |name: &'static str, value: &str| {
            let response = s.client.get(s.url("/v1/models")).header(name, value).send().await.expect("an answer");
            let status = response.status().as_u16();
            let allowed = response.headers().get("access-control-allow-origin").cloned();
            if status != 200 {
                refusal(status, &response.json().await.expect("JSON"));
            }
            (status, allowed.is_some())
        };
        for host in ["localhost", "LOCALHOST:8090", "127.0.0.1:1", "127.9.9.9", "[::1]:8090", "node.example:80"] {
            assert_eq!(get("host", host).await.0, 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "192.168.1.5:8090", "0.0.0.0", "", "a b"] {
            assert_eq!(get("host", host).await.0, 421, "{host}");
        }
        for origin in ["http://localhost:5173", "https://127.0.0.1", "tauri://localhost", "https://page.example"] {
            assert_eq!(get("origin", origin).await, (200, true), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://", "tauri://evil"] {
            assert_eq!(get("origin", origin).await.0, 403, "{origin}");
        }
        let mut preflight = HeaderMap::new();
        preflight.insert("origin", HeaderValue::from_static("tauri://localhost"));
        preflight.insert("access-control-request-method", HeaderValue::from_static("POST"));
        preflight.insert("access-control-request-headers", HeaderValue::from_static("content-type,x-stainless-os"));
        let options = s.client.request(reqwest::Method::OPTIONS, s.url("/generate")).headers(preflight);
        let response = options.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["access-control-allow-headers"], "content-type,x-stainless-os");
    });
}

#[test]
fn keys_are_asked_of_the_network_and_not_of_loopback() {
    within_a_minute(async {
        let mut c = config();
        c.address = ([0, 0, 0, 0], 0).into();
        let keys = c.keys.clone();
        let s = start(c).await;
        s.slot.set_failed("m", "/secret/path is broken");
        let port = s.handle.address().port();
        assert_eq!(
            s.client.get(format!("http://127.0.0.1:{port}/v1/models")).send().await.expect("local").status(),
            200
        );
        let Some(ip) = own_address() else { return };
        let secret = keys.create("gateway").expect("a key");
        let get = async |path: &str, key: Option<&str>| {
            let mut request = s.client.get(format!("http://{ip}:{port}{path}"));
            if let Some(key) = key {
                request = request.header("authorization", key);
            }
            request.send().await.expect("an answer")
        };
        let missing = get("/v1/models", None).await;
        assert_eq!(missing.headers()["www-authenticate"], "Bearer");
        assert_eq!(refusal(401, &missing.json().await.expect("JSON")).1, "invalid_api_key");
        for wrong in ["Bearer wrong", "Bearer ", "Basic abc", secret.as_str()] {
            assert_eq!(get("/v1/models", Some(wrong)).await.status(), 401, "{wrong}");
        }
        let right = format!("Bearer {secret}");
        assert_eq!(get("/v1/models", Some(&right)).await.status(), 200);
        let health = get("/health", None).await.text().await.expect("text");
        assert!(health.contains("\"error\"") && !health.contains("/secret/path"), "{health}");
        let health = get("/health", Some(&right)).await.text().await.expect("text");
        assert!(health.contains("/secret/path"), "{health}");
        assert!(keys.revoke("gateway"));
        assert_eq!(get("/v1/models", Some(&right)).await.status(), 401);
    });
}

/// An address of this machine that is not loopback.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a datagram socket sends nothing: it only asks which address would be used.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// The refusals a client may meet, each with its whole message: people read them, and gateways match them.
#[test]
fn the_table_of_refusals() {
    const JSON: Option<&str> = Some("application/json");
    within_a_minute(async {
        let mut c = config();
        c.address = ([0, 0, 0, 0], 0).into();
        c.announce = Some(false);
        c.limits.body_bytes = 4096;
        let secret = c.keys.create("gateway").expect("a key");
        let s = start(c).await;
        s.slot.set_ready(common::engine(true, |_| {}));
        let port = s.handle.address().port();
        let local = format!("http://127.0.0.1:{port}");
        let key_wanted = "this service asks peers from the network for a key: send Authorization: Bearer KEY with a key \
                          that its owner gave you";
        let post = |path: &str, body: Value| s.client.post(format!("{local}{path}")).json(&body);
        let generate = |body: Value| post("/generate", body);
        let raw = |kind: Option<&str>, body: String| {
            let request = s.client.post(format!("{local}/generate")).body(body);
            kind.into_iter().fold(request, |request, kind| request.header("content-type", kind))
        };
        let mut rows = vec![
            (
                "wrong Host",
                generate(json!({"prompt": "a"})).header("host", "evil.example"),
                421,
                "host_not_allowed",
                "the Host header names no host of this service: use its address, or have its owner add the name",
            ),
            (
                "foreign Origin",
                generate(json!({"prompt": "a"})).header("origin", "https://evil.example"),
                403,
                "origin_not_allowed",
                "pages of this origin may not use the service: have its owner add the origin",
            ),
            (
                "too large",
                generate(json!({"prompt": "a".repeat(5000)})),
                413,
                "body_too_large",
                "the body is larger than the 4096 bytes this service takes",
            ),
            (
                "too long",
                generate(json!({"prompt": "a b ".repeat(500), "raw": true})),
                400,
                "context_length_exceeded",
                "the prompt has 2000 tokens and the model's context holds 128: shorten the prompt by 1872 tokens",
            ),
            (
                "unknown model",
                generate(json!({"prompt": "a", "model": "gpt-4"})),
                404,
                "model_not_found",
                "the model \"gpt-4\" is not loaded here; this service answers as \"org/micro\"",
            ),
            (
                "unknown field",
                generate(json!({"prompt": "a", "tempreature": 1})),
                400,
                "unknown_parameter",
                "unknown field tempreature: see /docs for the fields of this route",
            ),
            (
                "unknown field value",
                generate(json!({"prompt": "a", "policy": "half"})),
                400,
                "invalid_type",
                "policy: must be full, little, mobile or auto, or an object with one of them or mass as its kind and the \
                 parameters of that kind",
            ),
            (
                "value out of range",
                generate(json!({"prompt": "a", "temperature": 3})),
                400,
                "invalid_value",
                "temperature: must be from 0 to 2, found 3",
            ),
            ("missing field", generate(json!({})), 400, "missing_required_parameter", "the field prompt is required"),
            (
                "bad JSON",
                raw(JSON, "{\"prompt\": ".to_owned()),
                400,
                "invalid_json",
                "the body is not valid JSON: EOF while parsing a value at line 1 column 11",
            ),
            (
                "not JSON",
                raw(None, "prompt=a".to_owned()),
                415,
                "unsupported_media_type",
                "send the body as JSON, with the header Content-Type: application/json",
            ),
            (
                "method",
                s.client.get(format!("{local}/generate")),
                405,
                "method_not_allowed",
                "this route does not know the method: see the Allow header and /docs",
            ),
            (
                "unknown route",
                s.client.get(format!("{local}/v2")),
                404,
                "unknown_url",
                "there is no such route: see /docs for those there are",
            ),
        ];
        match own_address() {
            Some(ip) => {
                let models = || s.client.get(format!("http://{ip}:{port}/v1/models"));
                rows.push(("no key", models(), 401, "invalid_api_key", key_wanted));
                let wrong = models().bearer_auth(format!("{secret}x"));
                rows.push(("wrong key", wrong, 401, "invalid_api_key", key_wanted));
                assert_eq!(models().bearer_auth(&secret).send().await.expect("an answer").status(), 200);
            }
            None => eprintln!("keys are not tried: this machine has no address but loopback"),
        }
        for (what, request, status, code, message) in rows {
            let response = request.send().await.unwrap_or_else(|e| panic!("{what}: {e}"));
            let found = response.status().as_u16();
            let body: Value = response.json().await.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!((found, &body["error"]["code"]), (status, &json!(code)), "{what}: {body}");
            assert_eq!(body["error"]["message"], message, "{what}");
            refusal(found, &body);
        }
    });
}
