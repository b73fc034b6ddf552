//! Orders that an operator gives by hand: each command begins a term as planner, gives its orders under the term, and
//! ends.
//!
//! The current planner gives way to the command's term, and takes over again by itself if it hears nothing more of it
//! for 15 s. Cordons outlast the term; a move lasts until a planner decides otherwise.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use liverank_core::handover::{CordonLevel, PlannerLease, ReaderShare};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::access::CallerRole;
use liverank_protocol::{
    ClusterLoad, CordonRequest, CordonsAnswer, CordonsRequest, MaybeUnknown, MoveAnswers, MoveRequest,
    MovesRequest, TermRequest, TermState,
};

use super::{ManagerClient, ManagersArgs, run_on_current_thread};
use liverank_runtime::duration::parser_of_range;
use liverank_runtime::output::format_table;

/// The time between two checks whether the drained readers still have viewers.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The holder's name in the command's term, which shows others who is the planner.
const TERM_HOLDER: &str = "liverank command line";

/// The flag with the reason for an order, which is shown to others.
#[derive(Debug, Clone, Args)]
pub struct ReasonArgs {
    /// The reason, as text: managers show it to others.
    #[arg(long = "reason", alias = "why", default_value = "by hand", value_name = "TEXT")]
    why: String,
}

/// Returns a lease that nobody else has, because each command acts as a planner of its own.
fn unique_lease() -> PlannerLease {
    PlannerLease { uid: format!("command-line-{:016x}", rand::random::<u64>()), transitions: 0 }
}

/// Begins a planner's term. Returns the term's number and the lease, which each order has to name.
async fn open_planner_term(managers: &ManagerClient) -> anyhow::Result<(u64, PlannerLease)> {
    let lease = unique_lease();
    let wanted = TermRequest {
        holder: TERM_HOLDER.into(),
        expected: None,
        renew: None,
        lease: lease.clone(),
        decisions: Vec::new(),
    };
    let term: TermState = managers.post("term", &wanted).await?;
    Ok((term.term, lease))
}

/// The arguments of `liverank cordon` and `liverank uncordon`, and a part of those of `liverank drain`.
#[derive(Debug, Clone, Args)]
pub struct CordonArgs {
    /// The ids of the readers.
    #[arg(required = true, value_name = "READER")]
    readers: Vec<ReaderId>,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    managers: ManagersArgs,
}

impl CordonArgs {
    /// Runs `cordon`: the readers get no new videos, and keep those that they have.
    pub fn cordon_readers(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async {
            self.set_cordon_level(Some(CordonLevel::Closed)).await.map(|()| ExitCode::SUCCESS)
        })
    }

    /// Runs `uncordon`: the readers get new videos again.
    pub fn uncordon_readers(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async { self.set_cordon_level(None).await.map(|()| ExitCode::SUCCESS) })
    }

    async fn set_cordon_level(&self, closing: Option<CordonLevel>) -> anyhow::Result<()> {
        let managers = self.managers.client_as_role(CallerRole::Operator)?;
        let load: ClusterLoad = managers.get("load").await?;
        for reader in &self.readers {
            let known = load.readers.iter().any(|it| it.id == *reader)
                || load.cordons.iter().any(|it| it.reader == *reader);
            if !known {
                let names: Vec<String> = load.readers.iter().map(|it| it.id.to_string()).collect();
                bail!("there is no reader {reader} (there are: {})", names.join(", "));
            }
        }
        let (term, lease) = open_planner_term(&managers).await?;
        let cordon = |reader: &ReaderId| CordonRequest {
            reader: reader.clone(),
            cordon: closing.map(MaybeUnknown::Known),
            why: self.why.why.clone(),
        };
        let wanted = CordonsRequest { term, lease, cordons: self.readers.iter().map(cordon).collect() };
        let done: CordonsAnswer = managers.post("cordons", &wanted).await?;
        let rows: Vec<Vec<String>> = done.cordons.iter().map(cordon_row).collect();
        self.managers
            .output
            .print_value(&serde_json::to_value(&done)?, || format_table(&["reader", "cordon", "why"], &rows))
    }
}

fn cordon_row(it: &CordonRequest) -> Vec<String> {
    let cordon = it.cordon.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    vec![it.reader.to_string(), cordon, it.why.clone()]
}

