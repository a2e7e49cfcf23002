//! What `system_profiler` knows of a Mac and sysinfo does not: its chip, kinds of cores, and GPU.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Gpu;

/// It answers in about a second; after this long it is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// What could be found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) chip: Option<String>,
    pub(super) model: Option<String>,
    pub(super) performance_cores: Option<usize>,
    pub(super) efficiency_cores: Option<usize>,
    pub(super) gpu: Option<Gpu>,
}

/// Asks `system_profiler`.
pub(super) fn profile() -> Option<Profile> {
    let mut child = Command::new("/usr/sbin/system_profiler")
        .args(["-json", "SPHardwareDataType", "SPDisplaysDataType"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let start = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    parse(&reader.join().ok()?.ok()?)
}

/// Reads the output of `system_profiler -json SPHardwareDataType SPDisplaysDataType`.
fn parse(text: &str) -> Option<Profile> {
    let report: Value = serde_json::from_str(text).ok()?;
    let hardware = &report["SPHardwareDataType"][0];
    let field = |name: &str| hardware[name].as_str().map(str::to_owned);
    let model = match (field("machine_name"), field("machine_model")) {
        (Some(name), Some(model)) => Some(format!("{name} ({model})")),
        (name, model) => name.or(model),
    };
    let (performance_cores, efficiency_cores) = field("number_processors").map_or((None, None), |n| cores(&n));
    let displays = report["SPDisplaysDataType"].as_array();
    Some(Profile {
        chip: field("chip_type").or_else(|| field("cpu_type")),
        model,
        performance_cores,
        efficiency_cores,
        gpu: displays.and_then(|d| d.iter().find_map(gpu)),
    })
}

/// Fast and frugal cores of `proc 12:8:4`: all, fast, frugal. Intel Macs have no such kinds.
fn cores(text: &str) -> (Option<usize>, Option<usize>) {
    let mut numbers = text.trim_start_matches("proc").trim().split(':').map(|n| n.parse().ok());
    let _all = numbers.next();
    (numbers.next().flatten(), numbers.next().flatten())
}

fn gpu(entry: &Value) -> Option<Gpu> {
    let name = entry["sppci_model"].as_str().or_else(|| entry["_name"].as_str())?;
    let cores = entry["sppci_cores"].as_str().and_then(|n| n.parse().ok());
    // `spdisplays_metal3`, or on older systems the words "spdisplays_metalfeaturesetfamily…" or "spdisplays_supported".
    let metal = entry["spdisplays_mtlgpufamilysupport"].as_str().or_else(|| entry["spdisplays_metal"].as_str());
    let metal =
        metal.map(|m| match m.strip_prefix("spdisplays_metal").filter(|v| v.chars().all(|c| c.is_ascii_digit())) {
            Some(version) if !version.is_empty() => format!("Metal {version}"),
            _ => "Metal".to_owned(),
        });
    Some(Gpu { name: name.to_owned(), cores, metal })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = include_str!("system_profiler.json");

    #[test]
    fn a_mac_is_described() {
        let profile = parse(REPORT).expect("a report");
        assert_eq!(profile.chip.as_deref(), Some("Apple M1 Pro"));
        assert_eq!(profile.model.as_deref(), Some("MacBook Pro (MacBookPro18,3)"));
        assert_eq!((profile.performance_cores, profile.efficiency_cores), (Some(6), Some(2)));
        let gpu = Gpu { name: "Apple M1 Pro".to_owned(), cores: Some(14), metal: Some("Metal 3".to_owned()) };
        assert_eq!(profile.gpu, Some(gpu));
    }

    #[test]
    fn a_strange_report_is_no_accident() {
        assert_eq!(parse("not JSON"), None);
        assert_eq!(parse("{}"), Some(Profile::default()));
        assert_eq!(parse(r#"{"SPHardwareDataType":7,"SPDisplaysDataType":[{}]}"#), Some(Profile::default()));
        assert_eq!(cores("proc 8"), (None, None));
        assert_eq!(cores("proc 10:4:6:0"), (Some(4), Some(6)));
    }
}
