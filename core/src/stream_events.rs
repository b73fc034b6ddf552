//! The kinds of events that a viewer's stream has only if the viewer asks for them: `?events=viewers,…`.
//!
//! Clients of the comments seed count every event as a comment, so a stream has only `connected`, comments and `gap`
//! unless more is asked for. A new kind is one more line in [`StreamEvent`].

use std::fmt;

use crate::Invalid;

/// Makes [`StreamEvent`] from one list, so that no kind is missing from [`StreamEvent::ALL`].
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)+) => {
        /// A kind of event that a viewer's stream has only on request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum StreamEvent {
            $($(#[$doc])* $kind,)+
        }

        impl StreamEvent {
            /// Every kind.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Returns the kind's name, in the parameter `?events=` and in the event itself.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// The number of viewers that the video has, at most once a second.
    Viewers = "viewers",
    /// The notice that a comment was removed.
    Deleted = "deleted",
    /// The notice of which comment is pinned from now on.
    Pinned = "pinned",
}

/// The query parameter that asks for optional kinds of events.
pub const EVENTS_PARAMETER: &str = "events";

/// The set of optional [`StreamEvent`] kinds that a viewer asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamEvents(u8);

impl StreamEvents {
    /// Reads names of kinds that are separated by commas. Absent or empty text asks for none.
    ///
    /// # Errors
    /// Returns an error for an unknown name, so that a caller is told that this release does not know the kind, instead
    /// of waiting for its events.
    pub fn parse(text: Option<&str>) -> Result<Self, Invalid> {
        let names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(parse_kind).try_fold(Self::default(), |asked, kind| Ok(asked.with_event(kind?)))
    }

    /// Reads the names that this release knows and ignores the others: another release of liverank may have written
    /// them.
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

    /// Whether this kind is in the set.
    pub const fn contains(self, kind: StreamEvent) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Whether the set is empty.
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
