//! Inspects the brokers: the log's topic and its settings.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};

use super::config::LibraryLogContext;
use super::{KafkaLog, QUERY_TIMEOUT, run_blocking, store_error};
use crate::StoreError;
use crate::event_log::EventLog;
use crate::inspect::{Inspection, SettingRemark};

/// The settings with which liverank creates the topic: name, value, and what happens with another value.
const WANTED_TOPIC_SETTINGS: [(&str, &str, &str); 4] = [
    ("message.timestamp.type", "LogAppendTime", "producers' clocks decide how long a repeat is recognised"),
    ("cleanup.policy", "delete", "records are dropped that a rebuild would need"),
    ("retention.ms", "-1", "records are dropped that a rebuild would need"),
    ("retention.bytes", "-1", "records are dropped that a rebuild would need"),
];

impl KafkaLog {
    /// Reads the topic and its settings from the brokers. Creates nothing.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse this user.
    pub async fn inspect_brokers(&self) -> Result<Inspection, StoreError> {
        let topic = self.config.topic.clone();
        if !self.producer.has_topic(&topic).await? {
            // Before the first start nothing is wrong with that.
            let description =
                format!("topic {topic} is not there yet: the first `liverank consumer` makes it");
            return Ok(Inspection { description, ..Inspection::default() });
        }
        let ends = self.end_offsets().await?;
        let found =
            format!("topic {topic} with {} partitions and {} records", ends.len(), ends.iter().sum::<u64>());
        let settings = self.config.kafka_client_config();
        let admin = run_blocking(move || {
            settings
                .create_with_context::<_, AdminClient<LibraryLogContext>>(LibraryLogContext)
                .map_err(|error| store_error("creating the admin client", &error))
        })
        .await?;
        let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
        let described = admin.describe_configs(&[ResourceSpecifier::Topic(&topic)], &options).await;
        let described = described.map_err(|error| store_error("reading the topic's configuration", &error));
        // The client's thread is joined on a thread on which it may block.
        run_blocking(move || {
            drop(admin);
            Ok(())
        })
        .await?;
        let remarks = match described?.into_iter().next() {
            Some(Ok(resource)) => {
                setting_remarks(&topic, |name| resource.get(name).and_then(|entry| entry.value.clone()))
            }
            // Reading the settings takes a permission of its own, which is not needed for anything else.
            _ => vec![SettingRemark::new(
                "the topic's settings may not be read",
                format!(
                    "kafka-acls --add --allow-principal User:liverank --operation DescribeConfigs --topic {topic}"
                ),
            )],
        };
        Ok(Inspection { description: found, remarks, ..Inspection::default() })
    }
}

fn setting_remarks(topic: &str, value: impl Fn(&str) -> Option<String>) -> Vec<SettingRemark> {
    let differs = |(name, wanted, _): &&(&str, &str, &str)| value(name).as_deref() != Some(*wanted);
    let remark = |(name, wanted, why): &(&str, &str, &str)| {
        let is = value(name).unwrap_or_else(|| "not known".to_owned());
        let mend = format!(
            "kafka-configs.sh --bootstrap-server … --alter --topic {topic} --add-config {name}={wanted}"
        );
        SettingRemark::new(format!("{name} is {is}: {why}"), mend)
    };
    WANTED_TOPIC_SETTINGS.iter().filter(differs).map(remark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_may_drop_records_gets_a_remark_with_the_fix() {
        let made_by_us = |name: &str| {
            WANTED_TOPIC_SETTINGS
                .iter()
                .find(|(it, ..)| *it == name)
                .map(|(_, wanted, _)| (*wanted).to_owned())
        };
        assert_eq!(setting_remarks("t", made_by_us), []);
        let week =
            |name: &str| if name == "retention.ms" { Some("604800000".to_owned()) } else { made_by_us(name) };
        let found = setting_remarks("t", week);
        assert_eq!(found.len(), 1);
        assert!(found[0].problem.starts_with("retention.ms is 604800000"), "{found:?}");
        assert!(found[0].remedy.ends_with("--topic t --add-config retention.ms=-1"), "{found:?}");
    }
}
