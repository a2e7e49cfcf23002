//! The configuration file of `mobile serve`: flags under their own names, for what neither a flag nor the environment has
//! said. The command's own arguments are the list of what there is to set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::ContextKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command as ClapCommand, CommandFactory as _, FromArgMatches as _};
use toml::{Spanned, Value};

use crate::args::{Args, Command, ServeArgs};
use crate::error::Failure;
use crate::model::home;
use crate::names::nearest;

/// The file's name in the program's own folder.
const FILE: &str = "config.toml";

/// The arguments of `mobile serve` that this process was started with, and the file's for what they leave open.
pub(crate) fn serve() -> Result<ServeArgs, Failure> {
    complete(Args::command(), std::env::args_os().collect())
}

/// As [`serve`], for a service that is started with this file, or with none named, and without this process's environment.
pub(crate) fn of_file(config: Option<&Path>) -> Result<ServeArgs, Failure> {
    let named = config.map(|path| [OsString::from("--config"), path.into()]);
    let command = Args::command().mut_subcommand("serve", |serve| serve.mut_args(|arg| arg.env(Resettable::Reset)));
    let line = ["mobile", "serve"].map(OsString::from).into_iter().chain(named.into_iter().flatten());
    complete(command, line.collect())
}

fn complete(mut command: ClapCommand, line: Vec<OsString>) -> Result<ServeArgs, Failure> {
    let refused = |error: clap::Error| Failure::Input(first_sentence(&error));
    let matches = command.clone().try_get_matches_from(&line).map_err(refused)?;
    let given = matches.subcommand_matches("serve").ok_or_else(|| Failure::Other("not `serve`".to_owned()))?;
    let path = path(given)?;
    let file = match &path {
        Some(path) => File::read(path, given)?,
        None => File::default(),
    };
    let matches = command.try_get_matches_from_mut(line.iter().chain(&file.flags)).map_err(|error| {
        let place = path.as_ref().and_then(|path| Some(format!("{}, line {}: ", path.display(), file.line(&error)?)));
        Failure::Input(format!("{}{}", place.unwrap_or_default(), first_sentence(&error)))
    })?;
    match Args::from_arg_matches(&matches).map_err(refused)?.command {
        Command::Serve(args) => Ok(args),
        _ => Err(Failure::Other("not `serve`".to_owned())),
    }
}

/// The file that is named, which must be there, or the usual one, which need not.
fn path(given: &ArgMatches) -> Result<Option<PathBuf>, Failure> {
    if let Some(named) = given.get_one::<PathBuf>("config") {
        return Ok(Some(named.clone()));
    }
    let usual = home()?.join(FILE);
    Ok(usual.exists().then_some(usual))
}

/// A file's settings as flags.
#[derive(Debug, Default)]
struct File {
    flags: Vec<OsString>,
    lines: BTreeMap<String, usize>,
}

impl File {
    fn read(path: &Path, given: &ArgMatches) -> Result<Self, Failure> {
        let refused = |what: String| Failure::Input(format!("{}{what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => refused(": there is no such file".to_owned()),
            _ => refused(format!(": {error}")),
        })?;
        let file = Self::parse(&text, given).map_err(|(line, what)| refused(format!(", line {line}: {what}")))?;
        let open = std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
        if open && file.lines.contains_key("key") {
            eprintln!("mobile: others may read the keys in the configuration file; `chmod 600` prevents it");
        }
        Ok(file)
    }

    /// The settings of a text that were not given otherwise; or a line and what is wrong with it. The line itself is
    /// not shown: it may hold a key.
    fn parse(text: &str, given: &ArgMatches) -> Result<Self, (usize, String)> {
        let line = |at: usize| text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1;
        let table: BTreeMap<Spanned<String>, Value> = toml::from_str(text)
            .map_err(|error| (line(error.span().map_or(0, |span| span.start)), error.message().to_owned()))?;
        let root = Args::command();
        let command = root.find_subcommand("serve").ok_or_else(|| (1, "not `serve`".to_owned()))?;
        let mut file = Self::default();
        for (name, value) in table {
            let at = line(name.span().start);
            let name = name.into_inner();
            let flags = flags(command, given, &name, &value).map_err(|what| (at, what))?;
            file.flags.extend(flags.into_iter().map(OsString::from));
            file.lines.insert(name, at);
        }
        Ok(file)
    }

    /// The line whose setting clap refused.
    fn line(&self, error: &clap::Error) -> Option<usize> {
        let argument = error.get(ContextKind::InvalidArg)?.to_string();
        let name = argument.strip_prefix("--")?.split([' ', '=', '[']).next()?;
        self.lines.get(name).copied()
    }
}

