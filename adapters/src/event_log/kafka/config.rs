//! The user's settings for Kafka, and the options that all our clients give the client library.

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

/// The session timeout if none is given: the shortest that brokers allow by default.
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// The SASL mechanism by which user name and password are sent to the brokers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password is sent as it is: over TLS only, or the network can read it.
    Plain,
    /// The password is proven by SCRAM with SHA-256, and is not sent.
    ScramSha256,
    /// The password is proven by SCRAM with SHA-512, and is not sent.
    #[default]
    ScramSha512,
}

impl SaslMechanism {
    /// Returns the mechanism's name in the protocol and in configurations.
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

/// The addresses of the brokers, the topic and the group, and our credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// The brokers as `host:port`, several separated by commas. One broker that answers is enough.
    pub brokers: String,
    /// The topic of the log; its dead letters are in the topic of the same name with the suffix `.dlq`.
    pub topic: String,
    /// The name of the consumer group.
    pub group: String,
    /// The time after which the group gives the partitions of a silent consumer to others. Brokers refuse a value
    /// outside of their `group.min.session.timeout.ms` and `group.max.session.timeout.ms`; the consumer reports the
    /// refusal as an error of the log.
    pub session_timeout: Duration,
    /// True for connections with TLS, which a CA file implies. A CA file implies TLS.
    pub tls: bool,
    /// The file with the CA's certificate (PEM); if absent, the system's certificates are trusted.
    pub ca_file: Option<PathBuf>,
    /// The user name for SASL; `None` if SASL is not used.
    pub username: Option<String>,
    /// The user's password. The password is never printed.
    pub password: Option<String>,
    /// The SASL mechanism for user and password.
    pub sasl: SaslMechanism,
}

impl KafkaConfig {
    /// Returns a configuration for plaintext without credentials, with the default topic and group.
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

    /// Returns the name of the topic of dead letters.
    pub fn dead_letter_topic(&self) -> String {
        format!("{}{DEAD_LETTER_SUFFIX}", self.topic)
    }

    /// Returns the options that all our clients share.
    pub(super) fn kafka_client_config(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "liverank")
            // A deleted topic must stay deleted until `open` creates it with its settings.
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.connection.setup.timeout.ms", "5000")
            // A broker that accepts a request and never answers is given up after this time; the default is a minute.
            .set("socket.timeout.ms", "10000")
            // A broker that is back is found within a second; the default is up to ten seconds.
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

/// Passes a log line of the client library to `tracing`, most of them at the level debug: the library repeats its lines
/// every second while a broker is unreachable, and liverank itself logs only the change.
pub(super) fn log_library_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// The callbacks of a client that is no member of a group: they only pass the library's log lines and errors to
/// `tracing`.
pub(super) struct LibraryLogContext;

impl ClientContext for LibraryLogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_library_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for LibraryLogContext {}

impl ProducerContext for LibraryLogContext {
    type DeliveryOpaque = ();

    /// Does nothing: the failure of a record is reported by its transaction.
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
