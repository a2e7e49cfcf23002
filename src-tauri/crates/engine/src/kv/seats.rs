//! Arrays of keys and values in which several caches have a seat each.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use mlx_rs::ops::indexing::{IndexOp as _, TryIndexMutOp as _};
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::{Array, Stream};

use super::GROWTH;
use crate::error::{Error, Result};

/// Keys and values of several sequences, side by side.
#[derive(Debug)]
pub(crate) struct Seats {
    layers: Vec<Layer>,
    /// Who sits where: each cache holds the number of its seat, and one that is gone leaves it free.
    taken: Vec<Weak<Cell<usize>>>,
}

/// Keys and values of one layer, each of shape `[seats, kv_heads, capacity, head_dim]`; none before the first are written.
type Layer = Option<[Array; 2]>;

impl Seats {
    /// One seat.
    pub(super) fn new(layers: usize) -> Self {
        Self { layers: vec![None; layers], taken: vec![Weak::new()] }
    }

    /// Has somebody sit down.
    pub(super) fn take(&mut self, seat: usize) -> Rc<Cell<usize>> {
        let held = Rc::new(Cell::new(seat));
        self.taken[seat] = Rc::downgrade(&held);
        held
    }

    pub(crate) fn count(&self) -> usize {
        self.taken.len()
    }

    /// Seats that are not free.
    pub(super) fn held(&self) -> usize {
        self.taken.iter().filter(|held| held.strong_count() > 0).count()
    }

    /// Positions that have room, in every layer.
    pub(super) fn capacity(&self) -> usize {
        self.layers.iter().map(|layer| layer.as_ref().map_or(0, |[keys, _]| keys.dim(2) as usize)).min().unwrap_or(0)
    }

    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flatten()
    }

    pub(super) fn bytes(&self) -> usize {
        self.arrays().map(Array::nbytes).sum()
    }

    /// Writes keys and values of one seat, each of shape `[1, kv_heads, n, head_dim]`, behind its first `len` positions,
    /// and gives those of positions `from..len + n`.
    pub(super) fn update(
        &mut self,
        layer: usize,
        seat: usize,
        rows: [&Array; 2],
        len: usize,
        from: usize,
    ) -> Result<(Array, Array)> {
        let (start, from, seat) = (len as i32, from as i32, seat as i32);
        let end = start + rows[0].dim(2);
        if self.taken.len() == 1 {
            reserve(&mut self.layers[layer], end, rows)?;
        }
        let Some([k, v]) = &mut self.layers[layer] else { unreachable!("a cache beside others has been written to") };
        for (held, rows) in [(&mut *k, rows[0]), (&mut *v, rows[1])] {
            *held = written(held, rows, [seat, start])?;
        }
        let of = |a: &Array| a.index((seat..seat + 1, .., from..end, ..));
        Ok((of(k), of(v)))
    }

    /// Writes one position of several seats: `at`, uint32 of shape `[n]`, are the places of the n rows of `keys` and
    /// `values`, each of shape `[n, head_dim]`, among all positions of all heads of all seats. Gives the keys and values
    /// of positions `from..to` of all seats, of shape `[seats, kv_heads, to - from, head_dim]`.
    pub(crate) fn scatter(
        &mut self,
        layer: usize,
        at: &Array,
        [keys, values]: [&Array; 2],
        (from, to): (i32, i32),
    ) -> Result<(Array, Array)> {
        let Some([k, v]) = &mut self.layers[layer] else { unreachable!("a cache beside others has been written to") };
        for (held, rows) in [(&mut *k, keys), (&mut *v, values)] {
            let shape = held.shape().to_vec();
            let mut flat = held.reshape(&[-1, shape[3]])?;
            flat.try_index_mut(at.clone(), rows)?;
            *held = flat.reshape(&shape)?;
        }
        Ok((k.index((.., .., from..to, ..)), v.index((.., .., from..to, ..))))
    }

    /// The places of one position of a seat, one of each head, as [`Seats::scatter`] counts them.
    pub(crate) fn places(&self, seat: usize, position: usize) -> impl Iterator<Item = u32> + use<> {
        let (heads, capacity) = self.arrays().next().map_or((0, 0), |keys| (keys.dim(1) as u32, keys.dim(2) as u32));
        let (seat, position) = (seat as u32, position as u32);
        (0..heads).map(move |head| (seat * heads + head) * capacity + position)
    }

    /// One seat's keys and values alone.
    pub(super) fn copy(&self, seat: usize) -> Result<Self> {
        let layers = self.layers.iter().map(|layer| {
            let Some([keys, values]) = layer else { return Ok(None) };
            Ok(Some([row(keys, seat).contiguous()?, row(values, seat).contiguous()?]))
        });
        Ok(Self { layers: layers.collect::<Result<_>>()?, taken: vec![Weak::new()] })
    }

    /// Room for `positions` in every layer, on every seat.
    pub(super) fn reserve(&mut self, positions: usize) -> Result<()> {
        for layer in &mut self.layers {
            if let Some([keys, values]) = layer.clone() {
                reserve(layer, positions as i32, [&keys, &values])?;
            }
        }
        Ok(())
    }

    /// Seats the only cache of each of `guests`, whose capacity is the same; gives what it is to hold from now on.
    pub(super) fn admit(&mut self, guests: &[Rc<RefCell<Self>>]) -> Result<Vec<Rc<Cell<usize>>>> {
        let free = self.taken.iter().enumerate().filter(|(_, held)| held.strong_count() == 0).map(|(seat, _)| seat);
        let free: Vec<usize> = free.take(guests.len()).collect();
        let (inside, behind) = guests.split_at(free.len());
        for (n, layer) in self.layers.iter_mut().enumerate() {
            let Some(held) = layer else { continue };
            for (side, held) in held.iter_mut().enumerate() {
                let of = |guest: &Rc<RefCell<Self>>| guest.borrow().layers[n].as_ref().map(|both| both[side].clone());
                for (guest, &seat) in inside.iter().zip(&free) {
                    let seat = seat as i32;
                    if let Some(rows) = of(guest) {
                        held.try_index_mut(seat..seat + 1, &rows)?;
                    }
                }
                let more: Vec<Array> = std::iter::once(held.clone()).chain(behind.iter().filter_map(of)).collect();
                if more.len() > 1 {
                    *held = concatenate(&more, 0)?;
                }
            }
        }
        let new = self.taken.len()..self.taken.len() + behind.len();
        self.taken.resize(new.end, Weak::new());
        Ok(free.into_iter().chain(new).map(|seat| self.take(seat)).collect())
    }

    /// Gives up free seats where they are more than the others.
    pub(super) fn close_ranks(&mut self) -> Result<()> {
        let held: Vec<_> = self.taken.iter().filter_map(Weak::upgrade).collect();
        if held.len() * 2 >= self.taken.len() {
            return Ok(());
        }
        for layer in self.layers.iter_mut().flatten() {
            for array in layer {
                let rows: Vec<Array> = held.iter().map(|seat| row(array, seat.get())).collect();
                *array = concatenate(&rows, 0)?;
            }
        }
        for (seat, held) in held.iter().enumerate() {
            held.set(seat);
        }
        self.taken = held.iter().map(Rc::downgrade).collect();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn contents(&self, seat: usize, len: usize) -> Vec<(Array, Array)> {
        let cut = |a: &Array| row(a, seat).index((.., .., 0..len as i32, ..));
        self.layers.iter().flatten().map(|[keys, values]| (cut(keys), cut(values))).collect()
    }
}

