//! From a request to its tokens: one thread owns every MLX array and decodes up to 32 sequences together.

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
