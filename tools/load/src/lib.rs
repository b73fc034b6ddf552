//! `liverank load`: simulated viewers, posters and WebSocket clients, who know what must have happened and report if it
//! did. The command does what the seeds' clients did, at any size.
//!
//! | module | does |
//! |---|---|
//! | [`plan`] | the events of a run and their times, computed from the seed (pure) |
//! | [`oracle`] | what must be true afterwards, and the faults where it is not (pure) |
//! | [`sse`] | parses the bytes of a stream into events (pure) |
//! | [`record`] | counts, latencies and faults of a run |
//! | [`poster`] | posts each event until it is acknowledged, with the same identity |
//! | [`viewer`] | streams of comments, resumed when they are lost |
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
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::{OutputFormat, OutputOrJsonArgs};
use reqwest::{Client, Url};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub mod oracle;
pub mod periods;
pub mod plan;
pub mod poster;
pub mod record;
pub mod report;
pub mod sse;
pub mod targets;
pub mod verify;
pub mod viewer;
pub mod ws;

use plan::PostingPlan;
use poster::EventPoster;
use record::{RunRecord, lock_ignoring_poison};
use report::{LoadReport, RunSize};
use targets::TargetAddresses;
use verify::RunVerifier;
use viewer::{ConnectWay, LoadAudience, LoadViewer};
use ws::ListWatchers;

/// The time within which the system must first answer, and all viewers must be connected.
const SET_UP_TIMEOUT: Duration = Duration::from_mins(1);
/// The number of views that are posted at once to create the videos.
const MAX_POSTS_AT_OPENING: usize = 64;

/// The arguments of `liverank load`: how much load, of which kind, on which system.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The addresses of gateways, comma-separated; clients are spread over them and avoid those that fail.
    #[arg(long, value_delimiter = ',', value_name = "URL", default_value = "http://localhost:8080")]
    pub target: Vec<Url>,
    /// Viewers ask a manager and connect to the readers themselves, as the comments seed's client does.
    #[arg(long)]
    pub direct: bool,
    /// With --direct, the percentage of viewers that use the gateway all the same.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub front_door_percent: u8,
    /// Managers for --direct, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "URL", default_value = "http://localhost:6100")]
    pub manager_url: Vec<Url>,
    /// The number of videos, all of them new.
    #[arg(long, default_value_t = 20, value_parser = at_least_one)]
    pub videos: usize,
    /// The number of viewers, most of them on few videos.
    #[arg(long, default_value_t = 200)]
    pub viewers: usize,
    /// Additional viewers, who all come to the most watched video once others have been posting for --viral-after.
    #[arg(long, default_value_t = 0)]
    pub viral_viewers: usize,
    /// The time until --viral-viewers come.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub viral_after: Duration,
    /// The most viewers that come in one second.
    #[arg(long, default_value_t = 2_000, value_parser = at_least_one)]
    pub arrivals: usize,
    /// How unevenly viewers and posts are spread over videos: the exponent of Zipf's law, 0 for evenly.
    #[arg(long, default_value_t = 1.1, value_parser = parse_rate)]
    pub zipf: f64,
    /// Interactions posted in a second.
    #[arg(long, default_value_t = 100.0, value_parser = parse_rate)]
    pub interactions: f64,
    /// Comments posted in a second.
    #[arg(long, default_value_t = 20.0, value_parser = parse_rate)]
    pub comments: f64,
    /// The number of WebSocket clients; the first one keeps the whole list and times the probe.
    #[arg(long, default_value_t = 10)]
    pub ws: usize,
    /// The duration of the posting: seconds, or a number with s, m or h.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// The seed of all random choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The format of the report. As JSON or YAML it goes to standard output, and its text to standard error.
    #[command(flatten)]
    pub output: OutputOrJsonArgs,
    /// Write the report as JSON to this file as well.
    #[arg(long, value_name = "FILE")]
    pub report_file: Option<std::path::PathBuf>,
    /// Also reports (as JSON only) the figures of each period of this length, at least a second.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub period: Option<Duration>,
    /// The number of viewers that do not read while others post; they may be told of gaps.
    #[arg(long, default_value_t = 0)]
    pub slow_viewers: usize,
    /// The time for the system to come to rest after the posting, and for posts to be acknowledged.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub rest_timeout: Duration,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=1_000_000).contains(number))
        .ok_or_else(|| "must be 1 to 1000000".into())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && (0.0..=1e6).contains(number));
    number.ok_or_else(|| "must be a number from 0 to 1000000".into())
}

