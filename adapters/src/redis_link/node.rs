//! One Redis server: a connection that all callers share for commands, and further ones on request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, Value,
};
use tokio_util::sync::CancellationToken;

use super::authorities::AuthoritiesFile;
use super::login::{Login, LoginSource, is_login_refused};
use super::slots::Address;
use super::{PART_NAME, backoff, is_permanent};
use crate::StoreError;

/// The time limit for an answer. The slowest of our scripts takes about 10 ms, but a busy disk may delay a Redis that
/// appends every second by 2 s, by its design: only a server that has not answered after this time is unreachable or
/// stuck.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for TCP, TLS and the greeting of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for which a caller waits for a connection: a little longer than a reconnect takes after Redis restarted or
/// dropped the connection.
pub(super) const CALLER_TIMEOUT: Duration = Duration::from_secs(1);
/// The time after which unacknowledged bytes end a connection (Linux), so that a peer that vanished silently is
/// noticed.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of commands that wait to be written; further callers wait for room.
const MAX_COMMANDS_WAITING: usize = 256;

/// The number of connections for commands to all servers since the start of the process.
static CONNECTIONS_MADE: AtomicU64 = AtomicU64::new(0);

/// Creates nodes with the same source of logins, TLS and protocol version.
pub(super) struct Dialer {
    /// The address, without a user name and a password.
    connection_info: ConnectionInfo,
    authorities: Option<Arc<AuthoritiesFile>>,
    logins: Arc<LoginSource>,
}

impl Dialer {
    /// Returns a dialer with the TLS of `url` that trusts the certificates of `authorities`. Connections begin with the
    /// logins of `logins`.
    pub(super) fn new(
        url: &str,
        authorities: Option<&Arc<AuthoritiesFile>>,
        logins: &Arc<LoginSource>,
    ) -> Result<Self, StoreError> {
        let info = url.into_connection_info().map_err(unusable_error)?;
        // RESP3 brings messages and answers over one connection and reports its end at once.
        let settings = RedisConnectionInfo::default()
            .set_db(info.redis_settings().db())
            .set_protocol(ProtocolVersion::RESP3);
        // Without NODELAY small commands wait for the acknowledgement of the ones before.
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(TCP_USER_TIMEOUT);
        let connection_info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        Ok(Self { connection_info, authorities: authorities.cloned(), logins: Arc::clone(logins) })
    }

    /// Returns the server that the URL names.
    pub(super) fn node_of_url(&self) -> Result<Node, StoreError> {
        self.create_node(self.connection_info.clone()).map_err(unusable_error)
    }

    /// Returns the server at `address`, with the same logins and TLS.
    pub(super) fn node_at(&self, address: &Address) -> Result<Node, RedisError> {
        let (host, port) = (address.host.to_string(), address.port);
        let addr = match self.connection_info.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.create_node(self.connection_info.clone().set_addr(addr))
    }

    /// Returns the address in the URL; `None` for a Unix socket.
    pub(super) fn address(&self) -> Option<Address> {
        match self.connection_info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address::new(host, *port))
            }
            _ => None,
        }
    }

    /// Returns the numbered database that the URL names.
    pub(super) fn database(&self) -> i64 {
        self.connection_info.redis_settings().db()
    }

    fn create_node(&self, info: ConnectionInfo) -> Result<Node, RedisError> {
        // Made again for each connection; here it shows what is wrong with the settings.
        client_of(info.clone(), self.authorities.as_deref())?;
        Ok(Node {
            name: info.addr().to_string(),
            info,
            authorities: self.authorities.clone(),
            logins: Arc::clone(&self.logins),
            current_connection: RwLock::new(None),
            last_connection: AtomicU64::new(0),
            connect_lock: tokio::sync::Mutex::new(0),
            last_failure: Mutex::new("no answer yet".to_owned()),
            is_unreachable: AtomicBool::new(false),
        })
    }
}

