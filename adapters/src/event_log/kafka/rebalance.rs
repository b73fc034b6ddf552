//! The callbacks of the client library for a member of the group: changes of its partitions, and of its topic's id.

use std::sync::Arc;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::PART_NAME;
use super::config::log_library_line;
use super::inbox::Inbox;

/// The text that the library writes for the id of a topic whose id it has not learnt yet.
const UNKNOWN_TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA ";

/// The library's client of a member.
pub(super) type Member = BaseConsumer<RebalanceContext>;

/// The callbacks of a member, which the library calls while it is polled.
pub(super) struct RebalanceContext {
    pub(super) inbox: Arc<Inbox>,
    pub(super) topic: String,
}

impl ClientContext for RebalanceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // A change from this text to a first id only means that the id has been learnt.
        let changed = format!("Topic {} changed id from ", self.topic);
        if facility == "METADATA"
            && line.split_once(&changed).is_some_and(|(_, ids)| !ids.starts_with(UNKNOWN_TOPIC_ID))
        {
            self.inbox.invalidate_log();
        }
        log_library_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for RebalanceContext {
    fn rebalance(&self, member: &Member, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<u32> =
            list.elements_for_topic(&self.topic).iter().map(|at| at.partition() as u32).collect();
        let answered = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let answered = member.incremental_assign(&TopicPartitionList::new());
            self.inbox.note_assigned(partitions);
            answered
        } else {
            let mut read = TopicPartitionList::new();
            for partition in self.inbox.note_revoked(partitions) {
                read.add_partition(&self.topic, partition as i32);
            }
            member.incremental_unassign(&read)
        };
        if let Err(error) = answered {
            tracing::error!(part = PART_NAME, %error, "the group's change of partitions was not taken");
        }
    }

    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(part = PART_NAME, %error, "the group's progress was not reported");
        }
    }
}
