//! Single tokens of several sequences that attend in one operation, because their caches lie side by side.

use std::cell::RefCell;
use std::rc::Rc;

use mlx_rs::Array;
use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::ops::arange;
use mlx_rs::ops::indexing::take_axis;

use crate::error::Result;
use crate::kv::{KvCache, Seats};

/// All seats attend where at least this share of them is asked for. The others' work is thrown away; fewer attend each by
/// itself, which takes more launches but reads no keys in vain.
const SHARE_ASKED: usize = 4;

/// Rows of a pass, one token each, whose keys and values are in the same arrays.
#[derive(Debug)]
pub(crate) struct Together {
    seats: Rc<RefCell<Seats>>,
    /// The rows, ascending.
    rows: Vec<i32>,
    /// Of each row, its seat and how many positions its cache holds.
    seated: Vec<(usize, usize)>,
    /// The rows as an index, where they are not all rows of the pass.
    picked: Option<Array>,
    /// Where the rows' keys and values go, as [`Seats::scatter`] has it.
    at: Array,
    /// The row of each seat (some row's for one that is not asked for), and the seat of each row; `None` where the rows
    /// are the seats in their order.
    order: Option<(Array, Array)>,
    /// What is seen under a window, as far as a layer has asked for it.
    seen: Vec<(Option<usize>, Seen)>,
}

/// Positions that are looked at, and which of them each seat sees: bool of shape `[seats, 1, 1, to - from]`, absent where
/// it is all of them.
#[derive(Debug, Clone)]
struct Seen {
    from: i32,
    to: i32,
    mask: Option<Array>,
}

/// The rows of `caches`, one each, that attend together.
pub(crate) fn beside(caches: &[&mut KvCache]) -> Vec<Together> {
    let mut groups: Vec<(&Rc<RefCell<Seats>>, Vec<i32>)> = Vec::new();
    for (row, cache) in caches.iter().enumerate() {
        let (seats, _) = cache.place();
        match groups.iter_mut().find(|(known, _)| Rc::ptr_eq(known, seats)) {
            Some((_, rows)) => rows.push(row as i32),
            None => groups.push((seats, vec![row as i32])),
        }
    }
    let pays = |(seats, rows): &(&Rc<RefCell<Seats>>, Vec<i32>)| {
        rows.len() > 1 && rows.len() * SHARE_ASKED >= seats.borrow().count()
    };
    let of = |(seats, rows): (&Rc<RefCell<Seats>>, Vec<i32>)| {
        let seated = rows.iter().map(|&row| (caches[row as usize].place().1, caches[row as usize].len())).collect();
        Together::new(Rc::clone(seats), rows, seated, caches.len())
    };
    groups.into_iter().filter(pays).map(of).collect()
}

impl Together {
    fn new(seats: Rc<RefCell<Seats>>, rows: Vec<i32>, seated: Vec<(usize, usize)>, all: usize) -> Self {
        let index = |of: &[u32]| Array::from_slice(of, &[of.len() as i32]);
        let count = seats.borrow().count();
        let at: Vec<u32> = seated.iter().flat_map(|&(seat, len)| seats.borrow().places(seat, len)).collect();
        let in_order = seated.iter().map(|&(seat, _)| seat).eq(0..count);
        let order = (!in_order).then(|| {
            let mut row_of = vec![0; count];
            for (row, &(seat, _)) in seated.iter().enumerate() {
                row_of[seat] = row as u32;
            }
            let seat_of: Vec<u32> = seated.iter().map(|&(seat, _)| seat as u32).collect();
            (index(&row_of), index(&seat_of))
        });
        let picked = (rows.len() < all).then(|| Array::from_slice(&rows, &[rows.len() as i32]));
        Self { at: index(&at), order, picked, seats, rows, seated, seen: Vec::new() }
    }

    pub(crate) fn rows(&self) -> &[i32] {
        &self.rows
    }

