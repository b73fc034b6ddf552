//! The one way to Redis: a shared connection for commands, dedicated ones for subscriptions, and the names of keys.
//!
//! The three stores on Redis share a link. Connections are opened when first needed and again whenever they are lost;
//! a caller waits a moment for one ([`PATIENCE`]) and is then told [`StoreError::Unavailable`].

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisError, ScriptInvocation, ServerErrorKind, TlsCertificates,
};
use tokio_util::sync::CancellationToken;

use crate::StoreError;

mod keys;
mod listener;

pub(crate) use keys::Keys;
pub(crate) use listener::Listener;

/// What errors name as the part that failed.
pub(crate) const PART: &str = "redis";

/// The slowest of our scripts takes about 10 ms, but a busy disk may hold up a Redis that appends every second for 2 s,
/// by its design: only who has not answered after this long is away or stuck.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// For TCP, TLS and the greeting of one attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a caller waits for a connection: bridges a restart or a dropped connection, and no more.
const PATIENCE: Duration = Duration::from_secs(1);
/// Unanswered bytes end a connection after this long (Linux), so that a peer that vanished without a word is noticed.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands waiting to be written; more callers wait for their turn.
const PIPELINE_BUFFER: usize = 256;
/// Waits between attempts double from the first to the second of these.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

/// Where Redis is.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://…` for TLS.
    pub url: String,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// Stands before every key and channel, as it is; may be empty. Two systems on one Redis need different ones: its
    /// numbered databases separate keys, but not channels.
    pub prefix: String,
    /// Certificates (PEM) to trust in place of the system's, for `rediss://`.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig")
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// A connection, and whether it has ended.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    ended: CancellationToken,
}

/// The way to one Redis, shared by all stores on it.
pub struct RedisLink {
    client: Client,
    keys: Keys,
    current: RwLock<Option<Live>>,
    /// Held by the one who connects; counts attempts that failed in a row.
    connecting: tokio::sync::Mutex<u32>,
    last_failure: Mutex<String>,
    away: AtomicBool,
}

impl RedisLink {
    /// A link to the Redis of `config`. Connects when first used.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] for a URL or certificate file that cannot be used, and for a cluster.
    pub fn new(config: RedisConfig) -> Result<Arc<Self>, StoreError> {
        if config.cluster {
            return Err(StoreError::unusable(PART, "Redis Cluster is not supported yet"));
        }
        Ok(Arc::new(Self {
            client: client(&config)?,
            keys: Keys::new(config.prefix, config.cluster),
            current: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(0),
            last_failure: Mutex::new("no answer yet".to_owned()),
            away: AtomicBool::new(false),
        }))
    }

