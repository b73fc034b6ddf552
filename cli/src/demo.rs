//! The demo of `liverank up`: viewers come, a video goes viral, a reader is drained and opened again, and all viewers
//! leave. Within a minute, somebody who is new to liverank has seen a split, moves and a drain.
//!
//! The viewers are real ones: each holds a comment stream at the gateway, so the system treats them as any other
//! viewer. The script is data ([`DEMO_SCRIPT`]). The demo is limited to [`MAX_DEMO_VIEWERS`] viewers and ends by
//! itself, and only one runs at a time.

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use liverank_core::ReaderId;
use liverank_core::handover::{CordonLevel, PlannerLease};
use liverank_gateway::demo::{DemoHandle, DemoOrder};
use liverank_protocol::DemoState;
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

/// The largest number of demo viewers at once: enough for the planner to act (the planner ignores imbalances below 25
/// viewers). Each demo viewer takes four sockets.
const MAX_DEMO_VIEWERS: usize = 460;
/// The id of the video that goes viral.
const VIRAL_VIDEO: &str = "moon-landing-live";
/// The videos of the demo, each with its owner and its share of the viewers.
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
/// The time between two ticks of the demo: in each tick some viewers connect, and one viewer posts.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// The number of seconds for which the demo tries at its start to reach a manager that knows its planner.
const MAX_START_SECONDS: usize = 30;
/// The time within which a request of the demo must be answered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of orders (start or stop) that may wait: one to begin and one to end.
const MAX_ORDERS_WAITING: usize = 2;

/// A step of the demo's script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScriptAct {
    /// This many viewers come to all videos, some in each tick.
    ViewersArrive(usize),
    /// This many viewers come to the video that goes viral.
    VideoGoesViral(usize),
    /// The last reader is drained, so that its viewers move to others.
    DrainReader,
    /// The drained reader is opened again.
    ReopenReader,
    /// All viewers of the demo leave.
    ViewersLeave,
}

/// The script of the demo: for each step the second at which it begins, and the text that the console shows.
const DEMO_SCRIPT: [(u64, ScriptAct, &str); 5] = [
    (0, ScriptAct::ViewersArrive(180), "180 viewers come to seven videos"),
    (
        10,
        ScriptAct::VideoGoesViral(280),
        "One video goes viral: 280 viewers come within seconds, and the planner splits it",
    ),
    (
        34,
        ScriptAct::DrainReader,
        "A reader is emptied: its viewers go over to the others, and nobody loses a comment",
    ),
    (52, ScriptAct::ReopenReader, "The reader is open again, and the planner evens the load out"),
    (74, ScriptAct::ViewersLeave, "The viewers leave"),
];
/// The second at which the demo ends.
const END_SECOND: u64 = 78;

/// Makes a viewer's token for the user with this id.
pub type TokenMaker = Box<dyn Fn(&str) -> anyhow::Result<String> + Send + Sync>;

/// The access to the running system that the demo needs.
pub struct DemoSystem {
    /// The address of a gateway.
    pub gateway: Url,
    /// The address of a manager.
    pub manager: Url,
    /// The identity of an operator, which the demo shows to the managers.
    pub identity: Identity,
    /// Makes the tokens of viewers; `None` if the system asks viewers for none.
    pub token_maker: Option<TokenMaker>,
}

/// Creates the demo of a system. Returns the handle that starts and stops it, and a future that must run until the end
/// of the process.
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
            ended = serve_demo_orders(DemoClient::new(system, &peers), wanted, tell) => ended,
        }
    })
}

async fn serve_demo_orders(
    stage: DemoClient,
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
        // However the demo ended, it must leave no reader cordoned.
        if let Err(error) = stage.cordon_reader(None).await {
            tracing::warn!(%error, "the reader that the demo closed could not be opened again");
        }
        tell.send_replace(DemoState::default());
    }
    Ok(())
}

