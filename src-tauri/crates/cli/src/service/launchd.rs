//! The launchd agent on macOS. Keys as in launchd.plist(5), commands as in launchctl(1).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Job, State, field, must, remove, replace, tool};
use crate::error::Failure;

const LABEL: &str = "com.cherokee.mobile";

/// `bootout` returns before the job has gone, and `bootstrap` refuses one that has not.
const PATIENCE: Duration = Duration::from_secs(25);

/// launchd for one user.
#[derive(Debug)]
pub(super) struct Launchd {
    /// The user's `LaunchAgents`.
    folder: PathBuf,
    launchctl: PathBuf,
    /// `gui/UID`.
    domain: String,
}

/// The property list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Agent<'a> {
    label: &'a str,
    program_arguments: &'a [String],
    environment_variables: BTreeMap<&'a str, &'a str>,
    run_at_load: bool,
    keep_alive: bool,
    /// Seconds between two starts at least.
    throttle_interval: u32,
    /// `Interactive` is not slowed down in favour of the window in front: people wait for the answers.
    process_type: &'a str,
    /// launchd's own limit of 256 open files is below the connections that the endpoint takes.
    soft_resource_limits: ResourceLimits,
    standard_out_path: String,
    standard_error_path: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceLimits {
    number_of_files: u32,
}

impl Launchd {
    pub(super) fn find() -> Result<Self, Failure> {
        let home = dirs::home_dir().ok_or_else(|| Failure::Other("there is no home folder".to_owned()))?;
        let domain = format!("gui/{}", home.metadata()?.uid());
        Ok(Self { folder: home.join("Library/LaunchAgents"), launchctl: "launchctl".into(), domain })
    }

    pub(super) fn install(&self, job: &Job) -> Result<(), Failure> {
        self.stop()?;
        replace(&self.file(), &plist(job)?)?;
        // A job that was once disabled would stay so.
        must(&self.launchctl, &["enable", &self.target()])?;
        must(&self.launchctl, &["bootstrap", &self.domain, &super::utf8(&self.file())?])?;
        Ok(())
    }

    pub(super) fn uninstall(&self) -> Result<bool, Failure> {
        let loaded = self.stop()?;
        Ok(remove(&self.file())? || loaded)
    }

    pub(super) fn state(&self) -> Result<State, Failure> {
        match self.printed()? {
            Some(text) => Ok(match field(&text, "pid").and_then(|pid| pid.parse().ok()) {
                Some(process) => State::Running { process },
                None => State::Stopped,
            }),
            None if self.file().exists() => Ok(State::Stopped),
            None => Ok(State::Absent),
        }
    }

    /// Where the installed service writes its logs: beside what launchd catches.
    pub(super) fn logs(&self) -> Result<Option<PathBuf>, Failure> {
        if !self.file().exists() {
            return Ok(None);
        }
        let wrong = |e| Failure::Other(format!("{}: {e}", self.file().display()));
        let agent = plist::Value::from_file(self.file()).map_err(wrong)?;
        let caught = agent.as_dictionary().and_then(|keys| keys.get("StandardErrorPath")?.as_string());
        Ok(caught.and_then(|path| Path::new(path).parent()).map(Path::to_owned))
    }

