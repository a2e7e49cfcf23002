//! The user unit on Linux. Directives as in systemd.service(5) and systemd.exec(5).

use std::io::ErrorKind;
use std::path::PathBuf;

use super::{Job, State, field, must, remove, replace, tool};
use crate::error::Failure;

const UNIT: &str = "mobile.service";

/// A key of our own; systemd passes over sections that begin with `X-`.
const LOGS: &str = "LogFolder";

/// systemd for one user.
#[derive(Debug)]
pub(super) struct Systemd {
    /// Where the user's units are.
    folder: PathBuf,
    systemctl: PathBuf,
}

impl Systemd {
    pub(super) fn find() -> Result<Self, Failure> {
        let config = dirs::config_dir().ok_or_else(|| Failure::Other("there is no home folder".to_owned()))?;
        Ok(Self { folder: config.join("systemd/user"), systemctl: "systemctl".into() })
    }

    pub(super) fn install(&self, job: &Job) -> Result<(), Failure> {
        replace(&self.file(), unit(job).as_bytes())?;
        must(&self.systemctl, &["--user", "daemon-reload"])?;
        must(&self.systemctl, &["--user", "enable", UNIT])?;
        must(&self.systemctl, &["--user", "restart", UNIT])?;
        Ok(())
    }

    pub(super) fn uninstall(&self) -> Result<bool, Failure> {
        if !self.file().exists() {
            return Ok(false);
        }
        must(&self.systemctl, &["--user", "disable", "--now", UNIT])?;
        remove(&self.file())?;
        must(&self.systemctl, &["--user", "daemon-reload"])?;
        Ok(true)
    }

    pub(super) fn state(&self) -> Result<State, Failure> {
        if !self.file().exists() {
            return Ok(State::Absent);
        }
        let output = tool(&self.systemctl, &["--user", "show", UNIT, "--property=ActiveState,MainPID"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let process = field(&text, "MainPID").and_then(|pid| pid.parse().ok()).filter(|&pid| pid != 0);
        Ok(match (field(&text, "ActiveState"), process) {
            (Some("active"), Some(process)) => State::Running { process },
            _ => State::Stopped,
        })
    }

    /// Where the installed service writes its logs.
    pub(super) fn logs(&self) -> Result<Option<PathBuf>, Failure> {
        match std::fs::read_to_string(self.file()) {
            Ok(unit) => Ok(field(&unit, LOGS).map(PathBuf::from)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(UNIT)
    }
}

fn unit(job: &Job) -> String {
    let words = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
    let command = words(&mut job.command.iter().map(|word| quoted(&word.replace('$', "$$"))));
    let environment = words(&mut job.environment.iter().map(|(name, value)| quoted(&format!("{name}={value}"))));
    format!(
        "[Unit]\nDescription=MoBiLE: language models over HTTP\n\n\
         [Service]\nExecStart={command}\nEnvironment={environment}\nRestart=always\nRestartSec=10\n\
         LimitNOFILE=4096\n\n\
         [Install]\nWantedBy=default.target\n\n\
         [X-MoBiLE]\n{LOGS}={}\n",
        job.logs.display()
    )
}

/// A word in quotes, with systemd's own signs (`%` begins a specifier) taken from it.
fn quoted(word: &str) -> String {
    let plain = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{plain}\"")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::tests::{calls, fake, job};
    use super::*;

    #[test]
    fn the_unit_says_what_it_should_and_systemd_takes_it() {
        let text = unit(&job());
        let start = "ExecStart=\"/opt/mobile app/mobile\" \"serve\" \"--log-folder\" \"/home/a b/logs\" \"--config\" \
                     \"/etc/a \\\"b\\\" %%h $$HOME.toml\"\n";
        assert!(text.contains(start) && text.contains("Environment=\"MOBILE_HOME=/home/a b\"\n"), "{text}");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(UNIT);
        // systemd also looks whether the program is there.
        std::fs::write(&path, text.replace("\"/opt/mobile app/mobile\"", "\"/bin/sh\"")).expect("written");
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--user", "--man=no"]).arg(&path).env("XDG_RUNTIME_DIR", folder.path());
        match verify.output() {
            // An unknown directive is only warned of: the exit code is 0.
            Ok(output) if output.status.success() => assert_eq!(String::from_utf8_lossy(&output.stderr), ""),
            failed => eprintln!("systemd-analyze does not work here, so the unit is not verified: {failed:?}"),
        }
    }

    const SYSTEMCTL: &str = r#"case $2 in
        restart) touch "$AT/active";;
        disable) rm -f "$AT/active";;
        show) [ -e "$AT/active" ] && printf 'ActiveState=active\nMainPID=42\n' || printf 'ActiveState=inactive\nMainPID=0\n';;
    esac"#;

    #[test]
    fn installing_twice_and_removing_twice_is_well() {
        let home = tempfile::tempdir().expect("a folder");
        let systemctl = fake(home.path(), "systemctl", SYSTEMCTL);
        let systemd = Systemd { folder: home.path().join(".config/systemd/user"), systemctl };
        assert_eq!(systemd.state().expect("a state"), State::Absent);
        for _ in 0..2 {
            systemd.install(&job()).expect("installed");
            assert_eq!(
                calls(home.path()),
                ["--user daemon-reload", "--user enable mobile.service", "--user restart mobile.service"]
            );
            assert_eq!(systemd.state().expect("a state"), State::Running { process: 42 });
            assert_eq!(systemd.logs().expect("a unit"), Some("/home/a b/logs".into()));
            calls(home.path());
        }
        assert!(systemd.uninstall().expect("removed") && !systemd.uninstall().expect("nothing to remove"));
        assert_eq!(systemd.logs().expect("no unit"), None);
        assert_eq!(calls(home.path()), ["--user disable --now mobile.service", "--user daemon-reload"]);
        assert_eq!(systemd.state().expect("a state"), State::Absent);
    }

    #[test]
    fn it_is_found_for_whoever_is_logged_in() {
        assert!(Systemd::find().expect("found").folder.ends_with("systemd/user"));
    }

    #[test]
    fn what_systemd_refuses_is_said() {
        let home = tempfile::tempdir().expect("a folder");
        let systemctl = fake(home.path(), "systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
        let systemd = Systemd { folder: home.path().join("units"), systemctl };
        let error = systemd.install(&job()).expect_err("refused").to_string();
        assert!(error.contains("daemon-reload: Failed to connect to bus"), "{error}");
    }
}
