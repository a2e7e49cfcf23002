//! Compares what this half of the contract serialises with what `contract.ts` declares.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::calibration::CalibrationPoint;
use super::chat::{KeptReason, Message, Role, Stats};
use super::*;
use crate::error::CommandError;

const CONTRACT: &str = include_str!("../../../ui/src/lib/backend/contract.ts");

/// The text between the braces of `export interface NAME`.
fn body(name: &str) -> &'static str {
    let from = CONTRACT.split_once(&format!("export interface {name} {{\n"));
    let (_, rest) = from.unwrap_or_else(|| panic!("contract.ts declares no interface {name}"));
    rest.split_once("\n}\n").expect("an end").0
}

/// The names at the interface's own depth.
fn fields(name: &str) -> BTreeSet<&'static str> {
    body(name)
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(": "))
        .map(|(field, _)| field)
        .filter(|field| field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[track_caller]
fn same(name: &str, example: &impl Serialize) {
    let value = serde_json::to_value(example).expect("serialisable");
    assert_eq!(keys(&value), fields(name), "{name}");
}

/// Every name must be one of the literals of `export type NAME`.
#[track_caller]
fn literals(name: &str, examples: &[&dyn erased::Json]) {
    let (_, rest) = CONTRACT.split_once(&format!("export type {name} =")).expect("declared");
    let declared: BTreeSet<_> = rest.split_once(';').expect("an end").0.split('\'').skip(1).step_by(2).collect();
    let ours: Vec<String> = examples.iter().map(|e| e.json()).collect();
    assert_eq!(ours.iter().map(|s| s.trim_matches('"')).collect::<BTreeSet<_>>(), declared, "{name}");
}

mod erased {
    /// `Serialize` of examples that differ in type.
    pub(super) trait Json {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).expect("serialisable")
        }
    }
}

fn stats() -> Stats {
    Stats {
        elapsed_seconds: 1.0,
        tokens_generated: 2,
        tokens_per_second: 2.0,
        prompt_tokens: 3,
        prefill_seconds: 0.1,
        important_tokens: 1,
        unimportant_tokens: 1,
        fallbacks: 1,
        experts_computed: 12,
        experts_full: 16,
        cache_hits: 0,
        peak_memory_bytes: 9,
        device: "cpu".to_owned(),
        model: "m".to_owned(),
        policy: PolicyKind::Auto,
        chosen: Some(PolicyKind::Full),
        why: None,
    }
}

fn token() -> TokenRecord {
    TokenRecord { text: " a".to_owned(), decision: mobile_engine::Decision::Fallback, confidence: Some(0.5), ms: 3.0 }
}

#[test]
fn chat() {
    let message = Message {
        id: "m".to_owned(),
        role: Role::Assistant,
        content: " a".to_owned(),
        tokens: Some(vec![token()]),
        stats: Some(stats()),
        reason: Some(KeptReason::Stop),
        error: None,
    };
    same("PromptMessage", &PromptMessage { role: Role::User, content: String::new() });
    same("ChatSettings", &ChatSettings::default());
    same("Policy", &Policy::default());
    same("Stats", &stats());
    same("TokenRecord", &token());
    same("Message", &message);
    let (settings, policy) = (ChatSettings::default(), Policy::default());
    let (id, title) = ("c".to_owned(), "t".to_owned());
    let kept = Conversation { id, title, created_at: 1, updated_at: 2, messages: vec![message], settings, policy };
    same("Conversation", &kept);
    let text = serde_json::to_string(&kept).expect("serialisable");
    assert_eq!(serde_json::from_str::<Conversation>(&text).expect("the same data"), kept);
    let (id, title) = (kept.id, kept.title);
    same("ConversationSummary", &ConversationSummary { id, title, updated_at: 2, excerpt: None });
    literals("Role", &[&Role::System, &Role::User, &Role::Assistant]);
    literals("PolicyKind", &PolicyKind::ALL.each_ref().map(|k| k as &dyn erased::Json));
    use mobile_engine::{Decision, FinishReason};
    literals("Decision", &[&Decision::Little, &Decision::Big, &Decision::Fallback]);
    literals("FinishReason", &[&FinishReason::Stop, &FinishReason::Length, &FinishReason::Cancelled]);
}

#[test]
fn chat_events() {
    let json = |event: ChatEvent| serde_json::to_value(event).expect("serialisable");
    let started = json(ChatEvent::Started { prompt_tokens: 3, cached_tokens: 1 });
    assert_eq!(started, serde_json::json!({ "type": "started", "promptTokens": 3, "cachedTokens": 1 }));
    let token = json(ChatEvent::Token { id: 7, record: token() });
    let of_record: BTreeSet<_> = fields("TokenRecord").into_iter().chain(["type", "id"]).collect();
    assert_eq!((keys(&token), &token["type"]), (of_record, &Value::from("token")));
    let reason = mobile_engine::FinishReason::Stop;
    let finished = json(ChatEvent::Finished { reason, stats: Box::new(stats()) });
    assert_eq!((&finished["type"], &finished["reason"]), (&Value::from("finished"), &Value::from("stop")));
    assert_eq!(keys(&finished["stats"]), fields("Stats"));
    let failed = json(ChatEvent::Failed { code: "c".to_owned(), message: "m".to_owned() });
    assert_eq!(failed, serde_json::json!({ "type": "failed", "code": "c", "message": "m" }));
}

