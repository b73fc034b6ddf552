//! The last reports of all processes and clients, and the answer of `GET /statistics` that is merged from them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::reports::{
    ReceivedClientReport, ReceivedCommentReport, ReceivedManagerReport, ReceivedReaderReport,
};
use crate::roster::{ReportRefusal, ReportRoster, ReportSource, RosterLimits};

/// Maximum number of items in each list of the answer, unless all are asked for: as many as fit on a page.
pub const MAX_LISTED_ITEMS: usize = 100;

/// Maximum bytes of memory that the kept reports of one kind take: several times what the honest reports of a large system
/// need.
const MAX_REPORT_BYTES_KEPT: usize = 32 * 1024 * 1024;
/// Maximum bytes of memory that the kept reports of readers take. A reader reports up to 1,000 topics, which take 212 KB
/// if the videos' ids have 36 bytes; an operator runs up to 500 readers, so they take 106 MB.
const MAX_READER_REPORT_BYTES_KEPT: usize = 128 * 1024 * 1024;
/// Silence after which a service is left out: services report every 2 s, so seven reports in a row are missing.
const SERVICE_SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Silence after which a client is left out: the seed's clients report every 5 to 10 s.
const CLIENT_SILENCE_TIMEOUT: Duration = Duration::from_mins(1);

const fn service_roster_limits(reporters: usize, max_bytes: usize) -> RosterLimits {
    RosterLimits { max_reporters: reporters, max_bytes, silence_timeout: SERVICE_SILENCE_TIMEOUT }
}

/// The latest reports of all comment services, readers, managers and clients, and the limits on their memory.
#[derive(Debug)]
pub struct LatestReports {
    comment_services: ReportRoster<ReceivedCommentReport>,
    readers: ReportRoster<ReceivedReaderReport>,
    managers: ReportRoster<ReceivedManagerReport>,
    clients: ReportRoster<ReceivedClientReport>,
    /// Number of readers subscribed to each topic. The numbers are updated with each report, so that an answer need
    /// not count.
    readers_by_topic: BTreeMap<String, usize>,
}

impl Default for LatestReports {
    fn default() -> Self {
        Self {
            comment_services: ReportRoster::new(service_roster_limits(100, MAX_REPORT_BYTES_KEPT)),
            readers: ReportRoster::new(service_roster_limits(1_000, MAX_READER_REPORT_BYTES_KEPT)),
            managers: ReportRoster::new(service_roster_limits(100, MAX_REPORT_BYTES_KEPT)),
            clients: ReportRoster::new(RosterLimits {
                // Clients behind one gateway are one address where it cannot show a token: they have half of these.
                max_reporters: 20_000,
                max_bytes: MAX_REPORT_BYTES_KEPT,
                silence_timeout: CLIENT_SILENCE_TIMEOUT,
            }),
            readers_by_topic: BTreeMap::new(),
        }
    }
}

impl LatestReports {
    /// Keeps the report of a comment service, of `bytes` bytes.
    ///
    /// # Errors
    /// The errors are those of [`ReportRoster::keep_report`].
    pub fn keep_comment_report(
        &mut self,
        now: Instant,
        source: ReportSource,
        report: ReceivedCommentReport,
        bytes: usize,
    ) -> Result<(), ReportRefusal> {
        let name = report.instance.clone();
        self.comment_services.keep_report(now, source, &name, report, bytes).map(drop)
    }

    /// Keeps the report of a manager, of `bytes` bytes.
    pub fn keep_manager_report(
        &mut self,
        now: Instant,
        source: ReportSource,
        report: ReceivedManagerReport,
        bytes: usize,
    ) -> Result<(), ReportRefusal> {
        let name = report.instance.clone();
        self.managers.keep_report(now, source, &name, report, bytes).map(drop)
    }

    /// Keeps the report of a client, of `bytes` bytes.
    pub fn keep_client_report(
        &mut self,
        now: Instant,
        source: ReportSource,
        report: ReceivedClientReport,
        bytes: usize,
    ) -> Result<(), ReportRefusal> {
        let name = report.client_id.clone();
        self.clients.keep_report(now, source, &name, report, bytes).map(drop)
    }

