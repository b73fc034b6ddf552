//! The addresses that the load is sent to, used in turn; an address that has just failed is avoided.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use reqwest::Url;

/// The time for which an address that failed is avoided, if there are others.
const AVOID_FOR: Duration = Duration::from_secs(1);

/// One address that load is sent to.
#[derive(Debug)]
pub struct TargetAddress {
    base_url: Url,
    /// The time until which the address is avoided, in milliseconds since the start.
    avoided_until: AtomicU64,
}

impl TargetAddress {
    /// Returns the URL of `path` at this address. `path` must be percent-encoded already.
    pub fn url(&self, path: &str) -> Url {
        url_at(&self.base_url, path)
    }

    /// Returns the address without a path.
    pub const fn base(&self) -> &Url {
        &self.base_url
    }
}

/// Returns the URL of `path`, which may have a query, below a base address.
pub fn url_at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

/// The addresses that load is sent to, at least one. Cheap to clone: all clones share the position in the list from
/// which the next address is taken.
#[derive(Debug, Clone)]
pub struct TargetAddresses {
    all_targets: Arc<[Arc<TargetAddress>]>,
    next_index: Arc<AtomicUsize>,
    start: Instant,
    /// The token that streams and `WebSockets` show; `None` where no tokens are asked for.
    token: Option<Arc<str>>,
}

impl TargetAddresses {
    /// Creates the list of these addresses.
    pub fn new(urls: &[Url]) -> Self {
        let target =
            |url: &Url| Arc::new(TargetAddress { base_url: url.clone(), avoided_until: AtomicU64::new(0) });
        Self {
            all_targets: urls.iter().map(target).collect(),
            next_index: Arc::default(),
            start: Instant::now(),
            token: None,
        }
    }

    /// Returns the list with a token that streams and `WebSockets` show there.
    #[must_use]
    pub fn with_token(self, token: Option<&str>) -> Self {
        Self { token: token.map(Arc::from), ..self }
    }

    /// Returns the value of the header `Authorization` of streams and `WebSockets`; `None` without a token.
    pub fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Returns the next address in turn that has not just failed; if all have, the next one in turn.
    pub fn next_target(&self) -> Arc<TargetAddress> {
        let turn = self.next_index.fetch_add(1, Relaxed);
        let now = self.now_ms();
        let in_turn =
            (0..self.all_targets.len()).map(|n| &self.all_targets[(turn + n) % self.all_targets.len()]);
        let usable = in_turn.clone().find(|target| target.avoided_until.load(Relaxed) <= now);
        Arc::clone(usable.unwrap_or(&self.all_targets[turn % self.all_targets.len()]))
    }

    /// Notes that a target failed: others are chosen first for [`AVOID_FOR`].
    pub fn note_failed(&self, target: &TargetAddress) {
        target.avoided_until.store(self.now_ms() + AVOID_FOR.as_millis() as u64, Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// The number of viewers that connect from one source address. The kernel has some 28,000 ports for each source
/// address, and tries one after the other of the half that it uses first for connecting. If many ports are taken, each
/// connection costs the kernel milliseconds, and a crowd that is to come at once would take tens of seconds.
const VIEWERS_A_SOURCE_ADDRESS: usize = 4_000;

/// Returns the loopback address from which the `nth` of many clients connects.
fn local_bind_address(nth: usize) -> std::net::Ipv4Addr {
    const SOURCE_ADDRESS_COUNT: usize = 250;
    std::net::Ipv4Addr::new(127, 0, 0, 1 + (nth / VIEWERS_A_SOURCE_ADDRESS % SOURCE_ADDRESS_COUNT) as u8)
}

/// Connects to the host of `url` as the `nth` of many clients. If the host is this machine, the clients use several
/// source addresses. `buffer` is the size of the socket's receive buffer in bytes.
pub async fn connect_to(
    url: &Url,
    nth: usize,
    buffer: Option<u32>,
) -> std::io::Result<tokio::net::TcpStream> {
    let host = url.host_str().unwrap_or("localhost").trim_matches(['[', ']']);
    let mut last = None;
    for address in tokio::net::lookup_host((host, url.port_or_known_default().unwrap_or(80))).await? {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let source = local_bind_address(nth);
        // The first clients use the default source address, because some systems have no other loopback addresses.
        if address.is_ipv4() && address.ip().is_loopback() && source != std::net::Ipv4Addr::LOCALHOST {
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        match socket.connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(urls: &[&str]) -> TargetAddresses {
        TargetAddresses::new(&urls.iter().map(|url| url.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn targets_take_turns_and_a_failed_one_is_avoided() {
        let targets = targets(&["http://a", "http://b"]);
        let hosts = |count| -> Vec<String> {
            (0..count).map(|_| targets.next_target().base().host_str().unwrap().to_owned()).collect()
        };
        assert_eq!(hosts(4), ["a", "b", "a", "b"]);
        targets.note_failed(&targets.all_targets[0]);
        assert_eq!(hosts(3), ["b", "b", "b"]);
        targets.note_failed(&targets.all_targets[1]);
        assert_eq!(hosts(2).len(), 2, "with none left, any will do");
    }

    #[test]
    fn a_crowd_leaves_most_ports_of_each_of_its_addresses_free() {
        // The kernel uses one half of the ports 32,768 to 60,999 for connecting: every second one.
        let half = (61_000 - 32_768) / 2;
        let mut crowds = std::collections::BTreeMap::<_, usize>::new();
        (0..100_000).for_each(|nth| *crowds.entry(local_bind_address(nth)).or_default() += 1);
        assert!(crowds.values().all(|crowd| 2 * crowd < half), "{crowds:?}");
        assert!(crowds.keys().all(std::net::Ipv4Addr::is_loopback));
    }

    #[test]
    fn url_paths_are_below_the_base() {
        let base: Url = "http://h:1/sub/".parse().unwrap();
        assert_eq!(url_at(&base, "/videos?limit=2").as_str(), "http://h:1/sub/videos?limit=2");
    }
}
