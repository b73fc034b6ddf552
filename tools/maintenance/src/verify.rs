//! Compares the log, the archive and the boards.
//!
//! The archive is read as of one moment. The log is counted from its start, or from a snapshot, exactly up to the
//! archive's offsets at that moment, and the result is compared with the archive. The boards change meanwhile;
//! [`crate::boards`] tells a change from an error.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail};
use liverank_adapters::Backends;
use liverank_adapters::archive::{Archive, ArchivePosition, ArchiveSnapshot, WindowCount};
use liverank_adapters::event_log::{LogReader, RawRecord, ReadRange};
use liverank_consumer::batches::read_log_record;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::{CountingRules, LogRecord, MarkKey, event_identities, mark_key};
use liverank_core::decays::CountedDecays;
use liverank_core::windows::CountedWindows;
use liverank_core::{Millis, VideoId, canary};
use liverank_runtime::boards::BoardsArgs;
use liverank_runtime::output::OutputOrJsonArgs;

use crate::boards::{ComparedBoards, StatesByVideo};
use crate::compare::{
    ArchivedVideo, ComparableScores, StoreDifference, archive_contradictions, compare_log_and_archive,
    window_differences_with_log,
};
use crate::described::compare_metadata;
use crate::progress::CommandProgress;
use crate::report::{BoardsReport, ComparisonReport, LogReport};
use crate::tally::{LogTally, VideoByLog, WindowCounts};
use crate::untold::{BOARDS_MARKED_WITHIN, undeclared_boards};
use crate::{CommandVerdict, boards};

/// The number of records that are counted at once.
const BATCH_RECORDS: usize = 5000;

/// The arguments of `liverank verify`: what is compared, and how the report is written.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct VerifyArgs {
    /// Name every difference instead of the first fifty.
    #[arg(long)]
    pub full: bool,
    /// The format of the report.
    #[command(flatten)]
    pub output: OutputOrJsonArgs,
    /// Compare archive and boards only; for a log that no longer reaches back to its start.
    #[arg(long)]
    pub without_log: bool,
    /// Count the log from the offsets of this database (`MongoDB`) or directory (embedded storage), which holds an
    /// older state of the archive that was right, say a restored backup.
    #[arg(long, value_name = "DATABASE", conflicts_with = "without_log")]
    pub snapshot: Option<String>,
    /// Compare log and archive only.
    #[arg(long)]
    pub without_boards: bool,
    /// The declared boards, which are compared, too. A board that the consumers know and this command does not is an
    /// error.
    #[command(flatten)]
    pub boards: BoardsArgs,
    /// Whether the stores are embedded ones: their boards are in memory, so there are none without their process.
    #[arg(skip)]
    pub embedded: bool,
}

/// Compares the stores, writes the report to `out`, and returns whether all agree.
pub async fn run(
    options: &VerifyArgs,
    backends: &Backends,
    progress: &CommandProgress,
    out: &mut impl std::io::Write,
) -> anyhow::Result<CommandVerdict> {
    let report = compare_stores(options, backends, progress).await;
    progress.remove_bar();
    let report = report?;
    let value = serde_json::to_value(&report)?;
    options.output.args().write_value(out, &value, || format!("{report}\n"))?;
    Ok(if report.good { CommandVerdict::AllGood } else { CommandVerdict::FoundFault })
}

