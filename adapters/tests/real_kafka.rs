//! Tests of the log on a real Kafka. `testbed/testbed up` starts one; `testbed/testbed env` prints its address.
#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use liverank_adapters::event_log::kafka::{KafkaConfig, KafkaLog};
use liverank_adapters::event_log::{
    AppendError, CREATED_PARTITION_COUNT, ConsumerEvent, DeadLetter, LogConsumer, RawRecord, ReadRange,
    ReadStart, RecordPosition,
};
use liverank_adapters::{EventLog, StoreError};
use liverank_adapters_testkit::event_log;
use liverank_core::counting::RecordFingerprint;
use proxy::{Mode, Ports, Proxy};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use retry::retry;

#[path = "real_kafka/export.rs"]
mod export;
#[path = "real_kafka/missing_records.rs"]
mod missing_records;
#[path = "real_kafka/outages.rs"]
mod outages;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/retry.rs"]
mod retry;
#[path = "real_kafka/topics.rs"]
mod topics;

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

fn broker_addresses() -> String {
    std::env::var("LIVERANK_TEST_KAFKA")
        .expect("LIVERANK_TEST_KAFKA is not set; start the real parts: testbed/testbed up")
}

fn fresh_topic() -> FreshTopic {
    static TOPIC_COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let name = format!("test-{now}-{}-{}", std::process::id(), TOPIC_COUNT.fetch_add(1, Ordering::Relaxed));
    let mut config = KafkaConfig::new(broker_addresses());
    config.topic.clone_from(&name);
    config.group = name;
    FreshTopic(config)
}

/// A topic and group that no other test uses. The topics are deleted on drop, whether the test passed or failed.
struct FreshTopic(KafkaConfig);

impl Deref for FreshTopic {
    type Target = KafkaConfig;
    fn deref(&self) -> &KafkaConfig {
        &self.0
    }
}

impl Drop for FreshTopic {
    fn drop(&mut self) {
        let topics = [self.topic.clone(), self.dead_letter_topic()];
        // Outside of the runtime in which the test runs.
        let deleting = std::thread::spawn(move || {
            let names = topics.each_ref().map(String::as_str);
            futures::executor::block_on(admin().delete_topics(&names, &AdminOptions::new()))
        });
        // Topics that a test never created cannot be deleted, and a failed test has its own message.
        let _ = deleting.join();
    }
}

async fn open_log(config: &KafkaConfig) -> Arc<KafkaLog> {
    let log = KafkaLog::new(config.clone()).unwrap();
    retry(TEST_TIMEOUT, async || log.open().await).await.unwrap();
    Arc::new(log)
}

/// Appends a record once records are not refused at once, as they are for a while after the broker did not answer.
async fn append(log: &KafkaLog, key: &[u8], value: Vec<u8>) -> RecordPosition {
    let begun = Instant::now();
    while let Err(error) = log.check_writable() {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.append(key, value).await.unwrap()
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker_addresses()).create().unwrap()
}

/// Returns options by which the brokers answer once they have done what they were asked for.
fn admin_options() -> AdminOptions {
    let limit = Some(Duration::from_secs(10));
    AdminOptions::new().request_timeout(limit).operation_timeout(limit)
}

