//! The domain logic of liverank, as plain functions from data to data.
//!
//! Nothing in this crate reads a clock, an environment or a source of randomness, and nothing starts a thread or opens
//! a socket: times and seeds are arguments. So every rule of the system can be tested by itself, and the embedded
//! stores and the real ones share one definition of what an event *means*.
//!
//! | module | decides |
//! |---|---|
//! | [`ids`] | which identifiers are acceptable |
//! | [`json`] | how JSON is read, and which field holds a number that is too large for an `f64` |
//! | [`limits`] | how much a caller may do in a given time |
//! | [`event`] | what an interaction is, and which field of a malformed one is wrong |
//! | [`score`] | how many points an interaction is worth |
//! | [`boards`] | which videos are on a declared board, and what they are worth there |
//! | [`trending`] | how the worth of an event decays |
//! | [`idle`] | which videos nobody has interacted with for so long that they leave the boards |
//! | [`windows`] | which hour, day or week an event is in, and when the counts of that window are final |
//! | [`counting`] | what a batch of the log does to the counts and comments (exactly once) |
//! | [`digest`] | which short key stands for a text |
//! | [`comment`] | what a comment is, its identity and its position in its channel |
//! | [`moderation`] | what moderators do, and which comments of which users are refused because of it |
//! | [`metadata`] | which metadata an app may store for a video |
//! | [`stream_events`] | which events a viewer's stream has only if the viewer asks for them |
//! | [`ranking`] | the order of videos, and the change from one list to the next |
//! | [`placement`] | which reader serves a video, and what to move when loads change |
//! | [`liveness`] | which readers are alive and which are gone, as a manager sees it |
//! | [`scaling`] | how many readers there should be |
//! | [`epoch`] | how epochs and terms are minted, and which epochs, terms and counts are plausible |
//! | [`canary`] | which video is the system's own, and who may name it |
//! | [`trace`] | which span caused which, and which traces are recorded |
//! | [`unknown`] | how a name that a later release has added is kept |
//! | [`viewer_role`] | what a viewer's token lets its bearer do |
//!
//! Invariants held here and tested here:
//! 1. Counts are integers, so no order of events changes a sum ([`score`]).
//! 2. Applying a batch twice is impossible: a batch names the offset it expects to start from ([`counting`]).
//! 3. A video's comments are numbered 1, 2, 3, … without a hole or a repeat ([`counting`]).
//! 4. Every list is totally ordered: score descending, then id in descending byte order ([`ranking`]).
//! 5. A snapshot with all later deltas applied is the list itself ([`ranking`]).

pub mod backoff;
pub mod boards;
pub mod canary;
pub mod comment;
pub mod counting;
pub mod decays;
pub mod digest;
pub mod epoch;
pub mod event;
pub mod handover;
pub mod idle;
pub mod ids;
pub mod invalid;
pub mod json;
pub mod limits;
pub mod liveness;
pub mod metadata;
pub mod moderation;
pub mod placement;
pub mod ranking;
pub mod scaling;
pub mod score;
pub mod secret;
pub mod stream_events;
pub mod trace;
pub mod trending;
pub mod unknown;
pub mod viewer_role;
pub mod windows;

pub use comment::{Comment, CommentEpoch, StreamPosition};
pub use event::format::UnreadableRecord;
pub use event::interaction::Interaction;
pub use event::kind::Kind;
pub use ids::{CommentId, EventId, ReaderId, UserId, VideoId, ZoneId};
pub use invalid::Invalid;
pub use metadata::Metadata;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;
