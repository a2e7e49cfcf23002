//! The experts of a layer of which only some are in memory.
//!
//! The router's choice is read back, which the graph of resident experts never does; it is the price of streaming. Then
//! the experts that are there are computed while the others arrive. When fewer slots than chosen experts exist, they
//! come in waves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlx_rs::Array;
use mlx_rs::transforms::eval;
use mobile_files::FromFile as _;

use super::layout::Source;
use super::pool::Pool;
use super::products::Products;
use super::reader::{Reader, Ticket, Urgency};
use super::slots::{Content, Replacement, Slots, Why};
use super::waves::Waves;
use crate::error::{Error, Result};
use crate::model::Routing;
use crate::statistics::{ExpertCache, Prefetch};

/// What the layers of a streamed model share.
#[derive(Debug, Clone)]
pub(crate) struct Streaming {
    pub(crate) reader: Arc<Reader>,
    pub(crate) meter: Rc<RefCell<ExpertCache>>,
    pub(crate) replacement: Replacement,
    /// How long a pass waits for a read before it gives up.
    pub(crate) patience: Duration,
    /// Whether a layer fetches what the next one will probably want, in the pass to come.
    pub(crate) look_ahead: Rc<Cell<bool>>,
}

/// One layer's experts, some of them in slots.
#[derive(Debug)]
pub(crate) struct Streamed {
    source: Arc<dyn Source>,
    streaming: Streaming,
    /// `None` only while it is dropped.
    pool: Option<Pool>,
    /// Slots while memory is not short.
    budget: usize,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    /// By row of the last pass with fewer experts: those it used, and those that all K would have used besides.
    halves: Vec<[Vec<usize>; 2]>,
}

impl Streamed {
    pub(crate) fn new(source: Arc<dyn Source>, pool: Pool, experts: usize, streaming: Streaming) -> Self {
        let budget = pool.slots();
        let slots = Slots::new(budget, experts, streaming.replacement);
        let state = RefCell::new(State { slots, halves: Vec::new() });
        Self { source, streaming, pool: Some(pool), budget, state }
    }

