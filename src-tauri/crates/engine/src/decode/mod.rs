//! From a request to its tokens: one thread owns every MLX array and decodes up to 32 sequences together.
//!
//! What arXiv:2510.12357 leaves open, as far as it is public, and how it is decided here:
//!
//! - Prompts are read with all K experts, whatever decodes afterwards, unless a request asks otherwise
//!   ([`Prefill`]).
//! - The little model computes ⌊K/2⌋ experts, at least one; where that is K, there is nothing to halve and requests that
//!   would are refused. A shared expert (Qwen) is computed in either pass.
//! - The little model weighs its experts by its family's own rule, applied to those it has (Mixtral: softmax over the
//!   chosen). Scaling them to the mass of the K chosen is an option ([`Mobile::renormalize`](crate::Mobile)), off by default.
//! - A token is important where the largest softmax probability of the little pass is below γ, at temperature 1 and before
//!   any sampling filter.
//! - The keys and values that the little pass wrote for such a token are rolled back in every layer, and the big pass's
//!   stand.
//! - Once a token is known to fall back, the experts that the little pass ranked below those it used, down to the Kth, are
//!   fetched in all layers at once. Applying a layer's router to the input of the one before, to fetch a layer ahead, is an
//!   option of its own.

mod draw;
mod prefix;
mod queue;
mod request;
mod scheduler;
mod sequence;

pub(crate) use queue::{Message, Place, Queue};
pub(crate) use request::{Control, Job};
pub use request::{Event, FinishReason, Finished, Generation, Logprob, Prefill, Remote, Request, Token};
pub(crate) use scheduler::{Scheduler, Shared};
