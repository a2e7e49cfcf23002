//! The loop of the engine's thread: who is decoded next, with which experts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mlx_rs::Array;
use mlx_rs::transforms::eval;
use tokio::sync::broadcast;

use super::draw::{Drawing, Drawn};
use super::prefix::PrefixStore;
use super::queue::Queue;
use super::request::{FinishReason, Job};
use super::sequence::{End, Figures, Sequence};
use crate::auto::{Auto, Pass, Plan, would_fall_back};
use crate::device::{ComputeDevice, synchronize};
use crate::engine::{Live, Loaded};
use crate::error::{Error, Result};
use crate::exit;
use crate::model::{Batch, Logits};
use crate::policy::{Choice, Decision, Policy, Verdict, can_halve};
use crate::pressure::Pressure;
use crate::statistics::{Counters, ExpertCache, Statistics};

/// Prompt tokens read between two decoding steps, so that a long prompt does not hold up running answers.
const PREFILL_CHUNK: usize = 512;

/// Share of fallbacks up to which the pass after a little one is begun before it is known whether the token stands.
const FEW_FALLBACKS: f64 = 0.2;

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
    /// Whether the rows of the little pass that `auto` has computed again have had their experts fetched ahead.
    prefetched: Option<bool>,
}

/// A row of a decoding step, before its first pass.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Index of the sequence.
    sequence: usize,
    policy: Policy,
    /// Time a little pass whose result does not count.
    trial: bool,
}

/// A pass that has been begun.
struct Begun {
    /// Of its sequences.
    numbers: Vec<u64>,
    choice: Choice,
    drawing: Drawing,
    started: Instant,
}

impl Begun {
    fn is(&self, sequences: &[Sequence], indices: &[usize], choice: Choice) -> bool {
        self.choice == choice && self.numbers.iter().copied().eq(indices.iter().map(|&i| sequences[i].number))
    }
}

