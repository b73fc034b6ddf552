//! Connections that stay open (comment streams, `WebSockets`): their limit, their end when the process shuts down, and
//! the answer to a viewer for whom there is no room.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::network::rate_limit_address;
use crate::shares::FairShares;
use crate::{ServiceContext, server};

/// The content type of server-sent events. Such events are always UTF-8; the charset is for clients that would
/// otherwise assume Latin-1.
pub const EVENT_STREAM_CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// Returns an answer whose body is a stream of server-sent events.
pub fn event_stream(body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, EVENT_STREAM_CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Tells nginx, and proxies that follow its convention, to pass on each event at once.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body.into()).into_response()
}

/// Returns the last event of a stream, which tells the client how many milliseconds to wait before it reconnects. The
/// time is random within `millis`, so that clients that are disconnected together do not come back together.
pub fn reconnect_event(millis: RangeInclusive<u64>) -> Bytes {
    Bytes::from(format!("retry: {}\n\n", rand::random_range(millis)))
}

/// Returns true if a client accepts event streams only, as a browser's `EventSource` does. Such a client never
/// reconnects after an answer that is neither a stream with status 200 nor a redirect (HTML standard, 9.2.3). So a
/// temporary refusal must be answered with a stream that ends at once.
pub fn accepts_event_streams_only(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or("*/*"));
    let mut ranges = accepted
        .flat_map(|accepted| accepted.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .filter(|range| !range.is_empty())
        .peekable();
    ranges.peek().is_some() && ranges.all(|range| range.eq_ignore_ascii_case("text/event-stream"))
}

/// The part of the drain time over which streams are closed; the rest of it is for their last bytes.
const CLOSING_PART_OF_DRAIN: f64 = 0.7;
/// The number of open files that one stream may need: a socket to the client, one to the service behind it, that
/// service's end if both run in one process, and one for everything else.
const FILES_PER_STREAM: u64 = 4;

/// All open streams of the process.
pub struct Streams {
    shares: Arc<Mutex<FairShares<IpAddr, CancellationToken>>>,
    shutdown: CancellationToken,
    drain_time: Duration,
    /// The tasks of streams that live outside of their HTTP connection (`WebSockets`).
    pub stream_tasks: TaskTracker,
    open_gauge: Gauge,
}

impl Streams {
    /// Creates room for `limit` streams, or for fewer if the limit of open files requires it.
    pub fn new(limit: usize, shell: &ServiceContext, open: Gauge) -> Self {
        Self::with_client_limit(limit, usize::MAX, shell, open)
    }

    /// Creates room for streams as [`Streams::new`] does, with at most `most` streams of one client.
    pub fn with_client_limit(limit: usize, most: usize, shell: &ServiceContext, open: Gauge) -> Self {
        let by_files = (server::raise_file_limit() / FILES_PER_STREAM).max(16) as usize;
        Self {
            shares: Arc::new(Mutex::new(FairShares::new(limit.min(by_files), most))),
            shutdown: shell.shutdown.clone(),
            drain_time: shell.drain_time,
            stream_tasks: TaskTracker::new(),
            open_gauge: open,
        }
    }

    /// Admits one more stream of `client`. If no room is left, a stream of the client with the most streams is closed
    /// in exchange. Returns `None` if this client already has its share, or the process is shutting down.
    pub fn admit_stream(&self, client: IpAddr) -> Option<StreamPermit> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        let client = rate_limit_address(client);
        let sent_away = CancellationToken::new();
        let given = lock(&self.shares).give_place(client, sent_away.clone())?;
        if let Some(other) = given.displaced_value {
            other.cancel();
        }
        self.open_gauge.inc();
        let shutdown = self.shutdown.clone();
        let spread = self.drain_time.mul_f64(CLOSING_PART_OF_DRAIN);
        // Clients that are disconnected at once reconnect elsewhere at once: so each stream waits for a random part of
        // the drain.
        let leave = Box::pin(async move {
            tokio::select! {
                () = shutdown.cancelled() => tokio::time::sleep(spread.mul_f64(rand::random())).await,
                () = sent_away.cancelled() => {}
            }
        });
        let (shares, open) = (Arc::clone(&self.shares), self.open_gauge.clone());
        Some(StreamPermit {
            leave_signal: leave,
            open_gauge: open,
            shares,
            client,
            place_number: given.place_number,
        })
    }

    /// Waits for the shutdown, and then for the tasks of the streams, for at most the drain time.
    pub async fn wait_until_drained(&self) {
        self.shutdown.cancelled().await;
        self.stream_tasks.close();
        let _ = tokio::time::timeout(self.drain_time, self.stream_tasks.wait()).await;
    }
}

