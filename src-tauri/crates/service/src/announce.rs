//! The service as others on the network find it: DNS-SD over multicast DNS ("Bonjour"; RFC 6762, RFC 6763).

use std::net::SocketAddr;
use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::config::{DEFAULT_PORT, is_loopback};
use crate::slot::ModelState;

/// The type of service.
pub(crate) const SERVICE: &str = "_mobile-llm._tcp.local.";

/// How often the load is looked at, so also the least time between two announcements (RFC 6762 wants a second).
const EVERY: Duration = Duration::from_secs(2);

/// How long the network may take to be told that the service goes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of one TXT string, RFC 6763, section 6.1.
const LONGEST_TEXT: usize = 255;

/// What is told besides name, address and port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct News {
    model: Option<String>,
    /// Requests running and waiting.
    load: usize,
    /// Requests that run at once at most.
    max: Option<usize>,
}

/// Announces the service until it closes, and again whenever its model or its load has changed.
pub(crate) async fn announce(app: &App, address: SocketAddr) {
    let announced = match ServiceDaemon::new() {
        Ok(daemon) => {
            let announced = try_announce(&daemon, app, address).await;
            // Whatever went wrong: nobody is to go on announcing a service that has gone.
            announced.and(withdraw(&daemon, app, address).await)
        }
        Err(error) => Err(error),
    };
    if let Err(error) = announced {
        tracing::warn!(%error, "cannot announce the service");
    }
}

async fn try_announce(daemon: &ServiceDaemon, app: &App, address: SocketAddr) -> Result<(), mdns_sd::Error> {
    if address.is_ipv4() {
        daemon.disable_interface(IfKind::IPv6)?;
    }
    if !is_loopback(address.ip()) {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    }
    let mut told = None;
    let mut times = 0;
    loop {
        let news = News::of(app);
        if told.as_ref() != Some(&news) {
            daemon.register(record(&app.names[1], address, &news, times)?)?;
            told = Some(news);
            times += 1;
        }
        tokio::select! {
            () = app.phases.closing.cancelled() => return Ok(()),
            () = sleep(EVERY) => {}
        }
    }
}

async fn withdraw(daemon: &ServiceDaemon, app: &App, address: SocketAddr) -> Result<(), mdns_sd::Error> {
    let name = format!("{}.{SERVICE}", instance(&app.names[1], address.port()));
    if let Ok(withdrawn) = daemon.unregister(&name) {
        let _ = timeout(FAREWELL, withdrawn.recv_async()).await;
    }
    daemon.shutdown().map(drop)
}

fn record(host: &str, address: SocketAddr, news: &News, times: u64) -> Result<ServiceInfo, mdns_sd::Error> {
    let port = address.port();
    let any = address.ip().is_unspecified();
    let ip = if any { String::new() } else { address.ip().to_string() };
    let info = ServiceInfo::new(
        SERVICE,
        &instance(host, port),
        &format!("{}.", host_name(host, port)),
        ip.as_str(),
        port,
        &news.texts(times)[..],
    )?;
    Ok(if any { info.enable_addr_auto() } else { info })
}

impl News {
    fn of(app: &App) -> Self {
        match app.slot.state() {
            ModelState::Ready(ready) => {
                let status = ready.engine.status();
                let info = ready.engine.info();
                let load = status.running + status.queued;
                Self { model: Some(info.name.clone()), load, max: Some(info.max_sequences) }
            }
            _ => Self { model: None, load: 0, max: None },
        }
    }

    /// The TXT record. `update` counts, because a listener that still holds an earlier record of the same words would
    /// take this one for the old one.
    fn texts(&self, times: u64) -> Vec<(&'static str, String)> {
        let mut texts = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("load", self.load.to_string())];
        texts.push(("update", times.to_string()));
        texts.extend(self.model.as_ref().map(|model| ("model", shortened(model, LONGEST_TEXT - "model=".len()))));
        texts.extend(self.max.map(|max| ("max", max.to_string())));
        texts
    }
}

/// What the node is called: the machine's name, with the port where it is not the usual one, so that two on one machine
/// do not take each other's name.
fn instance(host: &str, port: u16) -> String {
    let host = shortened(host, 48);
    if port == DEFAULT_PORT { host } else { format!("{host}-{port}") }
}

/// The name that the node's addresses are published under. Not the machine's own: that belongs to the system's
/// responder, which would take a second one for a conflict and rename the machine.
pub(crate) fn host_name(host: &str, port: u16) -> String {
    format!("mobile-{}-{port}.local", shortened(host, 48))
}

/// At most so many bytes, whole characters.
fn shortened(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_who_and_how_busy_within_dns_limits() {
        let news = News { model: Some("é".repeat(200)), load: 3, max: Some(32) };
        let info = record(&"h".repeat(200), ([127, 0, 0, 1], 8100).into(), &news, 7).expect("a record");
        let label = info.get_fullname().strip_suffix(&format!(".{SERVICE}")).expect("our type");
        assert!(label.len() <= 63 && label.ends_with("-8100"), "{label}");
        assert!(info.get_hostname().split('.').all(|label| label.len() <= 63));
        let text = |key| info.get_property_val_str(key).expect(key);
        assert_eq!((text("load"), text("max"), text("version")), ("3", "32", env!("CARGO_PKG_VERSION")));
        assert_eq!(text("update"), "7");
        assert_eq!(text("model"), "é".repeat(124));
        assert_eq!(instance("studio-1", DEFAULT_PORT), "studio-1");
    }
}
