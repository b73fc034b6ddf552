//! Removal of records by the topic's retention, and of dead letters one by one.
//!
//! Kafka removes no record from the middle of a topic, only all records of a partition before an offset. So of the
//! letters before the last one to be removed, those that are to stay are written again at the end, unchanged; then all
//! letters up to that one are removed. A process that is killed between the two leaves letters twice, which have the
//! same origin and count as one.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::{DeadLetterFilter, EventLog, RecordRetention};
use super::config::{KafkaConfig, LibraryLogContext};
use super::{KafkaLog, PART_NAME, QUERY_TIMEOUT, run_blocking, store_error};
use crate::StoreError;

/// The number of letters that are read, and written again, in one step.
const DEAD_LETTERS_PER_STEP: usize = 100;

/// Removes dead letters; see [`EventLog::remove_dead_letters`].
pub(super) async fn remove_dead_letters(
    log: &KafkaLog,
    is_meant: DeadLetterFilter<'_>,
) -> Result<u64, StoreError> {
    // The offset after the last letter that is to be removed, by partition.
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    let mut removed = 0;
    let mut letters = log.read_dead_letters(None).await?;
    loop {
        let page = letters.next_dead_letters(DEAD_LETTERS_PER_STEP).await?;
        if page.is_empty() {
            break;
        }
        for letter in page {
            if is_meant(&letter) {
                removed += 1;
                ends.insert(letter.letter_position.partition, letter.letter_position.offset + 1);
            }
        }
    }
    if removed == 0 {
        return Ok(0);
    }
    let mut letters = log.read_dead_letters(None).await?;
    loop {
        let mut page = letters.next_dead_letters(DEAD_LETTERS_PER_STEP).await?;
        if page.is_empty() {
            break;
        }
        page.retain(|letter| {
            let end = ends.get(&letter.letter_position.partition).copied().unwrap_or(0);
            letter.letter_position.offset < end && !is_meant(letter)
        });
        try_join_all(page.into_iter().map(|letter| log.producer.append_dead_letter_again(letter))).await?;
    }
    delete_dead_letters_before(log, &ends).await?;
    Ok(removed)
}

async fn connect_admin_client(config: &KafkaConfig) -> Result<AdminClient<LibraryLogContext>, StoreError> {
    let settings = config.kafka_client_config();
    run_blocking(move || {
        settings
            .create_with_context::<_, AdminClient<LibraryLogContext>>(LibraryLogContext)
            .map_err(|error| store_error("creating the admin client", &error))
    })
    .await
}

/// Drops the client on a thread that may block, because dropping a client waits for the client's own thread to end.
async fn drop_admin_client(admin: AdminClient<LibraryLogContext>) -> Result<(), StoreError> {
    run_blocking(move || {
        drop(admin);
        Ok(())
    })
    .await
}

async fn delete_dead_letters_before(log: &KafkaLog, ends: &BTreeMap<u32, u64>) -> Result<(), StoreError> {
    let topic = log.config.dead_letter_topic();
    let mut list = TopicPartitionList::new();
    for (partition, end) in ends {
        let offset = Offset::Offset(*end as i64);
        let added = list.add_partition_offset(&topic, *partition as i32, offset);
        added.map_err(|error| store_error("removing dead letters", &error))?;
    }
    let admin = connect_admin_client(&log.config).await?;
    let options =
        AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT)).operation_timeout(Some(QUERY_TIMEOUT));
    let deleted = admin.delete_records(&list, &options).await;
    let deleted = deleted.map_err(|error| store_error("removing dead letters", &error));
    drop_admin_client(admin).await?;
    for element in deleted?.elements() {
        if let Err(error) = element.error() {
            let reason = format!(
                "removing dead letters of topic {topic}, partition {}: {error} (it takes the permission Delete on the topic)",
                element.partition()
            );
            return Err(StoreError::unusable(PART_NAME, reason));
        }
    }
    Ok(())
}

/// Reads the retention of the log's topic; see [`EventLog::record_retention`].
pub(super) async fn read_retention(config: &KafkaConfig) -> Result<RecordRetention, StoreError> {
    let admin = connect_admin_client(config).await?;
    let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(&config.topic)], &options).await;
    let described = described.map_err(|error| store_error("reading the topic's configuration", &error));
    drop_admin_client(admin).await?;
    let Some(Ok(resource)) = described?.into_iter().next() else { return Ok(RecordRetention::Unknown) };
    let number = |name: &str| resource.get(name)?.value.as_deref()?.parse::<i64>().ok();
    Ok(retention_from_settings(number("retention.ms"), number("retention.bytes"), number("segment.ms")))
}

/// Returns the retention that results from a topic's settings. Kafka removes whole segments of a partition, once their
/// last record is old enough, and a segment accepts records for at most `segment` milliseconds. A record may therefore
/// stay for `segment` milliseconds longer than the retention.
fn retention_from_settings(time: Option<i64>, bytes: Option<i64>, segment: Option<i64>) -> RecordRetention {
    match (time, bytes) {
        (Some(time @ 0..), _) => {
            let most = time.saturating_add(segment.unwrap_or(0).max(0));
            RecordRetention::For(Duration::from_millis(most as u64))
        }
        (Some(_), Some(0..)) => RecordRetention::UntilFull,
        (Some(_), Some(_)) => RecordRetention::Forever,
        (None, _) | (_, None) => RecordRetention::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_for_the_retention_and_its_segment_s_time() {
        let hour = Duration::from_hours(1);
        assert_eq!(
            retention_from_settings(Some(3_600_000), Some(-1), Some(3_600_000)),
            RecordRetention::For(2 * hour)
        );
        assert_eq!(retention_from_settings(Some(3_600_000), None, None), RecordRetention::For(hour));
        assert_eq!(retention_from_settings(Some(-1), Some(1 << 30), Some(1)), RecordRetention::UntilFull);
        assert_eq!(retention_from_settings(Some(-1), Some(-1), Some(1)), RecordRetention::Forever);
        assert_eq!(retention_from_settings(None, Some(-1), Some(1)), RecordRetention::Unknown);
    }
}
