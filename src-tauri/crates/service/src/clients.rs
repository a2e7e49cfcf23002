//! Who uses the service.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a peer that has left is still told of: many programs open a connection for each request.
const REMEMBERED: Duration = Duration::from_mins(5);

/// A peer that is connected, or was a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where it is.
    pub address: IpAddr,
    /// The name of the key it last showed.
    pub key: Option<String>,
    /// Its open connections.
    pub connections: usize,
    /// Requests it was let in with since it came.
    pub requests: u64,
}

/// The peers of the last minutes.
#[derive(Default)]
pub(crate) struct Clients(Mutex<HashMap<IpAddr, Seen>>);

struct Seen {
    key: Option<String>,
    connections: usize,
    requests: u64,
    last: Instant,
}

impl Clients {
    pub(crate) fn enter(&self, peer: IpAddr) {
        self.change(peer, |seen| seen.connections += 1);
    }

    pub(crate) fn leave(&self, peer: IpAddr) {
        self.change(peer, |seen| seen.connections = seen.connections.saturating_sub(1));
    }

    /// A request was let in, with a key of this name where it showed one.
    pub(crate) fn asked(&self, peer: IpAddr, key: Option<String>) {
        self.change(peer, |seen| {
            seen.requests += 1;
            seen.key = key.or(seen.key.take());
        });
    }

    fn change(&self, peer: IpAddr, change: impl FnOnce(&mut Seen)) {
        let now = Instant::now();
        let mut peers = self.peers();
        forget(&mut peers, now);
        let new = Seen { key: None, connections: 0, requests: 0, last: now };
        let seen = peers.entry(peer.to_canonical()).or_insert(new);
        seen.last = now;
        change(seen);
    }

    /// Those of the last minutes, by address.
    pub(crate) fn list(&self) -> Vec<Client> {
        self.list_at(Instant::now())
    }

    fn list_at(&self, now: Instant) -> Vec<Client> {
        let mut peers = self.peers();
        forget(&mut peers, now);
        let mut list: Vec<Client> = peers
            .iter()
            .map(|(&address, seen)| Client {
                address,
                key: seen.key.clone(),
                connections: seen.connections,
                requests: seen.requests,
            })
            .collect();
        list.sort_unstable_by_key(|client| client.address);
        list
    }

    /// Open connections of all peers.
    pub(crate) fn connections(&self) -> usize {
        self.peers().values().map(|seen| seen.connections).sum()
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(peers: &mut HashMap<IpAddr, Seen>, now: Instant) {
    peers.retain(|_, seen| seen.connections > 0 || now.duration_since(seen.last) < REMEMBERED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_of_while_it_is_connected_and_a_little_longer() {
        let (clients, peer) = (Clients::default(), IpAddr::from([10, 0, 0, 7]));
        clients.enter(peer);
        clients.asked(peer, Some("Gateway".to_owned()));
        clients.asked(peer, None);
        let later = Instant::now() + 2 * REMEMBERED;
        let key = Some("Gateway".to_owned());
        let there = Client { address: peer, key, connections: 1, requests: 2 };
        assert_eq!(clients.list_at(later), std::slice::from_ref(&there));
        clients.leave(peer);
        assert_eq!((clients.list(), clients.connections()), (vec![Client { connections: 0, ..there }], 0));
        assert!(clients.list_at(later + REMEMBERED).is_empty());
    }
}
