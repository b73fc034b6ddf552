//! The consumer: reads the log, counts events and numbers comments in the archive, publishes comments, and projects
//! scores onto the boards.
//!
//! The consumer has two tasks. The *counter* ([`counter`]) makes batches of the log's records and commits each batch,
//! with the offsets that it covers, in one transaction of the archive. At this commit an event counts, once. The
//! *projector* ([`projector`]) follows: it publishes the batch's comments, then writes the new scores to the boards
//! together with their offsets. By these offsets the projector notices a projection that is behind (after a killed
//! consumer, or with an empty Redis). The projector then repairs the boards from the archive, comments first, so that
//! an offset on the boards means that everything before it was published.
//!
//! A third task, the *exporter* ([`export`]), runs if it is asked for: it writes what the archive has to topics for
//! other systems.
//!
//! No state is kept in a process: after a kill, the next owner of the partitions asks the archive for the offsets to
//! continue at.

pub mod batches;
pub mod clocks;
pub mod committed;
pub mod counter;
pub mod decays;
pub mod export;
pub mod forget;
pub mod idle;
pub mod lag;
pub mod metrics;
pub mod pace;
pub mod projection;
pub mod projector;
pub mod repair;
mod stores;
pub mod traces;
pub mod windows;

use std::time::Duration;

use clap::Args;
use liverank_adapters::Backends;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::{CountingRules, UniqueKinds};
use liverank_core::score::{Weights, parse_weight};
use liverank_runtime::boards::BoardsArgs;
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
use liverank_runtime::{ServiceContext, Tasks};

use crate::export::ExportArgs;
use crate::export::metrics::ExportMetrics;
use crate::metrics::ConsumerMetrics;
use crate::pace::RetryBackoff;
use crate::projector::ProjectionQueue;
use crate::stores::{ARCHIVE, LOG};

/// Default maximum number of events in a batch. A transaction becomes large by its videos, comments and identities,
/// which have a bound of their own ([`batches`]); it may have any number of events that are only counted. A consumer
/// can hold twice this number of events in memory.
const DEFAULT_MAX_BATCH_EVENTS: u32 = 200_000;

/// Default time without an event after which a video leaves the boards: one year. Boards and mirrors then have a bound
/// by what happens within a year, and hardly anybody misses a video that nobody has opened for so long.
const DEFAULT_IDLE_VIDEO_MINUTES: u64 = 365 * 24 * 60;

/// The flags of a consumer.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Maximum number of events in one transaction. A batch is what came while the one before it was committed, so
    /// only a consumer that is behind fills it.
    #[arg(long, env = "LIVERANK_BATCH", default_value_t = DEFAULT_MAX_BATCH_EVENTS, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub batch: u32,
    /// Turn records whose format only a later release knows into dead letters, instead of waiting for that release.
    /// Their events do not count until the dead letters are replayed. For records of which you know that no release
    /// will read them.
    #[arg(long, env = "LIVERANK_DEAD_LETTER_NEWER_FORMATS")]
    pub dead_letter_newer_formats: bool,
    /// Time without an event after which a video leaves the boards; 0 for never. The archive keeps the video, and its
    /// next event brings it back with all its points. A video may stay a day longer, and one half-life of the trending
    /// board longer for each doubling of its points. Videos that have left stay away when it is raised, and
    /// `liverank verify` misses them, until `liverank rebuild redis`.
    #[arg(long, env = "LIVERANK_IDLE_VIDEO_MINUTES", value_name = "DURATION", default_value = "365d", value_parser = parser_in_unit::<u64>(SettingUnit::Minutes, 0, 5_256_000))]
    pub idle_video_minutes: u64,
    /// The weights by which events count.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// The boards that are declared.
    #[command(flatten)]
    pub boards: BoardsArgs,
    /// The topics to which events are exported.
    #[command(flatten)]
    pub export: ExportArgs,
}

