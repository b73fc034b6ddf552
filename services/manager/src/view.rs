//! This manager's copy of all assignments, kept up to date by the store's changes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{AssignmentChange, AssignmentSnapshot, VideoAssignment};
use liverank_core::handover::AssignedReaders;
use liverank_core::{ReaderId, VideoId};

/// The outcome of applying a change of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The change was applied.
    Applied,
    /// Changes in between are missing, or may be: all assignments have to be loaded again.
    ReloadNeeded,
}

/// All assignments, at one version of the store.
#[derive(Debug, Default)]
pub struct AssignmentView {
    /// The store's version up to which changes were applied; `None` before the first load.
    version: Option<u64>,
    assignments: HashMap<VideoId, AssignmentEntry>,
    /// The number of videos of each reader.
    video_counts: HashMap<ReaderId, u64>,
    highest_epoch: u64,
}

#[derive(Debug)]
struct AssignmentEntry {
    assignment: VideoAssignment,
    /// The time at which the video was last registered or watched, as far as this manager knows.
    last_used_at: Instant,
    /// The time at which this manager saw the assignment come into force.
    in_force_since: Instant,
}

impl AssignmentView {
    /// Returns true if the assignments were ever loaded. Before the first load, a video that is not in the view may
    /// have a reader in the store.
    pub const fn is_loaded(&self) -> bool {
        self.version.is_some()
    }

    /// Returns the store's version up to which changes were applied; `None` before the first load.
    pub const fn version(&self) -> Option<u64> {
        self.version
    }

    /// Replaces all assignments by the store's; the times of the videos' last use are kept.
    pub fn replace_all(&mut self, now: Instant, state: AssignmentSnapshot) {
        if self.version == Some(state.version) {
            return;
        }
        let mut old = std::mem::take(&mut self.assignments);
        self.video_counts.clear();
        self.version = Some(state.version);
        for assignment in state.assignments {
            let known = old.remove(&assignment.video_id);
            let last_used_at = known.as_ref().map_or(now, |entry| entry.last_used_at);
            let same = known.filter(|entry| entry.assignment.epoch() == assignment.epoch());
            let in_force_since = same.map_or(now, |entry| entry.in_force_since);
            self.insert_entry(AssignmentEntry { assignment, last_used_at, in_force_since });
        }
    }

    /// Applies a change of the store, if it follows the view's version.
    pub fn apply_change(&mut self, now: Instant, change: AssignmentChange) -> ApplyOutcome {
        let (AssignmentChange::Assigned { version, .. } | AssignmentChange::Removed { version, .. }) =
            &change
        else {
            return ApplyOutcome::ReloadNeeded;
        };
        match self.version {
            // The load was later than this change.
            Some(current) if *version <= current => return ApplyOutcome::Applied,
            Some(current) if *version == current + 1 => self.version = Some(*version),
            _ => return ApplyOutcome::ReloadNeeded,
        }
        match change {
            AssignmentChange::Assigned { assignment, .. } => {
                // This manager's own writes are in the view before their changes arrive.
                if self.get(&assignment.video_id).is_none_or(|known| known.epoch() < assignment.epoch()) {
                    self.take_over_assignment(now, assignment);
                }
            }
            AssignmentChange::Removed { video_id, .. } => self.remove(&video_id),
            AssignmentChange::Reset => {}
        }
        ApplyOutcome::Applied
    }

    /// Takes over one assignment that the store returned.
    pub fn take_over_assignment(&mut self, now: Instant, assignment: VideoAssignment) {
        self.insert_entry(AssignmentEntry { assignment, last_used_at: now, in_force_since: now });
    }

    fn insert_entry(&mut self, entry: AssignmentEntry) {
        self.remove(&entry.assignment.video_id);
        for share in entry.assignment.readers() {
            *self.video_counts.entry(share.reader.clone()).or_default() += 1;
        }
        self.highest_epoch = self.highest_epoch.max(entry.assignment.epoch());
        self.assignments.insert(entry.assignment.video_id.clone(), entry);
    }

    /// Removes the assignment of a video from the view.
    pub fn remove(&mut self, video: &VideoId) {
        let Some(entry) = self.assignments.remove(video) else { return };
        for share in entry.assignment.readers() {
            if let Some(count) = self.video_counts.get_mut(&share.reader) {
                *count -= 1;
                if *count == 0 {
                    self.video_counts.remove(&share.reader);
                }
            }
        }
    }

    /// Returns a video's assignment; `None` if it has none.
    pub fn get(&self, video: &VideoId) -> Option<&VideoAssignment> {
        self.assignments.get(video).map(|entry| &entry.assignment)
    }

    /// Returns the assignment that is in force for a video.
    pub fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders> {
        self.get(video).map(|assignment| &assignment.assigned_readers)
    }

    /// Returns the time at which this manager saw a video's assignment come into force; `None` if it has none.
    pub fn changed_at(&self, video: &VideoId) -> Option<Instant> {
        self.assignments.get(video).map(|entry| entry.in_force_since)
    }

    /// Notes that a video is in use at `now`.
    pub fn note_use(&mut self, now: Instant, video: &VideoId) {
        if let Some(entry) = self.assignments.get_mut(video) {
            entry.last_used_at = now;
        }
    }

