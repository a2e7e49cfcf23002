//! The smallest host: one model folder behind the endpoint, until Ctrl-C.
//!
//! ```sh
//! cargo run -p mobile-service --example serve -- FOLDER [ADDRESS]
//! ```
//!
//! `ADDRESS` is `127.0.0.1:8090` by default. With another than a loopback address, a key is made and printed.

use std::net::SocketAddr;

use mobile_engine::LoadOptions;
use mobile_service::{ModelSlot, Service, ServiceConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name the folder of a model")?;
    let mut config = ServiceConfig::default();
    if let Some(address) = arguments.next() {
        config.address = address.parse::<SocketAddr>()?;
    }
    if config.is_lan() {
        println!("key: {}", config.keys.create("example")?);
    }
    let slot = ModelSlot::new();
    let handle = Service::new(config, slot.clone()).start().await?;
    println!("http://{}", handle.address());
    tokio::task::spawn_blocking(move || slot.load(LoadOptions::new(folder))).await??;
    tokio::signal::ctrl_c().await?;
    handle.shutdown().await;
    Ok(())
}
