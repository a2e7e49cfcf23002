//! `mobile nodes`: the endpoints that announce themselves on this network.

use std::time::Duration;

use mobile_service::{Node, Nodes};

use crate::args::NodesArgs;
use crate::error::Failure;
use crate::generate::write_now;
use crate::table::table;

pub(crate) fn run(args: &NodesArgs) -> Result<(), Failure> {
    let nodes = Nodes::browse().map_err(|e| Failure::Other(e.to_string()))?;
    std::thread::sleep(Duration::from_secs_f64(args.seconds));
    let found = nodes.list();
    if args.json {
        let json = serde_json::to_string_pretty(&found).map_err(|e| Failure::Other(e.to_string()))?;
        return write_now(&format!("{json}\n"));
    }
    if found.is_empty() {
        return write_now("No nodes. `mobile serve --lan` announces one.\n");
    }
    write_now(&table(&["node", "url", "model", "load"], &found.iter().map(row).collect::<Vec<_>>()))
}

fn row(node: &Node) -> Vec<String> {
    let load = match (node.load, node.max) {
        (Some(load), Some(max)) => format!("{load} of {max}"),
        (Some(load), None) => load.to_string(),
        (None, _) => "?".to_owned(),
    };
    let model = node.model.clone().unwrap_or_else(|| "none yet".to_owned());
    vec![node.name.clone(), node.url().unwrap_or_default(), model, load]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_known() {
        let mut node = Node {
            name: "studio-1".to_owned(),
            addresses: vec!["10.0.0.7".parse().expect("an address")],
            port: 8090,
            model: Some("olmoe".to_owned()),
            version: None,
            load: Some(3),
            max: Some(32),
        };
        assert_eq!(row(&node), ["studio-1", "http://10.0.0.7:8090", "olmoe", "3 of 32"]);
        (node.model, node.load, node.addresses) = (None, None, Vec::new());
        assert_eq!(row(&node), ["studio-1", "", "none yet", "?"]);
    }
}
