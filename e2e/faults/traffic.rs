//! A steady load that knows every event, and viewers who write down what they are given.

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
use liverank_load::viewer::{ConnectWay, LoadAudience, LoadViewer};
use liverank_load::ws::ListWatchers;
use rand::RngExt;
use reqwest::{Client, Url};
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kafka::Topic;

/// Everything here is drawn for a day at most; a run is over before.
const MAX_PLANNED_TIME: Duration = Duration::from_hours(24);
/// Events on their way; past it the load runs late rather than the memory full.
const MAX_EVENTS_IN_FLIGHT: u32 = 4000;
/// How long a foreign producer waits before it tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a foreign producer waits for the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How much.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Videos.
    #[arg(long, default_value_t = 12)]
    pub videos: usize,
    /// Interactions a second through the front door.
    #[arg(long, default_value_t = 60.0)]
    pub interactions: f64,
    /// Comments a second through the front door.
    #[arg(long, default_value_t = 8.0)]
    pub comments: f64,
    /// Events a second without a key, straight into Kafka.
    #[arg(long, default_value_t = 20.0)]
    pub foreign: f64,
    /// Viewers, half of them through the front door, half directly.
    #[arg(long, default_value_t = 40)]
    pub viewers: usize,
}

/// The load on one system, and what is known of it.
pub struct Traffic {
    /// What is posted.
    pub plan: PostingPlan,
    /// What became of it.
    pub record: Arc<RunRecord>,
    /// All viewers.
    pub viewers: Vec<Arc<LoadViewer>>,
    /// Clients of the ranked lists.
    pub watchers: Arc<ListWatchers>,
    /// Held for reading while a record goes to Kafka that could not be recognised if it went twice; whoever disturbs
    /// Kafka holds it for writing.
    pub calm: Arc<RwLock<()>>,
    ways: [Arc<LoadAudience>; 2],
    poster: Arc<EventPoster>,
    open: watch::Sender<bool>,
    room: Arc<Semaphore>,
    over: CancellationToken,
}

impl Traffic {
    /// A load on these front doors and managers that has not begun.
    pub fn new(
        prefix: &str,
        gateways: &[String],
        managers: &[String],
        load: &Load,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let parsed = |urls: &[String]| urls.iter().map(|url| url.parse()).collect::<Result<Vec<Url>, _>>();
        let plan = PostingPlan::new(prefix.to_owned(), load.videos, 0.8, seed);
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
        let audience = |way: ConnectWay| {
            Arc::new(LoadAudience {
                way,
                record: Arc::clone(&record),
                nothing_posted_yet: AtomicBool::new(true),
                posting_over: CancellationToken::new(),
                run_over: over.clone(),
            })
        };
        let ways = [
            audience(ConnectWay::FrontDoor(targets.clone())),
            audience(ConnectWay::Direct(client.clone(), TargetAddresses::new(&parsed(managers)?))),
        ];
        let viewer = |(nth, video)| LoadViewer::new(nth, plan.prefix(), video, plan.video(video), false);
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
            calm: Arc::default(),
            ways,
            open: watch::Sender::new(false),
            room: Arc::new(Semaphore::new(MAX_EVENTS_IN_FLIGHT as usize)),
            over,
        })
    }

    /// Makes every video exist, and waits until all viewers are connected.
    pub async fn begin(self: &Arc<Self>, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        for event in self.plan.opening_views() {
            let posted = tokio::time::timeout_at(deadline, self.poster.post(&event)).await;
            ensure!(posted == Ok(true), "{} was not acknowledged", event.id);
        }
        while (self.record.counts.connected.load(Relaxed) as usize) < self.viewers.len() {
            let connected = self.record.counts.connected.load(Relaxed);
            ensure!(Instant::now() < deadline, "{connected} of {} viewers got connected", self.viewers.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for way in &self.ways {
            way.nothing_posted_yet.store(false, Relaxed);
        }
        Ok(())
    }

    /// Starts the generators; they post while the load is on.
    pub fn generate(self: &Arc<Self>, load: &Load, topic: Option<Topic>) {
        self.through_the_door(
            self.plan.interaction_events(load.interactions, MAX_PLANNED_TIME),
            load.interactions,
        );
        self.through_the_door(self.plan.comment_events(load.comments, MAX_PLANNED_TIME), load.comments);
        if let Some(topic) = topic {
            self.produce_as_foreigner(topic, load.foreign);
        }
    }

    fn through_the_door(
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

    /// The ranking seed's producers: no key, any partition, one hot video above all; with an id where Kafka is being
    /// disturbed, so that they can repeat themselves, and without where it is not.
    fn produce_as_foreigner(self: &Arc<Self>, topic: Topic, rate: f64) {
        let traffic = Arc::clone(self);
        tokio::spawn(async move {
            for number in 0.. {
                let Some(room) = traffic.wait_for_turn(rate).await else { return };
                let (traffic, topic) = (Arc::clone(&traffic), topic.clone());
                tokio::spawn(async move {
                    traffic.append_foreign_record(&topic, number).await;
                    drop(room);
                });
            }
        });
    }

    async fn append_foreign_record(&self, topic: &Topic, number: usize) {
        let plain = number.is_multiple_of(2);
        let hot = rand::random_range(0..2) == 0;
        let event = PostEvent {
            id: format!("{}-f{number}", self.plan.prefix()),
            comment_index: 0,
            post_after: Duration::ZERO,
            video: if hot { 0 } else { rand::random_range(0..self.plan.videos()) },
            user_number: 1,
            post_action: PostAction::Interact(if plain { Kind::Share } else { Kind::Like }, 0),
        };
        let (_, mut body) = self.plan.request_of(&event);
        let sent = self.record.note_sent(&event);
        let calm = if plain { self.calm.try_read().ok() } else { None };
        if calm.is_some()
            && let Some(body) = body.as_object_mut()
        {
            body.remove("event_id");
        }
        let value = body.to_string().into_bytes();
        loop {
            let partition = rand::rng().random_range(0..topic.partitions());
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
                // Nobody disturbed Kafka, and it refused: whether it counts cannot be told.
                return self.record.note_given_up(&event);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Waits for the next event's time, for the load to be on, and for room; `None` when the run is over.
    async fn wait_for_turn(&self, rate: f64) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let mut open = self.open.subscribe();
        tokio::select! {
            () = self.over.cancelled() => None,
            room = async {
                // An even pace on the average; no two generators in step.
                let pace = Duration::from_secs_f64(rand::random_range(0.0..=2.0) / rate);
                tokio::time::sleep(pace).await;
                loop {
                    open.wait_for(|open| *open).await.ok()?;
                    let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
                    // Waiting for room may have taken until after the load was turned off.
                    if *open.borrow() {
                        return Some(room);
                    }
                }
            } => room,
        }
    }

    /// The load goes on.
    pub fn on(&self) {
        self.open.send_replace(true);
    }

    /// The load pauses, and everything under way is acknowledged.
    pub async fn off(&self, patience: Duration) -> anyhow::Result<()> {
        self.open.send_replace(false);
        let all = tokio::time::timeout(patience, self.room.acquire_many(MAX_EVENTS_IN_FLIGHT)).await;
        let under_way = MAX_EVENTS_IN_FLIGHT as usize - self.room.available_permits();
        ensure!(all.is_ok(), "{under_way} events are not acknowledged {patience:?} after the last fault");
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.over.cancel();
        self.poster.give_up.cancel();
    }
}
