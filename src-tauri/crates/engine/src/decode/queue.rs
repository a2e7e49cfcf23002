//! Requests that wait for a turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::request::Job;

/// One of a bounded number of places, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place among the `most` that `taken` counts; `None` when all are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |n| (n < most).then_some(n + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The engine's end of the queue.
pub(crate) struct Queue {
    jobs: mpsc::UnboundedReceiver<Job>,
    waiting: VecDeque<Job>,
}

impl Queue {
    pub(crate) fn new(jobs: mpsc::UnboundedReceiver<Job>) -> Self {
        Self { jobs, waiting: VecDeque::new() }
    }

    /// The next request whose turn it is, if one waits.
    pub(crate) fn next(&mut self) -> Option<Job> {
        self.gather();
        self.waiting.pop_front()
    }

    /// As [`Queue::next`], and waits for one; `None` when nobody can send any more.
    pub(crate) fn blocking_next(&mut self) -> Option<Job> {
        self.next().or_else(|| self.jobs.blocking_recv())
    }

    /// Takes out the requests that nobody wants answered any more.
    pub(crate) fn abandoned(&mut self) -> VecDeque<Job> {
        self.gather();
        if !self.waiting.iter().any(Job::abandoned) {
            return VecDeque::new();
        }
        let (abandoned, waiting) = self.waiting.drain(..).partition(Job::abandoned);
        self.waiting = waiting;
        abandoned
    }

    fn gather(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push_back(job);
        }
    }
}
