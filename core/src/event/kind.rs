//! The kinds of interactions.

use crate::Invalid;

/// Makes [`Kind`] from one list, so that no kind is missing from [`Kind::ALL`]. `since` is the record format that
/// introduced a kind which format 1 does not have.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal $(since $since:literal)?,)+) => {
        /// The kind of an interaction: what the viewer did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
            /// Not an interaction of a viewer but a record of [`crate::moderation`]. No client can send one as an
            /// interaction.
            Moderation,
        }

        impl Kind {
            /// Every kind that clients send, in the order of the documentation.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Returns the kind's name in JSON, the value of `type`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                    Self::Moderation => "moderation",
                }
            }

            /// Returns the format of this kind's records: the first record format that has the kind.
            pub const fn format(self) -> u64 {
                match self {
                    $(Self::$kind => kinds!(@since $($since)?),)+
                    // Moderation records have a version of their own.
                    Self::Moderation => 1,
                }
            }
        }
    };
    (@since) => { 1 };
    (@since $since:literal) => { $since };
}

kinds! {
    /// The viewer opened the video.
    View = "view",
    /// The viewer liked the video.
    Like = "like",
    /// The viewer commented on the video.
    Comment = "comment",
    /// The viewer shared the video.
    Share = "share",
    /// The viewer watched the video for a time.
    WatchTime = "watch_time",
    /// The viewer took back a like. An unlike is a type of its own and not a member `"undo": true` of a like: a
    /// release that does not know the type refuses it, whereas one that does not know the member would count one more
    /// like.
    Unlike = "unlike" since 2,
    /// The viewer took back a share.
    Unshare = "unshare" since 2,
}

impl Kind {
    /// Returns the kind of event that this kind takes back; `None` for kinds that take nothing back.
    pub const fn kind_taken_back(self) -> Option<Self> {
        match self {
            Self::Unlike => Some(Self::Like),
            Self::Unshare => Some(Self::Share),
            _ => None,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let [others @ .., last] = Self::ALL.map(Self::name);
            Invalid::new("type", format!("must be {} or {last}", others.join(", ")))
        })
    }
}
