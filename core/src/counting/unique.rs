//! The types of events that count at most once per user and video ([`super::marks`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Invalid, Kind};

/// The set of interaction types that count once per user and video. Empty by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UniqueKinds {
    /// Whether views count once per user and video.
    view: bool,
    /// Whether likes count once per user and video.
    like: bool,
    /// Whether shares count once per user and video.
    share: bool,
}

/// The types that can count once per user: each comment and each watch is always an event of its own.
pub(super) const POSSIBLE_UNIQUE_KINDS: [Kind; 3] = [Kind::View, Kind::Like, Kind::Share];

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

    /// Whether all types in `others` are also in this set.
    pub fn includes_all(self, others: Self) -> bool {
        POSSIBLE_UNIQUE_KINDS.into_iter().all(|kind| self.contains(kind) || !others.contains(kind))
    }

    /// Returns the type whose mark an event of type `kind` sets or removes; `None` if it has no mark.
    pub(super) fn marked_kind(self, kind: Kind) -> Option<Kind> {
        Some(kind.kind_taken_back().unwrap_or(kind)).filter(|kind| self.contains(*kind))
    }
}

impl FromStr for UniqueKinds {
    type Err = Invalid;

    /// Reads names that are separated by commas. An empty text means no type.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut kinds = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match POSSIBLE_UNIQUE_KINDS.into_iter().find(|kind| kind.name() == name) {
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
        let names = POSSIBLE_UNIQUE_KINDS.into_iter().filter(|kind| self.contains(*kind)).map(Kind::name);
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
