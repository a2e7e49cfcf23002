//! Variables of the environment that are named like this program's and are none of them.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use crate::args::Args;
use crate::model::HOME;
use crate::names::nearest;

const PREFIX: &str = "MOBILE_";

/// Says on standard error which ones have no effect. It is no reason to stop: other programs may use the same beginning.
pub(crate) fn check() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown(names, &known()).iter().for_each(|said| eprintln!("mobile: {said}"));
}

fn unknown(names: impl Iterator<Item = String>, known: &BTreeSet<String>) -> Vec<String> {
    let unknown = names.filter(|name| name.starts_with(PREFIX) && !known.contains(name));
    let said = |name: String| {
        let after = |name: &'_ str| name.trim_start_matches(PREFIX).to_owned();
        let meant = nearest(&after(&name), known.iter().map(|known| after(known)));
        let hint = meant.map_or_else(
            || "`mobile serve --help` lists the variables that have one".to_owned(),
            |meant| format!("did you mean {PREFIX}{meant}?"),
        );
        format!("the variable {name} has no effect; {hint}")
    };
    unknown.map(said).collect()
}

/// The variables of all commands.
fn known() -> BTreeSet<String> {
    fn add(command: &Command, names: &mut BTreeSet<String>) {
        names.extend(command.get_arguments().filter_map(|a| Some(a.get_env()?.to_string_lossy().into_owned())));
        command.get_subcommands().for_each(|command| add(command, names));
    }
    let mut names = BTreeSet::from([HOME.to_owned()]);
    add(&Args::command(), &mut names);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_reads_is_named_with_what_was_meant() {
        let said = |name: &str| unknown(std::iter::once(name.to_owned()), &known());
        for name in ["MOBILE_HOME", "MOBILE_MODEL", "MOBILE_PORT", "MOBILE_KEY", "PATH", "RUST_LOG"] {
            assert!(said(name).is_empty(), "{name}");
        }
        for (name, meant) in [
            ("MOBILE_PROT", "did you mean MOBILE_PORT?"),
            ("MOBILE_MODELS", "did you mean MOBILE_MODEL?"),
            ("MOBILE_GAMMA", "`mobile serve --help` lists"),
        ] {
            let said = said(name);
            assert!(said.len() == 1 && said[0].contains(name) && said[0].contains(meant), "{said:?}");
        }
    }
}
