//! The other computers that share models on this network, looked for only while somebody wants to know.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mobile_service::{Node, Nodes};

use crate::contract::NetworkNode;

/// How long the search goes on after it was last asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A search that begins when it is asked for and ends by itself. Clones are the same search.
#[derive(Debug, Clone, Default)]
pub(crate) struct Neighbours(Arc<Mutex<Option<Search>>>);

#[derive(Debug)]
struct Search {
    nodes: Nodes,
    asked: Instant,
}

impl Neighbours {
    /// Those found so far, but for this computer, which can be reached at `own`.
    pub(crate) fn list(&self, own: &[String]) -> Vec<NetworkNode> {
        let mut search = self.search();
        if search.is_none() {
            match Nodes::browse() {
                Ok(nodes) => {
                    *search = Some(Search { nodes, asked: Instant::now() });
                    self.end_unless_asked();
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let Some(search) = &mut *search else { return Vec::new() };
        search.asked = Instant::now();
        others(&search.nodes.list(), own)
    }

    /// Ends the search now.
    pub(crate) fn end(&self) {
        *self.search() = None;
    }

    fn end_unless_asked(&self) {
        let neighbours = self.clone();
        tauri::async_runtime::spawn(async move {
            loop {
                tokio::time::sleep(PATIENCE).await;
                let mut search = neighbours.search();
                if search.as_ref().is_none_or(|search| search.asked.elapsed() >= PATIENCE) {
                    *search = None;
                    return;
                }
            }
        });
    }

    fn search(&self) -> MutexGuard<'_, Option<Search>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn others(nodes: &[Node], own: &[String]) -> Vec<NetworkNode> {
    let is_other = |node: &&Node| {
        let urls = node.addresses.iter().map(|&ip| format!("http://{}", SocketAddr::new(ip, node.port)));
        !urls.into_iter().any(|url| own.contains(&url))
    };
    let entry = |node: &Node| {
        let load = node.load.map(|load| load as u64);
        Some(NetworkNode { name: node.name.clone(), url: node.url()?, model: node.model.clone(), load })
    };
    nodes.iter().filter(is_other).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_computer_is_not_its_own_neighbour() {
        let node = |name: &str, address: &str, port| Node {
            name: name.to_owned(),
            addresses: vec![address.parse().expect("an address")],
            port,
            model: Some("olmoe".to_owned()),
            version: None,
            load: Some(2),
            max: None,
        };
        let own = ["http://127.0.0.1:8090".to_owned(), "http://10.0.0.7:8090".to_owned()];
        let nodes = [node("me", "10.0.0.7", 8090), node("mini", "10.0.0.8", 8090), node("me-8100", "10.0.0.7", 8100)];
        let found = others(&nodes, &own);
        assert_eq!(found.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["mini", "me-8100"]);
        assert_eq!((found[0].url.as_str(), found[0].load), ("http://10.0.0.8:8090", Some(2)));
    }
}
