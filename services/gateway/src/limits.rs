//! The limits of one caller: requests and streams by address, events and streams by user. New videos are limited in
//! [`crate::new_videos`].
//!
//! The address is that of the client behind trusted proxies (`--trusted-proxies`). Of IPv6 it is the network, because
//! a host has a whole network to itself. The user is the one that the token is for; without tokens, the address is
//! used instead.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use liverank_core::limits::{RateQuota, TokenBuckets};
use liverank_runtime::Problem;
use liverank_runtime::network::rate_limit_address;
use liverank_runtime::problem::STORE_RETRY_AFTER;
use liverank_runtime::server::RequestExchange;

use crate::Gateway;
use crate::auth::Caller;
use crate::front_door;

/// Maximum number of callers that have a bucket of their own, which takes about 50 bytes. All further callers share
/// one bucket.
pub(crate) const MAX_CALLERS: usize = 100_000;
/// Size of a token bucket, in seconds of its rate: a crowd behind one address that reconnects may send that much at
/// once.
const BURST_SECONDS: u64 = 10;

/// The flags for the limits of one caller.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits for one caller")]
pub struct LimitArgs {
    /// Requests a second of one address, ten times as many at once; more are answered 429, and streams are asked to come back.
    /// 0: no limit.
    #[arg(long, env = "LIVERANK_REQUESTS_PER_ADDRESS", value_name = "N", default_value_t = 3000)]
    requests_per_address: u32,
    /// Interactions and comments a second of one user, or of one address where no tokens are asked for, ten times as many at
    /// once. 0: no limit.
    #[arg(long, env = "LIVERANK_EVENTS_PER_USER", value_name = "N", default_value_t = 20_000)]
    events_per_user: u32,
    /// Open comment streams and `WebSockets` of one address. 0: no limit but a fair share: where there is no room for
    /// others, those with most give way.
    #[arg(long, env = "LIVERANK_STREAMS_PER_ADDRESS", value_name = "N", default_value_t = 20_000)]
    pub(crate) streams_per_address: u32,
    /// Open comment streams and `WebSockets` of one user, where tokens are asked for. 0: no limit.
    #[arg(long, env = "LIVERANK_STREAMS_PER_USER", value_name = "N", default_value_t = 20_000)]
    streams_per_user: u32,
    /// Videos that nobody has named before, an hour and at once, of one user, or of one address where no tokens are asked
    /// for; more are answered 429. 0: no limit.
    #[arg(long, env = "LIVERANK_NEW_VIDEOS_PER_CALLER", value_name = "N", default_value_t = 36_000)]
    pub(crate) new_videos_per_caller: u32,
}

/// The limits of all callers: their token buckets and open streams.
pub(crate) struct Limits {
    request_buckets: Option<Mutex<TokenBuckets<IpAddr>>>,
    event_buckets: Option<Mutex<TokenBuckets<Sender>>>,
    user_streams: Arc<UserStreams>,
    start: Instant,
}

/// The sender whose events are counted: a user or an address.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// The user that the request's token is for.
    User(String),
    /// The address of the client, if viewers need no tokens.
    Address(IpAddr),
}

impl Sender {
    /// Returns the sender of a request.
    pub(crate) fn of(caller: &Caller, exchange: &RequestExchange) -> Self {
        match caller {
            Caller::User(viewer) => Self::User(viewer.user_id.clone()),
            Caller::Anyone => Self::Address(rate_limit_address(exchange.client())),
        }
    }
}

/// The number of open streams of each user. Only users with an open stream have an entry.
struct UserStreams {
    max_per_user: u32,
    open_by_user: Mutex<HashMap<String, u32>>,
}

/// An open stream of a user, which counts until this is dropped.
pub(crate) struct UserStream {
    user: String,
    user_streams: Arc<UserStreams>,
}

