//! The flags that name the stores of a process, and the functions that open them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Command, ValueEnum};
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::archive::mongodb::{MongoArchive, MongoConfig};
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::assignment_store::redis::RedisAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::comment_bus::redis::RedisBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::event_log::kafka::{KafkaConfig, KafkaLog, SaslMechanism};
use liverank_adapters::inspect::Inspection;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::ranking_store::redis::RedisRanking;
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use liverank_adapters::{
    Archive, AssignmentStore, Backends, CommentBus, EventLog, RankingStore, SecretSource, clock,
};
use liverank_protocol::roles::{Role, Store};
use liverank_runtime::duration::{SettingUnit, parser_in_unit};

/// The flags that say where the stores are and how to connect to them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stores")]
pub struct StoreArgs {
    /// Kafka's bootstrap servers, separated by commas.
    #[arg(long, env = "LIVERANK_KAFKA", value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// The topic of interactions: the log.
    #[arg(long, env = "LIVERANK_KAFKA_TOPIC", default_value = "video_interactions")]
    kafka_topic: String,
    /// The name of the consumer group.
    #[arg(long, env = "LIVERANK_KAFKA_GROUP", default_value = "liverank")]
    kafka_group: String,
    /// How long Kafka waits for a silent consumer before others get its partitions. Brokers refuse less than their
    /// group.min.session.timeout.ms (6000 by default). A process that hangs for longer loses its partitions.
    #[arg(
        long,
        env = "LIVERANK_KAFKA_SESSION_TIMEOUT_MS",
        value_name = "DURATION",
        default_value = "6s",
        value_parser = parser_in_unit::<u64>(SettingUnit::Millis, 1_000, 60_000)
    )]
    kafka_session_timeout_ms: u64,
    /// Connect to Kafka over TLS.
    #[arg(long, env = "LIVERANK_KAFKA_TLS")]
    kafka_tls: bool,
    /// The authorities of Kafka's certificates, in PEM; implies TLS.
    #[arg(long, env = "LIVERANK_KAFKA_CA_FILE", value_name = "FILE")]
    kafka_ca_file: Option<PathBuf>,
    /// The user name for Kafka; implies SASL.
    #[arg(long, env = "LIVERANK_KAFKA_USERNAME")]
    kafka_username: Option<String>,
    /// The password for Kafka.
    #[arg(long, env = "LIVERANK_KAFKA_PASSWORD", hide_env_values = true)]
    kafka_password: Option<HiddenText>,
    /// A file with the password for Kafka, so that it is in no environment and no list of processes; read at the start.
    #[arg(
        long,
        env = "LIVERANK_KAFKA_PASSWORD_FILE",
        value_name = "FILE",
        conflicts_with = "kafka_password"
    )]
    kafka_password_file: Option<PathBuf>,
    /// The SASL mechanism of the password for Kafka.
    #[arg(long, env = "LIVERANK_KAFKA_SASL", value_enum, default_value_t = SaslChoice::ScramSha512)]
    kafka_sasl: SaslChoice,
    /// Redis, as redis://[user:password@]host:port[/db], or rediss:// for TLS; of a cluster, some of its nodes, separated
    /// by commas.
    #[arg(long, env = "LIVERANK_REDIS", hide_env_values = true, value_name = "URL")]
    redis: Option<HiddenText>,
    /// A file with the address of Redis, so that its password is in no environment and no list of processes, and
    /// changes without a restart.
    #[arg(long, env = "LIVERANK_REDIS_URL_FILE", value_name = "FILE", conflicts_with = "redis")]
    redis_url_file: Option<PathBuf>,
    /// The prefix of every Redis key's and channel's name, if it is to differ from --prefix.
    #[arg(long, env = "LIVERANK_REDIS_PREFIX", value_parser = parse_redis_prefix)]
    redis_prefix: Option<String>,
    /// Redis is a Redis Cluster.
    #[arg(long, env = "LIVERANK_REDIS_CLUSTER")]
    redis_cluster: bool,
    /// The authorities of Redis's certificates, in PEM.
    #[arg(long, env = "LIVERANK_REDIS_CA_FILE", value_name = "FILE")]
    redis_ca_file: Option<PathBuf>,
    /// `MongoDB` (a replica set), as mongodb://[user:password@]host:port/?replicaSet=…; tls=true for TLS.
    #[arg(long, env = "LIVERANK_MONGODB", hide_env_values = true, value_name = "URI")]
    mongodb: Option<HiddenText>,
    /// A file with the address of `MongoDB`, so that its password is in no environment and no list of processes, and
    /// changes without a restart.
    #[arg(long, env = "LIVERANK_MONGODB_URI_FILE", value_name = "FILE", conflicts_with = "mongodb")]
    mongodb_uri_file: Option<PathBuf>,
    /// The name of the `MongoDB` database.
    #[arg(long, env = "LIVERANK_MONGODB_DATABASE", default_value = "video_db")]
    mongodb_database: String,
    /// The authorities of `MongoDB`'s certificates, in PEM.
    #[arg(long, env = "LIVERANK_MONGODB_CA_FILE", value_name = "FILE")]
    mongodb_ca_file: Option<PathBuf>,
    /// The prefix of the names of the topic, the group, the database and every Redis key, so that several systems can
    /// share the stores.
    #[arg(long, env = "LIVERANK_PREFIX", default_value = "", value_parser = parse_prefix)]
    prefix: String,
}

