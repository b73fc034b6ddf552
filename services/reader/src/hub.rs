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
use crate::channel::{self, Channel, Show};
use crate::fanout::Fanout;
use crate::metrics::Metrics;
use crate::pace::{Pace, WRITES_PER_SECOND};
use crate::ring::Pushed;
use crate::viewer_counts::Elsewhere;

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
pub struct Settings {
    /// This reader.
    pub id: ReaderId,
    /// Viewers it takes.
    pub capacity: u64,
    /// Comments a viewer who comes back may have missed.
    pub ring_length: usize,
    /// Bytes that these may take together; where they take more, the oldest go.
    pub ring_bytes: usize,
    /// How long nothing may be sent to a viewer.
    pub idle: Duration,
    /// Writes a second above which they are joined; by default what this machine's threads make without strain.
    pub writes_per_second: Option<u64>,
}

/// All rooms of a reader, with the stores that fill them.
pub struct Hub {
    /// The settings of the hub.
    pub settings: Settings,
    /// The reader's metrics.
    pub metrics: Metrics,
    /// Where dependencies are noted.
    pub health: Health,
    /// Writes to viewers.
    pub fanout: Fanout,
    /// Viewers at other readers.
    pub elsewhere: Elsewhere,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) bus: Arc<dyn CommentBus>,
    /// Wakes the comparing of heads.
    pub(crate) compare: Notify,
    /// Wakes the subscribing of rooms.
    pub(crate) channels: Notify,
    /// Bounds what is asked of the stores at once.
    pub(crate) fetches: Semaphore,
    door: AdmissionThrottle,
    /// Whether something contradicts what is known of the numbering.
    pub(crate) doubt: AtomicBool,
    connection: Mutex<BusConnection>,
    rooms: Mutex<HashMap<VideoId, Arc<Channel>>>,
    numbering: Mutex<Option<CommentEpoch>>,
    pace: Mutex<Pace>,
    viewers: AtomicU64,
}

/// The bus connection in force: rooms know by its number whether they are subscribed on it.
#[derive(Default)]
struct BusConnection {
    number: u64,
    subscription: Option<Arc<dyn Subscription>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A viewer in its room; leaves when dropped.
pub struct ViewerGuard {
    hub: Arc<Hub>,
    /// The room.
    pub room: Arc<Channel>,
    /// Where it asks how many viewers there are: which version of that it has had.
    pub count_had: Option<u32>,
}

impl ViewerGuard {
    /// The hub.
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Notes which events the viewer asks for. To be called once.
    pub fn ask(&mut self, events: StreamEvents) {
        if events.contains(StreamEvent::Viewers) {
            self.count_had = Some(self.room.count.join());
        }
    }
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        if self.count_had.is_some() {
            self.room.count.leave();
        }
        self.room.leave(Instant::now());
        self.hub.viewers.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.viewers.dec();
    }
}

impl Hub {
    /// A hub without rooms; fails where its writing threads cannot be started.
    pub fn new(
        settings: Settings,
        archive: Arc<dyn Archive>,
        bus: Arc<dyn CommentBus>,
        metrics: Metrics,
        health: Health,
    ) -> io::Result<Arc<Self>> {
        let fanout = Fanout::start()?;
        let budget = settings.writes_per_second.unwrap_or(WRITES_PER_SECOND * fanout.threads() as u64);
        Ok(Arc::new(Self {
            settings,
            metrics,
            health,
            fanout,
            elsewhere: Elsewhere::default(),
            archive,
            bus,
            compare: Notify::new(),
            channels: Notify::new(),
            fetches: Semaphore::new(MAX_FETCHES),
            door: AdmissionThrottle::default(),
            doubt: AtomicBool::new(true),
            connection: Mutex::default(),
            rooms: Mutex::default(),
            numbering: Mutex::default(),
            pace: Mutex::new(Pace::new(Instant::now(), budget)),
            viewers: AtomicU64::new(0),
        }))
    }

    /// Viewers in all rooms.
    pub fn viewers(&self) -> u64 {
        self.viewers.load(Ordering::Relaxed)
    }

    /// How many viewers there are who are not the system's own.
    pub fn viewers_from_outside(&self) -> u64 {
        let own = lock(&self.rooms).get(canary::ID).map_or(0, |room| room.viewers());
        self.viewers().saturating_sub(own)
    }