/// The counting rules. The flags apply to a new archive only: an existing archive keeps its rules until `rebuild
/// scores`.
#[derive(Debug, Clone, Args)]
pub struct RuleArgs {
    /// Score of a view, 0 to 1000, three decimal places. All weights apply to a new archive only: an existing archive
    /// keeps its own until its scores are rebuilt.
    #[arg(long, env = "LIVERANK_WEIGHT_VIEW", default_value = "1", value_parser = parse_weight_flag)]
    pub weight_view: i64,
    /// Score of a like.
    #[arg(long, env = "LIVERANK_WEIGHT_LIKE", default_value = "2", value_parser = parse_weight_flag)]
    pub weight_like: i64,
    /// Score of a comment.
    #[arg(long, env = "LIVERANK_WEIGHT_COMMENT", default_value = "2", value_parser = parse_weight_flag)]
    pub weight_comment: i64,
    /// Score of a share.
    #[arg(long, env = "LIVERANK_WEIGHT_SHARE", default_value = "3", value_parser = parse_weight_flag)]
    pub weight_share: i64,
    /// Score of a watch shorter than the threshold.
    #[arg(long, env = "LIVERANK_WEIGHT_WATCH_SHORT", default_value = "1", value_parser = parse_weight_flag)]
    pub weight_watch_short: i64,
    /// Score of a watch of the threshold or longer.
    #[arg(long, env = "LIVERANK_WEIGHT_WATCH_LONG", default_value = "2", value_parser = parse_weight_flag)]
    pub weight_watch_long: i64,
    /// Duration from which a watch counts as long.
    #[arg(long, env = "LIVERANK_WATCH_THRESHOLD_MS", value_name = "DURATION", default_value = "2s", value_parser = parser_in_unit::<u64>(SettingUnit::Millis, 0, 86_400_000))]
    pub watch_threshold_ms: u64,
    /// Half-life of the trending board.
    #[arg(long, env = "LIVERANK_TRENDING_HALF_LIFE_MINUTES", value_name = "DURATION", default_value = "6h", value_parser = parser_in_unit::<u64>(SettingUnit::Minutes, 1, 525_600))]
    pub trending_half_life_minutes: u64,
    /// Types that count once per user and video, and that a user can take back: like, share, view, separated by
    /// commas. None by default. They apply to a new archive only: `rebuild scores` adds one to an existing archive.
    #[arg(long, env = "LIVERANK_UNIQUE", default_value = "", value_name = "TYPES", value_parser = parse_unique_kinds, hide_default_value = true)]
    pub unique: UniqueKinds,
}

fn parse_unique_kinds(text: &str) -> Result<UniqueKinds, String> {
    text.parse().map_err(|invalid: liverank_core::Invalid| invalid.reason)
}

fn parse_weight_flag(text: &str) -> Result<i64, String> {
    let points = text.parse::<f64>().map_err(|_| "must be a number from 0 to 1000".to_owned())?;
    parse_weight("weight", points).map_err(|invalid| invalid.reason)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: DEFAULT_MAX_BATCH_EVENTS,
            dead_letter_newer_formats: false,
            idle_video_minutes: DEFAULT_IDLE_VIDEO_MINUTES,
            rules: RuleArgs::default(),
            boards: BoardsArgs::default(),
            export: ExportArgs::default(),
        }
    }
}

impl Default for RuleArgs {
    fn default() -> Self {
        let rules = CountingRules::default();
        Self {
            weight_view: rules.weights.view,
            weight_like: rules.weights.like,
            weight_comment: rules.weights.comment,
            weight_share: rules.weights.share,
            weight_watch_short: rules.weights.watch_short,
            weight_watch_long: rules.weights.watch_long,
            watch_threshold_ms: rules.weights.watch_threshold_ms,
            trending_half_life_minutes: rules.half_life_ms / 60_000,
            unique: rules.unique,
        }
    }
}

impl RuleArgs {
    /// Returns the counting rules that the flags ask for.
    pub const fn counting_rules(&self) -> CountingRules {
        CountingRules {
            weights: Weights {
                view: self.weight_view,
                like: self.weight_like,
                comment: self.weight_comment,
                share: self.weight_share,
                watch_short: self.weight_watch_short,
                watch_long: self.weight_watch_long,
                watch_threshold_ms: self.watch_threshold_ms,
            },
            half_life_ms: self.trending_half_life_minutes * 60_000,
            unique: self.unique,
        }
    }
}

/// Counts events until shutdown. At shutdown, the records that were read are finished, and the partitions are given
/// up.
///
/// Returns an error that no retry can fix: an offset that the log no longer has, or a store of another version.
pub async fn run(config: Config, backends: Backends, shell: ServiceContext) -> anyhow::Result<()> {
    let boards = config.boards.read_declarations()?;
    config.export.check(&*backends.log)?;
    shell.health.note_starting(ARCHIVE);
    shell.health.note_starting(LOG);
    let metrics = ConsumerMetrics::new(&shell.metrics);
    let Some(partitions) = open_stores(&config, &backends, &shell).await? else { return Ok(()) };
    windows::declare_windows(&backends, &boards, &shell).await?;
    config.export.prepare(&backends, &shell).await?;
    decays::declare_decays(&backends, &boards, &shell).await?;
    let (projectors, feed) = projector::start_projector(&backends, &boards, partitions, &shell, &metrics);
    let mut tasks = Tasks::new(&shell);
    let idle_for = Duration::from_secs(60 * config.idle_video_minutes);
    tasks.spawn(
        "forget",
        forget::run(backends.clone(), boards.clone(), idle_for, feed.watch_owned_partitions(), shell.clone()),
    );
    tasks.spawn("clocks", clocks::compare_clocks(backends.clone(), metrics.clone(), shell.clone()));
    let lag = metrics.lag_metrics.clone();
    tasks.spawn(
        "lag",
        lag::run(backends.clone(), boards.clone(), feed.watch_owned_partitions(), lag, shell.clone()),
    );
    for projector in projectors {
        tasks.spawn("projector", projector);
    }
    start_exporters(&config.export, &mut tasks, &backends, &boards, &feed, &shell);
    tasks.spawn("keep_boards", projector::keep_boards_marked_as_wanted(backends.clone(), boards));
    let counting =
        tasks.supervise_inside("counter", counter::run(&config, &backends, &shell, feed, &metrics));
    let counted = Box::pin(tasks.run_alongside(counting)).await;
    // The projection queue is dropped by now: the projector finishes the batches that it was given, within the drain
    // time.
    if !tasks.wait_for_task("projector", shell.drain_time.max(Duration::from_secs(1))).await? {
        tracing::warn!("the boards were left behind at the drain's deadline; the next consumer mends them");
    }
    counted
}

