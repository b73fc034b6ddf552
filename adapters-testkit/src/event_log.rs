//! The checks that every log must pass; each panics with the promise and with what the log did instead.
//!
//! The times in this module are time limits, generous enough for a broker that has to form a group first. Speed is
//! measured elsewhere.
#![allow(clippy::unwrap_used, reason = "a suite of checks: the panic is its answer")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use liverank_adapters::StoreError;
use liverank_adapters::event_log::{
    AppendError, CREATED_PARTITION_COUNT, ConsumerEvent, EventLog, RawRecord, ReadStart, RecordPosition,
};
use liverank_core::trace::TraceContext;
use member::Member;

mod marks;
mod member;
mod reading;

/// The time limit for anything that a check waits for.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);
/// The pause before a log is asked again that did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The time for which a check waits on purpose, to see that nothing arrives.
const QUIET_TIME: Duration = Duration::from_millis(700);

/// Runs every check, each on a log of its own: `fresh` returns a new, empty log that has not been opened.
pub async fn suite<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn EventLog>>,
{
    let log = async || {
        let log = fresh().await;
        answered(async || log.open().await).await.expect("a fresh log opens");
        log
    };
    a_fresh_log_is_empty(&*log().await).await;
    a_key_keeps_its_partition_and_its_order(&*log().await).await;
    a_trace_comes_with_its_record_and_with_no_other(&*log().await).await;
    what_was_appended_at_once_is_read_once(&*log().await).await;
    the_log_s_time_never_goes_back(&*log().await).await;
    too_large_is_refused_and_not_in_the_log(&*log().await).await;
    reading::dead_letters_stay_out_of_the_log_and_are_found_again(&*log().await).await;
    reading::dead_letters_are_removed_one_by_one(&*log().await).await;
    reading::ranges_are_read_without_a_group(&*log().await).await;
    reading::missing_ranges_are_refused(&*log().await).await;
    nothing_is_read_before_start(&*log().await).await;
    reading_starts_at_given_offsets(&*log().await).await;
    an_offset_that_the_log_has_not_is_an_error(&*log().await).await;
    the_end_is_an_offset_to_start_from(&*log().await).await;
    marks::the_record_before_the_start_is_not_read(&*log().await).await;
    marks::another_log_is_refused(&*log().await).await;
    a_poll_is_bounded_and_wakes(&*log().await).await;
    a_dropped_poll_loses_nothing(&*log().await).await;
    members_share_the_partitions(&*log().await).await;
    starts_of_unowned_partitions_are_ignored(&*log().await).await;
}

