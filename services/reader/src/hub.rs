//! All rooms of a reader, and the stores they live on.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_adapters::comment_bus::Subscription;
use liverank_adapters::{Archive, CommentBus};
use liverank_core::comment::CommentEpoch;
use liverank_core::stream_events::{StreamEvent, StreamEvents};
use liverank_core::{Comment, ReaderId, VideoId, canary};
use liverank_runtime::{Health, now_ms};
use tokio::sync::{Notify, Semaphore};

use crate::admission_throttle::AdmissionThrottle;
use crate::channel::{self, ShowDecision, VideoChannel};
use crate::fanout::FanoutThreads;
use crate::metrics::ReaderMetrics;
use crate::pace::{MAX_WRITES_PER_SECOND, WritePacer};
use crate::ring::PushOutcome;
use crate::viewer_counts::ViewersElsewhere;

/// How long a viewer may be kept waiting for its video's channel and head: then it is served with what is known, and
/// the comparing of heads makes up for the rest.
const CHANNEL_OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a store may take to answer: what takes longer is as good as away, for viewers wait for it.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Fetches from the stores at once: enough to repair thousands of rooms a second, few enough to leave the stores to
/// those who write.
const MAX_FETCHES: usize = 32;

/// The settings of a hub.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// This reader.
    pub id: ReaderId,
    /// Viewers it takes.
    pub capacity: u64,
    /// Comments a viewer who comes back may have missed.
    pub ring_length: usize,
    /// Bytes that these may take together; where they take more, the oldest go.
    pub ring_bytes: usize,
    /// How long nothing may be sent to a viewer.
    pub idle_time: Duration,
    /// Writes a second above which they are joined; by default what this machine's threads make without strain.
    pub writes_per_second: Option<u64>,
}

/// All rooms of a reader, with the stores that fill them.
pub struct ChannelHub {
    /// The settings of the hub.
    pub settings: HubSettings,
    /// The reader's metrics.
    pub metrics: ReaderMetrics,
    /// Where dependencies are noted.
    pub health: Health,
    /// Writes to viewers.
    pub fanout: FanoutThreads,
    /// Viewers at other readers.
    pub viewers_elsewhere: ViewersElsewhere,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) bus: Arc<dyn CommentBus>,
    /// Wakes the comparing of heads.
    pub(crate) compare_heads: Notify,
    /// Wakes the subscribing of rooms.
    pub(crate) subscribe_channels: Notify,
    /// Bounds what is asked of the stores at once.
    pub(crate) fetch_permits: Semaphore,
    admission_throttle: AdmissionThrottle,
    /// Whether something contradicts what is known of the numbering.
    pub(crate) is_numbering_doubted: AtomicBool,
    connection: Mutex<BusConnection>,
    all_channels: Mutex<HashMap<VideoId, Arc<VideoChannel>>>,
    comment_epoch: Mutex<Option<CommentEpoch>>,
    pace: Mutex<WritePacer>,
    viewers: AtomicU64,
}

/// The bus connection in force: rooms know by its number whether they are subscribed on it.
#[derive(Default)]
struct BusConnection {
    connection_number: u64,
    subscription: Option<Arc<dyn Subscription>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A viewer in its room; leaves when dropped.
pub struct ViewerGuard {
    hub: Arc<ChannelHub>,
    /// The room.
    pub channel: Arc<VideoChannel>,
    /// Where it asks how many viewers there are: which version of that it has had.
    pub seen_count_version: Option<u32>,
}

impl ViewerGuard {
    /// The hub.
    pub const fn hub(&self) -> &Arc<ChannelHub> {
        &self.hub
    }

    /// Notes which events the viewer asks for. To be called once.
    pub fn ask_for_events(&mut self, events: StreamEvents) {
        if events.contains(StreamEvent::Viewers) {
            self.seen_count_version = Some(self.channel.viewer_count.add_asker());
        }
    }
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        if self.seen_count_version.is_some() {
            self.channel.viewer_count.remove_asker();
        }
        self.channel.remove_viewer(Instant::now());
        self.hub.viewers.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.viewers.dec();
    }
}

impl ChannelHub {
    /// A hub without rooms; fails where its writing threads cannot be started.
    pub fn new(
        settings: HubSettings,
        archive: Arc<dyn Archive>,
        bus: Arc<dyn CommentBus>,
        metrics: ReaderMetrics,
        health: Health,
    ) -> io::Result<Arc<Self>> {
        let fanout = FanoutThreads::start()?;
        let budget =
            settings.writes_per_second.unwrap_or(MAX_WRITES_PER_SECOND * fanout.thread_count() as u64);
        Ok(Arc::new(Self {
            settings,
            metrics,
            health,
            fanout,
            viewers_elsewhere: ViewersElsewhere::default(),
            archive,
            bus,
            compare_heads: Notify::new(),
            subscribe_channels: Notify::new(),
            fetch_permits: Semaphore::new(MAX_FETCHES),
            admission_throttle: AdmissionThrottle::default(),
            is_numbering_doubted: AtomicBool::new(true),
            connection: Mutex::default(),
            all_channels: Mutex::default(),
            comment_epoch: Mutex::default(),
            pace: Mutex::new(WritePacer::new(Instant::now(), budget)),
            viewers: AtomicU64::new(0),
        }))
    }

