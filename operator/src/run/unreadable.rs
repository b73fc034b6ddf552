//! Resources that the operator's types cannot parse, for example those of a later definition: the operator reports that
//! in their status, and does nothing else about them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::cache::{FIELD_MANAGER, UnreadableResource};
use super::context::OperatorContext;
use super::events;
use super::status_writer::WEBHOOKLESS_WRITE_TIMEOUT;
use super::store::ClusterKey;
use crate::crd::RankingCluster;

/// The reason of the conditions and of the event about an unreadable resource.
const REASON: &str = "Unreadable";
/// The pause after a write of the status that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Maximal number of tries to write the status; if all fail, only the log reports the resource.
const MAX_WRITE_TRIES: u32 = 5;

/// Reports an unreadable resource in its status and as an event.
pub async fn report_unreadable(world: &OperatorContext, key: &ClusterKey, unreadable: &UnreadableResource) {
    let why = message(unreadable);
    tracing::warn!(cluster = %key, why, "a RankingCluster cannot be read");
    world.event_publisher.publish(&object_reference(key, unreadable), &events::warning_event(REASON, &why));
    let api: Api<RankingCluster> = Api::namespaced(world.client.clone(), &key.namespace);
    let parameters = PatchParams::apply(FIELD_MANAGER);
    let body = Patch::Merge(status_patch(unreadable, Timestamp::now()));
    for _ in 0..MAX_WRITE_TRIES {
        // The answer is not parsed: the resource is as unreadable as before.
        let written = api.patch_status(&key.name, &parameters, &body);
        let written = world.request_limit.run(timeout(WEBHOOKLESS_WRITE_TIMEOUT, written)).await;
        world.metrics.count_write("RankingCluster", "status");
        match written {
            Ok(Ok(_) | Err(kube::Error::SerdeError(_))) => return,
            _ => sleep(RETRY_AFTER).await,
        }
    }
    world.metrics.count_failure("status");
}

fn message(unreadable: &UnreadableResource) -> String {
    format!(
        "this operator cannot read the resource, and leaves everything as it runs: {}; is the definition newer than the operator?",
        unreadable.why
    )
}

/// Returns the status patch of a resource that cannot be parsed. The patch is merged into the status, whose other parts
/// stay as they are.
fn status_patch(unreadable: &UnreadableResource, now: Timestamp) -> Value {
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": REASON, "message": message(unreadable),
            "observedGeneration": unreadable.generation,
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    };
    let conditions =
        [("Ready", "Unknown"), ("Reconciling", "False"), ("Degraded", "True"), ("Stalled", "True")];
    json!({
        "apiVersion": RankingCluster::api_version(&()), "kind": RankingCluster::kind(&()),
        "status": {
            "observedGeneration": unreadable.generation,
            "conditions": conditions.map(|(kind, status)| condition(kind, status)),
        },
    })
}

fn object_reference(key: &ClusterKey, unreadable: &UnreadableResource) -> ObjectReference {
    ObjectReference {
        api_version: Some(RankingCluster::api_version(&()).into_owned()),
        kind: Some(RankingCluster::kind(&()).into_owned()),
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        uid: Some(unreadable.uid.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::RankingClusterStatus;

    #[test]
    fn the_status_of_what_cannot_be_read_can_be_read() {
        let unreadable = UnreadableResource {
            uid: "u".into(),
            generation: 4,
            class: "default".into(),
            why: "unknown variant `Diagonal`".into(),
        };
        let status = status_patch(&unreadable, Timestamp::UNIX_EPOCH)["status"].take();
        let read: RankingClusterStatus = serde_json::from_value(status).unwrap();
        assert_eq!(read.observed_generation, Some(4));
        let stalled = read.conditions.iter().find(|it| it.type_ == "Stalled").unwrap();
        assert!(stalled.status == "True" && stalled.message.contains("Diagonal"));
    }
}
