//! `liverank load`: simulated viewers, posters and WebSocket clients, who know what must have happened and report if it
//! did. The command does what the seeds' clients did, at any size.
//!
//! | module | does |
//! |---|---|
//! | `args` | the arguments of the command |
//! | [`plan`] | the events of a run and their times, computed from the seed (pure) |
//! | [`oracle`] | what must be true afterwards, and the faults where it is not (pure) |
//! | [`sse`] | parses the bytes of a stream into events (pure) |
//! | [`record`] | counts, latencies and faults of a run |
//! | [`poster`] | posts each event until it is acknowledged, with the same identity |
//! | [`viewer`] | streams of comments, resumed when they are lost |
//! | [`moderation`] | comments that are pinned, deleted, held, reported and banned for |
//! | [`unique`] | interactions that count once per user, and are taken back |
//! | [`boards`] | reads of boards |
//! | [`board_lists`] | compares the lists of boards when the system is at rest |
//! | [`periods`] | the figures of each period of a run |
//! | [`ws`] | ranked lists over `WebSockets`, and the probe that measures their latency |
//! | [`verify`] | compares everything when the system is at rest |
//! | [`report`] | the outcome as text and JSON |

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use liverank_runtime::output::OutputFormat;
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod args;
pub mod board_lists;
pub mod boards;
pub mod moderation;
pub mod oracle;
mod pace;
mod patient;
pub mod periods;
pub mod plan;
pub mod poster;
pub mod record;
pub mod report;
pub mod sse;
pub mod targets;
pub mod unique;
pub mod verify;
pub mod viewer;
pub mod ws;

pub use args::Args;
use board_lists::BoardLists;
use boards::BoardReadLoad;
use moderation::LoadModerator;
use plan::PostingPlan;
use poster::EventPoster;
use record::{RunRecord, lock_ignoring_poison};
use report::{LoadReport, RunSize};
use targets::TargetAddresses;
use unique::UniqueInteractions;
use verify::RunVerifier;
use viewer::{ConnectMode, LoadViewer, ViewerGroup};
use ws::ListWatchers;

/// The time within which the system must first answer, and all viewers must be connected.
const SET_UP_TIMEOUT: Duration = Duration::from_mins(1);
/// The users a second whose interactions count once, to the interactions a second of the run.
const UNIQUE_SHARE: f64 = 0.1;
/// The number of views that are posted at once to create the videos.
const MAX_POSTS_AT_OPENING: usize = 64;

/// Runs the load, prints the report, and returns whether nothing was wrong. `shutdown` ends the posting early; the
/// comparison and the report still follow.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<bool> {
    let report = Box::pin(run_load(&args, shutdown)).await?;
    let value = serde_json::to_value(&report).context("writing the report")?;
    if let Some(file) = &args.report_file {
        std::fs::write(file, format!("{value:#}\n"))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let output = args.output.args();
    if output.output != OutputFormat::Table {
        writeln!(std::io::stderr(), "{report}")?;
    }
    output.print_value(&value, || format!("{report}\n"))?;
    Ok(report.good)
}

/// Runs the load and returns its report.
pub async fn run_load(args: &Args, shutdown: CancellationToken) -> anyhow::Result<LoadReport> {
    let run = LoadRun::new(args)?;
    run.create_videos(&shutdown).await?;
    // Where the system does not tell them, the default threshold tells long watches from short ones.
    if let Ok(weights) =
        run.create_verifier().fetch_weights(tokio::time::Instant::now() + SET_UP_TIMEOUT).await
    {
        run.record.note_weights(weights);
    }
    let tasks = TaskTracker::new();
    run.connect_watchers(args, &tasks, &shutdown).await;
    run.viewer_groups.iter().for_each(|audience| audience.nothing_posted_yet.store(false, Relaxed));
    let start = run.record.time_since_start();
    let over = run.viewer_groups[0].run_over.clone();
    let length = args.period.map(|length| length.max(Duration::from_secs(1)));
    let periods = length
        .map(|length| tokio::spawn(periods::observe_periods(Arc::clone(&run.record), length, over.clone())));
    Box::pin(run.post_planned(args, &tasks, &shutdown)).await;
    let seconds = run.record.time_since_start().saturating_sub(start).as_secs_f64();
    run.progress.set_message("waiting for the last acknowledgements");
    run.poster.wait_for_posts(args.rest_timeout).await;
    run.viewer_groups[0].posting_over.cancel();
    run.progress.set_message("comparing");
    let at_rest = run.wait_until_right(args).await;
    run.progress.finish_and_clear();
    over.cancel();
    tasks.close();
    tasks.wait().await;
    let size = RunSize {
        run: run.plan.prefix().to_owned(),
        videos: args.videos,
        viewers: run.viewers.len(),
        viral_viewers: args.viral_viewers,
        slow_viewers: args.slow_viewers.min(args.viewers),
        ws: args.ws,
        seconds,
    };
    let skipped = run.viewers.iter().map(|viewer| lock_ignoring_poison(&viewer.log).skipped_count).sum();
    let mut report = LoadReport::from_record(&run.record, size, skipped, at_rest);
    report.moderation = run.moderator.figures();
    report.unique = run.unique.figures();
    report.boards = run.board_reads.figures();
    if let Some(periods) = periods {
        report.periods = periods.await.context("observing the run")?;
    }
    Ok(report)
}