/// `held` with `rows`, of shape `[1, kv_heads, n, head_dim]`, from the position on of a seat; in place where nobody else
/// holds it. One operation, for which mlx-rs's indexing makes two views of `rows` besides, in every layer.
#[allow(unsafe_code)]
fn written(held: &Array, rows: &Array, [seat, position]: [i32; 2]) -> Result<Array> {
    let start = [seat, 0, position, 0];
    let stop: [i32; 4] = std::array::from_fn(|axis| start[axis] + rows.dim(axis as i32));
    let (steps, stream) = ([1; 4], Stream::thread_local_or_default());
    // SAFETY: the arrays and the stream live until MLX returns, and each of the three lists has an entry for each of the
    // four axes. What MLX gives is owned by nobody else, and is an array whether it succeeded or not.
    let (status, written) = unsafe {
        let mut written = mlx_sys::mlx_array_new();
        let (into, rows, stream) = (held.as_ptr(), rows.as_ptr(), stream.as_ptr());
        let [start, stop, steps] = [start.as_ptr(), stop.as_ptr(), steps.as_ptr()];
        let status = mlx_sys::mlx_slice_update(&mut written, into, rows, start, 4, stop, 4, steps, 4, stream);
        (status, Array::from_ptr(written))
    };
    if status == 0 {
        Ok(written)
    } else {
        Err(Error::Mlx(format!("{:?} cannot be written into {:?} at {position}", rows.shape(), held.shape())))
    }
}

fn row(array: &Array, seat: usize) -> Array {
    let seat = seat as i32;
    array.index(seat..seat + 1)
}

/// Room for `positions` behind what a layer holds; `like`: keys and values of the shape that it is to have.
fn reserve(layer: &mut Layer, positions: i32, like: [&Array; 2]) -> Result<()> {
    let held = layer.as_ref().map_or(0, |[keys, _]| keys.dim(2));
    if positions <= held {
        return Ok(());
    }
    let step = GROWTH as i32;
    let wanted = positions.max(held + held / 2);
    let capacity = (wanted + step - 1) / step * step;
    let room = |like: &Array| zeros_dtype(&[like.dim(0), like.dim(1), capacity - held, like.dim(3)], like.dtype());
    let (keys, values) = (room(like[0])?, room(like[1])?);
    *layer = Some(match layer.take() {
        None => [keys, values],
        Some([old_keys, old_values]) => [concatenate(&[old_keys, keys], 2)?, concatenate(&[old_values, values], 2)?],
    });
    Ok(())
}
