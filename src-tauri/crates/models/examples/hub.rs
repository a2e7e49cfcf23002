//! The hub of the tests as a program: `cargo run -p mobile-models --example hub -- FOLDER [PORT]` serves the models in
//! `FOLDER/OWNER/NAME/` until it is stopped, and prints its address for `HF_ENDPOINT`.

#![allow(dead_code, missing_docs, unreachable_pub)]

#[path = "../tests/support/hub.rs"]
mod hub;

use std::path::Path;

use hub::{Fault, Hub};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        eprintln!(
            "usage: hub FOLDER [PORT] [slow=PART=BYTES_PER_SECOND] [cut=PART=BYTES] [status=PART=CODE] [token=TOKEN]"
        );
        std::process::exit(2);
    };
    let port = arguments.get(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    let hub = Hub::start(Path::new(folder), port).await;
    for switch in &arguments[1..] {
        let number = |text: &str| text.parse::<usize>().expect("a number");
        match switch.split('=').collect::<Vec<_>>()[..] {
            ["token", token] => hub.require_token(token),
            ["slow", part, speed] => hub.fault(part, Fault::Slow(number(speed)), None),
            ["cut", part, bytes] => hub.fault(part, Fault::Cut(number(bytes)), None),
            ["corrupt", part, at] => hub.fault(part, Fault::Corrupt(number(at)), None),
            ["status", part, code] => hub.fault(part, Fault::Status(number(code) as u16, Vec::new()), None),
            _ => {}
        }
    }
    println!("{}", hub.endpoint());
    std::future::pending::<()>().await;
}
