//! The HTTP/1 server of every port: an accept loop over hyper with the limits that `axum::serve` does not set.
//!
//! - at most [`MAX_CONNECTIONS_PER_PORT`] connections at once (or what the limit of open files allows). When all are
//!   taken, a client with fewer connections takes the place of one of the client with the most (`places`);
//! - from configured balancers, the PROXY protocol (`proxy_protocol`);
//! - if certificates are set, TLS only, with a handshake within [`HEAD_TIMEOUT`], too ([`crate::tls`]);
//! - a request's head must arrive within [`HEAD_TIMEOUT`], an idle connection is closed after the configured time, and
//!   a peer must read an answer at no less than a minimum rate (`clock`);
//! - a peer that acknowledges nothing for [`UNACKNOWLEDGED_TIMEOUT`] is disconnected;
//! - a client that has sent a whole request and shut down its sending side is still answered; what a client still sends
//!   after an answer that did not wait for the whole body is read and thrown away, so that the answer arrives
//!   (`connection`);
//! - on shutdown: no new connections are accepted, answers in flight finish, and at the deadline the rest is dropped.
//!
//! A handler can take over the raw socket: see [`Hijack`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use liverank_protocol::access::CalledService;
use prometheus_client::metrics::counter::Counter;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http_args::HttpSettings;
use crate::problem::PortOwner;
use crate::process::confine_panics;
use crate::{ServiceContext, http_metrics, problem};

mod clock;
pub(crate) mod connection;
mod exchange;
mod hijack;
mod places;
pub mod proxy_protocol;
mod stream;

use places::{ConnectionPlaces, Place, WaitingConnection};

pub use clock::HEAD_TIMEOUT;
pub use exchange::RequestExchange;
pub use hijack::{ConnectionSlot, Hijack, RawConnection};

/// The largest number of connections of one port, if the process's limit of open files allows them.
pub const MAX_CONNECTIONS_PER_PORT: usize = 100_000;
/// The largest number of connections of an admin port, which only probes and scrapers use.
const MAX_ADMIN_CONNECTIONS: usize = 64;
/// The number of open files that are kept free for stores, listeners and the runtime itself.
const RESERVED_FILES: u64 = 256;
/// The time for which a peer may leave sent data unacknowledged, or its receive window shut, before the kernel closes
/// the connection (`TCP_USER_TIMEOUT`).
pub const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of connections that the kernel holds until they are accepted, if its own limit (usually 4,096) is no
/// lower. A client that connects when the backlog is full tries again after one second, then after three.
const LISTEN_BACKLOG: u32 = 8192;
/// The pause after a failed accept (out of open files): enough for some connection to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on `address`. An error names `what` listens, the address and the reason, and the `flag` that sets the address.
#[expect(clippy::unused_async, reason = "says that it needs a runtime, which a listener registers with")]
pub async fn bind_listener(address: SocketAddr, what: &str, flag: &str) -> anyhow::Result<TcpListener> {
    listen_on(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{what} cannot listen on {address}: the port is in use by another process, perhaps by a liverank that runs \
             already; {flag} sets another address"
        ),
        _ => anyhow::anyhow!("{what} cannot listen on {address} ({flag}): {error}"),
    })
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The async runtime sets this option on its listeners, too: after a restart, the port can be used at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Raises the soft limit of open files to the hard limit, and returns the limit in force.
pub fn raise_file_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)
}

/// Serves `router` on `listener` until the shutdown, then waits for open connections for at most the drain time. Every
/// request is measured.
pub async fn serve_until_shutdown(
    service: CalledService,
    listener: TcpListener,
    router: Router,
    shell: &ServiceContext,
) -> anyhow::Result<()> {
    let router = http_metrics::with_measuring_layers(router, service, shell.metrics.http(), &shell.tracer);
    let connections = TaskTracker::new();
    // A client that connects while the kernel's backlog is full is turned away and tries again after 1, 3, 7 … s. So
    // all waiting connections are accepted before any of them is answered; they then wait in this process, up to the
    // limit.
    let by_address = shell.http_settings.trusted_proxies == 0;
    let places = ConnectionPlaces::new(
        connection_limit(),
        by_address,
        shell.metrics.http().displaced_connections(service),
    );
    tokio::task::unconstrained(accept_connections(&listener, &router, shell, &connections, &places)).await;
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = tokio::time::sleep(shell.drain_time) => {
            tracing::warn!(connections = connections.len(), "connections were left at the drain's deadline");
        }
    }
    Ok(())
}

