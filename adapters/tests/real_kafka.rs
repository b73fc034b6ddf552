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
    AppendError, CREATED_PARTITIONS, ConsumerEvent, DeadLetter, LogConsumer, RawRecord, ReadRange, ReadStart,
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

#[path = "real_kafka/export.rs"]
mod export;
#[path = "support/proxy.rs"]
mod proxy;

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
    for partition in 0..CREATED_PARTITIONS as i32 {
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
    // Several processes at once, as happens when a system starts.
    join_all((0..4).map(|_| open_log(&config))).await;
    let dead_letters = config.dead_letter_topic();
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
    // Many small records at once: a batch beyond the topic's limit would be refused as a whole.
    let small = join_all((0..200).map(|at| log.append(b"k", vec![at; 2000]))).await;
    assert!(small.iter().all(Result::is_ok), "{small:?}");
    let large = log.append(b"k", vec![b'x'; 60_000]).await;
    assert!(matches!(large, Err(AppendError::TooLarge { bytes: 60_001 })), "{large:?}");
}

/// Returns the partition that Kafka's Java clients choose (murmur2), by the published definition.
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
        assert_eq!(place.partition, java_partition(key.as_bytes(), CREATED_PARTITIONS), "{key}");
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
    let mut read = read_all(&config.dead_letter_topic(), 2, |message| {
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

/// The next offset to read has vanished: its record expired, or was deleted with its topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_offset_is_named_in_the_error() {
    let config = fresh();
    let log = open_log(&config).await;
    let mut places = Vec::new();
    for at in 0..10 {
        places.push(log.append(b"k", vec![at]).await.unwrap());
    }
    let partition = places[0].partition;
    delete_before(&config, partition, 6).await;
    let mut consumer = log.join_consumers().await.unwrap();
    let begun = Instant::now();
    let mut told = 0;
    let mut answer = String::new();
    while told < 3 {
        assert!(begun.elapsed() < TEST_TIMEOUT, "offset 2 was skipped silently");
        match consumer.next_event(10, Duration::from_millis(50)).await {
            Ok(ConsumerEvent::Assigned(partitions)) => {
                let offsets: Vec<_> = partitions
                    .into_iter()
                    .map(|at| ReadStart::without_previous(at, if at == partition { 2 } else { 0 }))
                    .collect();
                consumer.start(&offsets).await.unwrap();
            }
            Ok(ConsumerEvent::Idle) => {}
            Ok(other) => panic!("read instead of refused: {other:?}"),
            Err(error) => {
                assert!(!error.is_transient(), "{error}");
                answer = error.to_string();
                told += 1;
            }
        }
    }
    let expected = format!("partition {partition}: offset 2 is to be read next, and the log holds 6 to 10");
    assert!(answer.contains(&expected), "{answer}");
    // Once somebody has decided where to go on, reading goes on.
    consumer.start(&[ReadStart::without_previous(partition, 6)]).await.unwrap();
    let records = match consumer.next_event(10, TEST_TIMEOUT).await {
        Ok(ConsumerEvent::Records(records)) => records,
        other => panic!("{other:?} instead of records"),
    };
    assert_eq!(records[0].offset, 6);
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
            consumer: log.join_consumers().await.unwrap(),
            archive,
            owned: BTreeSet::new(),
            records: Vec::new(),
        }
    }

    async fn poll_once(&mut self) {
        self.try_poll_once().await.unwrap();
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
                self.consumer.start(&starts).await?;
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

/// Deletes the records before an offset, as a retention does.
async fn delete_before(config: &KafkaConfig, partition: u32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&config.topic, partition as i32, Offset::Offset(before)).unwrap();
    admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
}

/// Returns a log of ten records with one key, and a member that has read all of them.
async fn log_of_ten_read(config: &KafkaConfig) -> (Arc<KafkaLog>, CountingMember) {
    let log = open_log(config).await;
    for at in 0..10_u8 {
        log.append(b"k", vec![at]).await.unwrap();
    }
    let mut member = CountingMember::join(&*log).await;
    member.read_until(10).await;
    (log, member)
}

