//! A second client of Kafka, independent of the one under test: reads the ends of partitions, and appends records
//! without a key, as the ranking seed's producers do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rskafka::chrono::DateTime;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;

/// The time limit of the brokers' answers; the client library retries without an end by itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A topic of Kafka, with a client for each partition.
#[derive(Clone)]
pub struct Topic {
    partitions: Arc<[PartitionClient]>,
}

impl Topic {
    /// Opens an existing topic with `partitions` partitions.
    pub async fn open(port: u16, name: &str, partitions: usize) -> anyhow::Result<Self> {
        tokio::time::timeout(6 * ANSWER_TIMEOUT, async {
            let client = ClientBuilder::new(vec![format!("127.0.0.1:{port}")]).build().await?;
            let mut opened = Vec::new();
            for partition in 0..i32::try_from(partitions)? {
                opened.push(client.partition_client(name, partition, UnknownTopicHandling::Retry).await?);
            }
            anyhow::Ok(Self { partitions: opened.into() })
        })
        .await
        .with_context(|| format!("topic {name} cannot be opened"))?
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Returns the end offset of each partition, in the order of the partitions.
    pub async fn end_offsets(&self) -> anyhow::Result<Vec<i64>> {
        let asked = self.partitions.iter().map(|partition| partition.get_offset(OffsetAt::Latest));
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, futures::future::try_join_all(asked)).await??)
    }

    /// Appends a record without a key. The call has no time limit: a caller that stopped waiting would not know
    /// whether the record was appended, and would append it again.
    pub async fn append(&self, partition: usize, value: Vec<u8>) -> anyhow::Result<()> {
        // The topic is configured to use the broker's time, so the producer's timestamp does not matter.
        let timestamp = DateTime::UNIX_EPOCH;
        let record = Record { key: None, value: Some(value), headers: BTreeMap::new(), timestamp };
        self.partitions[partition].produce(vec![record], Compression::NoCompression).await?;
        Ok(())
    }
}
