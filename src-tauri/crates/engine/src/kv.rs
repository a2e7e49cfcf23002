//! Keys and values of the sequences that are decoded.

mod seats;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlx_rs::Array;
use mlx_rs::transforms::eval;

pub(crate) use seats::Seats;

use crate::error::Result;

/// Positions added at least when a cache is full; longer caches grow by half of what they hold, so that the cost of
/// copying stays a constant share of decoding.
const GROWTH: usize = 256;

/// Keys and values of all layers for the first [`KvCache::len`] positions of a sequence.
///
/// Rolling back is shortening: the arrays keep their capacity and later positions are written over. Caches of equal
/// capacity [may share arrays](side_by_side), each its own seat in them.
#[derive(Debug)]
pub(crate) struct KvCache {
    seats: Rc<RefCell<Seats>>,
    seat: Rc<Cell<usize>>,
    len: usize,
}

impl KvCache {
    pub(crate) fn new(layers: usize) -> Self {
        Self::holding(Seats::new(layers), 0)
    }

    fn holding(mut seats: Seats, len: usize) -> Self {
        let seat = seats.take(0);
        Self { seats: Rc::new(RefCell::new(seats)), seat, len }
    }

    /// Positions that count.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the positions from `len` on, in every layer.
    pub(crate) fn truncate(&mut self, len: usize) {
        debug_assert!(len <= self.len);
        self.len = len.min(self.len);
    }

    /// Counts `n` positions that every layer has been given.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// Writes keys and values of shape `[1, kv_heads, n, head_dim]` behind the positions that count, and gives those
    /// of positions `from..len + n`.
    pub(crate) fn update(&mut self, layer: usize, keys: &Array, values: &Array, from: usize) -> Result<(Array, Array)> {
        self.seats.borrow_mut().update(layer, self.seat.get(), [keys, values], self.len, from)
    }

    /// A copy that shares nothing.
    pub(crate) fn copy(&self) -> Result<Self> {
        let copy = self.seats.borrow().copy(self.seat.get())?;
        // Until it has been made, nothing can be written in place into what it is made of.
        eval(copy.arrays())?;
        Ok(Self::holding(copy, self.len))
    }

    /// The same cache, in arrays of its own.
    pub(crate) fn alone(self) -> Result<Self> {
        if self.seats.borrow().count() == 1 { Ok(self) } else { self.copy() }
    }

    /// The arrays themselves, for an evaluation that must not leave them behind.
    pub(crate) fn arrays(&self) -> Vec<Array> {
        self.seats.borrow().arrays().cloned().collect()
    }

    /// Where the keys and values are.
    pub(crate) fn place(&self) -> (&Rc<RefCell<Seats>>, usize) {
        (&self.seats, self.seat.get())
    }

    /// Keys and values that count, layer by layer.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<(Array, Array)> {
        self.seats.borrow().contents(self.seat.get(), self.len)
    }

    fn capacity(&self) -> usize {
        self.seats.borrow().capacity()
    }

    /// Bytes held, capacity included.
    pub(crate) fn bytes(&self) -> usize {
        let seats = self.seats.borrow();
        seats.bytes() / seats.count()
    }
}

/// Gives each of `caches` room for one more position, and brings those of equal capacity into the same arrays, where one
/// operation attends for all of them.
///
/// A cache joins once, when it is first decoded beside another: those that share arrays already stay where they are,
/// whichever of them a pass is about.
pub(crate) fn side_by_side(caches: &mut [&mut KvCache]) -> Result<()> {
    make_room(caches)?;
    let mut capacities: Vec<usize> = caches.iter().map(|cache| cache.capacity()).collect();
    capacities.sort_unstable();
    capacities.dedup();
    for equal in capacities {
        let alike = caches.iter().filter(|cache| cache.capacity() == equal);
        let Some(host) = alike.max_by_key(|cache| cache.seats.borrow().count()) else { continue };
        let host = Rc::clone(&host.seats);
        let joins = |cache: &KvCache| cache.seats.borrow().count() == 1 && !Rc::ptr_eq(&cache.seats, &host);
        let newcomers = caches.iter_mut().filter(|cache| cache.capacity() == equal && joins(cache));
        let newcomers: Vec<&mut &mut KvCache> = newcomers.collect();
        let guests: Vec<_> = newcomers.iter().map(|cache| Rc::clone(&cache.seats)).collect();
        let seats = host.borrow_mut().admit(&guests)?;
        for (cache, seat) in newcomers.into_iter().zip(seats) {
            cache.seats = Rc::clone(&host);
            cache.seat = seat;
        }
    }
    Ok(())
}

