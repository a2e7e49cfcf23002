//! One step of decoding: which rows are decoded with which experts, and which of them again with all.

use std::cell::LazyCell;
use std::time::Instant;

use mlx_rs::Array;

use super::{Scheduler, named};
use crate::auto::{Pass, Plan};
use crate::decode::draw::{Drawing, Drawn};
use crate::decode::sequence::Sequence;
use crate::device::ComputeDevice;
use crate::error::{Error, Result};
use crate::experts::Rows;
use crate::kv::side_by_side;
use crate::model::{Batch, Logits};
use crate::policy::{Choice, Decision, Policy, Verdict};

/// Share of little passes with a fallback up to which the pass after one is begun before it is known whether its tokens
/// stand.
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

/// What the passes of a step have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    rows: usize,
    /// Whether all rows begin in one pass. Only then may the next one be begun before its tokens are known: passes with
    /// other experts would make each other void.
    together: bool,
    /// Whether all rows are of `auto`, which then learns what the passes take.
    of_auto: bool,
}

/// A pass that has been begun.
pub(super) struct Begun {
    /// Of its sequences.
    numbers: Vec<u64>,
    choice: Choice,
    drawing: Drawing,
    started: Instant,
    /// Whether the time since then is all its own.
    alone: bool,
    /// What its layers do about looking ahead, where that was for `auto` to say.
    looked_ahead: Option<(Pass, bool)>,
    /// By row, why it has failed, if it has; empty where none has.
    failed: Vec<Option<Error>>,
}

impl Begun {
    /// Something else was computed meanwhile.
    pub(super) fn put_off(&mut self) {
        (self.started, self.alone) = (Instant::now(), false);
    }

    /// The row of a sequence.
    fn row(&self, sequence: &Sequence) -> Option<usize> {
        self.numbers.iter().position(|&number| number == sequence.number)
    }
}

impl Scheduler {
    /// One token for each of `ready`: first the passes with fewer experts, then one big pass for the rows that want all
    /// experts from the start together with those that fell back.
    pub(super) fn decode(&mut self, ready: &[usize]) {
        let rows = self.rows(ready);
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
        let together = groups.len() + usize::from(fresh > 0) == 1;
        let of_auto = together && self.of_auto(ready).count() == ready.len();
        self.step = Step { rows: ready.len(), together, of_auto };
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
        let all_of_auto = self.of_auto(indices).count() == indices.len();
        let pass = timed.filter(|_| self.loaded.model.is_streamed() && all_of_auto);
        let ahead = pass.map(|pass| (pass, self.auto.look_ahead(indices.len(), pass)));
        self.loaded.look_ahead.set(self.loaded.limits.look_ahead || ahead.is_some_and(|(_, ahead)| ahead));
        ahead.filter(|_| !self.loaded.limits.look_ahead)
    }

    /// The policies of the sequences for their next tokens; `auto` becomes what it chooses for all of them.
    fn rows(&mut self, ready: &[usize]) -> Vec<Row> {
        let of_auto: Vec<usize> = self.of_auto(ready).collect();
        let f = self.fallback_rate(&of_auto);
        let plan = if of_auto.len() == ready.len() {
            self.auto.plan(ready.len(), f)
        } else {
            self.auto.beside_others(ready.len(), f)
        };
        let row = |&sequence: &usize| match self.sequences[sequence].policy() {
            Policy::Auto(mobile) => Row { sequence, policy: plan.policy(mobile), trial: plan == Plan::Trial },
            policy => Row { sequence, policy, trial: false },
        };
        ready.iter().map(row).collect()
    }

    fn of_auto(&self, indices: &[usize]) -> impl Iterator<Item = usize> {
        indices.iter().copied().filter(|&i| matches!(self.sequences[i].policy(), Policy::Auto(_)))
    }

    /// Share of tokens of these sequences that fall back, or would; once known.
    fn fallback_rate(&self, indices: &[usize]) -> Option<f64> {
        self.auto.fallback_rate(indices.iter().filter_map(|&i| match self.sequences[i].policy() {
            Policy::Mobile(mobile) | Policy::Auto(mobile) => Some(if mobile.fallback { mobile.gamma } else { 0.0 }),
            Policy::Full | Policy::Little { .. } | Policy::Mass { .. } => None,
        }))
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
        // With the others, not with each other: who sits beside somebody stays there.
        side_by_side(&mut named(&mut self.sequences, indices).map(|s| &mut s.cache).collect::<Vec<_>>())?;
        let fresh = self.begin(&new, choice, None)?;
        // Nobody can tell what either took.
        let of_begun = self.finish(ahead, &begun, None, false)?;
        let of_new = self.finish(fresh, &new, None, false)?;
        let mut drawn: Vec<_> = begun.into_iter().zip(of_begun).chain(new.into_iter().zip(of_new)).collect();
        drawn.sort_unstable_by_key(|&(index, _)| index);
        Ok(drawn.into_iter().map(|(_, drawn)| drawn).collect())
    }

    /// Reads a pass that has been begun, for those of its sequences that `indices` name. `goes_on`: these are all that
    /// decode, so that the next one may be begun.
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
        let Begun { numbers, choice, drawing, started, alone, looked_ahead, .. } = begun;
        for &index in indices {
            self.sequences[index].cache.advance(1);
        }
        if goes_on && rows.len() == numbers.len() && self.goes_ahead(indices, choice, timed) {
            // Put behind this pass while the device is at it. A token that falls back makes it void, and the row of one that
            // ends an answer is passed over.
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
        if let Some(pass) = timed.filter(|_| alone && self.step.of_auto) {
            self.auto.timed(self.step.rows, pass, width, seconds);
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
        let mut rows: Vec<&mut Sequence> = named(&mut self.sequences, indices).collect();
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
        Ok(Begun { numbers, choice, drawing, started, alone: true, looked_ahead: None, failed })
    }

    /// Whether the pass after the next token is worth beginning before that token is known. A row that falls back makes it
    /// void, which a GPU that waits for launches anyway can bear where that is rare, and a CPU cannot.
    fn goes_ahead(&self, indices: &[usize], choice: Choice, timed: Option<Pass>) -> bool {
        if !self.step.together || self.loaded.model.is_streamed() {
            return false;
        }
        let f = self.fallback_rate(indices);
        let Step { rows, of_auto, .. } = self.step;
        let next = || if of_auto { self.auto.next(rows, f) } else { self.auto.beside_others(rows, f) };
        let next = LazyCell::new(next);
        let rare = |f: f64| 1.0 - (1.0 - f).powi(indices.len() as i32) < FEW_FALLBACKS;
        let halves = choice != Choice::All && self.loaded.device == ComputeDevice::Gpu && f.is_some_and(rare);
        let sure = |policy: Policy| match policy {
            Policy::Full | Policy::Little { .. } => true,
            Policy::Mass { .. } => false,
            Policy::Mobile(_) => halves,
            Policy::Auto(_) if choice == Choice::All => timed == Some(Pass::Big) && *next == Plan::Plain,
            Policy::Auto(_) => halves && *next == Plan::Mobile,
        };
        let context = self.loaded.limits.context;
        indices.iter().map(|&i| &self.sequences[i]).all(|s| sure(s.policy()) && s.looks_ahead(context))
    }
}
