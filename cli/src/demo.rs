//! The demo of `liverank up`: viewers come, a video goes viral, a reader is emptied and opened again, and all of them leave.
//! Within a minute a newcomer has seen a split, moves and a drain.
//!
//! The viewers are real ones: each holds a comment stream at the front door, so everything that happens to them happens to
//! any viewer. What happens when is data ([`DEMO_SCRIPT`]). It is bounded by [`DEMO_VIEWERS`] and by its end, and one runs at a time.

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use liverank_core::ReaderId;
use liverank_core::handover::{CordonLevel, PlannerLease};
use liverank_gateway::demo::{DemoHandle, DemoOrder, DemoState};
use liverank_protocol::access::CalledService;
use liverank_protocol::{ClusterLoad, CordonRequest, CordonsAnswer, CordonsRequest, MaybeUnknown};
use liverank_runtime::client::{Client, RequestBuilder};
use liverank_runtime::peer::{PeerClient, join_path};
use liverank_runtime::{Identity, ServiceContext};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Viewers at once: enough for the planner to act (it leaves imbalances below 25 viewers alone), and four sockets each.
const DEMO_VIEWERS: usize = 460;
/// The video that goes viral.
const VIRAL_VIDEO: &str = "moon-landing-live";
/// The others, each with its owner and its part of the viewers.
const DEMO_VIDEOS: [(&str, &str, usize); 7] = [
    ("northern-lights", "freya", 8),
    ("street-food-tour", "minh", 6),
    ("tiny-robots", "ada", 5),
    ("harbour-at-dawn", "joana", 4),
    ("vinyl-restoration", "otis", 3),
    ("endgame-studies", "vera", 2),
    (VIRAL_VIDEO, "katherine", 1),
];
const COMMENT_TEXTS: [&str; 6] = [
    "It is really happening!",
    "Greetings from Porto!",
    "Everybody in the office watches this.",
    "Where was this filmed?",
    "Here from the front page.",
    "I have waited years for this.",
];
/// Between two things that are done.
const BEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How many seconds the managers may take to know who plans, at the start.
const MAX_START_SECONDS: usize = 30;
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Orders that wait: one to begin and one to end.
const MAX_ORDERS_WAITING: usize = 2;

/// What the demo begins at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScriptAct {
    /// So many viewers come to the videos, one a beat at least.
    Come(usize),
    /// So many come to the one that goes viral.
    Viral(usize),
    /// The last reader is emptied.
    Drain,
    /// It takes viewers again.
    Open,
    /// Everybody leaves.
    Leave,
}

/// Second, what begins then, and how it is told.
const DEMO_SCRIPT: [(u64, ScriptAct, &str); 5] = [
    (0, ScriptAct::Come(180), "180 viewers come to seven videos"),
    (
        10,
        ScriptAct::Viral(280),
        "One video goes viral: 280 viewers come within seconds, and the planner splits it",
    ),
    (
        34,
        ScriptAct::Drain,
        "A reader is emptied: its viewers go over to the others, and nobody loses a comment",
    ),
    (52, ScriptAct::Open, "The reader is open again, and the planner evens the load out"),
    (74, ScriptAct::Leave, "The viewers leave"),
];
/// When it is over, in seconds.
const END_SECOND: u64 = 78;

/// Makes a viewer's token.
pub type TokenMaker = Box<dyn Fn(&str) -> anyhow::Result<String> + Send + Sync>;

/// What the demo needs of the system.
pub struct DemoSystem {
    /// The front door.
    pub gateway: Url,
    /// A manager.
    pub manager: Url,
    /// Shown to the managers: an operator's.
    pub identity: Identity,
    /// Where the system asks viewers for tokens.
    pub token: Option<TokenMaker>,
}

/// The demo of a system, and what has it running until the end of the process.
pub fn new_demo(
    system: DemoSystem,
    shell: ServiceContext,
) -> (DemoHandle, impl Future<Output = anyhow::Result<()>>) {
    let (orders, wanted) = mpsc::channel(MAX_ORDERS_WAITING);
    let peers = PeerClient::over_tls(&shell.peer_tls);
    let (tell, state) = watch::channel(DemoState::default());
    (DemoHandle { orders, state }, async move {
        let shutdown = shell.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = serve_orders(DemoStage::new(system, &peers), wanted, tell) => ended,
        }
    })
}

