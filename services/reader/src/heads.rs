//! Comparing heads: how a reader learns of comments that the bus did not bring.
//!
//! Every second, and at once when the bus says that something may have been missed, the heads of all watched videos are
//! asked of the bus; those it does not keep (or all, where it is away) and a rotating part of the others are asked of
//! the archive, which is what counts, so that an emptied or outdated bus is noticed too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liverank_adapters::StoreError;
use liverank_core::VideoId;

use crate::channel::VideoChannel;
use crate::hub::{ChannelHub, STORE_TIMEOUT};

/// The least time between two comparisons, however often somebody asks for one.
const MIN_COMPARISON_INTERVAL: Duration = Duration::from_millis(100);
/// How much longer it is where nobody asks: together a second.
const MAX_EXTRA_PAUSE: Duration = Duration::from_millis(900);
/// Videos asked for at once: an answer stays in the tens of kilobytes.
const VIDEOS_A_QUESTION: usize = 500;
/// Each video's head is asked of the archive at least once in this many comparisons.
const ARCHIVE_ROUNDS: usize = 10;
/// The archive's comment epoch is looked at once in this many comparisons.
const META_CHECK_ROUNDS: usize = 5;

/// Compares heads for ever.
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

/// Compares the rooms with the bus's heads. Returns the rooms that the archive must be asked about.
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
    /// Asks the archive which numbering is in force.
    pub(crate) async fn read_numbering(&self) {
        match within_timeout(self.archive.archive_meta()).await {
            Ok(Some(meta)) => {
                self.is_numbering_doubted.store(false, Ordering::Relaxed);
                self.set_numbering(&meta.comment_epoch);
            }
            // No consumer has opened it yet; then there is no comment either.
            Ok(None) => {
                for room in self.rooms().iter().filter(|room| room.head_position().is_none()) {
                    room.note_no_archive();
                }
            }
            Err(error) => self.note_archive::<()>(&Err(error)),
        }
    }

    /// The heads that the bus keeps; `None` where it is away.
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

    /// Compares with the archive's heads.
    async fn compare_with_archive(self: &Arc<Self>, rooms: &[Arc<VideoChannel>]) {
        // Without a numbering there is no archive yet, or it was away a moment ago.
        let Some(numbering) = self.numbering() else { return };
        let videos: Vec<VideoId> = rooms.iter().map(|room| room.video.clone()).collect();
        let heads = within_timeout(self.archive.last_seqs(&videos)).await;
        self.note_archive(&heads);
        for (room, seq) in rooms.iter().zip(heads.into_iter().flatten()) {
            self.note_head(room, &numbering, seq);
        }
    }

    /// Learns where a room's comments stand, from whoever answers.
    pub(crate) async fn read_head(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        if self.numbering().is_none() {
            self.read_numbering().await;
        }
        let unsure = compare_with_bus(self, std::slice::from_ref(room), 0).await;
        // An outdated head of the bus's does no harm here, and the archive may be away.
        if room.head_position().is_none() {
            self.compare_with_archive(&unsure).await;
        }
    }

    /// The archive's head of a room, where a viewer claims to have seen more than this reader knows of.
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
        // Viewers who came before are told where they stand now.
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

/// The store's answer, unless it takes too long.
pub(crate) async fn within_timeout<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(STORE_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable("store", "no answer in time")))
}
