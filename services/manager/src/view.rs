//! The assignments as this manager knows them: all of them, kept up by the store's changes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{Assignment, Change, State};
use liverank_core::handover::Assigned;
use liverank_core::{ReaderId, VideoId};

/// The outcome of applying a change of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The change was applied.
    Done,
    /// Changes are missing in between, or may be: everything has to be loaded again.
    Reload,
}

/// All assignments.
#[derive(Debug, Default)]
pub struct View {
    /// What it stands at; `None` before the first load.
    version: Option<u64>,
    assignments: HashMap<VideoId, AssignmentEntry>,
    /// How many videos each reader has.
    videos: HashMap<ReaderId, u64>,
    highest_epoch: u64,
}

#[derive(Debug)]
struct AssignmentEntry {
    assignment: Assignment,
    /// When it was last registered or watched, as far as this manager knows.
    used: Instant,
    /// When this manager saw it come into force.
    changed: Instant,
}

impl View {
    /// Whether it was ever loaded. Before that, a video that is not in it may have a reader in the store.
    pub const fn is_loaded(&self) -> bool {
        self.version.is_some()
    }

    /// Takes over what the store holds; what is known of the videos' use is kept.
    pub fn load(&mut self, now: Instant, state: State) {
        if self.version == Some(state.version) {
            return;
        }
        let mut old = std::mem::take(&mut self.assignments);
        self.videos.clear();
        self.version = Some(state.version);
        for assignment in state.assignments {
            let known = old.remove(&assignment.video_id);
            let used = known.as_ref().map_or(now, |entry| entry.used);
            let same = known.filter(|entry| entry.assignment.epoch() == assignment.epoch());
            let changed = same.map_or(now, |entry| entry.changed);
            self.insert_entry(AssignmentEntry { assignment, used, changed });
        }
    }

    /// Takes over a change.
    pub fn apply(&mut self, now: Instant, change: Change) -> Applied {
        let (Change::Assigned { version, .. } | Change::Removed { version, .. }) = &change else {
            return Applied::Reload;
        };
        match self.version {
            // The load was later than the change.
            Some(current) if *version <= current => return Applied::Done,
            Some(current) if *version == current + 1 => self.version = Some(*version),
            _ => return Applied::Reload,
        }
        match change {
            Change::Assigned { assignment, .. } => {
                // This manager's own writes are here before the news of them.
                if self.get(&assignment.video_id).is_none_or(|known| known.epoch() < assignment.epoch()) {
                    self.put(now, assignment);
                }
            }
            Change::Removed { video_id, .. } => self.remove(&video_id),
            Change::Reset => {}
        }
        Applied::Done
    }

    /// Takes over an assignment that the store answered.
    pub fn put(&mut self, now: Instant, assignment: Assignment) {
        self.insert_entry(AssignmentEntry { assignment, used: now, changed: now });
    }

    fn insert_entry(&mut self, entry: AssignmentEntry) {
        self.remove(&entry.assignment.video_id);
        for share in entry.assignment.readers() {
            *self.videos.entry(share.reader.clone()).or_default() += 1;
        }
        self.highest_epoch = self.highest_epoch.max(entry.assignment.epoch());
        self.assignments.insert(entry.assignment.video_id.clone(), entry);
    }

    /// Takes a video out.
    pub fn remove(&mut self, video: &VideoId) {
        let Some(entry) = self.assignments.remove(video) else { return };
        for share in entry.assignment.readers() {
            if let Some(count) = self.videos.get_mut(&share.reader) {
                *count -= 1;
                if *count == 0 {
                    self.videos.remove(&share.reader);
                }
            }
        }
    }

    /// A video's assignment.
    pub fn get(&self, video: &VideoId) -> Option<&Assignment> {
        self.assignments.get(video).map(|entry| &entry.assignment)
    }

    /// Returns the assignment that is in force for a video.
    pub fn assigned(&self, video: &VideoId) -> Option<&Assigned> {
        self.get(video).map(|assignment| &assignment.assigned)
    }

    /// When this manager saw a video's assignment come into force.
    pub fn changed(&self, video: &VideoId) -> Option<Instant> {
        self.assignments.get(video).map(|entry| entry.changed)
    }

    /// Notes that a video is in use.
    pub fn touch(&mut self, now: Instant, video: &VideoId) {
        if let Some(entry) = self.assignments.get_mut(video) {
            entry.used = now;
        }
    }

