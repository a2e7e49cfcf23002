//! Reading prompts, a chunk of tokens at a time.

use mlx_rs::transforms::eval;

use super::{Scheduler, named};
use crate::decode::draw::Drawing;
use crate::decode::sequence::Sequence;
use crate::device::ComputeDevice;
use crate::error::{Error, Result};
use crate::experts::Rows;
use crate::model::{Batch, Logits};
use crate::policy::{Choice, Decision};

/// Prompt tokens read between two decoding steps, so that a long prompt does not hold up running answers.
const CHUNK: usize = 512;
/// The same on a CPU, which computes attention to all of a chunk and then leaves out what comes later: the shorter the
/// chunks, the less of that.
const CPU_CHUNK: usize = 128;
/// The same where experts are streamed: most chunks read nearly all of them, which takes longer than computing does, and
/// the larger the chunks the fewer there are.
const STREAMED_CHUNK: usize = 2048;

impl Scheduler {
    /// The sequences, ascending, whose prompts are read next: the one that has waited longest, and with it those that fit
    /// into the same chunk to their ends, because a pass fetches, sorts or unpacks experts once for all of its tokens. Prompts
    /// take turns, so that a short one need not wait for the whole of a long one, nor, where chunks are long, for many others.
    pub(super) fn turn(&self) -> Vec<usize> {
        let unread = |i: &usize| self.sequences[*i].unread().len();
        let mut waiting: Vec<usize> = (0..self.sequences.len()).filter(|i| unread(i) > 0).collect();
        waiting.sort_unstable_by_key(|&i| self.sequences[i].read_at);
        let Some(&first) = waiting.first() else { return waiting };
        if self.sequences[first].alone || unread(&first) > self.chunk() {
            return vec![first];
        }
        let mut room = self.resident_chunk().max(unread(&first));
        let choice = self.sequences[first].prefill_choice();
        waiting.retain(|&i| {
            let sequence = &self.sequences[i];
            let fits = unread(&i) <= room && sequence.prefill_choice() == choice && !sequence.alone;
            room -= if fits { unread(&i) } else { 0 };
            fits
        });
        waiting.sort_unstable();
        waiting
    }

    fn chunk(&self) -> usize {
        if self.loaded.model.is_streamed() { STREAMED_CHUNK } else { self.resident_chunk() }
    }

    fn resident_chunk(&self) -> usize {
        match self.loaded.device {
            ComputeDevice::Cpu => CPU_CHUNK,
            ComputeDevice::Gpu => CHUNK,
        }
    }

    /// Reads what [`Scheduler::turn`] gave, and gives those that are read to their ends their first tokens.
    pub(super) fn prefill(&mut self, turn: &[usize]) -> Result<()> {
        let most = self.chunk();
        let mut sequences: Vec<&mut Sequence> = named(&mut self.sequences, turn).collect();
        for sequence in &mut sequences {
            self.reads += 1;
            sequence.read_at = self.reads;
        }
        let choice = sequences[0].prefill_choice();
        let chunk = |s: &&mut Sequence| s.unread()[..s.unread().len().min(most)].to_vec();
        let chunks: Vec<Vec<u32>> = sequences.iter().map(chunk).collect();
        // Where there are several, all are.
        let to_the_end = chunks[0].len() == sequences[0].unread().len();
        let logits = if to_the_end { Logits::Last } else { Logits::None };
        self.loaded.look_ahead.set(self.loaded.limits.look_ahead);
        self.loaded.rows.replace(Rows::of_prompts(sequences.iter().map(|s| s.gone()).collect()));
        let caches = sequences.iter_mut().map(|s| &mut s.cache);
        let mut batch = Batch::new(chunks.iter().map(Vec::as_slice).zip(caches));
        batch.watched = self.shared.watches.any();
        let output = self.loaded.model.forward(&mut batch, choice, logits)?;
        drop(batch);
        for sequence in &mut sequences {
            sequence.note_prefill(choice);
        }
        if !to_the_end {
            eval(&sequences[0].cache.arrays())?;
            self.count_prefill(turn);
            return Ok(());
        }
        let rows: Vec<&Sequence> = sequences.into_iter().map(|s| &*s).collect();
        let drawing = Drawing::begin(output, &rows, 0)?;
        let (drawn, _) = drawing.read(&rows.into_iter().enumerate().collect::<Vec<_>>())?;
        self.shared.watches.count(choice, drawing.routed.as_ref(), 0..turn.len())?;
        let decision = if choice == Choice::All { Decision::Big } else { Decision::Little };
        self.count_prefill(turn);
        for (&index, drawn) in turn.iter().zip(drawn) {
            self.sequences[index].counters.experts_computed += self.loaded.experts_per_token(choice);
            self.accept(index, decision, drawn);
        }
        Ok(())
    }

    /// Puts down to the requests what was counted of streamed experts since this was last done, and not to the next pass how
    /// long it took.
    fn count_prefill(&mut self, turn: &[usize]) {
        if let Some(ahead) = &mut self.ahead {
            ahead.put_off();
        }
        let streamed = *self.loaded.meter.borrow();
        let earlier = std::mem::replace(&mut self.streamed, streamed);
        for (row, &index) in turn.iter().enumerate() {
            let share = streamed.share_since(&earlier, row, turn.len());
            self.sequences[index].counters.prefill_expert_cache.merge(&share);
        }
    }

    /// What cannot be read of a storage fails only those that want it, which shows when each is read by itself; and who goes
    /// away fails nobody. No cache counts anything of a pass that ended so.
    pub(super) fn fail_prompts(&mut self, turn: &[usize], error: Error) {
        match (turn, error) {
            (&[index], error) => self.failed.push((index, error)),
            (turn, Error::Closed) if turn.iter().any(|&index| self.sequences[index].abandoned()) => {}
            (_, Error::Storage { .. }) => turn.iter().for_each(|&index| self.sequences[index].alone = true),
            (_, error) => self.failed.extend(turn.iter().map(|&index| (index, error.again()))),
        }
    }
}
