//! What the routers of a pass decided, for those who count it.

use mlx_rs::Array;
use mlx_rs::ops::indexing::take_axis;
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

    /// Of the rows that get logits, `last` (uint32) or all: the sum over layers of what each kept, and all ids in one array.
    pub(crate) fn of(self, last: Option<&Array>) -> Result<(Option<Array>, Option<Routed>)> {
        let pick = |of: &Array| -> Result<Array> {
            match last {
                // The last layer computes with no others.
                Some(rows) if of.dim(0) != rows.dim(0) => Ok(take_axis(of, rows, 0)?),
                _ => Ok(of.clone()),
            }
        };
        let mut kept: Option<Array> = None;
        for layer in &self.kept {
            let layer = pick(layer)?;
            kept = Some(if let Some(sum) = kept { sum.add(layer)? } else { layer });
        }
        let Some(ids) = self.ids.filter(|ids| !ids.is_empty()) else { return Ok((kept, None)) };
        let layers = ids.iter().map(|(layer, ids)| (*layer, ids.dim(-1) as usize)).collect();
        let ids: Vec<Array> = ids.iter().map(|(_, ids)| pick(ids)).collect::<Result<_>>()?;
        Ok((kept, Some(Routed { ids: concatenate(&ids, -1)?.contiguous()?, layers })))
    }
}
