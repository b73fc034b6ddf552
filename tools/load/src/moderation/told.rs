//! Viewers of the moderated videos who asked to be told of deletions: whether they are told of each, and when.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::patient::{EFFECT_TIMEOUT, RETRY_PAUSE};
use crate::record::{LatencyHistogram, lock_ignoring_poison};
use crate::sse::{EventStream, ServerSentEvent};
use crate::targets::{TargetAddresses, connect_to};
use crate::viewer::request_head;

/// The time of silence after which a stream is taken for dead: three times the time between two signs of life.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
const READ_BYTES: usize = 4096;

/// The deletions of a run, by the id of the comment.
#[derive(Default)]
pub(super) struct ToldDeletions {
    acknowledged: Mutex<BTreeMap<String, Instant>>,
    told: Mutex<BTreeMap<String, Instant>>,
    greeted: AtomicUsize,
}

impl ToldDeletions {
    /// Notes that the deletion of a comment was acknowledged.
    pub(super) fn note_acknowledged(&self, id: String) {
        lock_ignoring_poison(&self.acknowledged).insert(id, Instant::now());
    }

    /// Watches a video for ever, and resumes the stream when it is lost.
    pub(super) async fn watch(&self, targets: &TargetAddresses, video: &str, user: &str) {
        let (mut last_id, mut is_greeted) = (None, false);
        loop {
            let path = format!("/connect?userid={user}&videoid={video}&events=deleted");
            let target = targets.next_target();
            let url = target.url(&path);
            if self.read_stream(targets, &url, &mut last_id, &mut is_greeted).await.is_err() {
                targets.note_failed(&target);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn read_stream(
        &self,
        targets: &TargetAddresses,
        url: &reqwest::Url,
        last_id: &mut Option<String>,
        is_greeted: &mut bool,
    ) -> anyhow::Result<()> {
        let resume = last_id.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let token =
            targets.authorization().map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let head = request_head("GET", url, &format!("{resume}{token}"));
        let mut socket = connect_to(url, 0, None).await?;
        socket.write_all(format!("{head}\r\n").as_bytes()).await?;
        let (mut stream, mut bytes, mut events) = (EventStream::default(), [0; READ_BYTES], Vec::new());
        loop {
            let count = tokio::time::timeout(SILENCE_TIMEOUT, socket.read(&mut bytes)).await??;
            anyhow::ensure!(count > 0, "the stream ended");
            let fed = stream.push_bytes(&bytes[..count], &mut |event| events.push(event));
            anyhow::ensure!(matches!(stream.status(), None | Some(200)), "status {:?}", stream.status());
            for event in events.drain(..) {
                if self.take_event(&event) && !std::mem::replace(is_greeted, true) {
                    self.greeted.fetch_add(1, Relaxed);
                }
                if event.id.is_some() {
                    last_id.clone_from(&event.id);
                }
            }
            anyhow::ensure!(fed.is_ok() && !stream.is_over(), "the stream ended");
        }
    }

    /// Takes an event of a stream. Returns whether it is the greeting: from then on the viewer is told of everything.
    fn take_event(&self, event: &ServerSentEvent) -> bool {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if let Some(id) = data["id"].as_str().filter(|_| event.event_type == "deleted") {
            lock_ignoring_poison(&self.told).entry(id.to_owned()).or_insert_with(Instant::now);
        }
        data["type"] == "connected"
    }

    /// Waits until so many viewers were greeted.
    pub(super) async fn wait_until_greeted(&self, viewers: usize) -> Result<(), String> {
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        while self.greeted.load(Relaxed) < viewers {
            if Instant::now() > deadline {
                return Err(format!("not all of {viewers} streams that ask for deletions are open"));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Ok(())
    }

    /// Waits until viewers were told of every acknowledged deletion; `Err` names one of which they were not.
    pub(super) async fn wait_until_told(&self) -> Result<(), String> {
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        loop {
            let untold = self.untold();
            let Some(first) = untold.first() else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(format!("nobody was told of {} deletions, as of that of {first}", untold.len()));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn untold(&self) -> Vec<String> {
        let told = lock_ignoring_poison(&self.told);
        let acknowledged = lock_ignoring_poison(&self.acknowledged);
        acknowledged.keys().filter(|id| !told.contains_key(*id)).cloned().collect()
    }

    /// Returns the times from the acknowledgement of a deletion until a viewer was told of it.
    pub(super) fn latency(&self) -> LatencyHistogram {
        let (latency, told) = (LatencyHistogram::default(), lock_ignoring_poison(&self.told));
        for (nth, (id, at)) in lock_ignoring_poison(&self.acknowledged).iter().enumerate() {
            if let Some(then) = told.get(id) {
                latency.note_latency(nth, then.saturating_duration_since(*at).as_micros() as u64);
            }
        }
        latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_untold_until_a_stream_has_it() {
        let deletions = ToldDeletions::default();
        deletions.note_acknowledged("c-1".into());
        assert_eq!(deletions.untold(), ["c-1"]);
        let event = |event_type: &str, data: &str| ServerSentEvent {
            event_type: event_type.into(),
            data: data.into(),
            id: Some("n-4".into()),
            ..ServerSentEvent::default()
        };
        assert!(deletions.take_event(&event("", r#"{"type":"connected"}"#)));
        assert!(!deletions.take_event(&event("", r#"{"id":"c-1","comment":"hi"}"#)));
        assert_eq!(deletions.untold(), ["c-1"], "a comment is no deletion");
        assert!(!deletions.take_event(&event("deleted", r#"{"type":"deleted","id":"c-1","seq":2}"#)));
        assert_eq!(deletions.untold(), Vec::<String>::new());
        assert_eq!(deletions.latency().merged_histogram().len(), 1);
    }
}