impl Scheduler {
    pub(crate) fn new(loaded: Loaded, queue: Queue, shared: Arc<Shared>) -> Self {
        let (prefix_bytes, max_sequences) = (loaded.limits.prefix_bytes, loaded.limits.sequences);
        Self {
            loaded,
            queue,
            shared,
            ended: Counters::default(),
            reads: 0,
            sequences: Vec::new(),
            prefixes: PrefixStore::new(prefix_bytes),
            auto: Auto::default(),
            max_sequences,
            streamed: ExpertCache::default(),
            ahead: None,
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
            if let Err((rows, error)) = self.step() {
                self.fail(&rows, &error);
            }
            self.retire();
            self.publish();
            if self.sequences.is_empty() {
                self.rest();
            }
        }
        let _working = exit::working();
        drop(self);
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

    /// Reads a chunk of one prompt and decodes a token of every sequence that has read its own.
    fn step(&mut self) -> Result<(), (Vec<usize>, Error)> {
        // Prompts take turns, so that a short one need not wait for the whole of a long one.
        let unread = self.sequences.iter().enumerate().filter(|(_, s)| !s.unread().is_empty());
        if let Some((index, _)) = unread.min_by_key(|(_, s)| s.read_at) {
            self.prefill(index).map_err(|e| (vec![index], e))?;
        }
        let ready: Vec<usize> = (0..self.sequences.len())
            .filter(|&i| self.sequences[i].unread().is_empty() && self.sequences[i].finished.is_none())
            .collect();
        if ready.is_empty() {
            return Ok(());
        }
        self.decode(&ready).map_err(|e| (ready, e))
    }

    fn prefill(&mut self, index: usize) -> Result<()> {
        let sequence = &mut self.sequences[index];
        self.reads += 1;
        sequence.read_at = self.reads;
        let choice = sequence.prefill_choice();
        let unread = sequence.unread();
        let chunk = unread[..unread.len().min(PREFILL_CHUNK)].to_vec();
        let last = chunk.len() == unread.len();
        let logits = if last { Logits::Last } else { Logits::None };
        self.loaded.look_ahead.set(self.loaded.limits.look_ahead);
        let mut batch = Batch::new([(chunk.as_slice(), &mut sequence.cache)]);
        let output = self.loaded.model.forward(&mut batch, choice, logits)?;
        drop(batch);
        sequence.note_prefill(choice);
        match output.logits {
            None => {
                eval(sequence.cache.arrays())?;
                self.count_prefill(index);
            }
            Some(logits) => {
                let (drawn, _) = Drawing::begin(logits, &[&*sequence], None, 0)?.read(&[&*sequence])?;
                let decision = if choice == Choice::All { Decision::Big } else { Decision::Little };
                let per_token = self.loaded.experts_per_token(choice);
                sequence.counters.experts_computed += per_token;
                self.count_prefill(index);
                for drawn in drawn {
                    self.accept(index, decision, drawn);
                }
            }
        }
        Ok(())
    }

    /// Puts down to the prompt of one request what was counted of streamed experts since this was last done.
    fn count_prefill(&mut self, index: usize) {
        let streamed = *self.loaded.meter.borrow();
        let earlier = std::mem::replace(&mut self.streamed, streamed);
        self.sequences[index].counters.prefill_expert_cache.merge(&streamed.share_since(&earlier, 0, 1));
    }

    /// One token for each of `ready`: first the passes with fewer experts, then one big pass for the rows that want all
    /// experts from the start together with those that fell back.
    fn decode(&mut self, ready: &[usize]) -> Result<()> {
        let rows: Vec<Row> = ready.iter().map(|&i| self.row(i, ready.len())).collect();
        let mut big: Vec<(usize, Option<f32>)> = Vec::new();
        let mut groups: Vec<(Choice, Vec<Row>)> = Vec::new();
        for row in rows {
            let choice = if row.trial { Choice::Half { renormalize: false } } else { row.policy.first_pass() };
            match groups.iter_mut().find(|(c, _)| *c == choice) {
                _ if choice == Choice::All => big.push((row.sequence, None)),
                Some((_, group)) => group.push(row),
                None => groups.push((choice, vec![row])),
            }
        }
        let fresh = big.len();
        for (choice, group) in groups {
            self.first_pass(choice, &group, &mut big)?;
        }
        if big.is_empty() {
            return Ok(());
        }
        big.sort_unstable_by_key(|&(index, _)| index);
        let indices: Vec<usize> = big.iter().map(|&(i, _)| i).collect();
        let kind = if fresh == 0 { Pass::Again } else { Pass::Big };
        let drawn = self.pass(&indices, Choice::All, Some(kind))?;
        for ((index, first), mut drawn) in big.into_iter().zip(drawn) {
            let decision = if first.is_some() { Decision::Fallback } else { Decision::Big };
            // The confidence that is reported is the one that decided.
            drawn.confidence = first.unwrap_or(drawn.confidence);
            self.accept(index, decision, drawn);
        }
        Ok(())
    }

    /// The pass with fewer experts. Rows whose token stands take it; the others are rolled back and join `big`, with
    /// the confidence that decided.
    fn first_pass(&mut self, choice: Choice, group: &[Row], big: &mut Vec<(usize, Option<f32>)>) -> Result<()> {
        let indices: Vec<usize> = group.iter().map(|r| r.sequence).collect();
        let timed = matches!(choice, Choice::Half { .. }).then_some(Pass::Little);
        let drawn = self.pass(&indices, choice, timed)?;
        self.prefetch(group, &drawn);
        for (row, drawn) in group.iter().zip(drawn) {
            let cache = &mut self.sequences[row.sequence].cache;
            if row.trial {
                cache.truncate(cache.len() - 1);
                big.push((row.sequence, None));
                continue;
            }
            match row.policy.judge(drawn.confidence) {
                Verdict::FallBack => {
                    cache.truncate(cache.len() - 1);
                    big.push((row.sequence, Some(drawn.confidence)));
                }
                Verdict::Keep => self.accept(row.sequence, Decision::Little, drawn),
            }
        }
        Ok(())
    }

    /// Begins to fetch what the rows that are computed again will want; those of `auto` where that pays.
    fn prefetch(&mut self, group: &[Row], drawn: &[Drawn]) {
        let policy = |row: &Row| self.sequences[row.sequence].policy();
        let asked = |policy: Policy| matches!(policy, Policy::Mobile(m) | Policy::Auto(m) if m.prefetch);
        let again = |row: &Row, drawn: &Drawn| row.trial || row.policy.judge(drawn.confidence) == Verdict::FallBack;
        let rows = group.iter().zip(drawn).enumerate().filter(|(_, (row, drawn))| again(row, drawn));
        let rows: Vec<(usize, Policy)> = rows.map(|(n, (row, _))| (n, policy(row))).filter(|r| asked(r.1)).collect();
        let of_auto = rows.iter().filter(|(_, policy)| matches!(policy, Policy::Auto(_))).count();
        let for_auto = of_auto > 0 && of_auto == rows.len() && self.loaded.model.is_streamed();
        self.prefetched = for_auto.then(|| self.auto.prefetch(of_auto));
        if self.prefetched != Some(false) {
            self.loaded.model.prefetch(&rows.iter().map(|&(n, _)| n).collect::<Vec<_>>());
        }
    }

    /// Has the layers of the next pass look ahead where its rows are all of `auto` and that pays; gives whether it was
    /// for `auto` to say.
    fn look_ahead(&mut self, indices: &[usize], timed: Option<Pass>) -> Option<(Pass, bool)> {
        let of_auto = |&i: &usize| matches!(self.sequences[i].policy(), Policy::Auto(_));
        let pass = timed.filter(|_| self.loaded.model.is_streamed() && indices.iter().all(of_auto));
        let ahead = pass.map(|pass| (pass, self.auto.look_ahead(indices.len(), pass)));
        self.loaded.look_ahead.set(self.loaded.limits.look_ahead || ahead.is_some_and(|(_, ahead)| ahead));
        ahead.filter(|_| !self.loaded.limits.look_ahead)
    }

    /// The policy of a sequence for its next token; `auto` becomes what it chooses.
    fn row(&mut self, sequence: usize, rows: usize) -> Row {
        match self.sequences[sequence].policy() {
            Policy::Auto(mobile) => {
                let plan = self.auto.plan(rows, can_halve(self.loaded.top_k));
                Row { sequence, policy: plan.policy(mobile), trial: plan == Plan::Trial }
            }
            policy => Row { sequence, policy, trial: false },
        }
    }

    /// One pass over the last token of each sequence, `indices` ascending; every cache is one position longer
    /// afterwards. `timed`: what `auto` learns its time as.
    fn pass(&mut self, indices: &[usize], choice: Choice, timed: Option<Pass>) -> Result<Vec<Drawn>> {
        let looked_ahead = self.look_ahead(indices, timed);
        let Begun { drawing, started, .. } = match self.ahead.take().filter(|a| a.is(&self.sequences, indices, choice))
        {
            Some(ahead) => ahead,
            None => self.begin(indices, choice, None)?,
        };
        for &index in indices {
            self.sequences[index].cache.advance(1);
        }
        if self.goes_ahead(indices, choice, timed) {
            // Put behind this pass while the device is at it. A token that ends an answer or falls back makes it void.
            self.ahead = Some(self.begin(indices, choice, Some(&drawing.tokens))?);
        }
        let rows: Vec<&Sequence> = indices.iter().map(|&i| &self.sequences[i]).collect();
        let (drawn, kept) = drawing.read(&rows)?;

        let (now, width) = (Instant::now(), rows.len());
        let seconds = (now - started).as_secs_f64();
        if let Some(ahead) = &mut self.ahead {
            ahead.started = now;
        }
        let streamed = *self.loaded.meter.borrow();
        let earlier = std::mem::replace(&mut self.streamed, streamed);
        let share = seconds / width as f64;
        for (row, &index) in indices.iter().enumerate() {
            let counters = &mut self.sequences[index].counters;
            counters.experts_computed += match &kept {
                Some(kept) => kept[row].unsigned_abs().into(),
                None => self.loaded.experts_per_token(choice),
            };
            let passes = if choice == Choice::All { &mut counters.big_passes } else { &mut counters.little_passes };
            passes.add(1, share);
            counters.expert_cache.merge(&streamed.share_since(&earlier, row, width));
        }
        if let Some(pass) = timed {
            self.auto.timed(width, pass, seconds);
        }
        if let Some((pass, ahead)) = looked_ahead {
            self.auto.looked_ahead(width, pass, ahead, seconds);
        }
        if timed == Some(Pass::Again)
            && let Some(ahead) = self.prefetched.take()
        {
            self.auto.prefetched(width, ahead, seconds);
        }
        Ok(drawn)
    }

    /// Begins a pass over the last token of each sequence, or over `tokens` that are being computed. It writes behind
    /// the positions that the caches count, and counts nothing itself: it is made void by being forgotten.
    fn begin(&mut self, indices: &[usize], choice: Choice, tokens: Option<&Array>) -> Result<Begun> {
        let started = Instant::now();
        let mut rows: Vec<&mut Sequence> = self
            .sequences
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| indices.binary_search(i).is_ok())
            .map(|(_, s)| s)
            .collect();
        let lasts = || Array::from_iter(rows.iter().flat_map(|s| s.last()).copied(), &[rows.len() as i32]);
        let tokens_in = tokens.map_or_else(lasts, Array::clone);
        let mut batch = Batch::of_tokens(tokens_in, rows.iter_mut().map(|s| &mut s.cache));
        let output = self.loaded.model.forward(&mut batch, choice, Logits::Last)?;
        drop(batch);
        for sequence in &mut rows {
            sequence.cache.truncate(sequence.cache.len() - 1);
        }
        let kept = total_kept(&output.kept)?;
        let Some(logits) = output.logits else { unreachable!("logits were asked for") };
        let rows: Vec<&Sequence> = rows.into_iter().map(|s| &*s).collect();
        let drawing = Drawing::begin(logits, &rows, kept, usize::from(tokens.is_some()))?;
        Ok(Begun { numbers: rows.iter().map(|s| s.number).collect(), choice, drawing, started })
    }

