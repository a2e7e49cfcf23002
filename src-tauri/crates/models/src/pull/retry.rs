//! Trying again: how often, and after how long.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedSender;

use super::{Pull, PullEvent};
use crate::error::{Error, Result};

/// The longest wait between two attempts, whatever the server asks for.
const LONGEST: Duration = Duration::from_secs(120);

/// Why a request failed, and whether another may succeed.
#[derive(Debug)]
pub(super) enum Failure {
    Fatal(Error),
    Again { why: String, wait: Option<Duration>, endpoint: String },
}

/// Counts failures in a row and waits between them.
pub(super) struct Retry {
    pub(super) attempts: u32,
    backoff: Duration,
    events: Option<UnboundedSender<PullEvent>>,
}

impl Retry {
    pub(super) fn new(pull: &Pull, events: Option<UnboundedSender<PullEvent>>) -> Self {
        Self { attempts: pull.attempts.max(1), backoff: pull.backoff, events }
    }

    /// Runs `request` until it succeeds or has failed too often.
    pub(super) async fn run<'a, T>(
        &self,
        what: &str,
        request: impl Fn() -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            match request().await {
                Ok(value) => return Ok(value),
                Err(failure) => self.wait(what, failure, &mut failures).await?,
            }
        }
    }

    /// Waits before the next attempt at `what`, or gives up. `failures` are those in a row.
    pub(super) async fn wait(&self, what: &str, failure: Failure, failures: &mut u32) -> Result<()> {
        let (why, asked, endpoint) = match failure {
            Failure::Fatal(error) => return Err(error),
            Failure::Again { why, wait, endpoint } => (why, wait, endpoint),
        };
        *failures += 1;
        if *failures >= self.attempts {
            return Err(Error::Hub { endpoint, why });
        }
        let doubled = self.backoff.saturating_mul(1 << (*failures - 1).min(16)).min(Duration::from_secs(30));
        // Several files fail together; a spread keeps them from coming back together.
        let spread = f64::from(RandomState::new().hash_one(what) as u16) / f64::from(u16::MAX);
        let pause = asked.unwrap_or_else(|| doubled.mul_f64(0.5 + spread / 2.0)).min(LONGEST);
        tracing::debug!("{what}: {why}; trying again in {pause:?}");
        if let Some(events) = &self.events {
            let seconds = pause.as_secs_f64();
            let _ = events.send(PullEvent::Retrying { what: what.to_owned(), why, failures: *failures, seconds });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