/// A secret value that debug output does not show.
#[derive(Clone)]
struct HiddenText(String);

impl std::fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl std::str::FromStr for HiddenText {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SaslChoice {
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

/// Checks a prefix of names: it must be allowed both in a Kafka topic's name and in a `MongoDB` database's name.
fn parse_prefix(text: &str) -> Result<String, String> {
    let fits = text.len() <= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err("must be at most 32 of a-z 0-9 - _".into()) }
}

/// Returns the source of a secret that is given as a value or in a file; `None` if neither is given.
fn secret_source(given: Option<&HiddenText>, file: Option<&Path>) -> Option<SecretSource> {
    let in_file = file.map(|file| SecretSource::File(file.to_owned()));
    in_file.or_else(|| given.map(|secret| secret.0.as_str().into()))
}

/// Checks a prefix of Redis keys: it may not have characters that are special in Redis, such as a brace, which would
/// begin a hash tag.
fn parse_redis_prefix(text: &str) -> Result<String, String> {
    let fits =
        text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err("must be at most 63 of A-Z a-z 0-9 - _ . : /".into()) }
}

/// The stores that a role or command needs, and its name for error messages.
#[derive(Debug, Clone, Copy)]
pub struct RequiredStores {
    required_by: &'static str,
    stores: &'static [Store],
}

impl From<Role> for RequiredStores {
    fn from(role: Role) -> Self {
        Self { required_by: role.name(), stores: role.stores() }
    }
}

impl RequiredStores {
    /// Returns the requirement of a command that works on all stores; `required_by` is the command's name.
    pub const fn needing_all_stores(required_by: &'static str) -> Self {
        Self { required_by, stores: &Store::ALL }
    }
}

/// Hides the flags of stores that `role` does not use from its help. Hidden flags are still accepted, because one file
/// of settings may serve several roles.
pub fn hide_unused(role: Role, command: Command) -> Command {
    let unused: Vec<Store> = Store::ALL.into_iter().filter(|store| !role.stores().contains(store)).collect();
    command.mut_args(|arg| {
        let is_unused = unused.iter().any(|store| arg.get_id().as_str().starts_with(store.name()));
        if is_unused { arg.hide(true) } else { arg }
    })
}

impl StoreArgs {
    /// Returns true if the address of this store is given, by a flag or in a file.
    const fn is_store_configured(&self, store: Store) -> bool {
        match store {
            Store::Kafka => self.kafka.is_some(),
            Store::Redis => self.redis.is_some() || self.redis_url_file.is_some(),
            Store::Mongodb => self.mongodb.is_some() || self.mongodb_uri_file.is_some(),
        }
    }

    /// Returns true if Kafka, Redis or `MongoDB` is named by a flag.
    pub fn any_store_configured(&self) -> bool {
        Store::ALL.into_iter().any(|store| self.is_store_configured(store))
    }