    fn file(&self) -> PathBuf {
        self.folder.join(format!("{LABEL}.plist"))
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    /// What launchd knows of the job, if it is loaded.
    fn printed(&self) -> Result<Option<String>, Failure> {
        let output = tool(&self.launchctl, &["print", &self.target()])?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Unloads the job and waits until it has gone; false when it was not loaded.
    fn stop(&self) -> Result<bool, Failure> {
        if self.printed()?.is_none() {
            return Ok(false);
        }
        let began = Instant::now();
        // It says "in progress" by failing; what counts is that the job goes.
        let said = tool(&self.launchctl, &["bootout", &self.target()])?;
        while self.printed()?.is_some() {
            if began.elapsed() > PATIENCE {
                let said = String::from_utf8_lossy(&said.stderr).trim().to_owned();
                return Err(Failure::Other(format!("launchd does not let go of the service: {said}")));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(true)
    }
}

/// The property list in XML.
fn plist(job: &Job) -> Result<Vec<u8>, Failure> {
    // Only what comes before logging, or instead of it: the service's own log files are rotated.
    let output = super::utf8(&job.logs.join("launchd.log"))?;
    let agent = Agent {
        label: LABEL,
        program_arguments: &job.command,
        environment_variables: job.environment.iter().map(|(k, v)| (&**k, &**v)).collect(),
        run_at_load: true,
        keep_alive: true,
        throttle_interval: 10,
        process_type: "Interactive",
        soft_resource_limits: ResourceLimits { number_of_files: 4096 },
        standard_out_path: output.clone(),
        standard_error_path: output,
    };
    let mut xml = Vec::new();
    plist::to_writer_xml(&mut xml, &agent).map_err(|e| Failure::Other(format!("cannot write the agent: {e}")))?;
    Ok(xml)
}

#[cfg(test)]
mod tests {
    use plist::Value;

    use super::super::tests::{calls, fake, job};
    use super::*;

    /// What launchd.plist(5) says of the type of each key that is used here.
    fn documented(key: &str, value: &Value) -> bool {
        let text = |v: &Value| v.as_string().is_some();
        match key {
            "Label" | "StandardOutPath" | "StandardErrorPath" => text(value),
            "ProgramArguments" => value.as_array().is_some_and(|a| !a.is_empty() && a.iter().all(text)),
            "EnvironmentVariables" => value.as_dictionary().is_some_and(|d| d.values().all(text)),
            "RunAtLoad" | "KeepAlive" => value.as_boolean().is_some(),
            "ThrottleInterval" => value.as_unsigned_integer().is_some(),
            "ProcessType" => {
                ["Background", "Standard", "Adaptive", "Interactive"].map(Some).contains(&value.as_string())
            }
            "SoftResourceLimits" => value
                .as_dictionary()
                .is_some_and(|d| d.iter().all(|(k, v)| k == "NumberOfFiles" && v.as_unsigned_integer().is_some())),
            _ => false,
        }
    }

    #[test]
    fn the_agent_has_launchds_keys_and_types_and_says_what_it_should() {
        let job = job();
        let agent = Value::from_reader_xml(&*plist(&job).expect("a property list")).expect("it parses");
        let keys = agent.as_dictionary().expect("a dictionary");
        for (key, value) in keys {
            assert!(documented(key, value), "{key}: {value:?}");
        }
        assert_eq!(keys["Label"].as_string(), Some("com.cherokee.mobile"));
        assert_eq!((keys["RunAtLoad"].as_boolean(), keys["KeepAlive"].as_boolean()), (Some(true), Some(true)));
        let command = keys["ProgramArguments"].as_array().expect("an array").iter();
        assert_eq!(command.map(|a| a.as_string().expect("a text")).collect::<Vec<_>>(), job.command);
        assert!(Path::new(&job.command[0]).is_absolute());
        let home = keys["EnvironmentVariables"].as_dictionary().expect("a dictionary")["MOBILE_HOME"].as_string();
        assert_eq!(home, Some("/home/a b"));
        assert_eq!(keys["StandardErrorPath"].as_string(), Some("/home/a b/logs/launchd.log"));
    }

    /// `launchctl` as far as it is used: `print` fails unless the job is loaded, and a job takes a moment to go.
    const LAUNCHCTL: &str = r#"case $1 in
        print) [ -e "$AT/loaded" ] || exit 113
               echo "gui/7/com.cherokee.mobile = {"; echo "	state = running"; echo "	pid = 42"; echo "}"
               [ -e "$AT/going" ] && rm "$AT/loaded" "$AT/going"; exit 0;;
        bootout) touch "$AT/going"; echo 'Boot-out failed: 36: Operation now in progress' >&2; exit 36;;
        bootstrap) [ -e "$AT/loaded" ] && { echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }
                   [ -e "$3" ] && touch "$AT/loaded";;
    esac"#;

    #[test]
    fn installing_twice_and_removing_twice_is_well() {
        let home = tempfile::tempdir().expect("a folder");
        let tool = fake(home.path(), "launchctl", LAUNCHCTL);
        let folder = home.path().join("Library/LaunchAgents");
        let launchd = Launchd { folder: folder.clone(), launchctl: tool, domain: "gui/7".to_owned() };
        let file = folder.join("com.cherokee.mobile.plist");
        let target = "gui/7/com.cherokee.mobile";
        assert_eq!(launchd.state().expect("a state"), State::Absent);
        calls(home.path());
        launchd.install(&job()).expect("installed");
        let bootstrap = format!("bootstrap gui/7 {}", file.display());
        let fresh = [format!("print {target}"), format!("enable {target}"), bootstrap.clone()];
        assert_eq!(calls(home.path()), fresh);
        assert_eq!(launchd.state().expect("a state"), State::Running { process: 42 });
        assert_eq!(launchd.logs().expect("an agent"), Some("/home/a b/logs".into()));
        calls(home.path());
        launchd.install(&job()).expect("installed again");
        let again = calls(home.path());
        assert_eq!(again[1], format!("bootout {target}"));
        assert_eq!(again.last(), Some(&bootstrap));
        assert!(launchd.uninstall().expect("removed") && !file.exists());
        assert!(!launchd.uninstall().expect("nothing to remove"));
        assert_eq!(launchd.state().expect("a state"), State::Absent);
    }

    #[test]
    fn it_is_found_for_whoever_is_logged_in() {
        let launchd = Launchd::find().expect("found");
        assert!(launchd.folder.is_absolute() && launchd.folder.ends_with("Library/LaunchAgents"));
        assert!(launchd.domain.strip_prefix("gui/").is_some_and(|uid| uid.parse::<u32>().is_ok()));
    }
}
