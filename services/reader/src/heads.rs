//! Comparing heads: the way in which a reader learns of comments that the comment bus did not deliver.
//!
//! Every second, and at once if the bus reports that something may have been missed, the reader asks the bus for the
//! heads of all watched videos. The heads that the bus does not keep (all of them, if the bus is away) and a rotating
//! part of the others are read from the archive, which is authoritative, so that an emptied or outdated bus is noticed
//! too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liverank_adapters::StoreError;
use liverank_core::VideoId;

use crate::channel::VideoChannel;
use crate::hub::{ChannelHub, STORE_TIMEOUT};

/// The shortest time between two comparisons of heads, however often somebody requests one.
const MIN_COMPARISON_INTERVAL: Duration = Duration::from_millis(100);
/// The extra pause if nobody requests a comparison: together with the shortest time, one second.
const MAX_EXTRA_PAUSE: Duration = Duration::from_millis(900);
/// The maximum number of videos in one query for heads, so that an answer stays in the tens of kilobytes.
const MAX_VIDEOS_PER_QUERY: usize = 500;
/// The number of comparisons in which each video's head is read from the archive at least once.
const ROUNDS_PER_ARCHIVE_READ: usize = 10;
/// The number of comparisons in which the archive's comment epoch is read once.
const ROUNDS_PER_META_READ: usize = 5;

/// Compares heads once a second, and at once when requested, for ever.
pub async fn run(hub: Arc<ChannelHub>) {
    for round in 0_usize.. {
        compare_heads(&hub, round).await;
        tokio::time::sleep(MIN_COMPARISON_INTERVAL).await;
        let _ = tokio::time::timeout(MAX_EXTRA_PAUSE, hub.head_comparison_requested.notified()).await;
    }
}

async fn compare_heads(hub: &Arc<ChannelHub>, round: usize) {
    if round.is_multiple_of(ROUNDS_PER_META_READ)
        || hub.comment_epoch().is_none()
        || hub.must_reread_comment_epoch.load(Ordering::Relaxed)
    {
        hub.read_comment_epoch().await;
    }
    let rooms = hub.channels();
    for chunk in rooms.chunks(MAX_VIDEOS_PER_QUERY) {
        let unsure = compare_with_bus(hub, chunk, round).await;
        if !unsure.is_empty() {
            hub.compare_with_archive(&unsure).await;
        }
    }
}

/// Compares the channels with the bus's heads. Returns the channels whose head has to be read from the archive.
async fn compare_with_bus(
    hub: &Arc<ChannelHub>,
    rooms: &[Arc<VideoChannel>],
    round: usize,
) -> Vec<Arc<VideoChannel>> {
    let videos: Vec<VideoId> = rooms.iter().map(|room| room.video.clone()).collect();
    let Some(heads) = hub.read_bus_heads(&videos).await else { return rooms.to_vec() };
    let numbering = hub.comment_epoch();
    let due = round % ROUNDS_PER_ARCHIVE_READ;
    let mut unsure = Vec::new();
    for (at, (room, head)) in rooms.iter().zip(heads).enumerate() {
        match head {
            Some(head) if numbering.as_ref().is_none_or(|numbering| *numbering == head.comment_epoch) => {
                let numbering = hub.comment_epoch_or_adopt(&head.comment_epoch);
                if numbering == head.comment_epoch {
                    hub.note_head(room, &numbering, head.seq);
                }
                if at % ROUNDS_PER_ARCHIVE_READ == due || !hub.is_channel_subscribed(room) {
                    unsure.push(Arc::clone(room));
                }
            }
            _ => unsure.push(Arc::clone(room)),
        }
    }
    unsure
}

impl ChannelHub {
    /// Reads the comment epoch in force from the archive.
    pub(crate) async fn read_comment_epoch(&self) {
        match within_timeout(self.archive.archive_meta()).await {
            Ok(Some(meta)) => {
                self.must_reread_comment_epoch.store(false, Ordering::Relaxed);
                self.set_comment_epoch(&meta.comment_epoch);
            }
            // No consumer has opened the archive yet, so there are no comments either.
            Ok(None) => {
                for room in self.channels().iter().filter(|room| room.newest_in_ring().is_none()) {
                    room.note_no_archive();
                }
            }
            Err(error) => self.note_archive_answer::<()>(&Err(error)),
        }
    }

    /// Returns the heads that the bus keeps, `None` for each that it does not keep; `None` as a whole if the bus is
    /// away.
    async fn read_bus_heads(
        &self,
        videos: &[VideoId],
    ) -> Option<Vec<Option<liverank_adapters::comment_bus::ChannelHead>>> {
        match within_timeout(self.bus.channel_heads(videos)).await {
            Ok(heads) => Some(heads),
            Err(error) => {
                self.health.note_dependency("comment bus", Err(error.to_string()));
                None
            }
        }
    }

    /// Compares the channels with the heads in the archive.
    async fn compare_with_archive(self: &Arc<Self>, rooms: &[Arc<VideoChannel>]) {
        // Without a comment epoch there is no archive yet, or it was away a moment ago.
        let Some(numbering) = self.comment_epoch() else { return };
        let videos: Vec<VideoId> = rooms.iter().map(|room| room.video.clone()).collect();
        let heads = within_timeout(self.archive.last_seqs(&videos)).await;
        self.note_archive_answer(&heads);
        for (room, seq) in rooms.iter().zip(heads.into_iter().flatten()) {
            self.note_head(room, &numbering, seq);
        }
    }

    /// Reads the head of a channel from the bus, and from the archive if the bus does not have it.
    pub(crate) async fn read_head(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        if self.comment_epoch().is_none() {
            self.read_comment_epoch().await;
        }
        let unsure = compare_with_bus(self, std::slice::from_ref(room), 0).await;
        // An outdated head from the bus does no harm here, and the archive may be away.
        if room.newest_in_ring().is_none() {
            self.compare_with_archive(&unsure).await;
        }
    }

    /// Reads a channel's head from the archive, for a viewer that claims to have seen more than this reader knows of.
    /// Returns true if the archive answered.
    pub(crate) async fn read_head_from_archive(self: &Arc<Self>, room: &Arc<VideoChannel>) -> bool {
        let heads = within_timeout(self.archive.last_seqs(std::slice::from_ref(&room.video))).await;
        self.note_archive_answer(&heads);
        let (Ok(heads), Some(numbering)) = (heads, self.comment_epoch()) else { return false };
        for seq in heads {
            self.note_head(room, &numbering, seq);
        }
        true
    }

    fn note_head(
        self: &Arc<Self>,
        room: &Arc<VideoChannel>,
        numbering: &liverank_core::CommentEpoch,
        seq: u64,
    ) {
        let before = room.newest_in_ring();
        room.note_head(numbering, seq);
        // Viewers who connected earlier are told their position now.
        if before.is_none_or(|before| before.comment_epoch != *numbering) {
            self.fanout.notify_threads(room);
        }
        if room.first_hole().is_some() {
            self.start_repair(room);
        }
    }

    pub(crate) fn note_archive_answer<T>(&self, answer: &Result<T, StoreError>) {
        self.health.note_dependency("archive", answer.as_ref().map(drop).map_err(ToString::to_string));
    }
}

/// Returns the store's answer, or the error "unavailable" if the store takes longer than `STORE_TIMEOUT`.
pub(crate) async fn within_timeout<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(STORE_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable("store", "no answer in time")))
}