/// Starts the exporters that the flags ask for.
fn start_exporters(
    config: &ExportArgs,
    tasks: &mut Tasks,
    backends: &Backends,
    boards: &DeclaredBoards,
    feed: &ProjectionQueue,
    shell: &ServiceContext,
) {
    let ExportArgs { export_comments, export_boards } = config.clone();
    let metrics = ExportMetrics::new(&shell.metrics);
    let (owned, backends) = (feed.watch_owned_partitions(), backends.clone());
    if let Some(topic) = export_comments {
        let (owned, told) = (owned.clone(), feed.watch_exportable());
        let exporter = export::run(backends.clone(), topic, owned, told, metrics.clone(), shell.clone());
        tasks.spawn("export_comments", exporter);
    }
    if let Some(topic) = export_boards {
        let exporter = export::boards::run(backends, boards.clone(), topic, owned, metrics, shell.clone());
        tasks.spawn("export_boards", exporter);
    }
}

/// Opens the archive and the log, and retries for as long as they are away. Returns the number of the log's
/// partitions; `None` if shutdown came first.
async fn open_stores(
    config: &Config,
    backends: &Backends,
    shell: &ServiceContext,
) -> anyhow::Result<Option<u32>> {
    let wanted = config.rules.counting_rules();
    let Some(meta) =
        pace::retry_until_done(shell, ARCHIVE, "opening the archive", || backends.archive.open(&wanted))
            .await?
    else {
        return Ok(None);
    };
    shell.health.note_started(ARCHIVE);
    if meta.counting_rules != wanted {
        tracing::warn!(
            in_force = rules_text(&meta.counting_rules),
            configured = rules_text(&wanted),
            "the archive counts by other weights than configured; they come into force when its scores are rebuilt"
        );
    }
    if pace::retry_until_done(shell, LOG, "opening the log", || backends.log.open()).await?.is_none() {
        return Ok(None);
    }
    shell.health.note_started(LOG);
    let ends = pace::retry_until_done(shell, LOG, "asking for the partitions", || backends.log.end_offsets())
        .await?;
    Ok(ends.map(|ends| ends.len() as u32))
}

/// The backoff between tries of a store that is away: no wait would be a storm of requests, a minute would be an
/// outage of its own.
pub const STORE_RETRY_BACKOFF: RetryBackoff =
    RetryBackoff { first_wait: Duration::from_millis(50), longest_wait: Duration::from_secs(2) };

/// Returns counting rules as text for people: weights in points, the half-life in minutes.
fn rules_text(rules: &CountingRules) -> String {
    let CountingRules { weights, half_life_ms, unique } = rules;
    let minutes = half_life_ms / 60_000;
    let once = if unique.is_empty() { "nothing".to_owned() } else { unique.to_string() };
    format!("points {}, half-life {minutes} min, once per user: {once}", weights.to_json())
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    #[test]
    fn counting_rules_are_told_in_points_and_minutes() {
        let text =
            rules_text(&CountingRules { unique: "like,share".parse().unwrap(), ..CountingRules::default() });
        assert!(text.starts_with("points {") && text.contains("\"view\":1.0"), "{text}");
        assert!(text.ends_with("half-life 360 min, once per user: like,share"), "{text}");
        assert!(rules_text(&CountingRules::default()).ends_with("once per user: nothing"));
    }

    #[test]
    fn default_weights_are_those_of_core() {
        let flags = RuleArgs::augment_args(Command::new("consumer")).get_matches_from(["consumer"]);
        assert_eq!(RuleArgs::from_arg_matches(&flags).unwrap().counting_rules(), CountingRules::default());
        assert_eq!(RuleArgs::default().counting_rules(), CountingRules::default());
    }
}