    /// Keeps the report of a reader, of `bytes` bytes, and updates the subscriptions to topics.
    pub fn keep_reader_report(
        &mut self,
        now: Instant,
        source: ReportSource,
        report: ReceivedReaderReport,
        bytes: usize,
    ) -> Result<(), ReportRefusal> {
        let name = report.instance_id.clone();
        let gone = self.readers.keep_report(now, source, &name, report, bytes)?;
        for topic in self.readers.get(&name).into_iter().flat_map(|kept| &kept.subscribed_topics) {
            *self.readers_by_topic.entry(topic.clone()).or_default() += 1;
        }
        self.forget_topics(&gone);
        Ok(())
    }

    /// Removes the reports of processes and clients that have been silent for too long.
    pub fn expire(&mut self, now: Instant) {
        self.comment_services.expire(now);
        self.managers.expire(now);
        self.clients.expire(now);
        let gone = self.readers.expire(now);
        self.forget_topics(&gone);
    }

    fn forget_topics(&mut self, gone: &[ReceivedReaderReport]) {
        for topic in gone.iter().flat_map(|reader| &reader.subscribed_topics) {
            if let Some(readers) = self.readers_by_topic.get_mut(topic) {
                *readers -= 1;
                if *readers == 0 {
                    self.readers_by_topic.remove(topic);
                }
            }
        }
    }

    /// Returns the answer of `GET /statistics`, with at most `listed` items in each of its lists.
    pub fn to_summary(
        &self,
        listed: usize,
        stored: StoredComments,
        timestamp: String,
    ) -> StatisticsSummary<'_> {
        StatisticsSummary {
            comment_api: self.comment_summary(listed),
            reader_apis: ReaderApis {
                total_readers: self.readers.len(),
                total_active_connections: saturating_sum(
                    self.readers.iter().map(|reader| reader.active_connections),
                ),
                total_messages_sent: saturating_sum(self.readers.iter().map(|reader| reader.messages_sent)),
                all_subscribed_topics: self
                    .readers_by_topic
                    .keys()
                    .take(listed)
                    .map(String::as_str)
                    .collect(),
                readers: self
                    .readers
                    .iter()
                    .take(listed)
                    .map(|reader| shown_reader(reader, listed))
                    .collect(),
            },
            reader_api_manager: self.manager_summary(listed),
            clients: ClientList {
                total_clients: self.clients.len(),
                total_comments_generated: saturating_sum(
                    self.clients.iter().map(|client| client.comments_generated),
                ),
                total_comments_consumed: saturating_sum(
                    self.clients.iter().map(|client| client.comments_consumed),
                ),
                clients: self
                    .clients
                    .iter()
                    .take(listed)
                    .map(|client| shown_client(client, listed))
                    .collect(),
            },
            stored_comments: stored,
            timestamp,
        }
    }

    /// Merges the reports of comment services: each service counts only the comments that it accepted, so the counts
    /// are added.
    fn comment_summary(&self, listed: usize) -> ReceivedCommentReport {
        let mut merged = ReceivedCommentReport::default();
        let mut by_video = BTreeMap::<&str, u64>::new();
        let mut topics = BTreeSet::<&str>::new();
        for report in self.comment_services.iter() {
            merged.total_comments = merged.total_comments.saturating_add(report.total_comments);
            for (video, count) in &report.comments_by_video {
                let sum = by_video.entry(video).or_default();
                *sum = sum.saturating_add(*count);
            }
            topics.extend(report.active_topics.iter().map(String::as_str));
            for (topic, readers) in report.topic_subscribers.iter().take(listed) {
                // All comment services see the same readers, so the largest number counts, not the sum.
                let most = merged.topic_subscribers.entry(topic.clone()).or_default();
                *most = (*most).max(*readers);
            }
        }
        merged.comments_by_video = busiest_counts(by_video, listed);
        merged.active_topics = topics.into_iter().take(listed).map(str::to_owned).collect();
        cut_map(&mut merged.topic_subscribers, listed);
        merged
    }

    /// Merges the reports of managers: all managers see the same assignments, but each counts its own registrations.
    fn manager_summary(&self, listed: usize) -> ReceivedManagerReport {
        let mut merged = ReceivedManagerReport {
            service: ReceivedManagerReport::SERVICE.into(),
            ..ReceivedManagerReport::default()
        };
        let mut readers = BTreeSet::<&str>::new();
        for report in self.managers.iter() {
            merged.service.clone_from(&report.service);
            merged.registered_videos = merged.registered_videos.max(report.registered_videos);
            merged.registration_count = merged.registration_count.saturating_add(report.registration_count);
            readers.extend(report.available_reader_apis.iter().map(String::as_str));
            let mappings = report.video_mappings.iter().take(listed);
            merged.video_mappings.extend(mappings.map(|(video, reader)| (video.clone(), reader.clone())));
        }
        merged.available_reader_apis = readers.into_iter().take(listed).map(str::to_owned).collect();
        cut_map(&mut merged.video_mappings, listed);
        merged
    }
}

