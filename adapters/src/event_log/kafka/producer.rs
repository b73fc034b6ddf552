//! Appends: idempotent, acknowledged by all in-sync replicas, bounded in number, in bytes and in time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use liverank_core::trace::TraceContext;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;

use super::super::{AppendError, DeadLetter, RecordPosition, StoredDeadLetter};
use super::breaker::{Breaker, ProbeAction};
use super::config::{KafkaConfig, log_library_line};
use super::dead_letters::{self, LETTER_HEADER_BYTES};
use super::{PART_NAME, QUERY_TIMEOUT, run_blocking, store_error, traceparent};
use crate::StoreError;

/// The time after which an append that is not acknowledged has failed for its caller. Long enough for a broker's
/// restart on a fast disk or the election of a leader, short enough for a user who waits for an answer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// The time in milliseconds for which appends wait for others before a batch is sent. Without load each answer comes
/// this much later; under load a batch fills while the one before is on its way, and the appends share a request.
const LINGER_MS: u32 = 2;
/// The largest number of appends in flight: a hundred thousand a second at 200 ms each. An append over the bound fails
/// at once.
const MAX_IN_FLIGHT: u32 = 20_000;
/// The largest size of the appends in flight, in KiB: the memory that a process may use for a slow log.
const MAX_IN_FLIGHT_KIB: u32 = 64 * 1024;
/// The largest record that we append, in bytes, if the topic accepts as much. An interaction has a tenth of this size.
const MAX_RECORD_BYTES: usize = 1_000_000;
/// The size of a batch with one record, in bytes, beside the record itself, with a margin.
const BATCH_OVERHEAD_BYTES: usize = 512;

/// The pause before the brokers are asked again about a partition without a leader.
const LEADER_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The offsets that a partition holds: from `first_offset` (inclusive) to `end_offset` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldOffsets {
    pub(super) first_offset: u64,
    pub(super) end_offset: u64,
}

type KafkaSender = ThreadedProducer<DeliveryContext>;
type AppendOutcome = Result<RecordPosition, KafkaError>;

/// The producer in use, its replacement after a fatal error, and the breaker.
pub(super) struct Producer {
    config: KafkaConfig,
    dead_letter_topic: String,
    breaker: Arc<Breaker>,
    sender_in_use: RwLock<Arc<KafkaSender>>,
    /// The largest record that the producer in use accepts, in bytes.
    max_record_bytes: AtomicUsize,
}

impl Producer {
    /// Starts a producer that connects in the background.
    pub(super) fn start(config: &KafkaConfig) -> Result<Arc<Self>, StoreError> {
        let breaker = Arc::new(Breaker::new(DELIVERY_TIMEOUT));
        let producer = Arc::new(Self {
            sender_in_use: RwLock::new(Arc::new(create_sender(config, MAX_RECORD_BYTES, &breaker)?)),
            config: config.clone(),
            dead_letter_topic: config.dead_letter_topic(),
            breaker: Arc::clone(&breaker),
            max_record_bytes: AtomicUsize::new(MAX_RECORD_BYTES),
        });
        let watched = Arc::downgrade(&producer);
        std::thread::Builder::new()
            .name("kafka-probe".to_owned())
            .spawn(move || run_probing_thread(&watched, &breaker))
            .map_err(|error| StoreError::unavailable(PART_NAME, format!("starting a thread: {error}")))?;
        Ok(producer)
    }

    /// Adapts to the largest batch that the topic accepts, in bytes: a larger batch would be refused as a whole,
    /// however small its records are.
    pub(super) async fn set_batch_limit(self: &Arc<Self>, topic_limit: usize) -> Result<(), StoreError> {
        let limit =
            topic_limit.saturating_sub(BATCH_OVERHEAD_BYTES).clamp(LETTER_HEADER_BYTES, MAX_RECORD_BYTES);
        if limit == self.max_record_bytes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let this = Arc::clone(self);
        run_blocking(move || {
            this.max_record_bytes.store(limit, Ordering::Relaxed);
            this.replace_sender()
        })
        .await
    }

    fn replace_sender(&self) -> Result<(), StoreError> {
        let fresh = Arc::new(create_sender(
            &self.config,
            self.max_record_bytes.load(Ordering::Relaxed),
            &self.breaker,
        )?);
        let old = std::mem::replace(
            &mut *self.sender_in_use.write().unwrap_or_else(PoisonError::into_inner),
            fresh,
        );
        // Ends each append that is in flight in the old producer with an error.
        drop(old);
        Ok(())
    }

