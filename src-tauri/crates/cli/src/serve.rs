//! `mobile serve`: the endpoint, until Ctrl-C or a termination signal.

use std::io::{IsTerminal as _, stderr};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use mobile_engine::{ComputeDevice, LoadOptions, mlx_version};
use mobile_models::{Library, Machine, Mlx};
use mobile_service::{Keys, ModelSlot, ModelState, Reachable, Service, ServiceConfig};
use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, ServeArgs};
use crate::error::Failure;
use crate::model::{self, home};
use crate::{keys, logs, settings};

pub(crate) fn run() -> Result<(), Failure> {
    let args = &settings::serve()?;
    start_logs(args)?;
    check(args)?;
    let options = LoadOptions {
        max_sequences: args.max_sequences.into(),
        queue: args.queue.into(),
        ..model::options(&args.model)?
    };
    let config = config(args)?;
    let slot = ModelSlot::new();
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::Other(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let handle = Service::new(config, slot.clone()).start().await.map_err(|e| Failure::Other(e.to_string()))?;
        for Reachable { interface, url } in handle.reachable() {
            eprintln!("{url}{}", interface.map_or_else(String::new, |name| format!(" ({name})")));
        }
        let loading = slot.clone();
        let loaded = tokio::task::spawn_blocking(move || loading.load(options)).await;
        let ended = match loaded {
            Ok(Ok(())) => {
                let chosen = set_policy(&slot, args);
                if chosen.is_ok() {
                    eprintln!("ready");
                    stop_signal().await;
                }
                chosen
            }
            Ok(Err(error)) => Err(Failure::Model(error.to_string())),
            Err(error) => Err(Failure::Other(format!("loading broke off: {error}"))),
        };
        handle.shutdown().await;
        slot.clear();
        ended
    })
}

/// The policy of requests that name none, once the model is known that it must suit.
fn set_policy(slot: &ModelSlot, args: &ServeArgs) -> Result<(), Failure> {
    let ModelState::Ready(model) = slot.state() else { return Ok(()) };
    let info = model.engine.info();
    let policy = args.policy.policy(info);
    policy.check(info.top_k).map_err(Failure::Request)?;
    slot.set_policy(policy);
    Ok(())
}

fn config(args: &ServeArgs) -> Result<ServiceConfig, Failure> {
    let device = ComputeDevice::detect().map_err(|e| Failure::Other(e.to_string()))?;
    let mlx = Mlx { version: mlx_version(), device: device.name().to_owned() };
    let machine = Machine::assess(Library::open(home()?).cache(), Some(mlx));
    let given = Keys::default();
    for (n, key) in args.keys.iter().enumerate() {
        given.add(&format!("--key {}", n + 1), key).map_err(|e| Failure::Input(e.to_string()))?;
    }
    Ok(ServiceConfig {
        address: address(args),
        require_key: !args.no_key,
        keys: keys::kept(given.stored())?,
        hosts: args.allow_host.clone(),
        origins: args.allow_origin.clone(),
        announce: args.announce.or(args.no_announce.then_some(false)),
        hardware: serde_json::to_value(machine).map_err(|e| Failure::Other(e.to_string()))?,
        ..ServiceConfig::default()
    })
}

/// Whether the endpoint could start: there is a model, and the network finds no open door.
pub(crate) fn check(args: &ServeArgs) -> Result<(), Failure> {
    model::folder(&args.model)?;
    let lan = !address(args).ip().is_loopback();
    if lan && !args.no_key && args.keys.is_empty() && keys::kept(Vec::new())?.stored().is_empty() {
        return Err(Failure::Input(
            "the network would reach the endpoint: make a key with `mobile keys create NAME`, give one with --key \
             SECRET (or MOBILE_KEY), or let everybody in with --no-key"
                .to_owned(),
        ));
    }
    Ok(())
}

fn address(args: &ServeArgs) -> SocketAddr {
    let host = args.host.unwrap_or_else(|| if args.lan { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST }.into());
    SocketAddr::new(host, args.port)
}

/// Resolves on Ctrl-C and on SIGTERM, with which launchd and systemd stop a service.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Log lines on standard error or in a folder.
fn start_logs(args: &ServeArgs) -> Result<(), Failure> {
    let wrong = |e| Failure::Input(format!("--log-level {:?}: {e}", args.log_level));
    let filter = EnvFilter::builder().parse(&args.log_level).map_err(wrong)?;
    // A line that cannot be written is lost. To say so on standard error, which may be what is gone, would end a request.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let json = args.log_format == LogFormat::Json;
    match &args.log_folder {
        Some(folder) => {
            logs::bound_standard_error();
            let lines = lines.with_ansi(false).with_writer(Mutex::new(logs::appender(folder)?));
            if json { lines.json().init() } else { lines.init() }
        }
        None => {
            let lines = lines.with_ansi(stderr().is_terminal()).with_writer(stderr);
            if json { lines.json().init() } else { lines.init() }
        }
    }
    Ok(())
}
