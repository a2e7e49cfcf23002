//! `mobile keys` beside a running endpoint.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mobile(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mobile"));
    command.args(arguments).env("MOBILE_HOME", home).env_remove("MOBILE_KEY");
    command
}

/// Exit code, standard output and standard error.
fn keys(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = mobile(home, &[&["keys"], arguments].concat()).output().expect("ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8").trim().to_owned();
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// The status with which a request is answered.
fn status(address: &str, key: &str) -> u16 {
    let mut socket = TcpStream::connect(address).expect("connected");
    let head = format!("GET /v1/models HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}");
    write!(socket, "{head}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn a_key_is_made_kept_as_a_hash_listed_and_revoked() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    assert!(keys(home, &["list"]).1.contains("No keys yet"));
    let (code, secret, err) = keys(home, &["create", "gateway"]);
    assert!(code == 0 && secret.len() > 40 && err.contains("only its hash is kept"), "{err}");
    let (code, _, err) = keys(home, &["create", "gateway"]);
    assert!(code == 2 && err.contains("exists already"), "{err}");
    let file = home.join("keys.json");
    assert!(!std::fs::read_to_string(&file).expect("kept").contains(&secret));
    assert_eq!(std::fs::metadata(&file).expect("kept").permissions().mode() & 0o077, 0, "nobody else reads it");
    assert_eq!(keys(home, &["list"]).1, "gateway");
    let listed: Value = serde_json::from_str(&keys(home, &["list", "--json"]).1).expect("JSON");
    assert_eq!(listed[0]["sha256"].as_str().map(str::len), Some(64), "{listed}");
    assert_eq!(keys(home, &["revoke", "gateway"]).0, 0);
    let (code, _, err) = keys(home, &["revoke", "gateway"]);
    assert!(code == 2 && err.contains("no key named"), "{err}");
    std::fs::write(&file, "{").expect("written");
    let (code, _, err) = keys(home, &["list"]);
    assert!(code == 1 && err.contains("not a file of keys"), "{err}");
}

#[test]
fn a_running_endpoint_follows() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let serve = ["serve", "--lan", "--no-announce", "--port", "0"];
    let refused = mobile(home, &serve).output().expect("ran");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("mobile keys create"));

    let first = keys(home, &["create", "first"]).1;
    let mut child = mobile(home, &serve).stderr(Stdio::piped()).spawn().expect("started");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let _server = Server(child);
    let told: Vec<String> = lines.take_while(|line| line != "ready").collect();
    let addresses = told.iter().filter_map(|line| line.strip_prefix("http://")?.split(' ').next());
    let Some(address) = addresses.into_iter().find(|a| !a.starts_with("127.") && !a.starts_with('[')) else {
        eprintln!("skipped: this machine has no address but loopback, which is never asked for a key");
        return;
    };
    assert_eq!((status(address, &first), status(address, "none")), (200, 401));
    let second = keys(home, &["create", "second"]).1;
    assert_eq!(status(address, &second), 200);
    assert_eq!(keys(home, &["revoke", "first"]).0, 0);
    assert_eq!((status(address, &first), status(address, &second)), (401, 200), "from the next request on");
    std::fs::write(home.join("keys.json"), "{").expect("written");
    assert_eq!((status(address, &second), status(address, &first)), (200, 401), "what cannot be read changes nothing");
}
