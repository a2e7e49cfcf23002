//! Measuring thresholds in the background, one model at a time. What is measured is kept where the command line keeps it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobile_engine::{Engine, Policy};
use mobile_host::calibration::{self, Calibration, Found, Key, Point, Survey, TEXT, Watch};
use tauri::ipc::Channel;

use crate::contract::{CalibrationEvent, CalibrationProgress};
use crate::error::{CommandError, Result};

/// The measurement under way and the folder of those that are kept. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Calibrations {
    home: PathBuf,
    /// Set to end the measurement that runs.
    running: Arc<Mutex<Option<Arc<AtomicBool>>>>,
}

impl Calibrations {
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: home.to_owned(), running: Arc::default() }
    }

    /// What was measured of this model on this machine. A file that cannot be used is as good as none.
    pub(crate) fn stored(&self, engine: &Engine, renormalize: bool) -> Option<Calibration> {
        calibration::load(&self.home, &Key::new(engine.info(), renormalize)).unwrap_or_else(|error| {
            tracing::warn!("a calibration is left out: {error}");
            None
        })
    }

    /// Measures and keeps; `channel` is told how far it has come and how it ends.
    pub(crate) fn start(&self, engine: Engine, renormalize: bool, channel: Channel<CalibrationEvent>) -> Result<()> {
        let mut running = self.running();
        if running.is_some() {
            return Err(CommandError::new("busy", "this is being measured already; stop that first"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        *running = Some(Arc::clone(&stop));
        drop(running);
        let (all, survey) = (self.clone(), Survey { renormalize, ..Survey::default() });
        tauri::async_runtime::spawn_blocking(move || {
            let mut told = Told { total: survey.gammas.len() + 1, done: 0, tokens: 0, stop, channel };
            let ended = all.measure(&engine, &survey, &mut told);
            *all.running() = None;
            told.send(ended.unwrap_or_else(|CommandError { code, message }| {
                tracing::error!("nothing was measured: {message}");
                CalibrationEvent::Failed { code, message }
            }));
        });
        Ok(())
    }

    /// Ends what runs after the token it is at.
    pub(crate) fn stop(&self) {
        if let Some(stop) = &*self.running() {
            stop.store(true, Ordering::Relaxed);
        }
    }

    fn measure(&self, engine: &Engine, survey: &Survey, told: &mut Told) -> Result<CalibrationEvent> {
        let mut found = Found::default();
        survey.run(engine, TEXT, told, &mut found).map_err(|e| CommandError::new("engine", e))?;
        match found.calibration(engine.info(), survey).filter(|found| calibration::keeps(&self.home, found)) {
            Some(calibration) => {
                calibration::store(&self.home, &calibration).map_err(CommandError::disk)?;
                Ok(CalibrationEvent::Finished { calibration: calibration.into() })
            }
            None if !found.complete => Ok(CalibrationEvent::Stopped),
            None => Err(CommandError::new("quality", "no threshold keeps the quality of all experts on this computer")),
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<AtomicBool>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on how far a measurement has come.
struct Told {
    /// Policies in all, and those that are done.
    total: usize,
    done: usize,
    /// Tokens of each.
    tokens: u64,
    stop: Arc<AtomicBool>,
    channel: Channel<CalibrationEvent>,
}

impl Told {
    fn send(&self, event: CalibrationEvent) {
        // A window that was closed stops listening; the measurement goes on.
        let _ = self.channel.send(event);
    }

    fn progress(&self, part: f64, point: Option<&Point>) {
        let Self { done, total, .. } = *self;
        let share = (done as f64 + part) / total as f64;
        let point = point.copied().map(Into::into);
        self.send(CalibrationEvent::Progress(CalibrationProgress { done, total, share, point }));
    }
}

impl Watch for Told {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn begins(&mut self, policy: &Policy, tokens: u64) {
        // Plain decoding, which all others are compared with, comes first and is over when the next one begins.
        self.done += usize::from(self.done == 0 && *policy != Policy::Full);
        self.tokens = tokens;
        self.progress(0.0, None);
    }

    fn decoded(&mut self, tokens: u64) {
        // Its speed is measured afterwards, which takes about as long.
        self.progress(tokens as f64 / self.tokens.max(1) as f64 / 2.0, None);
    }

    fn judged(&mut self) {}

    fn found(&mut self, point: &Point) {
        self.done += 1;
        self.progress(0.0, Some(point));
    }
}