/// Asks until the answer is no error that passes: a log on a busy machine may not answer in time, or may be refused by
/// its own process until it answers again.
async fn answered<T>(ask: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if !is_final(&error) && begun.elapsed() < CHECK_TIMEOUT => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// Waits until records are not refused at once, as they are for a while after a log did not answer.
async fn wait_until_writable(log: &dyn EventLog) {
    answered(async || log.check_writable()).await.expect("a log takes records");
}

async fn end_offsets(log: &dyn EventLog) -> Vec<u64> {
    answered(async || log.end_offsets().await).await.expect("a log knows its ends")
}

async fn append_text(log: &dyn EventLog, key: &str, value: &str) -> RecordPosition {
    wait_until_writable(log).await;
    log.append(key.as_bytes(), value.as_bytes().to_vec()).await.expect("an append is acknowledged")
}

fn position_of(record: &RawRecord) -> (u32, u64) {
    (record.partition, record.offset)
}

async fn a_fresh_log_is_empty(log: &dyn EventLog) {
    assert_eq!(
        end_offsets(log).await,
        vec![0; CREATED_PARTITION_COUNT as usize],
        "a fresh log has 12 empty ones"
    );
    log.check_writable().expect("an opened log is healthy");
    log.open().await.expect("opening again changes nothing");
    assert_eq!(end_offsets(log).await, vec![0; CREATED_PARTITION_COUNT as usize]);
}

async fn a_key_keeps_its_partition_and_its_order(log: &dyn EventLog) {
    let mut used = BTreeSet::new();
    for key in (0..40).map(|at| format!("video-{at}")) {
        let first = append_text(log, &key, "first").await;
        let second = append_text(log, &key, "second").await;
        assert_eq!(first.partition, second.partition, "records of {key} are in one partition");
        assert!(second.offset > first.offset, "offsets grow: {first:?}, then {second:?}");
        used.insert(first.partition);
    }
    assert!(used.len() > 6, "forty keys spread over more than half of the partitions, not only {used:?}");
    let ends = end_offsets(log).await;
    assert!(ends.iter().sum::<u64>() >= 80, "the ends count what was appended: {ends:?}");
}

async fn a_trace_comes_with_its_record_and_with_no_other(log: &dyn EventLog) {
    let trace = |span: u8| TraceContext { trace_id: [span; 16], span_id: [span; 8], sampled: true };
    let mut expected = BTreeMap::new();
    for (at, trace) in [None, Some(trace(1)), None, Some(trace(2))].into_iter().enumerate() {
        wait_until_writable(log).await;
        let appended = log.append_traced(b"one key", at.to_string().into_bytes(), trace).await.unwrap();
        expected.insert((appended.partition, appended.offset), trace);
    }
    let mut member = Member::join(log).await;
    member.read_until(expected.len()).await;
    let read: BTreeMap<(u32, u64), Option<TraceContext>> =
        member.records.iter().map(|record| (position_of(record), record.trace.as_deref().copied())).collect();
    assert_eq!(read, expected);
}

async fn what_was_appended_at_once_is_read_once(log: &dyn EventLog) {
    const KEY_COUNT: usize = 40;
    const RECORDS_A_KEY: usize = 25;
    let one_key = async |key: String| {
        let mut places = Vec::new();
        for at in 0..RECORDS_A_KEY {
            places.push((append_text(log, &key, &format!("{key}/{at}")).await, format!("{key}/{at}")));
        }
        places
    };
    let written = join_all((0..KEY_COUNT).map(|key| one_key(format!("k{key}")))).await;
    for places in &written {
        assert!(
            places.windows(2).all(|pair| pair[0].0.offset < pair[1].0.offset),
            "answers in order: {places:?}"
        );
        assert!(
            places.windows(2).all(|pair| pair[0].0.partition == pair[1].0.partition),
            "one partition a key"
        );
    }
    let expected: BTreeMap<(u32, u64), String> =
        written.into_iter().flatten().map(|(at, value)| ((at.partition, at.offset), value)).collect();
    assert_eq!(expected.len(), KEY_COUNT * RECORDS_A_KEY, "no two appends share a place");

    let mut member = Member::join(log).await;
    member.read_until(KEY_COUNT * RECORDS_A_KEY).await;
    let read: BTreeMap<(u32, u64), String> = member
        .records
        .iter()
        .map(|record| (position_of(record), String::from_utf8(record.value.to_vec()).unwrap()))
        .collect();
    assert_eq!(member.records.len(), read.len(), "no record is delivered twice");
    assert_eq!(read, expected, "what is read is what was acknowledged, at the places that were told");
    for record in &member.records {
        let key = record.key.as_deref().expect("an append has a key");
        assert!(record.value.starts_with(key), "the key comes with its value");
    }
}

async fn the_log_s_time_never_goes_back(log: &dyn EventLog) {
    for at in 0..200 {
        append_text(log, "one key", &at.to_string()).await;
    }
    let mut member = Member::join(log).await;
    member.read_until(200).await;
    let times: Vec<_> = member.records.iter().map(|record| record.broker_time).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "the log's time goes back: {times:?}");
    assert!(times[0] > 0, "the log notes when it took a record");
}

async fn too_large_is_refused_and_not_in_the_log(log: &dyn EventLog) {
    wait_until_writable(log).await;
    let large = log.append(b"k", vec![b'x'; 2 << 20]).await;
    assert!(matches!(large, Err(AppendError::TooLarge { bytes }) if bytes >= 2 << 20), "2 MiB: {large:?}");
    assert_eq!(end_offsets(log).await.iter().sum::<u64>(), 0, "what was refused is not in the log");
    let fits = vec![b'y'; 512 << 10];
    wait_until_writable(log).await;
    log.append(b"k", fits.clone()).await.expect("half a MiB fits");
    let mut member = Member::join(log).await;
    member.read_until(1).await;
    assert_eq!(member.records[0].value, fits, "half a MiB comes back whole");
    log.check_writable().expect("a refused record is nobody's illness");
}

