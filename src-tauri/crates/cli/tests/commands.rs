//! The commands through the front door.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn mobile() -> Command {
    let mut command = Command::cargo_bin("mobile").expect("built");
    command.timeout(std::time::Duration::from_secs(60)).env_remove("MOBILE_MODEL");
    command
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures")
}

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn json(command: &mut Command) -> Value {
    let (code, out, err) = output(command);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn the_embedded_model_answers() {
    let (code, out, err) = output(mobile().args(["generate", "What is the capital of France?", "--policy", "full"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.trim(), "The capital of France is Paris.");
    assert!(err.contains("tok/s") && err.contains("policy full"), "{err}");
}

#[test]
fn json_has_text_tokens_and_stats() {
    let object =
        json(mobile().args(["generate", "List five fruits.", "--json", "--policy", "mobile", "--gamma", "0.9"]));
    let tokens = object["tokens"].as_array().expect("tokens");
    let text: String = tokens.iter().map(|t| t["text"].as_str().expect("text")).collect();
    assert_eq!(object["text"], text.as_str());
    for token in tokens {
        assert!(token["id"].is_u64() && token["ms"].is_f64() && token["decision"].is_string(), "{token}");
        assert!((0.0..=1.0).contains(&token["confidence"].as_f64().expect("confidence")), "{token}");
    }
    let stats = &object["stats"];
    for key in ["elapsed_seconds", "tokens_per_second", "prefill_seconds"] {
        assert!(stats[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {stats}");
    }
    assert_eq!(stats["tokens_generated"], tokens.len());
    assert_eq!(stats["device"], "cpu");
    assert_eq!(stats["model"], "olmoe-tiny");
    assert!(
        stats["prompt_tokens"].as_u64() > Some(5) && stats["peak_memory_bytes"].as_u64() > Some(1_000_000),
        "{stats}"
    );
    let count = |key: &str| stats[key].as_u64().unwrap_or_else(|| panic!("{key}: {stats}"));
    assert_eq!(count("tokens_processed"), count("important_tokens") + count("unimportant_tokens"));
}

#[test]
fn a_schema_is_followed_or_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ask = |schema: &str| {
        let file = folder.path().join("schema.json");
        std::fs::write(&file, schema).expect("written");
        output(mobile().args(["generate", "A fox", "--policy", "full", "--json-schema"]).arg(file))
    };
    let (code, out, err) =
        ask(r#"{"type": "array", "items": {"enum": ["red", "grey"]}, "minItems": 2, "maxItems": 3}"#);
    assert_eq!(code, 0, "{err}");
    let colours: Vec<String> = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert!((2..=3).contains(&colours.len()), "{out}");
    let (code, _, err) = ask(r#"{"type": "array", "uniqueItems": true}"#);
    assert!(code == 4 && err.contains("uniqueItems"), "{code} {err}");
    let (code, _, err) = ask("{");
    assert!(code == 2 && err.contains("schema.json"), "{code} {err}");
}

#[test]
fn a_seed_repeats_a_sampled_answer() {
    let answer = |seed: &str| {
        let args = [
            "generate",
            "Tell me a story.",
            "--temperature",
            "0.9",
            "--max-tokens",
            "40",
            "--policy",
            "full",
            "--seed",
        ];
        output(mobile().args(args).arg(seed)).1
    };
    assert_eq!(answer("3"), answer("3"));
    assert_ne!(answer("3"), answer("4"));
}

#[test]
fn other_families_raw_prompts_stop_strings_and_standard_input() {
    for name in ["qwen2moe-tiny", "mixtral-tiny"] {
        let folder = fixtures().join(name);
        let (code, out, err) = output(
            mobile()
                .args(["generate", "--raw", "--stop", ".", "--policy", "little", "--model"])
                .arg(folder)
                .write_stdin("Once upon a time"),
        );
        assert_eq!(code, 0, "{err}");
        assert!(out.trim().len() > 3 && !out.contains('.'), "{out}");
    }
}

#[test]
fn quantizing_on_load_and_another_dtype() {
    let folder = fixtures().join("mixtral-tiny");
    let object = json(
        mobile()
            .args(["generate", "hi", "--json", "--dtype", "f32", "--bits", "8", "--max-tokens", "3", "--model"])
            .arg(folder),
    );
    assert_eq!(object["stats"]["model"], "mixtral-tiny");
}

#[test]
fn wrong_arguments_input_models_and_requests_have_their_exit_codes() {
    let says = |command: &mut Command, code: i32, words: &str| {
        let (found, _, err) = output(command);
        assert_eq!(found, code, "{err}");
        assert!(err.contains(words), "{err:?} does not say {words:?}");
        assert!(!err.contains("panicked"), "{err}");
    };
    says(mobile().args(["generate", "hi", "--policy", "half"]), 2, "possible values: full, little, mobile, mass, auto");
    says(mobile().args(["generate", "-"]).write_stdin(b"caf\xe9".to_vec()), 2, "not UTF-8: byte 3");
    says(mobile().args(["generate", "hi", "--model", "no/such-model"]), 3, "no/such-model");
    says(mobile().args(["generate", "hi", "--model", "/nonexistent"]), 3, "/nonexistent");
    says(mobile().args(["generate", ""]), 4, "prompt is empty");
    says(mobile().args(["generate", "hi", "--temperature=-1"]), 4, "temperature must be from 0");
    says(mobile().args(["generate", "hi", "--gamma=-1"]), 4, "gamma");
    says(mobile().args(["generate", "-"]).write_stdin("word ".repeat(4000)), 4, "context holds 2048");
    let empty = tempfile::tempdir().expect("a folder");
    says(mobile().args(["generate", "hi", "--model"]).arg(empty.path()), 3, "config.json");
}

#[test]
fn a_conversation_remembers_and_takes_commands() {
    let script = "What is 7 plus 5?\n/stats\n/policy little\n/retry\n/policy mass\n/retry\n/stats\n/policy nonsense\n\
                  /gamma x\n/undo\n/help\n/what\n/quit\n";
    let (code, out, err) = output(mobile().args(["chat", "--policy", "full"]).write_stdin(script));
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.matches("12").count(), 3, "{out}");
    for words in ["policy full", "policy mass", "policies are", "wants a number", "/undo", "/what is not known"] {
        assert!(err.contains(words), "{err:?} does not say {words:?}");
    }
}

#[test]
fn a_converted_checkpoint_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    std::fs::create_dir(&source).expect("made");
    let micro = fixtures().join("micro");
    for entry in std::fs::read_dir(micro.join("olmoe-sharded")).expect("the fixture").flatten() {
        std::fs::copy(entry.path(), source.join(entry.file_name())).expect("copied");
    }
    std::fs::copy(micro.join("tokenizer.json"), source.join("tokenizer.json")).expect("copied");
    let target = folder.path().join("target");
    let convert = |mobile: &mut Command, more: &[&str]| {
        output(mobile.arg("convert").arg(&source).arg(&target).args(["--group-size", "32"]).args(more))
    };
    let (code, out, err) = convert(&mut mobile(), &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("5.00 bits a quantized weight"), "{out}");
    std::fs::remove_dir_all(&target).expect("removed");
    let (code, out, err) = convert(&mut mobile(), &["--json"]);
    let done: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert_eq!((code, &done["weights"]["files"], &done["folder"]), (0, &1.into(), &target.to_str().into()));
    let (code, _, err) = convert(&mut mobile(), &[]);
    assert_eq!(code, 2, "an existing folder is not overwritten");
    assert!(err.contains("exists"), "{err}");
    let object = json(mobile().args(["generate", "hi", "--json", "--max-tokens", "4", "--model"]).arg(&target));
    assert_eq!(object["stats"]["tokens_generated"], 4);
}

#[test]
fn a_model_larger_than_its_memory_answers_the_same() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut answers = Vec::new();
    for memory in ["all", "25%", "1MB"] {
        let mut command = mobile();
        command.env("MOBILE_HOME", home.path()).args(["generate", "What is the capital of France?", "--json"]);
        let object = json(command.args(["--policy", "mobile", "--expert-memory", memory]));
        let cache = &object["stats"]["expert_cache"];
        assert_eq!(cache["misses"].as_u64() > Some(0), memory != "all", "{memory}: {cache}");
        assert_eq!(object["stats"]["model"], "olmoe-tiny");
        answers.push(object["text"].clone());
    }
    assert_eq!(answers[0], "The capital of France is Paris.");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");

    let target = home.path().join("arranged");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/olmoe-tiny");
    let (code, _, err) = output(mobile().arg("convert").arg("--streamed").arg(source).arg(&target));
    assert_eq!(code, 0, "{err}");
    let mut command = mobile();
    let object = json(
        command
            .args(["generate", "What is the capital of France?", "--json", "--expert-memory", "10%"])
            .arg("--model")
            .arg(&target),
    );
    assert_eq!(object["text"], answers[0]);
    let (code, _, err) =
        output(mobile().args(["generate", "Hello", "--expert-memory", "1kB"]).arg("--model").arg(&target));
    assert!(code == 3 && err.contains("give at least"), "{code}: {err}");
}

#[test]
fn the_doctor_knows_this_machine() {
    let object = json(mobile().args(["doctor", "--json"]));
    assert_eq!(object["mlx"]["version"], "0.32.2");
    assert!(object["cores"]["total"].as_u64() > Some(0) && object["memory_total"].as_u64() > Some(1 << 30), "{object}");
    let (code, out, _) = output(mobile().arg("doctor"));
    assert_eq!(code, 0);
    for name in ["Host", "Chip", "Memory", "MLX", "Disk free"] {
        assert!(out.contains(name), "{out}");
    }
}

#[test]
fn the_library_takes_in_lists_explains_and_lets_go() {
    let home = tempfile::tempdir().expect("a folder");
    let mobile = || {
        let mut command = mobile();
        command.env("MOBILE_HOME", home.path().join("data")).env("HF_HUB_CACHE", home.path().join("cache"));
        command.env("HF_HUB_OFFLINE", "1");
        command
    };
    let (_, out, _) = output(mobile().arg("list"));
    assert!(out.contains("No models yet besides the built-in olmoe-tiny."), "{out}");
    let folder = fixtures().join("mixtral-tiny");
    let entry = json(mobile().args(["import", "--name", "twin", "--json"]).arg(&folder));
    assert_eq!((&entry["id"], &entry["status"]), (&"local/twin".into(), &"ready".into()));
    assert_eq!(json(mobile().args(["rm", "local/twin", "--json"]))["freed_bytes"], 0);
    let (code, out, err) = output(mobile().args(["import", "--name", "small"]).arg(&folder));
    assert_eq!((code, out.trim()), (0, "local/small is in the library"), "{err}");
    assert!(output(mobile().arg("list")).1.contains("local/small"), "listed");
    let info = json(mobile().args(["info", "local/small", "--json"]));
    assert_eq!((&info["shape"]["experts"], &info["fit"]["verdict"]), (&8.into(), &"fits".into()));
    let short = ["generate", "hi", "--json", "--max-tokens", "2", "--model", "local/small"];
    assert_eq!(json(mobile().args(short))["stats"]["tokens_generated"], 2);
    assert_eq!(json(mobile().args(short).args(["--expert-memory", "50%"]))["stats"]["tokens_generated"], 2);
    let copies = json(mobile().args(["info", "local/small", "--json"]))["arranged"].clone();
    let copy = PathBuf::from(copies[0]["path"].as_str().expect("a path"));
    assert!(copies[0]["bytes"].as_u64() > Some(100_000) && copy.starts_with(home.path()), "{copies}");
    assert!(output(mobile().arg("list")).1.contains("arranged for streaming"), "its size is listed");
    assert!(output(mobile().args(["info", "local/small"])).1.contains(&copy.display().to_string()));
    for (command, wrong, meant) in [
        ("info", "smal", "local/small"),
        ("info", "OLMoE-1B-7B-0125-Instuct", "allenai/OLMoE-1B-7B-0125-Instruct"),
        ("pull", "mixtral-8x7b-instruct-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("rm", "local/smoll", "local/small"),
    ] {
        let (code, _, err) = output(mobile().args([command, wrong]));
        assert!(code == 3 && err.contains(&format!("Did you mean {meant}?")), "{wrong}: {err}");
    }
    for far in ["nobody/knows-this", "local/sample", "local/OLMoE-1B-7B-0125"] {
        let (_, _, err) = output(mobile().args(["info", far]));
        assert!(!err.contains("Did you mean"), "{err}");
    }
    let (code, out, err) = output(mobile().args(["rm", "local/small"]));
    assert!(code == 0 && out.contains("B freed") && !copy.exists(), "{out}{err}");
    assert!(folder.join("config.json").exists(), "a folder used in place is left alone");
    let (code, _, err) = output(mobile().args(["rm", "local/small"]));
    assert!(code == 3 && err.contains("local/small"), "{err}");
    let offers = output(mobile().args(["list", "--available"])).1;
    let offer = offers.lines().find(|l| l.starts_with("allenai/OLMoE-1B-7B-0125 ")).expect("offered");
    assert!(
        ["13.8 GB", "6.9B", "8 or 4 of 64", "4096", "Apache-2.0"].iter().all(|fact| offer.contains(fact)),
        "{offer}"
    );
    assert!(output(mobile().args(["info", "olmoe-tiny"])).1.contains("64 experts of which 8"));
}

#[test]
fn a_pull_without_a_network_says_what_to_do() {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = mobile();
    command.env("MOBILE_HOME", home.path()).env("HF_HUB_CACHE", home.path()).env("HF_HUB_OFFLINE", "1");
    let (code, _, err) = output(command.args(["pull", "allenai/OLMoE-1B-7B-0125"]));
    assert!(code == 3 && err.contains("HF_HUB_OFFLINE"), "{err}");
    let (code, _, err) = output(mobile().args(["pull", "../../etc/passwd"]));
    assert_eq!(code, 3, "{err}");
}

#[test]
fn the_endpoint_answers_and_ends_cleanly() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::process::Stdio;
    let home = tempfile::tempdir().expect("a folder");
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("mobile"))
        .args(["serve", "--port", "0", "--policy", "full"])
        .env("MOBILE_HOME", home.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let address = lines.find_map(|l| l.strip_prefix("http://").map(str::to_owned)).expect("an address");
    assert!(lines.any(|l| l == "ready"));
    let mut socket = std::net::TcpStream::connect(&address).expect("connected");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("set");
    let body = r#"{"prompt": "What is the capital of France?", "max_tokens": 20}"#;
    write!(
        socket,
        "POST /generate HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("The capital of France is Paris."), "{answer}");
    let stop = std::process::Command::new("kill").arg(child.id().to_string()).status().expect("kill ran");
    assert!(stop.success());
    assert!(child.wait().expect("ended").success());
}

#[test]
fn the_network_is_not_let_in_without_a_key() {
    let home = tempfile::tempdir().expect("a folder");
    let (code, _, err) = output(mobile().env("MOBILE_HOME", home.path()).args(["serve", "--lan", "--port", "0"]));
    assert!(code == 2 && err.contains("--key"), "{err}");
}
