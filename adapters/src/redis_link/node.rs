//! One Redis server: a connection that all callers share for commands, and further ones on request.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisError, RedisFuture, TlsCertificates, Value,
};
use tokio_util::sync::CancellationToken;

use super::slots::Address;
use super::{PART, backoff, is_permanent};
use crate::StoreError;

/// The time limit for an answer. The slowest of our scripts takes about 10 ms, but a busy disk may delay a Redis that
/// appends every second by 2 s, by its design: only a server that has not answered after this time is unreachable or
/// stuck.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for TCP, TLS and the greeting of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for which a caller waits for a connection: longer than a restart or a dropped connection, and no more.
pub(super) const CALLER_TIMEOUT: Duration = Duration::from_secs(1);
/// The time after which unacknowledged bytes end a connection (Linux), so that a peer that vanished silently is
/// noticed.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of commands that wait to be written; further callers wait for room.
const MAX_COMMANDS_WAITING: usize = 256;

/// Creates nodes with the same credentials, TLS and protocol version.
pub(super) struct Dialer {
    info: ConnectionInfo,
    root_cert: Option<Vec<u8>>,
}

impl Dialer {
    /// Returns a dialer with the credentials and TLS of `url` that trusts the certificates in `ca_file`.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, StoreError> {
        let info = url.into_connection_info().map_err(unusable_error)?;
        // RESP3 brings messages and answers over one connection and reports its end at once.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // Without NODELAY small commands wait for the acknowledgement of the ones before.
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(TCP_USER_TIMEOUT);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let root_cert = ca_file.map(|path| {
            std::fs::read(path).map_err(|error| {
                StoreError::unusable(PART, format!("certificate file {}: {error}", path.display()))
            })
        });
        Ok(Self { info, root_cert: root_cert.transpose()? })
    }

    /// Returns the server that the URL names.
    pub(super) fn named(&self) -> Result<Node, StoreError> {
        self.node(self.info.clone()).map_err(unusable_error)
    }

    /// Returns the server at `address`, with the same credentials and TLS.
    pub(super) fn at(&self, address: &Address) -> Result<Node, RedisError> {
        let (host, port) = (address.host.to_string(), address.port);
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.node(self.info.clone().set_addr(addr))
    }

    /// Returns the address in the URL; `None` for a Unix socket.
    pub(super) fn address(&self) -> Option<Address> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address::new(host, *port))
            }
            _ => None,
        }
    }

    /// Returns the numbered database that the URL names.
    pub(super) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    fn node(&self, info: ConnectionInfo) -> Result<Node, RedisError> {
        let name = info.addr().to_string();
        let client = match &self.root_cert {
            None => Client::open(info)?,
            Some(pem) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
                Client::build_with_tls(info, certificates)?
            }
        };
        Ok(Node {
            client,
            name,
            current: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(0),
            last_failure: Mutex::new("no answer yet".to_owned()),
            is_away: AtomicBool::new(false),
        })
    }
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn unusable_error(error: RedisError) -> StoreError {
    StoreError::unusable(PART, format!("URL or certificates: {error}"))
}

/// A connection, with a token that is cancelled when the connection has ended.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) has_ended: CancellationToken,
}

/// The reason why commands were not answered.
pub(super) enum Failure {
    /// There was no connection: nothing was sent.
    NotSent(RedisError),
    /// The commands were sent: it is unknown whether they were carried out.
    Sent(RedisError),
}

impl From<Failure> for RedisError {
    fn from(failure: Failure) -> Self {
        let (Failure::NotSent(error) | Failure::Sent(error)) = failure;
        error
    }
}

/// A Redis server, with one connection that all commands share.
pub(super) struct Node {
    client: Client,
    name: String,
    current: RwLock<Option<Live>>,
    /// Held by the caller that connects; the value is the number of consecutive failed attempts.
    connecting: tokio::sync::Mutex<u32>,
    last_failure: Mutex<String>,
    is_away: AtomicBool,
}

impl Node {
    /// Sends one command; an error that the server answers is returned as a value.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let mut live = self.wait_for_connection().await.map_err(Failure::NotSent)?;
        let result = live.connection.req_packed_command(command).await;
        self.note_result(result, &live)
    }

    /// Sends commands in one round trip; errors that the server answers are returned as values.
    pub(super) async fn commands(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut live = self.wait_for_connection().await.map_err(Failure::NotSent)?;
        let result = live.connection.req_packed_commands(pipeline, offset, count).await;
        self.note_result(result, &live)
    }

    fn note_result<T>(&self, result: Result<T, RedisError>, live: &Live) -> Result<T, Failure> {
        match &result {
            Ok(_) => {
                if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!(node = self.name, "redis answers again");
                }
            }
            Err(error) => {
                if error.is_unrecoverable_error() {
                    live.has_ended.cancel();
                }
                self.note_failure(error);
            }
        }
        result.map_err(Failure::Sent)
    }

    fn note_failure(&self, error: &RedisError) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = self.name, %error, "redis fails");
        }
    }

    /// Returns true if there is a connection now.
    pub(super) fn is_connected(&self) -> bool {
        self.live_connection().is_some()
    }

    async fn wait_for_connection(&self) -> Result<Live, RedisError> {
        if let Some(live) = self.live_connection() {
            return Ok(live);
        }
        let result = tokio::time::timeout(CALLER_TIMEOUT, self.reconnect()).await.unwrap_or_else(|_| {
            let last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let reason =
                format!("no connection to {} within {} ms: {last}", self.name, CALLER_TIMEOUT.as_millis());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason).into())
        });
        result.inspect_err(|error| self.note_failure(error))
    }

    fn live_connection(&self) -> Option<Live> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|live| !live.has_ended.is_cancelled()).cloned()
    }

    /// Tries until there is a connection, one caller at a time, with growing pauses. Gives up if waiting is of no use
    /// (a wrong password); otherwise the caller bounds the time.
    async fn reconnect(&self) -> Result<Live, RedisError> {
        let mut failures = self.connecting.lock().await;
        loop {
            if let Some(live) = self.live_connection() {
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

    /// Opens a separate connection. `hear` is called with every message published to it, with every confirmation that
    /// a sharded channel is no longer delivered, and at the end of the connection. `hear` must not block.
    pub(super) async fn open(
        &self,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<Live, RedisError> {
        let ended = CancellationToken::new();
        let end = ended.clone();
        let pushed = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                end.cancel();
            }
            if matches!(
                push.kind,
                PushKind::Message | PushKind::SMessage | PushKind::SUnsubscribe | PushKind::Disconnection
            ) {
                hear(&push);
            }
            Ok::<(), SendError>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_pipeline_buffer_size(MAX_COMMANDS_WAITING)
            .set_push_sender(pushed);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Live { connection, has_ended: ended })
    }
}

/// A single server as a target for the client library's commands.
pub(super) struct Single<'a>(pub(super) &'a Node);

impl ConnectionLike for Single<'_> {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { Ok(self.0.command(command).await?) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move { Ok(self.0.commands(pipeline, offset, count).await?) })
    }

    fn get_db(&self) -> i64 {
        self.0.client.get_connection_info().redis_settings().db()
    }
}
