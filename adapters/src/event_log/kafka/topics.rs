//! Creates the topics if they are absent, and checks existing ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::super::CREATED_PARTITION_COUNT;
use super::config::{KafkaConfig, LibraryLogContext};
use super::{PART_NAME, QUERY_TIMEOUT, run_blocking, store_error};
use crate::StoreError;

/// The time limit for `open` to reach the brokers, and then for the new topics to get leaders.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two checks that a new topic has its leaders.
const LEADER_CHECK_PAUSE: Duration = Duration::from_millis(50);
/// Kafka's default for `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;
/// The number of copies of each partition, if there are as many brokers: one may be down for maintenance and another
/// fail.
pub(super) const WANTED_REPLICA_COUNT: usize = 3;

/// The settings with which a topic is created, beside its number of copies.
type TopicSettings = &'static [(&'static str, &'static str)];

/// The settings of the topics of the log and of its dead letters.
const LOG_SETTINGS: TopicSettings = &[
    // The log's own clock tells a repeat from a new event, whatever the clock of the client that wrote it.
    ("message.timestamp.type", "LogAppendTime"),
    // Nobody can count records that the one source of truth has dropped.
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
];
/// The settings of topics for other systems. Records are kept for a week: a system that reads the topic may be down for
/// so long, and data that were erased elsewhere are gone from the topic after that week. The brokers set the records'
/// times, because they refuse times by the producer's clock if that is an hour ahead
/// (`message.timestamp.after.max.ms`).
const EXPORT_SETTINGS: TopicSettings = &[
    ("cleanup.policy", "delete"),
    ("retention.ms", "604800000"),
    ("message.timestamp.type", "LogAppendTime"),
];

async fn connect_admin_client(
    config: &KafkaConfig,
) -> Result<Arc<AdminClient<LibraryLogContext>>, StoreError> {
    let settings = config.kafka_client_config();
    let admin = run_blocking(move || {
        settings
            .create_with_context::<_, AdminClient<LibraryLogContext>>(LibraryLogContext)
            .map_err(|error| store_error("creating the admin client", &error))
    });
    admin.await.map(Arc::new)
}

/// Drops the client on a thread that may block, because dropping a client waits for the client's own thread to end.
async fn drop_admin_client(admin: Arc<AdminClient<LibraryLogContext>>) -> Result<(), StoreError> {
    run_blocking(move || {
        drop(admin);
        Ok(())
    })
    .await
}

/// Creates a topic for other systems if it is absent, and refuses one that would lose records of a video.
pub(super) async fn prepare_export_topic(config: &KafkaConfig, topic: &str) -> Result<(), StoreError> {
    let admin = connect_admin_client(config).await?;
    let found = describe_topics(&admin, &[topic]).await?;
    if !found.absent_topics.is_empty() {
        create_topics(&admin, &found, EXPORT_SETTINGS).await?;
    }
    await_leaders(&admin, &[topic]).await?;
    let checked = check_export_topic(&admin, topic).await;
    drop_admin_client(admin).await?;
    checked
}

/// Returns an error if an existing topic for other systems would be refused. Creates nothing.
pub(super) async fn find_fault_of_export_topic(config: &KafkaConfig, topic: &str) -> Result<(), StoreError> {
    let admin = connect_admin_client(config).await?;
    let checked = check_export_topic(&admin, topic).await;
    drop_admin_client(admin).await?;
    checked
}

async fn check_export_topic(admin: &AdminClient<LibraryLogContext>, topic: &str) -> Result<(), StoreError> {
    let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
    let described = admin
        .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(|error| store_error("reading the topic's configuration", &error))?;
    // Reading the settings takes a permission of its own: without it the topic is accepted as it is.
    let Some(Ok(resource)) = described.into_iter().next() else { return Ok(()) };
    let policy = resource.get("cleanup.policy").and_then(|entry| entry.value.as_deref());
    if policy.is_some_and(|policy| policy.contains("compact")) {
        let what = format!(
            "the topic {topic} is compacted: of each video it would keep the last record alone; set its cleanup.policy to delete"
        );
        return Err(StoreError::unusable(PART_NAME, what));
    }
    Ok(())
}

/// Creates the log's and the dead letters' topic if they are absent. Returns the largest batch that the log's topic
/// accepts, in bytes.
pub(super) async fn prepare_topics(config: &KafkaConfig) -> Result<usize, StoreError> {
    let admin = connect_admin_client(config).await?;
    let (log, letters) = (config.topic.clone(), config.dead_letter_topic());
    let topics = [log.as_str(), letters.as_str()];
    let found = describe_topics(&admin, &topics).await?;
    if found.absent_topics.is_empty() {
        tracing::debug!(part = PART_NAME, topic = log, "the topics are there");
    } else {
        create_topics(&admin, &found, LOG_SETTINGS).await?;
    }
    await_leaders(&admin, &topics).await?;
    let limit = check_topic(&admin, &log).await;
    drop_admin_client(admin).await?;
    limit
}

