//! Arguments of `mobile serve`.

use std::net::IpAddr;

use clap::Args as ClapArgs;

use super::{ModelArgs, PolicyArgs};

/// `mobile serve`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Only this machine can reach the endpoint; with this, the network can.
    #[arg(long, env = "MOBILE_LAN")]
    pub(crate) lan: bool,
    /// Address to listen on instead.
    #[arg(long, env = "MOBILE_HOST", conflicts_with = "lan")]
    pub(crate) host: Option<IpAddr>,
    /// Port to listen on; 0 takes any that is free.
    #[arg(long, env = "MOBILE_PORT", default_value_t = mobile_service::DEFAULT_PORT)]
    pub(crate) port: u16,
    /// A key that clients from the network must show; may be given several times. Clients on this machine need none.
    #[arg(long = "key", env = "MOBILE_KEY", hide_env_values = true, value_delimiter = ',')]
    pub(crate) keys: Vec<String>,
    /// Let clients from the network in without a key.
    #[arg(long)]
    pub(crate) no_key: bool,
    /// A host name under which clients may ask for this machine, besides its own.
    #[arg(long)]
    pub(crate) allow_host: Vec<String>,
    /// A web origin whose pages may use the endpoint, as in https://example.org.
    #[arg(long)]
    pub(crate) allow_origin: Vec<String>,
    /// Log lines as JSON.
    #[arg(long)]
    pub(crate) json_logs: bool,
    /// The policy for requests that name none.
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}
