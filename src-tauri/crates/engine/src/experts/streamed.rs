//! The experts of a layer of which only some are in memory.
//!
//! The router's choice is read back, which the graph of resident experts never does; it is the price of streaming. Then
//! the experts that are there are computed while the others arrive. When fewer slots than chosen experts exist, they
//! come in waves. An expert that does not arrive fails the rows that chose it, and no others.

mod fetch;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use mlx_rs::Array;
use mobile_files::FromFile as _;

use super::layout::Source;
use super::numbers;
use super::pool::Pool;
use super::products::Products;
use super::reader::Reader;
use super::rows::Rows;
use super::slots::{Replacement, Slots, Why};
use super::waves::Waves;
use crate::device::evaluate;
use crate::error::{Error, Result};
use crate::model::Routing;
use crate::statistics::ExpertCache;
use fetch::slots_of;

/// What the layers of a streamed model share.
#[derive(Debug, Clone)]
pub(crate) struct Streaming {
    pub(crate) reader: Arc<Reader>,
    pub(crate) meter: Rc<RefCell<ExpertCache>>,
    pub(crate) replacement: Replacement,
    /// The rows of the pass that runs.
    pub(crate) rows: Rc<RefCell<Rows>>,
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

    /// As [`super::Experts::forward`].
    pub(crate) fn forward(
        &self,
        x: &Array,
        onto: &Array,
        routing: &Routing,
        guess: Option<&Guess<'_>>,
    ) -> Result<Array> {
        let result = self.compute(x, onto, routing, guess);
        if result.is_err() {
            self.withdraw_all(&mut self.state.borrow_mut().slots);
        }
        result
    }

    fn compute(&self, x: &Array, onto: &Array, routing: &Routing, guess: Option<&Guess<'_>>) -> Result<Array> {
        let (rows, k) = (x.dim(0) as usize, routing.experts.dim(1) as usize);
        let mut chosen = self.read_back(routing, guess.map(|g| &g.experts), rows, k)?;
        let wanted = self.wanted(&mut chosen, k);
        tracing::trace!(file = %self.source.path().display(), experts = ?wanted, "wanted");
        let mut state = self.state.borrow_mut();
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
        waves.launch(&state.slots, &here)?;
        loop {
            if coming.is_empty() {
                // Every slot is computed with: the next experts take the place of those that are done.
                waves.finish()?;
                coming = self.fetch(&mut state.slots, &mut todo, &[]);
                // What a cancelled pass has left behind may be on its way into every slot.
                if coming.is_empty() && self.wait_for_room(&mut state.slots)? {
                    continue;
                }
                if coming.is_empty()
                    && let Some(expert) = todo.pop_front()
                {
                    let what = "reads that never end hold all of its memory; ask again once the storage answers";
                    self.lacks(expert, what, &chosen, k)?;
                }
            }
            let arrived = self.await_all(&mut state.slots, &coming, &mut todo, &chosen, k)?;
            let previous = waves.launched();
            waves.launch(&state.slots, &arrived)?;
            todo.retain(|&expert| self.is_wanted(expert, &chosen, k));
            if todo.is_empty() {
                break;
            }
            waves.finish_first(previous)?;
            let kept = slots_of(&state.slots, &arrived);
            coming = self.fetch(&mut state.slots, &mut todo, &kept);
        }
        waves.collect(onto, k, &routing.weights)
    }

    /// The experts that are to be computed with, each once. Rows that have failed choose one of the others': nobody looks
    /// at what becomes of them.
    fn wanted(&self, chosen: &mut [usize], k: usize) -> Vec<usize> {
        let failed: Vec<bool> = {
            let rows = self.streaming.rows.borrow();
            (0..chosen.len() / k).map(|row| rows.has_failed(row)).collect()
        };
        let good = chosen.chunks(k).zip(&failed).filter(|(_, failed)| !**failed);
        let mut wanted: Vec<usize> = good.flat_map(|(experts, _)| experts).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        if let Some(&stand_in) = wanted.first() {
            let bad = chosen.chunks_mut(k).zip(&failed).filter(|(_, failed)| **failed);
            bad.for_each(|(experts, _)| experts.fill(stand_in));
        }
        wanted
    }

    /// The experts chosen, row by row. Notes what a fallback would need, and computes `guess` along.
    fn read_back(&self, routing: &Routing, guess: Option<&Array>, rows: usize, k: usize) -> Result<Vec<usize>> {
        let mut state = self.state.borrow_mut();
        let readable = |experts| numbers::readable(experts, state.slots.experts());
        let experts = readable(&routing.experts)?;
        let all = routing.all.as_ref().map(readable).transpose()?;
        evaluate(std::iter::once(&experts).chain(&all).chain(guess))?;
        let chosen = numbers::read(&experts)?;
        state.halves.clear();
        if let Some(all) = &all {
            let big = all.dim(1) as usize;
            let all = numbers::read(all)?;
            for row in 0..rows {
                let used = chosen[row * k..(row + 1) * k].to_vec();
                let ranked = all[row * big..(row + 1) * big].iter().copied();
                let rest = ranked.filter(|e| !used.contains(e)).collect();
                state.halves.push([used, rest]);
            }
        }
        Ok(chosen)
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
    pub(super) fn expect(&self, experts: &[usize]) {
        let mut state = self.state.borrow_mut();
        if 2 * experts.len() <= state.slots.len() {
            self.fetch_ahead(&mut state.slots, experts.iter().copied(), experts, Why::LookAhead);
        }
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> Rc<RefCell<Rows>> {
        Rc::clone(&self.streaming.rows)
    }

    fn products(&self) -> Result<&Products> {
        self.pool.as_ref().map(Pool::products).ok_or(Error::Closed)
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
        let reads = (0..slots.len()).filter_map(|slot| slots.content(slot).read());
        if reads.filter(|read| !self.streaming.reader.part(read)).count() > 0 {
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
    let mut experts = numbers::read(&guess.experts)?;
    experts.sort_unstable();
    experts.dedup();
    guess.layer.expect(&experts);
    Ok(())
}

/// Slot numbers as MLX wants them.
fn ids(slots: impl Iterator<Item = Option<usize>>, shape: &[i32]) -> Result<Array> {
    let ids: Option<Vec<u32>> = slots.map(|slot| slot.map(|s| s as u32)).collect();
    let ids = ids.ok_or_else(|| Error::weights(Path::new("experts"), "an expert that was here is gone"))?;
    numbers::array(&ids, shape)
}
