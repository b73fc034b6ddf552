//! A steady load whose every event is recorded, and viewers that record the comments that they get.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::ensure;
use liverank_core::Kind;
use liverank_load::plan::{PostAction, PostEvent, PostingPlan};
use liverank_load::poster::EventPoster;
use liverank_load::record::RunRecord;
use liverank_load::targets::TargetAddresses;
use liverank_load::viewer::{ConnectMode, LoadViewer, ViewerGroup};
use liverank_load::ws::ListWatchers;
use rand::RngExt;
use reqwest::{Client, Url};
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::WorldClock;
use crate::kafka::Topic;

/// The length of the planned load: longer than any run.
const MAX_PLANNED_TIME: Duration = Duration::from_hours(24);
/// The most events that are posted and not acknowledged; when it is reached, the load falls behind instead of filling
/// the memory.
const MAX_EVENTS_IN_FLIGHT: u32 = 4000;
/// The greatest delay of a foreign producer's event, in milliseconds: with the tries, it comes within the minute that an
/// event may be late.
const MOST_LATE_MS: i64 = 30_000;
/// The numbers of users from which foreign producers' events are.
const FOREIGN_USERS: u32 = 2_000_000_000;
/// The number of the first of the records that end a run: beyond those that foreign producers write before.
const LAST_FOREIGN: usize = 1_000_000_000;
/// The pause of a foreign producer before it tries a record again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The time limit of a foreign producer's append to the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The size of the load.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// The number of videos.
    #[arg(long, default_value_t = 12)]
    pub videos: usize,
    /// Interactions a second through the gateways.
    #[arg(long, default_value_t = 60.0)]
    pub interactions: f64,
    /// Comments a second through the gateways.
    #[arg(long, default_value_t = 8.0)]
    pub comments: f64,
    /// Events a second without a key, straight into Kafka.
    #[arg(long, default_value_t = 20.0)]
    pub foreign: f64,
    /// Viewers, half of them through the gateways, half directly.
    #[arg(long, default_value_t = 40)]
    pub viewers: usize,
}

/// The load on one system, with the record of what was sent and received.
pub struct Traffic {
    /// The events that are posted.
    pub plan: PostingPlan,
    /// The record of sent, acknowledged and received events.
    pub record: Arc<RunRecord>,
    /// All viewers of comments.
    pub viewers: Vec<Arc<LoadViewer>>,
    /// The clients that receive ranked lists.
    pub watchers: Arc<ListWatchers>,
    /// A lock between records and faults: held for reading while a record without an id goes to Kafka, because a
    /// duplicate of it could not be recognised; held for writing by whoever disturbs Kafka.
    pub kafka_undisturbed: Arc<RwLock<()>>,
    clock: Arc<WorldClock>,
    ways: [Arc<ViewerGroup>; 2],
    poster: Arc<EventPoster>,
    open: watch::Sender<bool>,
    in_flight_permits: Arc<Semaphore>,
    over: CancellationToken,
}