    /// Returns videos that have not been in use for `idle`, with their epochs; the longest unused first, at most `most`
    /// of them.
    pub fn unused_videos(&self, now: Instant, idle: Duration, most: usize) -> Vec<(VideoId, u64)> {
        let mut unused: Vec<&AssignmentEntry> = self
            .assignments
            .values()
            .filter(|entry| now.saturating_duration_since(entry.last_used_at) >= idle)
            .collect();
        unused.sort_by_key(|entry| entry.last_used_at);
        unused.truncate(most);
        unused.iter().map(|entry| (entry.assignment.video_id.clone(), entry.assignment.epoch())).collect()
    }

    /// Returns all assignments.
    pub fn all_assignments(&self) -> impl Iterator<Item = &VideoAssignment> {
        self.assignments.values().map(|entry| &entry.assignment)
    }

    /// Returns the number of assigned videos.
    pub fn len(&self) -> usize {
        self.assignments.len()
    }

    /// Returns true if no video is assigned.
    pub fn is_empty(&self) -> bool {
        self.assignments.is_empty()
    }

    /// Returns the number of videos of a reader.
    pub fn video_count_of(&self, reader: &ReaderId) -> u64 {
        self.video_counts.get(reader).copied().unwrap_or(0)
    }

    /// Returns the readers that have videos.
    pub fn readers(&self) -> impl Iterator<Item = &ReaderId> {
        self.video_counts.keys()
    }

    /// Returns the highest epoch that was ever in this view.
    pub const fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::handover::ReaderShare;

    use super::*;

    fn video(name: &str) -> VideoId {
        VideoId::parse(name).unwrap()
    }

    fn assignment(name: &str, reader: &str, epoch: u64) -> VideoAssignment {
        let readers = vec![ReaderShare { reader: ReaderId::parse(reader).unwrap(), weight: 1 }];
        VideoAssignment { video_id: video(name), assigned_readers: AssignedReaders { epoch, readers } }
    }

    fn assigned(version: u64, name: &str, reader: &str, epoch: u64) -> AssignmentChange {
        AssignmentChange::Assigned { version, assignment: assignment(name, reader, epoch) }
    }

    fn loaded_view(version: u64, assignments: Vec<VideoAssignment>) -> AssignmentView {
        let mut view = AssignmentView::default();
        view.replace_all(Instant::now(), AssignmentSnapshot { version, assignments });
        view
    }

    fn videos_of(view: &AssignmentView, reader: &str) -> u64 {
        view.video_count_of(&ReaderId::parse(reader).unwrap())
    }

    #[test]
    fn changes_apply_after_the_snapshot() {
        let (mut view, now) = (loaded_view(5, vec![assignment("v", "a", 3)]), Instant::now());
        assert_eq!(view.apply_change(now, assigned(4, "v", "old", 2)), ApplyOutcome::Applied);
        assert_eq!(view.get(&video("v")).unwrap().epoch(), 3);
        assert_eq!(view.apply_change(now, assigned(6, "v", "b", 4)), ApplyOutcome::Applied);
        assert_eq!((videos_of(&view, "a"), videos_of(&view, "b")), (0, 1));
        let removed = AssignmentChange::Removed { version: 7, video_id: video("v") };
        assert_eq!(view.apply_change(now, removed), ApplyOutcome::Applied);
        assert!(view.is_empty());
        assert_eq!(view.readers().count(), 0);
    }

    #[test]
    fn version_gaps_and_resets_need_a_reload() {
        let (mut view, now) = (loaded_view(5, vec![]), Instant::now());
        assert_eq!(view.apply_change(now, assigned(7, "v", "a", 1)), ApplyOutcome::ReloadNeeded);
        assert!(view.is_empty());
        assert_eq!(view.apply_change(now, AssignmentChange::Reset), ApplyOutcome::ReloadNeeded);
        assert_eq!(
            AssignmentView::default().apply_change(now, assigned(1, "v", "a", 1)),
            ApplyOutcome::ReloadNeeded
        );
    }

    #[test]
    fn an_older_change_does_not_undo_an_own_write() {
        let (mut view, now) = (loaded_view(5, vec![]), Instant::now());
        view.take_over_assignment(now, assignment("v", "mine", 9));
        assert_eq!(view.apply_change(now, assigned(6, "v", "before", 8)), ApplyOutcome::Applied);
        assert_eq!(view.get(&video("v")).unwrap().epoch(), 9);
    }

    #[test]
    fn a_store_that_came_back_empty_is_believed() {
        let mut view = loaded_view(5, vec![assignment("v", "a", 3)]);
        view.replace_all(Instant::now(), AssignmentSnapshot::default());
        assert!(view.is_loaded() && view.is_empty());
        assert_eq!(view.highest_epoch(), 3);
    }

    #[test]
    fn unused_videos_are_listed_longest_first_also_after_a_reload() {
        let hour = Duration::from_hours(1);
        let mut view = AssignmentView::default();
        let start = Instant::now();
        let all = || ["a", "b", "c"].map(|name| assignment(name, "r", 1)).to_vec();
        view.replace_all(start, AssignmentSnapshot { version: 1, assignments: all() });
        view.note_use(start + Duration::from_secs(2), &video("a"));
        view.note_use(start + Duration::from_secs(1), &video("b"));
        view.note_use(start + hour, &video("c"));
        let now = start + hour + Duration::from_mins(1);
        view.replace_all(now, AssignmentSnapshot { version: 2, assignments: all() });
        let unused = |most| {
            view.unused_videos(now, hour, most)
                .into_iter()
                .map(|(video, _)| video.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(unused(10), ["b", "a"]);
        assert_eq!(unused(1), ["b"]);
    }
}
