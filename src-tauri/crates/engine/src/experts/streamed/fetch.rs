//! How experts come into slots: what is here, what is on its way, what is read next, and what does not arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::super::reader::{Failure, Ticket, Urgency, Waited};
use super::super::slots::{Content, Slots, Why};
use super::{Pool, Streamed};
use crate::error::{Error, Result};
use crate::statistics::{ExpertCache, Prefetch};

/// Why an expert that was waited for is not here.
enum Absent {
    Failed {
        failure: Failure,
        /// Whether it was fetched ahead of need.
        ahead: bool,
    },
    /// Nobody wants the pass any more.
    Gone,
}

impl Streamed {
    /// Takes back the reads that have not begun. Whether no read is on its way any more.
    pub(super) fn rest(&self, slots: &mut Slots) -> bool {
        self.settle_all(slots);
        self.withdraw_all(slots);
        (0..slots.len()).all(|slot| slots.content(slot).read().is_none())
    }

    /// Sorts the experts wanted into those here, those on their way, and those that are nowhere.
    pub(super) fn look_up(&self, slots: &mut Slots, wanted: &[usize]) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let (mut here, mut coming, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        self.settle_all(slots);
        let mut meter = self.streaming.meter.borrow_mut();
        for &expert in wanted {
            let Some(slot) = slots.find(expert) else {
                missing.push(expert);
                continue;
            };
            match slots.content(slot).clone() {
                Content::Nothing | Content::Lost(_) => missing.push(expert),
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

    /// Turns the reads that have ended into what they brought: an expert that was fetched ahead and is not wanted makes
    /// room like any other.
    fn settle_all(&self, slots: &mut Slots) {
        let mut meter = self.streaming.meter.borrow_mut();
        (0..slots.len()).for_each(|slot| self.settle(slots, slot, &mut meter));
    }

    /// Turns a read that has ended into what it brought.
    fn settle(&self, slots: &mut Slots, slot: usize, meter: &mut ExpertCache) {
        let content = slots.content(slot);
        let Some(ended) = content.read().and_then(|ticket| ticket.ended()) else { return };
        let content = match content {
            Content::Coming { expert, ahead, .. } if ended.is_ok() => {
                meter.bytes_read += self.expert_bytes();
                Content::Here { expert: *expert, untouched: *ahead }
            }
            _ => Content::Nothing,
        };
        slots.set(slot, content);
    }

    /// Begins to read experts of `todo`, as many as there are slots beside those of `kept`. When they do not all fit,
    /// only half of the slots are used at a time, so that one half is read while the other is computed.
    pub(super) fn fetch(&self, slots: &mut Slots, todo: &mut VecDeque<usize>, kept: &[usize]) -> Vec<usize> {
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
            Some(_) if slots.last_is_next() => return None,
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
    pub(super) fn fetch_ahead(
        &self,
        slots: &mut Slots,
        experts: impl Iterator<Item = usize>,
        kept: &[usize],
        why: Why,
    ) {
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
                Content::Coming { .. } | Content::Lost(_) => false,
                Content::Nothing | Content::Here { .. } => true,
            }
        })
    }

    /// Waits for a read that nobody in this pass asked for, so that another can take its slot. False where there is none
    /// that ends.
    ///
    /// # Errors
    /// [`Error::Closed`] where nobody wants the pass any more.
    pub(super) fn wait_for_room(&self, slots: &mut Slots) -> Result<bool> {
        for slot in 0..slots.len() {
            let Content::Coming { ticket, .. } = slots.content(slot).clone() else { continue };
            match self.wait(&ticket) {
                Waited::Ended(_) => {
                    self.settle(slots, slot, &mut self.streaming.meter.borrow_mut());
                    return Ok(true);
                }
                Waited::Withdrawn(_) => {
                    slots.set(slot, Content::Nothing);
                    return Ok(true);
                }
                Waited::GivenUp(_) => slots.set(slot, Content::Lost(ticket)),
                Waited::Gone => return Err(Error::Closed),
            }
        }
        Ok(false)
    }

    fn wait(&self, ticket: &Arc<Ticket>) -> Waited {
        self.streaming.reader.wait(ticket, || self.streaming.rows.borrow().given_up())
    }

    /// Takes back every read that has not begun: nobody waits for it any more.
    pub(super) fn withdraw_all(&self, slots: &mut Slots) {
        for slot in 0..slots.len() {
            if slots.content(slot).read().is_some_and(|ticket| self.streaming.reader.withdraw(ticket)) {
                slots.set(slot, Content::Nothing);
            }
        }
    }

    /// Waits until each of `coming` is here, or fails the rows that chose it; gives those that are here. What was fetched
    /// ahead is not to fail anybody: it goes into `todo`, to be read again on demand.
    pub(super) fn await_all(
        &self,
        slots: &mut Slots,
        coming: &[usize],
        todo: &mut VecDeque<usize>,
        chosen: &[usize],
        k: usize,
    ) -> Result<Vec<usize>> {
        let began = Instant::now();
        let mut here = Vec::new();
        for &expert in coming {
            if !self.is_wanted(expert, chosen, k) {
                continue;
            }
            match self.await_one(slots, expert) {
                Ok(()) => here.push(expert),
                Err(Absent::Failed { ahead: true, .. }) => todo.push_back(expert),
                Err(Absent::Failed { failure, .. }) => self.lacks(expert, &failure.0, chosen, k)?,
                Err(Absent::Gone) => return Err(Error::Closed),
            }
        }
        self.streaming.meter.borrow_mut().wait_seconds += began.elapsed().as_secs_f64();
        Ok(here)
    }

    /// Waits for an expert on its way.
    fn await_one(&self, slots: &mut Slots, expert: usize) -> Result<(), Absent> {
        let failed = |failure, ahead| Err(Absent::Failed { failure, ahead });
        let Some(slot) = slots.find(expert) else { return failed(Failure("its slot was lost".to_owned()), false) };
        let Content::Coming { ticket, .. } = slots.content(slot).clone() else { return Ok(()) };
        let (content, ended) = match self.wait(&ticket) {
            Waited::Ended(Ok(())) => {
                self.streaming.meter.borrow_mut().bytes_read += self.expert_bytes();
                (Content::Here { expert, untouched: None }, Ok(()))
            }
            Waited::Ended(Err(failure)) | Waited::Withdrawn(failure) => {
                (Content::Nothing, failed(failure, ticket.is_ahead()))
            }
            Waited::GivenUp(failure) => (Content::Lost(Arc::clone(&ticket)), failed(failure, ticket.is_ahead())),
            Waited::Gone => return Err(Absent::Gone),
        };
        slots.set(slot, content);
        ended
    }

    /// Whether a row that has not failed chose this expert.
    pub(super) fn is_wanted(&self, expert: usize, chosen: &[usize], k: usize) -> bool {
        let rows = self.streaming.rows.borrow();
        rows_of(expert, chosen, k).any(|row| !rows.has_failed(row))
    }

    /// Fails the rows that chose this expert.
    ///
    /// # Errors
    /// Why, where no row is left.
    pub(super) fn lacks(&self, expert: usize, what: &str, chosen: &[usize], k: usize) -> Result<()> {
        let error = Error::Storage { path: self.source.path().to_owned(), expert, what: what.to_owned() };
        self.streaming.rows.borrow_mut().fail(rows_of(expert, chosen, k), error)
    }

    fn expert_bytes(&self) -> u64 {
        self.pool.as_ref().map_or(0, Pool::expert_bytes)
    }
}

/// The rows that chose an expert.
fn rows_of(expert: usize, chosen: &[usize], k: usize) -> impl Iterator<Item = usize> {
    chosen.chunks(k).enumerate().filter(move |(_, experts)| experts.contains(&expert)).map(|(row, _)| row)
}

fn counted(meter: &mut ExpertCache, why: Why) -> &mut Prefetch {
    match why {
        Why::Fallback => &mut meter.fallback_prefetch,
        Why::LookAhead => &mut meter.look_ahead,
    }
}

pub(super) fn slots_of(slots: &Slots, experts: &[usize]) -> Vec<usize> {
    experts.iter().filter_map(|&e| slots.find(e)).collect()
}