    /// Whether the pass after the next token is worth beginning before that token is known. A fallback makes it void,
    /// which a GPU that waits for launches anyway can bear where fallbacks are few, and a CPU cannot.
    fn goes_ahead(&self, indices: &[usize], choice: Choice, timed: Option<Pass>) -> bool {
        let sure = |policy: Policy| match policy {
            Policy::Full | Policy::Little { .. } => true,
            Policy::Mass { .. } => false,
            Policy::Auto(_) if choice == Choice::All => timed == Some(Pass::Big),
            Policy::Mobile(_) | Policy::Auto(_) => {
                choice != Choice::All
                    && self.loaded.device == ComputeDevice::Gpu
                    && self.auto.fallback_rate().is_some_and(|f| f < FEW_FALLBACKS)
            }
        };
        let context = self.loaded.limits.context;
        let row = |&i: &usize| sure(self.sequences[i].policy()) && self.sequences[i].looks_ahead(context);
        self.loaded.model.is_lazy() && indices.iter().all(row)
    }

    /// Hands a token to its sequence and to whoever watches.
    fn accept(&mut self, index: usize, decision: Decision, drawn: Drawn) {
        let end = End { eos: self.loaded.text.eos(), context: self.loaded.limits.context };
        let confidence = drawn.confidence;
        let sequence = &mut self.sequences[index];
        sequence.counters.experts_full += self.loaded.experts_per_token(Choice::All);
        if let Policy::Auto(mobile) | Policy::Mobile(mobile) = sequence.policy() {
            self.auto.judged(would_fall_back(decision, confidence, mobile.gamma));
        }
        sequence.accept(drawn, decision, &end);
        // Nobody needs to be watching.
        let _ =
            self.shared.live.send(Live { decision, confidence, running: self.shared.running.load(Ordering::Relaxed) });
    }

    fn fail(&mut self, rows: &[usize], error: &Error) {
        self.ahead = None;
        for &index in rows.iter().rev() {
            let sequence = self.sequences.remove(index);
            self.ended.merge(&sequence.counters);
            self.publish();
            sequence.fail(Error::Mlx(error.to_string()));
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

    fn statistics(&mut self, figures: Figures, width: usize) -> Statistics {
        let auto = match figures.policy {
            Policy::Auto(_) => Some(self.auto.report(width, can_halve(self.loaded.top_k))),
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

/// Sum over layers of what each row kept: int32 of shape `[rows]`.
fn total_kept(kept: &[Array]) -> Result<Option<Array>> {
    let mut layers = kept.iter();
    let Some(first) = layers.next() else { return Ok(None) };
    let mut total = first.clone();
    for layer in layers {
        total = total.add(layer)?;
    }
    Ok(Some(total))
}