async fn nothing_is_read_before_start(log: &dyn EventLog) {
    append_text(log, "k", "early").await;
    let mut member = Member::new(log.join_consumer_group().await.unwrap());
    let mut owned = BTreeSet::new();
    let begun = Instant::now();
    while owned.len() < CREATED_PARTITION_COUNT as usize {
        assert!(begun.elapsed() < CHECK_TIMEOUT, "a single member is assigned everything, has {owned:?}");
        match member.next_event(100, QUIET_TIME).await {
            ConsumerEvent::Assigned(partitions) => owned.extend(partitions),
            ConsumerEvent::Revoked(partitions) => owned.retain(|at| !partitions.contains(at)),
            ConsumerEvent::Records(records) => panic!("read before start: {records:?}"),
            ConsumerEvent::Idle => {}
        }
    }
    let quiet = member.next_event(100, QUIET_TIME).await;
    assert_eq!(quiet, ConsumerEvent::Idle, "nothing is read before start");
    let starts: Vec<_> = owned.iter().map(|at| ReadStart::without_previous(*at, 0)).collect();
    member.consumer.start_partitions(&starts).await.unwrap();
    let begun = Instant::now();
    let records = loop {
        assert!(begun.elapsed() < CHECK_TIMEOUT, "reads after start");
        if let ConsumerEvent::Records(records) = member.next_event(100, QUIET_TIME).await {
            break records;
        }
    };
    assert_eq!(records[0].value, "early");
    member.consumer.report_offsets(&[(records[0].partition, records[0].offset + 1)]).await;
}

async fn reading_starts_at_given_offsets(log: &dyn EventLog) {
    let mut places = Vec::new();
    for at in 0..20 {
        places.push(append_text(log, "k", &at.to_string()).await);
    }
    let values = |member: &Member| -> Vec<String> {
        member.records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
    };
    let from = |at: usize| (at..20).map(|at| at.to_string()).collect::<Vec<_>>();
    let mut member = Member::join(log).await;
    member.start_at(places[12].partition, places[12].offset).await;
    member.read_until(8).await;
    assert_eq!(values(&member), from(12), "the offset given is the first one read");
    for back in [5, 0, 19] {
        member.records.clear();
        member.start_at(places[back].partition, places[back].offset).await;
        member.read_until(20 - back).await;
        assert_eq!(values(&member), from(back), "goes back to {back}");
    }
    // Going back while earlier records may be buffered: none of them may come after the first one asked for again.
    member.start_at(places[0].partition, places[0].offset).await;
    let first = member.next_event(3, CHECK_TIMEOUT).await;
    assert!(matches!(&first, ConsumerEvent::Records(records) if records[0].value == "0"), "{first:?}");
    member.records.clear();
    member.start_at(places[10].partition, places[10].offset).await;
    member.read_until(10).await;
    assert_eq!(values(&member), from(10), "nothing buffered shows through");
}

async fn an_offset_that_the_log_has_not_is_an_error(log: &dyn EventLog) {
    let at = append_text(log, "k", "only").await;
    let mut member = Member::join(log).await;
    member.expect_refused_start(ReadStart::without_previous(at.partition, at.offset + 1000)).await;
}

async fn the_end_is_an_offset_to_start_from(log: &dyn EventLog) {
    let old = append_text(log, "k", "old").await;
    let mut member = Member::join(log).await;
    member.start_at(old.partition, old.offset + 1).await;
    assert_eq!(member.next_event(10, QUIET_TIME).await, ConsumerEvent::Idle, "nothing stands after the end");
    append_text(log, "k", "new").await;
    member.read_until(1).await;
    assert_eq!(member.records[0].value, "new");
}

async fn a_poll_is_bounded_and_wakes(log: &dyn EventLog) {
    let mut member = Member::join(log).await;
    member.start_everything().await;
    let begun = Instant::now();
    assert_eq!(member.next_event(10, QUIET_TIME).await, ConsumerEvent::Idle);
    let idle = begun.elapsed();
    assert!(
        idle >= QUIET_TIME && idle < QUIET_TIME * 10,
        "an idle poll takes the time it was given, not {idle:?}"
    );

    let begun = Instant::now();
    let (polled, _) = tokio::join!(member.next_event(10, CHECK_TIMEOUT), append_text(log, "k", "wake"));
    assert!(matches!(polled, ConsumerEvent::Records(_)), "{polled:?}");
    assert!(
        begun.elapsed() < CHECK_TIMEOUT / 4,
        "an append wakes the one who waits, after {:?}",
        begun.elapsed()
    );

    join_all((0..50).map(|at| async move { append_text(log, &format!("k{at}"), "many").await })).await;
    let mut seen = 0;
    while seen < 50 {
        match member.next_event(7, CHECK_TIMEOUT).await {
            ConsumerEvent::Records(records) => {
                assert!((1..=7).contains(&records.len()), "1 to 7 records, not {}", records.len());
                seen += records.len();
            }
            other => panic!("fifty records are there, not {other:?}"),
        }
    }
    assert_eq!(seen, 50);
}

