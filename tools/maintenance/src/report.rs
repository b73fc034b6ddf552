//! What a verification found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use liverank_core::VideoId;
use serde::Serialize;

use crate::compare::StoreDifference;

/// Differences that are told in all, unless all are asked for: a screen or two.
const MAX_DIFFERENCES_SHOWN: usize = 50;

/// The result of a comparison of the stores.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ComparisonReport {
    /// Whether everything agrees that was to be compared.
    pub good: bool,
    /// The offsets (exclusive) up to which the log and the archive were compared, by partition.
    pub cut: BTreeMap<u32, u64>,
    /// The generation of the scores.
    pub generation: u64,
    /// Videos in the archive.
    pub videos: usize,
    /// How the log was compared, or why it was not.
    pub log: LogReport,
    /// How the boards were compared, or why they were not.
    pub boards: BoardsReport,
    /// The same of each declared board, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub declared: BTreeMap<String, BoardsReport>,
    /// How many videos differ somewhere.
    pub differing: usize,
    /// What differs, the first ones of it.
    pub differences: Vec<StoreDifference>,
    /// Differences beyond those.
    pub more: usize,
}

/// The part about the log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogReport {
    /// Whether it was counted.
    pub counted: bool,
    /// Events that counted, repeats of such, and records that cannot be read.
    pub events: u64,
    /// Repeats.
    pub repeats: u64,
    /// Records that cannot be read.
    pub unreadable: u64,
    /// Videos of which the log does not tell what is right: one identity stands for different events on several
    /// partitions.
    pub ambiguous: usize,
    /// Whether decayed scores were compared: after `rebuild scores` they do not follow from all of the log, and the
    /// archive does not remember which kind of rebuild began its generation.
    pub trending: bool,
    /// Why it was not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The part about the boards.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BoardsReport {
    /// Videos compared.
    pub videos: usize,
    /// Those of them that changed between all looks, and were right within the tolerance at each.
    pub moving: usize,
    /// Why they could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl fmt::Display for BoardsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { videos, moving, problem } = self;
        match problem {
            Some(problem) => f.write_str(problem),
            None => write!(f, "{videos} videos compared, {moving} of them while they moved"),
        }
    }
}

impl ComparisonReport {
    /// Takes the differences in, all of them or the first ones.
    pub fn add_differences(&mut self, mut differences: Vec<StoreDifference>, full: bool) {
        differences.sort_by(|a, b| a.video_id.cmp(&b.video_id));
        let mut ids: Vec<&VideoId> = differences.iter().map(|difference| &difference.video_id).collect();
        ids.dedup();
        self.differing = ids.len();
        let shown = if full { differences.len() } else { differences.len().min(MAX_DIFFERENCES_SHOWN) };
        self.more = differences.len() - shown;
        differences.truncate(shown);
        self.differences = differences;
    }
}

impl fmt::Display for ComparisonReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: u64 = self.cut.values().sum();
        let (videos, generation) = (self.videos, self.generation);
        writeln!(f, "cut       offset {events} in all over {} partitions", self.cut.len())?;
        writeln!(f, "archive   {videos} videos, generation {generation}")?;
        self.write_log_part(f)?;
        writeln!(f, "boards    {}", self.boards)?;
        for (name, board) in &self.declared {
            writeln!(f, "board {name}: {board}")?;
        }
        for StoreDifference { video_id, field, by, expected, at, board, window, found } in &self.differences {
            let video = video_id.as_str().escape_debug();
            write!(f, "  video \"{video}\"  {field}: {expected} by the {by}, {found} in the {at}")?;
            match board.as_ref().or(window.as_ref()) {
                Some(board) => writeln!(f, " ({board})")?,
                None => writeln!(f)?,
            }
        }
        if self.more > 0 {
            writeln!(f, "  and {} more differences; --full shows all", self.more)?;
        }
        match (self.good, self.differing) {
            (true, _) => write!(f, "equal"),
            (false, 0) => write!(f, "NOT VERIFIED"),
            (false, 1) => write!(f, "1 video DIFFERS"),
            (false, many) => write!(f, "{many} videos DIFFER"),
        }
    }
}

impl ComparisonReport {
    fn write_log_part(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogReport { events, repeats, unreadable, ambiguous, trending, problem, counted } = &self.log;
        match problem {
            Some(problem) => writeln!(f, "log       {problem}")?,
            None if !counted => writeln!(f, "log       not compared, as asked")?,
            None => {
                writeln!(f, "log       {events} events counted, {repeats} repeats, {unreadable} unreadable")?;
            }
        }
        if *ambiguous > 0 {
            writeln!(
                f,
                "          {ambiguous} videos not compared: one event_id stands for different events on several \
                 partitions, and which one counted depends on their order"
            )?;
        }
        if *counted && !trending {
            writeln!(
                f,
                "          trending not compared with the log: after a rebuild it need not follow from all of it"
            )?;
        }
        Ok(())
    }
}
