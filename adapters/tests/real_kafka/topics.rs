//! Tests of the topics on a real Kafka: their settings, the partitions of keys, and what else is in them.

use super::*;

/// Reads a whole topic without a group.
fn read_all<T>(topic: &str, count: usize, each: impl Fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker_addresses())
        .set("group.id", topic)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..CREATED_PARTITION_COUNT as i32 {
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
    let config = fresh_topic();
    // Several processes at once, as happens when a system starts.
    join_all((0..4).map(|_| open_log(&config))).await;
    let dead_letters = config.dead_letter_topic();
    for topic in [&config.topic, &dead_letters] {
        let topic = describe_topic(topic).await;
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
    let config = fresh_topic();
    let topic = NewTopic::new(&config.topic, 3, TopicReplication::Fixed(1)).set("max.message.bytes", "50000");
    create_topic(&topic).await;
    let log = open_log(&config).await;
    assert_eq!(retry(TEST_TIMEOUT, async || log.end_offsets().await).await.unwrap(), [0, 0, 0]);
    // Many small records at once: a batch beyond the topic's limit would be refused as a whole.
    retry(TEST_TIMEOUT, async || log.check_writable()).await.unwrap();
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
    let config = fresh_topic();
    let log = open_log(&config).await;
    for key in ["a", "ab", "abc", "abcd", "video-12345", "日本", "ü", "a much longer key than the others are"]
    {
        let place = append(&log, key.as_bytes(), b"x".to_vec()).await;
        assert_eq!(place.partition, java_partition(key.as_bytes(), CREATED_PARTITION_COUNT), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_name_their_origin() {
    let config = fresh_topic();
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
    retry(TEST_TIMEOUT, async || log.check_writable()).await.unwrap();
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
    let config = fresh_topic();
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
