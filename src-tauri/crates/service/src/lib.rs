#![doc = include_str!("../README.md")]

mod announce;
mod answer;
mod app;
mod clients;
mod clock;
mod config;
mod error;
mod events;
mod extract;
mod guard;
mod ids;
mod keys;
mod metrics;
mod nodes;
mod openai;
mod options;
mod reach;
mod routes;
mod server;
mod slot;

pub use clients::Client;
pub use config::{DEFAULT_PORT, Limits, ServiceConfig};
pub use keys::{KeyError, Keys, StoredKey};
pub use nodes::{BrowseError, Node, Nodes};
pub use reach::Reachable;
pub use server::{Connected, Handle, ServeError, Service};
pub use slot::{ModelSlot, ModelState, ReadyModel, Turn};
