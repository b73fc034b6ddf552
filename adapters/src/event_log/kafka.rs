//! The log on Apache Kafka.
//!
//! | module | does |
//! |---|---|
//! | [`config`] | the user's settings, and the options of the client library made from them |
//! | `topics` | creates and checks the topics |
//! | `producer` | appends, bounded in number and in time |
//! | `breaker` | refuses appends at once while the brokers are unreachable, and finds out when they are back |
//! | `consumer` | one member of the group: its thread, and the events that it returns |
//! | `rebalance` | the callbacks of the client library for the member |
//! | `record_buffer` | copies of the records that the client library has read |
//! | `inbox` | the events and records that the thread has read and not returned yet |
//! | `range_reader` | reads offset ranges outside of the group |
//! | `dead_letters` | dead letters and their headers |
//! | `traceparent` | the header by which a record carries its trace |
//! | `export` | topics for other systems, each source by a transactional producer |
//! | `transaction_errors` | what an error of such a producer means for its caller |
//! | `removal` | removal of records by their retention, and of dead letters one by one |
//! | `inspect`, `inspect_exports` | checks of the brokers and topics for an administrator |
//!
//! Topics that liverank creates keep their records for good (`retention.ms` and `retention.bytes` -1, `cleanup.policy`
//! delete): the log is the one source of truth, and no rebuild can count records that it has dropped. To bound the use
//! of the disk, set a retention on the topic and keep backups of MongoDB, from which a rebuild can go on. A topic that
//! existed before is used as it is, and a retention on it is logged at the start.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use liverank_core::trace::TraceContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::{
    AppendError, DeadLetter, DeadLetterFilter, DeadLetterReader, EventLog, LogConsumer, LogReader, ReadRange,
    RecordPosition, RecordRetention,
};
use crate::StoreError;
use crate::export_topics::ExportTopics;

mod breaker;
mod config;
mod consumer;
mod dead_letters;
mod export;
mod inbox;
mod inspect;
mod inspect_exports;
mod producer;
mod range_reader;
mod rebalance;
mod record_buffer;
mod removal;
mod topics;
mod traceparent;
mod transaction_errors;

pub use config::{KafkaConfig, SaslMechanism};
use consumer::KafkaConsumer;
use producer::Producer;
use range_reader::{AsyncRangeReader, RangeReader};

/// The name of this store in errors and logs.
const PART_NAME: &str = "kafka";
/// The time limit of one query to the brokers (metadata, watermarks). After this time the brokers are treated as
/// unreachable: an operator who waits for an answer would rather read an error.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The log on Apache Kafka 2.4 or newer. Connects and reconnects by itself.
pub struct KafkaLog {
    config: KafkaConfig,
    producer: Arc<Producer>,
}

