//! The videos of a batch while its events are counted.

use std::collections::BTreeSet;

use super::places::VideoIndexes;
use super::video::VideoState;
use crate::decays::CountedDecays;
use crate::{Interaction, VideoId};

/// The videos of a batch. An event of a known video costs one look-up and no copy of the id.
pub(super) struct BatchVideos {
    /// The state of each video, and whether the batch changed it.
    states: Vec<(VideoState, bool)>,
    index_by_video: VideoIndexes,
    /// The indexes of the videos of which more than counters changed.
    changed_beyond_counters: BTreeSet<usize>,
}

impl BatchVideos {
    pub(super) fn from_known(known: impl IntoIterator<Item = VideoState>) -> Self {
        let states: Vec<_> = known.into_iter().map(|state| (state, false)).collect();
        let index_by_video = VideoIndexes::from_videos(states.iter().map(|(state, _)| &state.video_id));
        Self { states, index_by_video, changed_beyond_counters: BTreeSet::new() }
    }

    pub(super) fn is_known(&self, id: &VideoId) -> bool {
        self.index_by_video.is_known(id)
    }

    pub(super) fn video_to_change(&mut self, event: &Interaction) -> &mut VideoState {
        let place = self.video_index_of_event(event);
        self.state_to_change(place)
    }

    /// Returns the video of an event that changes more than its counters.
    pub(super) fn video_to_change_beyond_counters(&mut self, event: &Interaction) -> &mut VideoState {
        let place = self.video_index_of_event(event);
        self.changed_beyond_counters.insert(place);
        self.state_to_change(place)
    }

    /// Returns the video of an event that is about to be counted.
    pub(super) fn video_to_count(&mut self, event: &Interaction) -> &mut VideoState {
        let place = self.video_index_of_event(event);
        if event.owner_id.is_some() && !self.states[place].0.is_owner_given {
            self.changed_beyond_counters.insert(place);
        }
        self.state_to_change(place)
    }

    fn video_index_of_event(&mut self, event: &Interaction) -> usize {
        let place = self.index_by_video.index_or_insert(&event.video_id, self.states.len());
        if place == self.states.len() {
            self.states.push((VideoState::from_first_event(event), false));
        }
        place
    }

    fn state_to_change(&mut self, place: usize) -> &mut VideoState {
        let (state, changed) = &mut self.states[place];
        *changed = true;
        state
    }

    pub(super) fn videos_changed_beyond_counters(&self) -> Vec<VideoId> {
        self.changed_beyond_counters.iter().map(|place| self.states[*place].0.video_id.clone()).collect()
    }

    /// Returns the videos that changed, without decayed scores that are no longer counted.
    pub(super) fn into_changed_videos(self, decays: &CountedDecays) -> Vec<VideoState> {
        let changed = self.states.into_iter().filter_map(|(state, changed)| changed.then_some(state));
        let mut changed: Vec<_> = changed.collect();
        for state in &mut changed {
            state.decayed_scores.retain_counted(decays);
        }
        changed.sort_unstable_by(|a, b| a.video_id.cmp(&b.video_id));
        changed
    }
}
