//! A benchmark of one hot video: the rate at which its events are counted if they have its key (one partition, one
//! consumer), and if they have no key and are on two partitions of two consumers, which then write the video in turn.
//!
//! Run it by `cargo run --release -p liverank-e2e --example hot_video -- [events]`, in the environment that
//! `testbed/testbed env` prints. It starts two real consumer processes and stops them while the events are written, so
//! that only counting is timed. Figures go to standard output, the ratio last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use bson::doc;
use liverank_e2e::cluster::Stores;
use liverank_e2e::process::{Process, Signal};
use liverank_e2e::{free_port, wait};
use rskafka::chrono::DateTime;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, UnknownTopicHandling};
use rskafka::record::Record;

#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/mongo.rs"]
mod mongo;

/// The number of events in one produce request to Kafka.
const EVENTS_A_REQUEST: usize = 2000;
/// The time limit of one run: longer than any run needs.
const RUN_TIMEOUT: Duration = Duration::from_mins(3);
/// The number of runs with keys and of runs without; they alternate, so that other load of the machine affects both
/// alike.
const RUNS_OF_EACH_KIND: usize = 3;
/// The number of partitions of each consumer: half of the topic's twelve.
const PARTITIONS_A_CONSUMER: u64 = 6;

struct BenchSystem {
    stores: Stores,
    prefix: String,
    consumers: Vec<Process>,
    admins: Vec<String>,
    /// The partitions to which events are written: one of each consumer.
    partitions: Vec<i32>,
    counted: u64,
}

/// Returns the first of the partitions that a consumer, according to its log, owns now.
fn first_owned_partition(consumer: &Process) -> i32 {
    let log = consumer.log();
    let said = log.rsplit("partitions owned partitions=[").next().unwrap_or_default();
    let first = said.split([',', ']']).next().unwrap_or_default();
    first.parse().unwrap_or_else(|_| panic!("no partitions in the log: {log}"))
}

impl BenchSystem {
    async fn start(directory: &std::path::Path) -> Self {
        let stores = Stores::from_environment();
        let prefix = format!("hot{}-", std::process::id());
        let (mut consumers, mut admins) = (Vec::new(), Vec::new());
        for name in ["consumer-1", "consumer-2"] {
            let admin = format!("127.0.0.1:{}", free_port());
            let args = [
                "consumer",
                "--admin-listen",
                &admin,
                "--kafka",
                &stores.kafka,
                "--redis",
                &stores.redis,
                "--mongodb",
                &stores.mongodb,
                "--prefix",
                &prefix,
            ];
            consumers.push(Process::start(name, &args.map(str::to_owned), directory));
            admins.push(format!("http://{admin}/metrics"));
        }
        let mut system = Self { stores, prefix, consumers, admins, partitions: Vec::new(), counted: 0 };
        wait::until("six partitions each", RUN_TIMEOUT, || async {
            for nth in 0..2 {
                if system.metric_value(nth, "liverank_consumer_partitions").await? as u64
                    != PARTITIONS_A_CONSUMER
                {
                    return None;
                }
            }
            Some(())
        })
        .await;
        system.partitions = system.consumers.iter().map(first_owned_partition).collect();
        system
    }

    async fn metric_value(&self, nth: usize, name: &str) -> Option<f64> {
        let text = reqwest::get(&self.admins[nth]).await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?.to_owned();
        line.rsplit(' ').next()?.parse().ok()
    }

    fn signal_all(&self, signal: Signal) {
        for consumer in &self.consumers {
            consumer.signal(signal);
        }
    }