    /// Writes the rows' keys and values and attends to what is there by then. `q` of shape `[all, heads, 1, head_dim]`,
    /// keys and values of shape `[all, kv_heads, 1, head_dim]`, of all rows of the pass, give `[rows, heads, 1, head_dim]`.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        window: Option<usize>,
        q: &Array,
        kv: [&Array; 2],
        scale: f32,
    ) -> Result<Array> {
        let pick = |of: &Array| -> Result<Array> {
            Ok(if let Some(rows) = &self.picked { take_axis(of, rows, 0)? } else { of.clone() })
        };
        let flat = |of: &Array| -> Result<Array> { Ok(pick(of)?.reshape(&[-1, of.dim(-1)])?) };
        let (k, v, mut q) = (flat(kv[0])?, flat(kv[1])?, pick(q)?);
        let Seen { from, to, mask } = self.seen(window)?;
        let (keys, values) = self.seats.borrow_mut().scatter(layer, &self.at, [&k, &v], (from, to))?;
        if let Some((row_of, _)) = &self.order {
            q = take_axis(q, row_of, 0)?;
        }
        let mask = mask.as_ref().map(Mask::from);
        let attended = scaled_dot_product_attention(q, keys, values, scale, mask, None)?;
        Ok(if let Some((_, seat_of)) = &self.order { take_axis(attended, seat_of, 0)? } else { attended })
    }

    fn seen(&mut self, window: Option<usize>) -> Result<Seen> {
        if let Some((_, seen)) = self.seen.iter().find(|(known, _)| *known == window) {
            return Ok(seen.clone());
        }
        // A query at position `len` sees what is at most `window - 1` positions back.
        let first = |len: usize| window.map_or(0, |w| (len + 1).saturating_sub(w)) as i32;
        let (mut from, mut to, mut equal) = (i32::MAX, 0, true);
        let mut ranges = vec![(0, i32::MAX); self.seats.borrow().count()];
        for &(seat, len) in &self.seated {
            let range = (first(len), len as i32 + 1);
            equal &= to == 0 || (from, to) == range;
            (from, to) = (from.min(range.0), to.max(range.1));
            ranges[seat] = range;
        }
        let mask = if equal {
            None
        } else {
            let column =
                |of: fn(&(i32, i32)) -> i32| Array::from_iter(ranges.iter().map(of), &[ranges.len() as i32, 1, 1, 1]);
            let positions = arange::<_, i32>(from, to, 1)?;
            let visible = positions.lt(column(|range| range.1))?;
            Some(if window.is_some() { visible.logical_and(positions.ge(column(|range| range.0))?)? } else { visible })
        };
        let seen = Seen { from, to, mask };
        self.seen.push((window, seen.clone()));
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops::indexing::IndexOp as _;

    use super::super::{Batch, Logits, Model};
    use super::*;
    use crate::policy::Choice;

    fn logits(model: &Model, batch: &mut Batch<'_>) -> Array {
        let logits = model.forward(batch, Choice::All, Logits::Last).expect("a pass").logits.expect("logits");
        logits.eval().expect("evaluated");
        logits
    }

    /// Sequences of several lengths, of which some outgrow their arrays, some pause, one leaves and one comes.
    #[test]
    fn rows_get_what_each_gets_alone() {
        for name in ["micro/olmoe-sharded", "micro/qwen2moe-gqa", "micro/mixtral-window"] {
            let model = Model::fixture(name);
            let read = |length: u32| {
                let prompt: Vec<u32> = (0..length).map(|n| 40 + n % 60).collect();
                let mut cache = model.cache();
                logits(&model, &mut Batch::new([(prompt.as_slice(), &mut cache)]));
                Some(cache)
            };
            let lengths = [3, 40, 253, 254, 300];
            let (mut alone, mut beside) = (lengths.map(read), lengths.map(read));
            let steps: [&[usize]; 9] = [
                &[0, 1, 2],
                &[0, 1, 2, 3],
                &[1],
                &[0, 1, 2, 3, 4],
                &[0, 2],
                &[1, 2, 3],
                &[1, 2, 3, 4],
                &[0, 1, 2, 3, 4],
                &[3, 4],
            ];
            for (step, rows) in steps.into_iter().enumerate() {
                if step == 5 {
                    // The first leaves its seat, and another takes its place.
                    beside[0] = None;
                    (alone[0], beside[0]) = (read(9), read(9));
                }
                let tokens: Vec<u32> = rows.iter().map(|&row| (70 + 7 * step + row) as u32).collect();
                let caches =
                    beside.iter_mut().enumerate().filter(|(n, _)| rows.contains(n)).filter_map(|(_, c)| c.as_mut());
                let ids = Array::from_slice(&tokens, &[tokens.len() as i32]);
                let together = logits(&model, &mut Batch::of_tokens(ids, caches).expect("a batch"));
                for (n, (&row, token)) in rows.iter().zip(&tokens).enumerate() {
                    let cache = alone[row].as_mut().expect("a cache");
                    let expected = logits(&model, &mut Batch::new([(std::slice::from_ref(token), cache)]));
                    let found = together.index(n as i32..n as i32 + 1);
                    assert!(
                        found.all_close(&expected, 1e-4, 1e-4, false).expect("compared"),
                        "{name}, step {step}, row {row}"
                    );
                }
            }
            for (alone, beside) in alone.iter().flatten().zip(beside.iter().flatten()) {
                for ((k, v), (expected_k, expected_v)) in beside.contents().iter().zip(alone.contents()) {
                    assert!(k.all_close(&expected_k, 1e-4, 1e-4, false).expect("compared"), "{name}");
                    assert!(v.all_close(&expected_v, 1e-4, 1e-4, false).expect("compared"), "{name}");
                }
            }
        }
    }
}
