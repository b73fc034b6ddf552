//! The log on a real Kafka. `testbed/testbed up` starts one; `testbed/testbed env` says where it is.
#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use liverank_adapters::event_log::kafka::{KafkaConfig, KafkaLog};
use liverank_adapters::event_log::{
    AppendError, ConsumerEvent, DeadLetter, LogConsumer, PARTITIONS, RawRecord, ReadRange, Start,
};
use liverank_adapters::{EventLog, StoreError};
use liverank_adapters_testkit::event_log;
use liverank_core::counting::RecordFingerprint;
use proxy::{Mode, Ports, Proxy};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

#[path = "real_kafka/outages.rs"]
mod outages;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "real_kafka/vanished.rs"]
mod vanished;

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

fn broker_addresses() -> String {
    std::env::var("LIVERANK_TEST_KAFKA")
        .expect("LIVERANK_TEST_KAFKA is not set; start the real parts: testbed/testbed up")
}

fn fresh() -> FreshTopic {
    static TOPIC_COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let name = format!("test-{now}-{}-{}", std::process::id(), TOPIC_COUNT.fetch_add(1, Ordering::Relaxed));
    let mut config = KafkaConfig::new(broker_addresses());
    config.topic.clone_from(&name);
    config.group = name;
    FreshTopic(config)
}

/// A topic and group that nobody else has. The topics are deleted when it is dropped, whatever became of the test.
struct FreshTopic(KafkaConfig);

impl Deref for FreshTopic {
    type Target = KafkaConfig;
    fn deref(&self) -> &KafkaConfig {
        &self.0
    }
}

impl Drop for FreshTopic {
    fn drop(&mut self) {
        let topics = [self.topic.clone(), self.dead_letters()];
        // Away from the runtime that the test runs in.
        let deleting = std::thread::spawn(move || {
            let names = topics.each_ref().map(String::as_str);
            futures::executor::block_on(admin().delete_topics(&names, &AdminOptions::new()))
        });
        // What a test never created cannot be deleted, and a test that failed has its own words.
        let _ = deleting.join();
    }
}

async fn open_log(config: &KafkaConfig) -> Arc<KafkaLog> {
    let log = KafkaLog::new(config.clone()).unwrap();
    log.open().await.unwrap();
    Arc::new(log)
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker_addresses()).create().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_log_passes_the_event_log_suite() {
    let used = std::sync::Mutex::new(Vec::new());
    event_log::suite(|| async {
        let config = fresh();
        let log: Arc<dyn EventLog> = Arc::new(KafkaLog::new(config.clone()).unwrap());
        used.lock().unwrap().push(config);
        log
    })
    .await;
}