    fn current_sender(&self) -> Arc<KafkaSender> {
        Arc::clone(&self.sender_in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the error of an unanswered query by the connection error that the library has reported meanwhile, if
    /// there is one, because the former gives no cause.
    pub(super) fn prefer_connection_error(&self, error: StoreError) -> StoreError {
        match self.breaker.last_connection_error() {
            Some(heard) if error.is_transient() => heard,
            _ => error,
        }
    }

    pub(super) fn health(&self) -> Result<(), StoreError> {
        self.breaker.check_is_closed()
    }

    pub(super) async fn append(
        &self,
        key: &[u8],
        value: &[u8],
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError> {
        self.send_record(&self.config.topic, Some(key), value, traceparent::trace_headers(trace)).await
    }

    pub(super) async fn append_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let (key, value, headers) =
            dead_letters::encode_letter(letter, self.max_record_bytes.load(Ordering::Relaxed));
        match self.send_record(&self.dead_letter_topic, key, value, Some(headers)).await {
            Ok(_) => Ok(()),
            Err(AppendError::Unavailable(error)) => Err(error),
            // The letter is truncated to the limit of the log's topic, so the topic of the dead letters accepts less.
            Err(error @ AppendError::TooLarge { .. }) => Err(StoreError::unusable(
                PART_NAME,
                format!(
                    "{}: {error}: raise its max.message.bytes to that of the log",
                    self.dead_letter_topic
                ),
            )),
        }
    }

    /// Appends a stored letter once more, unchanged.
    pub(super) async fn append_dead_letter_again(&self, letter: StoredDeadLetter) -> Result<(), StoreError> {
        let headers = dead_letters::headers_of(&letter);
        match self
            .send_record(&self.dead_letter_topic, letter.key.as_deref(), &letter.value, Some(headers))
            .await
        {
            Ok(_) => Ok(()),
            Err(AppendError::Unavailable(error)) => Err(error),
            Err(error @ AppendError::TooLarge { .. }) => {
                Err(StoreError::unusable(PART_NAME, error.to_string()))
            }
        }
    }

    async fn send_record(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        headers: Option<OwnedHeaders>,
    ) -> Result<RecordPosition, AppendError> {
        self.breaker.check_is_closed()?;
        let bytes = key.map_or(0, <[u8]>::len) + value.len();
        let (tell, told) = oneshot::channel();
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(tell)).payload(value);
        record.key = key;
        record.headers = headers;
        // The lock is held only while the record is given to the library, which never waits.
        let sent = self.sender_in_use.read().unwrap_or_else(PoisonError::into_inner).send(record);
        let outcome = match sent {
            Ok(()) => told.await.unwrap_or(Err(KafkaError::Canceled)),
            Err((error, _)) => {
                self.breaker.note_error(&error);
                Err(error)
            }
        };
        outcome.map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => AppendError::TooLarge { bytes },
            _ => AppendError::Unavailable(store_error("appending", &error)),
        })
    }

    /// Reads the offsets that each partition of a topic holds.
    pub(super) async fn held_offsets(&self, topic: &str) -> Result<Vec<HeldOffsets>, StoreError> {
        self.breaker.check_is_closed()?;
        let (sender, topic) = (self.current_sender(), topic.to_owned());
        run_blocking(move || {
            let partitions = partition_count(&sender, &topic)?;
            if partitions == 0 {
                return Err(StoreError::unavailable(PART_NAME, format!("topic {topic} is not there")));
            }
            let deadline = Instant::now() + QUERY_TIMEOUT;
            (0..partitions).map(|partition| held_offsets_of(&sender, &topic, partition, deadline)).collect()
        })
        .await
    }

    /// Returns true if the brokers have the topic.
    pub(super) async fn has_topic(&self, topic: &str) -> Result<bool, StoreError> {
        self.breaker.check_is_closed()?;
        let (sender, topic) = (self.current_sender(), topic.to_owned());
        run_blocking(move || Ok(partition_count(&sender, &topic)? > 0)).await
    }

    /// Returns an error if no partition of the topic can be written to now.
    fn probe_brokers(&self, timeout: Duration) -> Result<(), String> {
        let topic = &self.config.topic;
        let metadata = self.current_sender().client().fetch_metadata(Some(topic), timeout);
        let metadata = metadata.map_err(|error| error.to_string())?;
        let found = metadata.topics().first().ok_or_else(|| format!("topic {topic} is not there"))?;
        if let Some(error) = found.error() {
            return Err(format!("topic {topic}: {}", RDKafkaErrorCode::from(error)));
        }
        if found.partitions().iter().any(|partition| partition.leader() >= 0) {
            Ok(())
        } else {
            Err(format!("no partition of topic {topic} has a leader"))
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.breaker.stop_probing();
    }
}

/// Asks the brokers for the number of a topic's partitions; 0 if they do not have the topic.
fn partition_count(sender: &KafkaSender, topic: &str) -> Result<usize, StoreError> {
    let metadata = sender
        .client()
        .fetch_metadata(Some(topic), QUERY_TIMEOUT)
        .map_err(|error| store_error("reading the topic's metadata", &error))?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
}