async fn serve_orders(
    stage: DemoStage,
    mut wanted: mpsc::Receiver<DemoOrder>,
    tell: watch::Sender<DemoState>,
) -> anyhow::Result<()> {
    reopen_readers(&stage).await;
    while let Some(order) = wanted.recv().await {
        if order == DemoOrder::Stop {
            continue;
        }
        let played = tokio::select! {
            played = play_script(&stage, &tell) => played,
            () = wait_for_stop(&mut wanted) => Ok(()),
        };
        if let Err(error) = played {
            tracing::warn!(%error, "the demo ended early");
        }
        // However it ended, no reader stays closed because of it.
        if let Err(error) = stage.cordon_reader(None).await {
            tracing::warn!(%error, "the reader that the demo closed could not be opened again");
        }
        tell.send_replace(DemoState::default());
    }
    Ok(())
}

/// A process that was killed in the middle of a demo has left a reader closed.
async fn reopen_readers(stage: &DemoStage) {
    for _ in 0..MAX_START_SECONDS {
        if stage.cordon_reader(None).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn wait_for_stop(wanted: &mut mpsc::Receiver<DemoOrder>) {
    while wanted.recv().await.is_some_and(|order| order != DemoOrder::Stop) {}
}

async fn play_script(stage: &DemoStage, tell: &watch::Sender<DemoState>) -> anyhow::Result<()> {
    let begun = Instant::now();
    // Dropped at the end, and the streams with it.
    let mut viewers = JoinSet::new();
    let mut coming: Vec<&str> = Vec::new();
    let mut acts = DEMO_SCRIPT.iter().peekable();
    let mut step = "";
    for beat in 0_u64.. {
        let seconds = begun.elapsed().as_secs();
        if seconds >= END_SECOND {
            break;
        }
        while let Some((_, act, text)) = acts.next_if(|(at, ..)| *at <= seconds) {
            step = text;
            match act {
                ScriptAct::Come(count) => coming.extend(viewers_by_video(*count)),
                ScriptAct::Viral(count) => coming.extend(std::iter::repeat_n(VIRAL_VIDEO, *count)),
                ScriptAct::Drain => stage.cordon_reader(Some(CordonLevel::Draining)).await?,
                ScriptAct::Open => stage.cordon_reader(None).await?,
                ScriptAct::Leave => viewers.abort_all(),
            }
        }
        tell.send_replace(DemoState {
            running: true,
            step: step.to_owned(),
            seconds_left: END_SECOND - seconds,
        });
        for video in coming.drain(..coming.len().min(5)) {
            if viewers.len() < DEMO_VIEWERS {
                viewers.spawn(stage.watch_video(video, viewers.len()));
            }
        }
        stage.post_for_beat(beat).await;
        while viewers.try_join_next().is_some() {}
        sleep_until(begun + BEAT_INTERVAL * u32::try_from(beat + 1).unwrap_or(u32::MAX)).await;
    }
    Ok(())
}

/// The video of each viewer, in random order: each video has its part of the viewers.
fn viewers_by_video(count: usize) -> Vec<&'static str> {
    let parts: Vec<&str> =
        DEMO_VIDEOS.iter().flat_map(|(video, _, part)| std::iter::repeat_n(*video, *part)).collect();
    // A step that has no divisor in common with the parts goes through all of them in turn.
    (0..count).map(|at| parts[at * 11 % parts.len()]).collect()
}

/// The system, and the way to it.
struct DemoStage {
    system: DemoSystem,
    client: Client,
    managers: PeerClient,
}

impl DemoStage {
    fn new(system: DemoSystem, peers: &PeerClient) -> Self {
        let managers = peers.with_token_for(&system.identity, CalledService::Manager);
        Self { system, client: peers.client(), managers }
    }

    fn with_user_token(&self, user: &str, request: RequestBuilder) -> RequestBuilder {
        match self.system.token.as_ref().and_then(|token| token(user).ok()) {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A viewer's stream, read until it ends.
    fn watch_video(&self, video: &str, number: usize) -> impl Future<Output = ()> + Send + use<> {
        let user = format!("demo-{number}");
        let mut url = join_path(&self.system.gateway, &["connect"]);
        url.query_pairs_mut().append_pair("userid", &user).append_pair("videoid", video);
        let request = self.with_user_token(&user, self.client.get(url));
        async move {
            let Ok(answer) = request.send().await else { return };
            let mut stream = answer.bytes_stream();
            while let Some(Ok(_)) = stream.next().await {}
        }
    }

    /// What a few of the viewers do: one thing a beat, and a comment now and then. What does not arrive is no harm.
    async fn post_for_beat(&self, beat: u64) {
        let at = beat as usize;
        let user = format!("demo-{}", at * 37 % DEMO_VIEWERS);
        let (video, owner, _) = DEMO_VIDEOS[if at.is_multiple_of(2) { 6 } else { at * 5 % 6 }];
        let (path, body): (&str, Value) = if at.is_multiple_of(7) {
            (
                "comment",
                json!({"userid": user, "videoid": video, "comment": COMMENT_TEXTS[at / 7 % COMMENT_TEXTS.len()]}),
            )
        } else {
            let kind = ["view", "view", "like", "share"][at / 2 % 4];
            ("interact", json!({"video_id": video, "owner_id": owner, "user_id": user, "type": kind}))
        };
        let request = self.client.post(join_path(&self.system.gateway, &[path])).json(&body);
        let _ = timeout(REQUEST_TIMEOUT, self.with_user_token(&user, request).send()).await;
    }

    /// Closes the last reader, or opens all that the demo closed. Under the term in force, so that its planner goes on.
    async fn cordon_reader(&self, closing: Option<CordonLevel>) -> anyhow::Result<()> {
        let load: ClusterLoad = self.managers.get(&self.system.manager, &["load"]).await?;
        let own = load
            .cordons
            .iter()
            .filter(|cordon| cordon.why == CORDON_REASON)
            .map(|cordon| cordon.reader.clone());
        let readers: Vec<ReaderId> = match closing {
            None => own.collect(),
            Some(_) => load.readers.iter().map(|reader| reader.id.clone()).max().into_iter().collect(),
        };
        if readers.is_empty() || (closing.is_some() && load.readers.len() < 2) {
            return Ok(());
        }
        let term = load.term.context("nobody plans")?.term;
        let cordon = |reader| CordonRequest {
            reader,
            cordon: closing.map(MaybeUnknown::Known),
            why: CORDON_REASON.to_owned(),
        };
        let lease = PlannerLease { uid: "demo".into(), transitions: 0 };
        let wanted = CordonsRequest { term, lease, cordons: readers.into_iter().map(cordon).collect() };
        let _: CordonsAnswer = self.managers.post(&self.system.manager, &["cordons"], &wanted).await?;
        Ok(())
    }
}

/// Why a reader is closed, for others to see, and for the demo to know its own.
const CORDON_REASON: &str = "the demo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_script_is_in_order_and_within_its_bounds() {
        assert!(DEMO_SCRIPT.is_sorted_by_key(|(at, ..)| *at));
        assert!(DEMO_SCRIPT.iter().all(|(at, ..)| *at < END_SECOND));
        let come: usize = DEMO_SCRIPT
            .iter()
            .map(|(_, act, _)| match act {
                ScriptAct::Come(count) | ScriptAct::Viral(count) => *count,
                _ => 0,
            })
            .sum();
        assert_eq!(come, DEMO_VIEWERS);
        assert_eq!(DEMO_SCRIPT.last().unwrap().1, ScriptAct::Leave);
    }

    #[test]
    fn every_video_has_its_part_of_the_viewers() {
        let spread = viewers_by_video(180);
        let most = DEMO_VIDEOS.iter().map(|(_, _, part)| part).sum::<usize>();
        for (video, _, part) in DEMO_VIDEOS {
            let own = spread.iter().filter(|one| **one == video).count();
            assert!(own.abs_diff(180 * part / most) <= part, "{video}: {own}");
        }
    }
}