    /// Moves to so many slots, with the experts that are worth most. Not while a read is on its way.
    pub(crate) fn resize(&mut self, wanted: usize) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let slots = &mut state.slots;
        if wanted == slots.len() || !self.rest(slots) {
            return Ok(());
        }
        let kept = slots.worthiest(wanted);
        let pool = self.pool.as_ref().map(|pool| pool.moved(&kept, wanted)).transpose()?;
        slots.resize(&kept, wanted);
        state.halves.clear();
        drop(state);
        self.pool = pool;
        Ok(())
    }

    /// Takes back what was to be fetched ahead and has not begun. Whether no read is on its way any more.
    fn rest(&self, slots: &mut Slots) -> bool {
        let mut meter = self.streaming.meter.borrow_mut();
        (0..slots.len()).fold(true, |rests, slot| {
            self.settle(slots, slot, &mut meter);
            let Content::Coming { ticket, .. } = slots.content(slot) else { return rests };
            let withdrawn = self.streaming.reader.withdraw(ticket);
            if withdrawn {
                slots.set(slot, Content::Nothing);
            }
            rests && withdrawn
        })
    }

    /// As [`super::Experts::forward`].
    pub(crate) fn forward(
        &self,
        x: &Array,
        onto: &Array,
        routing: &Routing,
        guess: Option<&Guess<'_>>,
    ) -> Result<Array> {
        let (rows, k) = (x.dim(0) as usize, routing.experts.dim(1) as usize);
        let chosen = self.read_back(routing, guess.map(|g| &g.experts), rows, k)?;
        let mut state = self.state.borrow_mut();
        let mut wanted = chosen.clone();
        wanted.sort_unstable();
        wanted.dedup();
        tracing::trace!(file = %self.source.path().display(), experts = ?wanted, "wanted");
        state.slots.used(&wanted);

        let (here, mut coming, missing) = self.look_up(&mut state.slots, &wanted);
        if coming.is_empty() && missing.is_empty() {
            look_ahead(guess)?;
            let slots = ids(chosen.iter().map(|&e| state.slots.find(e)), &[rows as i32, k as i32])?;
            return self.products()?.forward(x, onto, &slots, &routing.weights);
        }
        let mut waves = Waves::new(self.products()?, x, &chosen, k);
        let mut todo: VecDeque<usize> = missing.into();
        let kept = slots_of(&state.slots, &[here.as_slice(), &coming].concat());
        let fetched = self.fetch(&mut state.slots, &mut todo, &kept);
        coming.extend(fetched);
        look_ahead(guess)?;
        if !here.is_empty() {
            waves.launch(&state.slots, &here)?;
        }
        loop {
            if coming.is_empty() {
                // Every slot is computed with: the next experts take the place of those that are done.
                waves.finish()?;
                coming = self.fetch(&mut state.slots, &mut todo, &[]);
                if coming.is_empty() {
                    return Err(
                        self.failed(todo.front().copied().unwrap_or(0), "reads that never end hold all of its memory")
                    );
                }
            }
            self.await_all(&mut state.slots, &coming)?;
            let previous = waves.launched();
            waves.launch(&state.slots, &coming)?;
            if todo.is_empty() {
                break;
            }
            waves.finish_first(previous)?;
            let kept = slots_of(&state.slots, &coming);
            coming = self.fetch(&mut state.slots, &mut todo, &kept);
        }
        waves.collect(onto, k, &routing.weights)
    }

    /// The experts chosen, row by row. Notes what a fallback would need, and computes `guess` along.
    fn read_back(&self, routing: &Routing, guess: Option<&Array>, rows: usize, k: usize) -> Result<Vec<usize>> {
        let experts = routing.experts.contiguous()?;
        let all = routing.all.as_ref().map(Array::contiguous).transpose()?;
        eval(std::iter::once(&experts).chain(&all).chain(guess))?;
        let chosen = numbers(&experts)?;
        let mut state = self.state.borrow_mut();
        state.halves.clear();
        if let Some(all) = &all {
            let big = all.dim(1) as usize;
            let all = numbers(all)?;
            for row in 0..rows {
                let used = chosen[row * k..(row + 1) * k].to_vec();
                let ranked = all[row * big..(row + 1) * big].iter().copied();
                let rest = ranked.filter(|e| !used.contains(e)).collect();
                state.halves.push([used, rest]);
            }
        }
        Ok(chosen)
    }

    /// Sorts the experts wanted into those here, those on their way, and those that are nowhere.
    fn look_up(&self, slots: &mut Slots, wanted: &[usize]) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let (mut here, mut coming, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut meter = self.streaming.meter.borrow_mut();
        for &expert in wanted {
            let Some(slot) = slots.find(expert) else {
                missing.push(expert);
                continue;
            };
            self.settle(slots, slot, &mut meter);
            match slots.content(slot).clone() {
                Content::Nothing => missing.push(expert),
                Content::Here { untouched, .. } => {
                    if let Some(why) = untouched {
                        counted(&mut meter, why).useful += 1;
                    }
                    slots.set(slot, Content::Here { expert, untouched: None });
                    here.push(expert);
                }
                Content::Coming { ticket, ahead, .. } => {
                    if let Some(why) = ahead {
                        counted(&mut meter, why).late += 1;
                    }
                    self.streaming.reader.promote(&ticket);
                    slots.set(slot, Content::Coming { expert, ticket, ahead: None });
                    coming.push(expert);
                }
            }
        }
        meter.hits += here.len() as u64;
        meter.misses += (coming.len() + missing.len()) as u64;
        (here, coming, missing)
    }

    /// Turns a read that has ended into what it brought.
    fn settle(&self, slots: &mut Slots, slot: usize, meter: &mut ExpertCache) {
        let Content::Coming { expert, ticket, ahead } = slots.content(slot).clone() else { return };
        match ticket.ended() {
            None => {}
            Some(Ok(())) => {
                meter.bytes_read += self.expert_bytes();
                slots.set(slot, Content::Here { expert, untouched: ahead });
            }
            Some(Err(_)) => slots.set(slot, Content::Nothing),
        }
    }

    /// Begins to read experts of `todo`, as many as there are slots beside those of `kept`. When they do not all fit,
    /// only half of the slots are used at a time, so that one half is read while the other is computed.
    fn fetch(&self, slots: &mut Slots, todo: &mut VecDeque<usize>, kept: &[usize]) -> Vec<usize> {
        let limit = if todo.len() + kept.len() > slots.len() { (slots.len() / 2).max(1) } else { todo.len() };
        let mut begun = Vec::new();
        let mut kept = kept.to_vec();
        while begun.len() < limit
            && let Some(&expert) = todo.front()
            && let Some(slot) = self.begin(slots, expert, &kept, None)
        {
            todo.pop_front();
            kept.push(slot);
            begun.push(expert);
        }
        begun
    }

    /// Begins to read one expert, on demand or for the reason given; gives its slot, where one can be had.
    fn begin(&self, slots: &mut Slots, expert: usize, kept: &[usize], ahead: Option<Why>) -> Option<usize> {
        let mut meter = self.streaming.meter.borrow_mut();
        let (victim, urgency) = match ahead {
            None => (slots.victim(kept).or_else(|| self.take_back(slots, kept, &mut meter))?, Urgency::Demand),
            Some(_) => (slots.victim(kept)?, Urgency::Ahead),
        };
        if let Content::Here { untouched: Some(why), .. } = slots.content(victim) {
            counted(&mut meter, *why).wasted_bytes += self.expert_bytes();
        }
        let place = self.pool.as_ref()?.place(victim);
        let ticket = self.streaming.reader.read(&self.source, expert, place, urgency);
        slots.set(victim, Content::Coming { expert, ticket, ahead });
        Some(victim)
    }

    /// Begins to read those of `experts` that are not here. Of what is here, `kept` stays.
    fn fetch_ahead(&self, slots: &mut Slots, experts: impl Iterator<Item = usize>, kept: &[usize], why: Why) {
        for expert in experts {
            if slots.find(expert).is_some() {
                continue;
            }
            let kept = slots_of(slots, kept);
            if self.begin(slots, expert, &kept, Some(why)).is_none() {
                return;
            }
            counted(&mut self.streaming.meter.borrow_mut(), why).issued += 1;
        }
    }

    /// A slot whose read has ended unnoticed, or was to fetch ahead of need and has not begun.
    fn take_back(&self, slots: &mut Slots, kept: &[usize], meter: &mut ExpertCache) -> Option<usize> {
        (0..slots.len()).filter(|slot| !kept.contains(slot)).find(|&slot| {
            self.settle(slots, slot, meter);
            match slots.content(slot) {
                Content::Coming { ticket, ahead: Some(_), .. } => self.streaming.reader.withdraw(ticket),
                Content::Coming { .. } => false,
                _ => true,
            }
        })
    }

    /// Waits until all of `coming` are here.
    fn await_all(&self, slots: &mut Slots, coming: &[usize]) -> Result<()> {
        let began = Instant::now();
        let result = coming.iter().try_for_each(|&expert| self.await_one(slots, expert));
        self.streaming.meter.borrow_mut().wait_seconds += began.elapsed().as_secs_f64();
        result
    }

    fn await_one(&self, slots: &mut Slots, expert: usize) -> Result<()> {
        let Some(slot) = slots.find(expert) else { return Err(self.failed(expert, "its slot was lost")) };
        let Content::Coming { ticket, .. } = slots.content(slot).clone() else { return Ok(()) };
        match ticket.wait(self.streaming.patience) {
            Some(Ok(())) => {
                slots.set(slot, Content::Here { expert, untouched: None });
                self.streaming.meter.borrow_mut().bytes_read += self.expert_bytes();
                Ok(())
            }
            Some(Err(failure)) => {
                slots.set(slot, Content::Nothing);
                Err(self.failed(expert, &failure.0))
            }
            None => {
                let seconds = self.streaming.patience.as_secs_f32();
                Err(self.failed(expert, &format!("the storage has not answered for {seconds} s")))
            }
        }
    }

    fn failed(&self, expert: usize, what: &str) -> Error {
        Error::weights(self.source.path(), format!("expert {expert} could not be read: {what}"))
    }

    /// Fetches what the big pass of `rows` (of the last pass with fewer experts) will want and is not here.
    pub(crate) fn prefetch(&self, rows: &[usize]) {
        let mut state = self.state.borrow_mut();
        let State { slots, halves } = &mut *state;
        let halves: Vec<_> = rows.iter().filter_map(|&row| halves.get(row)).collect();
        let used: Vec<usize> = halves.iter().flat_map(|[used, rest]| used.iter().chain(rest)).copied().collect();
        self.fetch_ahead(slots, halves.iter().flat_map(|[_, rest]| rest).copied(), &used, Why::Fallback);
    }

    /// Whether guesses at what this layer will want are welcome.
    pub(crate) fn wants_guesses(&self) -> bool {
        self.streaming.look_ahead.get()
    }

    /// Fetches the experts that this layer will probably want next. So many that they would crowd out what has been
    /// useful are not worth a guess.
    fn expect(&self, experts: &[usize]) {
        let mut state = self.state.borrow_mut();
        if 2 * experts.len() <= state.slots.len() {
            self.fetch_ahead(&mut state.slots, experts.iter().copied(), experts, Why::LookAhead);
        }
    }

    fn products(&self) -> Result<&Products> {
        self.pool.as_ref().map(Pool::products).ok_or(Error::Closed)
    }

    fn expert_bytes(&self) -> u64 {
        self.pool.as_ref().map_or(0, Pool::expert_bytes)
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    pub(crate) fn slots(&self) -> usize {
        self.state.borrow().slots.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pool.as_ref().map_or(0, Pool::bytes)
    }
}