fn saturating_sum(counts: impl Iterator<Item = u64>) -> u64 {
    // Anybody may report any count, so a sum beyond the largest number is shown as the largest number.
    counts.fold(0, u64::saturating_add)
}

fn busiest_counts(counts: BTreeMap<&str, u64>, listed: usize) -> BTreeMap<String, u64> {
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by(|(a, busy), (b, busier)| busier.cmp(busy).then(a.cmp(b)));
    counts.truncate(listed);
    counts.into_iter().map(|(video, count)| (video.to_owned(), count)).collect()
}

fn cut_map<T>(map: &mut BTreeMap<String, T>, listed: usize) {
    while map.len() > listed {
        map.pop_last();
    }
}

fn shown_reader(reader: &ReceivedReaderReport, listed: usize) -> ShownReader<'_> {
    ShownReader {
        instance_id: &reader.instance_id,
        active_connections: reader.active_connections,
        capacity: reader.capacity,
        subscribed_topics: first_items(&reader.subscribed_topics, listed),
        messages_sent: reader.messages_sent,
    }
}

fn shown_client(client: &ReceivedClientReport, listed: usize) -> ShownClient<'_> {
    ShownClient {
        client_id: &client.client_id,
        user_id: client.user_id.as_deref(),
        video_id: client.video_id.as_deref(),
        comments_generated: client.comments_generated,
        comments_consumed: client.comments_consumed,
        subscribed_topics: first_items(&client.subscribed_topics, listed),
        connected_reader: client.connected_reader.as_deref(),
    }
}

fn first_items(items: &[String], listed: usize) -> &[String] {
    &items[..items.len().min(listed)]
}

impl StatisticsSummary<'_> {
    /// Removes everything that tells who watches what: users, videos and topics of clients. The numbers for each video
    /// stay.
    pub fn hide_viewers(&mut self) {
        for client in &mut self.clients.clients {
            client.user_id = None;
            client.video_id = None;
            client.subscribed_topics = &[];
        }
    }
}

/// The answer of `GET /statistics`, in the format of the comments seed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsSummary<'a> {
    comment_api: ReceivedCommentReport,
    reader_apis: ReaderApis<'a>,
    reader_api_manager: ReceivedManagerReport,
    clients: ClientList<'a>,
    stored_comments: StoredComments,
    timestamp: String,
}