    /// Every room.
    pub fn rooms(&self) -> Vec<Arc<Channel>> {
        lock(&self.rooms).values().map(Arc::clone).collect()
    }

    /// The room of a video, if it has one.
    pub fn room(&self, video: &VideoId) -> Option<Arc<Channel>> {
        lock(&self.rooms).get(video).map(Arc::clone)
    }

    /// Viewers of each video that has any.
    pub fn audience(&self) -> Vec<(VideoId, u64)> {
        let rooms = lock(&self.rooms);
        let counts = rooms.values().map(|room| (room.video.clone(), room.viewers()));
        counts.filter(|(video, viewers)| *viewers > 0 && !canary::is(video)).collect()
    }

    /// Which count comments are numbered by, as far as is known.
    pub fn numbering(&self) -> Option<CommentEpoch> {
        lock(&self.numbering).clone()
    }

    /// Notes what the archive says of the numbering, which is what counts.
    pub(crate) fn set_numbering(&self, numbering: &CommentEpoch) {
        let before = lock(&self.numbering).replace(numbering.clone());
        if before.as_ref().is_some_and(|before| before != numbering) {
            tracing::warn!(%numbering, "comments have been numbered anew: every viewer is told of a gap");
        }
    }

    /// Takes a numbering that the bus names where none is known; returns the one in force.
    pub(crate) fn adopt_numbering(&self, numbering: &CommentEpoch) -> CommentEpoch {
        lock(&self.numbering).get_or_insert_with(|| numbering.clone()).clone()
    }

    /// Waits for a newcomer's turn to be let in.
    pub(crate) async fn turn(&self) {
        self.door.turn(|| self.fanout.is_late()).await;
    }