/// Repeats a request of an administrator until the brokers have carried it out, or `is_done` with what they answer
/// instead.
async fn administer(
    what: &str,
    is_done: fn(RDKafkaErrorCode) -> bool,
    mut request: impl AsyncFnMut() -> Result<(), KafkaError>,
) {
    let mut last = None;
    let begun = Instant::now();
    while begun.elapsed() < TEST_TIMEOUT {
        match request().await {
            Ok(()) => return,
            Err(KafkaError::AdminOp(code)) if is_done(code) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: {last:?}");
}

/// Creates a topic, and waits until the broker knows its partitions.
async fn create_topic(topic: &NewTopic<'_>) {
    let is_there = |code: RDKafkaErrorCode| code == RDKafkaErrorCode::TopicAlreadyExists;
    administer("creating a topic", is_there, async || {
        let created = admin().create_topics([topic], &admin_options()).await?;
        created
            .into_iter()
            .try_for_each(|topic| topic.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
    })
    .await;
    describe_topic(topic.name).await;
}

async fn delete_topic(name: &str) {
    let is_gone = |code: RDKafkaErrorCode| code == RDKafkaErrorCode::UnknownTopicOrPartition;
    administer("deleting a topic", is_gone, async || {
        let deleted = admin().delete_topics(&[name], &admin_options()).await?;
        deleted
            .into_iter()
            .try_for_each(|topic| topic.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
    })
    .await;
}

async fn delete_group(name: &str) {
    let is_gone = |code: RDKafkaErrorCode| code == RDKafkaErrorCode::GroupIdNotFound;
    administer("deleting a group", is_gone, async || {
        let deleted = admin().delete_groups(&[name], &admin_options()).await?;
        deleted
            .into_iter()
            .try_for_each(|group| group.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
    })
    .await;
}

async fn describe_topic(name: &str) -> ConfigResource {
    let mut found = None;
    administer(
        "describing a topic",
        |_| false,
        async || {
            let described =
                admin().describe_configs(&[ResourceSpecifier::Topic(name)], &admin_options()).await?;
            let topic = described.into_iter().next().expect("one topic was asked for");
            found = Some(topic.map_err(KafkaError::AdminOp)?);
            Ok(())
        },
    )
    .await;
    found.expect("it was described")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_log_passes_the_event_log_suite() {
    let used = std::sync::Mutex::new(Vec::new());
    event_log::suite(|| async {
        let config = fresh_topic();
        let log: Arc<dyn EventLog> = Arc::new(KafkaLog::new(config.clone()).unwrap());
        used.lock().unwrap().push(config);
        log
    })
    .await;
}

/// The next offset of each partition, and the fingerprint of the record before it.
type ArchivedOffsets = Arc<std::sync::Mutex<BTreeMap<u32, (u64, Option<RecordFingerprint>)>>>;

/// A member that starts its partitions at the offsets in `archive`, and advances these.
struct CountingMember {
    consumer: Box<dyn LogConsumer>,
    archive: ArchivedOffsets,
    owned: BTreeSet<u32>,
    records: Vec<RawRecord>,
}

impl CountingMember {
    async fn join(log: &dyn EventLog) -> Self {
        Self::with_archive(log, Arc::default()).await
    }

    async fn with_archive(log: &dyn EventLog, archive: ArchivedOffsets) -> Self {
        Self {
            consumer: log.join_consumer_group().await.unwrap(),
            archive,
            owned: BTreeSet::new(),
            records: Vec::new(),
        }
    }

    /// Polls once. An error that passes is no news: callers poll until what they wait for has come, for a limited time.
    async fn poll_once(&mut self) {
        if let Err(error) = self.try_poll_once().await {
            assert!(error.is_transient(), "{error}");
        }
    }

    async fn try_poll_once(&mut self) -> Result<(), StoreError> {
        match self.consumer.next_event(500, Duration::from_millis(20)).await? {
            ConsumerEvent::Assigned(partitions) => {
                let starts: Vec<_> = {
                    let archive = self.archive.lock().unwrap();
                    let start = |at: &u32| {
                        let (offset, after) = archive.get(at).copied().unwrap_or_default();
                        ReadStart { partition: *at, offset, previous_record: after }
                    };
                    partitions.iter().map(start).collect()
                };
                self.owned.extend(partitions);
                self.consumer.start_partitions(&starts).await?;
            }
            ConsumerEvent::Revoked(partitions) => self.owned.retain(|at| !partitions.contains(at)),
            ConsumerEvent::Records(records) => {
                let mut archive = self.archive.lock().unwrap();
                for record in records {
                    let (next, last) = archive.entry(record.partition).or_default();
                    // The archive fences: records that another member has counted meanwhile are not counted again.
                    if *next == record.offset {
                        (*next, *last) = (record.offset + 1, Some(record.fingerprint()));
                        self.records.push(record);
                    } else {
                        assert!(
                            *next > record.offset,
                            "offset {} was skipped to, from {next}",
                            record.offset
                        );
                    }
                }
            }
            ConsumerEvent::Idle => {}
        }
        Ok(())
    }

    /// Reads until the log is refused as another one; returns the error's text.
    async fn read_until_refused(&mut self) -> String {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < TEST_TIMEOUT, "another log was not noticed; read: {:?}", self.records);
            match self.try_poll_once().await {
                Err(error) if !error.is_transient() => return error.to_string(),
                _ => {}
            }
        }
    }

    async fn read_until(&mut self, count: usize) {
        let begun = Instant::now();
        while self.records.len() < count {
            assert!(begun.elapsed() < TEST_TIMEOUT, "only {} of {count}", self.records.len());
            self.poll_once().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_under_load_and_nothing_is_lost() {
    let config = fresh_topic();
    let log = open_log(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        async move {
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch = (0..50).map(|at| {
                    let value = format!("{}", written.len() + at);
                    let log = &log;
                    async move { (append(log, value.as_bytes(), value.clone().into_bytes()).await, value) }
                });
                let batch = join_all(batch).await;
                written.extend(batch);
            }
            written
        }
    });
    let archive = ArchivedOffsets::default();
    let mut first = CountingMember::with_archive(&*log, Arc::clone(&archive)).await;
    first.read_until(500).await;
    let mut moved = Vec::new();
    for _ in 0..2 {
        let mut second = CountingMember::with_archive(&*log, Arc::clone(&archive)).await;
        let begun = Instant::now();
        while second.records.len() < 500 || first.owned.len() != 6 {
            assert!(begun.elapsed() < TEST_TIMEOUT, "the second gets its share: {:?}", second.owned);
            first.poll_once().await;
            second.poll_once().await;
        }
        moved.append(&mut second.records);
        drop(second);
        let begun = Instant::now();
        while first.owned.len() != CREATED_PARTITION_COUNT as usize {
            assert!(begun.elapsed() < TEST_TIMEOUT, "the first takes over: {:?}", first.owned);
            first.poll_once().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    first.read_until(written.len() - moved.len()).await;
    let read: BTreeMap<_, _> =
        first.records.iter().chain(&moved).map(|at| ((at.partition, at.offset), at.value.to_vec())).collect();
    let written: BTreeMap<_, _> =
        written.into_iter().map(|(at, value)| ((at.partition, at.offset), value.into_bytes())).collect();
    assert_eq!(first.records.len() + moved.len(), read.len(), "nothing twice");
    assert!(read == written, "all that was acknowledged: {} of {}", read.len(), written.len());
}

async fn wait_until(what: &str, mut come_true: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !come_true().await {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}