/// The arguments of `liverank drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    // Flags behind those of `CordonArgs` would stand below the last heading of these.
    /// The longest time to wait until the readers are empty; 0 does not wait.
    #[arg(long, alias = "wait-seconds", value_name = "DURATION", default_value = "0s",
          value_parser = parser_of_range(Duration::ZERO, Duration::from_hours(24)))]
    wait: Duration,
    #[command(flatten)]
    cordon: CordonArgs,
}

impl DrainArgs {
    /// Runs `liverank drain`: drains the readers. With `--wait`, the command fails if the readers still have viewers
    /// when that time is over.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async {
            self.cordon.set_cordon_level(Some(CordonLevel::Draining)).await?;
            if self.wait.is_zero() {
                return Ok(ExitCode::SUCCESS);
            }
            let managers = self.cordon.managers.client_as_role(CallerRole::Cli)?;
            let until = Instant::now() + self.wait;
            loop {
                let load: ClusterLoad = managers.get("load").await?;
                let own = load.readers.iter().filter(|it| self.cordon.readers.contains(&it.id));
                let left: u64 = own.map(|it| it.viewers).sum();
                if left == 0 {
                    return Ok(ExitCode::SUCCESS);
                }
                if Instant::now() >= until {
                    bail!(
                        "{left} viewers are left after {} s; liverank moves says why",
                        self.wait.as_secs_f64()
                    );
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
    }
}

/// A reader, and its weight among the readers that share the video.
#[derive(Debug, Clone)]
struct MoveTarget(ReaderShare);

impl FromStr for MoveTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (reader, weight) = text.rsplit_once('=').unwrap_or((text, "1"));
        let reader = ReaderId::parse(reader).map_err(|invalid| invalid.to_string())?;
        let weight = weight.parse::<u32>().ok().filter(|weight| *weight > 0);
        let weight = weight.ok_or("the weight after = must be a whole number from 1")?;
        Ok(Self(ReaderShare { reader, weight }))
    }
}

/// The arguments of `liverank move`.
#[derive(Debug, Clone, Args)]
pub struct MoveArgs {
    /// The id of the video.
    #[arg(value_parser = parse_video_id)]
    video: VideoId,
    /// The readers that are to serve the video: several share it by their weights.
    #[arg(required = true, value_name = "READER[=WEIGHT]")]
    readers: Vec<MoveTarget>,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    managers: ManagersArgs,
}

fn parse_video_id(text: &str) -> Result<VideoId, String> {
    VideoId::parse(text).map_err(|invalid| invalid.to_string())
}

impl MoveArgs {
    /// Runs `liverank move`: orders the move; a manager carries it out after the command has ended.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        run_on_current_thread(async {
            let managers = self.managers.client_as_role(CallerRole::Operator)?;
            let load: ClusterLoad = managers.get("load").await?;
            let assigned = load.assignments.unwrap_or_default();
            let assigned = assigned.into_iter().find(|it| it.videoid == self.video);
            let assigned = assigned.with_context(|| format!("no reader has the video {}", self.video))?;
            let (term, lease) = open_planner_term(&managers).await?;
            let wanted = MoveRequest {
                videoid: self.video.clone(),
                expected: assigned.epoch,
                readers: self.readers.iter().map(|target| target.0.clone()).collect(),
                why: self.why.why.clone(),
            };
            let taken: MoveAnswers =
                managers.post("moves", &MovesRequest { term, lease, moves: vec![wanted] }).await?;
            let answer = taken.moves.into_iter().next().context("the manager says nothing of the move")?;
            self.managers.output.print_value(&serde_json::to_value(&answer)?, || {
                let id = answer.id.map(|id| id.to_string()).unwrap_or_default();
                format!("move {id} of {} is taken; liverank moves shows how it stands\n", self.video)
            })?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_reader_and_a_weight() {
        let target = |text: &str| text.parse::<MoveTarget>().map(|it| (it.0.reader.to_string(), it.0.weight));
        assert_eq!(target("reader-1"), Ok(("reader-1".to_owned(), 1)));
        assert_eq!(target("reader-1=3"), Ok(("reader-1".to_owned(), 3)));
        assert!(target("reader-1=0").is_err() && target("reader-1=many").is_err() && target("").is_err());
    }
}