/// Compares the log, the archive and the boards.
pub async fn compare_stores(
    options: &VerifyArgs,
    backends: &Backends,
    progress: &CommandProgress,
) -> anyhow::Result<ComparisonReport> {
    let declared = options.boards.read_declarations()?;
    if backends.archive.archive_meta().await.context("reading the archive")?.is_none() {
        return Err(liverank_consumer::repair::no_archive_error().into());
    }
    progress.show_progress("reading the archive", 0, 0);
    let cut = backends.archive.rebuild_archive().read_snapshot(None).await.context("reading the archive")?;
    let trending = scores_follow_from_log(&cut);
    let (rules, generation) = (cut.meta.counting_rules, cut.meta.generation);
    let positions: BTreeMap<u32, ArchivePosition> = cut.positions.iter().copied().collect();
    let decays = complete_decays(&cut.meta.decays);
    let (windows, window_counts) = (cut.meta.windows.clone(), counts_by_window(&cut.window_counts));
    let windows_from = window_counts.keys().map(|(_, start, _)| *start).min().unwrap_or(Millis::MAX);
    let kept = states_by_video(cut);
    let mut report = ComparisonReport {
        cut: positions.iter().map(|(partition, position)| (*partition, position.next_offset)).collect(),
        generation,
        videos: kept.keys().filter(|video| !canary::is_canary(video)).count(),
        ..ComparisonReport::default()
    };
    let mut differences: Vec<StoreDifference> =
        kept.values().flat_map(|kept| archive_contradictions(kept, &rules)).collect();
    if !options.without_log {
        match begin_reading(
            backends,
            options.snapshot.as_deref(),
            &positions,
            rules,
            (&windows, windows_from),
            &decays,
        )
        .await?
        {
            Err(problem) => report.log.problem = Some(problem),
            Ok(counting) => {
                let decays = counting.tally.decays().clone();
                let (told, counted);
                (told, counted, report.log) = counting.run(&positions, trending, progress).await?;
                differences.extend(window_differences_with_log(&told, &counted, &window_counts, &windows));
                let follows = ComparableScores::of(report.log.trending, decays);
                differences.extend(compare_log_and_archive(&told, &kept, &follows));
            }
        }
    }
    let states = kept.into_values().map(|kept| (kept.state.video_id.clone(), kept.state)).collect();
    let of_archive = (generation, states, positions);
    let boards_agree =
        compare_all_boards(options, backends, of_archive, &declared, progress, &mut report, &mut differences)
            .await?;
    report.good = differences.is_empty() && boards_agree && report.log.problem.is_none();
    report.add_differences(differences, options.full);
    Ok(report)
}

/// Compares the boards, and the metadata beside them, with the archive. The tuple is the archive's generation, its
/// videos, and the offsets up to which it has counted. Returns true if all boards could be compared.
async fn compare_all_boards(
    options: &VerifyArgs,
    backends: &Backends,
    (generation, states, positions): (u64, StatesByVideo, BTreeMap<u32, ArchivePosition>),
    declared: &DeclaredBoards,
    progress: &CommandProgress,
    report: &mut ComparisonReport,
    differences: &mut Vec<StoreDifference>,
) -> anyhow::Result<bool> {
    if options.without_boards {
        report.boards.problem = Some("not compared, as asked".into());
        return Ok(true);
    }
    if options.embedded {
        let why = "not compared: boards of embedded storage are in memory, and are made anew at each start";
        report.boards.problem = Some(why.into());
        return Ok(true);
    }
    let built_in = ComparedBoards::built_in(backends);
    let (found, wrong) =
        boards::compare_boards(&built_in, Some((generation, states)), &positions, progress).await?;
    report.boards = found;
    differences.extend(wrong);
    if report.boards.problem.is_none() && report.videos > 0 {
        match compare_metadata(backends).await? {
            Ok(wrong) => differences.extend(wrong),
            Err(why) => report.boards.problem = Some(why),
        }
    }
    let mut comparable = report.boards.problem.is_none();
    let stored = backends.ranking.wanted_boards(BOARDS_MARKED_WITHIN).await.context("reading the boards")?;
    let untold = undeclared_boards(&stored, declared, (backends.clock)());
    comparable &= untold.is_empty();
    // The list of one that is declared otherwise has another key: it would be waited for in vain.
    for board in declared.iter().filter(|board| !untold.iter().any(|(name, _)| name == board.name())) {
        for compared in ComparedBoards::declared(backends, board) {
            let (found, wrong) = boards::compare_boards(&compared, None, &positions, progress).await?;
            comparable &= found.problem.is_none();
            report.declared.insert(compared.name(), found);
            differences.extend(wrong);
        }
    }
    for (name, why) in untold {
        report.declared.insert(name, BoardsReport { problem: Some(why.into()), ..BoardsReport::default() });
    }
    Ok(comparable)
}

