//! What counts at most once for a user on a video, and is taken back.
//!
//! A *mark* says that an event of a type that counts once per user has counted: one for each video, user and type. It is
//! written and removed in the transaction that counts. So a second like finds the mark and counts nothing, and an unlike
//! counts only where it finds one, and removes it. It says what the event added to the decayed score, so that exactly
//! that is taken off again, also of each decayed score of boards' own, and, where windows are counted, when that was.
//!
//! A mark takes 24 bytes, or 32 with windows, and belongs to one counted event: there are as many as there are likes in force. None is ever
//! forgotten, or what it stands for would count again.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::identity_digest;
use crate::decays::RunPart;
use crate::{Interaction, Invalid, Kind, Millis, UserId, VideoId};

/// The types of interactions that count once per user and video. By default none does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UniqueKinds {
    view: bool,
    like: bool,
    share: bool,
}

/// The types that can count once per user: of comments and watches each is one of its own.
const POSSIBLE_KINDS: [Kind; 3] = [Kind::View, Kind::Like, Kind::Share];

impl UniqueKinds {
    /// All types that can count once per user.
    pub const ALL: Self = Self { view: true, like: true, share: true };

    /// Whether no type counts once per user.
    pub const fn is_empty(self) -> bool {
        !(self.view || self.like || self.share)
    }

    /// Whether events of this type count once per user.
    pub const fn contains(self, kind: Kind) -> bool {
        match kind {
            Kind::View => self.view,
            Kind::Like => self.like,
            Kind::Share => self.share,
            _ => false,
        }
    }

    /// Whether all of `others` are among these.
    pub fn includes_all(self, others: Self) -> bool {
        POSSIBLE_KINDS.into_iter().all(|kind| self.contains(kind) || !others.contains(kind))
    }

    /// The type whose mark an event of type `kind` sets or removes, if it does.
    pub(super) fn marked(self, kind: Kind) -> Option<Kind> {
        Some(kind.takes_back().unwrap_or(kind)).filter(|kind| self.contains(*kind))
    }
}

impl FromStr for UniqueKinds {
    type Err = Invalid;

    /// Reads names that are separated by commas. No name: none of the types.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut kinds = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match POSSIBLE_KINDS.into_iter().find(|kind| kind.name() == name) {
                Some(Kind::View) => kinds.view = true,
                Some(Kind::Like) => kinds.like = true,
                Some(Kind::Share) => kinds.share = true,
                _ => {
                    return Err(Invalid::new("unique", "must be names of view, like and share, with commas"));
                }
            }
        }
        Ok(kinds)
    }
}

impl fmt::Display for UniqueKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = POSSIBLE_KINDS.into_iter().filter(|kind| self.contains(*kind)).map(Kind::name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl Serialize for UniqueKinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UniqueKinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What a mark is found by: 16 bytes that stand for a video, a user and a type. Two of 2^48 are the same by chance once in
/// 2^33 times.
pub type MarkKey = [u8; 16];

/// The key of the mark that this event sets or removes; `None` for a type that counts each time.
pub fn mark_key(event: &Interaction, unique: UniqueKinds) -> Option<MarkKey> {
    let kind = unique.marked(event.kind)?;
    Some(mark_key_of(kind, &event.video_id, &event.user_id))
}

/// The keys of all marks that a user may have on a video.
pub fn mark_keys(video: &VideoId, user: &UserId, unique: UniqueKinds) -> impl Iterator<Item = MarkKey> {
    POSSIBLE_KINDS
        .into_iter()
        .filter(move |kind| unique.contains(*kind))
        .map(|kind| mark_key_of(kind, video, user))
}

fn mark_key_of(kind: Kind, video: &VideoId, user: &UserId) -> MarkKey {
    // No id has a line break in it.
    identity_digest(&format!("{}\n{video}\n{user}", kind.name()))
}

/// What a mark says of the event that set it.
#[derive(Debug, Clone, PartialEq)]
pub struct UniqueMark {
    /// What it added to the decayed score, as a logarithm.
    pub log2: f64,
    /// When it counts as having happened; `None` where it was in no window.
    pub at: Option<Millis>,
    /// What it added to each decayed score beside that one.
    pub decayed: Vec<RunPart>,
}

/// A change of a mark: it is set to a value, or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct MarkChange {
    /// Its key.
    pub key: MarkKey,
    /// Whether the archive holds it.
    pub is_stored: bool,
    /// What it says from now on. `None`: it is removed.
    pub new_value: Option<UniqueMark>,
}

/// A mark during a batch.
struct MarkState {
    stored: Option<UniqueMark>,
    current_value: Option<UniqueMark>,
}

/// The marks of a batch.
pub(super) struct Marks(HashMap<MarkKey, MarkState>);

impl Marks {
    pub(super) fn of(stored: impl IntoIterator<Item = (MarkKey, UniqueMark)>) -> Self {
        let mark = |(key, value): (MarkKey, UniqueMark)| {
            (key, MarkState { stored: Some(value.clone()), current_value: Some(value) })
        };
        Self(stored.into_iter().map(mark).collect())
    }

    pub(super) fn is_set(&self, key: &MarkKey) -> bool {
        self.0.get(key).is_some_and(|mark| mark.current_value.is_some())
    }

    pub(super) fn set(&mut self, key: MarkKey, value: UniqueMark) {
        self.0.entry(key).or_insert(MarkState { stored: None, current_value: None }).current_value =
            Some(value);
    }

    /// Removes a mark and answers its value, if it was set.
    pub(super) fn remove(&mut self, key: &MarkKey) -> Option<UniqueMark> {
        self.0.get_mut(key)?.current_value.take()
    }

    /// What the archive is to change, in the order of the keys: neighbours share pages there.
    pub(super) fn changes(self) -> Vec<MarkChange> {
        let others = self.0.into_iter().filter(|(_, mark)| mark.current_value != mark.stored);
        let mut changes: Vec<_> = others
            .map(|(key, MarkState { stored, current_value: now })| MarkChange {
                key,
                is_stored: stored.is_some(),
                new_value: now,
            })
            .collect();
        changes.sort_unstable_by_key(|change| change.key);
        changes
    }
}

#[cfg(test)]
mod tests;
