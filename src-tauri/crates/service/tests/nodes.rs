//! Nodes that find each other.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::{MODEL, config, start, within_a_minute};
use mobile_service::{Node, Nodes, ServiceConfig};
use serde_json::json;

/// An address of this machine that is not loopback, if what is sent from it to many also comes back to it.
fn multicast() -> Option<IpAddr> {
    let probe = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a datagram socket sends nothing: it only asks which address would be used.
    probe.connect("192.0.2.1:9").ok()?;
    let IpAddr::V4(ip) = probe.local_addr().ok()?.ip() else { return None };
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let receiver = UdpSocket::bind("0.0.0.0:0").ok()?;
    receiver.join_multicast_v4(&group, &ip).ok()?;
    receiver.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let sender = UdpSocket::bind((ip, 0)).ok()?;
    sender.send_to(b"probe", (group, receiver.local_addr().ok()?.port())).ok()?;
    receiver.recv(&mut [0; 8]).ok()?;
    (!ip.is_loopback()).then_some(ip.into())
}

/// Waits until the nodes at these ports are as they should be.
async fn until(nodes: &Nodes, ports: &[u16], wanted: impl Fn(&[Node]) -> bool) -> Vec<Node> {
    let mut changes = nodes.watch();
    loop {
        // Others may be announced on this network, or by other tests.
        let ours: Vec<Node> = changes.borrow_and_update().iter().filter(|n| ports.contains(&n.port)).cloned().collect();
        if wanted(&ours) {
            return ours;
        }
        if tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.is_err() {
            panic!("still {ours:?}");
        }
    }
}

#[test]
fn nodes_are_found_with_their_load_and_gone_when_they_close() {
    let Some(ip) = multicast() else {
        eprintln!("skipped: this network carries no multicast");
        return;
    };
    within_a_minute(async move {
        let open = || ServiceConfig { address: SocketAddr::from(([0, 0, 0, 0], 0)), require_key: false, ..config() };
        let (one, two) = (start(open()).await, start(open()).await);
        let silent = start(ServiceConfig { announce: Some(false), ..open() }).await;
        let ports = [&one, &two, &silent].map(|s| s.handle.address().port());
        let nodes = Nodes::browse().expect("a search");
        let found = until(&nodes, &ports, |nodes| nodes.len() == 2).await;
        for node in &found {
            assert!(node.addresses.contains(&ip), "{node:?}");
            assert!(node.addresses.iter().all(|a| a.is_ipv4() && !a.is_loopback()), "only where it listens: {node:?}");
            assert_eq!((&node.model, node.load), (&None, Some(0)));
            assert_eq!(node.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        }
        assert_ne!(found[0].name, found[1].name);
        let url = found[0].url().expect("a URL");
        assert_eq!(one.client.get(format!("{url}/health")).send().await.expect("an answer").status(), 200);

        one.slot.set_ready(common::engine(true, |o| {
            o.max_sequences = 1;
            o.queue = 64;
        }));
        let first = |nodes: &[Node]| nodes.iter().find(|n| n.port == ports[0]).cloned();
        let named = |n: &Node| n.model.as_deref() == Some(MODEL) && n.max == Some(1);
        until(&nodes, &ports, |n| first(n).is_some_and(|n| named(&n))).await;
        let body = json!({"prompt": "a", "raw": true, "max_tokens": 120, "policy": "full"});
        let busy = tokio::spawn({
            let (client, url) = (one.client.clone(), format!("http://127.0.0.1:{}/generate", ports[0]));
            async move {
                loop {
                    let wave = (0..32).map(|_| client.post(&url).json(&body).send());
                    futures_util::future::join_all(wave).await;
                }
            }
        });
        until(&nodes, &ports, |n| first(n).is_some_and(|n| n.load > Some(1))).await;
        busy.abort();
        until(&nodes, &ports, |n| first(n).is_some_and(|n| n.load == Some(0))).await;

        two.handle.shutdown().await;
        until(&nodes, &ports, |n| n.len() == 1 && first(n).is_some()).await;
        one.handle.shutdown().await;
        until(&nodes, &ports, <[Node]>::is_empty).await;
    });
}
