//! `mobile doctor`: what this machine has.

use mobile_engine::{ComputeDevice, mlx_version};
use mobile_models::{Library, Machine, Mlx, bytes};

use crate::args::DoctorArgs;
use crate::error::Failure;
use crate::generate::write_now;
use crate::model::home;

pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let device = ComputeDevice::detect().map_err(|e| Failure::Other(e.to_string()))?;
    let mlx = Mlx { version: mlx_version(), device: device.name().to_owned() };
    let machine = Machine::assess(Library::open(home()?).cache(), Some(mlx));
    if args.json {
        let json = serde_json::to_string_pretty(&machine).map_err(|e| Failure::Other(e.to_string()))?;
        return write_now(&format!("{json}\n"));
    }
    write_now(&table(&rows(&machine)))
}

/// Names and values, in the order they are shown.
fn rows(machine: &Machine) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let cores = &machine.cores;
    let kinds = match (cores.performance, cores.efficiency) {
        (Some(p), Some(e)) => format!("{} ({p} performance, {e} efficiency)", cores.total),
        _ => cores.total.to_string(),
    };
    let gpu = machine.gpu.as_ref();
    let gpu_name = gpu.map_or_else(
        || "none found".to_owned(),
        |g| match g.cores {
            Some(n) => format!("{}, {n} cores", g.name),
            None => g.name.clone(),
        },
    );
    let mlx = machine.mlx.as_ref().map_or_else(unknown, |m| format!("{} on {}", m.version, m.device));
    vec![
        ("Host", machine.host_name.clone().unwrap_or_else(unknown)),
        ("System", machine.os.clone().unwrap_or_else(unknown)),
        ("Computer", machine.model.clone().unwrap_or_else(unknown)),
        ("Chip", format!("{} ({})", machine.chip.clone().unwrap_or_else(unknown), machine.architecture)),
        ("Cores", kinds),
        ("Memory", format!("{}, {} available", bytes(machine.memory_total), bytes(machine.memory_available))),
        ("GPU", gpu_name),
        ("Metal", gpu.and_then(|g| g.metal.clone()).unwrap_or_else(|| "no".to_owned())),
        ("MLX", mlx),
        ("Models", machine.disk.folder.display().to_string()),
        ("Disk free", machine.disk.free.map_or_else(unknown, bytes)),
    ]
}

fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column() {
        assert_eq!(table(&[("A", "1".to_owned()), ("Long", "2".to_owned())]), "A     1\nLong  2\n");
    }
}
