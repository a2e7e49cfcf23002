//! The loop of the engine's thread: who comes in, who is read or decoded next, who has finished.

mod passes;
mod prompts;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use self::passes::{Begun, Step};
use super::draw::Drawn;
use super::prefix::PrefixStore;
use super::queue::Queue;
use super::request::{FinishReason, Job};
use super::sequence::{End, Figures, Sequence};
use crate::auto::Auto;
use crate::device::synchronize;
use crate::engine::{Live, Loaded};
use crate::error::Error;
use crate::exit;
use crate::policy::{Choice, Decision, Policy, can_halve};
use crate::pressure::Pressure;
use crate::statistics::{Counters, ExpertCache, Statistics, Watches};

/// What other threads may look at while the engine works.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Of all requests so far.
    pub(crate) totals: Mutex<Counters>,
    pub(crate) running: AtomicUsize,
    pub(crate) queued: Arc<AtomicUsize>,
    /// Bytes of the experts in memory.
    pub(crate) expert_memory: AtomicUsize,
    pub(crate) live: broadcast::Sender<Live>,
    pub(crate) watches: Arc<Watches>,
}

/// Runs requests until nobody can send any more.
pub(crate) struct Scheduler {
    loaded: Loaded,
    queue: Queue,
    shared: Arc<Shared>,
    /// Counters of the requests that have ended.
    ended: Counters,
    /// Counts the parts of prompts that were read and the requests that came.
    reads: u64,
    sequences: Vec<Sequence>,
    prefixes: PrefixStore,
    auto: Auto,
    max_sequences: usize,
    /// What had been counted of streamed experts when it was last put down to a request.
    streamed: ExpertCache,
    /// The pass after the one that was read last.
    ahead: Option<Begun>,
    /// The step at hand.
    step: Step,
    /// Sequences that the step at hand could not serve, and why.
    failed: Vec<(usize, Error)>,
    /// Whether the rows of the little pass that `auto` has computed again have had their experts fetched ahead.
    prefetched: Option<bool>,
}

impl Scheduler {
    pub(crate) fn new(loaded: Loaded, queue: Queue, shared: Arc<Shared>) -> Self {
        let (prefix_bytes, max_sequences) = (loaded.limits.prefix_bytes, loaded.limits.sequences);
        let auto = Auto::new(can_halve(loaded.top_k));
        Self {
            loaded,
            queue,
            shared,
            ended: Counters::default(),
            reads: 0,
            sequences: Vec::new(),
            prefixes: PrefixStore::new(prefix_bytes),
            auto,
            max_sequences,
            streamed: ExpertCache::default(),
            ahead: None,
            step: Step::default(),
            failed: Vec::new(),
            prefetched: None,
        }
    }

    pub(crate) fn run(mut self) {
        self.shared.expert_memory.store(self.loaded.model.expert_bytes(), Ordering::Relaxed);
        while self.admit() {
            let _working = exit::working();
            self.drop_abandoned();
            if let Some(pressure) = self.queue.pressure() {
                self.adapt(pressure);
            }
            self.step();
            self.fail();
            self.retire();
            self.publish();
            if self.sequences.is_empty() {
                self.rest();
            }
        }
        let _working = exit::working();
        drop(self);
        // What MLX keeps of the model's memory for itself, the next model is to have. It frees it at the latest when the
        // process ends.
        let _ = mlx_rs::memory::clear_cache();
    }

    /// Lets a pass that nobody wants any more come to its end: the process may end next, and takes MLX down with it.
    fn rest(&mut self) {
        self.ahead = None;
        synchronize();
    }

    /// Takes in waiting requests, and waits for one when there is nothing to do. False when all is over.
    fn admit(&mut self) -> bool {
        if self.sequences.is_empty() {
            self.shared.running.store(0, Ordering::Relaxed);
            if !self.queue.wait() {
                return false;
            }
        }
        while self.sequences.len() < self.max_sequences
            && let Some(job) = self.queue.next()
        {
            self.start(job);
        }
        self.shared.running.store(self.sequences.len(), Ordering::Relaxed);
        true
    }

    /// Has streamed experts give memory back, or take it back.
    fn adapt(&mut self, pressure: Pressure) {
        let before = self.loaded.model.expert_bytes();
        let mut adapted = self.loaded.model.adapt(pressure);
        let after = self.loaded.model.expert_bytes();
        if adapted.is_ok() && after != before {
            // MLX keeps what is freed until it is told to let go.
            adapted = mlx_rs::memory::clear_cache().map_err(Error::from);
        }
        self.shared.expert_memory.store(after, Ordering::Relaxed);
        if let Err(error) = adapted {
            tracing::warn!("streamed experts keep their memory: {error}");
        } else if after < before {
            tracing::warn!(
                before,
                after,
                "memory is short ({pressure:?}): experts give a part of theirs back, in bytes"
            );
        } else if after > before {
            tracing::info!(before, after, "memory is no longer short: experts take a part of theirs back, in bytes");
        }
    }