/// The permit of one open stream; dropping it makes room for another stream.
pub struct StreamPermit {
    /// Completes when this stream has to be closed.
    pub leave_signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    open_gauge: Gauge,
    shares: Arc<Mutex<FairShares<IpAddr, CancellationToken>>>,
    client: IpAddr,
    place_number: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        lock(&self.shares).free_place(&self.client, self.place_number);
        self.open_gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_accepts_streams_alone_is_told_from_one_that_reads_errors() {
        let takes = |accepted: &[&str]| {
            let header = |value: &&str| (header::ACCEPT, value.parse().unwrap());
            accepts_event_streams_only(&accepted.iter().map(header).collect())
        };
        assert!(takes(&["text/event-stream"]) && takes(&["Text/Event-Stream; q=0.9"]));
        for accepted in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/event-stream, application/problem+json"],
            &["text/event-stream", "*/*;q=0.1"],
            &["application/json"],
        ] {
            assert!(!takes(accepted), "{accepted:?}");
        }
    }

    #[test]
    fn a_client_is_asked_back_within_the_range() {
        for _ in 0..100 {
            let event = String::from_utf8(reconnect_event(5..=7).to_vec()).unwrap();
            let millis = event.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            assert!((5..=7).contains(&millis.parse::<u64>().unwrap()), "{event:?}");
        }
    }

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn streams_are_limited_and_leave_within_the_drain() {
        let shell = ServiceContext::new(Duration::from_secs(10));
        let open = Gauge::default();
        let streams = Streams::new(2, &shell, open.clone());
        let (first, second) =
            (streams.admit_stream(LOCALHOST).unwrap(), streams.admit_stream(LOCALHOST).unwrap());
        assert!(streams.admit_stream(LOCALHOST).is_none());
        drop(second);
        let second = streams.admit_stream(LOCALHOST).unwrap();
        assert_eq!(open.get(), 2);
        shell.shutdown.cancel();
        let start = tokio::time::Instant::now();
        tokio::join!(first.leave_now(), second.leave_now());
        assert!(
            start.elapsed() <= shell.drain_time.mul_f64(CLOSING_PART_OF_DRAIN) + Duration::from_millis(1)
        );
        assert!(streams.admit_stream(LOCALHOST).is_none(), "a process on its way out takes no more");
    }

    #[tokio::test]
    async fn the_client_with_most_streams_gives_one_up_when_full() {
        let shell = ServiceContext::new(Duration::from_secs(10));
        let streams = Streams::new(4, &shell, Gauge::default());
        let mut hog: Vec<_> = (0..4).map(|_| streams.admit_stream(LOCALHOST).unwrap()).collect();
        let _guest = streams.admit_stream([192, 0, 2, 1].into()).unwrap();
        let leaving = hog.iter_mut().map(|stream| Box::pin(stream.leave_signal.as_mut()));
        let ((), first, _) = futures::future::select_all(leaving).await;
        drop(hog.swap_remove(first));
        assert!(streams.admit_stream(LOCALHOST).is_none(), "it has its share");
    }

    impl StreamPermit {
        async fn leave_now(mut self) {
            self.leave_signal.as_mut().await;
        }
    }
}
