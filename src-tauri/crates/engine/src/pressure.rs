//! How short memory is on this machine, and who tells the engine's thread.

#[cfg(not(target_os = "macos"))]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use std::time::{Duration, Instant};

#[cfg(not(target_os = "macos"))]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

/// How short memory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    Normal,
    /// It gets short: programs should give back what they can do without.
    Warning,
    /// The system is about to end programs.
    Critical,
}

/// Where streamed experts learn how short memory is. Under pressure they give back a part of theirs at every look; once
/// it has been over for a while, they take it back bit by bit, up to their budget.
#[derive(Debug, Clone, Copy)]
pub struct PressureWatch {
    /// Looks.
    pub level: fn() -> Pressure,
    /// Time between two looks.
    pub every: Duration,
    /// How long there must have been enough before a part is taken back.
    pub calm: Duration,
}

impl Default for PressureWatch {
    /// The system's own word, once a second; a part comes back every half minute.
    fn default() -> Self {
        Self { level: system::level, every: Duration::from_secs(1), calm: Duration::from_secs(30) }
    }
}

impl PressureWatch {
    /// Looks from now on, and tells of pressure at every look, of calm after every while of it. Ends at the first word
    /// that `tell` says nobody heard.
    pub(crate) fn start(self, tell: impl Fn(Pressure) -> bool + Send + 'static) {
        let look = move || {
            let mut told = Instant::now();
            loop {
                std::thread::sleep(self.every);
                let level = (self.level)();
                if level > Pressure::Normal || told.elapsed() >= self.calm {
                    told = Instant::now();
                    if !tell(level) {
                        return;
                    }
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("memory".to_owned()).spawn(look) {
            tracing::warn!("nobody watches how short memory is: {error}");
        }
    }
}
