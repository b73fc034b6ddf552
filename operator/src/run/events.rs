//! Kubernetes events about a cluster: one for each decision, and one for each condition that changed.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::metrics::OperatorMetrics;
use crate::crd::RankingClusterStatus;
use crate::readers::Decision;

/// The name of the controller in the events that it publishes.
const CONTROLLER: &str = "liverank-operator";
/// Maximal length of an event's note, by the API server's limit.
const MAX_NOTE_BYTES: usize = 1_024;
/// The time limit for publishing an event: nothing waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximal number of events in flight. More events are dropped and counted: nothing waits for an event, least of all
/// the actors of other clusters.
const MAX_EVENTS_IN_FLIGHT: usize = 64;

/// The publisher of Kubernetes events about clusters, which publishes in the background.
#[derive(Clone)]
pub struct EventPublisher {
    recorder: Recorder,
    publish_permits: Arc<Semaphore>,
    metrics: OperatorMetrics,
}

/// An event to publish about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    is_warning: bool,
    reason: String,
    note: String,
}

impl EventPublisher {
    /// Makes a publisher that reports as `identity`.
    pub fn new(client: Client, identity: &str, metrics: OperatorMetrics) -> Self {
        let reporter = Reporter { controller: CONTROLLER.into(), instance: Some(identity.to_owned()) };
        let publish_permits = Arc::new(Semaphore::new(MAX_EVENTS_IN_FLIGHT));
        Self { recorder: Recorder::new(client, reporter), publish_permits, metrics }
    }

    /// Publishes an event in the background. A lost event does no harm: the status says the same.
    pub fn publish(&self, about: &ObjectReference, news: &PendingEvent) {
        let Ok(place) = Arc::clone(&self.publish_permits).try_acquire_owned() else {
            self.metrics.count_failure("event");
            return;
        };
        let (announcer, about, event) = (self.clone(), about.clone(), to_event(news));
        tokio::spawn(async move {
            let told = timeout(REQUEST_TIMEOUT, announcer.recorder.publish(&event, &about)).await;
            announcer.metrics.count_write("Event", "event");
            if !told.is_ok_and(|told| told.is_ok()) {
                announcer.metrics.count_failure("event");
            }
            drop(place);
        });
    }
}

fn to_event(news: &PendingEvent) -> Event {
    // The recorder counts events of the same action and reason as one, even if their notes differ; the action therefore
    // contains a hash of the note.
    let mark = Sha256::digest(&news.note);
    Event {
        type_: if news.is_warning { EventType::Warning } else { EventType::Normal },
        reason: news.reason.clone(),
        note: Some(news.note.clone()),
        action: format!("{}-{:02x}{:02x}{:02x}{:02x}", news.reason, mark[0], mark[1], mark[2], mark[3]),
        secondary: None,
    }
}

/// Makes a warning event that belongs to no decision and no condition.
pub fn warning_event(reason: &str, note: &str) -> PendingEvent {
    PendingEvent { is_warning: true, reason: reason.to_owned(), note: shorten(note.to_owned()) }
}

/// Makes the Kubernetes event of a decision.
pub fn decision_event(decision: &Decision) -> PendingEvent {
    let mut note = decision.reason.clone();
    if !decision.chosen.is_empty() {
        note = format!("{note}: {}", decision.chosen.join("; "));
    }
    let reason = decision.action.as_str().to_owned();
    PendingEvent { is_warning: decision.action.is_warning(), reason, note: shorten(note) }
}

/// Returns the events about conditions that changed between two statuses, if a person waits for the change or has to
/// act on it.
pub fn condition_events(
    before: Option<&RankingClusterStatus>,
    after: &RankingClusterStatus,
) -> Vec<PendingEvent> {
    let find = |kind: &str| before?.conditions.iter().find(|it| it.type_ == kind);
    let mut news = Vec::new();
    for it in &after.conditions {
        let is_true = it.status == "True";
        let good = match it.type_.as_str() {
            "Ready" => is_true || it.reason == "Hibernating",
            "Degraded" | "UpdatePending" => !is_true,
            _ => continue,
        };
        // The first status changes nothing, and a cluster that is still starting is no news.
        let turned = find(&it.type_)
            .map_or(is_true, |old| old.status != it.status || (!good && old.reason != it.reason));
        if turned {
            news.push(PendingEvent {
                is_warning: !good,
                reason: reason_of(it),
                note: shorten(it.message.clone()),
            });
        }
    }
    news
}

fn reason_of(condition: &Condition) -> String {
    match (condition.type_.as_str(), condition.status == "True") {
        ("Ready", _) if is_hibernation(condition) => condition.reason.clone(),
        ("Ready", true) => "Ready".into(),
        ("Ready", false) => "NotReady".into(),
        ("Degraded", false) => "Recovered".into(),
        ("UpdatePending", false) => "Updated".into(),
        _ => condition.reason.clone(),
    }
}

/// Returns whether the cluster is not ready because it hibernates or is about to, as the resource says.
fn is_hibernation(condition: &Condition) -> bool {
    matches!(condition.reason.as_str(), "Hibernated" | "Hibernating")
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_NOTE_BYTES {
        let end = (0..=MAX_NOTE_BYTES - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(all: &[(&str, &str, &str)]) -> RankingClusterStatus {
        let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
            type_: (*kind).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: format!("{kind} {reason}"),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        RankingClusterStatus {
            conditions: all.iter().map(condition).collect(),
            ..RankingClusterStatus::default()
        }
    }

    fn reasons(before: Option<&RankingClusterStatus>, after: &RankingClusterStatus) -> Vec<(bool, String)> {
        condition_events(before, after).into_iter().map(|it| (it.is_warning, it.reason)).collect()
    }

    #[test]
    fn only_what_turned_is_told() {
        let starting = status(&[("Ready", "False", "Starting"), ("Degraded", "False", "AsExpected")]);
        assert!(reasons(None, &starting).is_empty());
        let serving = status(&[("Ready", "True", "Serving"), ("Degraded", "False", "AsExpected")]);
        assert_eq!(reasons(Some(&starting), &serving), [(false, "Ready".into())]);
        assert!(reasons(Some(&serving), &serving).is_empty());
        let short = status(&[("Ready", "True", "Serving"), ("Degraded", "True", "QuotaExceeded")]);
        assert_eq!(reasons(Some(&serving), &short), [(true, "QuotaExceeded".into())]);
        let other = status(&[("Ready", "True", "Serving"), ("Degraded", "True", "Unschedulable")]);
        assert_eq!(reasons(Some(&short), &other), [(true, "Unschedulable".into())]);
        assert_eq!(reasons(Some(&other), &serving), [(false, "Recovered".into())]);
    }

    #[test]
    fn notes_fit() {
        assert!(shorten("ä".repeat(2_000)).len() <= MAX_NOTE_BYTES);
    }
}