/// Accepts connections until the shutdown.
async fn accept_connections(
    listener: &TcpListener,
    router: &Router,
    shell: &ServiceContext,
    connections: &TaskTracker,
    places: &Arc<ConnectionPlaces>,
) {
    for number in 1_u64.. {
        let entrance = tokio::select! {
            () = shell.shutdown.cancelled() => break,
            entrance = places.acquire_admission() => entrance,
        };
        let accepted = tokio::select! {
            () = shell.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        if let Some((stream, peer)) = usable_connection(accepted).await {
            let (settings, shutdown) = (shell.http_settings.clone(), shell.shutdown.clone());
            let place = places.try_take_place(peer.ip(), entrance);
            connections.spawn(confine_panics(wait_for_place_and_serve(
                stream,
                peer,
                place,
                router.clone(),
                settings,
                shutdown,
            )));
        }
        if number.is_multiple_of(u64::from(LISTEN_BACKLOG) / 4) {
            // An endless stream of new connections must not delay the answers on those that were accepted.
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until the connection has a place within the port's limit, and serves it.
async fn wait_for_place_and_serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: Result<Place, WaitingConnection>,
    router: Router,
    settings: HttpSettings,
    shutdown: CancellationToken,
) {
    let place = match place {
        Ok(place) => Some(place),
        Err(entrance) => tokio::select! {
            place = entrance.displace_and_wait() => place,
            () = shutdown.cancelled() => None,
        },
    };
    if let Some(place) = place {
        connection::serve(stream, peer, place, router, settings, shutdown).await;
    }
}

/// Serves a router until this future is dropped: for the admin port, which must outlive the drain.
pub async fn serve_until_dropped(
    listener: TcpListener,
    router: Router,
    settings: HttpSettings,
) -> anyhow::Result<()> {
    // Nobody reads the counter of this port.
    let places = ConnectionPlaces::new(MAX_ADMIN_CONNECTIONS, true, Counter::default());
    loop {
        let entrance = places.acquire_admission().await;
        let Some((stream, peer)) = usable_connection(listener.accept().await).await else { continue };
        let (settings, never) = (settings.clone(), CancellationToken::new());
        let place = places.try_take_place(peer.ip(), entrance);
        tokio::spawn(confine_panics(wait_for_place_and_serve(
            stream,
            peer,
            place,
            router.clone(),
            settings,
            never,
        )));
    }
}

fn connection_limit() -> usize {
    let files = rlimit::Resource::NOFILE.get_soft().unwrap_or(1024);
    files.saturating_sub(RESERVED_FILES).clamp(64, MAX_CONNECTIONS_PER_PORT as u64) as usize
}

async fn usable_connection(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<(TcpStream, SocketAddr)> {
    let Ok((stream, peer)) = accepted else {
        tokio::time::sleep(ACCEPT_PAUSE).await;
        return None;
    };
    // Small events must be sent at once (`TCP_NODELAY`). The call fails only if the peer is already gone.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    Some((stream, peer))
}

/// Adds problems as the answers for unknown paths and methods, for the router of a whole port, which belongs to `owner`.
pub fn with_problem_fallbacks<S: Clone + Send + Sync + 'static>(
    owner: PortOwner,
    router: Router<S>,
) -> Router<S> {
    with_method_fallback(router.fallback(move || async move { problem::no_such_path_problem(owner) }))
}

/// Adds problems as the answers for unknown methods only, for a router that becomes a part of another router.
pub fn with_method_fallback<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(axum::middleware::map_response(problem::no_such_method_problem))
}
