//! Fetching comments that the bus did not deliver: those missing in a ring, and those that a returning viewer missed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use liverank_adapters::StoreError;
use liverank_adapters::archive::CommentPage;
use liverank_core::comment::{Comment, CommentEpoch, StreamPosition};
use liverank_core::{VideoId, canary};

use crate::channel::{self, VideoChannel};
use crate::heads::within_timeout;
use crate::hub::ChannelHub;
use crate::metrics::{CommentSource, SourceLabel};
use crate::ring::{PushOutcome, RingHole};

/// The time that a hole is left to close by itself: comments that are on their way arrive within a few milliseconds.
const WAIT_FOR_HOLE: Duration = Duration::from_millis(50);
/// The pause after a fetch that brought no comments; after the second such fetch in a row it is twice as long, after
/// the third three times, up to a second.
const RETRY_AFTER: Duration = Duration::from_millis(250);
const MAX_RETRY_STEPS: u32 = 4;
/// The time that connected viewers wait for a hole to be filled. After that time, the viewers are told of a gap,
/// because the comments behind the hole have waited long enough.
const HOLE_FILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a returning viewer waits for the comments that it missed. After that time, the viewer is told of a
/// gap.
const RESUME_FILL_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of comments in one fetch: some hundred kilobytes.
const MAX_PAGE_COMMENTS: u64 = 500;
/// Fetches for a returning viewer begin at a multiple of this sequence number, so that the next returning viewers find
/// the comments in the ring.
const PAGE_START_ALIGNMENT: u64 = 50;

impl ChannelHub {
    /// Fetches the first comments of a hole, at most `MAX_PAGE_COMMENTS`, in order and without a gap between them.
    /// Returns the comments and the store that had them. The bus is asked first, because the archive is shared with
    /// those who write.
    async fn fetch_comments(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        hole: RingHole,
    ) -> Result<(Vec<Comment>, CommentSource), StoreError> {
        let limit = (hole.last - hole.before_first).min(MAX_PAGE_COMMENTS) as usize;
        let _permit = self.fetch_permits.acquire().await;
        match within_timeout(self.bus.recent_comments(numbering, video, hole.before_first, limit)).await {
            Ok(Some(comments)) if !comments.is_empty() => {
                return Ok((without_holes(comments, hole.before_first), CommentSource::Bus));
            }
            Ok(_) => {}
            Err(error) => self.health.note_dependency("comment bus", Err(error.to_string())),
        }
        let comments =
            within_timeout(self.archive.comments(video, CommentPage::After(hole.before_first), limit)).await;
        self.note_archive_answer(&comments);
        Ok((without_holes(comments?, hole.before_first), CommentSource::Archive))
    }

