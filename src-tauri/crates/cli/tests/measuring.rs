//! The commands that measure, through the front door.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

const STORY: &str = "A young fox named Pip lived near the sea. Pip had a friend called Thistle, a stubborn owl.\n\
    One cold night, Pip found a golden seed. Pip dug a little hole, dropped in the seed, and covered it with earth.\n";

fn mobile(home: &TempDir) -> Command {
    let mut command = Command::cargo_bin("mobile").expect("built");
    command.timeout(Duration::from_secs(60)).env("MOBILE_HOME", home.path()).env("MOBILE_MODEL", model());
    command
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/olmoe-tiny")
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn file(home: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, content).expect("written");
    path
}

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn json(command: &mut Command) -> Value {
    let (code, out, err) = output(command.arg("--json"));
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

#[test]
fn eval_compares_a_policy_with_all_experts() {
    let home = home();
    let text = file(&home, "text.txt", STORY);
    let above_one = ["--policy", "mobile", "--gamma", "1.01", "--window", "24"];
    let report = json(mobile(&home).arg("eval").arg(&text).args(above_one));
    assert_eq!((&report["kind"], &report["complete"]), (&"text".into(), &true.into()));
    let [full, mobile] = report["rows"].as_array().expect("rows").as_slice() else { panic!("{report}") };
    assert_eq!((&full["policy"]["kind"], &mobile["policy"]["kind"]), (&"full".into(), &"mobile".into()));
    // Above one, every token but the first of a window falls back, and nothing else changes.
    assert!((number(&mobile["perplexity_ratio"]) - 1.0).abs() < 1e-6, "{mobile}");
    assert_eq!((number(&full["agreement"]), number(&mobile["agreement"])), (1.0, 1.0));
    assert!(number(&mobile["fallback_rate"]) > 0.9 && number(&mobile["experts_used"]) > 1.4, "{mobile}");
    assert_eq!((number(&full["fallback_rate"]), number(&full["experts_used"])), (0.0, 1.0));
    assert_eq!(full["tokens"], report["tokens"]);
}

#[test]
fn eval_counts_documents_and_their_ends() {
    let home = home();
    let one = file(&home, "one.txt", STORY);
    let two = file(&home, "two.txt", &format!("{STORY}<|endoftext|>\n{STORY}<|endoftext|>\n"));
    let full = ["--policy", "full"];
    let tokens = |report: Value| report["tokens"].as_u64().expect("tokens");
    let single = tokens(json(mobile(&home).arg("eval").arg(one).args(full)));
    let both = tokens(json(mobile(&home).arg("eval").arg(two).args(full).args(["--separator", "<|endoftext|>"])));
    // The first token of the file is not predicted; the two ends are tokens too.
    assert_eq!(both, 2 * (single + 1) + 2 - 1);
}

#[test]
fn eval_sweeps_and_writes_as_it_goes() {
    let home = home();
    let text = file(&home, "text.txt", STORY);
    let result = home.path().join("result.json");
    let few = ["--sweep", "--gammas", "0,0.7", "--window", "8", "--tokens", "24"];
    let (code, out, err) = output(mobile(&home).arg("eval").arg(&text).args(few).arg("--output").arg(&result));
    assert_eq!(code, 0, "{err}");
    for line in ["policy", "full", "little renormalized", "mobile γ=0.7", "mobile γ=0.7 renormalized", "mass 0."] {
        assert!(out.lines().any(|l| l.starts_with(line)), "{line}: {out}");
    }
    let report: Value = serde_json::from_slice(&fs::read(result).expect("written")).expect("JSON");
    assert_eq!(report["complete"], true);
    let row = |kind: &str, gamma: Option<f64>| {
        let rows = report["rows"].as_array().expect("rows");
        let same = |r: &&Value| {
            r["policy"]["kind"] == kind
                && r["policy"]["renormalize"] == false
                && gamma.is_none_or(|g| (number(&r["policy"]["gamma"]) - g).abs() < 1e-6)
        };
        rows.iter().find(same).cloned().unwrap_or_else(|| panic!("{kind}"))
    };
    // γ = 0 is the little model.
    assert_eq!(row("little", None)["perplexity"], row("mobile", Some(0.0))["perplexity"]);
}

#[test]
fn eval_counts_answers_that_are_exact() {
    let home = home();
    let line = |question: &str, answer: &str| {
        serde_json::json!({ "messages": [{ "role": "user", "content": question }], "reference": answer }).to_string()
    };
    let right = line("What is the capital of France?", "The capital of France is Paris.");
    let wrong = line("What is the capital of France?", "Purple elephants never sing.");
    let chat = file(&home, "chat.jsonl", &format!("{right}\n\n{wrong}\n"));
    let report = json(mobile(&home).arg("eval").arg("--chat").arg(chat).args(["--policy", "little"]));
    assert_eq!(report["items"], 2);
    assert_eq!(number(&report["rows"][0]["exact_answers"]), 0.5);
}

#[test]
fn eval_refuses_what_it_cannot_read() {
    let home = home();
    let refused = |command: &mut Command, parts: &[&str]| {
        let (code, out, err) = output(command);
        assert_eq!(code, 2, "{err}");
        assert!(out.is_empty() && parts.iter().all(|p| err.contains(p)), "{err}");
    };
    refused(mobile(&home).args(["eval", "/no/such/file.txt"]), &["/no/such/file.txt"]);
    refused(mobile(&home).arg("eval"), &["--chat"]);
    let good = r#"{"messages": [{"role": "user", "content": "Hello"}], "reference": "Hi"}"#;
    let chat = file(&home, "bad.jsonl", &format!("{good}\n{{\"messages\": []}}\n"));
    refused(mobile(&home).arg("eval").arg("--chat").arg(chat), &["bad.jsonl, line 2", "reference"]);
    let empty = file(&home, "empty.txt", "");
    refused(mobile(&home).arg("eval").arg(empty), &["nothing to predict"]);
    let text = file(&home, "long.txt", &STORY.repeat(60));
    refused(mobile(&home).arg("eval").arg(text).args(["--window", "3000"]), &["context holds 2048"]);
}

#[test]
fn bench_puts_the_policies_side_by_side() {
    let home = home();
    let chart = home.path().join("bench.svg");
    let small = ["--prompt-tokens", "8", "--tokens", "12", "--runs", "2", "--batch", "2", "--fallback-rate", "0,0.3"];
    let report = json(mobile(&home).arg("bench").args(small).arg("--svg").arg(&chart));
    let rows = report["rows"].as_array().expect("rows");
    let kinds: Vec<&str> = rows.iter().filter_map(|r| r["policy"]["kind"].as_str()).collect();
    assert_eq!(kinds, ["full", "little", "mobile", "mass", "auto"].repeat(2));
    for row in rows {
        let speed = &row["decode_tokens_per_second"];
        assert!(number(&speed["min"]) > 0.0 && number(&speed["min"]) <= number(&speed["median"]), "{row}");
        assert!(number(&row["first_token_seconds"]["median"]) > 0.0, "{row}");
    }
    let wanted = |at: usize| (number(&rows[at]["wanted_fallback_rate"]), number(&rows[at]["fallback_rate"]));
    assert_eq!(wanted(2), (0.0, 0.0));
    let (wanted, reached) = wanted(7);
    assert!(wanted == 0.3 && (0.05..0.7).contains(&reached), "{reached}");
    assert!(number(&report["peak_memory_bytes"]) > 1e6);
    assert!(fs::read_to_string(chart).expect("drawn").contains("tokens per second"));
}

#[test]
fn bench_prints_a_table_and_refuses_a_bad_rate() {
    let home = home();
    let (code, out, err) =
        output(mobile(&home).args(["bench", "--prompt-tokens", "4", "--tokens", "4", "--runs", "1"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("policy") && out.contains("auto γ=0.7 → ") && err.contains("peak memory"), "{out}{err}");
    let (code, _, err) = output(mobile(&home).args(["bench", "--fallback-rate", "1.5"]));
    assert!(code == 2 && err.contains("from 0 to 1"), "{err}");
}

const QUICK: [&str; 7] = ["calibrate", "--tokens", "256", "--runs", "1", "--speed-tokens", "8"];

#[test]
fn calibrate_stores_what_others_use() {
    let home = home();
    let report = json(mobile(&home).args(QUICK).args(["--gammas", "0.35,1.01", "--bound", "1000%"]));
    let path = PathBuf::from(report["stored"].as_str().expect("a path"));
    assert!(path.starts_with(home.path()) && path.exists(), "{report}");
    assert!(Path::new(report["chart"].as_str().expect("a path")).exists(), "{report}");
    assert_eq!(report["points"].as_array().map(Vec::len), Some(2));
    let gamma = number(&report["gamma"]);

    let text = file(&home, "text.txt", STORY);
    let with = |arguments: &[&str]| {
        let report = json(mobile(&home).arg("eval").arg(&text).args(["--policy", "mobile"]).args(arguments));
        number(&report["rows"][1]["policy"]["gamma"])
    };
    assert_eq!(with(&[]), gamma);
    assert!((with(&["--gamma", "0.5"]) - 0.5).abs() < 1e-6);
    assert!((with(&["--renormalize"]) - 0.7).abs() < 1e-6);

    fs::write(&path, "{").expect("damaged");
    let (code, _, err) = output(mobile(&home).args(["generate", "Hello", "--max-tokens", "2"]));
    assert!(code == 0 && err.contains("the stored calibration is left out"), "{err}");
}

#[test]
fn calibrate_says_when_nothing_is_good_enough() {
    let home = home();
    let (code, out, err) = output(mobile(&home).args(QUICK).args(["--gammas", "0", "--bound", "0%"]));
    assert_eq!(code, 1, "{err}");
    // What was measured is shown nevertheless, and nothing is stored.
    assert!(out.contains("γ=0") && err.contains("no threshold") && err.contains("the closest is γ = 0"), "{out}{err}");
    assert!(!home.path().join("calibration").exists());
    let (code, _, err) = output(mobile(&home).args(["calibrate", "--bound", "much"]));
    assert!(code == 2 && err.contains("1%"), "{err}");
    let (code, _, err) = output(mobile(&home).args(["calibrate", "--text", "/no/such.txt"]));
    assert!(code == 2 && err.contains("/no/such.txt"), "{err}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_measured() {
    let home = home();
    let text = file(&home, "text.txt", &STORY.repeat(8));
    let result = home.path().join("result.json");
    let program = assert_cmd::cargo::cargo_bin("mobile");
    let mut child = std::process::Command::new(program)
        .args(["eval", "--sweep", "--window", "64", "--output"])
        .arg(&result)
        .arg(&text)
        .env("MOBILE_HOME", home.path())
        .env("MOBILE_MODEL", model())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let until = Instant::now() + Duration::from_secs(50);
    while !result.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("ran");
    assert!(kill.success());
    while child.try_wait().expect("asked").is_none() {
        if Instant::now() > until {
            child.kill().expect("ended");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = child.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("\nfull "), "the table is printed");
    let report: Value = serde_json::from_slice(&fs::read(result).expect("written")).expect("JSON");
    assert_eq!(report["complete"], false);
    assert!(number(&report["rows"][0]["perplexity"]) > 1.0);
}
