//! The parts of `bench/counting` that talk to Kafka, MongoDB and Redis. Each command prints one line of JSON.
//!
//! | command | does |
//! |---|---|
//! | `produce TOPIC EVENTS VIDEOS ids\|plain` | makes a topic as the system does and fills it: keyed events, videos by Zipf 1.0 |
//! | `post TOPIC SECONDS IN_FLIGHT` | sends events so many at a time with one rdkafka producer, set as ours is, each after the one before is acknowledged; prints the rate |
//! | `bare TOPIC` | reads all of it with one rdkafka consumer and parses each value |
//! | `archive DATABASE TOTAL` | waits until an archive has counted so many records, and prints the rate |
//! | `boards DATABASE TOTAL PREFIX BOARDS` | the same, and waits until the declared boards (as `--boards`) show all of it, too |
//! | `standing DATABASE` | prints how many records an archive has counted |
//! | `group GROUP TOPIC TOTAL` | waits until a consumer group has committed so many offsets, and prints the rate |
//! | `latency TOPIC VIDEOS RATE SECONDS PREFIX` | sends at a rate; measures the time from when each probe was due until the board shows it |
//!
//! A rate is measured between the first progress that is seen and the end, so that the time of starting does not
//! count.
#![allow(clippy::print_stdout, reason = "a program of a bench: its output is its result")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use liverank_adapters::archive::mongodb::{MongoArchive, MongoConfig};
use liverank_adapters::event_log::CREATED_PARTITION_COUNT;
use liverank_adapters::event_log::kafka::{KafkaConfig, KafkaLog};
use liverank_adapters::ranking_store::redis::RedisRanking;
use liverank_adapters::ranking_store::{BoardChange, RankingStore};
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use liverank_adapters::{Archive, EventLog};
use liverank_core::Interaction;
use liverank_core::boards::DeclaredBoards;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

type BenchResult<T> = Result<T, Box<dyn Error>>;

const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

fn main() -> BenchResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = match arguments.as_slice() {
        ["produce", topic, events, videos, ids] => {
            runtime.block_on(create_topic(topic))?;
            measure_produce(topic, events.parse()?, videos.parse()?, *ids == "ids")
        }
        ["post", topic, seconds, in_flight] => {
            runtime.block_on(measure_posts(topic, Duration::from_secs(seconds.parse()?), in_flight.parse()?))
        }
        ["bare", topic] => measure_bare_consumer(topic),
        ["archive", database, total] => runtime.block_on(measure_archive(database, total.parse()?)),
        ["boards", database, total, prefix, boards] => {
            runtime.block_on(measure_boards(database, total.parse()?, prefix, boards))
        }
        ["standing", database] => runtime.block_on(counted_record_count_json(database)),
        ["group", group, topic, total] => measure_offset_commits(group, topic, total.parse()?),
        ["latency", topic, videos, rate, seconds, prefix] => {
            runtime.block_on(measure_latency(topic, videos.parse()?, rate.parse()?, seconds.parse()?, prefix))
        }
        _ => Err("see the head of this file for the commands".into()),
    }?;
    println!("{result}");
    Ok(())
}

fn kafka_address() -> BenchResult<String> {
    std::env::var("LIVERANK_TEST_KAFKA")
        .map_err(|_| "LIVERANK_TEST_KAFKA is not set: start the real parts, testbed/testbed up".into())
}

fn kafka_client_config() -> BenchResult<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka_address()?);
    Ok(config)
}

async fn create_topic(topic: &str) -> BenchResult<()> {
    let mut config = KafkaConfig::new(kafka_address()?);
    config.topic = topic.to_owned();
    Ok(KafkaLog::new(config)?.open().await?)
}

/// A generator of the benchmark's events.
struct EventGenerator {
    random: StdRng,
    /// The cumulative weights of the videos: a random number below the last one chooses the first video with a greater
    /// sum.
    cumulative_shares: Vec<f64>,
    has_event_ids: bool,
    generated_count: u64,
    run_id: u128,
}