/// Reads the offsets that one partition holds. Repeats the query until `deadline` while the partition has no leader, as
/// a new partition has none for a moment.
fn held_offsets_of(
    sender: &KafkaSender,
    topic: &str,
    partition: usize,
    deadline: Instant,
) -> Result<HeldOffsets, StoreError> {
    loop {
        let error = match sender.client().fetch_watermarks(topic, partition as i32, QUERY_TIMEOUT) {
            Ok((low, high)) => {
                return Ok(HeldOffsets { first_offset: low.max(0) as u64, end_offset: high.max(0) as u64 });
            }
            Err(error) => error,
        };
        let settling = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
        );
        if !settling || Instant::now() >= deadline {
            return Err(store_error(&format!("reading what partition {partition} holds"), &error));
        }
        std::thread::sleep(LEADER_RETRY_PAUSE);
    }
}

/// Runs the probing thread until its producer is dropped.
fn run_probing_thread(watched: &Weak<Producer>, breaker: &Breaker) {
    loop {
        let duty = breaker.next_action();
        let Some(producer) = watched.upgrade() else { return };
        match duty {
            ProbeAction::End => return,
            ProbeAction::Probe(timeout) => breaker.note_probe_result(producer.probe_brokers(timeout)),
            ProbeAction::Renew => match producer.replace_sender() {
                Ok(()) => tracing::info!(part = PART_NAME, "the producer was replaced"),
                Err(error) => {
                    tracing::debug!(part = PART_NAME, %error, "the producer could not be replaced");
                    breaker.note_renewal_failure();
                }
            },
        }
    }
}

fn create_sender(
    config: &KafkaConfig,
    limit: usize,
    breaker: &Arc<Breaker>,
) -> Result<KafkaSender, StoreError> {
    producer_settings(config, limit)
        .create_with_context(DeliveryContext { breaker: Arc::clone(breaker) })
        .map_err(|error| store_error("creating the producer", &error))
}

fn producer_settings(config: &KafkaConfig, limit: usize) -> ClientConfig {
    let mut settings = config.kafka_client_config();
    settings
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Like Java producers, so that records of a key stay together whichever client wrote them.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", LINGER_MS.to_string())
        // JSON with the same few members shrinks to a third. LZ4 costs the least of the codecs that achieve this, here
        // and in every consumer, and every client library reads it without a further C library.
        .set("compression.type", "lz4")
        .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
        // Shorter than the delivery's time limit, so that a stuck request leaves time for one more attempt.
        .set("request.timeout.ms", "2000")
        .set("retry.backoff.ms", "50")
        .set("queue.buffering.max.messages", MAX_IN_FLIGHT.to_string())
        .set("queue.buffering.max.kbytes", MAX_IN_FLIGHT_KIB.to_string())
        .set("message.max.bytes", limit.to_string())
        .set("batch.size", limit.to_string());
    settings
}

/// Passes the outcome of each append to its caller, and to the breaker.
struct DeliveryContext {
    breaker: Arc<Breaker>,
}

impl Breaker {
    fn note_error(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.note_fatal_error(&error.to_string()),
            Some(RDKafkaErrorCode::MessageTimedOut) => self.note_delivery_timeout(&error.to_string()),
            Some(RDKafkaErrorCode::AllBrokersDown) => self.note_all_brokers_down(&error.to_string()),
            _ => {}
        }
    }
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_library_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.breaker.note_connection_error(store_error(reason, &error));
        }
        self.breaker.note_error(&error);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<oneshot::Sender<AppendOutcome>>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, tell: Self::DeliveryOpaque) {
        let outcome = match delivered {
            Ok(message) => {
                self.breaker.note_delivery();
                Ok(RecordPosition { partition: message.partition() as u32, offset: message.offset() as u64 })
            }
            Err((error, _)) => {
                self.breaker.note_error(error);
                Err(error.clone())
            }
        };
        // The caller may be gone; the record is in the log all the same.
        let _ = tell.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    /// Uses the library's own mock cluster, for an error that a real one does not make on demand.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_producer_with_a_fatal_error_is_replaced() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("log", 1, 1).unwrap();
        let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED];
        cluster.request_errors(RDKafkaApiKey::InitProducerId, &refused);
        let mut config = KafkaConfig::new(cluster.bootstrap_servers());
        config.topic = "log".to_owned();
        let producer = Producer::start(&config).unwrap();
        let broken = Arc::downgrade(&producer.current_sender());
        let begun = Instant::now();
        let mut refusals = 0;
        while let Err(error) = producer.append(b"k", b"v", None).await {
            assert!(matches!(&error, AppendError::Unavailable(error) if error.is_transient()), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(20), "still {error} after {refusals} appends");
            refusals += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(refusals > 0, "the first producer was to break");
        assert!(broken.upgrade().is_none(), "the broken producer is gone");
        assert!(producer.health().is_ok());
    }
}
