//! The limit of connections of a port, shared fairly. While places are free, every connection gets one. When all are
//! taken, a client from an address with few connections takes the place of one connection of an address with more, so
//! that no host can hold all places.
//!
//! If trusted proxies stand in front of the port, all connections come from their addresses and say nothing about
//! clients: then places are not shared, and new connections wait in the kernel's backlog. A connection from a balancer
//! that speaks the PROXY protocol counts for the client that the balancer names.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::network::rate_limit_address;
use crate::shares::FairShares;

/// The largest number of accepted connections that may wait at the same time until another connection gives up its
/// place. The sockets of waiting connections are part of the open files that are kept free.
const MAX_WAITING_CONNECTIONS: usize = 64;
/// The time for which a connection waits until another connection gives up its place. The connection that has to close
/// may first finish its answer, which usually takes milliseconds.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The places of a port's connections.
pub(super) struct ConnectionPlaces {
    free_places: Arc<Semaphore>,
    waiting_permits: Arc<Semaphore>,
    /// The connections of each address that hold a place; `None` if addresses are not those of clients.
    places_by_address: Option<Mutex<FairShares<IpAddr, CancellationToken>>>,
    /// Counts connections that were closed to make room for others.
    displaced_connections: Counter,
}

/// The place of one connection.
pub(super) struct Place {
    /// The permit within the port's limit; to be kept for as long as the socket.
    pub permit: OwnedSemaphorePermit,
    /// The connection's part in the number that its address holds, for as long as hyper serves the connection. A stream
    /// that was handed over is counted by its own kind of shares.
    pub share: AddressShare,
}

/// The part of one connection in the number of places that its address holds. The part ends when this value is dropped.
pub(super) struct AddressShare {
    places: Arc<ConnectionPlaces>,
    /// The address and the number of the place; `None` if places are not shared by address.
    held_place: Option<(IpAddr, u64)>,
    /// Cancelled when the connection has to be closed to make room for another.
    pub leave_signal: CancellationToken,
}

impl ConnectionPlaces {
    /// Creates `count` places. `by_address`: clients are told apart by the addresses that they connect from.
    pub fn new(count: usize, by_address: bool, displaced_connections: Counter) -> Arc<Self> {
        Arc::new(Self {
            free_places: Arc::new(Semaphore::new(count)),
            waiting_permits: Arc::new(Semaphore::new(MAX_WAITING_CONNECTIONS)),
            places_by_address: by_address.then(|| Mutex::new(FairShares::new(usize::MAX, usize::MAX))),
            displaced_connections,
        })
    }

    /// Completes when another connection may be accepted: with shares, when another connection may wait; without
    /// shares, when a place is free. The permit has to be kept until the connection has a place.
    pub async fn acquire_admission(&self) -> OwnedSemaphorePermit {
        let doors = if self.places_by_address.is_some() { &self.waiting_permits } else { &self.free_places };
        Arc::clone(doors).acquire_owned().await.expect("these are never closed")
    }

    /// Returns a place for a connection of `address` if one is free now; else a `WaitingConnection` to wait with.
    pub fn try_take_place(
        self: &Arc<Self>,
        address: IpAddr,
        entrance: OwnedSemaphorePermit,
    ) -> Result<Place, WaitingConnection> {
        if self.places_by_address.is_none() {
            return Ok(Place { permit: entrance, share: AddressShare::none(self) });
        }
        match Arc::clone(&self.free_places).try_acquire_owned() {
            Ok(permit) => {
                Ok(Place { permit, share: self.count_for_address(address, CancellationToken::new()) })
            }
            Err(_) => Err(WaitingConnection { places: Arc::clone(self), address, _waits: entrance }),
        }
    }

    fn count_for_address(self: &Arc<Self>, address: IpAddr, leave_signal: CancellationToken) -> AddressShare {
        let holder = rate_limit_address(address);
        let given =
            self.lock_shares().and_then(|mut holders| holders.give_place(holder, leave_signal.clone()));
        let held_place = given.map(|given| (holder, given.place_number));
        AddressShare { places: Arc::clone(self), held_place, leave_signal }
    }