/// One setting as flags; none where it was given otherwise.
fn flags(command: &ClapCommand, given: &ArgMatches, name: &str, value: &Value) -> Result<Vec<String>, String> {
    let settable =
        || command.get_arguments().filter(|a| a.get_long().is_some_and(|l| !["config", "help"].contains(&l)));
    let Some(argument) = settable().find(|a| a.get_long() == Some(name)) else {
        let known = settable().filter_map(|a| a.get_long().map(str::to_owned));
        let hint = nearest(name, known).map_or_else(
            || "`mobile serve --help` lists what there is to set".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        return Err(format!("unknown setting `{name}`; {hint}"));
    };
    let said = |id: &str| matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    let contradicted = command.get_arg_conflicts_with(argument).iter().any(|other| said(other.get_id().as_str()));
    let set_aside = said(argument.get_id().as_str()) || contradicted;
    let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    let flags = match value {
        Value::Boolean(on) if is_switch => on.then(|| format!("--{name}")).into_iter().collect(),
        _ if is_switch => return Err(format!("`{name}` must be true or false")),
        Value::Array(values) if is_list => values.iter().map(|value| flag(name, value)).collect::<Result<_, _>>()?,
        _ => vec![flag(name, value)?],
    };
    Ok(if set_aside { Vec::new() } else { flags })
}

fn flag(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(format!("--{name}={text}")),
        Value::Integer(number) => Ok(format!("--{name}={number}")),
        Value::Float(number) => Ok(format!("--{name}={number}")),
        Value::Boolean(on) => Ok(format!("--{name}={on}")),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(format!("`{name}` cannot be {}", value.type_str()))
        }
    }
}

/// What clap says, without its advice on usage.
fn first_sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, line: &[&str]) -> Result<ServeArgs, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let start = ["mobile", "serve", "--config"].map(OsString::from).into_iter().chain([path.into()]);
        complete(Args::command(), start.chain(line.iter().map(OsString::from)).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_sets_what_flags_leave_open() {
        let text = "port = 9000\nlan = true\nkey = [\"one\", \"two\"]\nallow-host = \"node\"\npolicy = \"mobile\"\n\
                    gamma = 0.5\nno-fallback = true\nlog-format = \"json\"\nbits = 4\n";
        let args = settings(text, &[]).expect("settings");
        assert_eq!((args.port, args.lan, args.policy.gamma, args.model.bits), (9000, true, Some(0.5), Some(4)));
        assert_eq!((args.keys, args.allow_host), (vec!["one".to_owned(), "two".to_owned()], vec!["node".to_owned()]));
        assert!(args.policy.no_fallback && !args.policy.renormalize);
        let args = settings(text, &["--port", "1", "--lan=false", "--key", "three", "--gamma=0.9"]).expect("settings");
        assert_eq!(
            (args.port, args.lan, args.keys, args.policy.gamma),
            (1, false, vec!["three".to_owned()], Some(0.9))
        );
        let args = settings(text, &["--host", "127.0.0.1"]).expect("settings");
        assert!(!args.lan && args.host.is_some(), "the flag sets the file's contrary aside");
        assert_eq!(settings("", &[]).expect("settings").port, mobile_service::DEFAULT_PORT);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, words) in [
            ("port = 1\n\nprot = 2\n", 3, "unknown setting `prot`; did you mean `port`?"),
            ("config = \"other.toml\"", 1, "unknown setting `config`"),
            ("[serve]\nport = 1\n", 1, "unknown setting `serve`; `mobile serve --help`"),
            ("# the port\nport = 70000", 2, "70000 is not in 0..=65535"),
            ("policy = \"half\"", 1, "[possible values: full, little, mobile, mass, auto]"),
            ("no-fallback = \"yes\"", 1, "`no-fallback` must be true or false"),
            ("lan = \"perhaps\"", 1, "perhaps"),
            ("port = 1979-05-27", 1, "`port` cannot be datetime"),
            ("key = [\"a secret\", [1]]", 1, "`key` cannot be array"),
            ("lan = true\nhost = \"127.0.0.1\"", 2, "cannot be used with"),
            ("port = 1\nport = 2", 2, "duplicate key"),
            ("port =", 1, ""),
        ] {
            let error = settings(text, &[]).expect_err(text);
            assert!(error.contains(&format!("config.toml, line {line}: ")) && error.contains(words), "{text}: {error}");
            assert!(!error.contains("a secret"), "{error}");
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let line = ["mobile", "serve", "--config", "/no/such/config.toml"].map(OsString::from).to_vec();
        assert_eq!(
            complete(Args::command(), line).expect_err("refused").to_string(),
            "/no/such/config.toml: there is no such file"
        );
    }
}
