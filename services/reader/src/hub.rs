//! All channels of a reader, and the stores from which they are filled.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
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
use crate::direct_viewers::{DirectPlace, DirectViewer, DirectViewers};
use crate::fanout::FanoutThreads;
use crate::metrics::{ReaderMetrics, ViewerZoneLabel};
use crate::pace::{MAX_WRITES_PER_SECOND, WritePacer};
use crate::ring::PushOutcome;
use crate::viewer_counts::ViewersElsewhere;
use crate::viewer_zone::ViewerZone;

/// The time that a viewer may be kept waiting until its video's channel is subscribed and its head read. After that
/// time, the viewer is served with the comments that are known, and comparing heads finds the rest.
const CHANNEL_OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// The time that a store may take to answer: a slower store is treated as unavailable, because viewers wait for it.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of fetches from the stores at the same time: enough to repair thousands of channels a second, few
/// enough to leave the stores to those who write.
const MAX_FETCHES: usize = 32;

/// The settings of a `ChannelHub`.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The id of this reader.
    pub id: ReaderId,
    /// The maximum number of viewers.
    pub capacity: u64,
    /// The maximum number of comments that a returning viewer may have missed and still gets.
    pub ring_length: usize,
    /// The maximum number of bytes that the comments of one channel's ring may take; if they take more, the oldest are
    /// evicted.
    pub ring_bytes: usize,
    /// The time after which a viewer to whom nothing was sent gets a heartbeat.
    pub idle_time: Duration,
    /// The number of writes a second above which events are joined; `None`: `MAX_WRITES_PER_SECOND` for each writing
    /// thread.
    pub writes_per_second: Option<u64>,
}

/// All channels of a reader, with the stores that fill them and the threads that write to the viewers.
pub struct ChannelHub {
    /// The settings of the hub.
    pub settings: HubSettings,
    /// The reader's metrics.
    pub metrics: ReaderMetrics,
    /// The health report, in which the state of the bus, the archive and the managers is noted.
    pub health: Health,
    /// The threads that write to viewers' sockets.
    pub fanout: FanoutThreads,
    /// For each of this reader's videos, the number of viewers that other readers have.
    pub viewers_elsewhere: ViewersElsewhere,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) bus: Arc<dyn CommentBus>,
    /// Notified to compare heads at once.
    pub(crate) head_comparison_requested: Notify,
    /// Notified to subscribe missing channels at once.
    pub(crate) subscribe_requested: Notify,
    /// Limits the number of fetches from the stores at the same time.
    pub(crate) fetch_permits: Semaphore,
    admission_throttle: AdmissionThrottle,
    direct_viewers: DirectViewers,
    /// True if the comment epoch has to be read from the archive again, because it is not known or something
    /// contradicts it.
    pub(crate) must_reread_comment_epoch: AtomicBool,
    bus_connection: Mutex<BusConnection>,
    all_channels: Mutex<HashMap<VideoId, Arc<VideoChannel>>>,
    comment_epoch: Mutex<Option<CommentEpoch>>,
    write_pacer: Mutex<WritePacer>,
    viewer_total: AtomicU64,
}

/// The current connection to the comment bus. A channel stores the connection's number when it is subscribed, and is
/// subscribed only while the numbers are equal.
#[derive(Default)]
struct BusConnection {
    connection_number: u64,
    subscription: Option<Arc<dyn Subscription>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a viewer in its channel until it is dropped.
pub struct ViewerGuard {
    hub: Arc<ChannelHub>,
    /// The viewer's channel.
    pub channel: Arc<VideoChannel>,
    /// The version of the viewer count that the viewer was sent last; `None` if it does not ask for the number of
    /// viewers.
    pub seen_count_version: Option<u32>,
    /// The viewer's place among those who connect directly; `None` if it came by a gateway.
    direct_place: Option<DirectPlace>,
    /// The zone of the viewer's gateway, compared with the reader's.
    zone: ViewerZone,
}

impl ViewerGuard {
    /// Returns the hub that holds the viewer's channel.
    pub const fn hub(&self) -> &Arc<ChannelHub> {
        &self.hub
    }

    /// Returns true if the viewer's stream is to end, to make room for a viewer of another address.
    pub fn is_sent_away(&self) -> bool {
        self.direct_place.as_ref().is_some_and(DirectPlace::is_sent_away)
    }