/// Reads a whole topic without a group.
fn read_all<T>(topic: &str, count: usize, each: impl Fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker_addresses())
        .set("group.id", topic)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let begun = Instant::now();
    let mut read = Vec::new();
    while read.len() < count {
        assert!(begun.elapsed() < TEST_TIMEOUT, "only {} of {count} in {topic}", read.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            read.push(each(&message));
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_with_the_wanted_settings() {
    let config = fresh();
    // Several processes at once, as it happens when a system starts.
    join_all((0..4).map(|_| open_log(&config))).await;
    let dead_letters = config.dead_letters();
    let topics = [ResourceSpecifier::Topic(&config.topic), ResourceSpecifier::Topic(&dead_letters)];
    let described = admin().describe_configs(&topics, &AdminOptions::new()).await.unwrap();
    for topic in described {
        let topic = topic.unwrap();
        let value = |name: &str| topic.get(name).unwrap().value.clone().unwrap();
        assert_eq!(value("message.timestamp.type"), "LogAppendTime", "{:?}", topic.specifier);
        assert_eq!(value("min.insync.replicas"), "1", "{:?}", topic.specifier);
        let kept = (value("cleanup.policy"), value("retention.ms"), value("retention.bytes"));
        let for_good = ("delete".to_owned(), "-1".to_owned(), "-1".to_owned());
        assert_eq!(kept, for_good, "{:?}", topic.specifier);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_topic_is_used_unchanged() {
    let config = fresh();
    let topic = NewTopic::new(&config.topic, 3, TopicReplication::Fixed(1)).set("max.message.bytes", "50000");
    admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
    let log = open_log(&config).await;
    assert_eq!(log.end_offsets().await.unwrap(), [0, 0, 0]);
    // Many small ones at once: a batch beyond the topic's limit would be refused as a whole.
    let small = join_all((0..200).map(|at| log.append(b"k", vec![at; 2000]))).await;
    assert!(small.iter().all(Result::is_ok), "{small:?}");
    let large = log.append(b"k", vec![b'x'; 60_000]).await;
    assert!(matches!(large, Err(AppendError::TooLarge { bytes: 60_001 })), "{large:?}");
}

/// The hash of Kafka's Java clients (murmur2), by its published definition.
fn java_partition(key: &[u8], partitions: u32) -> u32 {
    const MURMUR2_M: u32 = 0x5bd1_e995;
    let mix =
        |k: u32| (k.wrapping_mul(MURMUR2_M) ^ (k.wrapping_mul(MURMUR2_M) >> 24)).wrapping_mul(MURMUR2_M);
    let mut hash: u32 = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        hash = hash.wrapping_mul(MURMUR2_M) ^ mix(u32::from_le_bytes(word.try_into().unwrap()));
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(MURMUR2_M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MURMUR2_M);
    ((hash ^ (hash >> 15)) & 0x7fff_ffff) % partitions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_to_the_partitions_that_java_clients_choose() {
    // From the tests of Kafka's own `Utils.murmur2`: "21" → -973932308, "foobar" → -790332482.
    for (key, hash) in [("21", -973_932_308_i32), ("foobar", -790_332_482)] {
        let positive = hash.cast_unsigned() & 0x7fff_ffff;
        assert_eq!(java_partition(key.as_bytes(), 1_000_000_007), positive % 1_000_000_007, "{key}");
    }
    let config = fresh();
    let log = open_log(&config).await;
    for key in ["a", "ab", "abc", "abcd", "video-12345", "日本", "ü", "a much longer key than the others are"]
    {
        let place = log.append(key.as_bytes(), b"x".to_vec()).await.unwrap();
        assert_eq!(place.partition, java_partition(key.as_bytes(), PARTITIONS), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_name_their_origin() {
    let config = fresh();
    let log = open_log(&config).await;
    let letter = |value: Vec<u8>, key: Vec<u8>| DeadLetter {
        record: RawRecord {
            partition: 7,
            offset: 4711,
            broker_time: 1_700_000_000_000,
            key: Some(key.into()),
            value: value.into(),
            trace: None,
        },
        reason: "type: must be view, like, comment, share, watch_time, unlike or unshare".to_owned(),
    };
    log.append_dead_letter(&letter(b"{}".to_vec(), b"k".to_vec())).await.unwrap();
    log.append_dead_letter(&letter(vec![b'x'; 2 << 20], vec![b'k'; 2 << 20])).await.unwrap();
    let mut read = read_all(&config.dead_letters(), 2, |message| {
        let headers: BTreeMap<String, String> = message
            .headers()
            .unwrap()
            .iter()
            .map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
            .collect();
        (message.payload().unwrap().len(), headers)
    });
    read.sort();
    let (small, large) = (&read[0], &read[1]);
    assert_eq!(small.0, 2);
    assert_eq!((small.1["partition"].as_str(), small.1["offset"].as_str()), ("7", "4711"));
    assert!(small.1["reason"].starts_with("type: must be") && !small.1.contains_key("truncated_from"));
    assert_eq!(large.1["truncated_from"], (2 << 20).to_string());
    assert!((400_000..1_000_000).contains(&large.0), "cut to what fits: {}", large.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_foreign_producers_are_read_unchanged() {
    let config = fresh();
    let log = open_log(&config).await;
    let producer: rdkafka::producer::FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", broker_addresses())
        .set("compression.type", "zstd")
        .create()
        .unwrap();
    let keyless =
        rdkafka::producer::FutureRecord::<(), str>::to(&config.topic).payload("no key").partition(4);
    producer.send(keyless, TEST_TIMEOUT).await.unwrap();
    let tombstone = rdkafka::producer::FutureRecord::<str, ()>::to(&config.topic).key("k").partition(4);
    producer.send(tombstone, TEST_TIMEOUT).await.unwrap();
    let mut member = CountingMember::join(&*log).await;
    member.read_until(2).await;
    let records = &member.records;
    assert_eq!((records[0].key.as_deref(), &records[0].value[..]), (None, &b"no key"[..]));
    assert_eq!((records[1].key.as_deref(), &records[1].value[..]), (Some(&b"k"[..]), &b""[..]));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!(records.iter().all(|record| (now - record.broker_time).abs() < 60_000), "the broker's time");
}

async fn wait_until(what: &str, mut come_true: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !come_true().await {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// The next offset of each partition, and the mark of the record before it.
type ArchivedOffsets = Arc<std::sync::Mutex<BTreeMap<u32, (u64, Option<RecordFingerprint>)>>>;

/// A member that starts what it is assigned where `archive` stands, and moves the archive on.
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
        Self { consumer: log.consume().await.unwrap(), archive, owned: BTreeSet::new(), records: Vec::new() }
    }

    async fn poll_once(&mut self) {
        self.try_poll_once().await.unwrap();
    }

    async fn try_poll_once(&mut self) -> Result<(), StoreError> {
        match self.consumer.poll(500, Duration::from_millis(20)).await? {
            ConsumerEvent::Assigned(partitions) => {
                let starts: Vec<_> = {
                    let archive = self.archive.lock().unwrap();
                    let start = |at: &u32| {
                        let (offset, after) = archive.get(at).copied().unwrap_or_default();
                        Start { partition: *at, offset, after }
                    };
                    partitions.iter().map(start).collect()
                };
                self.owned.extend(partitions);
                self.consumer.start(&starts).await?;
            }
            ConsumerEvent::Revoked(partitions) => self.owned.retain(|at| !partitions.contains(at)),
            ConsumerEvent::Records(records) => {
                let mut archive = self.archive.lock().unwrap();
                for record in records {
                    let (next, last) = archive.entry(record.partition).or_default();
                    // The archive fences: what another member has counted meanwhile is not counted again.
                    if *next == record.offset {
                        (*next, *last) = (record.offset + 1, Some(record.mark()));
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

    /// Follows until it is told that the log is another one; answers in which words.
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
