//! What every program around the engine needs and neither the engine nor the library of models can know alone. The
//! command line and the app both call it, so that what one decides or measures holds for the other.
//!
//! | part | what it answers |
//! |---|---|
//! | [`place`], [`arrange`], [`plan`] | which experts stay in memory, and from where are the others streamed? |
//! | [`measure`] | how well does a policy predict a text that is known? |
//! | [`Survey`], [`Calibration`] | what does each threshold cost and gain here, and which is to be taken? |

pub mod calibration;
mod convert;
mod experts;
mod files;
mod forced;
mod items;
mod target;

pub use calibration::{Calibration, Found, Survey, Watch};
pub use convert::convert;
pub use experts::{MemoryChoice, PlaceError, Placed, Placing, Plan, Source, Tell, arrange, place, plan};
pub use files::{Readers, write_json};
pub use forced::{Baseline, MeasureError, Measured, Setting, measure};
pub use items::{Item, sample, spread_evenly, windows};
