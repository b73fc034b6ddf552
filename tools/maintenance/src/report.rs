//! The result of `liverank verify`, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use liverank_core::VideoId;
use serde::Serialize;

use crate::compare::StoreDifference;

/// The number of differences that are printed, unless all are asked for: a screen or two.
const MAX_DIFFERENCES_SHOWN: usize = 50;

/// The result of a comparison of the stores.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ComparisonReport {
    /// True if everything that was to be compared agrees.
    pub good: bool,
    /// The offsets (exclusive) up to which the log and the archive were compared, by partition.
    pub cut: BTreeMap<u32, u64>,
    /// The generation of the archive's scores.
    pub generation: u64,
    /// The number of videos in the archive.
    pub videos: usize,
    /// The result of comparing the log with the archive.
    pub log: LogReport,
    /// The result of comparing the built-in boards with the archive.
    pub boards: BoardsReport,
    /// The result of comparing each declared board with the archive, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub declared: BTreeMap<String, BoardsReport>,
    /// The number of videos that differ somewhere.
    pub differing: usize,
    /// The differences; only the first ones unless all are asked for.
    pub differences: Vec<StoreDifference>,
    /// The number of differences that are not listed.
    pub more: usize,
}

/// The result of comparing the log with the archive.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogReport {
    /// True if the log was counted.
    pub counted: bool,
    /// The number of events that counted.
    pub events: u64,
    /// The number of repeated events, which do not count.
    pub repeats: u64,
    /// The number of records that cannot be read.
    pub unreadable: u64,
    /// The number of videos for which the log does not tell what is right, because one identity belongs to different
    /// events on several partitions.
    pub ambiguous: usize,
    /// True if decayed scores were compared. After `rebuild scores` they cannot be computed from the log alone, and the
    /// archive does not record which kind of rebuild began its generation.
    pub trending: bool,
    /// The reason why the log was not counted; `None` if the log was counted, or was not to be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The result of comparing one board, or the built-in ones, with the archive.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BoardsReport {
    /// The number of videos that were compared.
    pub videos: usize,
    /// The number of videos that changed during every round, and were right within the tolerance each time.
    pub moving: usize,
    /// The reason why the boards could not be compared; `None` if they were.
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
    /// Adds the differences: all of them if `full` is true, else the first ones.
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
        writeln!(f, "boards    global and trending: {}", self.boards)?;
        for (name, board) in &self.declared {
            writeln!(f, "          {name}: {board}")?;
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
            (true, _) => write!(f, "{}", self.no_difference_text()),
            (false, 0) => write!(f, "NOT VERIFIED"),
            (false, 1) => write!(f, "1 video DIFFERS"),
            (false, many) => write!(f, "{many} videos DIFFER"),
        }
    }
}

impl ComparisonReport {
    /// Returns the text for a comparison that found no difference; it names what was not compared.
    fn no_difference_text(&self) -> String {
        let parts = [("log", !self.log.counted), ("boards", self.boards.problem.is_some())];
        let left_out: Vec<&str> = parts.iter().filter(|(_, out)| *out).map(|(name, _)| *name).collect();
        if left_out.is_empty() {
            return "equal".to_owned();
        }
        format!("equal, without the {}", left_out.join(" and the "))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_of_equal_names_what_was_left_out() {
        let mut report = ComparisonReport { good: true, ..ComparisonReport::default() };
        let last_line = |report: &ComparisonReport| report.to_string().lines().last().unwrap().to_owned();
        report.log.counted = true;
        assert_eq!(last_line(&report), "equal");
        report.boards.problem = Some("not compared: they are in memory".to_owned());
        assert_eq!(last_line(&report), "equal, without the boards");
        report.log.counted = false;
        assert_eq!(last_line(&report), "equal, without the log and the boards");
        report.good = false;
        assert_eq!(last_line(&report), "NOT VERIFIED");
    }
}
