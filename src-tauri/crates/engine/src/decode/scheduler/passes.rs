//! One step of decoding: which rows are decoded with which experts, and which of them again with all.

use std::time::Instant;

use mlx_rs::Array;

use super::Scheduler;
use crate::auto::{Pass, Plan};
use crate::decode::draw::{Drawing, Drawn};
use crate::decode::sequence::Sequence;
use crate::device::ComputeDevice;
use crate::error::{Error, Result};
use crate::experts::Rows;
use crate::model::{Batch, Logits};
use crate::policy::{Choice, Decision, Policy, Verdict, can_halve};

/// Share of fallbacks up to which the pass after a little one is begun before it is known whether the token stands.
const FEW_FALLBACKS: f64 = 0.2;

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
pub(super) struct Begun {
    /// Of its sequences.
    numbers: Vec<u64>,
    choice: Choice,
    drawing: Drawing,
    started: Instant,
    /// What its layers do about looking ahead, where that was for `auto` to say.
    looked_ahead: Option<(Pass, bool)>,
    /// By row, why it has failed, if it has; empty where none has.
    failed: Vec<Option<Error>>,
}

impl Begun {
    /// The row of a sequence.
    fn row(&self, sequence: &Sequence) -> Option<usize> {
        self.numbers.iter().position(|&number| number == sequence.number)
    }
}