    /// Lets a viewer into a video's room; `None` where the reader is full.
    pub fn enter(self: &Arc<Self>, video: &VideoId) -> Option<ViewerGuard> {
        let before = self.viewers.fetch_add(1, Ordering::Relaxed);
        if before >= self.settings.capacity {
            self.viewers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.metrics.viewers.inc();
        let mut rooms = lock(&self.rooms);
        let room = self.channel_in(&mut rooms, video);
        // Under the lock, so that the room is not closed in between.
        room.enter();
        drop(rooms);
        Some(ViewerGuard { hub: Arc::clone(self), room, count_had: None })
    }

    /// The room of a video whose viewers are yet to come; `None` where there are `most` such rooms already.
    pub(crate) fn room_to_be(&self, video: &VideoId, most: usize) -> Option<Arc<Channel>> {
        let mut rooms = lock(&self.rooms);
        let there = rooms.get(video).map(Arc::clone);
        if there.is_none() && rooms.values().filter(|room| room.viewers() == 0).count() >= most {
            return None;
        }
        Some(there.unwrap_or_else(|| self.channel_in(&mut rooms, video)))
    }

    fn channel_in(&self, rooms: &mut HashMap<VideoId, Arc<Channel>>, video: &VideoId) -> Arc<Channel> {
        let ring = (self.settings.ring_length, self.settings.ring_bytes);
        let fresh = || Arc::new(Channel::new(video.clone(), ring, Instant::now()));
        let room = Arc::clone(rooms.entry(video.clone()).or_insert_with(fresh));
        self.metrics.active_channels.set(rooms.len() as i64);
        room
    }

    /// Whether viewers who come to this room find it subscribed, and its ring where the comments stand.
    pub(crate) fn is_ready(&self, room: &Channel) -> bool {
        self.is_subscribed(room) && room.is_anchored()
    }

    /// Sees to it that the room hears of comments and knows where they stand, as far as the stores allow in a short
    /// time. The order matters: what comes after the head was read is then sure to be heard.
    pub async fn open(self: &Arc<Self>, room: &Arc<Channel>) {
        if room.head().is_some() {
            if !self.is_subscribed(room) {
                // The bus is away, or the room was about to be closed: comparing heads brings what is missed meanwhile.
                self.channels.notify_one();
            }
            return;
        }
        let opened = async {
            self.subscribe(room).await;
            // Another one may have read it meanwhile.
            if room.head().is_none() {
                self.read_head(room).await;
            }
        };
        // What is not done by then is done by the next comparing of heads.
        let _ = tokio::time::timeout(CHANNEL_OPEN_TIMEOUT, opened).await;
    }

    /// Whether the room is subscribed on the bus connection in force.
    pub(crate) fn is_subscribed(&self, room: &Channel) -> bool {
        let number = lock(&self.connection).number;
        number != 0 && room.subscribed_on.load(Ordering::Acquire) == number
    }

    fn current_connection(&self) -> (u64, Option<Arc<dyn Subscription>>) {
        let connection = lock(&self.connection);
        (connection.number, connection.subscription.clone())
    }

    /// Replaces the bus connection: rooms are no longer subscribed.
    pub(crate) fn set_connection(&self, subscription: Option<Arc<dyn Subscription>>) {
        let mut connection = lock(&self.connection);
        connection.number += 1;
        connection.subscription = subscription;
    }

    /// Subscribes the room's channel if it is not.
    pub(crate) async fn subscribe(self: &Arc<Self>, room: &Arc<Channel>) {
        let _one_at_a_time = room.opening.lock().await;
        if self.is_subscribed(room) {
            return;
        }
        let (number, Some(subscription)) = self.current_connection() else { return };
        match tokio::time::timeout(STORE_TIMEOUT, subscription.subscribe(&room.video)).await {
            Ok(Ok(())) => {
                room.subscribed_on.store(number, Ordering::Release);
                self.health.dependency("comment bus", Ok(()));
            }
            Ok(Err(error)) => self.health.dependency("comment bus", Err(error.to_string())),
            Err(_) => self.health.dependency("comment bus", Err("subscribing takes too long".into())),
        }
    }

    /// Takes a comment that the bus brought. The caller shows the room afterwards.
    pub(crate) fn push(
        self: &Arc<Self>,
        room: &Arc<Channel>,
        numbering: &CommentEpoch,
        comment: &Comment,
    ) -> u64 {
        if self.adopt_numbering(numbering) != *numbering {
            // A late word of an old count, or the first of a new one: the archive knows.
            if !self.doubt.swap(true, Ordering::Relaxed) {
                self.compare.notify_one();
            }
            return 0;
        }
        let Some(pushed) = room.push(numbering, comment) else { return 0 };
        channel::count(&self.metrics, pushed);
        match pushed {
            Pushed::Appended(count) => {
                self.metrics.comment_delay.note(comment.timestamp, now_ms());
                return count;
            }
            Pushed::Early | Pushed::Refused => self.repair(room),
            Pushed::Repeat => {}
        }
        0
    }

    /// Shows viewers what is new in a room, now or when the pace allows. `events` is how much came.
    pub(crate) fn show(self: &Arc<Self>, room: &Arc<Channel>, events: u64) {
        let now = Instant::now();
        let viewers = room.viewers();
        let show = room.show(now, |counted| lock(&self.pace).offer(now, events, viewers, counted));
        match show {
            Show::Nothing => {}
            Show::Now => self.fanout.news(room),
            Show::At(due) => {
                let (hub, room) = (Arc::clone(self), Arc::clone(room));
                // One a room at a time, for as long as a gap.
                tokio::spawn(async move {
                    tokio::time::sleep_until(due.into()).await;
                    if room.show_due(Instant::now()) == Show::Now {
                        hub.fanout.news(&room);
                    }
                });
            }
        }
    }

    /// Sends idle viewers their heartbeats, for ever.
    pub async fn keep_alive(self: Arc<Self>) {
        /// Coarse: heartbeats are tens of seconds apart.
        const CLOCK_STEP: Duration = Duration::from_secs(1);
        let mut ticks = tokio::time::interval(CLOCK_STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (now, mut held) = (Instant::now(), 0);
            for room in self.rooms() {
                if room.rest(now, self.settings.idle) {
                    self.fanout.news(&room);
                }
                let (bytes, crowded_out) = room.weigh();
                held += bytes;
                self.metrics.crowded_out.inc_by(crowded_out);
            }
            self.metrics.ring_bytes.set(held as i64);
        }
    }

    /// Unsubscribes an empty room and forgets it, unless somebody enters meanwhile.
    pub(crate) async fn close(&self, room: &Arc<Channel>) {
        let _one_at_a_time = room.opening.lock().await;
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
        let mut rooms = lock(&self.rooms);
        if room.viewers() == 0 {
            rooms.remove(&room.video);
            self.metrics.active_channels.set(rooms.len() as i64);
        }
    }
}