    /// Fails if a store that `who` needs is not named; the error lists all missing settings at once.
    fn require_settings(&self, who: RequiredStores) -> anyhow::Result<()> {
        let flags = |stores: &[Store]| {
            let flags: Vec<String> = stores.iter().map(|store| format!("--{}", store.name())).collect();
            flags.join(" and ")
        };
        let needed = who.stores;
        let missing: Vec<Store> =
            needed.iter().copied().filter(|store| !self.is_store_configured(*store)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let variables: Vec<String> =
            missing.iter().map(|store| format!("LIVERANK_{}", store.name().to_uppercase())).collect();
        bail!(
            "{} needs {}: {} {} missing (or {} in the environment); `liverank up` runs everything without",
            who.required_by,
            flags(needed),
            flags(&missing),
            if missing.len() == 1 { "is" } else { "are" },
            variables.join(" and "),
        )
    }

    fn open_kafka_log(&self) -> anyhow::Result<Arc<KafkaLog>> {
        let named = |name: &str| format!("{}{name}", self.prefix);
        let password = secret_source(self.kafka_password.as_ref(), self.kafka_password_file.as_deref());
        // Read once: the client library knows no way to change the password of a client.
        let password =
            password.map(|source| source.read(Store::Kafka.name())).transpose().context("--kafka")?;
        let config = KafkaConfig {
            brokers: self.kafka.clone().unwrap_or_default(),
            topic: named(&self.kafka_topic),
            group: named(&self.kafka_group),
            session_timeout: Duration::from_millis(self.kafka_session_timeout_ms),
            tls: self.kafka_tls || self.kafka_ca_file.is_some(),
            ca_file: self.kafka_ca_file.clone(),
            username: self.kafka_username.clone(),
            password: password.map(|password| password.expose().to_owned()),
            sasl: match self.kafka_sasl {
                SaslChoice::Plain => SaslMechanism::Plain,
                SaslChoice::ScramSha256 => SaslMechanism::ScramSha256,
                SaslChoice::ScramSha512 => SaslMechanism::ScramSha512,
            },
        };
        Ok(Arc::new(KafkaLog::new(config).context("--kafka")?))
    }

    fn open_redis_link(&self) -> anyhow::Result<Arc<RedisLink>> {
        let config = RedisConfig {
            url: secret_source(self.redis.as_ref(), self.redis_url_file.as_deref())
                .unwrap_or_else(|| "".into()),
            is_cluster: self.redis_cluster,
            prefix: self.redis_prefix.clone().unwrap_or_else(|| self.prefix.clone()),
            ca_file: self.redis_ca_file.clone(),
        };
        RedisLink::new(config).context("--redis")
    }

    async fn open_mongo_archive(&self) -> anyhow::Result<Arc<MongoArchive>> {
        let config = MongoConfig {
            uri: secret_source(self.mongodb.as_ref(), self.mongodb_uri_file.as_deref())
                .unwrap_or_else(|| "".into()),
            database: format!("{}{}", self.prefix, self.mongodb_database),
            ca_file: self.mongodb_ca_file.clone(),
        };
        Ok(Arc::new(MongoArchive::new(config).await.context("--mongodb")?))
    }

    /// Returns Kafka's log if Kafka is named. The log connects to Kafka only when it is first used.
    pub fn open_log(&self) -> anyhow::Result<Option<Arc<dyn EventLog>>> {
        self.kafka.as_ref().map(|_| Ok(self.open_kafka_log()? as Arc<dyn EventLog>)).transpose()
    }

    /// Opens the store of the boards, for the WebSocket service.
    pub fn open_ranking(&self, who: RequiredStores) -> anyhow::Result<Arc<dyn RankingStore>> {
        self.require_settings(who)?;
        Ok(Arc::new(RedisRanking::new(self.open_redis_link()?)))
    }

    /// Opens the store of assignments, for a manager.
    pub fn open_assignments(&self, who: RequiredStores) -> anyhow::Result<Arc<dyn AssignmentStore>> {
        self.require_settings(who)?;
        Ok(Arc::new(RedisAssignments::new(self.open_redis_link()?)))
    }

    /// Opens the archive, for the statistics service.
    pub async fn open_archive(self, who: RequiredStores) -> anyhow::Result<Arc<dyn Archive>> {
        self.require_settings(who)?;
        Ok(self.open_mongo_archive().await?)
    }

    /// Returns what a store reports about itself; `None` if the store is not named.
    pub async fn inspect_store(&self, store: Store) -> anyhow::Result<Option<Inspection>> {
        if !self.is_store_configured(store) {
            return Ok(None);
        }
        let inspection = match store {
            Store::Kafka => self.open_kafka_log()?.inspect_brokers().await?,
            Store::Redis => self.open_redis_link()?.inspect_server().await?,
            Store::Mongodb => self.open_mongo_archive().await?.inspect_server().await?,
        };
        Ok(Some(inspection))
    }

    /// Returns what Kafka reports about a topic for exports; `None` if Kafka is not named.
    pub async fn inspect_export_topic(
        &self,
        topic: &str,
        has_positions: bool,
    ) -> anyhow::Result<Option<Inspection>> {
        if !self.is_store_configured(Store::Kafka) {
            return Ok(None);
        }
        Ok(Some(self.open_kafka_log()?.inspect_export_topic(topic, has_positions).await?))
    }

    /// Opens the log and the archive, for the comment service.
    pub async fn open_log_and_archive(
        self,
        who: RequiredStores,
    ) -> anyhow::Result<(Arc<dyn EventLog>, Arc<dyn Archive>)> {
        self.require_settings(who)?;
        Ok((self.open_kafka_log()?, self.open_mongo_archive().await?))
    }

    /// Opens the archive and the comment bus, for a reader.
    pub async fn open_archive_and_bus(
        self,
        who: RequiredStores,
    ) -> anyhow::Result<(Arc<dyn Archive>, Arc<dyn CommentBus>)> {
        self.require_settings(who)?;
        let bus = Arc::new(RedisBus::new(self.open_redis_link()?));
        Ok((self.open_mongo_archive().await?, bus))
    }

    /// Opens all stores, which must all be named. If a store is not named, the error names `who`.
    pub async fn open_all(self, who: RequiredStores) -> anyhow::Result<Backends> {
        self.require_settings(who)?;
        let link = self.open_redis_link()?;
        Ok(Backends {
            log: self.open_kafka_log()?,
            archive: self.open_mongo_archive().await?,
            ranking: Arc::new(RedisRanking::new(Arc::clone(&link))),
            comments: Arc::new(RedisBus::new(Arc::clone(&link))),
            assignments: Arc::new(RedisAssignments::new(link)),
            clock: clock::system_clock(),
        })
    }
}

/// Opens embedded stores in `directory`, which is created if it does not exist.
pub fn open_embedded(directory: &Path) -> anyhow::Result<Backends> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("the data directory {} cannot be made", directory.display()))?;
    Ok(Backends {
        log: Arc::new(EmbeddedLog::open(directory, clock::system_clock())?),
        archive: Arc::new(EmbeddedArchive::open(directory)?),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::open(directory)?),
        clock: clock::system_clock(),
    })
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    const KAFKA_FLAG: &str = "--kafka=127.0.0.1:1";
    const REDIS_FLAG: &str = "--redis=redis://127.0.0.1:1";
    const MONGODB_FLAG: &str = "--mongodb=mongodb://127.0.0.1:1/?replicaSet=rs0";
    /// Flags that name stores which cannot be used: opening one of them fails.
    const UNUSABLE_FLAGS: [&str; 3] = ["--kafka=", "--redis=nowhere", "--mongodb=nowhere"];

    fn args(flags: &[&str]) -> StoreArgs {
        let command = StoreArgs::augment_args(Command::new("test").no_binary_name(true));
        StoreArgs::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
    }

    /// Opens the stores that `role` needs, as `liverank <role>` does.
    async fn open_for_role(role: Role, flags: &[&str]) -> Result<(), String> {
        let stores = args(flags);
        let opened = match role {
            Role::Websocket => stores.open_ranking(role.into()).map(drop),
            Role::Manager => stores.open_assignments(role.into()).map(drop),
            Role::Statistics => stores.open_archive(role.into()).await.map(drop),
            Role::Comment => stores.open_log_and_archive(role.into()).await.map(drop),
            Role::Reader => stores.open_archive_and_bus(role.into()).await.map(drop),
            Role::Gateway | Role::Consumer => stores.open_all(role.into()).await.map(drop),
        };
        opened.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn a_role_needs_what_it_uses_and_touches_nothing_else() {
        for (role, needed, unused) in [
            (Role::Gateway, &[KAFKA_FLAG, REDIS_FLAG, MONGODB_FLAG][..], &[][..]),
            (Role::Consumer, &[KAFKA_FLAG, REDIS_FLAG, MONGODB_FLAG], &[]),
            (Role::Websocket, &[REDIS_FLAG], &[UNUSABLE_FLAGS[0], UNUSABLE_FLAGS[2]]),
            (Role::Comment, &[KAFKA_FLAG, MONGODB_FLAG], &[UNUSABLE_FLAGS[1]]),
            (Role::Reader, &[REDIS_FLAG, MONGODB_FLAG], &[UNUSABLE_FLAGS[0]]),
            (Role::Manager, &[REDIS_FLAG], &[UNUSABLE_FLAGS[0], UNUSABLE_FLAGS[2]]),
            (Role::Statistics, &[MONGODB_FLAG], &[UNUSABLE_FLAGS[0], UNUSABLE_FLAGS[1]]),
        ] {
            assert_eq!(open_for_role(role, needed).await, Ok(()), "{}", role.name());
            assert_eq!(open_for_role(role, &[needed, unused].concat()).await, Ok(()), "{}", role.name());
            for left_out in needed {
                let rest: Vec<&str> = needed.iter().copied().filter(|flag| flag != left_out).collect();
                let error = open_for_role(role, &[&rest, unused].concat()).await.unwrap_err();
                let flag = left_out.split('=').next().unwrap();
                let variable = flag.replace("--", "LIVERANK_").to_uppercase();
                assert!(error.starts_with(&format!("{} needs", role.name())), "{error}");
                assert!(error.contains(&format!(": {flag} is missing (or {variable}")), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn several_missing_stores_are_missing() {
        let error = open_for_role(Role::Consumer, &[REDIS_FLAG]).await.unwrap_err();
        let said = "--kafka and --mongodb are missing (or LIVERANK_KAFKA and LIVERANK_MONGODB in";
        assert!(error.contains(said), "{error}");
    }

    /// Returns flags of a store that opens, and of one that does not.
    const fn usable_and_unusable_flags(store: Store) -> [&'static [&'static str]; 2] {
        match store {
            // An address alone is not looked at before it is connected to.
            Store::Kafka => [&[KAFKA_FLAG], &[KAFKA_FLAG, "--kafka-ca-file=/nowhere"]],
            Store::Redis => [&[REDIS_FLAG], &[UNUSABLE_FLAGS[1]]],
            Store::Mongodb => [&[MONGODB_FLAG], &[UNUSABLE_FLAGS[2]]],
        }
    }

    #[tokio::test]
    async fn a_role_opens_each_of_its_stores() {
        for role in Role::ALL {
            for broken in role.stores() {
                let flags = role.stores().iter().flat_map(|store| {
                    let [usable, unusable] = usable_and_unusable_flags(*store);
                    if store == broken { unusable } else { usable }
                });
                let opened = open_for_role(role, &flags.copied().collect::<Vec<_>>()).await;
                let (role, broken) = (role.name(), broken.name());
                let Err(error) = opened else {
                    panic!("liverank {role} never opens {broken}: cli/src/stores.rs");
                };
                assert!(error.starts_with(&format!("--{broken}")), "{role}: {error}");
            }
        }
    }

    #[test]
    fn a_prefix_for_redis_alone_leaves_the_other_names() {
        let stores = args(&["--prefix=all-", "--redis-prefix=a:b/"]);
        assert_eq!((stores.prefix.as_str(), stores.redis_prefix.as_deref()), ("all-", Some("a:b/")));
        let command = StoreArgs::augment_args(Command::new("test").no_binary_name(true));
        assert!(command.try_get_matches_from(["--redis-prefix=a{b"]).is_err());
    }
}