    fn start(&mut self, job: Job) {
        let _working = exit::working();
        let wanted = job.request.reuse_prefix && !job.abandoned();
        let reused = if wanted { self.prefixes.take(&job.request.prompt) } else { None };
        let text = self.loaded.text.stream(job.request.stop.clone());
        let mut sequence = Sequence::start(job, text, reused, self.loaded.model.cache());
        self.reads += 1;
        sequence.read_at = self.reads;
        sequence.number = self.reads;
        self.sequences.push(sequence);
    }

    fn drop_abandoned(&mut self) {
        // Those in the queue come in only to be told that they have ended.
        for job in self.queue.abandoned() {
            self.start(job);
        }
        for sequence in &mut self.sequences {
            if sequence.abandoned() {
                sequence.finished = Some(FinishReason::Cancelled);
            }
        }
        self.retire();
    }

    /// Reads a chunk of the prompts whose turn it is and decodes a token of every sequence that has read its own.
    fn step(&mut self) {
        let turn = self.turn();
        if !turn.is_empty()
            && let Err(error) = self.prefill(&turn)
        {
            self.fail_prompts(&turn, error);
            if !self.failed.is_empty() {
                return;
            }
        }
        let ready: Vec<usize> = (0..self.sequences.len())
            .filter(|&i| self.sequences[i].unread().is_empty() && self.sequences[i].finished.is_none())
            .collect();
        if !ready.is_empty() {
            self.decode(&ready);
        }
    }

    /// Hands a token to its sequence and to whoever watches.
    fn accept(&mut self, index: usize, decision: Decision, drawn: Drawn) {
        let end = End { eos: self.loaded.text.eos(), context: self.loaded.limits.context };
        let confidence = drawn.confidence;
        let sequence = &mut self.sequences[index];
        sequence.counters.experts_full += self.loaded.experts_per_token(Choice::All);
        if matches!(sequence.policy(), Policy::Auto(_) | Policy::Mobile(_)) {
            self.auto.saw(confidence);
        }
        sequence.accept(drawn, decision, &end);
        // Nobody needs to be watching.
        let _ =
            self.shared.live.send(Live { decision, confidence, running: self.shared.running.load(Ordering::Relaxed) });
    }

    /// Reports and removes the sequences that the step could not serve. Those that nobody wants any more have been given
    /// up, not failed.
    fn fail(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        self.ahead = None;
        let mut failed = std::mem::take(&mut self.failed);
        failed.sort_by_key(|&(index, _)| std::cmp::Reverse(index));
        for (index, error) in failed {
            if self.sequences[index].abandoned() {
                self.sequences[index].finished = Some(FinishReason::Cancelled);
                continue;
            }
            let sequence = self.sequences.remove(index);
            self.shared.running.store(self.sequences.len(), Ordering::Relaxed);
            self.ended.merge(&sequence.counters);
            self.publish();
            sequence.fail(error);
        }
    }

    /// Reports and removes the sequences that are finished.
    fn retire(&mut self) {
        let mut index = 0;
        while index < self.sequences.len() {
            let Some(reason) = self.sequences[index].finished else {
                index += 1;
                continue;
            };
            let width = self.sequences.len();
            let mut sequence = self.sequences.remove(index);
            self.shared.running.store(self.sequences.len(), Ordering::Relaxed);
            self.ended.merge(&sequence.counters);
            self.publish();
            sequence.report(reason, |figures| self.statistics(figures, width));
            if sequence.reuses_prefix() {
                let tokens = sequence.reusable().to_vec();
                self.prefixes.put(&tokens, sequence.cache);
            }
        }
    }

    /// Brings up to date what others read. A request's last event comes after its counters.
    fn publish(&self) {
        let mut totals = self.ended.clone();
        self.sequences.iter().for_each(|s| totals.merge(&s.counters));
        *self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    fn statistics(&self, figures: Figures, width: usize) -> Statistics {
        let auto = match figures.policy {
            Policy::Auto(mobile) => Some(self.auto.report(width, mobile.gamma)),
            _ => None,
        };
        Statistics {
            elapsed_seconds: figures.elapsed_seconds,
            tokens_generated: figures.tokens_generated,
            tokens_per_second: figures.tokens_per_second,
            prompt_tokens: figures.prompt_tokens,
            cached_tokens: figures.cached_tokens,
            prefill_seconds: figures.prefill_seconds,
            queued_seconds: figures.queued_seconds,
            peak_memory_bytes: mlx_rs::memory::peak_memory().unwrap_or(0),
            device: self.loaded.device.name(),
            model: self.loaded.name.clone(),
            policy: figures.policy.name(),
            auto,
            counters: figures.counters,
        }
    }
}

/// Those of `sequences` that `indices` name, which ascend.
fn named<'a>(sequences: &'a mut [Sequence], indices: &'a [usize]) -> impl Iterator<Item = &'a mut Sequence> {
    sequences.iter_mut().enumerate().filter(|(i, _)| indices.binary_search(i).is_ok()).map(|(_, s)| s)
}