/// The state that all tasks of one run share.
struct LoadRun {
    plan: PostingPlan,
    record: Arc<RunRecord>,
    client: Client,
    targets: TargetAddresses,
    poster: Arc<EventPoster>,
    moderator: LoadModerator,
    unique: UniqueInteractions,
    board_reads: BoardReadLoad,
    board_lists: BoardLists,
    /// What viewers share: first that of most viewers, then that of the viewers who connect through the gateway
    /// although the others do not (`--front-door-percent`).
    viewer_groups: [Arc<ViewerGroup>; 2],
    front_door_percent: usize,
    viewers: Vec<Arc<LoadViewer>>,
    watchers: Arc<ListWatchers>,
    ws_clients: usize,
    progress: ProgressBar,
}

impl LoadRun {
    fn new(args: &Args) -> anyhow::Result<Self> {
        // The names are new for each run, so that counts can be compared for equality on a store that holds other
        // videos, too.
        let prefix = format!("load-{}-{:x}", args.seed, liverank_runtime::now_ms());
        let plan = PostingPlan::new(prefix, args.videos, args.zipf, args.seed);
        // Otherwise a user's second like of a video would count for nothing.
        let plan = if args.unique.is_empty() { plan } else { plan.with_user_per_interaction() };
        let comments = plan::events_in(args.comments, args.duration);
        let record = Arc::new(RunRecord::new(args.videos + 1, comments));
        let token = args.token_file.as_deref().map(read_token).transpose()?;
        let client = client_with(token.as_deref())?;
        let targets = TargetAddresses::new(&args.url).with_token(token.as_deref());
        let way = if args.direct {
            ConnectMode::Direct(client.clone(), TargetAddresses::new(&args.manager_url))
        } else {
            ConnectMode::ThroughGateway(targets.clone())
        };
        let (resting, over) = (CancellationToken::new(), CancellationToken::new());
        let viewer_groups = [way, ConnectMode::ThroughGateway(targets.clone())].map(|connect_mode| {
            let (resting, over) = (resting.clone(), over.clone());
            let quiet = AtomicBool::new(true);
            Arc::new(ViewerGroup {
                connect_mode,
                record: Arc::clone(&record),
                nothing_posted_yet: quiet,
                posting_over: resting,
                run_over: over,
            })
        });
        let viewer = |(nth, video)| {
            LoadViewer::new(nth, plan.prefix(), video, plan.video_id(video), nth < args.slow_viewers)
        };
        let late = std::iter::repeat_n(0, args.viral_viewers);
        let viewers =
            plan.watched_videos(args.viewers).into_iter().chain(late).enumerate().map(viewer).collect();
        let posts = plan::events_in(args.interactions, args.duration) + comments;
        Ok(Self {
            moderator: LoadModerator::new(client.clone(), targets.clone(), plan.prefix()),
            unique: UniqueInteractions::new(client.clone(), targets.clone(), plan.prefix(), &args.unique),
            board_reads: BoardReadLoad::new(client.clone(), targets.clone(), &args.boards),
            board_lists: BoardLists::new(client.clone(), targets.clone(), plan.clone(), &args.boards),
            poster: EventPoster::new(client.clone(), targets.clone(), plan.clone(), Arc::clone(&record)),
            watchers: ListWatchers::new(targets.clone(), Arc::clone(&record), &plan),
            progress: create_progress_bar(posts as u64),
            ws_clients: args.ws,
            plan,
            record,
            client,
            targets,
            viewer_groups,
            front_door_percent: args.front_door_percent.into(),
            viewers,
        })
    }

    /// Creates every video of the run by a view of it.
    async fn create_videos(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        self.progress.set_message("opening the videos");
        let opening = stream::iter(self.plan.opening_views()).for_each_concurrent(
            MAX_POSTS_AT_OPENING,
            |event| async move {
                self.poster.post(&event).await;
            },
        );
        tokio::select! {
            () = opening => {
                let refused = self.record.counts.refused.load(Relaxed);
                let why = || self.record.first_faults().into_iter().next().unwrap_or_default();
                anyhow::ensure!(refused == 0, "the videos cannot be made (do gateways ask for a --token-file?): {}", why());
                Ok(())
            }
            () = shutdown.cancelled() => anyhow::bail!("asked to end before the load began"),
            () = tokio::time::sleep(SET_UP_TIMEOUT) => {
                anyhow::bail!("the front door does not take interactions; nothing was acknowledged within {SET_UP_TIMEOUT:?}")
            }
        }
    }

