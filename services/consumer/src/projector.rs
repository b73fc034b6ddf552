//! From the archive onto the boards and to the readers, behind every commit.
//!
//! Batches arrive in the order of their commits. For each: publish its comments, then project its scores with its
//! offsets. When the boards say that they are behind, or a batch was missed, everything is made good from the archive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use liverank_adapters::archive::Meta;
use liverank_adapters::ranking_store::{BoardEntry, Projected, Projection};
use liverank_adapters::{Backends, StoreError};
use liverank_core::Comment;
use liverank_core::counting::{Effects, Rules, Span, VideoState};
use liverank_core::score::points;
use liverank_shell::Shell;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::RETRY;
use crate::metrics::ConsumerMetrics;

/// Batches that may wait for the boards: enough to ride out a hiccup; with more, a repair is cheaper than a queue.
const WAITING: usize = 16;
/// How often the boards are looked at when nothing happens, so that one that was emptied is filled again soon.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Videos or comments of one step of a repair: large enough to be fast, small enough not to hold a store up.
const PAGE: usize = 1000;

/// A committed batch.
pub struct Done {
    /// The stretch of the log it covered.
    pub spans: Vec<Span>,
    /// What it did.
    pub effects: Effects,
    /// When it was committed.
    pub committed: Instant,
}

/// The counter's end of the way to the projector.
pub struct Feed {
    batches: mpsc::Sender<Done>,
    owned: watch::Sender<Vec<u32>>,
    missed: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    metrics: ConsumerMetrics,
}

impl Feed {
    /// Hands a batch over. Waits while the projector is at work; where the boards are away it does not, for counting
    /// goes on without them and they are repaired when they are back.
    pub async fn done(&self, done: Done) {
        let sent = match self.batches.try_send(done) {
            Err(mpsc::error::TrySendError::Full(done)) if !self.away.load(Relaxed) => {
                self.batches.send(done).await.is_ok()
            }
            sent => sent.is_ok(),
        };
        if !sent {
            self.missed();
        }
        self.metrics.waiting.set((WAITING - self.batches.capacity()) as i64);
    }

    /// Says that a batch may have been committed that the projector was not told of.
    pub fn missed(&self) {
        self.missed.store(true, Relaxed);
    }

    /// Says which partitions are ours.
    pub fn owned(&self, partitions: Vec<u32>) {
        self.owned.send_replace(partitions);
    }
}

/// Starts the projector. It ends when the feed is dropped and empty.
pub fn start(
    backends: &Backends,
    meta: &Meta,
    shell: &Shell,
    metrics: ConsumerMetrics,
) -> (JoinHandle<()>, Feed) {
    let (batches, waiting) = mpsc::channel(WAITING);
    let (owned, owned_seen) = watch::channel(Vec::new());
    let missed = Arc::new(AtomicBool::new(false));
    let away = Arc::new(AtomicBool::new(false));
    let projector = Projector {
        backends: backends.clone(),
        meta: meta.clone(),
        shell: shell.clone(),
        metrics: metrics.clone(),
        waiting,
        owned: owned_seen,
        missed: Arc::clone(&missed),
        away: Arc::clone(&away),
        away_part: None,
        seen: BTreeMap::new(),
    };
    (tokio::spawn(projector.run()), Feed { batches, owned, missed, away, metrics })
}

struct Projector {
    backends: Backends,
    meta: Meta,
    shell: Shell,
    metrics: ConsumerMetrics,
    waiting: mpsc::Receiver<Done>,
    owned: watch::Receiver<Vec<u32>>,
    missed: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    away_part: Option<&'static str>,
    /// Where the archive stood at the last look.
    seen: BTreeMap<u32, u64>,
}

