//! The log as a stranger sees it: where its partitions end, and records without a key, as the ranking seed's producers
//! write them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rskafka::chrono::DateTime;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;

/// How long the brokers may take. The client library retries within it, and would for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The topic.
#[derive(Clone)]
pub struct Topic {
    partitions: Arc<[PartitionClient]>,
}

impl Topic {
    /// The topic of this name, which is there.
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

    /// How many partitions it has.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Where each partition ends.
    pub async fn ends(&self) -> anyhow::Result<Vec<i64>> {
        let asked = self.partitions.iter().map(|partition| partition.get_offset(OffsetAt::Latest));
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, futures::future::try_join_all(asked)).await??)
    }

    /// Appends a record without a key. Without an end of its own: a record whose fate is not known would be appended
    /// again by whoever gave up waiting.
    pub async fn append(&self, partition: usize, value: Vec<u8>) -> anyhow::Result<()> {
        // The topic keeps the broker's time, whatever the producer says.
        let timestamp = DateTime::UNIX_EPOCH;
        let record = Record { key: None, value: Some(value), headers: BTreeMap::new(), timestamp };
        self.partitions[partition].produce(vec![record], Compression::NoCompression).await?;
        Ok(())
    }
}