/// Gives each cache room for one more position: on all seats of its arrays where most of them need it, else in arrays of
/// its own.
fn make_room(caches: &mut [&mut KvCache]) -> Result<()> {
    for n in 0..caches.len() {
        let seats = Rc::clone(&caches[n].seats);
        seats.borrow_mut().close_ranks()?;
        let (capacity, held) = (seats.borrow().capacity(), seats.borrow().held());
        let is_full = |cache: &&mut KvCache| Rc::ptr_eq(&cache.seats, &seats) && cache.len >= capacity;
        if !is_full(&caches[n]) {
            continue;
        }
        if caches.iter().filter(|cache| is_full(cache)).count() * 2 < held {
            *caches[n] = caches[n].copy()?;
        }
        caches[n].seats.borrow_mut().reserve(caches[n].len + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops::indexing::IndexOp as _;

    use super::*;
    use crate::model::{Batch, Logits, Model};
    use crate::policy::Choice;

    const LITTLE: Choice = Choice::Half { renormalize: false };

    fn pass(model: &Model, cache: &mut KvCache, tokens: &[u32], choice: Choice) {
        let output = model.forward(&mut Batch::new([(tokens, cache)]), choice, Logits::Last).expect("a pass");
        output.logits.expect("logits").eval().expect("evaluated");
    }

    fn bits(cache: &KvCache) -> Vec<Vec<u32>> {
        let arrays = cache.contents().into_iter().flat_map(|(k, v)| [k, v]);
        arrays
            .map(|a| {
                let a = a.contiguous().expect("contiguous");
                a.try_as_slice::<f32>().expect("values").iter().map(|x| x.to_bits()).collect()
            })
            .collect()
    }

    #[test]
    fn after_a_fallback_the_cache_is_the_big_models_bit_for_bit() {
        for name in ["micro/olmoe-sharded", "micro/qwen2moe-gqa", "micro/mixtral-window", "micro/olmoe-mlx-4bit"] {
            let model = Model::fixture(name);
            let prompt: Vec<u32> = (40..70).collect();
            let (mut direct, mut fallen) = (model.cache(), model.cache());
            for cache in [&mut direct, &mut fallen] {
                pass(&model, cache, &prompt, Choice::All);
            }
            for token in 100..104 {
                pass(&model, &mut direct, &[token], Choice::All);
                pass(&model, &mut fallen, &[token], LITTLE);
                let little = bits(&fallen);
                fallen.truncate(fallen.len() - 1);
                pass(&model, &mut fallen, &[token], Choice::All);
                assert_ne!(little, bits(&fallen), "{name}: the little pass writes other values");
                assert_eq!(bits(&direct), bits(&fallen), "{name}");
            }
        }
    }

    #[test]
    fn growing_keeps_what_was_written() {
        let mut cache = KvCache::new(1);
        let row = |x: f32| Array::from_slice(&[x, x, x, x], &[1, 2, 1, 2]);
        for n in 0..(2 * GROWTH + 3) {
            cache.update(0, &row(n as f32), &row(-(n as f32)), 0).expect("written");
            cache.advance(1);
        }
        let (keys, values) = &cache.contents()[0];
        assert_eq!(keys.shape(), [1, 2, (2 * GROWTH + 3) as i32, 2]);
        for n in [0, GROWTH - 1, GROWTH, 2 * GROWTH + 2] {
            let at = |a: &Array| a.index((0, 1, n as i32, 0)).item_exact::<f32>();
            assert_eq!((at(keys), at(values)), (n as f32, -(n as f32)));
        }
    }

    /// Caches of one position in one layer, all of the same capacity.
    fn caches(count: usize) -> Vec<KvCache> {
        let of = |n| {
            let mut cache = KvCache::new(1);
            let row = Array::from_slice(&[n as f32; 4], &[1, 2, 1, 2]);
            cache.update(0, &row, &row, 0).expect("written");
            cache.advance(1);
            cache
        };
        (0..count).map(of).collect()
    }

    fn seats(cache: &KvCache) -> usize {
        cache.place().0.borrow().count()
    }

    fn firsts(caches: &[KvCache]) -> Vec<f32> {
        caches.iter().map(|cache| cache.contents()[0].0.index((0, 0, 0, 0)).item_exact::<f32>()).collect()
    }

    #[test]
    fn caches_of_equal_capacity_share_arrays_and_take_free_seats() {
        let mut all = caches(5);
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        assert_eq!((seats(&all[0]), firsts(&all)), (5, vec![0.0, 1.0, 2.0, 3.0, 4.0]));
        all.remove(1);
        all.extend(caches(1));
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        assert_eq!((seats(&all[0]), firsts(&all)), (5, vec![0.0, 2.0, 3.0, 4.0, 0.0]));
        assert_eq!(all[0].bytes() * 5, all[0].place().0.borrow().bytes());
        all.drain(1..4);
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        assert_eq!((seats(&all[0]), firsts(&all)), (2, vec![0.0, 0.0]));
    }

    #[test]
    fn one_that_outgrows_the_others_leaves_them() {
        let mut all = caches(3);
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        all[2].advance(GROWTH - 1);
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        assert_eq!(all.iter().map(seats).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(all.iter().map(KvCache::capacity).collect::<Vec<_>>(), [GROWTH, GROWTH, 2 * GROWTH]);
        all[0].advance(GROWTH - 1);
        all[1].advance(GROWTH - 1);
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        assert_eq!(firsts(&all), [0.0, 1.0, 2.0]);
        assert!(all.iter().all(|cache| cache.capacity() == 2 * GROWTH));
    }

    #[test]
    fn what_is_kept_of_a_cache_holds_nothing_of_the_others() {
        let mut all = caches(3);
        side_by_side(&mut all.iter_mut().collect::<Vec<_>>()).expect("seated");
        let kept = all.remove(1).alone().expect("copied");
        assert_eq!((seats(&kept), firsts(&[kept])), (1, vec![1.0]));
    }
}
