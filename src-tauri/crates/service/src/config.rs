//! What the owner can set.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::keys::Keys;

/// The port the federation's gateway expects.
pub const DEFAULT_PORT: u16 = 8090;

/// Where the service listens, for whom, and how much it takes on.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Where to listen. Anything but a loopback address opens the service to the network.
    pub address: SocketAddr,
    /// Whether peers from the network must show a key. Loopback peers are never asked.
    pub require_key: bool,
    /// The keys. The host may add and revoke them while the service runs.
    pub keys: Keys,
    /// Host names under which this service may be asked for, besides `localhost`, this machine's own name and the
    /// address a connection came in on.
    pub hosts: Vec<String>,
    /// Web origins (`https://example.org`) whose pages may use the service, besides loopback and the app's own.
    pub origins: Vec<String>,
    /// Whether to announce the service by Bonjour; by default where the network can reach it.
    pub announce: Option<bool>,
    /// What `/v1/hardware` says.
    pub hardware: Value,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            require_key: true,
            keys: Keys::default(),
            hosts: Vec::new(),
            origins: Vec::new(),
            announce: None,
            hardware: Value::Object(serde_json::Map::new()),
            limits: Limits::default(),
        }
    }
}

impl ServiceConfig {
    /// The defaults, open to the network: `0.0.0.0:8090`, with keys required.
    #[must_use]
    pub fn lan() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)), ..Self::default() }
    }

    /// Whether peers other than this machine can reach the service.
    #[must_use]
    pub fn is_lan(&self) -> bool {
        !is_loopback(self.address.ip())
    }

    /// Whether the service is announced.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announce.unwrap_or_else(|| self.is_lan())
    }
}

/// Whether an address is this machine's loopback, in IPv4, IPv6 or IPv4 written as IPv6.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Bounds on what one client can ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Tokens of an answer, and the most that may be asked for.
    pub max_tokens: usize,
    /// Answers of one request: `n`, times the prompts of a completion.
    pub choices: usize,
    /// Messages of a conversation.
    pub messages: usize,
    /// Stop strings, each of at most [`Limits::stop_bytes`].
    pub stops: usize,
    /// Bytes of a stop string.
    pub stop_bytes: usize,
    /// Connections open at once; more wait to be accepted.
    pub connections: usize,
    /// From a request's arrival to the end of its answer, waiting included.
    pub request_time: Duration,
    /// To send a request's head, or to stay idle between two requests.
    pub head_time: Duration,
    /// To send a request's body.
    pub body_time: Duration,
    /// How long a client may leave its answer unread before its connection is closed.
    pub write_time: Duration,
    /// How long running answers may go on once the service is told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2 << 20,
            max_tokens: 32_768,
            choices: 16,
            messages: 2048,
            stops: 16,
            stop_bytes: 256,
            connections: 1024,
            request_time: Duration::from_mins(10),
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}
