//! The device MLX computes on, and the dtype that suits it.

use std::time::{Duration, Instant};

use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Device, DeviceType, Dtype};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Dtype of activations and unquantized weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// float32
    F32,
    /// bfloat16
    Bf16,
    /// float16
    F16,
}

impl Compute {
    /// bfloat16 on a GPU; float32 on MLX's CPU back end, where half precision is several times slower and gathered
    /// products know float32 only.
    #[must_use]
    pub fn for_device(device: ComputeDevice) -> Self {
        match device {
            ComputeDevice::Cpu => Self::F32,
            ComputeDevice::Gpu => Self::Bf16,
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::Float32,
            Self::Bf16 => Dtype::Bfloat16,
            Self::F16 => Dtype::Float16,
        }
    }
}

/// Kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDevice {
    /// MLX's CPU back end.
    Cpu,
    /// Metal or CUDA.
    Gpu,
}

impl ComputeDevice {
    /// The device MLX computes on by default.
    ///
    /// # Errors
    /// When MLX cannot say.
    pub fn detect() -> Result<Self> {
        Ok(match Device::try_default()?.get_type()? {
            DeviceType::Cpu => Self::Cpu,
            DeviceType::Gpu => Self::Gpu,
        })
    }

    /// `cpu` or `gpu`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// Whether MLX computes on its CPU back end by default.
pub(crate) fn on_cpu() -> bool {
    matches!(ComputeDevice::detect(), Ok(ComputeDevice::Cpu))
}

/// Whether MLX computes on an NVIDIA GPU by default.
pub(crate) fn on_cuda() -> bool {
    !cfg!(target_os = "macos") && !on_cpu()
}

/// The first number of the compute capability of the NVIDIA GPU that MLX computes on.
#[allow(unsafe_code)]
pub(crate) fn cuda_capability() -> Option<usize> {
    let name = c"compute_capability_major".as_ptr();
    // SAFETY: what is made here is freed here, and what is written to is there.
    unsafe {
        let (mut device, mut info, mut major) = (mlx_sys::mlx_device_new(), mlx_sys::mlx_device_info_new(), 0);
        let known = mlx_sys::mlx_get_default_device(&mut device) == 0
            && mlx_sys::mlx_device_info_get(&mut info, device) == 0
            && mlx_sys::mlx_device_info_get_size(&mut major, info, name) == 0;
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
        known.then_some(major)
    }
}

/// How long [`evaluate`] looks again and again; what takes longer loses little by sleeping.
const SPIN: Duration = Duration::from_millis(5);

/// Computes `arrays`. On CUDA, where MLX sleeps until an interrupt, the thread looks again and again at first.
pub(crate) fn evaluate<'a>(arrays: impl Iterator<Item = &'a Array> + Clone) -> Result<()> {
    if on_cuda() {
        async_eval(arrays.clone())?;
        let begun = Instant::now();
        while !arrays.clone().all(is_available) && begun.elapsed() < SPIN {
            std::hint::spin_loop();
        }
    }
    Ok(eval(arrays)?)
}

#[allow(unsafe_code)]
fn is_available(array: &Array) -> bool {
    let mut available = false;
    // SAFETY: both live until MLX returns. Where it cannot say, they are waited for.
    unsafe { mlx_sys::_mlx_array_is_available(&mut available, array.as_ptr()) };
    available
}

/// Waits until the device has done all that this thread has begun.
#[allow(unsafe_code)]
pub(crate) fn synchronize() {
    // SAFETY: takes nothing and gives a status. A failure of the device shows at the next evaluation.
    unsafe { mlx_sys::mlx_synchronize_default() };
}

/// Version of MLX in use, for example `0.32.2`.
#[must_use]
#[allow(unsafe_code)]
pub fn mlx_version() -> String {
    // SAFETY: `mlx_version` fills the string it is given, which is freed once copied.
    unsafe {
        let mut text = mlx_sys::mlx_string_new();
        let status = mlx_sys::mlx_version(&mut text);
        let data = mlx_sys::mlx_string_data(text);
        let version = if status == 0 && !data.is_null() {
            std::ffi::CStr::from_ptr(data).to_string_lossy().into_owned()
        } else {
            "unknown".to_owned()
        };
        mlx_sys::mlx_string_free(text);
        version
    }
}