/// Parses a duration of up to a day.
fn duration(text: &str) -> Result<Duration, String> {
    parser_of_range(Duration::ZERO, Duration::from_hours(24))(text)
}

/// Runs the load, prints the report, and returns whether nothing was wrong. `shutdown` ends the posting early; the
/// comparison and the report still follow.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<bool> {
    let report = run_load(&args, shutdown).await?;
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
    let tasks = TaskTracker::new();
    run.connect_watchers(args, &tasks, &shutdown).await;
    run.audiences.iter().for_each(|audience| audience.nothing_posted_yet.store(false, Relaxed));
    let start = run.record.time_since_start();
    let over = run.audiences[0].run_over.clone();
    let length = args.period.map(|length| length.max(Duration::from_secs(1)));
    let periods = length
        .map(|length| tokio::spawn(periods::observe_periods(Arc::clone(&run.record), length, over.clone())));
    run.post_planned(args, &tasks, &shutdown).await;
    let seconds = run.record.time_since_start().saturating_sub(start).as_secs_f64();
    run.progress.set_message("waiting for the last acknowledgements");
    run.poster.wait_for_posts(args.rest_timeout).await;
    run.audiences[0].posting_over.cancel();
    run.progress.set_message("comparing");
    let at_rest = run.verifier().wait_until_right(args.rest_timeout).await;
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
    let skipped = run.viewers.iter().map(|viewer| lock_ignoring_poison(&viewer.log).skipped).sum();
    let mut report = LoadReport::from_record(&run.record, size, skipped, at_rest);
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
    /// The settings of most viewers, and of those who go through the gateway when the others do not
    /// (`--front-door-percent`).
    audiences: [Arc<LoadAudience>; 2],
    front_door_percent: usize,
    viewers: Vec<Arc<LoadViewer>>,
    watchers: Arc<ListWatchers>,
    ws: usize,
    progress: ProgressBar,
}

impl LoadRun {
    fn new(args: &Args) -> anyhow::Result<Self> {
        // The names are new for each run, so that counts can be compared for equality on a store that holds other
        // videos, too.
        let prefix = format!("load-{}-{:x}", args.seed, liverank_runtime::now_ms());
        let plan = PostingPlan::new(prefix, args.videos, args.zipf, args.seed);
        let comments = plan::events_in(args.comments, args.duration);
        let record = Arc::new(RunRecord::new(args.videos + 1, comments));
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(2))
            .no_proxy()
            .build()?;
        let targets = TargetAddresses::new(&args.target);
        let way = if args.direct {
            ConnectWay::Direct(client.clone(), TargetAddresses::new(&args.manager_url))
        } else {
            ConnectWay::FrontDoor(targets.clone())
        };
        let (resting, over) = (CancellationToken::new(), CancellationToken::new());
        let audiences = [way, ConnectWay::FrontDoor(targets.clone())].map(|way| {
            let (resting, over) = (resting.clone(), over.clone());
            let quiet = AtomicBool::new(true);
            Arc::new(LoadAudience {
                way,
                record: Arc::clone(&record),
                nothing_posted_yet: quiet,
                posting_over: resting,
                run_over: over,
            })
        });
        let viewer = |(nth, video)| {
            LoadViewer::new(nth, plan.prefix(), video, plan.video(video), nth < args.slow_viewers)
        };
        let late = std::iter::repeat_n(0, args.viral_viewers);
        let viewers =
            plan.watched_videos(args.viewers).into_iter().chain(late).enumerate().map(viewer).collect();
        let posts = plan::events_in(args.interactions, args.duration) + comments;
        Ok(Self {
            poster: EventPoster::new(client.clone(), targets.clone(), plan.clone(), Arc::clone(&record)),
            watchers: ListWatchers::new(targets.clone(), Arc::clone(&record), &plan),
            progress: progress(posts as u64),
            ws: args.ws,
            plan,
            record,
            client,
            targets,
            audiences,
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
            () = opening => Ok(()),
            () = shutdown.cancelled() => anyhow::bail!("asked to end before the load began"),
            () = tokio::time::sleep(SET_UP_TIMEOUT) => {
                anyhow::bail!("the front door does not take interactions; nothing was acknowledged within {SET_UP_TIMEOUT:?}")
            }
        }
    }