/// The number of comments in the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredComments {
    /// The number of comments that the archive last returned; null if the archive has never answered.
    pub total_comments: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReaderApis<'a> {
    total_readers: usize,
    total_active_connections: u64,
    total_messages_sent: u64,
    all_subscribed_topics: Vec<&'a str>,
    readers: Vec<ShownReader<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownReader<'a> {
    instance_id: &'a str,
    active_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
    subscribed_topics: &'a [String],
    messages_sent: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientList<'a> {
    /// Number of clients that report; `clients` may list fewer.
    total_clients: usize,
    total_comments_generated: u64,
    total_comments_consumed: u64,
    clients: Vec<ShownClient<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownClient<'a> {
    client_id: &'a str,
    user_id: Option<&'a str>,
    video_id: Option<&'a str>,
    comments_generated: u64,
    comments_consumed: u64,
    subscribed_topics: &'a [String],
    connected_reader: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use liverank_protocol::StatisticsTotals;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    fn summary_json(board: &LatestReports, listed: usize) -> Value {
        serde_json::to_value(board.to_summary(listed, StoredComments::default(), "now".into())).unwrap()
    }

    fn here() -> ReportSource {
        ReportSource::at([127, 0, 0, 1].into())
    }

    fn reader(id: &str, connections: u64, topics: &[&str]) -> ReceivedReaderReport {
        ReceivedReaderReport {
            instance_id: id.into(),
            active_connections: connections,
            capacity: None,
            subscribed_topics: topics.iter().map(ToString::to_string).collect(),
            messages_sent: 10,
        }
    }

    fn comments(instance: &str, by_video: &[(&str, u64)]) -> ReceivedCommentReport {
        ReceivedCommentReport {
            instance: instance.into(),
            total_comments: by_video.iter().map(|(_, count)| count).sum(),
            comments_by_video: by_video.iter().map(|(video, count)| ((*video).into(), *count)).collect(),
            active_topics: by_video.iter().map(|(video, _)| (*video).into()).collect(),
            ..ReceivedCommentReport::default()
        }
    }

    #[test]
    fn an_empty_summary_has_the_whole_shape() {
        let empty = json!({
            "commentApi": {"totalComments": 0, "commentsByVideo": {}, "activeTopics": [], "topicSubscribers": {}},
            "readerApis": {"totalReaders": 0, "totalActiveConnections": 0, "totalMessagesSent": 0,
                           "allSubscribedTopics": [], "readers": []},
            "readerApiManager": {"service": "ReaderApiManager", "registeredVideos": 0, "availableReaderApis": [],
                                 "registrationCount": 0, "videoMappings": {}},
            "clients": {"totalClients": 0, "totalCommentsGenerated": 0, "totalCommentsConsumed": 0, "clients": []},
            "storedComments": {"totalComments": null},
            "timestamp": "now",
        });
        assert_eq!(summary_json(&LatestReports::default(), MAX_LISTED_ITEMS), empty);
    }

    #[test]
    fn readers_add_up_and_share_their_topics() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        board.keep_reader_report(now, here(), reader("r1", 3, &["video:a", "video:b"]), 1).unwrap();
        board.keep_reader_report(now, here(), reader("r2", 4, &["video:b", "video:c"]), 1).unwrap();
        board.keep_reader_report(now, here(), reader("r1", 5, &["video:b"]), 1).unwrap();
        let readers = summary_json(&board, MAX_LISTED_ITEMS)["readerApis"].take();
        assert_eq!(readers["totalReaders"], 2);
        assert_eq!(readers["totalActiveConnections"], 9);
        assert_eq!(readers["totalMessagesSent"], 20);
        let read = StatisticsTotals::deserialize(summary_json(&board, MAX_LISTED_ITEMS)).unwrap();
        assert_eq!(read.reader_apis.total_messages_sent, 20, "as gateways read it");
        assert_eq!(readers["allSubscribedTopics"], json!(["video:b", "video:c"]));
        assert_eq!(readers["readers"][0]["activeConnections"], 5);
    }

    #[test]
    fn a_reader_that_falls_silent_leaves_sums_and_topics() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        board.keep_reader_report(now, here(), reader("r1", 3, &["video:a"]), 1).unwrap();
        board.expire(now + SERVICE_SILENCE_TIMEOUT);
        let readers = summary_json(&board, MAX_LISTED_ITEMS)["readerApis"].take();
        assert_eq!(readers["totalActiveConnections"], 0);
        assert_eq!(readers["allSubscribedTopics"], json!([]));
    }

    #[test]
    fn clients_are_kept_longer_than_services() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        let report = ReceivedClientReport {
            client_id: "c".into(),
            comments_consumed: 2,
            ..ReceivedClientReport::default()
        };
        board.keep_client_report(now, here(), report, 1).unwrap();
        board.expire(now + SERVICE_SILENCE_TIMEOUT);
        assert_eq!(summary_json(&board, MAX_LISTED_ITEMS)["clients"]["totalCommentsConsumed"], 2);
        board.expire(now + CLIENT_SILENCE_TIMEOUT);
        assert_eq!(summary_json(&board, MAX_LISTED_ITEMS)["clients"]["totalClients"], 0);
    }

    #[test]
    fn comment_services_add_up_and_the_busiest_videos_are_shown() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        board.keep_comment_report(now, here(), comments("one", &[("a", 1), ("b", 2), ("c", 9)]), 1).unwrap();
        board.keep_comment_report(now, here(), comments("two", &[("a", 4)]), 1).unwrap();
        board.keep_comment_report(now, here(), comments("", &[("d", 1)]), 1).unwrap();
        let all = summary_json(&board, MAX_LISTED_ITEMS)["commentApi"].take();
        assert_eq!(all["totalComments"], 17);
        assert_eq!(all["commentsByVideo"], json!({"a": 5, "b": 2, "c": 9, "d": 1}));
        assert_eq!(summary_json(&board, 2)["commentApi"]["commentsByVideo"], json!({"a": 5, "c": 9}));
    }

    #[test]
    fn managers_agree_on_videos_and_add_up_registrations() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        for (instance, videos) in [("one", 5), ("two", 6)] {
            let report = ReceivedManagerReport {
                instance: instance.into(),
                service: "ReaderApiManager".into(),
                registered_videos: videos,
                available_reader_apis: vec!["http://r1".into()],
                registration_count: 10,
                video_mappings: [("v".into(), "http://r1".into())].into(),
            };
            board.keep_manager_report(now, here(), report, 1).unwrap();
        }
        let manager = summary_json(&board, MAX_LISTED_ITEMS)["readerApiManager"].take();
        assert_eq!(manager["registeredVideos"], 6);
        assert_eq!(manager["registrationCount"], 20);
        assert_eq!(manager["availableReaderApis"], json!(["http://r1"]));
    }

    #[test]
    fn a_refused_report_of_a_reader_leaves_topics_as_they_were() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        let known = || ReportSource::Known("reader/r1".parse().unwrap());
        board.keep_reader_report(now, known(), reader("r1", 3, &["video:a"]), 1).unwrap();
        let invented = board.keep_reader_report(now, here(), reader("r1", 9, &["video:b"]), 1);
        assert_eq!(invented, Err(ReportRefusal::NameTaken));
        let readers = summary_json(&board, MAX_LISTED_ITEMS)["readerApis"].take();
        assert_eq!(
            (&readers["totalActiveConnections"], &readers["allSubscribedTopics"]),
            (&json!(3), &json!(["video:a"]))
        );
    }

    #[test]
    fn lists_are_bounded_and_totals_are_not() {
        let (mut board, now) = (LatestReports::default(), Instant::now());
        for number in 0..150 {
            board
                .keep_reader_report(
                    now,
                    here(),
                    reader(&format!("r{number}"), 1, &[&format!("video:{number}")]),
                    1,
                )
                .unwrap();
        }
        let readers = summary_json(&board, MAX_LISTED_ITEMS)["readerApis"].take();
        assert_eq!(readers["totalReaders"], 150);
        assert_eq!(readers["readers"].as_array().unwrap().len(), MAX_LISTED_ITEMS);
        assert_eq!(readers["allSubscribedTopics"].as_array().unwrap().len(), MAX_LISTED_ITEMS);
        let full = summary_json(&board, usize::MAX)["readerApis"].take();
        assert_eq!(full["readers"].as_array().unwrap().len(), 150);
    }
}