    fn lock_shares(&self) -> Option<MutexGuard<'_, FairShares<IpAddr, CancellationToken>>> {
        Some(self.places_by_address.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection that was accepted while all places were taken, and that waits for one.
pub(super) struct WaitingConnection {
    places: Arc<ConnectionPlaces>,
    address: IpAddr,
    _waits: OwnedSemaphorePermit,
}

impl WaitingConnection {
    /// Asks a connection of the address with the most places to close, and waits for its place. Returns `None` if this
    /// address already has its share, or no place became free in time.
    pub async fn displace_and_wait(self) -> Option<Place> {
        let leave_signal = CancellationToken::new();
        let holder = rate_limit_address(self.address);
        let given = self.places.lock_shares()?.displace_largest_holder(holder, leave_signal.clone())?;
        let share = AddressShare {
            places: Arc::clone(&self.places),
            held_place: Some((holder, given.place_number)),
            leave_signal,
        };
        if let Some(other) = given.displaced_value {
            other.cancel();
            self.places.displaced_connections.inc();
        }
        let free = Arc::clone(&self.places.free_places).acquire_owned();
        let permit = tokio::time::timeout(WAIT_TIMEOUT, free).await.ok()?.ok()?;
        Some(Place { permit, share })
    }
}

impl AddressShare {
    fn none(places: &Arc<ConnectionPlaces>) -> Self {
        Self { places: Arc::clone(places), held_place: None, leave_signal: CancellationToken::new() }
    }

    /// Counts the connection for this address from now on, because a balancer has named the client.
    pub fn move_to_address(&mut self, address: IpAddr) {
        if self.held_place.as_ref().is_none_or(|(holder, _)| *holder == rate_limit_address(address)) {
            return;
        }
        let (places, leave) = (Arc::clone(&self.places), self.leave_signal.clone());
        *self = places.count_for_address(address, leave);
    }
}

impl Drop for AddressShare {
    fn drop(&mut self) {
        if let (Some((holder, number)), Some(mut holders)) = (&self.held_place, self.places.lock_shares()) {
            holders.free_place(holder, *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::server::accept_connections;
    use crate::{HttpSettings, ServiceContext};

    const PLACE_COUNT: usize = 3;
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// A port with three places.
    struct SmallPort {
        address: SocketAddr,
        places: Arc<ConnectionPlaces>,
        shell: ServiceContext,
        /// Each permit lets one slow request be answered.
        slow: Arc<Semaphore>,
    }

    impl SmallPort {
        async fn start(http: HttpSettings) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let shell = ServiceContext { http_settings: http, ..ServiceContext::new(Duration::from_secs(1)) };
            let places = ConnectionPlaces::new(
                PLACE_COUNT,
                shell.http_settings.trusted_proxies == 0,
                Counter::default(),
            );
            let slow = Arc::new(Semaphore::new(0));
            let let_go = Arc::clone(&slow);
            let answer_slowly = move || async move {
                let_go.acquire().await.unwrap().forget();
                "slow answer"
            };
            let router =
                Router::new().route("/", get(|| async { "answer" })).route("/slow", get(answer_slowly));
            let (own, served) = (Arc::clone(&places), shell.clone());
            tokio::spawn(async move {
                accept_connections(&listener, &router, &served, &TaskTracker::new(), &own).await;
            });
            Self { address, places, shell, slow }
        }

        /// Opens a connection from 127.0.0.`host`.
        async fn connect(&self, host: u8) -> TcpStream {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
            socket.connect(self.address).await.unwrap()
        }

        /// Takes all places by connections from 127.0.0.1 that each send `bytes`.
        async fn fill(&self, bytes: &[u8]) -> Vec<TcpStream> {
            let mut hogs = Vec::new();
            for _ in 0..PLACE_COUNT {
                let mut hog = self.connect(1).await;
                hog.write_all(bytes).await.unwrap();
                hogs.push(hog);
            }
            until("all places are taken", || self.places.free_places.available_permits() == 0).await;
            hogs
        }
    }

    impl Drop for SmallPort {
        fn drop(&mut self) {
            self.shell.shutdown.cancel();
        }
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let waited = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// Returns the text that arrives until the server closes the connection.
    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut bytes)).await;
        // A reset of the connection is an end, too.
        drop(read.expect("the server closes in time"));
        String::from_utf8(bytes).unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
        read_to_end(stream).await
    }

    #[tokio::test]
    async fn a_host_that_holds_all_connections_gives_some_to_other_hosts() {
        // The connections send nothing, or a head that never ends.
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\nhost: "] {
            let port = SmallPort::start(HttpSettings::default()).await;
            let mut hogs = port.fill(bytes).await;
            let mut guest = port.connect(2).await;
            assert!(ask(&mut guest).await.ends_with("answer"));
            assert_eq!(port.places.displaced_connections.get(), 1);
            let closed = hogs.iter_mut().map(|hog| Box::pin(read_to_end(hog)));
            let (told, _, _) = futures::future::select_all(closed).await;
            assert_eq!(told, "");
        }
    }

    #[tokio::test]
    async fn a_host_with_its_share_is_closed_at_once_and_nobody_has_to_leave_for_it() {
        let port = SmallPort::start(HttpSettings::default()).await;
        let _hogs = port.fill(b"").await;
        assert_eq!(read_to_end(&mut port.connect(1).await).await, "");
        assert_eq!(port.places.displaced_connections.get(), 0);
        let waiting = MAX_WAITING_CONNECTIONS - port.places.waiting_permits.available_permits();
        assert_eq!(waiting, 1, "only who comes next has an entrance");
    }

    #[tokio::test]
    async fn a_request_under_way_is_not_cut_off_for_another_host() {
        let port = SmallPort::start(HttpSettings::default()).await;
        let mut hogs = port.fill(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let mut guest = port.connect(2).await;
        let asking = tokio::spawn(async move { ask(&mut guest).await });
        until("one is asked to leave", || port.places.displaced_connections.get() > 0).await;
        assert_eq!(port.places.free_places.available_permits(), 0, "who is asked to leave is answered first");
        port.slow.add_permits(PLACE_COUNT);
        assert!(asking.await.unwrap().ends_with("answer"));
        for hog in &mut hogs {
            let mut answer = [0; 512];
            let length = hog.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"slow answer"), "{:?}", str::from_utf8(&answer[..length]));
        }
    }

    #[tokio::test]
    async fn behind_proxies_of_ours_nobody_has_to_leave() {
        let port = SmallPort::start(HttpSettings { trusted_proxies: 1, ..HttpSettings::default() }).await;
        let mut hogs = port.fill(b"").await;
        let mut guest = port.connect(2).await;
        let asking = tokio::spawn(async move { ask(&mut guest).await });
        drop(hogs.pop());
        assert!(asking.await.unwrap().ends_with("answer"), "it waited for one that ended by itself");
        for hog in &hogs {
            let read = hog.try_read(&mut [0; 1]);
            assert!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it is open");
        }
    }
}