    /// Starts the task that fills the channel's holes, unless one is running: at most one for each channel.
    pub(crate) fn start_repair(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        if room.is_repairing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (hub, room) = (Arc::clone(self), Arc::clone(room));
        tokio::spawn(async move {
            loop {
                hub.fill_holes(&room).await;
                room.is_repairing.store(false, Ordering::Release);
                // Continues if a hole appeared in between and no other task has begun to fill it.
                if room.first_hole().is_none() || room.is_repairing.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }

    async fn fill_holes(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        tokio::time::sleep(WAIT_FOR_HOLE).await;
        let mut deadline = Instant::now() + HOLE_FILL_TIMEOUT;
        let mut tries = 0;
        while let Some((numbering, hole)) = room.first_hole() {
            let filled = match self.fetch_comments(&numbering, &room.video, hole).await {
                Ok((comments, from)) => self.insert_fetched(room, &numbering, &comments, from),
                Err(_) => 0,
            };
            if filled > 0 {
                self.show_new_comments(room, filled);
                (deadline, tries) = (Instant::now() + HOLE_FILL_TIMEOUT, 0);
                continue;
            }
            if Instant::now() >= deadline {
                let lost = room.skip_lowest_hole();
                // The canary's comments are in no archive; the canary itself reports lost ones.
                if !canary::is_canary(&room.video) {
                    self.metrics.lost_comments.inc_by(lost);
                }
                self.show_new_comments(room, 1);
                return;
            }
            tries = (tries + 1).min(MAX_RETRY_STEPS);
            tokio::time::sleep(RETRY_AFTER * tries).await;
        }
    }

    fn insert_fetched(
        &self,
        room: &VideoChannel,
        numbering: &CommentEpoch,
        comments: &[Comment],
        from: CommentSource,
    ) -> u64 {
        let mut filled = 0;
        for comment in comments {
            match room.push(numbering, comment) {
                Some(PushOutcome::Appended(count)) => {
                    filled += count;
                    self.metrics.backfilled_comments.get_or_create(&SourceLabel { source: from }).inc();
                }
                // A comment that the bus delivered meanwhile is not counted as a repeat of the bus.
                Some(PushOutcome::Repeat) | None => {}
                Some(pushed) => channel::count_pushed(&self.metrics, pushed),
            }
        }
        filled
    }

    /// Fetches into the ring what a viewer at `position` missed, as far back as rings reach, and counts where the
    /// comments were found. Returns their source; `None` if the position is not one of this video's.
    pub(crate) async fn backfill_for_resume(
        self: &Arc<Self>,
        room: &Arc<VideoChannel>,
        position: &StreamPosition,
    ) -> Option<CommentSource> {
        if self.is_position_beyond_head(room, position).await {
            return None;
        }
        if room.newest_in_ring().is_some_and(|head| head.comment_epoch != position.comment_epoch) {
            self.metrics.count_resume(CommentSource::Gap);
            return Some(CommentSource::Gap);
        }
        let found = tokio::time::timeout(RESUME_FILL_TIMEOUT, self.fill_back_to(room, position))
            .await
            .unwrap_or(CommentSource::Gap);
        self.metrics.count_resume(found);
        Some(found)
    }

    /// Returns true if a viewer claims to have seen a comment that does not exist. If the claim cannot be checked, the
    /// viewer is believed: the ids of all readers are the same, and another reader may have been ahead of this one.
    async fn is_position_beyond_head(
        self: &Arc<Self>,
        room: &Arc<VideoChannel>,
        position: &StreamPosition,
    ) -> bool {
        let knows = |room: &VideoChannel| {
            room.newest_known_position().is_none_or(|known| {
                known.comment_epoch != position.comment_epoch || known.seq >= position.seq
            })
        };
        !knows(room) && self.read_head_from_archive(room).await && !knows(room)
    }

    /// Fills the ring back to `position`, as far as the ring reaches. Returns the source that had the comments.
    pub(crate) async fn fill_back_to(
        self: &Arc<Self>,
        room: &Arc<VideoChannel>,
        position: &StreamPosition,
    ) -> CommentSource {
        let mut source = CommentSource::Ring;
        if room.missing_since(position).is_none() {
            return source;
        }
        // The other tasks wait, and then find the comments in the ring.
        let _one_at_a_time = room.backfill_lock.lock().await;
        while let Some(lack) = room.missing_since(position) {
            let reach = room
                .newest_in_ring()
                .map_or(0, |head| head.seq)
                .saturating_sub(self.settings.ring_length as u64);
            let hole = RingHole {
                before_first: (lack.before_first - lack.before_first % PAGE_START_ALIGNMENT)
                    .max(reach)
                    .min(lack.before_first),
                ..lack
            };
            match self.fetch_hole(&position.comment_epoch, &room.video, hole).await {
                Ok((comments, from)) => {
                    room.restore_earlier(&position.comment_epoch, &comments);
                    source = from;
                    if room
                        .missing_since(position)
                        .is_some_and(|still| still.before_first <= lack.before_first)
                    {
                        return CommentSource::Gap;
                    }
                }
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
        source
    }

    /// Fetches all comments of a hole, which is at most as long as a ring. Returns them with their source: the archive
    /// if any came from there.
    async fn fetch_hole(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        hole: RingHole,
    ) -> Result<(Vec<Comment>, CommentSource), StoreError> {
        let (mut all, mut source) = (Vec::new(), CommentSource::Bus);
        let mut rest = hole;
        while rest.before_first < rest.last {
            let (comments, from) = self.fetch_comments(numbering, video, rest).await?;
            let Some(last) = comments.last() else { break };
            rest.before_first = last.seq;
            if from == CommentSource::Archive {
                source = from;
            }
            all.extend(comments);
        }
        Ok((all, source))
    }
}

/// Returns the comments that follow sequence number `after` without a gap; drops all after the first gap.
fn without_holes(comments: Vec<Comment>, after: u64) -> Vec<Comment> {
    let numbers = after + 1..;
    comments
        .into_iter()
        .zip(numbers)
        .take_while(|(comment, seq)| comment.seq == *seq)
        .map(|(comment, _)| comment)
        .collect()
}
