//! By what the repeats of an event are recognised.

use sha2::{Digest as _, Sha256};

use super::UniqueKinds;
use crate::Interaction;

/// Under which name an event's repeats are recognised: the comment's identity, else the video, the user and the id that the
/// client gave. An id is its sender's own: the same one of another user, or on another video, is another event. Two name
/// spaces, so that neither can shadow the other; no id has a line break in it.
pub fn identity_of_event(event: &Interaction) -> Option<String> {
    match (&event.comment, &event.event_id) {
        (Some(comment), _) => Some(format!("c:{}", comment.comment_id)),
        (None, Some(id)) => Some(format!("e:{}\n{}\n{id}", event.video_id, event.user_id)),
        (None, None) => None,
    }
}

/// The name under which releases up to 0.1 remembered an event: by its id alone. It makes a repeat as it did there, until it
/// is forgotten with its window; nothing is remembered under it any more.
fn event_identity_of_0_1(event: &Interaction) -> Option<String> {
    event.comment.is_none().then_some(event.event_id.as_ref()?).map(|id| format!("e:{id}"))
}

/// Every name under which an archive may remember an event.
pub fn event_identities(event: &Interaction) -> impl Iterator<Item = String> {
    identity_of_event(event).into_iter().chain(event_identity_of_0_1(event))
}

/// Whether an archive keeps something of this event beside the state of its video and its identity: its comment, a mark, or what
/// a moderator did. `unique` are the types of which each event leaves a mark.
pub fn has_effects_beyond_counts(event: &Interaction, unique: UniqueKinds) -> bool {
    event.comment.is_some() || event.moderation.is_some() || unique.marked(event.kind).is_some()
}

/// An identity in 16 bytes (the first half of its SHA-256): what an archive may remember in its place. Two of 2^48
/// identities are the same by chance once in 2^33 times.
pub fn identity_digest(identity: &str) -> [u8; 16] {
    *sha256(identity).first_chunk().expect("a SHA-256 has 32 bytes")
}

/// The SHA-256 of a text: what stands for it where it would take too much room.
pub fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