impl Scheduler {
    /// One token for each of `ready`: first the passes with fewer experts, then one big pass for the rows that want all
    /// experts from the start together with those that fell back.
    pub(super) fn decode(&mut self, ready: &[usize]) {
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
            self.first_pass(choice, &group, &mut big);
        }
        if big.is_empty() {
            return;
        }
        big.sort_unstable_by_key(|&(index, _)| index);
        let indices: Vec<usize> = big.iter().map(|&(i, _)| i).collect();
        let kind = if fresh == 0 { Pass::Again } else { Pass::Big };
        let drawn = self.pass(&indices, Choice::All, Some(kind));
        for ((index, first), drawn) in big.into_iter().zip(drawn) {
            let Some(mut drawn) = drawn else { continue };
            let decision = if first.is_some() { Decision::Fallback } else { Decision::Big };
            // The confidence that is reported is the one that decided.
            drawn.confidence = first.unwrap_or(drawn.confidence);
            self.accept(index, decision, drawn);
        }
    }

    /// The pass with fewer experts. Rows whose token stands take it; the others are rolled back and join `big`, with
    /// the confidence that decided.
    fn first_pass(&mut self, choice: Choice, group: &[Row], big: &mut Vec<(usize, Option<f32>)>) {
        let indices: Vec<usize> = group.iter().map(|r| r.sequence).collect();
        let timed = matches!(choice, Choice::Half { .. }).then_some(Pass::Little);
        let drawn = self.pass(&indices, choice, timed);
        self.prefetch(group, &drawn);
        for (row, drawn) in group.iter().zip(drawn) {
            let Some(drawn) = drawn else { continue };
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
    }

    /// Begins to fetch what the rows that are computed again will want; those of `auto` where that pays.
    fn prefetch(&mut self, group: &[Row], drawn: &[Option<Drawn>]) {
        let policy = |row: &Row| self.sequences[row.sequence].policy();
        let asked = |policy: Policy| matches!(policy, Policy::Mobile(m) | Policy::Auto(m) if m.prefetch);
        let again = |row: &Row, drawn: &Drawn| row.trial || row.policy.judge(drawn.confidence) == Verdict::FallBack;
        let rows = group.iter().zip(drawn).enumerate();
        let rows = rows.filter(|(_, (row, drawn))| drawn.as_ref().is_some_and(|drawn| again(row, drawn)));
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

    /// A token for each sequence, `indices` ascending; every cache is one position longer afterwards. Those that get none
    /// have failed, and are to be told. `timed`: what `auto` learns the time of a pass as.
    fn pass(&mut self, indices: &[usize], choice: Choice, timed: Option<Pass>) -> Vec<Option<Drawn>> {
        self.try_pass(indices, choice, timed).unwrap_or_else(|error| {
            self.ahead = None;
            let mut of_rows = self.loaded.rows.borrow_mut().take_failed();
            of_rows.resize_with(indices.len(), || None);
            let failed = indices.iter().zip(of_rows);
            self.failed.extend(failed.map(|(&index, own)| (index, own.unwrap_or_else(|| error.again()))));
            indices.iter().map(|_| None).collect()
        })
    }

    /// Sequences that have come since a pass was begun ahead are decoded in one of their own, and what it holds of those
    /// that have gone is passed over: neither makes the others' work void.
    fn try_pass(&mut self, indices: &[usize], choice: Choice, timed: Option<Pass>) -> Result<Vec<Option<Drawn>>> {
        let ahead = self.ahead.take().filter(|ahead| ahead.choice == choice);
        let is_begun = |i: &usize| ahead.as_ref().is_some_and(|ahead| ahead.row(&self.sequences[*i]).is_some());
        let (begun, new): (Vec<usize>, Vec<usize>) = indices.iter().partition(|i| is_begun(i));
        let Some(ahead) = ahead.filter(|_| !begun.is_empty()) else {
            let looked_ahead = self.look_ahead(indices, timed);
            let fresh = Begun { looked_ahead, ..self.begin(indices, choice, None)? };
            return self.finish(fresh, indices, timed, true);
        };
        if new.is_empty() {
            return self.finish(ahead, indices, timed, true);
        }
        let fresh = self.begin(&new, choice, None)?;
        let of_begun = self.finish(ahead, &begun, timed, false)?;
        let of_new = self.finish(fresh, &new, timed, false)?;
        let mut drawn: Vec<_> = begun.into_iter().zip(of_begun).chain(new.into_iter().zip(of_new)).collect();
        drawn.sort_unstable_by_key(|&(index, _)| index);
        Ok(drawn.into_iter().map(|(_, drawn)| drawn).collect())
    }

    /// Reads a pass that has been begun, for those of its sequences that `indices` name. `goes_on`: these are all that
    /// decode with its choice, so that the next one may be begun.
    fn finish(
        &mut self,
        mut begun: Begun,
        indices: &[usize],
        timed: Option<Pass>,
        goes_on: bool,
    ) -> Result<Vec<Option<Drawn>>> {
        let failed = std::mem::take(&mut begun.failed);
        if failed.iter().all(Option::is_none) {
            return Ok(self.read(begun, indices, timed, goes_on)?.into_iter().map(Some).collect());
        }
        // Streamed experts: no pass was begun ahead, so that its rows are those of `indices`. How long it took says how
        // long it waited for a storage that fails, which is nothing to learn from.
        let good: Vec<usize> = indices.iter().zip(&failed).filter(|(_, f)| f.is_none()).map(|(&i, _)| i).collect();
        begun.looked_ahead = None;
        self.prefetched = None;
        let mut read = self.read(begun, &good, None, false)?.into_iter();
        let drawn = failed.iter().map(|failed| if failed.is_none() { read.next() } else { None }).collect();
        let failed = indices.iter().zip(failed);
        self.failed.extend(failed.filter_map(|(&index, failed)| Some((index, failed?))));
        Ok(drawn)
    }

    /// As [`Scheduler::finish`], for sequences that have not failed.
    fn read(&mut self, begun: Begun, indices: &[usize], timed: Option<Pass>, goes_on: bool) -> Result<Vec<Drawn>> {
        let rows: Vec<usize> = indices.iter().filter_map(|&i| begun.row(&self.sequences[i])).collect();
        let Begun { numbers, choice, drawing, started, looked_ahead, .. } = begun;
        for &index in indices {
            self.sequences[index].cache.advance(1);
        }
        if goes_on && rows.len() == numbers.len() && self.goes_ahead(indices, choice, timed) {
            // Put behind this pass while the device is at it. A token that ends an answer or falls back makes it void.
            self.ahead = Some(self.begin(indices, choice, Some(&drawing.tokens))?);
        }
        let sequences = indices.iter().map(|&i| &self.sequences[i]);
        let (drawn, kept) = drawing.read(&rows.iter().copied().zip(sequences).collect::<Vec<_>>())?;
        self.shared.watches.count(choice, drawing.routed.as_ref(), rows.iter().copied())?;

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
        if self.loaded.model.is_streamed() {
            self.loaded.rows.replace(Rows::of_tokens(rows.iter().map(|s| s.gone()).collect()));
        }
        let mut batch = Batch::of_tokens(tokens_in, rows.iter_mut().map(|s| &mut s.cache))?;
        batch.watched = self.shared.watches.any();
        let output = self.loaded.model.forward(&mut batch, choice, Logits::Last)?;
        let failed = self.loaded.rows.borrow_mut().take_failed();
        drop(batch);
        for sequence in &mut rows {
            sequence.cache.truncate(sequence.cache.len() - 1);
        }
        let rows: Vec<&Sequence> = rows.into_iter().map(|s| &*s).collect();
        let drawing = Drawing::begin(output, &rows, usize::from(tokens.is_some()))?;
        let numbers = rows.iter().map(|s| s.number).collect();
        Ok(Begun { numbers, choice, drawing, started, looked_ahead: None, failed })
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
        !self.loaded.model.is_streamed() && indices.iter().all(row)
    }
}
