//! The rows of one pass: tokens of several sequences, one after the other.

use std::ops::Range;

use mlx_rs::Array;

use super::together::{Together, beside};
use crate::error::Result;
use crate::kv::{KvCache, side_by_side};

/// Tokens of one sequence in a pass, and its cache.
#[derive(Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) start: i32,
    pub(crate) tokens: i32,
    pub(crate) cache: &'a mut KvCache,
}

impl Segment<'_> {
    pub(crate) fn rows(&self) -> Range<i32> {
        self.start..self.start + self.tokens
    }
}

/// All rows of a pass. Attention sees segments; everything else sees rows.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// Token ids, uint32 of shape `[rows]`.
    pub(crate) tokens: Array,
    pub(crate) segments: Vec<Segment<'a>>,
    /// Of single tokens: those whose caches lie side by side.
    pub(crate) together: Vec<Together>,
    /// The segments that attend each by itself.
    pub(crate) apart: Vec<usize>,
    /// Of each row, its place among those together and then those apart, uint32 of shape `[rows]`; `None` where that is
    /// the rows' own order.
    pub(crate) places: Option<Array>,
    /// Whether the pass is to tell which experts it was computed with.
    pub(crate) watched: bool,
}

impl<'a> Batch<'a> {
    /// One segment per sequence, in the order given; no segment is empty.
    pub(crate) fn new<'t>(sequences: impl IntoIterator<Item = (&'t [u32], &'a mut KvCache)>) -> Self {
        let mut ids = Vec::new();
        let mut segments = Vec::new();
        for (tokens, cache) in sequences {
            segments.push(Segment { start: ids.len() as i32, tokens: tokens.len() as i32, cache });
            ids.extend_from_slice(tokens);
        }
        let tokens = Array::from_slice(&ids, &[ids.len() as i32]);
        let apart = (0..segments.len()).collect();
        Self { tokens, segments, together: Vec::new(), apart, places: None, watched: false }
    }

    /// One token per sequence, uint32 of shape `[sequences]`, perhaps not computed yet. Brings the caches side by side.
    pub(crate) fn of_tokens(tokens: Array, caches: impl IntoIterator<Item = &'a mut KvCache>) -> Result<Self> {
        let mut caches: Vec<&'a mut KvCache> = caches.into_iter().collect();
        side_by_side(&mut caches)?;
        let together = beside(&caches);
        let mut order: Vec<usize> = together.iter().flat_map(Together::rows).map(|&row| row as usize).collect();
        let apart: Vec<usize> = (0..caches.len()).filter(|row| !order.contains(row)).collect();
        order.extend(&apart);
        let places = (!order.is_sorted()).then(|| {
            let mut places: Vec<u32> = (0..order.len() as u32).collect();
            places.sort_unstable_by_key(|&place| order[place as usize]);
            Array::from_slice(&places, &[places.len() as i32])
        });
        let segment = |(row, cache)| Segment { start: row as i32, tokens: 1, cache };
        let segments = caches.into_iter().enumerate().map(segment).collect();
        Ok(Self { tokens, segments, together, apart, places, watched: false })
    }

    pub(crate) fn is_single_tokens(&self) -> bool {
        self.segments.iter().all(|s| s.tokens == 1)
    }

    /// Position of each segment's first token, int32 of shape `[segments]`.
    pub(crate) fn positions(&self) -> Array {
        let offsets: Vec<i32> = self.segments.iter().map(|s| s.cache.len() as i32).collect();
        Array::from_slice(&offsets, &[offsets.len() as i32])
    }

    /// Position of each row's token.
    pub(crate) fn row_positions(&self) -> impl Iterator<Item = usize> {
        self.segments.iter().flat_map(|s| s.cache.len()..s.cache.len() + s.tokens.unsigned_abs() as usize)
    }

    /// Row of each segment's last token.
    pub(crate) fn last_rows(&self) -> Vec<u32> {
        self.segments.iter().map(|s| (s.start + s.tokens - 1) as u32).collect()
    }

    /// Counts the rows as cached, once every layer has written them.
    pub(crate) fn advance(&mut self) {
        for segment in &mut self.segments {
            segment.cache.advance(segment.tokens as usize);
        }
    }
}
