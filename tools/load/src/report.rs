//! The outcome of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::boards::BoardFigures;
use crate::moderation::ModerationFigures;
use crate::oracle::OracleFaultKind;
use crate::periods::LoadPeriod;
use crate::record::RunRecord;
use crate::unique::UniqueFigures;

/// The distribution of measured times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimeDistribution {
    /// The number of times that were measured.
    pub count: u64,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The longest time, in milliseconds.
    pub max_ms: f64,
}

impl TimeDistribution {
    /// Makes the distribution of a histogram whose values are in microseconds.
    pub fn from_histogram(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// The size of a load run: its numbers of videos, viewers and clients, and its duration.
#[derive(Debug, Clone, Serialize)]
pub struct RunSize {
    /// The prefix of all names of the run.
    pub run: String,
    /// The number of videos, without the probe's.
    pub videos: usize,
    /// The number of viewers, including those who came late.
    pub viewers: usize,
    /// The number of viewers who joined one video while others were posting.
    pub viral_viewers: usize,
    /// The number of viewers who did not read while others were posting.
    pub slow_viewers: usize,
    /// The number of WebSocket clients.
    pub ws: usize,
    /// The duration of the posting, in seconds.
    pub seconds: f64,
}

/// The outcome of a run.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// The size of the run.
    pub size: RunSize,
    /// True if the run found no fault: nothing acknowledged is missing, repeated or out of order.
    pub good: bool,
    /// True if everything became equal to what was acknowledged within the time allowed for it (`--rest-timeout`).
    pub at_rest: bool,
    /// The number of events posted.
    pub sent: u64,
    /// The number of events acknowledged.
    pub acknowledged: u64,
    /// The number of requests beyond the first one of an event.
    pub retried: u64,
    /// The number of events given up without an acknowledgement: the system may count them or not.
    pub unacknowledged: u64,
    /// The number of events that were refused and would be refused again.
    pub refused: u64,
    /// The number of comments that viewers were sent.
    pub delivered: u64,
    /// The number of comments that the system reported as left out, to all viewers together.
    pub skipped: u64,
    /// The number of events that were acknowledged and are missing, in counts, histories, lists and viewers' streams.
    pub missing: u64,
    /// The number of events that are there more than once.
    pub repeated: u64,
    /// The number of events that came after a later one.
    pub out_of_order: u64,
    /// The number of comments that the system itself reported as left out, to viewers who were not slow.
    pub gaps: u64,
    /// The number of other faults: values that differ from what they should be, and posts or actions that were refused.
    pub different: u64,
    /// The number of viewers' streams that were lost and opened again.
    pub reconnects: u64,
    /// The number of `WebSockets` that were lost and opened again.
    pub ws_reconnects: u64,
    /// The number of lists and changes of lists that WebSocket clients got.
    pub lists: u64,
    /// The times from the first post of an event to its acknowledgement, retries included.
    pub ack: TimeDistribution,
    /// The times from a comment's first post until a viewer has it.
    pub delivery: TimeDistribution,
    /// The delivery times of comments that were posted while their viewer had a stream.
    pub live: TimeDistribution,
    /// The times from an interaction's post until a list shows it.
    pub ws: TimeDistribution,
    /// The times from the loss of a viewer's stream to its next stream.
    #[serde(rename = "away")]
    pub interruption: TimeDistribution,
    /// The figures of the moderation; absent unless `--moderation` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<ModerationFigures>,
    /// The figures of what counts once per user; absent unless `--unique` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<UniqueFigures>,
    /// The figures of the reads of boards, by the name of the board; empty unless `--boards` is given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub boards: BTreeMap<String, BoardFigures>,
    /// The figures of each period of the run; empty unless `--period` is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub periods: Vec<LoadPeriod>,
    /// The reason for which scores were not compared with counts; absent if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores_not_compared: Option<String>,
    /// The descriptions of the first faults.
    pub faults: Vec<String>,
}

impl LoadReport {
    /// Makes the report of a run from its record.
    pub fn from_record(record: &RunRecord, size: RunSize, skipped: u64, at_rest: bool) -> Self {
        let number = |number: &AtomicU64| number.load(Relaxed);
        let counts = &record.counts;
        let [missing, repeated, out_of_order, gaps, different] = [
            OracleFaultKind::Missing,
            OracleFaultKind::Repeated,
            OracleFaultKind::OutOfOrder,
            OracleFaultKind::Gap,
            OracleFaultKind::Different,
        ]
        .map(|wrong| record.faulty_event_count(wrong));
        Self {
            size,
            good: at_rest && missing + repeated + out_of_order + gaps + different == 0,
            at_rest,
            sent: number(&counts.sent),
            acknowledged: number(&counts.acknowledged),
            retried: number(&counts.retried),
            unacknowledged: number(&counts.unacknowledged),
            refused: number(&counts.refused),
            delivered: number(&counts.delivered),
            skipped,
            missing,
            repeated,
            out_of_order,
            gaps,
            different,
            reconnects: number(&counts.reconnects),
            ws_reconnects: number(&counts.ws_reconnects),
            lists: number(&counts.received_lists),
            ack: TimeDistribution::from_histogram(&record.acknowledgement_latency.merged_histogram()),
            delivery: TimeDistribution::from_histogram(&record.delivery_latency.merged_histogram()),
            live: TimeDistribution::from_histogram(&record.live_delivery_latency.merged_histogram()),
            ws: TimeDistribution::from_histogram(&record.list_latency.merged_histogram()),
            interruption: TimeDistribution::from_histogram(&record.interruption_latency.merged_histogram()),
            moderation: None,
            unique: None,
            boards: BTreeMap::new(),
            periods: Vec::new(),
            scores_not_compared: record.scores_not_compared_reason(),
            faults: record.first_faults(),
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = &self.size;
        writeln!(
            f,
            "{}: {} videos, {} viewers ({} slow, {} viral), {} WebSockets, {:.1} s of posting",
            size.run, size.videos, size.viewers, size.slow_viewers, size.viral_viewers, size.ws, size.seconds
        )?;
        let numbers = [
            ("sent", self.sent),
            ("acknowledged", self.acknowledged),
            ("retried", self.retried),
            ("unacknowledged", self.unacknowledged),
            ("refused", self.refused),
            ("delivered", self.delivered),
            ("skipped", self.skipped),
            ("missing", self.missing),
            ("repeated", self.repeated),
            ("out of order", self.out_of_order),
            ("gaps", self.gaps),
            ("different", self.different),
            ("reconnects", self.reconnects),
            ("ws reconnects", self.ws_reconnects),
            ("ws lists", self.lists),
        ];
        for (name, number) in numbers {
            writeln!(f, "  {name:<16}{number:>12}")?;
        }
        writeln!(f, "  {:<16}{:>12}{:>12}{:>12}{:>12}", "latency (ms)", "p50", "p99", "max", "count")?;
        let latencies = [
            ("ack", &self.ack),
            ("delivery", &self.delivery),
            ("to streams", &self.live),
            ("ws list", &self.ws),
            ("without stream", &self.interruption),
        ];
        for (name, times) in latencies {
            write_times(f, name, times)?;
        }
        if let Some(ModerationFigures { actions: _, by_kind, refused, latency, in_force, told }) =
            &self.moderation
        {
            write_times(f, "moderation", latency)?;
            write_times(f, "ban in force", in_force)?;
            write_times(f, "deletion told", told)?;
            writeln!(f, "  {:<16}{refused:>12}", "not moderated")?;
            let kinds: Vec<String> = by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            writeln!(f, "  {:<16}    {}", "moderated", kinds.join(", "))?;
        }
        if let Some(UniqueFigures { sent_twice, taken_back }) = &self.unique {
            writeln!(f, "  {:<16}{sent_twice:>12} sent twice, {taken_back} taken back", "once per user")?;
        }
        for (name, BoardFigures { reads: _, refused, latency }) in &self.boards {
            write_times(f, &format!("read {name}"), latency)?;
            for (status, count) in refused {
                writeln!(f, "  {:<16}{count:>12} with {status}", "  refused")?;
            }
        }
        if let Some(why) = &self.scores_not_compared {
            writeln!(f, "  scores not compared: {why}")?;
        }
        for fault in &self.faults {
            writeln!(f, "  ! {fault}")?;
        }
        let verdict = match (self.good, self.at_rest) {
            (true, _) => "good: nothing acknowledged is missing, repeated or out of order",
            (false, true) => "BAD",
            (false, false) => "BAD: when the time was up, not everything was equal to what was acknowledged",
        };
        write!(f, "  {verdict}")
    }
}

fn write_times(f: &mut fmt::Formatter<'_>, name: &str, times: &TimeDistribution) -> fmt::Result {
    let TimeDistribution { count, p50_ms, p99_ms, max_ms } = times;
    writeln!(f, "  {name:<16}{p50_ms:>12.1}{p99_ms:>12.1}{max_ms:>12.1}{count:>12}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::FoundFault;

    fn report(record: &RunRecord, at_rest: bool) -> LoadReport {
        let size = RunSize {
            run: "r".into(),
            videos: 1,
            viewers: 1,
            viral_viewers: 0,
            slow_viewers: 0,
            ws: 1,
            seconds: 1.0,
        };
        LoadReport::from_record(record, size, 0, at_rest)
    }

    #[test]
    fn any_fault_or_unrest_makes_the_report_bad() {
        assert!(report(&RunRecord::new(1, 0), true).good);
        assert!(!report(&RunRecord::new(1, 0), false).good);
        for wrong in [
            OracleFaultKind::Missing,
            OracleFaultKind::Repeated,
            OracleFaultKind::OutOfOrder,
            OracleFaultKind::Gap,
            OracleFaultKind::Different,
        ] {
            let record = RunRecord::new(1, 0);
            record.note_fault(FoundFault::new(wrong, 3, "that"));
            let report = report(&record, true);
            assert!(!report.good, "{wrong:?}");
            let text = report.to_string();
            assert!(text.contains("! that") && text.ends_with("BAD"), "{text}");
        }
    }

    #[test]
    fn scores_that_were_not_compared_are_named_and_are_no_fault() {
        let record = RunRecord::new(1, 0);
        record.note_scores_not_compared("nobody knows the weights".to_owned());
        let report = report(&record, true);
        let text = report.to_string();
        assert!(report.good && text.contains("  scores not compared: nobody knows the weights\n"), "{text}");
    }

    #[test]
    fn moderation_and_reads_of_boards_are_in_the_report_where_there_were_any() {
        let mut report = report(&RunRecord::new(1, 0), true);
        let plain = serde_json::to_value(&report).unwrap();
        assert!(plain.get("moderation").is_none() && plain.get("boards").is_none(), "{plain}");
        let times = TimeDistribution { count: 7, p50_ms: 1.5, p99_ms: 2.5, max_ms: 3.5 };
        let by_kind = [("ban", 3), ("pin", 4)].into();
        report.moderation = Some(ModerationFigures {
            actions: 7,
            by_kind,
            refused: 2,
            latency: times,
            in_force: times,
            told: times,
        });
        report.unique = Some(UniqueFigures { sent_twice: 9, taken_back: 3 });
        let today = BoardFigures { reads: 9, refused: [(503, 2)].into(), latency: times };
        report.boards = [("today".to_owned(), today)].into();
        let text = report.to_string();
        for line in [
            "ban in force",
            "deletion told",
            "read today",
            "2 with 503",
            "not moderated",
            "ban 3, pin 4",
            "9 sent twice, 3 taken back",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&value["boards"]["today"]["refused"]["503"], &value["moderation"]["refused"]),
            (&2.into(), &2.into())
        );
    }

    #[test]
    fn times_are_in_milliseconds() {
        let record = RunRecord::new(1, 0);
        (1..=100).for_each(|n| record.acknowledgement_latency.note_latency(n, n as u64 * 1000));
        let times = report(&record, true).ack;
        assert_eq!(times.count, 100);
        assert!((times.p50_ms - 50.0).abs() < 0.1 && (times.max_ms - 100.0).abs() < 0.1, "{times:?}");
    }
}
