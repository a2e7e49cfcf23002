//! `mobile serve` as its owner starts it: settings and logs.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A server that is killed when the test ends.
struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mobile"));
    command.arg("serve").env("MOBILE_HOME", home).env_remove("RUST_LOG").stderr(Stdio::piped());
    command
}

fn start(command: &mut Command) -> Server {
    let mut child = command.spawn().expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|l| l.strip_prefix("http://").map(str::to_owned));
    let address = address.expect("an address");
    Server { child, lines, address }
}

impl Server {
    /// Ends it as a service manager would, and gives the lines that are left.
    fn stop(mut self) -> Vec<String> {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill ran");
        assert!(kill.success() && self.child.wait().expect("ended").success());
        self.lines.by_ref().map_while(Result::ok).collect()
    }

    fn request(&self, head: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let length = body.len();
        write!(
            socket,
            "{head}\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        answer
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("config.toml"), "host = \"127.0.0.2\"\nport = 0\n").expect("written");
    let host = |command: &mut Command| start(command).address.split(':').next().expect("a host").to_owned();
    assert_eq!(host(&mut command(home.path())), "127.0.0.2");
    assert_eq!(host(command(home.path()).env("MOBILE_HOST", "127.0.0.3")), "127.0.0.3");
    assert_eq!(host(command(home.path()).env("MOBILE_HOST", "127.0.0.3").args(["--host", "127.0.0.4"])), "127.0.0.4");
    let other = home.path().join("other.toml");
    std::fs::write(&other, "host = \"127.0.0.5\"\nport = 0\n").expect("written");
    assert_eq!(host(command(home.path()).arg("--config").arg(&other)), "127.0.0.5");
    std::fs::write(&other, "\nprot = 0\n").expect("written");
    let output = command(home.path()).env("MOBILE_CONFIG", &other).output().expect("ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("other.toml, line 2: unknown setting `prot`"), "{said}");
}

#[test]
fn log_lines_hold_no_prompt_no_key_and_no_path() {
    const KEY: &str = "a key that nobody should read";
    const PROMPT: &str = "Xylophones";
    let home = tempfile::tempdir().expect("a folder");
    let logs = home.path().join("logs");
    let config = format!("port = 0\nkey = \"{KEY}\"\nlog-format = \"json\"\nlog-folder = {logs:?}\n");
    std::fs::write(home.path().join("config.toml"), config).expect("written");
    let mut server = start(&mut command(home.path()));
    assert!(server.lines.by_ref().map_while(Result::ok).any(|l| l == "ready"));
    let body = format!(r#"{{"prompt": "{PROMPT}", "max_tokens": 3}}"#);
    let bearer = format!("POST /generate HTTP/1.1\r\nAuthorization: Bearer {KEY}");
    assert!(server.request(&bearer, &body).starts_with("HTTP/1.1 200"));
    for (path, body, status) in [
        ("/generate", format!(r#"{{"prompt": "{PROMPT}", "{PROMPT}": 1}}"#), 400),
        ("/generate", format!(r#"{{"prompt": "{PROMPT}", "model": "{PROMPT}"}}"#), 404),
        ("/generate", format!("{{{PROMPT}"), 400),
        (&*format!("/{PROMPT}?key={KEY}").replace(' ', "+"), String::new(), 404),
    ] {
        let answer = server.request(&format!("POST {path} HTTP/1.1"), &body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    assert_eq!(server.stop(), [""; 0], "all lines go to the folder");
    let files: Vec<_> = std::fs::read_dir(&logs).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    let [file] = &*files else { panic!("{files:?}") };
    let text = std::fs::read_to_string(file).expect("a log");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let requests = lines.iter().filter(|l| l["fields"]["message"] == "request");
    let statuses: Vec<u64> = requests.map(|l| l["fields"]["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [200, 400, 404, 400, 404]);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources").canonicalize().expect("the model");
    let home = home.path().display().to_string();
    for secret in [KEY, &KEY.replace(' ', "+"), PROMPT, &home, &model.display().to_string()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn the_network_is_told_addresses_that_answer() {
    let home = tempfile::tempdir().expect("a folder");
    let mut server = start(command(home.path()).args(["--lan", "--no-key", "--no-announce", "--port", "0"]));
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    let lines = server.lines.by_ref().map_while(Result::ok).take_while(|line| line != "ready");
    let mut told: Vec<String> = lines.filter_map(|line| line.strip_prefix("http://").map(str::to_owned)).collect();
    told.push(server.address.clone());
    for line in told {
        let address = line.split(' ').next().expect("an address");
        let mut socket = TcpStream::connect(address).unwrap_or_else(|e| panic!("{line}: {e}"));
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        write!(socket, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{line}: {answer}");
    }
}

#[test]
fn announced_endpoints_are_listed() {
    let home = tempfile::tempdir().expect("a folder");
    let flags = ["--lan", "--no-key", "--port", "0"];
    let server = start(command(home.path()).args(flags));
    let silent = start(command(home.path()).args(flags).arg("--no-announce"));
    let port = |server: &Server| server.address.rsplit(':').next().and_then(|p| p.parse::<u64>().ok()).expect("a port");
    let nodes = |arguments: &[&str]| {
        let output = Command::new(assert_cmd::cargo::cargo_bin!("mobile")).arg("nodes").args(arguments).output();
        let output = output.expect("ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let found: Vec<Value> = serde_json::from_str(&nodes(&["--json", "--seconds", "4"])).expect("JSON");
    let ours = |port: u64| found.iter().find(|node| node["port"] == port);
    assert!(ours(port(&silent)).is_none(), "{found:?}");
    match ours(port(&server)) {
        Some(node) => {
            assert_eq!((&node["model"], &node["load"], &node["max"]), (&"olmoe-tiny".into(), &0.into(), &32.into()));
            assert!(node["addresses"].as_array().is_some_and(|a| !a.is_empty()), "{node}");
            assert!(nodes(&["--seconds", "4"]).contains("olmoe-tiny"), "in the table too");
        }
        // Whether nodes find each other where they can is the service's own test.
        None => eprintln!("skipped: no announcement came back, so this network carries no multicast"),
    }
}
