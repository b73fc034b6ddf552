//! A TCP proxy between our processes and a store, which can cut, silence and slow down the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The most bytes that are forwarded at once; in a slow network each such chunk is delayed, which limits the
/// bandwidth.
const CHUNK_BYTES: usize = 16 * 1024;
/// The time limit until a store that is up accepts a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The behaviour of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkState {
    /// All bytes are forwarded.
    Open,
    /// Existing and new connections are reset.
    Reset,
    /// Nothing is forwarded, and no connection is closed. Bytes sent meanwhile arrive afterwards, as with TCP.
    Stalled,
    /// Every 16 KiB are delayed by this time, in each direction.
    Slow(Duration),
}

/// The proxy of one store.
pub struct Proxy {
    ours: watch::Sender<NetworkState>,
    others: watch::Sender<NetworkState>,
    port: u16,
}

impl Proxy {
    /// Starts a proxy that listens on `port` and forwards to `to`. A connection whose first bytes contain `ours` is
    /// one of our processes'; connections among the members of a replica set use the same ports, and have a network
    /// setting of their own.
    pub async fn start(port: u16, to: u16, ours: &'static [u8]) -> anyhow::Result<Arc<Self>> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let open = || watch::Sender::new(NetworkState::Open);
        let proxy = Arc::new(Self { ours: open(), others: open(), port });
        let accepting = Arc::clone(&proxy);
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    // The process has no file descriptors left: other connections must end first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let proxy = Arc::clone(&accepting);
                tokio::spawn(async move {
                    // Both sides see the end of the connection; an error needs no other report.
                    let _ = proxy.forward_connection(client, to, ours).await;
                });
            }
        });
        Ok(proxy)
    }

    /// Sets the behaviour of the network for connections of our processes.
    pub fn set(&self, network: NetworkState) {
        self.ours.send_replace(network);
    }

    /// Sets the behaviour of the network for all other connections.
    pub fn set_others(&self, network: NetworkState) {
        self.others.send_replace(network);
    }

    /// Returns the port on which the proxy listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    async fn forward_connection(
        &self,
        mut client: TcpStream,
        to: u16,
        ours: &'static [u8],
    ) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut first = vec![0; CHUNK_BYTES];
        let count = client.read(&mut first).await?;
        first.truncate(count);
        let is_ours = ours.is_empty() || first.windows(ours.len()).any(|window| window == ours);
        let network = if is_ours { self.ours.subscribe() } else { self.others.subscribe() };
        forward_bytes(client, to, &first, network).await
    }
}

async fn forward_bytes(
    client: TcpStream,
    to: u16,
    first: &[u8],
    network: watch::Receiver<NetworkState>,
) -> std::io::Result<()> {
    let mut gate = network.clone();
    if !wait_until_passes(&mut gate).await {
        return reset_connection(&client);
    }
    let store = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(("127.0.0.1", to))).await??;
    store.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_store, mut to_store) = store.into_split();
    to_store.write_all(first).await?;
    let cut = tokio::select! {
        cut = carry_one_way(from_client, &mut to_store, network.clone()) => cut?,
        cut = async {
            let mut to_client = to_client;
            let cut = carry_one_way(from_store, &mut to_client, network).await;
            if matches!(cut, Ok(true)) {
                reset_connection(to_client.as_ref())?;
            }
            cut
        } => cut?,
    };
    if cut { reset_connection(to_store.as_ref()) } else { Ok(()) }
}

/// Forwards bytes in one direction until the connection ends; returns whether the network was cut.
async fn carry_one_way(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut network: watch::Receiver<NetworkState>,
) -> std::io::Result<bool> {
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        let count = tokio::select! {
            count = from.read(&mut bytes) => count?,
            _ = network.wait_for(|network| *network == NetworkState::Reset) => return Ok(true),
        };
        if count == 0 {
            return Ok(false);
        }
        if !wait_until_passes(&mut network).await {
            return Ok(true);
        }
        to.write_all(&bytes[..count]).await?;
    }
}

/// Waits as long as the network delays or withholds bytes; returns false if the network is cut.
async fn wait_until_passes(network: &mut watch::Receiver<NetworkState>) -> bool {
    let slow = match *network.borrow_and_update() {
        NetworkState::Slow(delay) => Some(delay),
        _ => None,
    };
    if let Some(delay) = slow {
        tokio::time::sleep(delay).await;
    }
    let now = network.wait_for(|network| *network != NetworkState::Stalled).await;
    now.is_ok_and(|now| *now != NetworkState::Reset)
}

/// Makes the stream end with a reset when it is dropped.
fn reset_connection(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_zero_linger()
}
