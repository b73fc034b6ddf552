//! The HTTP/1 server of every port: an accept loop over hyper with the limits that `axum::serve` does not set.
//!
//! - at most [`MAX_CONNECTIONS_PER_PORT`] at once (or what the file limit allows), of which no address keeps more than another that asks
//!   for one (`places`);
//! - from balancers that are named, the PROXY protocol (`proxy_protocol`);
//! - where certificates are set, TLS and nothing else, shaken hands within that time ([`crate::tls`]);
//! - a request's head within [`HEAD_TIMEOUT`], a connection without a request as long as is set, an answer taken at no less
//!   than a least rate (`clock`);
//! - a peer that takes nothing for [`UNACKNOWLEDGED_TIMEOUT`] is gone;
//! - who has sent a whole request and shut down its sending side is answered; what a client still sends after an answer
//!   that did not wait for it is read and thrown away, so that the answer arrives (`connection`);
//! - on shutdown: no new connections, answers in flight finish, then at the deadline the rest is dropped.
//!
//! A handler can go on with the bare socket: see [`Hijack`].

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
use crate::process::confine_panics;
use crate::{ServiceContext, http_metrics, problem};

mod clock;
pub(crate) mod connection;
mod exchange;
mod hijack;
mod places;
pub mod proxy_protocol;
mod stream;

use places::{Entrance, Place, Places};

pub use clock::HEAD_TIMEOUT;
pub use exchange::RequestExchange;
pub use hijack::{ConnectionSlot, Hijack, RawConnection};

/// Connections of one port, where the process's file limit allows them.
pub const MAX_CONNECTIONS_PER_PORT: usize = 100_000;
/// Connections of an admin port: probes and scrapers; nobody else has business there.
const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Files that are not connections: stores, listeners, the runtime's own.
const RESERVED_FILES: u64 = 256;
/// How long a peer may leave data of ours unacknowledged, or its window shut, before the kernel closes.
pub const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that the kernel holds until they are accepted, where its own limit (usually 4,096) is no lower: who comes
/// when it is full tries again after a second, then three.
const LISTEN_BACKLOG: u32 = 8192;
/// After a failed accept (out of files), how long to wait: enough for something to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens, with an error that names the address and the reason.
#[expect(clippy::unused_async, reason = "says that it needs a runtime, which a listener registers with")]
pub async fn bind_listener(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    listen_on(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("{what} cannot listen on {address}: the port is in use by another process")
        }
        _ => anyhow::anyhow!("{what} cannot listen on {address}: {error}"),
    })
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the runtime's own listeners: a restart need not wait for the old connections' last timers.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Raises the soft limit of open files to the hard one, as servers do, and answers it.
pub fn raise_file_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)
}

/// Serves `service` until the shell's shutdown, then drains for at most its drain time. Every request is measured.
pub async fn serve_until_shutdown(
    service: CalledService,
    listener: TcpListener,
    router: Router,
    shell: &ServiceContext,
) -> anyhow::Result<()> {
    let router = http_metrics::measured(router, service, shell.metrics.http(), &shell.tracer);
    let connections = TaskTracker::new();
    // Who waits in the kernel's backlog when it is full is turned away and tries again after 1, 3, 7 … s. So all who are
    // there are accepted before any of them is answered; those who wait then wait here, up to the limit.
    let by_address = shell.http_settings.trusted_proxies == 0;
    let places = Places::new(connection_limit(), by_address, shell.metrics.http().ended_for_others(service));
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

/// Accepts connections until the shell's shutdown.
async fn accept_connections(
    listener: &TcpListener,
    router: &Router,
    shell: &ServiceContext,
    connections: &TaskTracker,
    places: &Arc<Places>,
) {
    for number in 1_u64.. {
        let entrance = tokio::select! {
            () = shell.shutdown.cancelled() => break,
            entrance = places.entrance() => entrance,
        };
        let accepted = tokio::select! {
            () = shell.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        if let Some((stream, peer)) = usable_connection(accepted).await {
            let (settings, shutdown) = (shell.http_settings.clone(), shell.shutdown.clone());
            let place = places.take(peer.ip(), entrance);
            connections.spawn(confine_panics(serve_in_place(
                stream,
                peer,
                place,
                router.clone(),
                settings,
                shutdown,
            )));
        }
        if number.is_multiple_of(u64::from(LISTEN_BACKLOG) / 4) {
            // A crowd without end must not keep those from their answers who are in.
            tokio::task::yield_now().await;
        }
    }
}

/// Serves one connection, once it has a place.
async fn serve_in_place(
    stream: TcpStream,
    peer: SocketAddr,
    place: Result<Place, Entrance>,
    router: Router,
    settings: HttpSettings,
    shutdown: CancellationToken,
) {
    let place = match place {
        Ok(place) => Some(place),
        Err(entrance) => tokio::select! {
            place = entrance.wait() => place,
            () = shutdown.cancelled() => None,
        },
    };
    if let Some(place) = place {
        connection::serve(stream, peer, place, router, settings, shutdown).await;
    }
}

/// Serves until the future is dropped: for the admin port, which outlives the drain.
pub async fn serve_until_dropped(
    listener: TcpListener,
    router: Router,
    settings: HttpSettings,
) -> anyhow::Result<()> {
    // Nobody looks at what it does for whom.
    let places = Places::new(MAX_ADMIN_CONNECTIONS, true, Counter::default());
    loop {
        let entrance = places.entrance().await;
        let Some((stream, peer)) = usable_connection(listener.accept().await).await else { continue };
        let (settings, never) = (settings.clone(), CancellationToken::new());
        let place = places.take(peer.ip(), entrance);
        tokio::spawn(confine_panics(serve_in_place(stream, peer, place, router.clone(), settings, never)));
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
    // Small events must not wait for more of them; a failure here means the peer is gone already.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    Some((stream, peer))
}

/// The router with what every port has: problems for unknown paths and methods.
pub fn with_problem_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    with_method_fallback(router.fallback(problem::no_such_path_problem))
}

/// The router with problems for unknown methods: for one that becomes a part of another.
pub fn with_method_fallback<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(axum::middleware::map_response(problem::no_such_method_problem))
}
