//! What Linux says of memory: of the machine's, and of that of the control group this process is in.
//!
//! What counts is memory that cannot be had back by dropping copies of files. The kernel's own measure, stalls (PSI), is
//! no use here: waiting for an expert's file that the page cache had to drop is such a stall, and giving experts back
//! would only make more of them.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use super::Pressure;

/// Shares of the memory that are left when it gets short.
const WARNING: f64 = 0.05;
const CRITICAL: f64 = 0.025;

pub(super) fn level() -> Pressure {
    level_under(Path::new("/"))
}

/// `root` is where `proc` and `sys` are.
fn level_under(root: &Path) -> Pressure {
    let of = |(left, limit): (u64, u64)| match left as f64 / limit as f64 {
        share if share < CRITICAL => Pressure::Critical,
        share if share < WARNING => Pressure::Warning,
        _ => Pressure::Normal,
    };
    machine(root).into_iter().chain(groups(root)).map(of).max().unwrap_or_default()
}

/// Bytes that are left, and all.
fn machine(root: &Path) -> Option<(u64, u64)> {
    let table = read_to_string(root.join("proc/meminfo")).ok()?;
    Some((entry(&table, "MemAvailable:")?, entry(&table, "MemTotal:")?))
}

/// The same of the control group and of those it is in, as far as they have a limit.
fn groups(root: &Path) -> Vec<(u64, u64)> {
    let own = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let folder = |line: &str| -> Option<(PathBuf, PathBuf, bool)> {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let mount = match controllers {
            "" if number == "0" => root.join("sys/fs/cgroup"),
            "memory" => root.join("sys/fs/cgroup/memory"),
            _ => return None,
        };
        Some((mount.join(path.trim_start_matches('/')), mount, controllers.is_empty()))
    };
    let mut found = Vec::new();
    for (group, mount, unified) in own.lines().filter_map(folder) {
        let inside = group.ancestors().take_while(|path| path.starts_with(&mount));
        found.extend(inside.filter_map(|path| if unified { unified_group(path) } else { memory_group(path) }));
    }
    found
}

/// A group of the unified hierarchy. From `memory.high` on it is slowed down, at `memory.max` it is ended.
fn unified_group(path: &Path) -> Option<(u64, u64)> {
    let limit = |name| read_to_string(path.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = limit("memory.high").into_iter().chain(limit("memory.max")).min()?;
    let used = entry(&read_to_string(path.join("memory.stat")).ok()?, "anon ")?;
    Some((limit.saturating_sub(used), limit))
}

/// A group of the older hierarchy, in which no limit is a number that no machine has.
fn memory_group(path: &Path) -> Option<(u64, u64)> {
    let limit: u64 = read_to_string(path.join("memory.limit_in_bytes")).ok()?.trim().parse().ok()?;
    let used = entry(&read_to_string(path.join("memory.stat")).ok()?, "total_rss ")?;
    (limit < 1 << 60).then(|| (limit.saturating_sub(used), limit))
}

/// The number behind `name` in a table with a line for each.
fn entry(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with so many of a thousand bytes left, in a group of either hierarchy.
    fn system(available: u64, group: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        let meminfo = format!("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  {available} kB\n");
        let of_proc = [("proc/meminfo", meminfo.as_str()), ("proc/self/cgroup", group)];
        for (name, text) in of_proc.iter().chain(files) {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn little_that_is_left_of_the_machine_is_pressure() {
        let level = |available| level_under(system(available, "", &[]).path());
        assert_eq!([900, 51, 49, 26, 24].map(level), {
            use Pressure::{Critical, Normal, Warning};
            [Normal, Normal, Warning, Warning, Critical]
        });
        assert_eq!(level_under(Path::new("/nowhere")), Pressure::Normal);
    }

    #[test]
    fn copies_of_files_in_a_group_are_no_pressure_and_programs_memory_is() {
        let level = |anon: &str, high: &str| {
            let (stat, current) = ("sys/fs/cgroup/a/b/memory.stat", "sys/fs/cgroup/a/b/memory.current");
            let (of_high, of_max) = ("sys/fs/cgroup/a/b/memory.high", "sys/fs/cgroup/a/memory.max");
            let stat_of_a = ("sys/fs/cgroup/a/memory.stat", anon);
            let files = [(stat, anon), (current, "1000"), (of_high, high), (of_max, "1000"), stat_of_a];
            level_under(system(900, "0::/a/b\n", &files).path())
        };
        assert_eq!(level("anon 900\nfile 100\n", "max"), Pressure::Normal);
        assert_eq!(level("anon 960\nfile 40\n", "max"), Pressure::Warning);
        assert_eq!(level("anon 900\nfile 100\n", "910"), Pressure::Critical);
    }

    #[test]
    fn the_older_hierarchy_is_understood() {
        let level = |limit: &str| {
            let folder = "sys/fs/cgroup/memory/a";
            let (name, stat) = (format!("{folder}/memory.limit_in_bytes"), format!("{folder}/memory.stat"));
            let files = [(name.as_str(), limit), (stat.as_str(), "cache 7\ntotal_rss 980\n")];
            level_under(system(900, "9:cpu:/\n4:memory:/a\n0::/\n", &files).path())
        };
        assert_eq!(level("1000\n"), Pressure::Critical);
        assert_eq!(level("9223372036854771712\n"), Pressure::Normal);
    }
}