impl EventGenerator {
    fn new(videos: usize, has_event_ids: bool) -> BenchResult<Self> {
        let shares = (1..=videos).scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        });
        let run_id = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        Ok(Self {
            random: StdRng::seed_from_u64(7),
            cumulative_shares: shares.collect(),
            has_event_ids,
            generated_count: 0,
            run_id,
        })
    }

    fn next_event(&mut self) -> (String, String) {
        let at = self.random.random_range(0.0..self.cumulative_shares.last().copied().unwrap_or(1.0));
        let video = format!("video-{:06}", self.cumulative_shares.partition_point(|sum| *sum <= at));
        let user = self.random.random_range(0..50_000);
        let kind = ["view", "view", "view", "like", "share", "watch_time", "watch_time"]
            [self.random.random_range(0..7)];
        let mut event = json!({"video_id": video, "user_id": format!("user-{user:05}"), "type": kind,
            "timestamp": 1_700_000_000 + self.generated_count / 1000});
        if kind == "watch_time" {
            event["watch_time"] = json!(f64::from(self.random.random_range(0..60_000)) / 1000.0);
        }
        if self.has_event_ids {
            event["event_id"] = json!(format!("{:x}-{:08x}", self.run_id, self.generated_count));
        }
        self.generated_count += 1;
        (video, event.to_string())
    }
}

fn send_record(producer: &BaseProducer, topic: &str, key: &str, value: &str) -> BenchResult<()> {
    let mut record = BaseRecord::to(topic).key(key).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(POLL_INTERVAL);
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

fn measure_produce(topic: &str, events: u64, videos: usize, has_event_ids: bool) -> BenchResult<Value> {
    let producer: BaseProducer =
        kafka_client_config()?.set("linger.ms", "20").set("partitioner", "murmur2_random").create()?;
    let mut source = EventGenerator::new(videos, has_event_ids)?;
    for _ in 0..events {
        let (key, value) = source.next_event();
        send_record(&producer, topic, &key, &value)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(KAFKA_TIMEOUT)?;
    Ok(json!({"produced": events}))
}

/// Measures the rate at which `in_flight` connections can send events, as those of a gateway do: each connection sends
/// its next event when the one before is acknowledged.
async fn measure_posts(topic: &str, time: Duration, in_flight: usize) -> BenchResult<Value> {
    create_topic(topic).await?;
    let producer: FutureProducer = kafka_client_config()?
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .create()?;
    let source = Arc::new(Mutex::new(EventGenerator::new(1000, false)?));
    let begun = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..in_flight {
        let (producer, source, topic) = (producer.clone(), Arc::clone(&source), topic.to_owned());
        connections.spawn(async move {
            let mut sent = 0_u64;
            while begun.elapsed() < time {
                let (key, value) = source.lock().unwrap_or_else(PoisonError::into_inner).next_event();
                let record = FutureRecord::to(&topic).key(&key).payload(&value);
                producer.send(record, KAFKA_TIMEOUT).await.map_err(|(error, _)| error)?;
                sent += 1;
            }
            Ok::<_, KafkaError>(sent)
        });
    }
    let mut sent = 0;
    while let Some(connection) = connections.join_next().await {
        sent += connection??;
    }
    Ok(json!({"sent": sent, "rate": sent as f64 / begun.elapsed().as_secs_f64()}))
}

/// Returns the first offset of each partition, and the number of records in all.
fn first_offsets_and_total(consumer: &BaseConsumer, topic: &str) -> BenchResult<(TopicPartitionList, u64)> {
    let metadata = consumer.fetch_metadata(Some(topic), KAFKA_TIMEOUT)?;
    let partitions = metadata.topics().first().ok_or("no such topic")?.partitions();
    let (mut list, mut total) = (TopicPartitionList::new(), 0);
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), KAFKA_TIMEOUT)?;
        list.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
        total += (high - low) as u64;
    }
    Ok((list, total))
}

fn measure_bare_consumer(topic: &str) -> BenchResult<Value> {
    let consumer: BaseConsumer = kafka_client_config()?
        .set("group.id", "bench-bare")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("queued.min.messages", "200000")
        .set("fetch.max.bytes", "16777216")
        .create()?;
    let (list, total) = first_offsets_and_total(&consumer, topic)?;
    consumer.assign(&list)?;
    let (mut begun, mut read, mut readable) = (None, 0_u64, 0_u64);
    while read < total {
        let message = consumer.poll(KAFKA_TIMEOUT).ok_or("the log says nothing any more")??;
        begun.get_or_insert_with(Instant::now);
        let event = Interaction::from_log(message.payload().unwrap_or_default(), 0);
        read += 1;
        readable += u64::from(event.is_ok());
    }
    let seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    Ok(json!({"events": read, "readable": readable, "seconds": seconds, "rate": read as f64 / seconds}))
}

