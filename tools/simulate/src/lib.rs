//! `liverank simulate`: compares policies of giving videos to readers by the load of the readers over time.
//!
//! | module | does |
//! |---|---|
//! | [`scenario`] | the audiences at the beginning, and the events after that |
//! | [`traffic`] | viewers that come and go, the same for every policy |
//! | [`recording`] | traffic from recorded load reports |
//! | [`world`] | readers, videos and the viewers of each |
//! | [`policy`] | the policies of giving videos to readers |
//! | [`experiment`] | runs one policy through the traffic and measures it |
//! | [`report`] | the table and the JSON |
//! | [`plot`] | the pictures |
//!
//! A move takes effect within its tick. The pace of moves and the resuming of viewers belong to the protocol and are
//! tested with it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::OutputOrJsonArgs;

pub mod experiment;
pub mod plot;
pub mod policy;
pub mod recording;
pub mod report;
pub mod scenario;
pub mod traffic;
pub mod world;

use policy::PolicyName;
use scenario::{Scenario, ScenarioName};

/// The arguments of `liverank simulate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The comments seed's own simulation (100 videos, 2,500 viewers, 5 readers), or the traffic it expects (90,000
    /// streams, 2,000,000 viewers, 200 readers)
    #[arg(long, value_enum, default_value_t = ScenarioName::Seed)]
    pub scenario: ScenarioName,
    /// A file of recorded load reports to use instead: one answer of a manager's `GET /load` a line
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub replay: Option<PathBuf>,
    /// The time between two recorded load reports, if they have no time (`at`, a Unix time in ms)
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parser_of_range(Duration::from_secs(1), Duration::from_hours(1)),
          requires = "replay")]
    pub interval: Duration,
    /// The number of readers [default: as many as the scenario has, or the recording had at first]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub readers: Option<u32>,
    /// The number of viewers that a reader can hold [default: that of the scenario or the recording]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub capacity: Option<u64>,
    /// The policies to simulate, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub policies: Vec<PolicyName>,
    /// The simulated duration of the traffic
    #[arg(long, default_value = "20m", value_name = "DURATION", value_parser = parser_of_range(Duration::from_mins(1), Duration::from_hours(24)),
          conflicts_with = "replay")]
    pub duration: Duration,
    /// The simulated time, in minutes
    #[arg(long, hide = true, value_parser = clap::value_parser!(u32).range(1..=1440), conflicts_with_all = ["replay", "duration"])]
    minutes: Option<u32>,
    /// The planner's tolerance, in per cent of a reader's fair share
    #[arg(long, alias = "tolerance", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub tolerance_percent: u32,
    /// The number of viewers that the planner may move in a minute
    #[arg(long, alias = "budget", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub max_viewers_moved_per_minute: u64,
    /// The seed; the same seed gives the same traffic
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The format of the report: JSON and YAML have more than the table, namely all values over time and the final
    /// assignments
    #[command(flatten)]
    pub output: OutputOrJsonArgs,
    /// A folder for pictures (SVG) of the balance and the loads
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

/// Runs the simulation and writes the table, or JSON or YAML, to `out`. The progress bar is drawn on standard error if
/// that is a terminal.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let scenario = scenario(args)?;
    let policies = if args.policies.is_empty() { PolicyName::ALL.to_vec() } else { args.policies.clone() };
    let bar = create_progress_bar(scenario.traffic.tick_count() * policies.len());
    let mut outcomes = Vec::new();
    for name in policies {
        bar.set_message(name.title());
        outcomes.push(experiment::run(&scenario, name, args.seed, || bar.inc(1)));
    }
    bar.finish_and_clear();
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        for path in plot::draw_pictures(&scenario, &outcomes, folder)? {
            eprintln!("drawn: {}", path.display());
        }
    }
    let value = report::report_json(&scenario, &outcomes);
    args.output.args().write_value(out, &value, || report::report_table(&scenario, &outcomes))
}

fn scenario(args: &Args) -> anyhow::Result<Scenario> {
    let mut scenario = if let Some(path) = &args.replay {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the recording {} cannot be read", path.display()))?;
        recording::scenario(&text, args.interval)
            .with_context(|| format!("the recording {}", path.display()))?
    } else {
        let minutes = args.minutes.map(|minutes| Duration::from_mins(minutes.into()));
        Scenario::built_in(args.scenario, minutes.unwrap_or(args.duration))
    };
    if let Some(readers) = args.readers {
        scenario.reader_count = readers as usize;
    }
    if let Some(capacity) = args.capacity {
        scenario.capacity = capacity;
    }
    if scenario.reader_count == 0 {
        bail!("the recording has no reader: give --readers");
    }
    scenario.tolerance = args.tolerance_percent * 10;
    scenario.max_moved_per_minute = args.max_viewers_moved_per_minute;
    Ok(scenario)
}

fn create_progress_bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} [{bar:40}] {percent:>3} %  {eta} left")
        .expect("the template is well formed");
    ProgressBar::new(steps as u64).with_style(style.progress_chars("=> "))
}
