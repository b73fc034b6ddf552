//! Checks that a log is recognised as the one that was read before, or refused as another one.

use liverank_core::counting::RecordFingerprint;

use super::member::Member;
use super::{QUIET_TIME, append_text};
use liverank_adapters::event_log::{ConsumerEvent, EventLog, RawRecord, ReadStart};

/// Appends five records to one partition and returns them as they are read.
async fn append_and_read_five(log: &dyn EventLog, member: &mut Member) -> Vec<RawRecord> {
    for at in 0..5 {
        append_text(log, "k", &at.to_string()).await;
    }
    member.read_until(5).await;
    std::mem::take(&mut member.records)
}

fn new_read_start(records: &[RawRecord], at: usize, after: RecordFingerprint) -> ReadStart {
    let next = records.get(at).map_or(records[at - 1].offset + 1, |record| record.offset);
    ReadStart { partition: records[0].partition, offset: next, previous_record: Some(after) }
}

pub async fn the_record_before_the_start_is_not_read(log: &dyn EventLog) {
    let mut member = Member::join(log).await;
    let records = append_and_read_five(log, &mut member).await;
    for at in [1, 3, 4, 1] {
        member.records.clear();
        member.start_from(new_read_start(&records, at, records[at - 1].fingerprint())).await;
        member.read_until(5 - at).await;
        assert_eq!(member.records, records[at..], "from the {at}th on");
    }
    // At the end of the log, where no record comes that could be compared.
    member.records.clear();
    member.start_from(new_read_start(&records, 5, records[4].fingerprint())).await;
    assert_eq!(member.next_event(10, QUIET_TIME).await, ConsumerEvent::Idle);
    append_text(log, "k", "new").await;
    member.read_until(1).await;
    assert_eq!(member.records[0].value, "new");
    // There is no record before the first one, so any fingerprint is accepted for it.
    member.records.clear();
    member.start_from(ReadStart { offset: 0, ..new_read_start(&records, 1, records[4].fingerprint()) }).await;
    member.read_until(6).await;
}

pub async fn another_log_is_refused(log: &dyn EventLog) {
    let mut member = Member::join(log).await;
    let records = append_and_read_five(log, &mut member).await;
    let mark = records[2].fingerprint();
    let late = RecordFingerprint { broker_time: mark.broker_time + 1, ..mark };
    let other = RecordFingerprint { digest: mark.digest ^ 1, ..mark };
    for wrong in [late, other] {
        let said = member.expect_refused_start(new_read_start(&records, 3, wrong)).await;
        let offset = records[3].offset;
        assert!(said.contains(&format!("offset {offset} is to be read next")), "{said}");
        assert!(said.contains("rebuild mongodb"), "it says what to do: {said}");
        // The start is refused also if new records come meanwhile.
        append_text(log, "k", "new").await;
        let polled = member.consumer.next_event(10, QUIET_TIME).await;
        assert!(!matches!(polled, Ok(ConsumerEvent::Records(_))), "nothing of it is read: {polled:?}");
    }
    // The record before the start would come next: the log ends one record short.
    let beyond = records[4].offset + 4;
    member
        .expect_refused_start(ReadStart {
            partition: records[0].partition,
            offset: beyond,
            previous_record: Some(mark),
        })
        .await;
    // Once somebody has decided where to go on, reading goes on.
    member.records.clear();
    member.start_from(new_read_start(&records, 3, mark)).await;
    member.read_until(4).await;
    assert_eq!(member.records[..2], records[3..]);
}
