//! The flags and settings that all HTTP ports have in common, whichever service they belong to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::duration::{SettingUnit, parser_in_unit};
use crate::free_shares::CallerUnitPool;
use crate::origins::{AllowedOrigin, AllowedOrigins};
use crate::tls::ListenerTls;

/// The time that a connection may stay open between two requests: 75 s. Load balancers keep their idle connections for
/// 60 s (AWS, GCP, nginx). The server must wait longer than they do, or a request meets a connection that the server is
/// closing.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// The largest number of bytes of request bodies that a process holds at once, of complete and of incomplete bodies:
/// 256 MiB.
const MAX_BODY_BYTES_HELD: usize = 256 * 1024 * 1024;

/// Flags of every process that answers HTTP.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// The time that a connection may stay open between two requests. Set it above the idle time of the load balancers.
    #[arg(long, env = "LIVERANK_KEEP_ALIVE_SECONDS", value_name = "DURATION", default_value = "75s",
          value_parser = parser_in_unit::<u64>(SettingUnit::Seconds, 1, 3_600))]
    keep_alive_seconds: u64,
    /// The origins whose pages may use the public endpoints and `WebSockets`, comma-separated, as
    /// `https://example.org`; `*` is every page. Clients that are not browsers send no origin and are always admitted.
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
    /// The number of your own proxies in front. Each adds the address of its client to `X-Forwarded-For`; so many of
    /// its entries, counted from the end, are trusted.
    #[arg(long, env = "LIVERANK_TRUSTED_PROXIES", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=16))]
    trusted_proxies: u8,
    /// Networks of your own balancers that pass bytes on and name the client by the PROXY protocol, version 1 or 2, as
    /// 10.0.0.0/8, comma-separated. Their connections must begin with it; from others it is refused.
    #[arg(long, env = "LIVERANK_PROXY_PROTOCOL_FROM", value_name = "NETWORK,…", value_delimiter = ',',
          value_parser = parse_network)]
    proxy_protocol_from: Vec<IpNet>,
}

/// Parses a network such as `10.0.0.0/8`, or a single address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| one()).map_err(|_| "must be an address, or a network as 10.0.0.0/8".to_owned())
}

impl HttpArgs {
    /// Returns the HTTP settings that these flags describe.
    ///
    /// # Errors
    /// The flags contradict each other.
    pub fn settings(&self) -> anyhow::Result<HttpSettings> {
        Ok(HttpSettings {
            keep_alive: Duration::from_secs(self.keep_alive_seconds),
            allowed_origins: Arc::new(AllowedOrigins::new(&self.allowed_origins, self.allow_credentials)?),
            trusted_proxies: self.trusted_proxies,
            proxy_protocol_from: self.proxy_protocol_from.clone().into(),
            ..HttpSettings::default()
        })
    }
}

/// The settings of every HTTP port of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The time that a connection may stay open between two requests.
    pub keep_alive: Duration,
    /// The origins whose pages may use the public endpoints (CORS).
    pub allowed_origins: Arc<AllowedOrigins>,
    /// The number of entries of `X-Forwarded-For`, counted from its end, that are trusted.
    pub trusted_proxies: u8,
    /// The networks whose connections must begin with a header of the PROXY protocol.
    pub proxy_protocol_from: Arc<[IpNet]>,
    /// The limit on the bytes of request bodies that the process holds at once.
    pub upload_room: CallerUnitPool,
    /// TLS of the ports; `None`: the ports serve plain HTTP.
    pub tls: Option<ListenerTls>,
    /// TLS of the admin port; `None`: the admin port serves plain HTTP.
    pub admin_tls: Option<ListenerTls>,
}

impl HttpSettings {
    /// Returns the scheme of these ports' addresses: `https` or `http`.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            keep_alive: KEEP_ALIVE_TIMEOUT,
            allowed_origins: Arc::default(),
            trusted_proxies: 0,
            proxy_protocol_from: Arc::default(),
            upload_room: CallerUnitPool::new(MAX_BODY_BYTES_HELD),
            tls: None,
            admin_tls: None,
        }
    }
}
