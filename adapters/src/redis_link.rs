//! The connections to Redis: a shared connection for commands, dedicated ones for subscriptions, and the names of
//! keys.
//!
//! The three stores on Redis share a link. Connections are opened when first needed and again whenever they are lost;
//! a caller waits a moment for one ([`CALLER_TIMEOUT`](node::CALLER_TIMEOUT)) and then gets
//! [`StoreError::Unavailable`].

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind};

use crate::{SecretSource, StoreError};

mod authorities;
mod cluster;
mod inspect;
mod keys;
mod listener;
mod login;
mod node;
mod router;
mod slots;

pub(crate) use keys::Keys;
pub(crate) use listener::Listener;

use authorities::AuthoritiesFile;
use cluster::Cluster;
use login::{LoginSource, is_login_refused};
use node::{Dialer, Node, SingleNode};
use router::Router;
use slots::Address;

/// The name of this store in errors.
pub(crate) const PART_NAME: &str = "redis";

/// The bounds of the pauses between attempts: the pause doubles from the first to the second.
const BACKOFF_BOUNDS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

/// The address of Redis, and how to connect to it.
#[derive(Clone)]
pub struct RedisConfig {
    /// The address: `redis://[user:password@]host[:port][/db]`, or `rediss://…` for TLS. For a cluster, the addresses
    /// of some of its nodes, separated by commas; credentials and TLS of the first address are used for all nodes. If
    /// the address is in a file, new connections begin with the credentials that the file has by then.
    pub url: SecretSource,
    /// True if the address is that of a Redis Cluster.
    pub is_cluster: bool,
    /// The prefix of every key and channel, used unchanged; may be empty, must not contain braces. Two systems on one
    /// Redis need different prefixes: Redis's numbered databases separate keys, but not channels.
    pub prefix: String,
    /// The file with certificates (PEM) to trust instead of the system's, for `rediss://`. New connections trust those that
    /// the file has by then.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may contain a password.
        f.debug_struct("RedisConfig")
            .field("cluster", &self.is_cluster)
            .field("prefix", &self.prefix)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// The connections to one Redis, shared by all stores on it.
pub struct RedisLink {
    servers: RedisServers,
    key_names: Keys,
}

/// The Redis server or servers behind a link.
enum RedisServers {
    Single(Arc<Node>),
    Cluster(Arc<Cluster>),
}

impl RedisLink {
    /// Returns a link to the Redis of `config`. Connects when first used.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] for a URL, prefix or certificate file that cannot be used.
    pub fn new(config: RedisConfig) -> Result<Arc<Self>, StoreError> {
        if config.prefix.contains(['{', '}']) {
            // A brace in a name is a hash tag, to a cluster and to our scripts.
            return Err(StoreError::unusable(
                PART_NAME,
                "the prefix of keys and channels may not have braces",
            ));
        }
        let url = config.url.read(PART_NAME)?;
        let logins = Arc::new(LoginSource::new(config.url, url.expose(), config.is_cluster)?);
        let authorities = config.ca_file.map(AuthoritiesFile::read).transpose()?.map(Arc::new);
        let dialer = |url: &str| Dialer::new(url.trim(), authorities.as_ref(), &logins);
        let servers = if config.is_cluster {
            let dialers = url.expose().split(',').map(dialer).collect::<Result<_, _>>()?;
            RedisServers::Cluster(Arc::new(Cluster::new(dialers)?))
        } else {
            RedisServers::Single(Arc::new(dialer(url.expose())?.node_of_url()?))
        };
        Ok(Arc::new(Self { servers, key_names: Keys::new(config.prefix, config.is_cluster) }))
    }

    /// Returns the names of keys and channels.
    pub(crate) fn keys(&self) -> &Keys {
        &self.key_names
    }

    /// Returns the command that publishes to a video's channel; it must match the names in [`Keys`] and the
    /// subscriptions.
    pub(crate) fn publish_command_name(&self) -> &'static str {
        match self.servers {
            RedisServers::Single(_) => "PUBLISH",
            RedisServers::Cluster(_) => "SPUBLISH",
        }
    }

