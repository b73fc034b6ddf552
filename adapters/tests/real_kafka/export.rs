//! Tests of the promises of `adapters/src/export_topics.rs`.

use liverank_adapters::export_topics::{
    ExportError, ExportRecord, ExportSource, ExportTopics, ExportWriter, MAX_NOTE_BYTES,
};

use super::retry::Failure as _;
use super::*;

/// A log's topic, and a topic of exports beside it that is deleted on drop.
struct Exports {
    log: FreshTopic,
    topic: String,
}

impl Drop for Exports {
    fn drop(&mut self) {
        let topic = self.topic.clone();
        let deleting = std::thread::spawn(move || {
            futures::executor::block_on(admin().delete_topics(&[topic.as_str()], &AdminOptions::new()))
        });
        let _ = deleting.join();
    }
}

impl Exports {
    async fn prepared() -> (Self, Arc<KafkaLog>) {
        let log = fresh_topic();
        let exports = Self { topic: format!("{}-export", log.topic), log };
        let opened = open_log(&exports.log).await;
        retry(TEST_TIMEOUT, async || opened.prepare_topic(&exports.topic).await).await.unwrap();
        (exports, opened)
    }

    async fn begin(&self, log: &KafkaLog, source: ExportSource) -> Box<dyn ExportWriter> {
        retry(TEST_TIMEOUT, async || log.open_writer(&self.topic, source).await).await.unwrap()
    }

    /// Writes as services do: after an error that passes the writer is replaced, and the records are
    /// written again unless the new writer finds what they are stored with.
    async fn write(
        &self,
        log: &KafkaLog,
        source: ExportSource,
        writer: &mut Box<dyn ExportWriter>,
        values: &[&str],
        with: StoredWith<'_>,
    ) {
        let begun = Instant::now();
        loop {
            match try_write(writer, values, with).await {
                Ok(()) => return,
                Err(error) => assert!(error.is_transient() && begun.elapsed() < TEST_TIMEOUT, "{error}"),
            }
            *writer = self.begin(log, source).await;
            let is_written = match with {
                StoredWith::Position(position) => writer.position() == position,
                StoredWith::Note(note) => writer.committed_note() == Some(note),
                StoredWith::Nothing => false,
            };
            if is_written {
                return;
            }
        }
    }

    /// Begins after `former`, which must be told so when it writes. Returns both writers.
    async fn take_over(
        &self,
        log: &KafkaLog,
        mut former: Box<dyn ExportWriter>,
        lost: StoredWith<'_>,
    ) -> [Box<dyn ExportWriter>; 2] {
        let (source, begun) =
            (if matches!(lost, StoredWith::Note(_)) { BOARDS } else { SOURCE }, Instant::now());
        loop {
            let next = self.begin(log, source).await;
            match try_write(&mut former, &["lost"], lost).await {
                Err(ExportError::TakenOver) => return [former, next],
                // The brokers did not answer in time: nobody knows what they would have said.
                Err(error) => assert!(error.is_transient() && begun.elapsed() < TEST_TIMEOUT, "{error}"),
                Ok(()) => panic!("two writers of one source"),
            }
            former = next;
        }
    }

    /// Returns what a reader of committed records finds in each partition, in order; only records with keys `k…`.
    fn committed(&self) -> Vec<(String, String)> {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker_addresses())
            .set("group.id", format!("{}-reader", self.topic))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..CREATED_PARTITION_COUNT {
            list.add_partition_offset(&self.topic, partition as i32, Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        let (mut found, mut ended, deadline) = (Vec::new(), BTreeSet::new(), Instant::now() + TEST_TIMEOUT);
        let mut last_error = None;
        while ended.len() < CREATED_PARTITION_COUNT as usize {
            assert!(Instant::now() < deadline, "the topic has no end: {last_error:?}");
            match reader.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                    found.push((text(message.key()), text(message.payload())));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => last_error = Some(error),
                None => {}
            }
        }
        found
    }

    fn values(&self) -> Vec<String> {
        self.committed().into_iter().map(|(_, value)| value).collect()
    }
}

