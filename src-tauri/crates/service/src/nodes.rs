//! The other nodes on the network, found as they are announced.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use mdns_sd::{Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use serde::Serialize;
use tokio::sync::watch;

use crate::announce::SERVICE;

/// How often it is seen whether the nodes can still be reached.
const EVERY: Duration = Duration::from_secs(5);

/// How long a node on a local network may take to be reached.
const REACH: Duration = Duration::from_secs(1);

/// How long one that is not reached may take to say that it is there all the same.
const CONFIRM: Duration = Duration::from_secs(3);

/// A service that announces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// Where it can be reached, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The port it listens on.
    pub port: u16,
    /// The model that answers; none while there is none.
    pub model: Option<String>,
    /// The version of the program.
    pub version: Option<String>,
    /// Requests running and waiting.
    pub load: Option<usize>,
    /// Requests it runs at once.
    pub max: Option<usize>,
}

impl Node {
    /// Where to send requests.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.addresses.first().map(|&ip| format!("http://{}", SocketAddr::new(ip, self.port)))
    }

    fn is_reached(&self) -> bool {
        let mut sockets = self.addresses.iter().map(|&ip| SocketAddr::new(ip, self.port));
        sockets.any(|socket| TcpStream::connect_timeout(&socket, REACH).is_ok())
    }
}

/// Why nothing can be found.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for nodes on the network: {0}")]
pub struct BrowseError(mdns_sd::Error);

/// The nodes that are found, this machine's included. Dropping it ends the search.
pub struct Nodes {
    daemon: ServiceDaemon,
    found: watch::Receiver<Vec<Node>>,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes").field("found", &self.list()).finish_non_exhaustive()
    }
}

impl Nodes {
    /// Begins to look for nodes, in a thread of its own.
    ///
    /// # Errors
    /// [`BrowseError`], when the system gives no socket for it.
    pub fn browse() -> Result<Self, BrowseError> {
        let daemon = ServiceDaemon::new().map_err(BrowseError)?;
        let events = daemon.browse(SERVICE).map_err(BrowseError)?;
        let (sender, found) = watch::channel(Vec::new());
        thread::spawn(move || follow(&events, &sender));
        let (asked, checked) = (daemon.clone(), found.clone());
        thread::spawn(move || check(&asked, &checked));
        Ok(Self { daemon, found })
    }

    /// Those found so far, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Node> {
        self.found.borrow().clone()
    }

    /// Says when a node comes, goes, or has another model or load.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<Node>> {
        self.found.clone()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // The events end with it, and with them the threads.
        let _ = self.daemon.shutdown();
    }
}

fn follow(events: &Receiver<ServiceEvent>, found: &watch::Sender<Vec<Node>>) {
    let mut nodes = BTreeMap::new();
    for event in events {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                nodes.insert(service.fullname.clone(), node(&service));
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                nodes.remove(&name);
            }
            _ => continue,
        }
        let now: Vec<Node> = nodes.values().cloned().collect();
        found.send_if_modified(|before| {
            let news = *before != now;
            *before = now;
            news
        });
    }
}

/// Has the nodes confirmed that cannot be reached (RFC 6762, section 10.4): one that was killed or cut off says no goodbye,
/// and what it announced would be believed for two minutes.
fn check(daemon: &ServiceDaemon, found: &watch::Receiver<Vec<Node>>) {
    loop {
        thread::sleep(EVERY);
        // The other thread has ended, and the search with it.
        if found.has_changed().is_err() {
            return;
        }
        let nodes = found.borrow().clone();
        thread::scope(|scope| {
            for node in &nodes {
                scope.spawn(|| {
                    if !node.is_reached() {
                        let _ = daemon.verify(format!("{}.{SERVICE}", node.name), CONFIRM);
                    }
                });
            }
        });
    }
}

fn node(service: &ResolvedService) -> Node {
    let text = |key| service.txt_properties.get_property_val_str(key).map(str::to_owned);
    let number = |key| text(key)?.parse().ok();
    // An address that is only valid on one link cannot be written down without naming the link.
    let usable = |ip: &IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut addresses: Vec<IpAddr> = service.addresses.iter().map(ScopedIp::to_ip_addr).filter(usable).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Node {
        name: service.fullname.strip_suffix(SERVICE).map_or(&*service.fullname, |n| n.trim_end_matches('.')).to_owned(),
        addresses,
        port: service.port,
        model: text("model"),
        version: text("version"),
        load: number("load"),
        max: number("max"),
    }
}
