//! Under which addresses a listening service can be reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sysinfo::Networks;

/// Where to send requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// The network interface that leads there; none for this machine itself and for an address that was chosen.
    pub interface: Option<String>,
    /// The URL.
    pub url: String,
}

/// Where a service that listens on `address` can be reached. One that listens on every address is reached from this
/// machine by loopback, which stands first, and from each network by this machine's address there.
pub(crate) fn reachable(address: SocketAddr) -> Vec<Reachable> {
    let at = |interface: Option<&str>, ip: IpAddr| Reachable {
        interface: interface.map(str::to_owned),
        url: format!("http://{}", SocketAddr::new(ip, address.port())),
    };
    if !address.ip().is_unspecified() {
        return vec![at(None, address.ip())];
    }
    let mut all = vec![at(None, Ipv4Addr::LOCALHOST.into())];
    match Networks::new_with_refreshed_list() {
        Ok(networks) => {
            let addresses =
                networks.iter().flat_map(|(name, data)| data.ip_networks().iter().map(move |n| (name, n.addr)));
            let mut others: Vec<_> = addresses
                .filter(|(_, ip)| can_be_written(*ip) && (ip.is_ipv4() || address.is_ipv6()))
                .map(|(name, ip)| at(Some(&name.to_string_lossy()), ip))
                .collect();
            others.sort_by(|a, b| (&a.interface, &a.url).cmp(&(&b.interface, &b.url)));
            all.extend(others);
        }
        Err(error) => tracing::warn!("the networks of this machine are not known: {error}"),
    }
    all
}

/// Whether others can be told the address: not loopback, and not valid on one link only, which would have to be named.
fn can_be_written(ip: IpAddr) -> bool {
    let one_link = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !ip.is_loopback() && !one_link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_address_is_the_only_one() {
        let url =
            |text: &str| reachable(text.parse().expect("an address")).into_iter().map(|r| r.url).collect::<Vec<_>>();
        assert_eq!(url("127.0.0.2:8090"), ["http://127.0.0.2:8090"]);
        assert_eq!(url("[::1]:8090"), ["http://[::1]:8090"]);
    }

    #[test]
    fn all_addresses_are_this_machines_own() {
        let all = reachable(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8090)));
        assert_eq!(all[0], Reachable { interface: None, url: "http://127.0.0.1:8090".to_owned() });
        for other in &all[1..] {
            let address: SocketAddr = other.url.strip_prefix("http://").expect("a URL").parse().expect("an address");
            assert!(address.is_ipv4() && !address.ip().is_loopback() && !address.ip().is_unspecified(), "{other:?}");
            assert!(other.interface.is_some(), "{other:?}");
            // An address is this machine's where it can be listened on.
            std::net::TcpListener::bind((address.ip(), 0)).unwrap_or_else(|e| panic!("{other:?}: {e}"));
        }
    }
}