fn client_of(info: ConnectionInfo, authorities: Option<&AuthoritiesFile>) -> Result<Client, RedisError> {
    match authorities {
        None => Client::open(info),
        Some(authorities) => authorities.client_of(info),
    }
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn unusable_error(error: RedisError) -> StoreError {
    StoreError::unusable(PART_NAME, format!("URL or certificates: {error}"))
}

/// A connection, with a token that is cancelled when the connection has ended.
#[derive(Clone)]
pub(super) struct LiveConnection {
    pub(super) connection: MultiplexedConnection,
    pub(super) end_token: CancellationToken,
}

/// The reason why commands were not answered.
pub(super) enum NodeFailure {
    /// There was no connection: nothing was sent.
    NotSent(RedisError),
    /// The commands were sent: it is unknown whether they were carried out.
    Sent(RedisError),
}

impl From<NodeFailure> for RedisError {
    fn from(failure: NodeFailure) -> Self {
        let (NodeFailure::NotSent(error) | NodeFailure::Sent(error)) = failure;
        error
    }
}

/// A Redis server, with one connection that all commands share.
pub(super) struct Node {
    /// The address, without a user name and a password.
    info: ConnectionInfo,
    authorities: Option<Arc<AuthoritiesFile>>,
    logins: Arc<LoginSource>,
    name: String,
    current_connection: RwLock<Option<LiveConnection>>,
    /// The number of the last connection for commands; 0 before the first one.
    last_connection: AtomicU64,
    /// Held by the caller that connects; the value is the number of consecutive failed attempts.
    connect_lock: tokio::sync::Mutex<u32>,
    last_failure: Mutex<String>,
    is_unreachable: AtomicBool,
}

impl Node {
    /// Sends one command; an error that the server answers is returned as a value.
    pub(super) async fn send_command(&self, command: &Cmd) -> Result<Value, NodeFailure> {
        let mut live = self.wait_for_connection().await.map_err(NodeFailure::NotSent)?;
        let result = live.connection.req_packed_command(command).await;
        self.note_result(result, &live)
    }

    /// Sends commands in one round trip; errors that the server answers are returned as values.
    pub(super) async fn send_commands(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> Result<Vec<Value>, NodeFailure> {
        let mut live = self.wait_for_connection().await.map_err(NodeFailure::NotSent)?;
        let result = live.connection.req_packed_commands(pipeline, offset, count).await;
        self.note_result(result, &live)
    }

    fn note_result<T>(&self, result: Result<T, RedisError>, live: &LiveConnection) -> Result<T, NodeFailure> {
        match &result {
            Ok(_) => {
                if self.is_unreachable.load(Ordering::Relaxed)
                    && self.is_unreachable.swap(false, Ordering::Relaxed)
                {
                    tracing::info!(node = self.name, "redis answers again");
                }
            }
            Err(error) => {
                if error.is_unrecoverable_error() {
                    live.end_token.cancel();
                }
                self.note_failure(error);
            }
        }
        result.map_err(NodeFailure::Sent)
    }

    fn note_failure(&self, error: &RedisError) {
        if !self.is_unreachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = self.name, %error, "redis fails");
        }
    }

    /// Returns the number of the last connection for commands, which no other connection of this process has; 0 before
    /// the first one.
    pub(super) fn last_connection(&self) -> u64 {
        self.last_connection.load(Ordering::Relaxed)
    }

    /// Returns true if there is a connection now.
    pub(super) fn is_connected(&self) -> bool {
        self.live_connection().is_some()
    }

    async fn wait_for_connection(&self) -> Result<LiveConnection, RedisError> {
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

    fn live_connection(&self) -> Option<LiveConnection> {
        let current = self.current_connection.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|live| !live.end_token.is_cancelled()).cloned()
    }

    /// Tries until there is a connection, one caller at a time, with growing pauses. Gives up if waiting is of no use
    /// (a wrong password); otherwise the caller bounds the time.
    async fn reconnect(&self) -> Result<LiveConnection, RedisError> {
        let mut failures = self.connect_lock.lock().await;
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
                    let number = CONNECTIONS_MADE.fetch_add(1, Ordering::Relaxed) + 1;
                    self.last_connection.store(number, Ordering::Relaxed);
                    *self.current_connection.write().unwrap_or_else(PoisonError::into_inner) =
                        Some(live.clone());
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
    ///
    /// The connection begins with the login that the settings have now. If the server refuses that one, it begins with
    /// the login that a server of this link accepted last: a file with a new password may come before the servers know
    /// it, and the server may be one that the cluster has just named.
    pub(super) async fn open(
        &self,
        hear: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<LiveConnection, RedisError> {
        let hear = Arc::new(hear);
        let accepted = self.logins.accepted_login();
        let present = self.present_login(accepted.as_ref())?;
        let refused = match self.open_as(&present, &hear).await {
            Err(error) if is_login_refused(&error) => error,
            opened => {
                if opened.is_ok() && accepted.as_ref() != Some(&present) {
                    self.note_accepted_login(present, accepted.is_some());
                }
                return opened;
            }
        };
        let Some(accepted) = accepted else { return Err(refused) };
        if accepted != present
            && let Ok(opened) = self.open_as(&accepted, &hear).await
        {
            tracing::warn!(
                node = self.name,
                "redis refuses the changed login, and still accepts the former one"
            );
            return Ok(opened);
        }
        Err(if self.logins.may_change() { waiting_for_login(&refused) } else { refused })
    }

    /// Returns the login that the settings have now; if they cannot be read, the one that the server accepted last.
    fn present_login(&self, accepted: Option<&Login>) -> Result<Login, RedisError> {
        self.logins.present_login().or_else(|error| {
            tracing::warn!(node = self.name, %error, "the login of redis cannot be read");
            let unreadable = || RedisError::from(std::io::Error::other(error.to_string()));
            accepted.cloned().ok_or_else(unreadable)
        })
    }

    fn note_accepted_login(&self, login: Login, is_changed: bool) {
        if is_changed {
            tracing::info!(node = self.name, "redis accepts the changed login");
        }
        self.logins.note_accepted_login(login);
    }

    async fn open_as(
        &self,
        login: &Login,
        hear: &Arc<impl Fn(&PushInfo) + Send + Sync + 'static>,
    ) -> Result<LiveConnection, RedisError> {
        let ended = CancellationToken::new();
        let (end, hear) = (ended.clone(), Arc::clone(hear));
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
        let settings = login.added_to(self.info.redis_settings().clone());
        let client = client_of(self.info.clone().set_redis_settings(settings), self.authorities.as_deref())?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(LiveConnection { connection, end_token: ended })
    }
}

/// Returns the error for a login that was good and is refused now: it passes when the file has the new one.
fn waiting_for_login(refused: &RedisError) -> RedisError {
    let reason = format!("waiting for a file with another login: {refused}");
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, reason).into()
}

/// A single server as a target for the client library's commands.
pub(super) struct SingleNode<'a>(pub(super) &'a Node);

impl ConnectionLike for SingleNode<'_> {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { Ok(self.0.send_command(command).await?) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move { Ok(self.0.send_commands(pipeline, offset, count).await?) })
    }

    fn get_db(&self) -> i64 {
        self.0.info.redis_settings().db()
    }
}
