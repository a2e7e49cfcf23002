//! `mobile service` on Linux, with a `systemctl` that only says what it was told.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>"$HOME/calls"
case $2 in
    restart) : >"$HOME/active";;
    disable) rm -f "$HOME/active";;
    show) [ -e "$HOME/active" ] && printf 'ActiveState=active\nMainPID=42\n' || printf 'ActiveState=failed\nMainPID=0\n';;
esac
"#;

/// Exit code and everything that was said.
fn service(home: &Path, arguments: &[&str]) -> (i32, String) {
    service_with(home, arguments, &[])
}

/// The same in a terminal that has these variables.
fn service_with(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let path = format!("{}:/usr/bin:/bin", home.join("bin").display());
    let output = Command::new(assert_cmd::cargo::cargo_bin!("mobile"))
        .arg("service")
        .args(arguments)
        .env_clear()
        .envs([("HOME", home.as_os_str()), ("PATH", path.as_ref())])
        .envs(variables.iter().copied())
        .current_dir(home)
        .output()
        .expect("ran");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("an exit code"), said.into_owned())
}

#[test]
fn from_installing_to_removing() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    fs::create_dir(home.join("bin")).expect("made");
    fs::write(home.join("bin/systemctl"), SYSTEMCTL).expect("written");
    fs::set_permissions(home.join("bin/systemctl"), fs::Permissions::from_mode(0o755)).expect("executable");
    let unit = home.join(".config/systemd/user/mobile.service");
    let data = home.join(".local/share/mobile");

    let (code, said) = service(home, &["status"]);
    assert!(code == 1 && said.contains("not installed"), "{said}");
    let (code, said) = service(home, &["logs"]);
    assert!(code == 1 && said.contains("no logs yet"), "{said}");

    fs::create_dir_all(&data).expect("made");
    fs::write(data.join("config.toml"), "lan = true\n").expect("written");
    let (code, said) = service(home, &["install"]);
    assert!(code == 2 && said.contains("--key") && !unit.exists(), "what would not start is not installed: {said}");
    fs::write(data.join("config.toml"), "port = 18190\n").expect("written");
    for _ in 0..2 {
        let (code, said) = service(home, &["install"]);
        assert_eq!(code, 0, "{said}");
        let text = fs::read_to_string(&unit).expect("a unit");
        let logs = data.join("logs");
        assert!(text.contains(&format!("\"serve\" \"--log-folder\" \"{}\"\n", logs.display())), "{text}");
        assert!(text.contains(&format!("Environment=\"MOBILE_HOME={}\"\n", data.display())), "{text}");
    }
    let variables = [("MOBILE_LAN", "true"), ("MOBILE_CONFIG", "/none"), ("HF_HOME", "models"), ("HF_HUB_CACHE", "")];
    let (code, said) = service_with(home, &["install"], &variables);
    assert_eq!(code, 0, "the service will not have the terminal's settings: {said}");
    let text = fs::read_to_string(&unit).expect("a unit");
    assert!(text.contains(&format!(" \"HF_HOME={}\"\n", home.join("models").display())), "{text}");
    assert_eq!(service(home, &["status"]), (0, "The service runs as process 42.\n".to_owned()));
    fs::remove_file(home.join("active")).expect("removed");
    let (code, said) = service(home, &["status"]);
    assert!(code == 1 && said.contains("does not run"), "{said}");

    let elsewhere = home.join("other logs");
    fs::write(data.join("config.toml"), format!("log-folder = {elsewhere:?}\n")).expect("written");
    assert_eq!(service(home, &["install"]).0, 0);
    let text = fs::read_to_string(&unit).expect("a unit");
    assert!(text.contains(&format!("\"--log-folder\" \"{}\"\n", elsewhere.display())), "{text}");
    fs::write(elsewhere.join("serve.2026-01-01.log"), "elsewhere\n").expect("written");
    fs::remove_file(data.join("config.toml")).expect("removed");
    assert_eq!(service(home, &["logs"]), (0, "elsewhere\n".to_owned()), "those of the service as it was installed");
    assert_eq!(service(home, &["install"]).0, 0);

    fs::write(data.join("logs/serve.2026-01-01.log"), "one\ntwo\n").expect("written");
    fs::write(data.join("logs/serve.2026-01-02.log"), "three\n").expect("written");
    assert_eq!(service(home, &["logs", "-n", "2"]), (0, "two\nthree\n".to_owned()));

    assert_eq!(service(home, &["uninstall"]).0, 0);
    assert!(!unit.exists() && data.join("logs/serve.2026-01-01.log").exists(), "the logs stay");
    let (code, said) = service(home, &["uninstall"]);
    assert!(code == 0 && said.contains("no service to remove"), "{said}");
    let calls = fs::read_to_string(home.join("calls")).expect("calls");
    assert!(calls.contains("--user enable mobile.service") && calls.contains("--user disable --now mobile.service"));
}