impl Traffic {
    /// Creates a load for these gateways and managers, and starts its viewers; nothing is posted yet.
    pub fn new(
        prefix: &str,
        gateways: &[String],
        managers: &[String],
        load: &Load,
        seed: u64,
        clock: Arc<WorldClock>,
    ) -> anyhow::Result<Self> {
        let parsed = |urls: &[String]| urls.iter().map(|url| url.parse()).collect::<Result<Vec<Url>, _>>();
        // A like counts once a user here, so each is another user's.
        let plan = PostingPlan::new(prefix.to_owned(), load.videos, 0.8, seed).with_user_per_interaction();
        let record = Arc::new(RunRecord::new(
            load.videos + 1,
            liverank_load::plan::events_in(load.comments, MAX_PLANNED_TIME),
        ));
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(2))
            .no_proxy()
            .build()?;
        let targets = TargetAddresses::new(&parsed(gateways)?);
        let over = CancellationToken::new();
        let audience = |connect_mode: ConnectMode| {
            Arc::new(ViewerGroup {
                connect_mode,
                record: Arc::clone(&record),
                nothing_posted_yet: AtomicBool::new(true),
                posting_over: CancellationToken::new(),
                run_over: over.clone(),
            })
        };
        let ways = [
            audience(ConnectMode::ThroughGateway(targets.clone())),
            audience(ConnectMode::Direct(client.clone(), TargetAddresses::new(&parsed(managers)?))),
        ];
        let viewer = |(nth, video)| LoadViewer::new(nth, plan.prefix(), video, plan.video_id(video), false);
        let viewers: Vec<Arc<LoadViewer>> =
            plan.watched_videos(load.viewers).into_iter().enumerate().map(viewer).collect();
        for (nth, viewer) in viewers.iter().enumerate() {
            tokio::spawn(Arc::clone(viewer).watch_until_over(Arc::clone(&ways[nth % 2])));
        }
        let watchers = ListWatchers::new(targets.clone(), Arc::clone(&record), &plan);
        for nth in 0..2 {
            tokio::spawn(Arc::clone(&watchers).watch_until_over(nth, over.clone()));
        }
        Ok(Self {
            poster: EventPoster::new(client, targets, plan.clone(), Arc::clone(&record)),
            plan,
            record,
            viewers,
            watchers,
            kafka_undisturbed: Arc::default(),
            clock,
            ways,
            open: watch::Sender::new(false),
            in_flight_permits: Arc::new(Semaphore::new(MAX_EVENTS_IN_FLIGHT as usize)),
            over,
        })
    }

    /// Posts a view of every video, so that each exists, and waits until all viewers are connected.
    pub async fn begin(self: &Arc<Self>, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        for event in self.plan.opening_views() {
            let posted = tokio::time::timeout_at(deadline, self.poster.post(&event)).await;
            ensure!(posted == Ok(true), "{} was not acknowledged", event.id);
        }
        while (self.record.counts.connected_viewers.load(Relaxed) as usize) < self.viewers.len() {
            let connected = self.record.counts.connected_viewers.load(Relaxed);
            ensure!(Instant::now() < deadline, "{connected} of {} viewers got connected", self.viewers.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for way in &self.ways {
            way.nothing_posted_yet.store(false, Relaxed);
        }
        Ok(())
    }

    /// Starts the generators of events, which post while the load is on; those that write into Kafka itself only with
    /// a `topic`.
    pub fn generate(self: &Arc<Self>, load: &Load, topic: Option<Topic>) {
        self.post_through_gateways(
            self.plan.interaction_events(load.interactions, MAX_PLANNED_TIME),
            load.interactions,
        );
        self.post_through_gateways(self.plan.comment_events(load.comments, MAX_PLANNED_TIME), load.comments);
        if let Some(topic) = topic {
            self.produce_as_foreigner(topic, load.foreign);
        }
    }

    fn post_through_gateways(
        self: &Arc<Self>,
        events: impl Iterator<Item = PostEvent> + Send + 'static,
        rate: f64,
    ) {
        let traffic = Arc::clone(self);
        tokio::spawn(async move {
            for event in events {
                let Some(room) = traffic.wait_for_turn(rate).await else { return };
                let poster = Arc::clone(&traffic.poster);
                tokio::spawn(async move {
                    poster.post(&event).await;
                    drop(room);
                });
            }
        });
    }

    /// Starts a producer like those of the ranking seed: no key, any partition, mostly one hot video. While Kafka is
    /// disturbed its records have an id, so that they can be sent again; otherwise half of them have none.
    fn produce_as_foreigner(self: &Arc<Self>, topic: Topic, rate: f64) {
        let traffic = Arc::clone(self);
        tokio::spawn(async move {
            for number in 0.. {
                let Some(room) = traffic.wait_for_turn(rate).await else { return };
                let (traffic, topic) = (Arc::clone(&traffic), topic.clone());
                tokio::spawn(async move {
                    traffic.append_foreign_record(&topic, number, None).await;
                    drop(room);
                });
            }
        });
    }

    /// Appends one more record without a key to each partition.
    pub async fn append_to_each_partition(&self, topic: &Topic) -> anyhow::Result<()> {
        for partition in 0..topic.partitions() {
            self.append_foreign_record(topic, LAST_FOREIGN + partition, Some(partition)).await;
        }
        let given_up = self.record.counts.unacknowledged.load(Relaxed);
        ensure!(given_up == 0, "Kafka refused {given_up} records");
        Ok(())
    }

    async fn append_foreign_record(&self, topic: &Topic, number: usize, only: Option<usize>) {
        let plain = number.is_multiple_of(2);
        let hot = rand::random_range(0..2) == 0;
        let event = PostEvent {
            id: format!("{}-f{number}", self.plan.prefix()),
            event_index: 0,
            post_after: Duration::ZERO,
            video: if hot { 0 } else { rand::random_range(0..self.plan.video_count()) },
            // No user of another event: of a user's likes of a video only one would count.
            user_number: FOREIGN_USERS + number as u32,
            post_action: PostAction::Interact(if plain { Kind::Share } else { Kind::Like }, 0),
        };
        let (_, mut body) = self.plan.request_of(&event);
        let sent = self.record.note_sent(&event);
        let calm = if plain { self.kafka_undisturbed.try_read().ok() } else { None };
        if calm.is_some()
            && let Some(body) = body.as_object_mut()
        {
            body.remove("event_id");
        } else {
            // A record that is sent again to another partition counts in the same hour. Some happened before an hour
            // ended, and come after that.
            let at_ms = self.clock.now_ms() - rand::random_range(0..MOST_LATE_MS);
            body["timestamp"] = (at_ms as f64 / 1000.0).into();
        }
        let value = body.to_string().into_bytes();
        loop {
            let partition = only.unwrap_or_else(|| rand::rng().random_range(0..topic.partitions()));
            let appended = topic.append(partition, value.clone());
            let done = if calm.is_some() {
                appended.await.is_ok()
            } else {
                tokio::time::timeout(ANSWER_TIMEOUT, appended).await.is_ok_and(|done| done.is_ok())
            };
            if done {
                return self.record.note_acknowledged(&event, sent);
            }
            if calm.is_some() {
                // Kafka refused the record although nobody disturbed it: whether the record counts is unknown.
                return self.record.note_given_up(&event);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Waits for the next event's time, until the load is on, and until there is room for an event in flight; `None`
    /// when the run is over.
    pub async fn wait_for_turn(&self, rate: f64) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let mut open = self.open.subscribe();
        tokio::select! {
            () = self.over.cancelled() => None,
            room = async {
                // Random pauses with the right average, so that generators do not run in step.
                let pace = Duration::from_secs_f64(rand::random_range(0.0..=2.0) / rate);
                tokio::time::sleep(pace).await;
                loop {
                    open.wait_for(|open| *open).await.ok()?;
                    let room = Arc::clone(&self.in_flight_permits).acquire_owned().await.ok()?;
                    // The load may have been turned off during the wait for room.
                    if *open.borrow() {
                        return Some(room);
                    }
                }
            } => room,
        }
    }

    /// Turns the load on.
    pub fn turn_on(&self) {
        self.open.send_replace(true);
    }

    /// Turns the load off, and waits until all events in flight are acknowledged; an error after `patience`.
    pub async fn turn_off(&self, patience: Duration) -> anyhow::Result<()> {
        self.open.send_replace(false);
        let all =
            tokio::time::timeout(patience, self.in_flight_permits.acquire_many(MAX_EVENTS_IN_FLIGHT)).await;
        let under_way = MAX_EVENTS_IN_FLIGHT as usize - self.in_flight_permits.available_permits();
        ensure!(all.is_ok(), "{under_way} events are not acknowledged {patience:?} after the last fault");
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.over.cancel();
        self.poster.give_up_token.cancel();
    }
}