async fn a_dropped_poll_loses_nothing(log: &dyn EventLog) {
    const RECORD_COUNT: usize = 300;
    let mut member = Member::join(log).await;
    member.start_everything().await;
    let writing = async {
        for at in 0..RECORD_COUNT {
            append_text(log, &format!("k{at}"), &at.to_string()).await;
        }
    };
    let reading = async {
        let begun = Instant::now();
        let mut wait = 0;
        while member.records.len() < RECORD_COUNT {
            assert!(
                begun.elapsed() < CHECK_TIMEOUT,
                "only {} of {RECORD_COUNT} arrived",
                member.records.len()
            );
            wait = (wait + 1) % 5;
            let poll = member.next_event(5, CHECK_TIMEOUT);
            match tokio::time::timeout(Duration::from_millis(wait), poll).await {
                Ok(ConsumerEvent::Records(records)) => member.records.extend(records),
                Ok(other) => panic!("only records are to come, not {other:?}"),
                Err(_) => {}
            }
        }
    };
    tokio::join!(writing, reading);
    let distinct: BTreeSet<_> = member.records.iter().map(position_of).collect();
    assert_eq!(distinct.len(), RECORD_COUNT, "each arrives once though polls are dropped");
}

async fn members_share_the_partitions(log: &dyn EventLog) {
    let mut first = Member::join(log).await;
    first.start_everything().await;
    let mut second = Member::new(log.join_consumer_group().await.unwrap());
    let begun = Instant::now();
    while first.owned_partitions.len() != 6 || second.owned_partitions.len() != 6 {
        assert!(
            begun.elapsed() < CHECK_TIMEOUT,
            "two share evenly: {:?} and {:?}",
            first.owned_partitions,
            second.owned_partitions
        );
        // The new member polls first: it must not get partitions that the other member still holds.
        second.poll_once(Duration::from_millis(20)).await;
        first.poll_once(Duration::from_millis(20)).await;
    }
    assert!(
        first.owned_partitions.is_disjoint(&second.owned_partitions),
        "{:?} and {:?} overlap",
        first.owned_partitions,
        second.owned_partitions
    );

    join_all((0..100).map(|at| async move { append_text(log, &format!("k{at}"), "shared").await })).await;
    while first.records.len() + second.records.len() < 100 {
        assert!(begun.elapsed() < CHECK_TIMEOUT, "all is read between the two");
        first.poll_once(Duration::from_millis(20)).await;
        second.poll_once(Duration::from_millis(20)).await;
    }
    let places: BTreeSet<_> = first.records.iter().chain(&second.records).map(position_of).collect();
    assert_eq!(places.len(), 100, "each record is read by its owner only");
    assert!(!second.records.is_empty() && !first.records.is_empty(), "both have work");

    first.positions.extend(second.positions.iter().filter(|(at, _)| second.owned_partitions.contains(at)));
    drop(second);
    let begun = Instant::now();
    while first.owned_partitions.len() != CREATED_PARTITION_COUNT as usize {
        assert!(
            begun.elapsed() < CHECK_TIMEOUT,
            "the one who stays takes over: {:?}",
            first.owned_partitions
        );
        first.poll_once(Duration::from_millis(20)).await;
    }
    first.records.clear();
    join_all((0..100).map(|at| async move { append_text(log, &format!("k{at}"), "left").await })).await;
    first.read_until(100).await;
    assert!(first.records.iter().all(|record| record.value == "left"), "goes on where the other one stood");
}

async fn starts_of_unowned_partitions_are_ignored(log: &dyn EventLog) {
    let mut first = Member::join(log).await;
    let mut second = Member::new(log.join_consumer_group().await.unwrap());
    let begun = Instant::now();
    while first.owned_partitions.len() != 6 || second.owned_partitions.len() != 6 {
        assert!(
            begun.elapsed() < CHECK_TIMEOUT,
            "two share evenly: {:?} and {:?}",
            first.owned_partitions,
            second.owned_partitions
        );
        first.poll_once(Duration::from_millis(20)).await;
        second.poll_once(Duration::from_millis(20)).await;
    }
    let everything: Vec<_> =
        (0..CREATED_PARTITION_COUNT).map(|at| ReadStart::without_previous(at, 0)).collect();
    first.consumer.start_partitions(&everything).await.expect("partitions of others are passed over");
    join_all((0..100).map(|at| async move { append_text(log, &format!("k{at}"), "x").await })).await;
    let ends: HashMap<u32, u64> = (0..).zip(end_offsets(log).await).collect();
    let own: usize = first.owned_partitions.iter().map(|at| ends[at] as usize).sum();
    first.read_until(own).await;
    for _ in 0..3 {
        first.poll_once(QUIET_TIME / 3).await;
    }
    assert_eq!(first.records.len(), own, "a member reads its own partitions only");
    assert!(first.records.iter().all(|record| first.owned_partitions.contains(&record.partition)));
}

/// Returns true if trying again does not help with an error.
fn is_final(error: &StoreError) -> bool {
    !error.is_transient()
}