    async fn write_events(&self, video: &str, events: usize, partitions: &[i32]) -> anyhow::Result<()> {
        let client = ClientBuilder::new(vec![self.stores.kafka.clone()]).build().await?;
        let topic = format!("{}video_interactions", self.prefix);
        let key = (partitions.len() == 1).then(|| video.as_bytes().to_vec());
        let kinds = ["view", "like", "share", "watch_time"];
        let record = |at: usize| {
            Record {
            key: key.clone(),
            value: Some(
                format!(
                    r#"{{"video_id":"{video}","user_id":"user-{}","type":"{}","watch_time":2.5,"timestamp":1700000000}}"#,
                    at % 5000,
                    kinds[at % 4]
                )
                .into_bytes(),
            ),
            headers: BTreeMap::new(),
            timestamp: DateTime::UNIX_EPOCH,
        }
        };
        let share = events / partitions.len();
        for partition in partitions {
            let partition = client.partition_client(&topic, *partition, UnknownTopicHandling::Retry).await?;
            for from in (0..share).step_by(EVENTS_A_REQUEST) {
                let records = (from..share.min(from + EVENTS_A_REQUEST)).map(record).collect();
                partition.produce(records, Compression::NoCompression).await?;
            }
        }
        Ok(())
    }

    /// Writes `events` events while the consumers are stopped, and returns how many a second are then counted.
    async fn measure_run(&mut self, video: &str, events: usize, partitions: &[i32]) -> anyhow::Result<f64> {
        self.signal_all(Signal::STOP);
        let written = self.write_events(video, events, partitions).await;
        self.signal_all(Signal::CONT);
        let begun = Instant::now();
        written?;
        let target = self.counted + events as u64;
        let port: u16 = self
            .stores
            .mongodb
            .split(['/', ',', ':'])
            .find_map(|part| part.parse().ok())
            .context("a port")?;
        let set = mongo::ReplicaSet::new(vec![port]);
        let (_, mut member) = set.wait_for_primary(RUN_TIMEOUT).await?;
        let database = format!("{}video_db", self.prefix);
        loop {
            let all = (doc! {}, doc! { "next": 1 }, doc! {});
            let offsets = member.find(&database, "offsets", all.0, all.1, all.2).await?;
            let sum: i64 = offsets.iter().filter_map(|offset| offset.get_i64("next").ok()).sum();
            if sum as u64 >= target {
                break;
            }
            anyhow::ensure!(
                begun.elapsed() < RUN_TIMEOUT,
                "{sum} of {target} are counted after {RUN_TIMEOUT:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = begun.elapsed();
        self.counted = target;
        let filter = doc! { "video_id": video };
        let found = member.find(&database, "videos", filter, doc! {}, doc! {}).await?;
        let views = found.first().and_then(|video| video.get_i64("views").ok());
        anyhow::ensure!(views == Some((events / 4) as i64), "{views:?} views of {video}: not {}", events / 4);
        Ok(events as f64 / took.as_secs_f64())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let events: usize = std::env::args().nth(1).map_or(Ok(400_000), |text| text.parse())?;
    let events = events.next_multiple_of(8 * EVENTS_A_REQUEST);
    let directory = tempfile::tempdir()?;
    let mut system = BenchSystem::start(directory.path()).await;
    // Warms up caches, collections and connections.
    let partitions = system.partitions.clone();
    system.measure_run("warm-up", 8 * EVENTS_A_REQUEST, &partitions).await?;
    let (mut keyed, mut keyless) = (Vec::new(), Vec::new());
    for nth in 0..RUNS_OF_EACH_KIND {
        keyed.push(system.measure_run(&format!("keyed-{nth}"), events, &partitions[..1]).await?);
        keyless.push(system.measure_run(&format!("keyless-{nth}"), events, &partitions).await?);
        println!("{events} events: keyed {:.0}/s, without keys {:.0}/s", keyed[nth], keyless[nth]);
    }
    for nth in 0..2 {
        let counted = system.metric_value(nth, "liverank_consumer_events_counted_total").await.unwrap_or(0.0);
        println!("consumer-{} counted {counted}", nth + 1);
    }
    keyed.sort_by(f64::total_cmp);
    keyless.sort_by(f64::total_cmp);
    println!(
        "median without keys / median keyed: {:.2}",
        keyless[RUNS_OF_EACH_KIND / 2] / keyed[RUNS_OF_EACH_KIND / 2]
    );
    Ok(())
}
