//! Inspects a topic for other systems. No record is written to it: whether the topic accepts records is known only
//! when an exporter writes some.

use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;

use super::config::KafkaConfig;
use super::export::{committed_offsets, position_reader, transactional_producer};
use super::topics::{WANTED_REPLICA_COUNT, find_fault_of_export_topic};
use super::transaction_errors::export_error;
use super::{KafkaLog, QUERY_TIMEOUT, run_blocking, store_error};
use crate::StoreError;
use crate::export_topics::ExportError;
use crate::inspect::{Inspection, SettingRemark};

/// The source whose transactional id is used for the test. No exporter uses this source, so that none is fenced.
const TEST_SOURCE: &str = "doctor";

/// The state of an export topic as found.
#[derive(Debug, Default)]
struct ExportTopicState {
    broker_count: usize,
    /// The number of copies (replicas) of each partition; empty if the topic is absent.
    replica_counts: Vec<usize>,
    /// The reason why a transaction may not be begun, for a topic that exists.
    refusal: Option<String>,
    /// The reason why an exporter would refuse the topic.
    fault: Option<String>,
    /// The number of the log's records that are not exported yet, if the source has a position; `None` if nobody has
    /// begun.
    unexported_record_count: Option<u64>,
}

impl KafkaLog {
    /// Inspects an export topic: its existence and settings, the permission to begin transactions, and, if it has
    /// positions, the offsets up to which the log is exported. Creates nothing.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse this user.
    pub async fn inspect_export_topic(
        &self,
        topic: &str,
        has_positions: bool,
    ) -> Result<Inspection, StoreError> {
        let (config, name) = (self.config.clone(), topic.to_owned());
        let mut state = run_blocking(move || find_state(&config, &name, has_positions)).await?;
        if !state.replica_counts.is_empty() {
            let fault = find_fault_of_export_topic(&self.config, topic).await;
            state.fault = fault.err().map(|error| error.to_string());
        }
        Ok(export_inspection(topic, &self.config.export_group(), &state, has_positions))
    }
}

fn find_state(
    config: &KafkaConfig,
    topic: &str,
    has_positions: bool,
) -> Result<ExportTopicState, StoreError> {
    let reader = position_reader(config, &config.export_group())?;
    let metadata = reader
        .fetch_metadata(Some(topic), QUERY_TIMEOUT)
        .map_err(|error| store_error("asking for the topic", &error))?;
    let mut state =
        ExportTopicState { broker_count: metadata.brokers().len(), ..ExportTopicState::default() };
    let Some(found) = metadata.topics().first() else { return Ok(state) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(state),
        Some(code) => {
            return Err(store_error(
                &format!("topic {topic}"),
                &rdkafka::error::KafkaError::MetadataFetch(code),
            ));
        }
    }
    state.replica_counts = found.partitions().iter().map(|partition| partition.replicas().len()).collect();
    let producer = transactional_producer(config, topic, TEST_SOURCE)?;
    state.refusal = match producer.init_transactions(QUERY_TIMEOUT) {
        Ok(()) => None,
        Err(error) => match export_error(&producer, "beginning a transaction", &error) {
            // Brokers that are slow or away refuse nothing.
            ExportError::Store(error) if error.is_transient() => return Err(error),
            // Another inspection began meanwhile: the brokers let it.
            ExportError::TakenOver => None,
            ExportError::Store(error) => Some(error.to_string()),
        },
    };
    if has_positions {
        state.unexported_record_count = count_records_behind(config, &reader)?;
    }
    Ok(state)
}

fn count_records_behind(
    config: &KafkaConfig,
    reader: &super::export::PositionReader,
) -> Result<Option<u64>, StoreError> {
    let failed = |error| store_error("asking how far the log goes", &error);
    let log = reader.fetch_metadata(Some(&config.topic), QUERY_TIMEOUT).map_err(failed)?;
    let partitions = log.topics().first().map_or(0, |topic| topic.partitions().len() as u32);
    let known = committed_offsets(reader, &config.topic, partitions)?;
    let mut behind = 0;
    for partition in 0..partitions {
        let (_, end) =
            reader.fetch_watermarks(&config.topic, partition as i32, QUERY_TIMEOUT).map_err(failed)?;
        behind += (end.max(0) as u64).saturating_sub(known.get(&partition).copied().unwrap_or(0));
    }
    Ok((!known.is_empty()).then_some(behind))
}

fn export_inspection(topic: &str, group: &str, state: &ExportTopicState, has_positions: bool) -> Inspection {
    let ExportTopicState { broker_count, replica_counts, refusal, fault, unexported_record_count } = state;
    let Some(least) = replica_counts.iter().min() else {
        let remark = SettingRemark::new(
            format!("the topic {topic} is absent"),
            "liverank consumer makes it at its start, where it may",
        );
        return Inspection {
            description: "no topic".to_owned(),
            remarks: vec![remark],
            ..Inspection::default()
        };
    };
    let mut remarks = Vec::new();
    let wanted = (*broker_count).clamp(1, WANTED_REPLICA_COUNT);
    if *least < wanted {
        remarks.push(SettingRemark::new(
            format!(
                "a partition of {topic} has {least} of {wanted} copies: with its broker goes what it has"
            ),
            format!("kafka-reassign-partitions.sh, with {wanted} brokers for each partition of {topic}"),
        ));
    }
    if let Some(fault) = fault {
        let mend = format!(
            "kafka-configs.sh --bootstrap-server … --alter --topic {topic} --add-config cleanup.policy=delete"
        );
        remarks.push(SettingRemark::new(fault.clone(), mend));
    }
    if let Some(refusal) = refusal {
        let mend = format!(
            "kafka-acls.sh --add --allow-principal User:liverank --operation Write --operation Describe \
             --transactional-id {group}. --resource-pattern-type prefixed"
        );
        remarks.push(SettingRemark::new(format!("no transaction may be begun: {refusal}"), mend));
    }
    let exported = match unexported_record_count {
        _ if !has_positions => String::new(),
        Some(0) => ", all of the log is exported".to_owned(),
        Some(behind) => format!(", {behind} records of the log are not exported yet"),
        None => ", nobody has begun to export".to_owned(),
    };
    let description = format!("topic {topic} with {} partitions{exported}", replica_counts.len());
    Inspection { description, remarks, ..Inspection::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(copies: &[usize]) -> ExportTopicState {
        ExportTopicState {
            broker_count: 3,
            replica_counts: copies.to_vec(),
            unexported_record_count: Some(7),
            ..ExportTopicState::default()
        }
    }

    #[test]
    fn each_fault_of_a_topic_gets_a_remark_with_the_fix() {
        let good = export_inspection("t", "g-export", &state(&[3, 3]), true);
        assert_eq!(
            (good.description.as_str(), good.remarks.len()),
            ("topic t with 2 partitions, 7 records of the log are not exported yet", 0)
        );
        let absent = export_inspection("t", "g-export", &state(&[]), true);
        assert!(absent.remarks[0].problem.contains("absent"), "{absent:?}");
        let wrong = ExportTopicState {
            fault: Some("compacted".to_owned()),
            refusal: Some("not authorised".to_owned()),
            ..state(&[3, 1])
        };
        let found = export_inspection("t", "g-export", &wrong, false).remarks;
        let says = |word: &str| found.iter().any(|remark| remark.problem.contains(word));
        assert!(says("1 of 3 copies") && says("compacted") && says("not authorised"), "{found:?}");
        let one_broker = ExportTopicState { broker_count: 1, ..state(&[1]) };
        assert_eq!(export_inspection("t", "g-export", &one_broker, true).remarks, []);
    }
}