    /// Videos not in use for `idle`, the longest unused first, at most `most` of them.
    pub fn unused(&self, now: Instant, idle: Duration, most: usize) -> Vec<(VideoId, u64)> {
        let mut unused: Vec<&AssignmentEntry> = self
            .assignments
            .values()
            .filter(|entry| now.saturating_duration_since(entry.used) >= idle)
            .collect();
        unused.sort_by_key(|entry| entry.used);
        unused.truncate(most);
        unused.iter().map(|entry| (entry.assignment.video_id.clone(), entry.assignment.epoch())).collect()
    }

    /// Every assignment.
    pub fn all(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.values().map(|entry| &entry.assignment)
    }

    /// How many videos are assigned.
    pub fn len(&self) -> usize {
        self.assignments.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.assignments.is_empty()
    }

    /// How many videos a reader has.
    pub fn videos_of(&self, reader: &ReaderId) -> u64 {
        self.videos.get(reader).copied().unwrap_or(0)
    }

    /// Readers that have videos.
    pub fn readers(&self) -> impl Iterator<Item = &ReaderId> {
        self.videos.keys()
    }

    /// The highest epoch ever seen here.
    pub const fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::handover::Share;

    use super::*;

    fn video(name: &str) -> VideoId {
        VideoId::parse(name).unwrap()
    }

    fn assignment(name: &str, reader: &str, epoch: u64) -> Assignment {
        let readers = vec![Share { reader: ReaderId::parse(reader).unwrap(), weight: 1 }];
        Assignment { video_id: video(name), assigned: Assigned { epoch, readers } }
    }

    fn assigned(version: u64, name: &str, reader: &str, epoch: u64) -> Change {
        Change::Assigned { version, assignment: assignment(name, reader, epoch) }
    }

    fn loaded_view(version: u64, assignments: Vec<Assignment>) -> View {
        let mut view = View::default();
        view.load(Instant::now(), State { version, assignments });
        view
    }

    fn videos_of(view: &View, reader: &str) -> u64 {
        view.videos_of(&ReaderId::parse(reader).unwrap())
    }

    #[test]
    fn changes_apply_after_the_snapshot() {
        let (mut view, now) = (loaded_view(5, vec![assignment("v", "a", 3)]), Instant::now());
        assert_eq!(view.apply(now, assigned(4, "v", "old", 2)), Applied::Done);
        assert_eq!(view.get(&video("v")).unwrap().epoch(), 3);
        assert_eq!(view.apply(now, assigned(6, "v", "b", 4)), Applied::Done);
        assert_eq!((videos_of(&view, "a"), videos_of(&view, "b")), (0, 1));
        let removed = Change::Removed { version: 7, video_id: video("v") };
        assert_eq!(view.apply(now, removed), Applied::Done);
        assert!(view.is_empty());
        assert_eq!(view.readers().count(), 0);
    }

    #[test]
    fn version_gaps_and_resets_need_a_reload() {
        let (mut view, now) = (loaded_view(5, vec![]), Instant::now());
        assert_eq!(view.apply(now, assigned(7, "v", "a", 1)), Applied::Reload);
        assert!(view.is_empty());
        assert_eq!(view.apply(now, Change::Reset), Applied::Reload);
        assert_eq!(View::default().apply(now, assigned(1, "v", "a", 1)), Applied::Reload);
    }

    #[test]
    fn an_older_change_does_not_undo_an_own_write() {
        let (mut view, now) = (loaded_view(5, vec![]), Instant::now());
        view.put(now, assignment("v", "mine", 9));
        assert_eq!(view.apply(now, assigned(6, "v", "before", 8)), Applied::Done);
        assert_eq!(view.get(&video("v")).unwrap().epoch(), 9);
    }

    #[test]
    fn a_store_that_came_back_empty_is_believed() {
        let mut view = loaded_view(5, vec![assignment("v", "a", 3)]);
        view.load(Instant::now(), State::default());
        assert!(view.is_loaded() && view.is_empty());
        assert_eq!(view.highest_epoch(), 3);
    }

    #[test]
    fn unused_videos_are_listed_longest_first_also_after_a_reload() {
        let hour = Duration::from_hours(1);
        let mut view = View::default();
        let start = Instant::now();
        let all = || ["a", "b", "c"].map(|name| assignment(name, "r", 1)).to_vec();
        view.load(start, State { version: 1, assignments: all() });
        view.touch(start + Duration::from_secs(2), &video("a"));
        view.touch(start + Duration::from_secs(1), &video("b"));
        view.touch(start + hour, &video("c"));
        let now = start + hour + Duration::from_mins(1);
        view.load(now, State { version: 2, assignments: all() });
        let unused = |most| {
            view.unused(now, hour, most).into_iter().map(|(video, _)| video.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(unused(10), ["b", "a"]);
        assert_eq!(unused(1), ["b"]);
    }
}