    /// Notes the event types that the viewer asks for. To be called once for each viewer.
    pub fn note_requested_events(&mut self, events: StreamEvents) {
        if events.contains(StreamEvent::Viewers) {
            self.seen_count_version = Some(self.channel.announced_viewer_count.add_asker());
        }
    }
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        if self.seen_count_version.is_some() {
            self.channel.announced_viewer_count.remove_asker();
        }
        self.channel.remove_viewer(Instant::now(), self.zone);
        self.hub.viewer_total.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.viewers.dec();
        self.hub.metrics.viewers_by_zone.get_or_create(&ViewerZoneLabel { zone: self.zone }).dec();
    }
}

impl ChannelHub {
    /// Makes a hub without channels and starts its writing threads; fails if these cannot be started.
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
            head_comparison_requested: Notify::new(),
            subscribe_requested: Notify::new(),
            fetch_permits: Semaphore::new(MAX_FETCHES),
            admission_throttle: AdmissionThrottle::default(),
            direct_viewers: DirectViewers::default(),
            must_reread_comment_epoch: AtomicBool::new(true),
            bus_connection: Mutex::default(),
            all_channels: Mutex::default(),
            comment_epoch: Mutex::default(),
            write_pacer: Mutex::new(WritePacer::new(Instant::now(), budget)),
            viewer_total: AtomicU64::new(0),
        }))
    }

    /// Returns the number of viewers in all channels.
    pub fn viewer_total(&self) -> u64 {
        self.viewer_total.load(Ordering::Relaxed)
    }

    /// Returns the number of viewers without those of the canary, the system's own test video.
    pub fn viewers_without_canary(&self) -> u64 {
        let own = lock(&self.all_channels).get(canary::CANARY_ID).map_or(0, |room| room.viewer_total());
        self.viewer_total().saturating_sub(own)
    }

    /// Returns all channels.
    pub fn channels(&self) -> Vec<Arc<VideoChannel>> {
        lock(&self.all_channels).values().map(Arc::clone).collect()
    }

    /// Returns the channel of a video; `None` if the reader has none.
    pub fn channel_of(&self, video: &VideoId) -> Option<Arc<VideoChannel>> {
        lock(&self.all_channels).get(video).map(Arc::clone)
    }

    /// Returns the number of viewers of each video that has any, without the canary's.
    pub fn viewers_by_video(&self) -> Vec<(VideoId, u64)> {
        let rooms = lock(&self.all_channels);
        let counts = rooms.values().map(|room| (room.video.clone(), room.viewer_total()));
        counts.filter(|(video, viewers)| *viewers > 0 && !canary::is_canary(video)).collect()
    }

    /// Returns the comment epoch in force; `None` while it is not known.
    pub fn comment_epoch(&self) -> Option<CommentEpoch> {
        lock(&self.comment_epoch).clone()
    }

    /// Sets the comment epoch to the one that the archive names, which is authoritative.
    pub(crate) fn set_comment_epoch(&self, numbering: &CommentEpoch) {
        let before = lock(&self.comment_epoch).replace(numbering.clone());
        if before.as_ref().is_some_and(|before| before != numbering) {
            tracing::warn!(%numbering, "comments have been numbered anew: every viewer is told of a gap");
        }
    }

    /// Sets the comment epoch to one that the bus names if none is known; returns the one in force.
    pub(crate) fn comment_epoch_or_adopt(&self, numbering: &CommentEpoch) -> CommentEpoch {
        lock(&self.comment_epoch).get_or_insert_with(|| numbering.clone()).clone()
    }

    /// Waits until a new viewer may be admitted.
    pub(crate) async fn wait_for_admission(&self) {
        self.admission_throttle.wait_for_turn(|| self.fanout.is_late()).await;
    }

    /// Adds a viewer to a video's channel, which is made if there is none. `address` is that of a viewer who connects
    /// directly; `None` for one who comes by a gateway. `zone` compares the gateway's zone with the reader's. If the
    /// reader is full, a direct viewer of the address with the most of them is sent away to make room; returns `None` if
    /// there is no such viewer.
    pub fn add_viewer(
        self: &Arc<Self>,
        video: &VideoId,
        address: Option<IpAddr>,
        zone: ViewerZone,
    ) -> Option<ViewerGuard> {
        let is_full = self.viewer_total.fetch_add(1, Ordering::Relaxed) >= self.settings.capacity;
        let Some((place, displaced)) = self.reserve_direct_place(address, is_full) else {
            self.viewer_total.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        if let Some(displaced) = displaced {
            self.metrics.streams_ended_for_others.inc();
            if let Some(channel) = displaced.send_away() {
                self.fanout.notify_threads(channel);
            }
        }
        self.metrics.viewers.inc();
        self.metrics.viewers_by_zone.get_or_create(&ViewerZoneLabel { zone }).inc();
        let mut rooms = lock(&self.all_channels);
        let room = self.channel_or_insert(&mut rooms, video);
        // The viewer is counted under the lock, so that the channel is not closed in between.
        room.add_viewer(zone);
        drop(rooms);
        if let Some(place) = &place {
            place.note_channel(&room);
        }
        Some(ViewerGuard {
            hub: Arc::clone(self),
            channel: room,
            seen_count_version: None,
            direct_place: place,
            zone,
        })
    }

    /// Returns the place of a direct viewer, and the viewer that has to leave if the reader `is_full`; `None` if a
    /// viewer is to be refused.
    fn reserve_direct_place(
        &self,
        address: Option<IpAddr>,
        is_full: bool,
    ) -> Option<(Option<DirectPlace>, Option<Arc<DirectViewer>>)> {
        match address {
            Some(address) => {
                self.direct_viewers.admit(address, is_full).map(|(place, displaced)| (Some(place), displaced))
            }
            None if is_full => {
                self.direct_viewers.displace_for_gateway().map(|displaced| (None, Some(displaced)))
            }
            None => Some((None, None)),
        }
    }

    /// Returns the channel of a video whose viewers are yet to come, which is made if there is none; `None` if it would
    /// have to be made and there are `most` channels without viewers already.
    pub(crate) fn channel_to_warm(&self, video: &VideoId, most: usize) -> Option<Arc<VideoChannel>> {
        let mut rooms = lock(&self.all_channels);
        let there = rooms.get(video).map(Arc::clone);
        if there.is_none() && rooms.values().filter(|room| room.viewer_total() == 0).count() >= most {
            return None;
        }
        Some(there.unwrap_or_else(|| self.channel_or_insert(&mut rooms, video)))
    }

    fn channel_or_insert(
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

    /// Returns true if the channel is subscribed and the position of its newest comment is known, so that viewers can
    /// be sent to it.
    pub(crate) fn is_channel_ready(&self, room: &VideoChannel) -> bool {
        self.is_channel_subscribed(room) && room.has_known_position()
    }

    /// Subscribes the channel and reads its head, as far as the stores answer within `CHANNEL_OPEN_TIMEOUT`. The
    /// subscription comes first, because then it delivers every comment that is posted after the head was read.
    pub async fn open_channel(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        if room.newest_in_ring().is_some() {
            if !self.is_channel_subscribed(room) {
                // The bus is away, or the channel was about to be closed: comparing heads finds what is missed
                // meanwhile.
                self.subscribe_requested.notify_one();
            }
            return;
        }
        let opened = async {
            self.subscribe_channel(room).await;
            // Another task may have read the head meanwhile.
            if room.newest_in_ring().is_none() {
                self.read_head(room).await;
            }
        };
        // Steps that are not done by then are done by the next comparison of heads.
        let _ = tokio::time::timeout(CHANNEL_OPEN_TIMEOUT, opened).await;
    }

    /// Returns true if the channel is subscribed on the current bus connection.
    pub(crate) fn is_channel_subscribed(&self, room: &VideoChannel) -> bool {
        let number = lock(&self.bus_connection).connection_number;
        number != 0 && room.subscribed_connection_number.load(Ordering::Acquire) == number
    }

    fn current_connection(&self) -> (u64, Option<Arc<dyn Subscription>>) {
        let connection = lock(&self.bus_connection);
        (connection.connection_number, connection.subscription.clone())
    }

    /// Replaces the bus connection: after this, no channel is subscribed. `None`: the connection was lost.
    pub(crate) fn set_connection(&self, subscription: Option<Arc<dyn Subscription>>) {
        let mut connection = lock(&self.bus_connection);
        connection.connection_number += 1;
        connection.subscription = subscription;
    }

    /// Subscribes the channel on the current bus connection if it is not subscribed.
    pub(crate) async fn subscribe_channel(self: &Arc<Self>, room: &Arc<VideoChannel>) {
        let _one_at_a_time = room.opening_lock.lock().await;
        if self.is_channel_subscribed(room) {
            return;
        }
        let (number, Some(subscription)) = self.current_connection() else { return };
        match tokio::time::timeout(STORE_TIMEOUT, subscription.subscribe(&room.video)).await {
            Ok(Ok(())) => {
                room.subscribed_connection_number.store(number, Ordering::Release);
                self.health.note_dependency("comment bus", Ok(()));
            }
            Ok(Err(error)) => self.health.note_dependency("comment bus", Err(error.to_string())),
            Err(_) => self.health.note_dependency("comment bus", Err("subscribing takes too long".into())),
        }
    }

    /// Pushes a comment from the bus into its channel. Returns the number of events to make visible, which the caller
    /// does with `ChannelHub::show_new_comments`.
    pub(crate) fn push(
        self: &Arc<Self>,
        room: &Arc<VideoChannel>,
        numbering: &CommentEpoch,
        comment: &Comment,
    ) -> u64 {
        if self.comment_epoch_or_adopt(numbering) != *numbering {
            // A late comment of an old comment epoch, or the first one of a new epoch: the archive knows which.
            if !self.must_reread_comment_epoch.swap(true, Ordering::Relaxed) {
                self.head_comparison_requested.notify_one();
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
            PushOutcome::Early | PushOutcome::Refused => self.start_repair(room),
            PushOutcome::Repeat => {}
        }
        0
    }

    /// Makes a channel's new comments visible to its viewers, now or when the pace allows it. `events` is the number of
    /// new events.
    pub(crate) fn show_new_comments(self: &Arc<Self>, room: &Arc<VideoChannel>, events: u64) {
        let now = Instant::now();
        let viewers = room.viewer_total();
        // Once for all of the channel's viewers: writing to a viewer counts nothing more than before.
        let crossing = events * room.viewers_of_other_zones();
        if crossing > 0 && !canary::is_canary(&room.video) {
            self.metrics.messages_to_other_zones.inc_by(crossing);
        }
        let show = room.show_paced(now, |counted| {
            lock(&self.write_pacer).wait_after_write(now, events, viewers, counted)
        });
        match show {
            ShowDecision::Nothing => {}
            ShowDecision::Now => self.fanout.notify_threads(room),
            ShowDecision::At(due) => {
                let (hub, room) = (Arc::clone(self), Arc::clone(room));
                // At most one such task for a channel at a time, for as long as the gap.
                tokio::spawn(async move {
                    tokio::time::sleep_until(due.into()).await;
                    if room.show_due(Instant::now()) == ShowDecision::Now {
                        hub.fanout.notify_threads(&room);
                    }
                });
            }
        }
    }

    /// Sends heartbeats to idle viewers and updates the metrics of the rings, once a second, for ever.
    pub async fn send_heartbeats(self: Arc<Self>) {
        /// The time between two looks for idle viewers: one second is exact enough, because heartbeats are tens of
        /// seconds apart.
        const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
        let mut ticks = tokio::time::interval(IDLE_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (now, mut held) = (Instant::now(), 0);
            for room in self.channels() {
                if room.run_periodic_work(now, self.settings.idle_time) {
                    self.fanout.notify_threads(&room);
                }
                let (bytes, crowded_out) = room.measure_ring();
                held += bytes;
                self.metrics.evicted_for_bytes.inc_by(crowded_out);
            }
            self.metrics.ring_bytes.set(held as i64);
        }
    }

    /// Unsubscribes a channel without viewers and removes it, unless a viewer enters meanwhile.
    pub(crate) async fn close_channel(&self, room: &Arc<VideoChannel>) {
        let _one_at_a_time = room.opening_lock.lock().await;
        if room.viewer_total() > 0 {
            return;
        }
        if self.is_channel_subscribed(room) {
            // The number is cleared first, so that a viewer who enters from here on subscribes again, after this
            // unsubscribing.
            room.subscribed_connection_number.store(0, Ordering::Release);
            if let (_, Some(subscription)) = self.current_connection() {
                // If unsubscribing fails, the video's comments are dropped, because there is no channel, until the
                // connection is replaced.
                let _ = tokio::time::timeout(STORE_TIMEOUT, subscription.unsubscribe(&room.video)).await;
            }
        }
        let mut rooms = lock(&self.all_channels);
        if room.viewer_total() == 0 {
            rooms.remove(&room.video);
            self.metrics.active_channels.set(rooms.len() as i64);
        }
    }
}