    /// Connects the viewers and the `WebSockets`, and waits until they are connected, for at most `SET_UP_TIMEOUT`.
    async fn connect_watchers(&self, args: &Args, tasks: &TaskTracker, shutdown: &CancellationToken) {
        self.progress.set_message("connecting");
        for nth in 0..self.ws {
            tasks.spawn(Arc::clone(&self.watchers).watch_until_over(nth, self.audiences[0].run_over.clone()));
        }
        self.start_viewers(&self.viewers[..args.viewers], args.arrivals, tasks).await;
        let connected = async {
            // A viewer that is connected without being told its position is at the beginning, because nothing was
            // posted yet.
            while (self.record.counts.connected.load(Relaxed) as usize) < args.viewers {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if self.ws > 0 {
                self.watchers.wait_for_probe_score(1.0, SET_UP_TIMEOUT).await;
            }
        };
        tokio::select! {
            () = connected => {}
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(SET_UP_TIMEOUT) => tracing::warn!(
                connected = self.record.counts.connected.load(Relaxed),
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
            let audience = &self.audiences[usize::from(through_front_door)];
            tasks.spawn(Arc::clone(viewer).watch_until_over(Arc::clone(audience)));
            tokio::time::sleep_until(start + Duration::from_secs_f64(nth as f64 / rate as f64)).await;
        }
    }

    async fn post_planned(&self, args: &Args, tasks: &TaskTracker, shutdown: &CancellationToken) {
        self.progress.set_message("posting");
        let posted = CancellationToken::new();
        let probe = async {
            if self.ws > 0 {
                ws::probe_lists(&self.poster, &self.plan, &self.watchers, &self.record, &posted).await;
            }
        };
        let viral = async {
            if args.viral_viewers > 0 {
                tokio::time::sleep(args.viral_after).await;
                self.start_viewers(&self.viewers[args.viewers..], args.arrivals, tasks).await;
            }
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
            self.poster.give_up.cancel();
        };
        tokio::select! {
            _ = async { tokio::join!(posting, probe) } => {}
            () = async { bounded.await; std::future::pending().await } => {}
        }
    }

    fn verifier(&self) -> RunVerifier {
        RunVerifier {
            client: self.client.clone(),
            targets: self.targets.clone(),
            plan: self.plan.clone(),
            record: Arc::clone(&self.record),
            viewers: self.viewers.clone(),
            watchers: (self.ws > 0).then(|| Arc::clone(&self.watchers)),
        }
    }
}

/// Creates the progress bar, which is hidden if standard error is no terminal.
fn progress(posts: u64) -> ProgressBar {
    let bar = ProgressBar::new(posts);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} acknowledged, {msg}");
    bar.set_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text: &str| duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("1.5s"), Ok(1.5));
        assert_eq!(seconds("5m"), Ok(300.0));
        assert_eq!(seconds("1h"), Ok(3600.0));
        for bad in ["", "s", "-1", "five", "25h", "NaN"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_finite_and_not_negative() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert!(parse_rate("-1").is_err() && parse_rate("NaN").is_err() && parse_rate("inf").is_err());
    }
}
