//! What this machine is and has: the assessment behind `mobile doctor`, `/v1/hardware` and the verdicts of fit.

mod macos;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::files::free_space;
use crate::fit::Room;

/// A machine at one moment. Sizes are bytes; what could not be found out is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Host name.
    pub host_name: Option<String>,
    /// Name and version of the system, for example `macOS 15.5`.
    pub os: Option<String>,
    /// `aarch64` or `x86_64`.
    pub architecture: String,
    /// Name of the chip, for example `Apple M3 Max`.
    pub chip: Option<String>,
    /// Model of the computer, for example `MacBook Pro (Mac15,8)`.
    pub model: Option<String>,
    /// The processor's cores.
    pub cores: Cores,
    /// Main memory; on Apple silicon the GPU's as well.
    pub memory_total: u64,
    /// Memory that is free or can be freed.
    pub memory_available: u64,
    /// The GPU.
    pub gpu: Option<Gpu>,
    /// The disk of the models.
    pub disk: Disk,
    /// What MLX says of itself.
    pub mlx: Option<Mlx>,
}

/// Cores of the processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cores {
    /// Cores that the system schedules on.
    pub total: usize,
    /// Fast ones, where there are two kinds.
    pub performance: Option<usize>,
    /// Frugal ones, where there are two kinds.
    pub efficiency: Option<usize>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its cores.
    pub cores: Option<usize>,
    /// The Metal it supports, for example `Metal 3`.
    pub metal: Option<String>,
}

/// The disk that a folder is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes free there.
    pub free: Option<u64>,
}

/// What MLX says of itself; only the engine can ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mlx {
    /// Its version.
    pub version: String,
    /// The device it computes on.
    pub device: String,
}

impl Machine {
    /// Assesses this machine. `models` is the folder that models are kept in. On macOS this starts
    /// `system_profiler`, which takes about a second.
    #[must_use]
    pub fn assess(models: &Path, mlx: Option<Mlx>) -> Self {
        let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(refresh.with_cpu(sysinfo::CpuRefreshKind::nothing())).ok();
        let cpus = system.as_ref().map_or(&[][..], System::cpus);
        let profile =
            if cfg!(target_os = "macos") { macos::profile().unwrap_or_default() } else { macos::Profile::default() };
        let total = std::thread::available_parallelism().map_or(cpus.len(), Into::into);
        let brand = cpus.first().map(|cpu| cpu.brand().trim().to_owned()).filter(|b| !b.is_empty());
        Self {
            host_name: System::host_name().ok(),
            os: System::long_os_version().ok(),
            architecture: System::cpu_arch(),
            chip: profile.chip.or(brand),
            model: profile.model,
            cores: Cores { total, performance: profile.performance_cores, efficiency: profile.efficiency_cores },
            memory_total: system.as_ref().map_or(0, System::total_memory),
            memory_available: system.as_ref().map_or(0, System::available_memory),
            gpu: profile.gpu,
            disk: Disk { folder: models.to_owned(), free: free_space(models).ok() },
            mlx,
        }
    }

    /// What models may take. Metal by default recommends two thirds to three quarters of main memory as working set;
    /// this takes the smaller share. A caller that can ask MLX for the exact limit should use that.
    #[must_use]
    pub fn room(&self) -> Room {
        Room { memory: self.memory_total / 3 * 2, disk: self.disk.free.unwrap_or(0) }
    }
}

/// Bytes of memory that a program may still take now: what the system calls available, less within a control group
/// that allows less.
#[must_use]
pub fn available_memory() -> u64 {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let Ok(system) = System::new_with_specifics(refresh) else { return 0 };
    let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    system.available_memory().min(group)
}

#[cfg(test)]
mod tests {
    use super::{Machine, Mlx};

    #[test]
    fn this_machine_is_assessed() {
        let mlx = Mlx { version: "0.32.2".to_owned(), device: "cpu".to_owned() };
        let machine = Machine::assess(&std::env::temp_dir().join("not/there/yet"), Some(mlx));
        assert!(machine.cores.total > 0);
        assert!(machine.memory_available <= machine.memory_total && machine.memory_total > 0);
        assert!(machine.disk.free.is_some_and(|free| free > 0));
        assert!(machine.room().memory < machine.memory_total);
        let text = serde_json::to_string(&machine).expect("plain data");
        assert_eq!(serde_json::from_str::<Machine>(&text).expect("the same data"), machine);
    }
}