async fn try_write(
    writer: &mut Box<dyn ExportWriter>,
    values: &[&str],
    with: StoredWith<'_>,
) -> Result<(), ExportError> {
    match with {
        StoredWith::Position(position) => writer.write(records(values), Some(position)).await,
        StoredWith::Note(note) => writer.write_with_note(records(values), note.to_owned()).await,
        StoredWith::Nothing => writer.write(records(values), None).await,
    }
}

fn records(values: &[&str]) -> Vec<ExportRecord> {
    values.iter().map(|value| ExportRecord { key: "k".to_owned(), value: (*value).to_owned() }).collect()
}

const SOURCE: ExportSource = ExportSource::Partition(3);
const BOARDS: ExportSource = ExportSource::Boards { has_note: true };

/// What is stored with the records of a write, for the next writer of its source.
#[derive(Clone, Copy)]
enum StoredWith<'a> {
    Position(u64),
    Note(&'a str),
    Nothing,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_there_with_its_position_and_who_begins_goes_on_behind_it() {
    let (exports, log) = Exports::prepared().await;
    let mut first = exports.begin(&log, SOURCE).await;
    assert_eq!(first.position(), 0);
    exports.write(&log, SOURCE, &mut first, &["1", "2"], StoredWith::Position(7)).await;
    exports.write(&log, SOURCE, &mut first, &[], StoredWith::Position(9)).await;
    assert_eq!(exports.values(), ["1", "2"], "in order");
    let [mut first, mut second] = exports.take_over(&log, first, StoredWith::Position(10)).await;
    assert_eq!(second.position(), 9);
    assert!(first.write(Vec::new(), Some(11)).await.is_err(), "it is of no use any more");
    exports.write(&log, SOURCE, &mut second, &["3"], StoredWith::Position(10)).await;
    assert_eq!(exports.values(), ["1", "2", "3"]);
    let other = exports.begin(&log, ExportSource::Partition(4)).await;
    assert_eq!(other.position(), 0, "each partition has a position of its own");
    let without_note = ExportSource::Boards { has_note: false };
    let mut boards = exports.begin(&log, without_note).await;
    exports.write(&log, without_note, &mut boards, &["b"], StoredWith::Nothing).await;
    assert_eq!((boards.position(), exports.begin(&log, SOURCE).await.position()), (0, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_is_there_with_its_records_and_who_begins_finds_it() {
    let (exports, log) = Exports::prepared().await;
    let mut first = exports.begin(&log, BOARDS).await;
    assert_eq!(first.committed_note(), None);
    exports.write(&log, BOARDS, &mut first, &["1"], StoredWith::Note("until noon")).await;
    let [_, mut second] = exports.take_over(&log, first, StoredWith::Note("lost")).await;
    assert_eq!(second.committed_note(), Some("until noon"));
    exports.write(&log, BOARDS, &mut second, &["2"], StoredWith::Nothing).await;
    let longest = "é".repeat(MAX_NOTE_BYTES / 2);
    exports.write(&log, BOARDS, &mut second, &[], StoredWith::Note(&longest)).await;
    assert!(second.write_with_note(Vec::new(), format!("{longest}x")).await.is_err());
    assert_eq!(exports.begin(&log, BOARDS).await.committed_note(), Some(longest.as_str()));
    assert_eq!(exports.values(), ["1", "2"]);
}

/// A transaction that nobody ends, with the same transactional id as the exporter's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_exporter_left_open_is_undone_by_the_next_one() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let (exports, log) = Exports::prepared().await;
    let mut first = exports.begin(&log, SOURCE).await;
    exports.write(&log, SOURCE, &mut first, &["1"], StoredWith::Position(5)).await;
    let id = format!("{}.{}.3", exports.log.export_group(), exports.topic);
    let killed: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker_addresses())
        .set("transactional.id", id)
        .create()
        .unwrap();
    killed.init_transactions(TEST_TIMEOUT).unwrap();
    killed.begin_transaction().unwrap();
    killed.send(BaseRecord::to(&exports.topic).key("k").payload("open")).map_err(|(error, _)| error).unwrap();
    killed.flush(TEST_TIMEOUT).unwrap();
    let mut next = exports.begin(&log, SOURCE).await;
    assert_eq!(next.position(), 5);
    exports.write(&log, SOURCE, &mut next, &["2"], StoredWith::Position(6)).await;
    assert_eq!(exports.values(), ["1", "2"]);
    assert!(killed.commit_transaction(TEST_TIMEOUT).is_err());
    assert_eq!(exports.values(), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_the_brokers_forgot_is_not_begun_anew() {
    let (exports, log) = Exports::prepared().await;
    let mut first = exports.begin(&log, SOURCE).await;
    exports.write(&log, SOURCE, &mut first, &["1"], StoredWith::Position(5)).await;
    // The transaction has ended for the group, too: a position that was still to come would outlive its group.
    assert_eq!(exports.begin(&log, SOURCE).await.position(), 5);
    let group = exports.log.export_group();
    delete_group(&group).await;
    let begun = retry(TEST_TIMEOUT, async || log.open_writer(&exports.topic, SOURCE).await).await;
    let error = begun.map(|_| ()).unwrap_err();
    assert!(matches!(&error, ExportError::Store(error) if !error.is_transient()), "{error:?}");
    assert!(error.to_string().contains("--reset-offsets") && error.to_string().contains(&group), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_for_a_week_and_a_compacted_one_is_refused() {
    let (exports, log) = Exports::prepared().await;
    let topic = describe_topic(&exports.topic).await;
    let value = |name: &str| topic.get(name).unwrap().value.clone().unwrap();
    assert_eq!((value("retention.ms"), value("cleanup.policy")), ("604800000".into(), "delete".into()));
    assert_eq!(value("message.timestamp.type"), "LogAppendTime", "an exporter's clock may be wrong");
    retry(TEST_TIMEOUT, async || log.prepare_topic(&exports.topic).await).await.unwrap();
    for own in [exports.log.topic.clone(), exports.log.dead_letter_topic()] {
        assert!(log.prepare_topic(&own).await.unwrap_err().to_string().contains("log's own"));
    }
    let compacted = Exports { topic: format!("{}-compacted", exports.topic), log: fresh_topic() };
    let new = NewTopic::new(&compacted.topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    create_topic(&new).await;
    let error = retry(TEST_TIMEOUT, async || log.prepare_topic(&compacted.topic).await).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("compacted"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inspection_says_what_is_wrong_with_a_topic_and_how_far_the_log_is_exported() {
    let (exports, log) = Exports::prepared().await;
    let inspect = async |topic: &str| {
        retry(TEST_TIMEOUT, async || log.inspect_export_topic(topic, true).await).await.unwrap()
    };
    let absent = inspect(&format!("{}-absent", exports.topic)).await;
    assert!(absent.remarks[0].problem.contains("is absent"), "{absent:?}");
    let fresh = inspect(&exports.topic).await;
    assert_eq!(fresh.remarks, []);
    assert!(fresh.description.contains("nobody has begun"), "{fresh:?}");
    for nth in 0..3_u8 {
        append(&log, b"video", vec![nth]).await;
    }
    let mut writer = exports.begin(&log, SOURCE).await;
    exports.write(&log, SOURCE, &mut writer, &["1"], StoredWith::Position(0)).await;
    let behind = inspect(&exports.topic).await;
    assert!(behind.description.contains("3 records of the log are not exported"), "{behind:?}");
    let after = writer.write(Vec::new(), Some(1)).await;
    assert!(!matches!(after, Err(ExportError::TakenOver)), "an inspection fences nobody");
    let compacted = Exports { topic: format!("{}-compacted", exports.topic), log: super::fresh_topic() };
    let new = NewTopic::new(&compacted.topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    create_topic(&new).await;
    let found = inspect(&compacted.topic).await;
    assert!(found.remarks.iter().any(|remark| remark.problem.contains("compacted")), "{found:?}");
}
