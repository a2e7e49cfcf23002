//! What comes to the engine's thread: requests that wait for a turn, and word of memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::request::Job;
use crate::pressure::Pressure;

/// What is sent to the engine's thread.
pub(crate) enum Message {
    Request(Box<Job>),
    Pressure(Pressure),
}

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
    messages: mpsc::UnboundedReceiver<Message>,
    waiting: VecDeque<Job>,
    /// The last word.
    pressure: Option<Pressure>,
}

impl Queue {
    pub(crate) fn new(messages: mpsc::UnboundedReceiver<Message>) -> Self {
        Self { messages, waiting: VecDeque::new(), pressure: None }
    }

    /// The next request whose turn it is, if one waits.
    pub(crate) fn next(&mut self) -> Option<Job> {
        self.gather();
        self.waiting.pop_front()
    }

    /// Waits until something has come; false when nobody can send any more.
    pub(crate) fn wait(&mut self) -> bool {
        self.gather();
        if self.waiting.is_empty() && self.pressure.is_none() {
            let Some(message) = self.messages.blocking_recv() else { return false };
            self.put(message);
        }
        true
    }

    /// How short memory is, where that was said since this was last asked.
    pub(crate) fn pressure(&mut self) -> Option<Pressure> {
        self.gather();
        self.pressure.take()
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
        while let Ok(message) = self.messages.try_recv() {
            self.put(message);
        }
    }

    fn put(&mut self, message: Message) {
        match message {
            Message::Request(job) => self.waiting.push_back(*job),
            Message::Pressure(pressure) => self.pressure = Some(pressure),
        }
    }
}
