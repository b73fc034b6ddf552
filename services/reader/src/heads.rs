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
const VIDEOS_A_QUESTION: usize = 500;
/// The number of comparisons in which each video's head is read from the archive at least once.
const ARCHIVE_ROUNDS: usize = 10;
/// The number of comparisons in which the archive's comment epoch is read once.
const META_CHECK_ROUNDS: usize = 5;

/// Compares heads once a second, and at once when requested, for ever.
pub async fn run(hub: Arc<ChannelHub>) {
    for round in 0_usize.. {
        compare_heads(&hub, round).await;
        tokio::time::sleep(MIN_COMPARISON_INTERVAL).await;
        let _ = tokio::time::timeout(MAX_EXTRA_PAUSE, hub.compare_heads.notified()).await;
    }
}

async fn compare_heads(hub: &Arc<ChannelHub>, round: usize) {
    if round.is_multiple_of(META_CHECK_ROUNDS)
        || hub.numbering().is_none()
        || hub.is_numbering_doubted.load(Ordering::Relaxed)
    {
        hub.read_numbering().await;
    }
    let rooms = hub.rooms();
    for chunk in rooms.chunks(VIDEOS_A_QUESTION) {
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
    let numbering = hub.numbering();
    let due = round % ARCHIVE_ROUNDS;
    let mut unsure = Vec::new();
    for (at, (room, head)) in rooms.iter().zip(heads).enumerate() {
        match head {
            Some(head) if numbering.as_ref().is_none_or(|numbering| *numbering == head.comment_epoch) => {
                let numbering = hub.adopt_numbering(&head.comment_epoch);
                if numbering == head.comment_epoch {
                    hub.note_head(room, &numbering, head.seq);
                }
                if at % ARCHIVE_ROUNDS == due || !hub.is_subscribed(room) {
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
    pub(crate) async fn read_numbering(&self) {
        match within_timeout(self.archive.archive_meta()).await {
            Ok(Some(meta)) => {
                self.is_numbering_doubted.store(false, Ordering::Relaxed);
                self.set_numbering(&meta.comment_epoch);
            }
            // No consumer has opened the archive yet, so there are no comments either.
            Ok(None) => {
                for room in self.rooms().iter().filter(|room| room.head_position().is_none()) {
                    room.note_no_archive();
                }
            }
            Err(error) => self.note_archive::<()>(&Err(error)),
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
        let Some(numbering) = self.numbering() else { return };
        let videos: Vec<VideoId> = rooms.iter().map(|room| room.video.clone()).collect();
        let heads = within_timeout(self.archive.last_seqs(&videos)).await;
        self.note_archive(&heads);
        for (room, seq) in rooms.iter().zip(heads.into_iter().flatten()) {
            self.note_head(room, &numbering, seq);
        }
    }

    /// Reads the head of a channel from the bus, and from the archive if the bus does not have it.
    pub(crate) async fn read_head(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        if self.numbering().is_none() {
            self.read_numbering().await;
        }
        let unsure = compare_with_bus(self, std::slice::from_ref(room), 0).await;
        // An outdated head from the bus does no harm here, and the archive may be away.
        if room.head_position().is_none() {
            self.compare_with_archive(&unsure).await;
        }
    }

    /// Reads a channel's head from the archive, for a viewer that claims to have seen more than this reader knows of.
    /// Returns whether the archive answered.
    pub(crate) async fn confirm_head(self: &Arc<Self>, room: &Arc<VideoChannel>) -> bool {
        let heads = within_timeout(self.archive.last_seqs(std::slice::from_ref(&room.video))).await;
        self.note_archive(&heads);
        let (Ok(heads), Some(numbering)) = (heads, self.numbering()) else { return false };
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
        let before = room.head_position();
        room.note_head(numbering, seq);
        // Viewers who connected earlier are told their position now.
        if before.is_none_or(|before| before.comment_epoch != *numbering) {
            self.fanout.notify_threads(room);
        }
        if room.first_hole().is_some() {
            self.repair(room);
        }
    }

    pub(crate) fn note_archive<T>(&self, answer: &Result<T, StoreError>) {
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