impl Drop for Streamed {
    /// Reads under way write into the pool: it goes when they have ended, and stays where one never does.
    fn drop(&mut self) {
        let slots = &self.state.borrow().slots;
        let coming = (0..slots.len()).filter_map(|slot| match slots.content(slot) {
            Content::Coming { ticket, .. } => Some(ticket),
            _ => None,
        });
        let ended = |ticket: &Arc<Ticket>| {
            self.streaming.reader.withdraw(ticket) || ticket.wait(self.streaming.patience).is_some()
        };
        if coming.map(ended).filter(|ended| !ended).count() > 0 {
            std::mem::forget(self.pool.take());
        }
    }
}

/// Experts that the next layer will probably choose.
#[derive(Debug)]
pub(crate) struct Guess<'a> {
    pub(crate) layer: &'a Streamed,
    /// uint32 of shape `[rows, k]`.
    pub(crate) experts: Array,
}

/// Has what is guessed fetched; it has been computed together with this layer's choice.
fn look_ahead(guess: Option<&Guess<'_>>) -> Result<()> {
    let Some(guess) = guess else { return Ok(()) };
    let mut experts = numbers(&guess.experts)?;
    experts.sort_unstable();
    experts.dedup();
    guess.layer.expect(&experts);
    Ok(())
}

fn counted(meter: &mut ExpertCache, why: Why) -> &mut Prefetch {
    match why {
        Why::Fallback => &mut meter.fallback_prefetch,
        Why::LookAhead => &mut meter.look_ahead,
    }
}

/// Expert numbers that have been computed.
fn numbers(experts: &Array) -> Result<Vec<usize>> {
    Ok(experts.try_as_slice::<u32>()?.iter().map(|&e| e as usize).collect())
}

fn slots_of(slots: &Slots, experts: &[usize]) -> Vec<usize> {
    experts.iter().filter_map(|&e| slots.find(e)).collect()
}

/// Slot numbers as MLX wants them.
fn ids(slots: impl Iterator<Item = Option<usize>>, shape: &[i32]) -> Result<Array> {
    let ids: Option<Vec<u32>> = slots.map(|slot| slot.map(|s| s as u32)).collect();
    let ids = ids.ok_or_else(|| Error::weights(Path::new("experts"), "an expert that was here is gone"))?;
    Ok(Array::from_slice(&ids, shape))
}
