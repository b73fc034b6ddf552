//! What is set of every HTTP port, whichever service it belongs to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::origins::{AllowedOrigin, AllowedOrigins};
use crate::tls::ListenerTls;
use crate::uploads::UploadRoom;

/// How long a connection may stay open between two requests. Balancers keep theirs for 60 s (AWS, GCP, nginx): the
/// server has to be the one that waits longer, or a request meets a connection that is being closed.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// Flags of every process that answers HTTP.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Seconds that a connection may stay open between two requests. Set it above the idle time of the balancers in front.
    #[arg(long, env = "LIVERANK_KEEP_ALIVE_SECONDS", value_name = "SECONDS", default_value_t = KEEP_ALIVE_TIMEOUT.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    keep_alive_seconds: u64,
    /// Pages of which origins may use the public endpoints and `WebSockets`, comma-separated, as `https://example.org`; `*`
    /// is every page. Clients that are not browsers send no origin and are not asked.
    #[arg(
        long,
        env = "LIVERANK_ALLOWED_ORIGINS",
        value_name = "ORIGIN,…",
        value_delimiter = ',',
        default_value = "*"
    )]
    allowed_origins: Vec<AllowedOrigin>,
    /// Pages of the allowed origins may send cookies and HTTP authentication; needs a list of origins.
    #[arg(long, env = "LIVERANK_ALLOW_CREDENTIALS")]
    allow_credentials: bool,
    /// How many proxies of ours stand in front. Each adds the address of its client to `X-Forwarded-For`; so many of these,
    /// from the end, are believed.
    #[arg(long, env = "LIVERANK_TRUSTED_PROXIES", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=16))]
    trusted_proxies: u8,
    /// Networks of balancers of ours that pass bytes on and say whom they speak for by the PROXY protocol, version 1 or 2, as
    /// 10.0.0.0/8, comma-separated. Their connections have to begin with it; it is believed of nobody else.
    #[arg(long, env = "LIVERANK_PROXY_PROTOCOL_FROM", value_name = "NETWORK,…", value_delimiter = ',',
          value_parser = parse_network)]
    proxy_protocol_from: Vec<IpNet>,
}

/// A network, or one address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| one()).map_err(|_| "must be an address, or a network as 10.0.0.0/8".to_owned())
}

impl HttpArgs {
    /// The settings that these flags make.
    ///
    /// # Errors
    /// Flags that contradict each other.
    pub fn settings(&self) -> anyhow::Result<HttpSettings> {
        Ok(HttpSettings {
            keep_alive: Duration::from_secs(self.keep_alive_seconds),
            origins: Arc::new(AllowedOrigins::new(&self.allowed_origins, self.allow_credentials)?),
            trusted_proxies: self.trusted_proxies,
            proxy_protocol_from: self.proxy_protocol_from.clone().into(),
            ..HttpSettings::default()
        })
    }
}

/// What every HTTP port of a process is run with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long a connection may stay open between two requests.
    pub keep_alive: Duration,
    /// Whose pages may use what is public.
    pub origins: Arc<AllowedOrigins>,
    /// How many entries of `X-Forwarded-For`, from the end, are believed.
    pub trusted_proxies: u8,
    /// Whose connections begin with the PROXY protocol.
    pub proxy_protocol_from: Arc<[IpNet]>,
    /// Room for bytes of request bodies.
    pub uploads: UploadRoom,
    /// TLS of the ports; `None`: they take plain HTTP.
    pub tls: Option<ListenerTls>,
    /// TLS of the admin port; `None`: plain HTTP.
    pub admin_tls: Option<ListenerTls>,
}

impl HttpSettings {
    /// How addresses of these ports begin.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            keep_alive: KEEP_ALIVE_TIMEOUT,
            origins: Arc::default(),
            trusted_proxies: 0,
            proxy_protocol_from: Arc::default(),
            uploads: UploadRoom::default(),
            tls: None,
            admin_tls: None,
        }
    }
}
