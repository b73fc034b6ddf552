//! The `event_id`s of events that this gateway accepted lately, with a hash of each event's content. Other content
//! under the same `event_id` is refused (409): the log would have both events, and only the first would count.
//!
//! A gateway knows only events that it accepted itself, the last [`MAX_REMEMBERED_EVENTS`] of them. A gateway does not
//! know events that another gateway accepted, that it accepted before its restart, or that a producer wrote to the log.
//! Of such events with the same id the first counts, and none is refused.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use liverank_core::Interaction;
use liverank_core::counting::identity_of_event;
use liverank_core::digest::identity_digest;
use liverank_runtime::Problem;

/// Maximum number of events that are remembered: each takes about 100 bytes, and a busy gateway accepts this many in
/// several seconds. A client that sends an event again does so within seconds.
const MAX_REMEMBERED_EVENTS: usize = 100_000;

/// The digest of an event's identity (`event_id`, user and video).
type IdentityDigest = [u8; 16];

/// The ids of recently accepted events, each with a hash of its event's content.
#[derive(Default)]
pub(crate) struct ClaimedEventIds(Mutex<RememberedEvents>);

#[derive(Default)]
struct RememberedEvents {
    content_hashes: HashMap<IdentityDigest, u64>,
    /// The digests of the remembered events, oldest first.
    order: VecDeque<IdentityDigest>,
}

impl ClaimedEventIds {
    /// Claims the event's id for the event's content. The claim stays if the log does not answer, because the log may
    /// have the event. An event without an id claims nothing.
    ///
    /// # Errors
    /// Returns 409 if the id was claimed for other content, also while that event is on its way into the log.
    pub(crate) fn claim_event_id(&self, event: &Interaction) -> Result<(), Problem> {
        let Some(digest) = event_identity(event) else { return Ok(()) };
        let content = content_hash(event);
        let mut events = self.lock_events();
        match events.content_hashes.get(&digest) {
            Some(first) if *first != content => Err(conflict_problem()),
            Some(_) => Ok(()),
            None => {
                events.insert(digest, content);
                Ok(())
            }
        }
    }

    /// Releases the claim of the event's id: the log refused the event, and would refuse it again.
    pub(crate) fn release_event_id(&self, event: &Interaction) {
        let Some(digest) = event_identity(event) else { return };
        let mut events = self.lock_events();
        if events.content_hashes.remove(&digest).is_some() {
            events.order.retain(|kept| *kept != digest);
        }
    }

    fn lock_events(&self) -> MutexGuard<'_, RememberedEvents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RememberedEvents {
    fn insert(&mut self, digest: IdentityDigest, content: u64) {
        if self.order.len() >= MAX_REMEMBERED_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.content_hashes.remove(&oldest);
        }
        self.content_hashes.insert(digest, content);
        self.order.push_back(digest);
    }
}

/// Returns the digest of an event's identity; `None` if the client gave the event no id.
fn event_identity(event: &Interaction) -> Option<IdentityDigest> {
    event.event_id.as_ref()?;
    identity_of_event(event).map(|name| identity_digest(&name))
}

fn conflict_problem() -> Problem {
    let detail =
        "event_id: an event with other content has this id, user_id and video_id: give each event its own id";
    Problem::new(StatusCode::CONFLICT, detail).with_member("field", "event_id")
}

/// Returns a hash of an event's content. The event's time is not part of the content, because a sender may stamp each
/// attempt to send an event.
fn content_hash(event: &Interaction) -> u64 {
    let mut hasher = DefaultHasher::new();
    (event.kind, event.watch_ms, &event.owner_id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn example_event(more: &Value) -> Interaction {
        let mut value = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": "e"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Interaction::parse(&value, 0).unwrap()
    }

    fn claim_event(known: &ClaimedEventIds, event: &Interaction) -> bool {
        known.claim_event_id(event).is_ok()
    }

    #[test]
    fn an_event_id_may_be_reused_only_with_the_same_content() {
        let known = ClaimedEventIds::default();
        assert!(claim_event(&known, &example_event(&json!({}))));
        assert!(claim_event(&known, &example_event(&json!({"timestamp": 7}))), "the same, sent again");
        for other in [json!({"type": "like"}), json!({"owner_id": "o"})] {
            let refused = known.claim_event_id(&example_event(&other)).err().unwrap();
            assert_eq!(
                (refused.status(), &refused.body()["field"]),
                (StatusCode::CONFLICT, &json!("event_id"))
            );
        }
        let elsewhere = [json!({"video_id": "w", "type": "like"}), json!({"user_id": "w", "type": "like"})];
        assert!(elsewhere.iter().all(|other| claim_event(&known, &example_event(other))));
        let watched = |seconds: f64| {
            example_event(&json!({"event_id": "w", "type": "watch_time", "watch_time": seconds}))
        };
        assert!(claim_event(&known, &watched(1.5)) && !claim_event(&known, &watched(2.0)));
        let unnamed = |kind: &str| example_event(&json!({"event_id": null, "type": kind}));
        assert!(claim_event(&known, &unnamed("view")) && claim_event(&known, &unnamed("like")));
    }

    #[test]
    fn a_refused_event_releases_its_id() {
        let known = ClaimedEventIds::default();
        let (view, like) = (example_event(&json!({})), example_event(&json!({"type": "like"})));
        assert!(claim_event(&known, &view) && !claim_event(&known, &like));
        known.release_event_id(&view);
        assert!(claim_event(&known, &like));
        assert_eq!(known.lock_events().order.len(), 1);
    }

    #[test]
    fn remembered_event_ids_are_bounded() {
        let known = ClaimedEventIds::default();
        for n in 0..MAX_REMEMBERED_EVENTS + 100 {
            assert!(claim_event(&known, &example_event(&json!({"event_id": format!("e{n}")}))));
        }
        let events = known.lock_events();
        assert_eq!(
            (events.content_hashes.len(), events.order.len()),
            (MAX_REMEMBERED_EVENTS, MAX_REMEMBERED_EVENTS)
        );
    }
}