/// The absent and leaderless topics, and the number of brokers, by the cluster's metadata.
struct FoundTopics {
    broker_count: usize,
    absent_topics: Vec<String>,
    /// The topics with a partition that has no leader.
    leaderless_topics: Vec<String>,
}

async fn describe_topics(
    admin: &Arc<AdminClient<LibraryLogContext>>,
    topics: &[&str],
) -> Result<FoundTopics, StoreError> {
    let names: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
    let admin = Arc::clone(admin);
    run_blocking(move || {
        let mut found =
            FoundTopics { broker_count: 0, absent_topics: Vec::new(), leaderless_topics: Vec::new() };
        for name in names {
            let metadata = admin
                .inner()
                .fetch_metadata(Some(&name), CONNECT_TIMEOUT)
                .map_err(|error| store_error("asking the brokers for metadata", &error))?;
            found.broker_count = metadata.brokers().len();
            let Some(topic) = metadata.topics().first() else {
                found.absent_topics.push(name);
                continue;
            };
            match topic.error().map(RDKafkaErrorCode::from) {
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => found.absent_topics.push(name),
                Some(RDKafkaErrorCode::LeaderNotAvailable) => found.leaderless_topics.push(name),
                Some(code) => {
                    return Err(store_error(
                        &format!("topic {name}"),
                        &rdkafka::error::KafkaError::MetadataFetch(code),
                    ));
                }
                None if topic.partitions().is_empty() => found.absent_topics.push(name),
                None if topic.partitions().iter().any(|partition| partition.leader() < 0) => {
                    found.leaderless_topics.push(name);
                }
                None => {}
            }
        }
        Ok(found)
    })
    .await
}

async fn create_topics(
    admin: &AdminClient<LibraryLogContext>,
    found: &FoundTopics,
    settings: TopicSettings,
) -> Result<(), StoreError> {
    let replicas = found.broker_count.clamp(1, WANTED_REPLICA_COUNT);
    let in_sync = if replicas == WANTED_REPLICA_COUNT { "2" } else { "1" };
    let topics: Vec<NewTopic<'_>> = found
        .absent_topics
        .iter()
        .map(|name| {
            let topic =
                NewTopic::new(name, CREATED_PARTITION_COUNT as i32, TopicReplication::Fixed(replicas as i32));
            let topic = topic.set("min.insync.replicas", in_sync);
            settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
        })
        .collect();
    let options =
        AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT)).operation_timeout(Some(QUERY_TIMEOUT));
    let created = admin
        .create_topics(&topics, &options)
        .await
        .map_err(|error| store_error("creating the topics", &error))?;
    for topic in created {
        match topic {
            Ok(name) => tracing::info!(part = PART_NAME, topic = name, replicas, "created the topic"),
            // Another process was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(store_error(
                    &format!("creating topic {name}"),
                    &rdkafka::error::KafkaError::AdminOp(code),
                ));
            }
        }
    }
    Ok(())
}

async fn await_leaders(
    admin: &Arc<AdminClient<LibraryLogContext>>,
    topics: &[&str],
) -> Result<(), StoreError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let found = describe_topics(admin, topics).await?;
        let waiting: Vec<String> = found.absent_topics.into_iter().chain(found.leaderless_topics).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(StoreError::unavailable(
                PART_NAME,
                format!("partitions without a leader in topic {}", waiting.join(", ")),
            ));
        }
        tokio::time::sleep(LEADER_CHECK_PAUSE).await;
    }
}

/// Logs a warning for each setting of a topic that differs from those with which liverank creates topics; returns the
/// largest batch that the topic accepts, in bytes.
async fn check_topic(admin: &AdminClient<LibraryLogContext>, topic: &str) -> Result<usize, StoreError> {
    let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
    let described = admin
        .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(|error| store_error("reading the topic's configuration", &error))?;
    let Some(Ok(resource)) = described.into_iter().next() else {
        // Reading the settings takes a permission of its own, which is not needed for anything else.
        tracing::warn!(
            part = PART_NAME,
            topic,
            "the topic's configuration may not be read: taking it for the default"
        );
        return Ok(DEFAULT_MAX_MESSAGE_BYTES);
    };
    let value = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
    if value("message.timestamp.type") != Some("LogAppendTime") {
        tracing::warn!(
            part = PART_NAME,
            topic,
            "the topic keeps its producers' times (message.timestamp.type is not LogAppendTime): their clocks decide \
             for how long a repeated event_id is recognised"
        );
    }
    let (policy, time, size) = (value("cleanup.policy"), value("retention.ms"), value("retention.bytes"));
    if policy != Some("delete") || time != Some("-1") || size != Some("-1") {
        tracing::warn!(
            part = PART_NAME,
            topic,
            policy,
            retention_ms = time,
            retention_bytes = size,
            "the topic drops records: a rebuild of MongoDB can go back no further than they reach, and one that is dropped \
             before it was counted stops the consumers"
        );
    }
    Ok(value("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(DEFAULT_MAX_MESSAGE_BYTES))
}
