//! The kinds of events that a viewer's stream has only where it asks for them: `?events=viewers,…`.
//!
//! Clients of the comments seed count whatever they get as a comment, so that a stream has `connected`, comments and `gap`
//! unless more is asked for. A kind is added by a line in [`StreamEvent`].

use std::fmt;

use crate::Invalid;

/// Makes [`StreamEvent`] from one list, so that no kind is missing from [`StreamEvent::ALL`].
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)+) => {
        /// A kind of event that has to be asked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum StreamEvent {
            $($(#[$doc])* $kind,)+
        }

        impl StreamEvent {
            /// Every kind.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Its name in `?events=`, and as the event's own.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// How many viewers the video has, at most once a second.
    Viewers = "viewers",
    /// That a comment was removed.
    Deleted = "deleted",
    /// Which comment is pinned from now on.
    Pinned = "pinned",
}

/// The query parameter that asks for them.
pub const EVENTS_PARAMETER: &str = "events";

/// What a viewer asks for: a set of [`StreamEvent`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamEvents(u8);

impl StreamEvents {
    /// Reads names that are separated by commas. Absent or empty text asks for nothing.
    ///
    /// # Errors
    /// A name that is none: who asks for more than a release knows is to be told, not left waiting.
    pub fn parse(text: Option<&str>) -> Result<Self, Invalid> {
        let names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(parse_kind).try_fold(Self::default(), |asked, kind| Ok(asked.with_event(kind?)))
    }

    /// The names that this release knows, for what another release of ours says: its other names are passed over.
    pub fn parse_known(text: &str) -> Self {
        text.split(',')
            .filter_map(|name| parse_kind(name.trim()).ok())
            .fold(Self::default(), Self::with_event)
    }

    /// Returns the set with this kind added.
    #[must_use]
    pub const fn with_event(self, kind: StreamEvent) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether this kind is asked for.
    pub const fn contains(self, kind: StreamEvent) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Whether nothing is asked for.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

fn parse_kind(name: &str) -> Result<StreamEvent, Invalid> {
    let found = StreamEvent::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let known = StreamEvent::ALL.map(StreamEvent::name).join(", ");
        Invalid::new(EVENTS_PARAMETER, format!("must be names of these, separated by commas: {known}"))
    })
}

/// Writes the set in the form that [`StreamEvents::parse`] reads.
impl fmt::Display for StreamEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut asked = StreamEvent::ALL.into_iter().filter(|kind| self.contains(*kind));
        if let Some(first) = asked.next() {
            f.write_str(first.name())?;
        }
        asked.try_for_each(|kind| write!(f, ",{}", kind.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_events_round_trip() {
        let all = StreamEvent::ALL.into_iter().fold(StreamEvents::default(), StreamEvents::with_event);
        for asked in [StreamEvents::default(), all] {
            assert_eq!(StreamEvents::parse(Some(&asked.to_string())), Ok(asked));
        }
        assert!(StreamEvent::ALL.into_iter().all(|kind| all.contains(kind)));
        assert!(StreamEvent::ALL.into_iter().all(|kind| !StreamEvents::default().contains(kind)));
    }

    #[test]
    fn empty_text_asks_for_no_events_and_a_wrong_name_is_refused() {
        for nothing in [None, Some(""), Some(" , ")] {
            assert!(StreamEvents::parse(nothing).unwrap().is_empty(), "{nothing:?}");
        }
        let viewers = StreamEvents::default().with_event(StreamEvent::Viewers);
        assert_eq!(StreamEvents::parse_known("later,viewers"), viewers);
        assert_eq!(StreamEvents::parse(Some(" viewers,viewers ")), Ok(viewers));
        for wrong in ["viewer", "viewers;x", "Viewers", "connected", "viewers,nonsense"] {
            assert_eq!(StreamEvents::parse(Some(wrong)).unwrap_err().field, "events", "{wrong}");
        }
    }
}