    /// Viewers in all rooms.
    pub fn viewers(&self) -> u64 {
        self.viewers.load(Ordering::Relaxed)
    }

    /// How many viewers there are who are not the system's own.
    pub fn viewers_from_outside(&self) -> u64 {
        let own = lock(&self.all_channels).get(canary::CANARY_ID).map_or(0, |room| room.viewers());
        self.viewers().saturating_sub(own)
    }

    /// Every room.
    pub fn rooms(&self) -> Vec<Arc<VideoChannel>> {
        lock(&self.all_channels).values().map(Arc::clone).collect()
    }

    /// The room of a video, if it has one.
    pub fn channel_of(&self, video: &VideoId) -> Option<Arc<VideoChannel>> {
        lock(&self.all_channels).get(video).map(Arc::clone)
    }

    /// Viewers of each video that has any.
    pub fn viewers_by_video(&self) -> Vec<(VideoId, u64)> {
        let rooms = lock(&self.all_channels);
        let counts = rooms.values().map(|room| (room.video.clone(), room.viewers()));
        counts.filter(|(video, viewers)| *viewers > 0 && !canary::is_canary(video)).collect()
    }

    /// Which count comments are numbered by, as far as is known.
    pub fn numbering(&self) -> Option<CommentEpoch> {
        lock(&self.comment_epoch).clone()
    }

    /// Notes what the archive says of the numbering, which is what counts.
    pub(crate) fn set_numbering(&self, numbering: &CommentEpoch) {
        let before = lock(&self.comment_epoch).replace(numbering.clone());
        if before.as_ref().is_some_and(|before| before != numbering) {
            tracing::warn!(%numbering, "comments have been numbered anew: every viewer is told of a gap");
        }
    }

    /// Takes a numbering that the bus names where none is known; returns the one in force.
    pub(crate) fn adopt_numbering(&self, numbering: &CommentEpoch) -> CommentEpoch {
        lock(&self.comment_epoch).get_or_insert_with(|| numbering.clone()).clone()
    }

    /// Waits for a newcomer's turn to be let in.
    pub(crate) async fn turn(&self) {
        self.admission_throttle.wait_for_turn(|| self.fanout.is_late()).await;
    }