impl Projector {
    async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = self.waiting.recv() => match done {
                    Some(done) => self.follow(done).await,
                    None => return,
                },
                changed = self.owned.changed() => if changed.is_ok() {
                    // Nothing of a new partition is on its way from us: what the boards lack, they lack.
                    self.seen.clear();
                    self.look(true).await;
                },
                _ = look.tick() => self.look(false).await,
            }
        }
    }

    /// Publishes and projects one batch, or all that the archive has, however long the stores are away.
    async fn follow(&mut self, done: Done) {
        let comments: Vec<Comment> =
            done.effects.comments.into_iter().map(|numbered| numbered.comment).collect();
        let projection = Projection {
            generation: self.meta.generation,
            spans: done.spans,
            entries: done.effects.videos.iter().map(|video| entry(video, &self.meta.rules)).collect(),
        };
        for failures in 0.. {
            let error = match self.publish_and_project(&comments, &projection).await {
                Ok(Projected::Applied) if !self.missed.load(Relaxed) => {
                    self.back();
                    self.metrics.project_seconds.observe(done.committed.elapsed().as_secs_f64());
                    return;
                }
                Ok(Projected::Superseded) => return self.superseded(),
                Ok(Projected::Applied | Projected::Behind) => match self.repair().await {
                    Ok(()) => return self.back(),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.is_away(&error);
            if !RETRY.pause(failures, &self.shell).await {
                return; // Whoever consumes next finds the boards behind.
            }
        }
    }

    async fn publish_and_project(
        &self,
        comments: &[Comment],
        projection: &Projection,
    ) -> Result<Projected, StoreError> {
        if !comments.is_empty() {
            self.backends.comments.publish(&self.meta.numbering, comments).await?;
        }
        self.backends.ranking.project(projection).await
    }

    fn is_away(&mut self, error: &StoreError) {
        self.away.store(true, Relaxed);
        self.away_part = Some(error.part());
        self.shell.health.dependency(error.part(), Err(error.to_string()));
    }

    fn back(&mut self) {
        self.away.store(false, Relaxed);
        if let Some(part) = self.away_part.take() {
            self.shell.health.dependency(part, Ok(()));
        }
    }

    fn superseded(&self) {
        // A rebuild has begun a new generation while we ran: our rules are no longer in force.
        tracing::warn!("the scores were rebuilt: starting anew with the rules in force");
        self.shell.shutdown.cancel();
    }

    /// Compares the boards with the archive when nothing else makes us, and repairs them where they are behind.
    async fn look(&mut self, new_partitions: bool) {
        match self.is_behind(new_partitions).await {
            Ok(false) => self.back(),
            Ok(true) => match self.repair().await {
                Ok(()) => self.back(),
                Err(error) => self.is_away(&error),
            },
            Err(error) => self.is_away(&error),
        }
    }

    async fn is_behind(&mut self, new_partitions: bool) -> Result<bool, StoreError> {
        if self.missed.load(Relaxed) {
            return Ok(true);
        }
        let owned = self.owned.borrow().clone();
        let offsets = self.backends.archive.offsets(&owned).await?;
        let now: BTreeMap<u32, u64> =
            owned.into_iter().zip(offsets.iter().map(|position| position.next)).collect();
        // A batch may be committed and not yet in the queue: only what was there at the last look counts as missing.
        let before = std::mem::replace(&mut self.seen, now.clone());
        let expected = if new_partitions { now } else { before };
        if !self.waiting.is_empty() {
            return Ok(false);
        }
        let standing = self.backends.ranking.standing().await?;
        let current = standing.generation == Some(self.meta.generation);
        let known: BTreeMap<u32, u64> = standing.offsets.into_iter().collect();
        Ok(expected.iter().any(|(partition, offset)| {
            *offset > 0 && (!current || known.get(partition).is_none_or(|stands| stands < offset))
        }))
    }

    /// Makes comments and boards good for the partitions that are ours.
    async fn repair(&mut self) -> Result<(), StoreError> {
        self.missed.store(false, Relaxed);
        let repaired = self.repair_all().await;
        if repaired.is_err() {
            self.missed.store(true, Relaxed);
        }
        repaired
    }

    async fn repair_all(&self) -> Result<(), StoreError> {
        let started = Instant::now();
        let owned = self.owned.borrow().clone();
        // Before all else: everything up to here is in what is read below, so this is what may be noted at the end.
        let offsets = self.backends.archive.offsets(&owned).await?;
        let standing = self.backends.ranking.standing().await?;
        let mut comments = 0;
        if standing.generation == Some(self.meta.generation) {
            for (partition, stands) in &standing.offsets {
                if owned.contains(partition) {
                    comments += self.publish_from(*partition, *stands).await?;
                }
            }
        }
        // Where the store came back empty nobody knows what was published: readers find out by comparing heads.
        let videos = self.restore_boards().await?;
        let offsets: Vec<(u32, u64)> =
            owned.into_iter().zip(offsets.iter().map(|position| position.next)).collect();
        self.backends.ranking.restored(self.meta.generation, &offsets).await?;
        self.metrics.repairs.inc();
        let ms = started.elapsed().as_millis() as u64;
        tracing::info!(
            videos,
            comments,
            ms,
            "the boards were empty or behind, and have been filled from the archive"
        );
        Ok(())
    }

    async fn publish_from(&self, partition: u32, mut offset: u64) -> Result<usize, StoreError> {
        let mut published = 0;
        loop {
            let page = self.backends.archive.comments_from(partition, offset, PAGE).await?;
            let Some(last) = page.last() else { return Ok(published) };
            offset = last.offset + 1;
            published += page.len();
            let comments: Vec<Comment> = page.into_iter().map(|numbered| numbered.comment).collect();
            self.backends.comments.publish(&self.meta.numbering, &comments).await?;
        }
    }

    async fn restore_boards(&self) -> Result<usize, StoreError> {
        let mut after = None;
        let mut restored = 0;
        loop {
            let page = self.backends.archive.videos_after(after.as_ref(), PAGE).await?;
            let entries: Vec<BoardEntry> = page.iter().map(|video| entry(video, &self.meta.rules)).collect();
            if entries.is_empty() && restored > 0 {
                return Ok(restored);
            }
            self.backends.ranking.restore(self.meta.generation, &entries).await?;
            restored += entries.len();
            match page.into_iter().last() {
                Some(last) => after = Some(last.video_id),
                None => return Ok(restored),
            }
        }
    }
}

/// A video as the boards show it.
fn entry(video: &VideoState, rules: &Rules) -> BoardEntry {
    BoardEntry {
        video_id: video.video_id.clone(),
        owner: video.owner.clone(),
        score: points(video.counters.score(&rules.weights)),
        trending: video.trending.is_finite().then_some(video.trending),
    }
}