#[test]
fn models() {
    let error = Some(CommandError::new("network", "gone"));
    let pull = PullProgress {
        status: PullStatus::Failed,
        file: "f".to_owned(),
        bytes: 1,
        total: 2,
        bytes_per_second: None,
        seconds_left: None,
        error,
    };
    let fit = Fit { verdict: FitVerdict::Fits, lines: vec![FitLine { label: "Experts", bytes: 1 }] };
    same("CommandError", pull.error.as_ref().expect("an error"));
    same("PullProgress", &pull);
    same("Fit", &fit);
    let entry = ModelEntry {
        id: "a/b".to_owned(),
        name: "b".to_owned(),
        family: "OLMoE".to_owned(),
        quantization: "4 bits".to_owned(),
        experts: 64,
        top_k: 8,
        parameters: 7,
        bytes: 4,
        context_tokens: 4096,
        installed: true,
        embedded: false,
        fit: Some(fit),
        pull: Some(pull),
    };
    same("ModelEntry", &entry);
    let state = EngineStatus::Ready;
    same("EngineState", &EngineState { state, model: None, progress: None, memory_bytes: None, message: None });
    let plan = MemoryPlan {
        total_bytes: 1,
        available_bytes: 1,
        dense_bytes: 1,
        kv_bytes: 1,
        expert_bytes: 1,
        least_expert_bytes: 1,
        resident_expert_bytes: 1,
        resident_experts: 1,
        total_experts: 1,
        mode: MemoryMode::Resident,
        pending: false,
    };
    same("MemoryPlan", &plan);
    literals("FitVerdict", &[&FitVerdict::Fits, &FitVerdict::Streamed, &FitVerdict::TooLarge]);
    use PullStatus as P;
    literals("PullStatus", &[&P::Running, &P::Paused, &P::Verifying, &P::Failed, &P::Done]);
    use EngineStatus as E;
    literals("EngineStatus", &[&E::Empty, &E::Loading, &E::Ready, &E::Error]);
    literals("MemoryMode", &[&MemoryMode::Resident, &MemoryMode::Streamed]);
}

#[test]
fn settings_and_system() {
    same("Settings", &Settings::default());
    same("LanSettings", &LanSettings::default());
    same("Look", &Look { accent: None, vibrancy: false });
    literals("Appearance", &[&Appearance::System, &Appearance::Light, &Appearance::Dark]);
    literals("WindowName", &[&WindowName::Chat, &WindowName::Settings]);
    let doctor = Doctor {
        host_name: String::new(),
        chip: String::new(),
        cores: 1,
        memory_bytes: 1,
        disk_free_bytes: 1,
        gpu_cores: None,
        metal: None,
        mlx_version: String::new(),
        app_version: String::new(),
        device: String::new(),
        warnings: Vec::new(),
    };
    same("Doctor", &doctor);
}

#[test]
fn network() {
    let url = "http://127.0.0.1:8090".to_owned();
    let node = NetworkNode { name: "n".to_owned(), url: url.clone(), model: None, load: None };
    let client = NetworkClient { address: "a".to_owned(), key: None, requests: 1 };
    same("NetworkNode", &node);
    same("NetworkClient", &client);
    let urls = vec![NetworkUrl { interface: "i".to_owned(), url }];
    let status =
        NetworkStatus { listening: true, lan: false, port: 8090, urls, clients: vec![client], nodes: vec![node] };
    same("NetworkStatus", &status);
    assert!(body("NetworkStatus").contains("urls: { interface: string; url: string }[]"));
    let key = KeyEntry { id: "k".to_owned(), name: "n".to_owned(), created_at: 1, last_used_at: None };
    same("KeyEntry", &key);
    same("NewKey", &NewKey { key, secret: "s".to_owned() });
}

#[test]
fn live() {
    let sample = LiveSample {
        t: 0.0,
        generating: false,
        tokens_per_second: None,
        importance_rate: None,
        fallback_rate: None,
        confidence_histogram: [0; mobile_engine::CONFIDENCE_BINS],
        gamma: 0.7,
        cache_hit_rate: None,
        bytes_read_per_second: None,
        memory_bytes: 0,
        queue: 0,
        experts: None,
    };
    same("LiveSample", &sample);
    same("ExpertUse", &ExpertUse { experts: 1, little: vec![0], big: vec![1] });
}

#[test]
fn calibration() {
    let point = CalibrationPoint { gamma: 0.7, tokens_per_second: 1.0, perplexity_ratio: 1.0, fallback_rate: 0.1 };
    same("CalibrationPoint", &point);
    let calibration = Calibration {
        model: "m".to_owned(),
        device: "cpu".to_owned(),
        measured_at: 1,
        tokens: 2,
        points: vec![point],
        confidence_histogram: [0; mobile_engine::CONFIDENCE_BINS],
        recommended: 0.7,
        bound: 0.01,
        complete: true,
    };
    same("Calibration", &calibration);
    let json = |event: CalibrationEvent| serde_json::to_value(event).expect("serialisable");
    let progress = json(CalibrationEvent::Progress { done: 1, total: 12, share: 0.1, point: Some(point) });
    assert_eq!(keys(&progress), ["type", "done", "total", "share", "point"].into());
    assert_eq!(json(CalibrationEvent::Finished { calibration })["type"], "finished");
    assert_eq!(json(CalibrationEvent::Stopped), serde_json::json!({ "type": "stopped" }));
    let failed = json(CalibrationEvent::Failed { code: "c".to_owned(), message: "m".to_owned() });
    assert_eq!(failed, serde_json::json!({ "type": "failed", "code": "c", "message": "m" }));
}

#[test]
fn every_command_is_registered_and_no_other() {
    let declared: BTreeSet<_> = fields("Commands").into_iter().chain(fields("Streams")).collect();
    let registered: BTreeSet<_> = crate::commands::NAMES.iter().copied().collect();
    assert_eq!(registered, declared);
}