/// The observations of a count that grows, with their times.
#[derive(Default)]
struct GrowthMeter {
    observations: Vec<(Instant, u64)>,
}

impl GrowthMeter {
    fn note_count(&mut self, count: u64) {
        if self.observations.last().is_none_or(|(_, before)| *before < count) {
            self.observations.push((Instant::now(), count));
        }
    }

    /// Returns, as JSON, the growth from the first observed progress to the last one, its duration in seconds, and its
    /// rate per second.
    fn growth_rate(&self) -> BenchResult<Value> {
        let first = self.observations.iter().find(|(_, count)| *count > 0).ok_or("nothing was counted")?;
        let last = self.observations.last().ok_or("nothing was counted")?;
        let seconds = (last.0 - first.0).as_secs_f64();
        let events = last.1 - first.1;
        Ok(
            json!({"events": events, "seconds": seconds, "rate": events as f64 / seconds, "steps": self.observations.len()}),
        )
    }
}

fn open_boards(prefix: &str) -> BenchResult<RedisRanking> {
    let url = std::env::var("LIVERANK_TEST_REDIS")?;
    let redis = RedisConfig { url: url.into(), is_cluster: false, prefix: prefix.to_owned(), ca_file: None };
    Ok(RedisRanking::new(RedisLink::new(redis)?))
}

async fn open_archive(database: &str) -> BenchResult<MongoArchive> {
    let mut config = MongoConfig::new(std::env::var("LIVERANK_TEST_MONGODB")?);
    config.database = database.to_owned();
    Ok(MongoArchive::new(config).await?)
}

async fn counted_record_count(archive: &MongoArchive) -> BenchResult<u64> {
    let partitions: Vec<u32> = (0..CREATED_PARTITION_COUNT).collect();
    Ok(archive.partition_positions(&partitions).await?.iter().map(|position| position.next_offset).sum())
}

async fn counted_record_count_json(database: &str) -> BenchResult<Value> {
    Ok(json!({"count": counted_record_count(&open_archive(database).await?).await?}))
}