impl Drop for UserStream {
    fn drop(&mut self) {
        let mut open = self.user_streams.open_by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

impl Limits {
    pub(crate) fn new(args: &LimitArgs) -> Self {
        Self {
            request_buckets: create_buckets(args.requests_per_address),
            event_buckets: create_buckets(args.events_per_user),
            user_streams: Arc::new(UserStreams {
                max_per_user: args.streams_per_user,
                open_by_user: Mutex::default(),
            }),
            start: Instant::now(),
        }
    }

    /// Counts `count` events of a caller.
    ///
    /// # Errors
    /// Returns 429 if the caller has sent more events than it may.
    pub(crate) fn count_events(
        &self,
        caller: &Caller,
        exchange: &RequestExchange,
        count: usize,
    ) -> Result<(), Problem> {
        let who = Sender::of(caller, exchange);
        take_caller_tokens(
            self.event_buckets.as_ref(),
            "events-per-user",
            who,
            count as u64,
            self.start.elapsed(),
        )
    }

    /// Counts an open stream of a user, until the returned value is dropped. Returns `None` for callers without a
    /// token, because streams of an address are counted with the stream's permit.
    ///
    /// # Errors
    /// Returns 429 if the user has as many open streams as it may have.
    pub(crate) fn count_stream(&self, caller: &Caller) -> Result<Option<UserStream>, Problem> {
        let (Caller::User(viewer), 1..) = (caller, self.user_streams.max_per_user) else { return Ok(None) };
        let mut open = self.user_streams.open_by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&viewer.user_id).copied().unwrap_or(0);
        if count >= self.user_streams.max_per_user {
            let detail = "this user has as many streams open as one may have: close some";
            return Err(limit_problem("streams-per-user", detail, STORE_RETRY_AFTER));
        }
        open.insert(viewer.user_id.clone(), count + 1);
        Ok(Some(UserStream { user: viewer.user_id.clone(), user_streams: Arc::clone(&self.user_streams) }))
    }

    fn count_request(&self, client: IpAddr) -> Result<(), Problem> {
        take_caller_tokens(
            self.request_buckets.as_ref(),
            "requests-per-address",
            rate_limit_address(client),
            1,
            self.start.elapsed(),
        )
    }
}

fn create_buckets<K: Eq + std::hash::Hash>(per_second: u32) -> Option<Mutex<TokenBuckets<K>>> {
    let per_second = u64::from(per_second);
    let quota = RateQuota::new(per_second, per_second * BURST_SECONDS);
    (per_second > 0).then(|| Mutex::new(TokenBuckets::new(quota, MAX_CALLERS)))
}

fn take_caller_tokens<K: Eq + std::hash::Hash>(
    buckets: Option<&Mutex<TokenBuckets<K>>>,
    limit: &'static str,
    caller: K,
    count: u64,
    now: Duration,
) -> Result<(), Problem> {
    let Some(buckets) = buckets else { return Ok(()) };
    let taken = buckets.lock().unwrap_or_else(PoisonError::into_inner).take_tokens(caller, count, now);
    taken.map_err(|wait| {
        let detail = "one caller sends too much here: slow down, or see the limits of the gateway";
        limit_problem(limit, detail, wait)
    })
}

/// Returns the 429 for a caller that has reached a limit. `limit` is the name of the limit's setting.
pub(crate) fn limit_problem(limit: &'static str, detail: &str, wait: Duration) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        .with_member("limit", limit)
        .with_retry_after(wait + Duration::from_millis(999))
}

/// Middleware that counts a request against its address's limit. Runs the request, or answers it with 429, or with a
/// stream that ends at once on `/connect`.
pub(crate) async fn admit(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<RequestExchange>().map(RequestExchange::client);
    let Some(Err(problem)) = client.map(|client| gateway.limits.count_request(client)) else {
        return next.run(request).await;
    };
    gateway.metrics.requests_limited.inc();
    // A browser's `EventSource` would give up for good on an error status.
    if request.uri().path() == "/connect" && matches!(*request.method(), Method::GET | Method::POST) {
        return front_door::turned_away_response(&gateway);
    }
    problem.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_separate_limits_and_zero_means_no_limit() {
        let limits = |requests, events| {
            Limits::new(&LimitArgs {
                requests_per_address: requests,
                events_per_user: events,
                streams_per_address: 0,
                streams_per_user: requests,
                new_videos_per_caller: 0,
            })
        };
        let (one, exchange) = (limits(1, 1), RequestExchange::default());
        let user = crate::auth::user;
        assert!(one.count_events(&user("ana", ""), &exchange, 10).is_ok());
        let refused = one.count_events(&user("ana", ""), &exchange, 1).unwrap_err();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.body()["limit"], "events-per-user");
        assert!(one.count_events(&user("ben", ""), &exchange, 10).is_ok());
        assert!(one.count_events(&Caller::Anyone, &exchange, 10).is_ok());
        let none = limits(0, 0);
        assert!((0..10_000).all(|_| none.count_events(&Caller::Anyone, &exchange, 1000).is_ok()));
        assert!((0..10_000).all(|_| none.count_request([1, 2, 3, 4].into()).is_ok()));
        let streams: Vec<_> = (0..100).map(|_| none.count_stream(&user("ana", "")).map(drop)).collect();
        assert!(streams.iter().all(Result::is_ok));
    }

    #[test]
    fn streams_are_limited_per_user_and_not_for_anonymous_callers() {
        let args = LimitArgs {
            requests_per_address: 0,
            events_per_user: 0,
            streams_per_address: 0,
            streams_per_user: 2,
            new_videos_per_caller: 0,
        };
        let (limits, ana, ben) =
            (Limits::new(&args), crate::auth::user("ana", ""), crate::auth::user("ben", ""));
        let held = [limits.count_stream(&ana).unwrap(), limits.count_stream(&ana).unwrap()];
        assert_eq!(limits.count_stream(&ana).map(drop).unwrap_err().body()["limit"], "streams-per-user");
        assert!(limits.count_stream(&ben).is_ok());
        assert!((0..10).all(|_| limits.count_stream(&Caller::Anyone).is_ok_and(|stream| stream.is_none())));
        drop(held);
        assert!(limits.count_stream(&ana).is_ok());
        assert!(
            limits.user_streams.open_by_user.lock().unwrap().is_empty(),
            "nothing is kept of those who are gone"
        );
    }
}
