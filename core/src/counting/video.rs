//! The state of a video in an archive, and how single events change it.

use super::rules::CountingRules;
use crate::comment::nobody_user;
use crate::decays::DecayedScores;
use crate::moderation::actor_role::ActorRole;
use crate::moderation::erasure::NameDigest;
use crate::score::Counters;
use crate::trending::log2_difference;
use crate::{Interaction, Kind, Metadata, UserId, VideoId, canary};

/// The state of a video in an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoState {
    /// The id of the video.
    pub video_id: VideoId,
    /// The video's owner: the first `owner_id` given, else the user of the first interaction.
    pub owner: UserId,
    /// Whether the owner was given explicitly, and thus is final.
    pub is_owner_given: bool,
    /// The number of times that each kind of interaction happened to the video.
    pub counters: Counters,
    /// The sequence number of the last entry in the video's channel; 0 before the first.
    pub last_seq: u64,
    /// The decayed score of the board `trending`, as a logarithm ([`crate::trending`]); negative infinity before
    /// the first event of weight.
    pub trending_log2: f64,
    /// The decayed scores by the half-lives that boards have of their own.
    pub decayed_scores: DecayedScores,
    /// The part of [`VideoState::revision`] that does not come from counters: two for each event that was taken back,
    /// and one for each time that the video was put or removed, or its owner forgotten.
    pub revision_corrections: u64,
    /// The metadata that an app gave for the video, if any.
    pub metadata: Option<Metadata>,
    /// The role of the actor who took the video off the boards; `None` if it is not taken off.
    pub removed_by: Option<ActorRole>,
}

impl VideoState {
    /// Returns a number that grows with every change of the state: of two states of a generation, the later one has
    /// the greater revision. The revision is computed from the counters, so events that earlier releases have counted
    /// are in it, too.
    pub const fn revision(&self) -> u64 {
        let Counters { views, likes, comments, shares, watch_ms: _, watch_short, watch_long } = self.counters;
        let counted = views + likes + comments + shares + watch_short + watch_long;
        counted as u64 + self.last_seq + self.revision_corrections
    }

    /// Returns the video's state in a window with these counters. The revision stays the same: whatever changes a
    /// window's counters changes the video, too.
    #[must_use]
    pub fn with_window_counters(mut self, counters: Counters) -> Self {
        let revision = self.revision();
        self.counters = counters;
        self.trending_log2 = f64::NEG_INFINITY;
        self.decayed_scores = DecayedScores::default();
        self.revision_corrections = 0;
        self.revision_corrections = revision.saturating_sub(self.revision());
        self
    }

    /// Whether the video is on no board: it was taken off, or it is the canary.
    pub fn is_off_boards(&self) -> bool {
        self.removed_by.is_some() || canary::is_canary(&self.video_id)
    }

    /// Makes the state of a video before its first event, which is `event`.
    pub(super) fn from_first_event(event: &Interaction) -> Self {
        // Whoever writes to the topic first must not become the owner of the canary.
        let own = canary::is_canary(&event.video_id).then(canary::user);
        let given = own.or_else(|| event.owner_id.clone());
        Self {
            video_id: event.video_id.clone(),
            is_owner_given: given.is_some(),
            owner: given.unwrap_or_else(|| event.user_id.clone()),
            counters: Counters::default(),
            last_seq: 0,
            trending_log2: f64::NEG_INFINITY,
            decayed_scores: DecayedScores::default(),
            revision_corrections: 0,
            metadata: None,
            removed_by: None,
        }
    }

    pub(super) fn put_metadata(&mut self, metadata: &Metadata, owner: Option<&UserId>) {
        if let (false, Some(owner)) = (self.is_owner_given, owner) {
            self.owner = owner.clone();
            self.is_owner_given = true;
        }
        self.metadata = Some(metadata.clone());
        self.removed_by = None;
        self.revision_corrections += 1;
    }

    /// Takes the video off the boards. If a service took it off before, an owner who does so later does not replace
    /// the service in `removed_by`.
    pub(super) fn take_off_boards(&mut self, by: ActorRole) {
        self.removed_by = Some(self.removed_by.filter(|_| by == ActorRole::Owner).unwrap_or(by));
        self.revision_corrections += 1;
    }

    /// Forgets the video's owner if the owner is this user. An owner who was given explicitly is not replaced by
    /// another one.
    pub(super) fn forget_owner(&mut self, user: NameDigest) {
        if NameDigest::of_user(&self.owner) == user {
            self.owner = nobody_user();
            self.revision_corrections += 1;
        }
    }

    /// Takes back an event of this type, which had added `log2` to the decayed score.
    pub(super) fn uncount_event(&mut self, kind: Kind, log2: f64, rules: &CountingRules) {
        self.counters.uncount_event(kind);
        // The counter has one less now: with two more here, the revision still grows by one.
        self.revision_corrections += 2;
        self.trending_log2 = if self.counters.score(&rules.weights) == 0 {
            f64::NEG_INFINITY
        } else {
            log2_difference(self.trending_log2, log2)
        };
    }
}