    /// Connects the viewers and the `WebSockets`, and waits until they are connected, for at most `SET_UP_TIMEOUT`.
    async fn connect_watchers(&self, args: &Args, tasks: &TaskTracker, shutdown: &CancellationToken) {
        self.progress.set_message("connecting");
        for nth in 0..self.ws_clients {
            tasks.spawn(
                Arc::clone(&self.watchers).watch_until_over(nth, self.viewer_groups[0].run_over.clone()),
            );
        }
        self.start_viewers(&self.viewers[..args.viewers], args.arrivals, tasks).await;
        let connected = async {
            // A viewer that is connected without being told its position is at the beginning, because nothing was
            // posted yet.
            while (self.record.counts.connected_viewers.load(Relaxed) as usize) < args.viewers {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if self.ws_clients > 0 {
                self.watchers.wait_for_probe_score(self.record.points_per_view(), SET_UP_TIMEOUT).await;
            }
        };
        tokio::select! {
            () = connected => {}
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(SET_UP_TIMEOUT) => tracing::warn!(
                connected = self.record.counts.connected_viewers.load(Relaxed),
                wanted = args.viewers,
                "not all viewers could be connected; the load begins without them"
            ),
        }
    }

    /// Starts these viewers, `rate` of them a second.
    async fn start_viewers(&self, viewers: &[Arc<LoadViewer>], rate: usize, tasks: &TaskTracker) {
        let start = tokio::time::Instant::now();
        for (nth, viewer) in viewers.iter().enumerate() {
            let through_front_door = viewer.index % 100 < self.front_door_percent;
            let audience = &self.viewer_groups[usize::from(through_front_door)];
            tasks.spawn(Arc::clone(viewer).watch_until_over(Arc::clone(audience)));
            tokio::time::sleep_until(start + Duration::from_secs_f64(nth as f64 / rate as f64)).await;
        }
    }

    async fn post_planned(&self, args: &Args, tasks: &TaskTracker, shutdown: &CancellationToken) {
        self.progress.set_message("posting");
        let posted = CancellationToken::new();
        let probe = async {
            if self.ws_clients > 0 {
                ws::probe_lists(&self.poster, &self.plan, &self.watchers, &self.record, &posted).await;
            }
        };
        let viral = async {
            if args.viral_viewers > 0 {
                tokio::time::sleep(args.viral_after).await;
                self.start_viewers(&self.viewers[args.viewers..], args.arrivals, tasks).await;
            }
        };
        let beside = async {
            tokio::join!(
                self.moderator.run_actions(args.moderation, &self.record, &posted),
                self.unique.send(args.interactions * UNIQUE_SHARE, &self.record, &posted),
                self.board_reads.run_reads(args.board_reads, &posted),
            )
        };
        let posting = async {
            let interactions = self.plan.interaction_events(args.interactions, args.duration);
            let comments = self.plan.comment_events(args.comments, args.duration);
            tokio::join!(
                self.poster.post_events(interactions, shutdown, &self.progress),
                self.poster.post_events(comments, shutdown, &self.progress),
                async {
                    tokio::select! {
                        () = async { tokio::join!(tokio::time::sleep(args.duration), viral); } => {}
                        () = shutdown.cancelled() => {}
                    }
                },
            );
            posted.cancel();
        };
        // The last probe is waited for no longer than any other post.
        let bounded = async {
            posted.cancelled().await;
            tokio::time::sleep(args.rest_timeout).await;
            self.poster.give_up_token.cancel();
        };
        tokio::select! {
            _ = async { tokio::join!(posting, probe, beside) } => {}
            () = async { bounded.await; std::future::pending().await } => {}
        }
    }

    /// Compares everything with what was acknowledged. Returns whether the system came to rest in time.
    async fn wait_until_right(&self, args: &Args) -> bool {
        let (verifier, patience) = (self.create_verifier(), args.rest_timeout);
        let is_right = verifier.wait_until_right(patience).await
            && self.moderator.verify(&self.record, patience).await
            && self.unique.verify(&self.record, patience).await;
        if !is_right || args.boards.is_empty() {
            return is_right;
        }
        // Where nobody tells the weights, the report says so already.
        let weights = verifier.fetch_weights(tokio::time::Instant::now() + patience).await.ok();
        self.board_lists.verify(weights.as_ref(), &self.record, patience).await
    }

    fn create_verifier(&self) -> RunVerifier {
        RunVerifier {
            client: self.client.clone(),
            targets: self.targets.clone(),
            plan: self.plan.clone(),
            record: Arc::clone(&self.record),
            viewers: self.viewers.clone(),
            watchers: (self.ws_clients > 0).then(|| Arc::clone(&self.watchers)),
        }
    }
}

/// Reads the token of a file.
fn read_token(file: &std::path::Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading the token in {}", file.display()))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "{} has no token", file.display());
    Ok(token.to_owned())
}

/// Creates the client of all requests to gateways and managers, which shows them this token.
fn client_with(token: Option<&str>) -> anyhow::Result<Client> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).context("the token is none")?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).default_headers(headers);
    Ok(builder.connect_timeout(Duration::from_secs(2)).no_proxy().build()?)
}

/// Creates the progress bar, which is hidden if standard error is no terminal.
fn create_progress_bar(posts: u64) -> ProgressBar {
    let bar = ProgressBar::new(posts);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} acknowledged, {msg}");
    bar.set_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