    /// Sends one command, whose first argument is its key.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        match &self.servers {
            RedisServers::Single(node) => command.query_async(&mut SingleNode(node)).await,
            RedisServers::Cluster(cluster) => command.query_async(&mut Router::new(cluster)).await,
        }
        .map_err(store_error)
    }

    /// Sends one command, whose first argument is its key, and returns the number of the connection on which it was
    /// answered; `None` if the connection to the server was made anew meanwhile. While the number is the same, the same
    /// server holds the key, and a cursor into the key's value is good: it means nothing to any other server, also not to
    /// a replica that takes its master's place.
    pub(crate) async fn query_on_connection<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<(T, Option<u64>), StoreError> {
        let (answer, before, after) = match &self.servers {
            RedisServers::Single(node) => {
                let before = node.last_connection();
                (command.query_async(&mut SingleNode(node)).await, before, node.last_connection())
            }
            RedisServers::Cluster(cluster) => {
                let before = cluster.last_connections();
                let mut router = Router::new(cluster);
                let answer = command.query_async(&mut router).await;
                let after = cluster.last_connections();
                let number_in = |all: &HashMap<Address, u64>| {
                    router.last_address().and_then(|address| all.get(address)).copied().unwrap_or(0)
                };
                (answer, number_in(&before), number_in(&after))
            }
        };
        Ok((answer.map_err(store_error)?, (before == after).then_some(before)))
    }

    /// Sends commands in one round trip to each server that holds any of their keys. Commands without a key go to each
    /// of these servers, before the others; their answers have no meaning.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        match &self.servers {
            RedisServers::Single(node) => commands.query_async(&mut SingleNode(node)).await,
            RedisServers::Cluster(cluster) => commands.query_async(&mut Router::new(cluster)).await,
        }
        .map_err(store_error)
    }

    /// Runs a script, and loads it into the server first if necessary. All keys of the script must be in one slot of a
    /// cluster.
    pub(crate) async fn run_script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        match &self.servers {
            RedisServers::Single(node) => call.invoke_async(&mut SingleNode(node)).await,
            RedisServers::Cluster(cluster) => call.invoke_async(&mut Router::new(cluster)).await,
        }
        .map_err(store_error)
    }
}

/// Returns the pause before the next attempt: it doubles with every failure up to a bound, and differs between
/// processes, so that they do not all come back at the same moment.
pub(crate) fn backoff(failures: u32) -> Duration {
    let full = liverank_core::backoff::wait_after_failures(
        failures.saturating_sub(1),
        BACKOFF_BOUNDS.0,
        BACKOFF_BOUNDS.1,
    );
    full.mul_f64(rand::random_range(0.5..1.0))
}

/// Returns true if a person has to act: wrong credentials, missing rights, or a Redis before version 6.
fn is_permanent(error: &RedisError) -> bool {
    let kind = matches!(
        error.kind(),
        ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported
            | ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot)
    );
    kind || is_login_refused(error)
        // The answer of a server that is no cluster.
        || error.detail().is_some_and(|detail| detail.contains("cluster support disabled"))
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn store_error(error: RedisError) -> StoreError {
    let foreign =
        matches!(error.kind(), ErrorKind::UnexpectedReturnType) || error.code() == Some("WRONGTYPE");
    if is_permanent(&error) || foreign {
        StoreError::unusable(PART_NAME, error)
    } else if error.redirect_node().is_some() {
        StoreError::unusable(PART_NAME, format!("it is a cluster, and was not named as one: {error}"))
    } else {
        StoreError::unavailable(PART_NAME, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RedisConfig {
        RedisConfig { url: url.into(), is_cluster: false, prefix: String::new(), ca_file: None }
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = config("redis://user:hunter2@localhost");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn an_unusable_url_is_an_error_at_once() {
        let refused = |config: RedisConfig| RedisLink::new(config).err().expect("is refused").to_string();
        assert!(refused(config("http://localhost")).contains("URL"));
        let cluster = |url: &str| RedisConfig { is_cluster: true, ..config(url) };
        assert!(refused(cluster("redis://localhost,http://localhost")).contains("URL"));
        assert!(refused(cluster("redis://localhost/1")).contains("databases"));
        assert!(refused(cluster("redis+unix:///run/redis.sock")).contains("TCP"));
        assert!(
            refused(RedisConfig { prefix: "a{b".to_owned(), ..config("redis://localhost") })
                .contains("braces")
        );
        let absent = Some(PathBuf::from("/no/such/file.pem"));
        assert!(
            refused(RedisConfig { ca_file: absent, ..config("rediss://localhost") }).contains("file.pem")
        );
    }

    #[test]
    fn backoff_times_grow_and_are_bounded() {
        assert!(backoff(1) <= BACKOFF_BOUNDS.0);
        assert!(backoff(4) >= BACKOFF_BOUNDS.0 * 4);
        assert!((0..100).all(|failures| backoff(failures) <= BACKOFF_BOUNDS.1));
    }

    /// Several tries, because some take long on a busy machine; a caller that waits for Redis waits each time.
    #[tokio::test]
    async fn an_unreachable_redis_is_an_error_within_a_bounded_time() {
        for is_cluster in [false, true] {
            let mut tries = Vec::new();
            let is_prompt = |(took, error): &(Duration, String)| {
                *took < node::CALLER_TIMEOUT * 3 && error.to_lowercase().contains("refused")
            };
            while !tries.last().is_some_and(is_prompt) {
                assert!(tries.len() < 4, "{tries:?}");
                let config = RedisConfig { is_cluster, ..config("redis://127.0.0.1:9") };
                let link = RedisLink::new(config).unwrap();
                let started = std::time::Instant::now();
                let error = link.query::<String>(&redis::cmd("PING")).await.unwrap_err();
                assert!(error.is_transient() && error.store_name() == PART_NAME, "{error}");
                tries.push((started.elapsed(), error.to_string()));
            }
        }
    }
}