impl KafkaLog {
    /// Returns a log that connects in the background: unreachable brokers are no error here. A configuration that
    /// cannot work (an unreadable CA file, for example) is an error.
    pub fn new(config: KafkaConfig) -> Result<Self, StoreError> {
        let producer = Producer::start(&config)?;
        Ok(Self { config, producer })
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn open(&self) -> Result<(), StoreError> {
        let limit = topics::prepare_topics(&self.config)
            .await
            .map_err(|error| self.producer.prefer_connection_error(error))?;
        self.producer.set_batch_limit(limit).await
    }

    async fn append_traced(
        &self,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError> {
        self.producer.append(key, &value, trace).await
    }

    async fn append_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.producer.append_dead_letter(letter).await
    }

    async fn join_consumer_group(&self) -> Result<Box<dyn LogConsumer>, StoreError> {
        Ok(Box::new(KafkaConsumer::join(&self.config)?))
    }

    async fn end_offsets(&self) -> Result<Vec<u64>, StoreError> {
        let held = self.producer.held_offsets(&self.config.topic).await?;
        Ok(held.into_iter().map(|held| held.end_offset).collect())
    }

    async fn first_offsets(&self) -> Result<Vec<u64>, StoreError> {
        let held = self.producer.held_offsets(&self.config.topic).await?;
        Ok(held.into_iter().map(|held| held.first_offset).collect())
    }

    async fn read_ranges(&self, stretches: &[ReadRange]) -> Result<Box<dyn LogReader>, StoreError> {
        let topic = &self.config.topic;
        let held = self.producer.held_offsets(topic).await?;
        Ok(Box::new(AsyncRangeReader::new(RangeReader::begin_reading(
            &self.config,
            topic,
            stretches,
            &held,
        )?)))
    }

    async fn read_dead_letters(
        &self,
        only: Option<RecordPosition>,
    ) -> Result<Box<dyn DeadLetterReader>, StoreError> {
        let topic = self.config.dead_letter_topic();
        let held = self.producer.held_offsets(&topic).await?;
        let stretches: Vec<ReadRange> = (0..)
            .zip(&held)
            .filter_map(|(partition, held)| match only {
                None => Some(ReadRange {
                    partition,
                    first_offset: held.first_offset,
                    end_offset: held.end_offset,
                    previous_record: None,
                }),
                Some(RecordPosition { offset, .. }) => {
                    (held.first_offset..held.end_offset).contains(&offset).then_some(ReadRange {
                        partition,
                        first_offset: offset,
                        end_offset: offset + 1,
                        previous_record: None,
                    })
                }
            })
            .filter(|stretch| only.is_none_or(|only| only.partition == stretch.partition))
            .collect();
        Ok(Box::new(AsyncRangeReader::new(RangeReader::begin_reading(
            &self.config,
            &topic,
            &stretches,
            &held,
        )?)))
    }

    async fn remove_dead_letters(&self, is_meant: DeadLetterFilter<'_>) -> Result<u64, StoreError> {
        removal::remove_dead_letters(self, is_meant).await
    }

    async fn record_retention(&self) -> Result<RecordRetention, StoreError> {
        removal::read_retention(&self.config).await
    }

    fn export_topics(&self) -> Option<&dyn ExportTopics> {
        Some(self)
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        self.producer.health()
    }
}

/// Turns an error of the client library into a [`StoreError`], which tells the caller whether trying again may help; it
/// may for most errors, which come from the network.
fn store_error(doing: &str, error: &KafkaError) -> StoreError {
    use RDKafkaErrorCode::{
        Authentication, GroupAuthorizationFailed, InvalidSessionTimeout, InvalidTopic, SSL,
        SaslAuthenticationFailed, TopicAuthorizationFailed, UnsupportedSASLMechanism,
    };
    // A configuration error quotes the value, which may be a password.
    if let KafkaError::ClientConfig(_, what, key, _) = error {
        return StoreError::unusable(PART_NAME, format!("{doing}: setting {key}: {what}"));
    }
    let reason = match error.rdkafka_error_code() {
        Some(InvalidSessionTimeout) => format!(
            "{doing}: the brokers refuse the session timeout: it has to be within their \
             group.min.session.timeout.ms and group.max.session.timeout.ms"
        ),
        _ => format!("{doing}: {error}"),
    };
    match error {
        KafkaError::ClientCreation(_) => StoreError::unusable(PART_NAME, reason),
        _ => match error.rdkafka_error_code() {
            Some(
                Authentication
                | InvalidSessionTimeout
                | GroupAuthorizationFailed
                | InvalidTopic
                | SSL
                | SaslAuthenticationFailed
                | TopicAuthorizationFailed
                | UnsupportedSASLMechanism,
            ) => StoreError::unusable(PART_NAME, reason),
            _ => StoreError::unavailable(PART_NAME, reason),
        },
    }
}

/// Runs a blocking call of the client library on a thread on which it may block.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::unavailable(PART_NAME, format!("the call was given up: {error}")))
    })
}