    /// Lets a viewer into a video's room; `None` where the reader is full.
    pub fn add_viewer(self: &Arc<Self>, video: &VideoId) -> Option<ViewerGuard> {
        let before = self.viewers.fetch_add(1, Ordering::Relaxed);
        if before >= self.settings.capacity {
            self.viewers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.metrics.viewers.inc();
        let mut rooms = lock(&self.all_channels);
        let room = self.channel_in(&mut rooms, video);
        // Under the lock, so that the room is not closed in between.
        room.add_viewer();
        drop(rooms);
        Some(ViewerGuard { hub: Arc::clone(self), channel: room, seen_count_version: None })
    }

    /// The room of a video whose viewers are yet to come; `None` where there are `most` such rooms already.
    pub(crate) fn room_to_be(&self, video: &VideoId, most: usize) -> Option<Arc<VideoChannel>> {
        let mut rooms = lock(&self.all_channels);
        let there = rooms.get(video).map(Arc::clone);
        if there.is_none() && rooms.values().filter(|room| room.viewers() == 0).count() >= most {
            return None;
        }
        Some(there.unwrap_or_else(|| self.channel_in(&mut rooms, video)))
    }

    fn channel_in(
        &self,
        rooms: &mut HashMap<VideoId, Arc<VideoChannel>>,
        video: &VideoId,
    ) -> Arc<VideoChannel> {
        let ring = (self.settings.ring_length, self.settings.ring_bytes);
        let fresh = || Arc::new(VideoChannel::new(video.clone(), ring, Instant::now()));
        let room = Arc::clone(rooms.entry(video.clone()).or_insert_with(fresh));
        self.metrics.active_channels.set(rooms.len() as i64);
        room
    }

    /// Whether viewers who come to this room find it subscribed, and its ring where the comments stand.
    pub(crate) fn is_ready(&self, room: &VideoChannel) -> bool {
        self.is_subscribed(room) && room.is_anchored()
    }

    /// Sees to it that the room hears of comments and knows where they stand, as far as the stores allow in a short
    /// time. The order matters: what comes after the head was read is then sure to be heard.
    pub async fn open_channel(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        if room.head_position().is_some() {
            if !self.is_subscribed(room) {
                // The bus is away, or the room was about to be closed: comparing heads brings what is missed meanwhile.
                self.subscribe_channels.notify_one();
            }
            return;
        }
        let opened = async {
            self.subscribe(room).await;
            // Another one may have read it meanwhile.
            if room.head_position().is_none() {
                self.read_head(room).await;
            }
        };
        // What is not done by then is done by the next comparing of heads.
        let _ = tokio::time::timeout(CHANNEL_OPEN_TIMEOUT, opened).await;
    }

    /// Whether the room is subscribed on the bus connection in force.
    pub(crate) fn is_subscribed(&self, room: &VideoChannel) -> bool {
        let number = lock(&self.connection).connection_number;
        number != 0 && room.subscribed_on.load(Ordering::Acquire) == number
    }

    fn current_connection(&self) -> (u64, Option<Arc<dyn Subscription>>) {
        let connection = lock(&self.connection);
        (connection.connection_number, connection.subscription.clone())
    }

    /// Replaces the bus connection: rooms are no longer subscribed.
    pub(crate) fn set_connection(&self, subscription: Option<Arc<dyn Subscription>>) {
        let mut connection = lock(&self.connection);
        connection.connection_number += 1;
        connection.subscription = subscription;
    }

    /// Subscribes the room's channel if it is not.
    pub(crate) async fn subscribe(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        let _one_at_a_time = room.opening_lock.lock().await;
        if self.is_subscribed(room) {
            return;
        }
        let (number, Some(subscription)) = self.current_connection() else { return };
        match tokio::time::timeout(STORE_TIMEOUT, subscription.subscribe(&room.video)).await {
            Ok(Ok(())) => {
                room.subscribed_on.store(number, Ordering::Release);
                self.health.note_dependency("comment bus", Ok(()));
            }
            Ok(Err(error)) => self.health.note_dependency("comment bus", Err(error.to_string())),
            Err(_) => self.health.note_dependency("comment bus", Err("subscribing takes too long".into())),
        }
    }

    /// Takes a comment that the bus brought. The caller shows the room afterwards.
    pub(crate) fn push(
        self: &Arc<Self>,
        room: &Arc<VideoChannel>,
        numbering: &CommentEpoch,
        comment: &Comment,
    ) -> u64 {
        if self.adopt_numbering(numbering) != *numbering {
            // A late word of an old count, or the first of a new one: the archive knows.
            if !self.is_numbering_doubted.swap(true, Ordering::Relaxed) {
                self.compare_heads.notify_one();
            }
            return 0;
        }
        let Some(pushed) = room.push(numbering, comment) else { return 0 };
        channel::count_pushed(&self.metrics, pushed);
        match pushed {
            PushOutcome::Appended(count) => {
                self.metrics.comment_delay.note_delay(comment.timestamp, now_ms());
                return count;
            }
            PushOutcome::Early | PushOutcome::Refused => self.repair(room),
            PushOutcome::Repeat => {}
        }
        0
    }

    /// Shows viewers what is new in a room, now or when the pace allows. `events` is how much came.
    pub(crate) fn show(self: &Arc<Self>, room: &Arc<VideoChannel>, events: u64) {
        let now = Instant::now();
        let viewers = room.viewers();
        let show =
            room.show_paced(now, |counted| lock(&self.pace).wait_after_write(now, events, viewers, counted));
        match show {
            ShowDecision::Nothing => {}
            ShowDecision::Now => self.fanout.notify_threads(room),
            ShowDecision::At(due) => {
                let (hub, room) = (Arc::clone(self), Arc::clone(room));
                // One a room at a time, for as long as a gap.
                tokio::spawn(async move {
                    tokio::time::sleep_until(due.into()).await;
                    if room.show_due(Instant::now()) == ShowDecision::Now {
                        hub.fanout.notify_threads(&room);
                    }
                });
            }
        }
    }

    /// Sends idle viewers their heartbeats, for ever.
    pub async fn send_heartbeats(self: Arc<Self>) {
        /// Coarse: heartbeats are tens of seconds apart.
        const CLOCK_STEP: Duration = Duration::from_secs(1);
        let mut ticks = tokio::time::interval(CLOCK_STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (now, mut held) = (Instant::now(), 0);
            for room in self.rooms() {
                if room.tick_idle(now, self.settings.idle_time) {
                    self.fanout.notify_threads(&room);
                }
                let (bytes, crowded_out) = room.measure_ring();
                held += bytes;
                self.metrics.crowded_out.inc_by(crowded_out);
            }
            self.metrics.ring_bytes.set(held as i64);
        }
    }

    /// Unsubscribes an empty room and forgets it, unless somebody enters meanwhile.
    pub(crate) async fn close(&self, room: &Arc<VideoChannel>) {
        let _one_at_a_time = room.opening_lock.lock().await;
        if room.viewers() > 0 {
            return;
        }
        if self.is_subscribed(room) {
            // First, so that who enters from here on subscribes again, after us.
            room.subscribed_on.store(0, Ordering::Release);
            if let (_, Some(subscription)) = self.current_connection() {
                // Where it fails, its comments are dropped for want of a room until the connection is replaced.
                let _ = tokio::time::timeout(STORE_TIMEOUT, subscription.unsubscribe(&room.video)).await;
            }
        }
        let mut rooms = lock(&self.all_channels);
        if room.viewers() == 0 {
            rooms.remove(&room.video);
            self.metrics.active_channels.set(rooms.len() as i64);
        }
    }
}
