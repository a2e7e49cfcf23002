//! What the routers of a pass decided, for those who count it.

use mlx_rs::Array;
use mlx_rs::ops::{concatenate, select};

use super::moe::Routing;
use crate::error::Result;
use crate::policy::Choice;

/// In the place of an expert that was not computed with.
pub(crate) const NO_EXPERT: u32 = u32::MAX;

/// Expert ids of a pass, on their way.
#[derive(Debug)]
pub(crate) struct Routed {
    /// uint32, one row per row that got logits: its ids of every layer, one layer after the other.
    pub(crate) ids: Array,
    /// The layers that have experts, and how many of a row's ids are theirs.
    pub(crate) layers: Vec<(usize, usize)>,
}

/// What the layers of a pass tell, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Under [`Choice::Mass`], the experts that each row kept, int32 of shape `[rows]`.
    kept: Vec<Array>,
    /// Where somebody watches, the layer and its ids, uint32 of shape `[rows, k]`.
    ids: Option<Vec<(usize, Array)>>,
}

impl Told {
    pub(crate) fn new(watched: bool) -> Self {
        Self { kept: Vec::new(), ids: watched.then(Vec::new) }
    }

    pub(crate) fn tell(&mut self, layer: usize, routing: &Routing, choice: Choice) -> Result<()> {
        let cut = match choice {
            Choice::Mass { .. } => Some(routing.weights.gt(Array::from_f32(0.0))?),
            Choice::All | Choice::Half { .. } => None,
        };
        if let Some(kept) = &cut {
            self.kept.push(kept.as_type::<i32>()?.sum_axis(-1, None)?);
        }
        if let Some(ids) = &mut self.ids {
            let experts = match &cut {
                Some(kept) => select(kept, &routing.experts, Array::from_slice(&[NO_EXPERT], &[1]))?,
                None => routing.experts.clone(),
            };
            ids.push((layer, experts));
        }
        Ok(())
    }

    /// Sum over layers of what each row kept: int32 of shape `[rows]`.
    pub(crate) fn kept(&self) -> Result<Option<Array>> {
        let mut layers = self.kept.iter();
        let Some(first) = layers.next() else { return Ok(None) };
        let mut total = first.clone();
        for layer in layers {
            total = total.add(layer)?;
        }
        Ok(Some(total))
    }

    /// All ids in one array, of the rows that `pick` leaves.
    pub(crate) fn routed(self, pick: impl Fn(&Array) -> Result<Array>) -> Result<Option<Routed>> {
        let Some(ids) = self.ids.filter(|ids| !ids.is_empty()) else { return Ok(None) };
        let layers = ids.iter().map(|(layer, ids)| (*layer, ids.dim(-1) as usize)).collect();
        let ids: Vec<Array> = ids.into_iter().map(|(_, ids)| ids).collect();
        Ok(Some(Routed { ids: pick(&concatenate(&ids, -1)?)?.contiguous()?, layers }))
    }
}
