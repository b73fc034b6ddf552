//! A batch that the archive committed, and how batches that wait are merged.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use liverank_adapters::archive::ArchiveMeta;
use liverank_core::VideoId;
use liverank_core::counting::{BatchEffects, NumberedComment, OffsetRange, VideoState};
use liverank_core::windows::WindowChange;

use crate::traces::TracedRecord;

/// The changes of a batch that boards show. The projectors of all boards share the changes.
#[derive(Debug, Clone, Default)]
pub struct BoardChanges {
    /// The new states of the videos that changed.
    pub videos: Vec<VideoState>,
    /// The amounts to add to the counters of windows.
    pub windows: Vec<WindowChange>,
    /// If windows are counted: the videos whose owner, metadata or presence on boards the batch changed.
    pub restated: Vec<VideoId>,
}

impl BoardChanges {
    /// Separates a batch's effects into the changes for boards and the new comments.
    pub fn of(effects: BatchEffects) -> (Self, Vec<NumberedComment>) {
        let BatchEffects { videos, window_changes, videos_changed_beyond_counters, comments, .. } = effects;
        (Self { videos, windows: window_changes, restated: videos_changed_beyond_counters }, comments)
    }

    /// Adds the changes of a later batch; the later state of a video replaces the earlier one.
    fn extend(&mut self, next: Self) {
        let changed: HashSet<&VideoId> = next.videos.iter().map(|state| &state.video_id).collect();
        self.videos.retain(|state| !changed.contains(&state.video_id));
        self.videos.extend(next.videos);
        self.windows.extend(next.windows);
        self.restated.extend(next.restated);
    }
}

/// A batch that the archive committed, as the projector gets it.
pub struct CommittedBatch {
    /// The offset ranges of the log that the batch covered.
    pub offset_ranges: Vec<OffsetRange>,
    /// The changes of the batch that boards show.
    pub board_changes: Arc<BoardChanges>,
    /// The new comments of the batch.
    pub new_comments: Vec<NumberedComment>,
    /// The videos whose metadata the batch set or removed; their metadata are stored beside the boards.
    pub described_videos: Vec<VideoId>,
    /// The archive's meta document that was in force at the commit.
    pub archive_meta: ArchiveMeta,
    /// The time of the commit.
    pub committed_at: Instant,
    /// The records of the batch for which spans are recorded.
    pub traced_records: Vec<TracedRecord>,
}

impl CommittedBatch {
    /// Returns a copy with only the parts that a declared board needs.
    pub(crate) fn for_declared(&self) -> Self {
        Self { board_changes: Arc::clone(&self.board_changes), ..self.without_effects() }
    }

    /// Returns a copy with the offset ranges and the meta document, and without any effects.
    pub(crate) fn without_effects(&self) -> Self {
        Self {
            offset_ranges: self.offset_ranges.clone(),
            board_changes: Arc::default(),
            new_comments: Vec::new(),
            described_videos: Vec::new(),
            archive_meta: self.archive_meta.clone(),
            committed_at: self.committed_at,
            traced_records: Vec::new(),
        }
    }

    /// Merges `next` into this batch. Returns `next` as the error if records lie between the two, or the archive's meta
    /// document changed.
    pub(crate) fn merge_batch(&mut self, next: Self) -> Result<(), Box<Self>> {
        let follows = |span: &OffsetRange| {
            let before = self.offset_ranges.iter().find(|before| before.partition == span.partition);
            before.is_none_or(|before| before.next == span.first)
        };
        if next.archive_meta != self.archive_meta || !next.offset_ranges.iter().all(follows) {
            return Err(Box::new(next));
        }
        for span in next.offset_ranges {
            match self.offset_ranges.iter_mut().find(|before| before.partition == span.partition) {
                Some(before) => {
                    before.next = span.next;
                    before.last_record = span.last_record.or(before.last_record.take());
                }
                None => self.offset_ranges.push(span),
            }
        }
        // The changes are copied only if the projector of another board still uses them.
        Arc::make_mut(&mut self.board_changes).extend(Arc::unwrap_or_clone(next.board_changes));
        self.new_comments.extend(next.new_comments);
        self.described_videos.extend(next.described_videos);
        self.traced_records.extend(next.traced_records);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::UserId;
    use liverank_core::comment::CommentEpoch;
    use liverank_core::counting::{CountingRules, RecordFingerprint};
    use liverank_core::decays::{CountedDecays, DecayedScores};
    use liverank_core::score::Counters;
    use liverank_core::windows::CountedWindows;

    use super::*;

    fn batch(generation: u64, spans: &[(u32, u64, u64)], videos: &[(&str, i64)]) -> CommittedBatch {
        let state = |&(id, views): &(&str, i64)| VideoState {
            video_id: VideoId::parse(id).unwrap(),
            owner: UserId::parse("o").unwrap(),
            is_owner_given: false,
            counters: Counters { views, ..Counters::default() },
            last_seq: 0,
            trending_log2: 0.0,
            decayed_scores: DecayedScores::default(),
            revision_corrections: 0,
            metadata: None,
            removed_by: None,
        };
        let span = |&(partition, from, next): &(u32, u64, u64)| OffsetRange {
            partition,
            first: from,
            next,
            last_record: Some(RecordFingerprint { broker_time: next as i64, digest: next }),
        };
        CommittedBatch {
            offset_ranges: spans.iter().map(span).collect(),
            board_changes: Arc::new(BoardChanges {
                videos: videos.iter().map(state).collect(),
                ..BoardChanges::default()
            }),
            new_comments: Vec::new(),
            described_videos: Vec::new(),
            archive_meta: ArchiveMeta {
                comment_epoch: CommentEpoch::from_bits(1),
                generation,
                counting_rules: CountingRules::default(),
                windows: CountedWindows::default(),
                decays: CountedDecays::default(),
            },
            committed_at: Instant::now(),
            traced_records: Vec::new(),
        }
    }

    #[test]
    fn adjacent_batches_are_merged_with_the_later_states() {
        let mut first = batch(1, &[(0, 0, 5), (1, 3, 4)], &[("a", 1), ("b", 1)]);
        assert!(first.merge_batch(batch(1, &[(0, 5, 9), (2, 7, 8)], &[("b", 2), ("c", 2)])).is_ok());
        let spans: Vec<_> =
            first.offset_ranges.iter().map(|span| (span.partition, span.first, span.next)).collect();
        assert_eq!(spans, [(0, 0, 9), (1, 3, 4), (2, 7, 8)]);
        let last: Vec<_> = first.offset_ranges.iter().map(|span| span.last_record.unwrap().digest).collect();
        assert_eq!(last, [9, 4, 8], "the last record of the later batch");
        let videos = first.board_changes.videos.iter();
        let videos: Vec<_> = videos.map(|state| (state.video_id.as_str(), state.counters.views)).collect();
        assert_eq!(videos, [("a", 1), ("b", 2), ("c", 2)]);
    }

    #[test]
    fn batches_with_a_gap_are_not_merged() {
        let mut first = batch(1, &[(0, 0, 5)], &[("a", 1)]);
        for apart in [batch(1, &[(0, 6, 7)], &[]), batch(2, &[(0, 5, 7)], &[])] {
            let spans = apart.offset_ranges.clone();
            assert_eq!(first.merge_batch(apart).unwrap_err().offset_ranges, spans);
        }
        assert_eq!((first.offset_ranges[0].next, first.board_changes.videos.len()), (5, 1));
    }
}