/// Deletes the topic and creates it again with `records` other records.
async fn recreate_topic(config: &KafkaConfig, records: usize) -> Arc<KafkaLog> {
    let deleted = admin().delete_topics(&[&config.topic], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let begun = Instant::now();
    let log = loop {
        assert!(begun.elapsed() < TEST_TIMEOUT, "the topic is made anew");
        let log = Arc::new(KafkaLog::new(config.clone()).unwrap());
        if log.open().await.is_ok() && log.end_offsets().await.is_ok_and(|ends| ends.iter().sum::<u64>() == 0)
        {
            break log;
        }
    };
    for at in 0..records {
        let value = format!("new {at}").into_bytes();
        wait_until("the new topic takes records", async || log.append(b"k", value.clone()).await.is_ok())
            .await;
    }
    log
}

fn check_refusal_text(said: &str, config: &KafkaConfig) {
    let place = format!("topic {} partition ", config.topic);
    assert!(said.contains(&place) && said.contains("offset 10 is to be read next"), "{said}");
    assert!(said.contains("rebuild mongodb"), "it says what to do: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_recreated_between_two_runs_is_refused() {
    // The new topic is empty, shorter than what was read, one record short of it, as long, or longer.
    for records in [0, 3, 9, 10, 11, 50] {
        let config = fresh();
        let (log, member) = log_of_ten_read(&config).await;
        let archive = Arc::clone(&member.archive);
        drop((member, log));
        let log = recreate_topic(&config, records).await;
        let mut member = CountingMember::with_archive(&*log, archive).await;
        check_refusal_text(&member.read_until_refused().await, &config);
        assert!(member.records.is_empty(), "{records} new records: {:?}", member.records);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_recreated_under_its_reader_is_refused() {
    for records in [3, 10, 50] {
        let config = fresh();
        let (_log, mut member) = log_of_ten_read(&config).await;
        let following = tokio::spawn(async move {
            let said = member.read_until_refused().await;
            (said, member)
        });
        recreate_topic(&config, records).await;
        let (said, member) = following.await.unwrap();
        check_refusal_text(&said, &config);
        assert_eq!(
            member.records.len(),
            10,
            "nothing of the new topic, of {records} records, is read as if it were the old"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trimmed_topic_is_refused_only_where_records_are_missing() {
    let config = fresh();
    let (log, member) = log_of_ten_read(&config).await;
    let partition = member.records[0].partition;
    let archive = Arc::clone(&member.archive);
    drop(member);
    for at in 10..20 {
        log.append(b"k", vec![at]).await.unwrap();
    }
    // All records that were read have expired, and no others: there is nothing to compare, and nothing is missing.
    delete_before(&config, partition, 10).await;
    assert_eq!(log.first_offsets().await.unwrap()[partition as usize], 10);
    let mut member = CountingMember::with_archive(&*log, Arc::clone(&archive)).await;
    member.read_until(10).await;
    assert_eq!(member.records.iter().map(|at| at.value[0]).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
    drop(member);
    for at in 20..30 {
        log.append(b"k", vec![at]).await.unwrap();
    }
    delete_before(&config, partition, 25).await;
    let mut member = CountingMember::with_archive(&*log, archive).await;
    let said = member.read_until_refused().await;
    let expected = format!("partition {partition}: offset 20 is to be read next, and the log holds 25 to 30");
    assert!(said.contains(&expected) && member.records.is_empty(), "{said}");
    let stretch = ReadRange { partition, first: 20, end: 30, previous_record: None };
    let error = log.read_ranges(&[stretch]).await.err().expect("records of it are gone");
    assert!(error.to_string().contains(&expected), "{error}");
    let mut reader = log.read_ranges(&[ReadRange { first: 25, ..stretch }]).await.unwrap();
    assert_eq!(reader.next_records(100).await.unwrap()[0].value, vec![25]);
}

/// The check of the record before the first one needs no request of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_fingerprint_is_as_fast_as_one_without() {
    let config = fresh();
    let log = open_log(&config).await;
    let written = join_all((0..600).map(|at| {
        let log = Arc::clone(&log);
        async move { log.append(format!("k{at}").as_bytes(), b"v".to_vec()).await.unwrap() }
    }))
    .await;
    let mut member = CountingMember::join(&*log).await;
    member.read_until(written.len()).await;
    let standing = member.archive.lock().unwrap().clone();
    let mut took = [Duration::ZERO; 2];
    // Alternately, so that both kinds run under the same load.
    for round in 0..20 {
        let marked = round % 2;
        let starts: Vec<_> = standing
            .iter()
            .map(|(at, (next, last))| {
                let mark = member.records.iter().find(|it| it.partition == *at && it.offset + 2 == *next);
                let after = mark.map(RawRecord::fingerprint).filter(|_| marked == 1);
                assert!(last.is_some() && mark.is_some(), "each partition has two records");
                ReadStart { partition: *at, offset: next - 1, previous_record: after }
            })
            .collect();
        let begun = Instant::now();
        member.consumer.start(&starts).await.unwrap();
        let mut seen = 0;
        while seen < starts.len() {
            if let ConsumerEvent::Records(records) =
                member.consumer.next_event(500, TEST_TIMEOUT).await.unwrap()
            {
                seen += records.len();
            }
        }
        took[marked] += begun.elapsed();
    }
    println!(
        "12 partitions taken up until their first record: unmarked {:?}, marked {:?}",
        took[0] / 10,
        took[1] / 10
    );
    assert!(took[1] < took[0] * 2 + Duration::from_millis(500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_under_load_and_nothing_is_lost() {
    let config = fresh();
    let log = open_log(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        async move {
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch =
                    (0..50).map(|at| {
                        let value = format!("{}", written.len() + at);
                        let log = &log;
                        async move {
                            (log.append(value.as_bytes(), value.clone().into_bytes()).await.unwrap(), value)
                        }
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
        while first.owned.len() != CREATED_PARTITIONS as usize {
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

/// Brokers give their address in their answers: the proxy's address takes its place there.
fn rewrite_port(frame: &mut [u8], ports: Ports) {
    let host = b"127.0.0.1";
    let store = u32::from(ports.store).to_be_bytes();
    let length = host.len() + store.len();
    for at in 0..frame.len().saturating_sub(length - 1) {
        if frame[at..].starts_with(host) && frame[at + host.len()..].starts_with(&store) {
            frame[at + host.len()..at + length].copy_from_slice(&u32::from(ports.proxy).to_be_bytes());
        }
    }
}

async fn through_a_proxy() -> (Proxy, FreshTopic) {
    let port = broker_addresses().rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = Proxy::before(port, Some(rewrite_port)).await;
    let mut config = fresh();
    config.0.brokers = format!("127.0.0.1:{}", proxy.ports.proxy);
    (proxy, config)
}

async fn wait_until(what: &str, mut come_true: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !come_true().await {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

async fn check_outage(mode: Mode) {
    let (proxy, config) = through_a_proxy().await;
    let log = open_log(&config).await;
    log.append(b"k", b"before".to_vec()).await.unwrap();

    proxy.set(mode);
    // Appends go on as in production: the first ones may wait, and then they fail at once.
    let opened = wait_until("the breaker opens", async || {
        let slow = tokio::time::timeout(Duration::from_millis(50), log.append(b"k", b"lost?".to_vec())).await;
        assert!(!matches!(slow, Ok(Ok(_))), "acknowledged without a broker");
        log.write_health().is_err()
    })
    .await;
    assert!(opened < Duration::from_secs(8), "{mode:?}: open after {opened:?}");
    for _ in 0..1000 {
        let begun = Instant::now();
        let refused = log.append(b"k", b"refused".to_vec()).await;
        assert!(
            matches!(&refused, Err(AppendError::Unavailable(error)) if error.is_transient()),
            "{refused:?}"
        );
        assert!(begun.elapsed() < Duration::from_millis(100), "refused after {:?}", begun.elapsed());
    }

    proxy.set(Mode::Open);
    let recovered = wait_until("the breaker closes by itself", async || log.write_health().is_ok()).await;
    assert!(recovered < Duration::from_secs(15), "{mode:?}: back after {recovered:?}");
    let place = log.append(b"k", b"after".to_vec()).await.unwrap();
    let mut member = CountingMember::join(&*log).await;
    member.read_until(place.offset as usize + 1).await;
    let values: Vec<_> = member.records.iter().map(|record| &record.value[..]).collect();
    assert_eq!((values[0], values[values.len() - 1]), (&b"before"[..], &b"after"[..]));
    assert!(!values.contains(&&b"refused"[..]), "what was refused at once was never sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_broker_is_refused_at_once_and_comes_back() {
    check_outage(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_refused_at_once_and_comes_back() {
    check_outage(Mode::Stalled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_survives_its_broker() {
    let (proxy, config) = through_a_proxy().await;
    let log = open_log(&config).await;
    let mut member = CountingMember::join(&*log).await;
    log.append(b"k", b"before".to_vec()).await.unwrap();
    member.read_until(1).await;
    proxy.set(Mode::Cut);
    let told = wait_until("polls tell that the broker is away", async || {
        match member.consumer.next_event(10, Duration::from_millis(50)).await {
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                true
            }
            Ok(_) => false,
        }
    })
    .await;
    assert!(told < Duration::from_secs(10), "{told:?}");
    proxy.set(Mode::Open);
    wait_until("the log is back", async || log.append(b"k", b"after".to_vec()).await.is_ok()).await;
    wait_until("reading goes on", async || {
        match member.consumer.next_event(10, Duration::from_millis(50)).await {
            Ok(ConsumerEvent::Records(records)) => records[0].value == "after",
            Ok(ConsumerEvent::Assigned(partitions)) => {
                let offsets: Vec<_> =
                    partitions.into_iter().map(|at| ReadStart::without_previous(at, 1)).collect();
                member.consumer.start(&offsets).await.unwrap();
                false
            }
            _ => false,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_without_a_broker_is_an_error() {
    let config = KafkaConfig::new("127.0.0.1:1");
    let begun = Instant::now();
    let error = KafkaLog::new(config).unwrap().open().await.unwrap_err();
    assert!(error.is_transient() && error.part() == "kafka", "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_session_gives_the_partitions_of_a_silent_member_away_sooner() {
    let mut topic = fresh();
    topic.0.session_timeout = Duration::from_secs(2);
    let (proxy, mut behind) = through_a_proxy().await;
    behind.0.clone_from(&KafkaConfig { brokers: behind.brokers.clone(), ..topic.0.clone() });
    let (log, silent_log) = (open_log(&topic).await, open_log(&behind).await);
    let mut silent = CountingMember::join(&*silent_log).await;
    let partitions = CREATED_PARTITIONS as usize;
    wait_until("the only member has all partitions", async || {
        silent.poll_once().await;
        silent.owned.len() == partitions
    })
    .await;
    proxy.set(Mode::Stalled);
    let mut other = CountingMember::join(&*log).await;
    let taken_over = wait_until("the other member has all partitions", async || {
        other.poll_once().await;
        other.owned.len() == partitions
    })
    .await;
    // With the default of six seconds this would fail: a silent member would keep its partitions for that long.
    assert!(taken_over < Duration::from_secs(5), "{taken_over:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_timeout_that_brokers_refuse_is_named() {
    let mut config = fresh();
    config.0.session_timeout = Duration::from_secs(1);
    let log = open_log(&config).await;
    let said = CountingMember::join(&*log).await.read_until_refused().await;
    assert!(
        said.contains("refuse the session timeout") && said.contains("group.min.session.timeout.ms"),
        "{said}"
    );
}
