//! `mobile service`: `mobile serve` as a service of whoever is logged in, run by launchd or systemd.

#[cfg(any(target_os = "macos", test))]
mod launchd;
#[cfg(any(not(target_os = "macos"), test))]
mod systemd;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

#[cfg(target_os = "macos")]
use launchd::Launchd as Manager;
#[cfg(not(target_os = "macos"))]
use systemd::Systemd as Manager;

use crate::args::{InstallArgs, LogsArgs, ServiceArgs, ServiceCommand};
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::home;
use crate::{logs, serve, settings};

/// What else to know after installing.
const ADVICE: &str = match cfg!(target_os = "macos") {
    true => "",
    false => "`loginctl enable-linger` keeps it running while you are logged out.\n",
};

/// The variables by which the models' folder is found, which the manager does not pass on.
const CACHE: [&str; 4] = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"];

/// Where logs go if nothing else is said, in the program's own folder.
const LOGS: &str = "logs";

/// How much of the end of a log file is looked at.
const TAIL: u64 = 1 << 20;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(300);

pub(crate) fn run(args: &ServiceArgs) -> Result<(), Failure> {
    match &args.command {
        ServiceCommand::Install(args) => install(args),
        ServiceCommand::Uninstall => match Manager::find()?.uninstall()? {
            true => write_now("The service is stopped and removed.\n"),
            false => write_now("There was no service to remove.\n"),
        },
        ServiceCommand::Status => status(),
        ServiceCommand::Logs(args) => show_logs(args),
    }
}

/// What the service manager is to run.
#[derive(Debug)]
struct Job {
    /// The program and its arguments.
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where the program's own log files go.
    logs: PathBuf,
}

/// How the service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Stopped,
    Running { process: u32 },
}

impl Job {
    fn new(program: &Path, config: Option<&Path>, home: &Path, logs: &Path) -> Result<Self, Failure> {
        let mut command = vec![utf8(program)?, "serve".to_owned(), "--log-folder".to_owned(), utf8(logs)?];
        if let Some(config) = config {
            command.extend(["--config".to_owned(), utf8(config)?]);
        }
        // The manager starts the program without the terminal's environment.
        let environment = vec![("MOBILE_HOME".to_owned(), utf8(home)?)];
        Ok(Self { command, environment, logs: logs.to_owned() })
    }
}

