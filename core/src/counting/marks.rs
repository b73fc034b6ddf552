//! Events that count at most once per user and video, and can be taken back.
//!
//! A *mark* records that an event of a type that counts once per user has counted: one mark for each video, user and
//! type. The mark is written and removed in the transaction that counts. So a second like finds the mark and counts
//! nothing; an unlike counts only if it finds a mark, and removes it. The mark's value is what the event added to the
//! decayed score and to each decayed score that boards have of their own, so that exactly this is subtracted again. If
//! windows are counted, it also has the time of the event.
//!
//! A mark takes 24 bytes, or 32 with windows, and belongs to one counted event: there are as many marks as likes in
//! force. No mark ever expires, or a repeat of its event would count again.

use std::collections::HashMap;

use super::unique::{POSSIBLE_UNIQUE_KINDS, UniqueKinds};
use crate::decays::DecayContribution;
use crate::digest::identity_digest;
use crate::{Interaction, Kind, Millis, UserId, VideoId};

/// The key of a mark: 16 bytes that stand for a video, a user and a type. Among 2^48 keys, the chance that any two are
/// the same is 1 to 2^33.
pub type MarkKey = [u8; 16];

/// Returns the key of the mark that this event sets or removes; `None` for a type that counts each time.
pub fn mark_key(event: &Interaction, unique: UniqueKinds) -> Option<MarkKey> {
    let kind = unique.marked_kind(event.kind)?;
    Some(mark_key_of(kind, &event.video_id, &event.user_id))
}

/// Returns the keys of all marks that a user may have on a video.
pub fn mark_keys(video: &VideoId, user: &UserId, unique: UniqueKinds) -> impl Iterator<Item = MarkKey> {
    POSSIBLE_UNIQUE_KINDS
        .into_iter()
        .filter(move |kind| unique.contains(*kind))
        .map(|kind| mark_key_of(kind, video, user))
}

fn mark_key_of(kind: Kind, video: &VideoId, user: &UserId) -> MarkKey {
    // No id contains a line break.
    identity_digest(&format!("{}\n{video}\n{user}", kind.name()))
}

/// The value of a mark: what the event that set it has added.
#[derive(Debug, Clone, PartialEq)]
pub struct UniqueMark {
    /// The amount that the marked event added to the decayed score of `trending`, as a logarithm.
    pub trending_log2: f64,
    /// The time at which the event counts as having happened, in milliseconds; `None` if no windows were counted.
    pub counted_at: Option<Millis>,
    /// The amounts that the marked event added to decayed scores that boards have of their own.
    pub decay_contributions: Vec<DecayContribution>,
}

/// A change of a mark: it gets a value, or it is removed.
#[derive(Debug, Clone, PartialEq)]
pub struct MarkChange {
    /// The key of the mark.
    pub key: MarkKey,
    /// Whether the archive already has the mark.
    pub is_stored: bool,
    /// The mark's new value; `None` if the mark is removed.
    pub new_value: Option<UniqueMark>,
}

/// A mark during a batch: its stored value and its current one.
struct MarkState {
    stored_value: Option<UniqueMark>,
    current_value: Option<UniqueMark>,
}

/// The marks that the events of a batch may set or remove.
pub(super) struct BatchMarks(HashMap<MarkKey, MarkState>);

impl BatchMarks {
    pub(super) fn from_stored(stored: impl IntoIterator<Item = (MarkKey, UniqueMark)>) -> Self {
        let mark = |(key, value): (MarkKey, UniqueMark)| {
            (key, MarkState { stored_value: Some(value.clone()), current_value: Some(value) })
        };
        Self(stored.into_iter().map(mark).collect())
    }

    pub(super) fn is_set(&self, key: &MarkKey) -> bool {
        self.0.get(key).is_some_and(|mark| mark.current_value.is_some())
    }

    pub(super) fn set(&mut self, key: MarkKey, value: UniqueMark) {
        self.0.entry(key).or_insert(MarkState { stored_value: None, current_value: None }).current_value =
            Some(value);
    }

    /// Removes a mark and returns its value; `None` if it was not set.
    pub(super) fn remove(&mut self, key: &MarkKey) -> Option<UniqueMark> {
        self.0.get_mut(key)?.current_value.take()
    }

    /// Returns the changes that the archive has to write, sorted by key, because neighbouring keys share pages there.
    pub(super) fn into_changes(self) -> Vec<MarkChange> {
        let others = self.0.into_iter().filter(|(_, mark)| mark.current_value != mark.stored_value);
        let mut changes: Vec<_> = others
            .map(|(key, MarkState { stored_value, current_value: now })| MarkChange {
                key,
                is_stored: stored_value.is_some(),
                new_value: now,
            })
            .collect();
        changes.sort_unstable_by_key(|change| change.key);
        changes
    }
}

#[cfg(test)]
mod tests;
