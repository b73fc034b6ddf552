//! What a user says about Kafka, and what every client of ours tells the client library.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::super::{DEAD_LETTER_SUFFIX, DEFAULT_TOPIC};

/// The session timeout where none is given: the least that brokers allow by default.
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// How a user name and password are presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As they are: over TLS only, or the network can read them.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    #[default]
    ScramSha512,
}

impl SaslMechanism {
    /// The name on the wire and in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl std::str::FromStr for SaslMechanism {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512".to_owned())
    }
}

/// Where the brokers are and who we are to them.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, several with commas. One that answers is enough.
    pub brokers: String,
    /// The topic of the log; its dead letters are in the topic of the same name with `.dlq`.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// How long the group waits for a consumer that is silent before others get its partitions. Brokers refuse what is outside of
    /// their `group.min.session.timeout.ms` and `group.max.session.timeout.ms`; the consumer tells that as an error of the log.
    pub session_timeout: Duration,
    /// Whether to speak TLS. A CA file implies it.
    pub tls: bool,
    /// The CA's certificate (PEM); absent, the system's are trusted.
    pub ca_file: Option<PathBuf>,
    /// The user, with the password, for SASL.
    pub username: Option<String>,
    /// The user's password. Never printed.
    pub password: Option<String>,
    /// How the two are presented.
    pub sasl: SaslMechanism,
}

impl KafkaConfig {
    /// Plaintext, without credentials, the usual topic and group.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: DEFAULT_TOPIC.to_owned(),
            group: "liverank".to_owned(),
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            tls: false,
            ca_file: None,
            username: None,
            password: None,
            sasl: SaslMechanism::default(),
        }
    }

    /// The topic of what cannot be read.
    pub fn dead_letter_topic(&self) -> String {
        format!("{}{DEAD_LETTER_SUFFIX}", self.topic)
    }

    /// The settings that all our clients share.
    pub(super) fn kafka_client_config(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "liverank")
            // A deleted topic must stay deleted until `open` creates it as it has to be.
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.connection.setup.timeout.ms", "5000")
            // A broker that takes a request and never answers is given up after this; the default is a minute.
            .set("socket.timeout.ms", "10000")
            // A broker that is back is found within a second; the default lets ten pass.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false");
        let tls = self.tls || self.ca_file.is_some();
        let sasl = self.username.is_some();
        let protocol = match (tls, sasl) {
            (false, false) => "PLAINTEXT",
            (true, false) => "SSL",
            (false, true) => "SASL_PLAINTEXT",
            (true, true) => "SASL_SSL",
        };
        client.set("security.protocol", protocol);
        if let Some(file) = &self.ca_file {
            client.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(username) = &self.username {
            client
                .set("sasl.mechanism", self.sasl.name())
                .set("sasl.username", username)
                .set("sasl.password", self.password.as_deref().unwrap_or_default());
        }
        client
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("session_timeout", &self.session_timeout)
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("sasl", &self.sasl)
            .finish()
    }
}

/// The client library's own log lines, for those who ask for them: it repeats itself every second while a broker is
/// away, where we tell the transition once.
pub(super) fn trace_library(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// The context of clients that are no member of a group: it only passes the library's log lines to `tracing`.
pub(super) struct TracingContext;

impl ClientContext for TracingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        trace_library(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for TracingContext {}

impl ProducerContext for TracingContext {
    type DeliveryOpaque = ();

    /// The transaction that a record belongs to tells of its failure.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let mut config = KafkaConfig::new("broker:9092");
        config.username = Some("user".to_owned());
        config.password = Some("hunter2".to_owned());
        let printed = format!("{config:?}");
        assert!(!printed.contains("hunter2") && printed.contains("user"), "{printed}");
    }

    #[test]
    fn the_protocol_follows_from_what_is_given() {
        let mut config = KafkaConfig::new("broker:9092");
        let protocol = |config: &KafkaConfig| {
            config.kafka_client_config().get("security.protocol").unwrap_or_default().to_owned()
        };
        assert_eq!(protocol(&config), "PLAINTEXT");
        config.ca_file = Some("/etc/ca.pem".into());
        assert_eq!(protocol(&config), "SSL");
        config.username = Some("user".to_owned());
        assert_eq!(protocol(&config), "SASL_SSL");
        assert_eq!(config.kafka_client_config().get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        config.ca_file = None;
        assert_eq!(protocol(&config), "SASL_PLAINTEXT");
        assert_eq!("scram-sha-256".parse(), Ok(SaslMechanism::ScramSha256));
        assert!("NTLM".parse::<SaslMechanism>().is_err());
    }
}
