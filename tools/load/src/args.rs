//! The arguments of `liverank load`.

use std::time::Duration;

use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::OutputOrJsonArgs;
use reqwest::Url;

use crate::unique::UniqueKind;

/// The arguments of `liverank load`: how much load, of which kind, on which system.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The addresses of gateways, comma-separated; clients are spread over them and avoid those that fail.
    #[arg(
        long,
        alias = "target",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://localhost:8080"
    )]
    pub url: Vec<Url>,
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
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
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
    /// Comments a second, on videos of their own, that are pinned, deleted, held, reported, or whose user is banned. It takes
    /// a --token-file, or gateways that let everybody moderate (--moderation-open).
    #[arg(long, default_value_t = 0.0, value_parser = parse_rate)]
    pub moderation: f64,
    /// Types that the system counts once per user, comma-separated, as its own --unique says. Some are sent twice and taken
    /// back, on videos of their own.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "TYPE")]
    pub unique: Vec<UniqueKind>,
    /// A file with a token of the role service, which speaks for all users of the run; for gateways that ask for tokens.
    #[arg(long, value_name = "FILE", conflicts_with = "direct")]
    pub token_file: Option<std::path::PathBuf>,
    /// Boards that are read while others post, and compared at the end, comma-separated: declared ones, global, trending.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub boards: Vec<String>,
    /// Reads of --boards in a second, of all of them together.
    #[arg(long, default_value_t = 10.0, value_parser = parse_rate)]
    pub board_reads: f64,
    /// The number of WebSocket clients; the first one keeps the whole list and times the probe.
    #[arg(long, default_value_t = 10)]
    pub ws: usize,
    /// The duration of the posting.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
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
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub period: Option<Duration>,
    /// The number of viewers that do not read while others post; they may be told of gaps.
    #[arg(long, default_value_t = 0)]
    pub slow_viewers: usize,
    /// The time for the system to come to rest after the posting, and for posts to be acknowledged.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
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
fn parse_duration(text: &str) -> Result<Duration, String> {
    parser_of_range(Duration::ZERO, Duration::from_hours(24))(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text: &str| parse_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("1.5s"), Ok(1.5));
        assert_eq!(seconds("5m"), Ok(300.0));
        assert_eq!(seconds("1h"), Ok(3600.0));
        for bad in ["", "s", "-1", "five", "25h", "NaN"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_finite_and_not_negative() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert!(parse_rate("-1").is_err() && parse_rate("NaN").is_err() && parse_rate("inf").is_err());
    }
}