fn utf8(path: &Path) -> Result<String, Failure> {
    let wrong = || Failure::Input(format!("{}: not a path that a service can have", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(wrong)
}

fn install(args: &InstallArgs) -> Result<(), Failure> {
    // What would not start now would only be started again and again.
    let settings = settings::of_file(args.config.as_deref())?;
    serve::check(&settings)?;
    let config = args.config.as_deref().map(Path::canonicalize).transpose()?;
    let home = std::path::absolute(home()?)?;
    let logs = std::path::absolute(settings.log_folder.unwrap_or_else(|| home.join(LOGS)))?;
    let mut job = Job::new(&std::env::current_exe()?.canonicalize()?, config.as_deref(), &home, &logs)?;
    for name in CACHE {
        if let Some(folder) = std::env::var_os(name).filter(|folder| !folder.is_empty()) {
            job.environment.push((name.to_owned(), utf8(&std::path::absolute(folder)?)?));
        }
    }
    std::fs::create_dir_all(&job.logs)?;
    Manager::find()?.install(&job)?;
    write_now(&format!(
        "The service is installed and starts whenever you log in.\nIts logs are in {}.\n{}",
        job.logs.display(),
        ADVICE
    ))
}

fn status() -> Result<(), Failure> {
    match Manager::find()?.state()? {
        State::Running { process } => write_now(&format!("The service runs as process {process}.\n")),
        State::Stopped => Err(Failure::Other(
            "the service is installed but does not run; `mobile service logs` may tell why".to_owned(),
        )),
        State::Absent => Err(Failure::Other("the service is not installed; see `mobile service install`".to_owned())),
    }
}

fn show_logs(args: &LogsArgs) -> Result<(), Failure> {
    let folder = log_folder()?;
    let files = logs::files(&folder);
    let mut lines = Vec::new();
    for file in files.iter().rev() {
        let mut older = tail(file)?;
        older.append(&mut lines);
        lines = older;
        if lines.len() >= args.lines {
            break;
        }
    }
    let first = lines.len().saturating_sub(args.lines);
    let text: String = lines[first..].iter().map(|line| format!("{line}\n")).collect();
    if !args.follow {
        if files.is_empty() {
            return Err(Failure::Other(format!("there are no logs yet in {}", folder.display())));
        }
        return write_now(&text);
    }
    write_now(&text)?;
    follow(&folder)
}

/// Where the installed service writes its logs; where none is installed, where one would.
fn log_folder() -> Result<PathBuf, Failure> {
    if let Some(folder) = Manager::find()?.logs()? {
        return Ok(folder);
    }
    Ok(match settings::of_file(None)?.log_folder {
        Some(folder) => folder,
        None => home()?.join(LOGS),
    })
}

/// The last lines of a file.
fn tail(path: &Path) -> Result<Vec<String>, Failure> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is most likely cut where the reading began.
    Ok(text.lines().skip(usize::from(start > 0)).map(str::to_owned).collect())
}

/// Shows what is written to the newest file, until Ctrl-C.
fn follow(folder: &Path) -> Result<(), Failure> {
    let newest = || logs::files(folder).pop();
    let mut shown = newest();
    let mut from = shown.as_ref().map_or(0, |path| path.metadata().map_or(0, |m| m.len()));
    loop {
        let next = newest();
        if let Some(path) = &shown {
            match File::open(path) {
                Ok(mut file) => {
                    file.seek(SeekFrom::Start(from))?;
                    from += std::io::copy(&mut file, &mut stdout())?;
                    stdout().flush()?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        if next != shown {
            (shown, from) = (next, 0);
        } else {
            std::thread::sleep(LOOK);
        }
    }
}

/// Writes a file so that nobody ever reads half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Removes a file; false when there was none.
fn remove(path: &Path) -> Result<bool, Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Runs the service manager's tool.
fn tool(program: &Path, arguments: &[&str]) -> Result<Output, Failure> {
    let failed = |e| Failure::Other(format!("cannot run {}: {e}", program.display()));
    Command::new(program).args(arguments).output().map_err(failed)
}

/// As [`tool`], which must succeed.
fn must(program: &Path, arguments: &[&str]) -> Result<Output, Failure> {
    let output = tool(program, arguments)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Other(format!("{} {}: {}", program.display(), arguments.join(" "), said.trim())))
}

/// The value after `name = ` or `name=` in what a tool printed.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service manager's tool that a test can read the calls of: `sh` runs the script with the folder in `$AT`.
    pub(super) fn fake(folder: &Path, name: &str, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join(name);
        let at = folder.display();
        std::fs::write(&path, format!("#!/bin/sh\nAT='{at}'\necho \"$*\" >>\"$AT/calls\"\n{script}\n"))
            .expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    /// The calls so far, which are then forgotten.
    pub(super) fn calls(folder: &Path) -> Vec<String> {
        let path = folder.join("calls");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn job() -> Job {
        let config = Path::new("/etc/a \"b\" %h $HOME.toml");
        let (home, logs) = (Path::new("/home/a b"), Path::new("/home/a b/logs"));
        Job::new(Path::new("/opt/mobile app/mobile"), Some(config), home, logs).expect("a job")
    }

    #[test]
    fn the_end_of_a_log_and_of_no_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("serve.2026-01-02.log");
        std::fs::write(&path, "x".repeat(TAIL as usize) + "\none\ntwo\n").expect("written");
        assert_eq!(tail(&path).expect("lines"), ["one", "two"]);
        std::fs::write(folder.path().join("serve.2026-01-01.log"), "").expect("written");
        std::fs::write(folder.path().join("launchd.log"), "").expect("written");
        let names: Vec<_> =
            logs::files(folder.path()).iter().map(|p| p.file_name().expect("a name").to_owned()).collect();
        assert_eq!(names, ["serve.2026-01-01.log", "serve.2026-01-02.log"]);
        assert!(logs::files(Path::new("/no/such/folder")).is_empty());
    }
}