    /// The names of keys and channels.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Sends one command.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut live = self.connected().await?;
        let result = command.query_async(&mut live.connection).await;
        self.noted(result, &live)
    }

    /// Sends commands in one round trip.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        let mut live = self.connected().await?;
        let result = commands.query_async(&mut live.connection).await;
        self.noted(result, &live)
    }

    /// Runs a script, teaching it to the server first where it has to.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut live = self.connected().await?;
        let result = call.invoke_async(&mut live.connection).await;
        self.noted(result, &live)
    }

    fn noted<T>(&self, result: Result<T, RedisError>, live: &Live) -> Result<T, StoreError> {
        match result {
            Ok(value) => {
                if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("redis answers again");
                }
                Ok(value)
            }
            Err(error) => {
                if error.is_unrecoverable_error() {
                    live.ended.cancel();
                }
                Err(self.failed(&error))
            }
        }
    }

    fn failed(&self, error: &RedisError) -> StoreError {
        let error = store_error(error);
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "redis fails");
        }
        error
    }

    async fn connected(&self) -> Result<Live, StoreError> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if let Ok(result) = tokio::time::timeout(PATIENCE, self.reconnected()).await {
            return result.map_err(|error| self.failed(&error));
        }
        let last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = format!("no connection within {} ms: {last}", PATIENCE.as_millis());
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, reason);
        Err(self.failed(&error.into()))
    }

    fn live(&self) -> Option<Live> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|live| !live.ended.is_cancelled()).cloned()
    }

    /// Tries until there is a connection, one caller at a time, with growing waits. Gives up where waiting is of no
    /// use (a wrong password); the caller bounds the rest.
    async fn reconnected(&self) -> Result<Live, RedisError> {
        let mut failures = self.connecting.lock().await;
        loop {
            if let Some(live) = self.live() {
                return Ok(live);
            }
            if *failures > 0 {
                tokio::time::sleep(backoff(*failures)).await;
            }
            match self.open(|_| {}).await {
                Ok(live) => {
                    *failures = 0;
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                    return Ok(live);
                }
                Err(error) => {
                    *failures = failures.saturating_add(1);
                    *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                    if is_permanent(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Opens a connection of its own; `hear` is called with every message published to it, and must not block.
    async fn open(&self, hear: impl Fn(&PushInfo) + Send + Sync + 'static) -> Result<Live, RedisError> {
        let ended = CancellationToken::new();
        let end = ended.clone();
        let pushed = move |push: PushInfo| {
            match push.kind {
                PushKind::Disconnection => end.cancel(),
                PushKind::Message => hear(&push),
                _ => {}
            }
            Ok::<(), SendError>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_pipeline_buffer_size(PIPELINE_BUFFER)
            .set_push_sender(pushed);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Live { connection, ended })
    }
}

fn client(config: &RedisConfig) -> Result<Client, StoreError> {
    let unusable = |error: RedisError| StoreError::unusable(PART, format!("URL or certificates: {error}"));
    let info = config.url.as_str().into_connection_info().map_err(unusable)?;
    // RESP3 brings messages and answers over one connection and tells of its end at once.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    // Without NODELAY small commands wait for the acknowledgement of the ones before.
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(USER_TIMEOUT);
    let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
    match &config.ca_file {
        None => Client::open(info).map_err(unusable),
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| {
                StoreError::unusable(PART, format!("certificate file {}: {error}", path.display()))
            })?;
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(info, certificates).map_err(unusable)
        }
    }
}

/// A wait before the next attempt: doubles with every failure up to a bound, and differs between processes, so that
/// they do not all come back at the same moment.
pub(crate) fn backoff(failures: u32) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF.1);
    full.mul_f64(rand::random_range(0.5..1.0))
}

/// Whether somebody has to look: other credentials, rights, or a Redis before version 6.
fn is_permanent(error: &RedisError) -> bool {
    let kind = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported
            | ErrorKind::Server(ServerErrorKind::NoPerm)
    );
    kind || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}

fn store_error(error: &RedisError) -> StoreError {
    let foreign =
        matches!(error.kind(), ErrorKind::UnexpectedReturnType) || error.code() == Some("WRONGTYPE");
    if is_permanent(error) || foreign {
        StoreError::unusable(PART, error)
    } else {
        StoreError::unavailable(PART, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RedisConfig {
        RedisConfig { url: url.to_owned(), cluster: false, prefix: String::new(), ca_file: None }
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = config("redis://user:hunter2@localhost");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_used_is_told_at_once() {
        let refused = |config: RedisConfig| RedisLink::new(config).err().expect("is refused").to_string();
        assert!(refused(config("http://localhost")).contains("URL"));
        assert!(refused(RedisConfig { cluster: true, ..config("redis://localhost") }).contains("Cluster"));
        let absent = Some(PathBuf::from("/no/such/file.pem"));
        assert!(
            refused(RedisConfig { ca_file: absent, ..config("rediss://localhost") }).contains("file.pem")
        );
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(backoff(1) <= BACKOFF.0);
        assert!(backoff(4) >= BACKOFF.0 * 4);
        assert!((0..100).all(|failures| backoff(failures) <= BACKOFF.1));
    }

    #[tokio::test]
    async fn a_redis_that_is_away_is_told_within_bounds() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let link = RedisLink::new(config(&format!("redis://127.0.0.1:{port}"))).unwrap();
        let started = std::time::Instant::now();
        let error = link.query::<String>(&redis::cmd("PING")).await.unwrap_err();
        assert!(error.is_transient() && error.part() == PART, "{error}");
        assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
        assert!(started.elapsed() < PATIENCE * 3);
    }
}
