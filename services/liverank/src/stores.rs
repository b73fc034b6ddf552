//! Which stores a process works on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::archive::mongodb::{MongoArchive, MongoConfig};
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::assignment_store::redis::RedisAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::comment_bus::redis::RedisBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::event_log::kafka::{KafkaConfig, KafkaLog, SaslMechanism};
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::ranking_store::redis::RedisRanking;
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use liverank_adapters::{Backends, EventLog, clock};

/// Where the real stores are, and how to speak to them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stores")]
pub struct StoreArgs {
    /// Kafka's bootstrap servers, separated by commas.
    #[arg(long, env = "LIVERANK_KAFKA", value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// The topic of interactions.
    #[arg(long, env = "LIVERANK_KAFKA_TOPIC", default_value = "video_interactions")]
    kafka_topic: String,
    /// The consumers' group.
    #[arg(long, env = "LIVERANK_KAFKA_GROUP", default_value = "liverank")]
    kafka_group: String,
    /// Speak TLS to Kafka.
    #[arg(long, env = "LIVERANK_KAFKA_TLS")]
    kafka_tls: bool,
    /// Certificates to trust Kafka by, in PEM; means TLS.
    #[arg(long, env = "LIVERANK_KAFKA_CA_FILE", value_name = "FILE")]
    kafka_ca_file: Option<PathBuf>,
    /// User name for Kafka; means SASL.
    #[arg(long, env = "LIVERANK_KAFKA_USERNAME")]
    kafka_username: Option<String>,
    /// Password for Kafka.
    #[arg(long, env = "LIVERANK_KAFKA_PASSWORD", hide_env_values = true)]
    kafka_password: Option<Secret>,
    /// How the password is proven to Kafka.
    #[arg(long, env = "LIVERANK_KAFKA_SASL", value_enum, default_value_t = Sasl::ScramSha512)]
    kafka_sasl: Sasl,
    /// Redis, as redis://[user:password@]host:port[/db], or rediss:// for TLS; of a cluster, some of its nodes, separated
    /// by commas.
    #[arg(long, env = "LIVERANK_REDIS", hide_env_values = true, value_name = "URL")]
    redis: Option<Secret>,
    /// Redis is a Redis Cluster.
    #[arg(long, env = "LIVERANK_REDIS_CLUSTER")]
    redis_cluster: bool,
    /// Certificates to trust Redis by, in PEM.
    #[arg(long, env = "LIVERANK_REDIS_CA_FILE", value_name = "FILE")]
    redis_ca_file: Option<PathBuf>,
    /// `MongoDB` (a replica set), as mongodb://[user:password@]host:port/?replicaSet=…; tls=true for TLS.
    #[arg(long, env = "LIVERANK_MONGODB", hide_env_values = true, value_name = "URI")]
    mongodb: Option<Secret>,
    /// The database in `MongoDB`.
    #[arg(long, env = "LIVERANK_MONGODB_DATABASE", default_value = "video_db")]
    mongodb_database: String,
    /// Certificates to trust `MongoDB` by, in PEM.
    #[arg(long, env = "LIVERANK_MONGODB_CA_FILE", value_name = "FILE")]
    mongodb_ca_file: Option<PathBuf>,
    /// In front of the topic's, the group's, the database's and every Redis key's name, so that several systems can
    /// share the stores.
    #[arg(long, env = "LIVERANK_PREFIX", default_value = "", value_parser = prefix)]
    prefix: String,
}

/// A value that is not shown.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sasl {
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

/// A prefix has to be good for a Kafka topic and a `MongoDB` database alike.
fn prefix(text: &str) -> Result<String, String> {
    let fits = text.len() <= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err("must be at most 32 of a-z 0-9 - _".into()) }
}

impl StoreArgs {
    /// Whether any real store is named.
    pub const fn any(&self) -> bool {
        self.kafka.is_some() || self.redis.is_some() || self.mongodb.is_some()
    }

    /// The real log alone; nothing is connected yet. `None` where it is not named.
    pub fn log(&self) -> anyhow::Result<Option<Arc<dyn EventLog>>> {
        let Some(brokers) = self.kafka.clone() else { return Ok(None) };
        let named = |name: &str| format!("{}{name}", self.prefix);
        let config = KafkaConfig {
            brokers,
            topic: named(&self.kafka_topic),
            group: named(&self.kafka_group),
            tls: self.kafka_tls || self.kafka_ca_file.is_some(),
            ca_file: self.kafka_ca_file.clone(),
            username: self.kafka_username.clone(),
            password: self.kafka_password.clone().map(|secret| secret.0),
            sasl: match self.kafka_sasl {
                Sasl::Plain => SaslMechanism::Plain,
                Sasl::ScramSha256 => SaslMechanism::ScramSha256,
                Sasl::ScramSha512 => SaslMechanism::ScramSha512,
            },
        };
        Ok(Some(Arc::new(KafkaLog::new(config).context("--kafka")?)))
    }

    /// The real stores, all of which must be named; nothing is connected yet. `who` asks.
    pub async fn real(self, who: &str) -> anyhow::Result<Backends> {
        let (Some(log), Some(redis), Some(mongodb)) = (self.log()?, self.redis, self.mongodb) else {
            bail!(
                "{who} needs --kafka, --redis and --mongodb (LIVERANK_KAFKA, LIVERANK_REDIS, LIVERANK_MONGODB); \
                 `liverank up` runs everything without them"
            );
        };
        let mongodb = MongoConfig {
            uri: mongodb.0,
            database: format!("{}{}", self.prefix, self.mongodb_database),
            ca_file: self.mongodb_ca_file,
        };
        let redis = RedisConfig {
            url: redis.0,
            cluster: self.redis_cluster,
            prefix: self.prefix,
            ca_file: self.redis_ca_file,
        };
        let link = RedisLink::new(redis).context("--redis")?;
        Ok(Backends {
            log,
            archive: Arc::new(MongoArchive::new(mongodb).await.context("--mongodb")?),
            ranking: Arc::new(RedisRanking::new(Arc::clone(&link))),
            comments: Arc::new(RedisBus::new(Arc::clone(&link))),
            assignments: Arc::new(RedisAssignments::new(link)),
        })
    }
}

/// Embedded stores in `directory`, which is made where it is absent.
pub fn embedded(directory: &Path) -> anyhow::Result<Backends> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("the data directory {} cannot be made", directory.display()))?;
    Ok(Backends {
        log: Arc::new(EmbeddedLog::open(directory, clock::system())?),
        archive: Arc::new(EmbeddedArchive::open(directory)?),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
    })
}