/// Returns true if the archive's decayed scores can surely be computed from the log, because one set of rules was in
/// force all the time. A later generation may have been begun by `rebuild scores`, after which older events weigh
/// otherwise or not at all.
fn scores_follow_from_log(cut: &ArchiveSnapshot) -> bool {
    cut.meta.generation == 1
}

/// Returns the decays whose scores include everything that was counted.
fn complete_decays(decays: &CountedDecays) -> CountedDecays {
    decays.iter().filter(|counted| counted.complete_after.is_none()).copied().collect()
}

fn counts_by_window(counts: &[WindowCount]) -> WindowCounts {
    let of = |count: &WindowCount| {
        let WindowCount { window, video, counters } = count;
        ((window.kind.to_string(), window.start, video.clone()), *counters)
    };
    counts.iter().map(of).collect()
}

fn states_by_video(cut: ArchiveSnapshot) -> BTreeMap<VideoId, ArchivedVideo> {
    let comments: HashMap<VideoId, (u64, u64)> = cut
        .comment_tallies
        .into_iter()
        .map(|tally| (tally.video_id, (tally.comment_count, tally.highest_seq)))
        .collect();
    let of = |stored: liverank_adapters::archive::StoredVideo| {
        let id = stored.state.video_id.clone();
        let (comment_count, highest_seq) = comments.get(&id).copied().unwrap_or_default();
        (id, ArchivedVideo { state: stored.state, score: stored.score, comment_count, highest_seq })
    };
    cut.videos.into_iter().map(of).collect()
}

/// A counting of the log that has not begun yet.
struct LogCounting<'a> {
    archive: &'a dyn Archive,
    reader: Box<dyn LogReader>,
    tally: LogTally,
    /// The snapshot of the archive from which the counting begins, with the identities of earlier events; `None` if it
    /// begins with the log.
    snapshot: Option<&'a str>,
    /// True if the decayed scores of the snapshot can be computed from its log.
    compares_trending: bool,
    records_read: u64,
}

/// Begins to read the log up to `positions`; the inner error is the reason why the log cannot be counted.
async fn begin_reading<'a>(
    backends: &'a Backends,
    snapshot: Option<&'a str>,
    positions: &BTreeMap<u32, ArchivePosition>,
    rules: CountingRules,
    (windows, windows_from): (&CountedWindows, Millis),
    decays: &CountedDecays,
) -> anyhow::Result<Result<LogCounting<'a>, String>> {
    let archive = &*backends.archive;
    let mut tally =
        LogTally::new(rules, positions.iter().map(|(partition, end)| (*partition, end.next_offset)));
    tally.add_initial_windows(windows.clone(), WindowCounts::new(), windows_from);
    tally.add_decays(decays.clone());
    let (mut from, mut compares_trending) = (BTreeMap::new(), true);
    if let Some(snapshot) = snapshot {
        let cut =
            archive.rebuild_archive().read_snapshot(Some(snapshot)).await.context("reading the snapshot")?;
        if let Err(why) = cut.meta.counting_rules.check_rescore(&rules) {
            bail!("the snapshot {snapshot} cannot be counted from: {why}");
        }
        compares_trending = scores_follow_from_log(&cut) && cut.meta.counting_rules == rules;
        from = cut.positions.into_iter().collect();
        // From the beginning, only the decays that the snapshot has, too, are counted.
        let both = complete_decays(&cut.meta.decays);
        tally.add_decays(decays.iter().filter(|it| both.find(&it.decay) == Some(it)).copied().collect());
        tally.add_initial_windows(windows.clone(), counts_by_window(&cut.window_counts), windows_from);
        tally.add_initial_videos(cut.videos.into_iter().map(|video| video.state));
    }
    let beginnings = backends.log.first_offsets().await.context("asking the log where it begins")?;
    let mut stretches = Vec::new();
    for (&partition, end) in positions {
        let start: ArchivePosition = from.get(&partition).copied().unwrap_or_default();
        let Some(&beginning) = beginnings.get(partition as usize) else {
            return Ok(Err(format!("the log has no partition {partition}, which the archive has counted")));
        };
        if start.next_offset > end.next_offset {
            bail!(
                "the snapshot stands further than the archive in partition {partition}: it is none of this archive"
            );
        }
        if beginning > start.next_offset && start.next_offset < end.next_offset {
            return Ok(Err(format!(
                "the log no longer reaches back to offset {} of partition {partition}: it begins at {beginning}. Give \
                 an older state of the archive with --snapshot, or compare --without-log",
                start.next_offset
            )));
        }
        stretches.push(ReadRange {
            partition,
            first_offset: start.next_offset,
            end_offset: end.next_offset,
            previous_record: start.last_record,
        });
    }
    stretches.retain(|stretch| stretch.first_offset < stretch.end_offset);
    let records = stretches.iter().map(|stretch| stretch.end_offset - stretch.first_offset).sum();
    let reader = backends.log.read_ranges(&stretches).await.context("reading the log")?;
    Ok(Ok(LogCounting { archive, reader, tally, snapshot, compares_trending, records_read: records }))
}