async fn measure_archive(database: &str, total: u64) -> BenchResult<Value> {
    let archive = open_archive(database).await?;
    let mut growth = GrowthMeter::default();
    let mut count = 0;
    while count < total {
        count = counted_record_count(&archive).await?;
        growth.note_count(count);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    growth.growth_rate()
}

/// Returns the number of records that the boards show, of the store that shows the fewest.
async fn shown_record_count(stores: &[Arc<dyn RankingStore>]) -> BenchResult<u64> {
    let mut fewest = u64::MAX;
    for store in stores {
        let standing = store.checkpoint().await?;
        fewest = fewest.min(standing.offsets.iter().map(|(_, next)| next).sum());
    }
    Ok(fewest)
}

async fn measure_boards(database: &str, total: u64, prefix: &str, declared: &str) -> BenchResult<Value> {
    let archive = open_archive(database).await?;
    let ranking: Arc<dyn RankingStore> = Arc::new(open_boards(prefix)?);
    let declared = DeclaredBoards::from_json(&serde_json::from_str(declared)?)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let declared = declared.store_keys(now).into_iter().map(|key| ranking.declared_board(&key));
    let stores: Vec<_> = std::iter::once(Arc::clone(&ranking)).chain(declared).collect();
    let (mut counted, mut shown) = (GrowthMeter::default(), GrowthMeter::default());
    let (mut count, mut on_boards) = (0, 0);
    while count < total || on_boards < total {
        if count < total {
            count = counted_record_count(&archive).await?;
            counted.note_count(count);
        }
        on_boards = shown_record_count(&stores).await?;
        shown.note_count(on_boards);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let mut result = counted.growth_rate()?;
    // Measured from the first count on: boards that show everything at once at the end have no growth of their own.
    let ended = |meter: &GrowthMeter| meter.observations.last().map(|(at, _)| *at);
    let begun = counted.observations.iter().find(|(_, count)| *count > 0).map(|(at, _)| *at);
    if let (Some(begun), Some(counted), Some(shown)) = (begun, ended(&counted), ended(&shown)) {
        result["boards_seconds"] = json!((shown.max(counted) - begun).as_secs_f64());
        result["boards_behind_seconds"] = json!(shown.saturating_duration_since(counted).as_secs_f64());
    }
    Ok(result)
}

fn measure_offset_commits(group: &str, topic: &str, total: u64) -> BenchResult<Value> {
    let consumer: BaseConsumer = kafka_client_config()?.set("group.id", group).create()?;
    let (list, _) = first_offsets_and_total(&consumer, topic)?;
    let mut growth = GrowthMeter::default();
    let mut count = 0;
    while count < total {
        // Transactions leave marks in a log of results, but not in this one: its offsets are its events.
        let offsets = consumer.committed_offsets(list.clone(), KAFKA_TIMEOUT)?;
        let next = |offset| if let Offset::Offset(next) = offset { next as u64 } else { 0 };
        count = offsets.elements().iter().map(|partition| next(partition.offset())).sum();
        growth.note_count(count);
        std::thread::sleep(POLL_INTERVAL);
    }
    growth.growth_rate()
}

async fn measure_latency(
    topic: &str,
    videos: usize,
    rate: u64,
    seconds: u64,
    prefix: &str,
) -> BenchResult<Value> {
    let boards = open_boards(prefix)?;
    let mut changes = boards.subscribe_changes().await?;
    let topic = topic.to_owned();
    let begun = Instant::now() + Duration::from_millis(500);
    let sending = tokio::task::spawn_blocking(move || {
        send_at_rate(&topic, videos, rate, seconds, begun).map_err(|error| error.to_string())
    });
    let due = |nth: u64| begun + Duration::from_nanos(nth * 1_000_000_000 / rate);
    let probes = rate * seconds / probe_interval(rate);
    let mut waits: HashMap<u64, Duration> = HashMap::new();
    let deadline = begun + Duration::from_secs(seconds) + KAFKA_TIMEOUT;
    while (waits.len() as u64) < probes && Instant::now() < deadline {
        let Ok(Some(change)) = tokio::time::timeout(KAFKA_TIMEOUT, changes.recv()).await else { break };
        let now = Instant::now();
        let BoardChange::Changed { entries, .. } = change else { continue };
        for entry in entries {
            let Some(nth) = entry.video_id.as_str().strip_prefix("probe-") else { continue };
            let nth: u64 = nth.parse()?;
            waits.entry(nth).or_insert(now.saturating_duration_since(due(nth)));
        }
    }
    sending.await??;
    // The first second is left out: caches are empty then.
    let mut sorted: Vec<f64> =
        waits.iter().filter(|(nth, _)| **nth >= rate).map(|(_, wait)| wait.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied();
    Ok(
        json!({"rate": rate, "probes": probes, "seen": waits.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}),
    )
}

/// Returns the number `n` for which every `n`-th event is a probe: there are a hundred probes a second, or every event
/// is one.
const fn probe_interval(rate: u64) -> u64 {
    if rate < 100 { 1 } else { rate / 100 }
}

fn send_at_rate(topic: &str, videos: usize, rate: u64, seconds: u64, begun: Instant) -> BenchResult<()> {
    let producer: BaseProducer =
        kafka_client_config()?.set("linger.ms", "1").set("partitioner", "murmur2_random").create()?;
    let mut source = EventGenerator::new(videos, false)?;
    let mut nth = 0;
    while nth < rate * seconds {
        // The first event is due at the beginning, not an interval later.
        let due = (begun.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64 + 1;
        let due = if Instant::now() < begun { 0 } else { due.min(rate * seconds) };
        while nth < due {
            let (mut key, mut value) = source.next_event();
            if nth.is_multiple_of(probe_interval(rate)) {
                key = format!("probe-{nth}");
                value = json!({"video_id": key, "user_id": "prober", "type": "view"}).to_string();
            }
            send_record(&producer, topic, &key, &value)?;
            nth += 1;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(KAFKA_TIMEOUT)?;
    Ok(())
}