/// Opens the readers that an earlier process left cordoned because it was killed in the middle of a demo.
async fn reopen_readers(stage: &DemoClient) {
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

async fn play_script(stage: &DemoClient, tell: &watch::Sender<DemoState>) -> anyhow::Result<()> {
    let begun = Instant::now();
    // Dropping the set at the end closes all viewers' streams.
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
                ScriptAct::ViewersArrive(count) => coming.extend(videos_of_viewers(*count)),
                ScriptAct::VideoGoesViral(count) => coming.extend(std::iter::repeat_n(VIRAL_VIDEO, *count)),
                ScriptAct::DrainReader => stage.cordon_reader(Some(CordonLevel::Draining)).await?,
                ScriptAct::ReopenReader => stage.cordon_reader(None).await?,
                ScriptAct::ViewersLeave => viewers.abort_all(),
            }
        }
        tell.send_replace(DemoState {
            running: true,
            step: step.to_owned(),
            seconds_left: END_SECOND - seconds,
        });
        for video in coming.drain(..coming.len().min(5)) {
            if viewers.len() < MAX_DEMO_VIEWERS {
                viewers.spawn(stage.watch_video(video, viewers.len()));
            }
        }
        stage.post_for_tick(beat).await;
        while viewers.try_join_next().is_some() {}
        sleep_until(begun + TICK_INTERVAL * u32::try_from(beat + 1).unwrap_or(u32::MAX)).await;
    }
    Ok(())
}

/// Returns the video of each of `count` viewers, in mixed order: each video gets its share of the viewers.
fn videos_of_viewers(count: usize) -> Vec<&'static str> {
    let parts: Vec<&str> =
        DEMO_VIDEOS.iter().flat_map(|(video, _, part)| std::iter::repeat_n(*video, *part)).collect();
    // The step has no divisor in common with the number of parts, so it visits all of them in turn.
    (0..count).map(|at| parts[at * 11 % parts.len()]).collect()
}

/// The running system, and the clients that reach it.
struct DemoClient {
    system: DemoSystem,
    client: Client,
    managers: PeerClient,
}

impl DemoClient {
    fn new(system: DemoSystem, peers: &PeerClient) -> Self {
        let managers = peers.with_token_for(&system.identity, CalledService::Manager);
        Self { system, client: peers.client(), managers }
    }

    fn with_user_token(&self, user: &str, request: RequestBuilder) -> RequestBuilder {
        match self.system.token_maker.as_ref().and_then(|token| token(user).ok()) {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Opens a viewer's stream and reads it until it ends.
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

    /// Posts for one of the viewers: an interaction, or a comment in every seventh tick. Errors are ignored, because a
    /// lost post does no harm.
    async fn post_for_tick(&self, beat: u64) {
        let at = beat as usize;
        let user = format!("demo-{}", at * 37 % MAX_DEMO_VIEWERS);
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

    /// Sets this cordon on the last reader; with `None`, opens all readers that the demo cordoned. The request is made
    /// under the current term, so that the planner stays in charge.
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

/// The reason that the demo gives for a cordon: it is shown to people, and the demo finds its own cordons by it.
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
                ScriptAct::ViewersArrive(count) | ScriptAct::VideoGoesViral(count) => *count,
                _ => 0,
            })
            .sum();
        assert_eq!(come, MAX_DEMO_VIEWERS);
        assert_eq!(DEMO_SCRIPT.last().unwrap().1, ScriptAct::ViewersLeave);
    }

    #[test]
    fn every_video_has_its_part_of_the_viewers() {
        let spread = videos_of_viewers(180);
        let most = DEMO_VIDEOS.iter().map(|(_, _, part)| part).sum::<usize>();
        for (video, _, part) in DEMO_VIDEOS {
            let own = spread.iter().filter(|one| **one == video).count();
            assert!(own.abs_diff(180 * part / most) <= part, "{video}: {own}");
        }
    }
}