impl LogCounting<'_> {
    async fn run(
        mut self,
        positions: &BTreeMap<u32, ArchivePosition>,
        trending: bool,
        progress: &CommandProgress,
    ) -> anyhow::Result<(BTreeMap<VideoId, VideoByLog>, WindowCounts, LogReport)> {
        let mut read_records = 0;
        let mut unreadable = 0;
        loop {
            let page = self.reader.next_records(BATCH_RECORDS).await.context("reading the log")?;
            if page.is_empty() {
                break;
            }
            check_fingerprints(&page, positions)?;
            let records: Vec<LogRecord> =
                page.iter().filter_map(|record| read_log_record(record).ok()).collect();
            unreadable += (page.len() - records.len()) as u64;
            let mut earlier = Vec::new();
            if self.snapshot.is_some() {
                let identities: Vec<String> =
                    records.iter().flat_map(|record| event_identities(&record.event)).collect();
                let sightings = self.archive.rebuild_archive().known_identities(self.snapshot, &identities);
                earlier = sightings.await.context("reading the snapshot")?;
                let unique = self.tally.rules().unique;
                let keys: Vec<MarkKey> =
                    records.iter().filter_map(|record| mark_key(&record.event, unique)).collect();
                let marks = self.archive.rebuild_archive().read_marks(self.snapshot, &keys).await;
                self.tally.add_earlier_marks(marks.context("reading the snapshot")?);
            }
            self.tally.count_records(&records, earlier);
            read_records += page.len() as u64;
            progress.show_progress("counting the log", read_records, self.records_read);
        }
        let (events, repeats) = self.tally.event_counts();
        let counted = self.tally.take_window_counts();
        let told = self.tally.into_videos();
        let ambiguous = told.values().filter(|told| told.is_ambiguous).count();
        let trending = trending && self.compares_trending;
        Ok((
            told,
            counted,
            LogReport { counted: true, events, repeats, unreadable, ambiguous, trending, problem: None },
        ))
    }
}

/// Checks that the last record that the archive has counted is the one that the log has at that offset.
fn check_fingerprints(page: &[RawRecord], positions: &BTreeMap<u32, ArchivePosition>) -> anyhow::Result<()> {
    for record in page {
        let position = positions.get(&record.partition);
        if let Some(ArchivePosition { next_offset: next, last_record: Some(mark) }) = position
            && record.offset + 1 == *next
            && record.fingerprint() != *mark
        {
            let (partition, offset) = (record.partition, record.offset);
            bail!(
                "partition {partition} holds another record at offset {offset} than the one that was counted: the \
                 topic was created anew, or lost records. `liverank rebuild mongodb` counts the log as it is"
            );
        }
    }
    Ok(())
}
