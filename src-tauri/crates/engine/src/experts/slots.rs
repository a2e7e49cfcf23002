//! Which expert of a layer lies in which slot of its memory, and which one leaves when another must come.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::reader::Ticket;

/// Which expert leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// The one not used for the longest time.
    Lru,
    /// The one used least often, where older uses count less and less.
    #[default]
    Lfu,
}

/// What a use counts for after one more pass over the layer, under [`Replacement::Lfu`].
const AGEING: f64 = 0.98;

/// Why an expert is fetched ahead of need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A token falls back.
    Fallback,
    /// The layer before sees an input that this layer's router would send there.
    LookAhead,
}

/// What lies in a slot.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Nothing,
    /// A read is on its way. `ahead`: why, where nobody has asked for it yet.
    Coming {
        expert: usize,
        ticket: Arc<Ticket>,
        ahead: Option<Why>,
    },
    /// A read was given up and may still write here, whatever it was for.
    Lost(Arc<Ticket>),
    /// Ready to compute with. `untouched`: why it was fetched, where nobody has asked for it yet.
    Here {
        expert: usize,
        untouched: Option<Why>,
    },
}

impl Content {
    fn expert(&self) -> Option<usize> {
        match self {
            Self::Nothing | Self::Lost(_) => None,
            Self::Coming { expert, .. } | Self::Here { expert, .. } => Some(*expert),
        }
    }

    /// The read that may write here.
    pub(super) fn read(&self) -> Option<&Arc<Ticket>> {
        match self {
            Self::Coming { ticket, .. } | Self::Lost(ticket) => Some(ticket),
            Self::Nothing | Self::Here { .. } => None,
        }
    }
}

/// The slots of one layer.
#[derive(Debug)]
pub(super) struct Slots {
    contents: Vec<Content>,
    replacement: Replacement,
    passes: u64,
    /// By expert: the pass that used it last, and how often it was used as of then.
    uses: Vec<(u64, f64)>,
}

impl Slots {
    pub(super) fn new(slots: usize, experts: usize, replacement: Replacement) -> Self {
        Self { contents: vec![Content::Nothing; slots], replacement, passes: 0, uses: vec![(0, 0.0); experts] }
    }

    pub(super) fn len(&self) -> usize {
        self.contents.len()
    }

    /// How many experts the layer has, here or not.
    pub(super) fn experts(&self) -> usize {
        self.uses.len()
    }

    pub(super) fn find(&self, expert: usize) -> Option<usize> {
        self.contents.iter().position(|c| c.expert() == Some(expert))
    }

    pub(super) fn content(&self, slot: usize) -> &Content {
        &self.contents[slot]
    }

    pub(super) fn set(&mut self, slot: usize, content: Content) {
        self.contents[slot] = content;
    }

    /// The slots whose experts are worth most, at most so many.
    pub(super) fn worthiest(&self, most: usize) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..self.len()).filter(|&s| self.contents[s].expert().is_some()).collect();
        slots.sort_by(|&a, &b| self.worth(b).total_cmp(&self.worth(a)));
        slots.truncate(most);
        slots
    }

    /// Becomes `slots` slots, the first of them with what lay in `kept`.
    pub(super) fn resize(&mut self, kept: &[usize], slots: usize) {
        let kept = kept.iter().map(|&slot| self.contents[slot].clone());
        self.contents = kept.chain(std::iter::repeat(Content::Nothing)).take(slots).collect();
    }

    /// Counts a pass that uses `experts`.
    pub(super) fn used(&mut self, experts: &[usize]) {
        self.passes += 1;
        for &expert in experts {
            let count = self.count(expert) + 1.0;
            self.uses[expert] = (self.passes, count);
        }
    }

    fn count(&self, expert: usize) -> f64 {
        let (last, count) = self.uses[expert];
        count * AGEING.powf((self.passes - last) as f64)
    }

    /// The slot to be overwritten next, an empty one before any other. Never one of `kept`, nor one that is being read
    /// into.
    pub(super) fn victim(&self, kept: &[usize]) -> Option<usize> {
        let free = |slot: &usize| self.contents[*slot].read().is_none() && !kept.contains(slot);
        (0..self.contents.len()).filter(free).min_by(|&a, &b| self.worth(a).total_cmp(&self.worth(b)))
    }

    /// Whether one more read would have every slot being read into: one is kept from reads ahead of need, so that what is
    /// asked for gets in though no read ever ends.
    pub(super) fn last_is_next(&self) -> bool {
        self.contents.iter().filter(|content| content.read().is_some()).count() + 1 >= self.contents.len()
    }

    /// What leaves first is worth least.
    fn worth(&self, slot: usize) -> f64 {
        match (self.contents[slot].expert(), self.replacement) {
            (None, _) => f64::NEG_INFINITY,
            (Some(expert), Replacement::Lru) => self.uses[expert].0 as f64,
            (Some(expert), Replacement::Lfu) => self.count(expert),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(replacement: Replacement) -> Slots {
        let mut slots = Slots::new(2, 4, replacement);
        slots.set(0, Content::Here { expert: 0, untouched: None });
        slots.set(1, Content::Here { expert: 1, untouched: None });
        slots
    }

    #[test]
    fn an_empty_slot_goes_first() {
        let mut slots = filled(Replacement::Lru);
        slots.set(0, Content::Nothing);
        assert_eq!(slots.victim(&[]), Some(0));
        assert_eq!(slots.victim(&[0]), Some(1));
        assert_eq!(slots.victim(&[0, 1]), None);
    }

    #[test]
    fn recent_use_or_frequent_use_protects() {
        let uses: &[&[usize]] = &[&[0], &[0], &[0], &[1]];
        let mut lru = filled(Replacement::Lru);
        let mut lfu = filled(Replacement::Lfu);
        for experts in uses {
            lru.used(experts);
            lfu.used(experts);
        }
        assert_eq!((lru.victim(&[]), lfu.victim(&[])), (Some(0), Some(1)));
    }

    #[test]
    fn the_most_useful_move_to_fewer_slots_and_back_to_more() {
        let mut slots = Slots::new(4, 4, Replacement::Lru);
        for expert in 0..3 {
            slots.set(expert, Content::Here { expert, untouched: None });
            slots.used(&[2 - expert]);
        }
        let kept = slots.worthiest(2);
        assert_eq!(kept, [0, 1]);
        slots.resize(&kept, 2);
        assert_eq!((slots.len(), slots.find(0), slots.find(1), slots.find(2)), (2, Some(0), Some(1), None));
        slots.resize(&slots.worthiest(5), 5);
        assert_eq!((slots.len(), slots.find(0), slots.victim(&[])), (5, Some(0), Some(2)));
    }

    #[test]
    fn old_uses_fade() {
        let mut slots = filled(Replacement::Lfu);
        for _ in 0..5 {
            slots.used(&[0]);
        }
        for _ in 0..200 {
            slots.used(&[]);
        }
        slots.used(&[1]);
        assert_eq!(slots.victim(&[]), Some(0));
    }
}
