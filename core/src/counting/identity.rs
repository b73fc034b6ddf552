//! The identity of an event, by which repeats of the event are recognised.

use super::unique::UniqueKinds;
use crate::Interaction;

/// Returns the name by which repeats of an event are recognised: the comment's id, else the video, the user and the
/// `event_id` together; `None` for an event with neither. The same `event_id` of another user, or on another video,
/// stands for another event. The two kinds of names have different prefixes, so that neither hides the other; no id
/// contains a line break.
pub fn identity_of_event(event: &Interaction) -> Option<String> {
    match (&event.comment, &event.event_id) {
        (Some(comment), _) => Some(format!("c:{}", comment.comment_id)),
        (None, Some(id)) => Some(format!("e:{}\n{}\n{id}", event.video_id, event.user_id)),
        (None, None) => None,
    }
}

/// Returns the name under which releases up to 0.1 remembered an event: by its `event_id` alone. A repeat of such an
/// event is recognised until the name expires; no event is remembered under it any more.
fn event_identity_of_release_0_1(event: &Interaction) -> Option<String> {
    event.comment.is_none().then_some(event.event_id.as_ref()?).map(|id| format!("e:{id}"))
}

/// Returns every name under which an archive may remember an event.
pub fn event_identities(event: &Interaction) -> impl Iterator<Item = String> {
    identity_of_event(event).into_iter().chain(event_identity_of_release_0_1(event))
}

/// Whether an archive stores something for this event beside the state of its video and its identity: a comment, a
/// mark, or a moderator's action. `unique` are the types of which each event sets a mark.
pub fn has_effects_beyond_counts(event: &Interaction, unique: UniqueKinds) -> bool {
    event.comment.is_some() || event.moderation.is_some() || unique.marked_kind(event.kind).is_some()
}
