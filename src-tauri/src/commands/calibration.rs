//! Measuring what each threshold costs and gains.

use tauri::State;
use tauri::ipc::Channel;

use crate::contract::{Calibration, CalibrationEvent};
use crate::error::Result;
use crate::state::Shell;

#[tauri::command(async)]
pub(crate) fn calibration_get(shell: State<'_, Shell>) -> Option<Calibration> {
    let engine = shell.engine().ok()?;
    shell.calibrations.stored(&engine, shell.settings.get().policy.renormalize).map(Into::into)
}

#[tauri::command(async)]
pub(crate) fn calibrate(shell: State<'_, Shell>, channel: Channel<CalibrationEvent>) -> Result<()> {
    shell.calibrations.start(shell.engine()?, shell.settings.get().policy.renormalize, channel)
}

#[tauri::command]
pub(crate) fn calibrate_stop(shell: State<'_, Shell>) {
    shell.calibrations.stop();
}
