//! Checks of reading without a group: offset ranges of the log, and its dead letters.

use std::collections::BTreeMap;

use futures::future::join_all;
use liverank_core::counting::RecordFingerprint;

use super::{answered, append_text, end_offsets, is_final, wait_until_writable};
use liverank_adapters::StoreError;
use liverank_adapters::event_log::{
    CREATED_PARTITION_COUNT, DeadLetter, DeadLetterOrigin, EventLog, RawRecord, ReadRange, RecordPosition,
    StoredDeadLetter,
};

async fn read_all_of(
    log: &dyn EventLog,
    stretches: &[ReadRange],
    most: usize,
) -> Result<Vec<RawRecord>, StoreError> {
    answered(async || try_to_read_all_of(log, stretches, most).await).await
}

async fn try_to_read_all_of(
    log: &dyn EventLog,
    stretches: &[ReadRange],
    most: usize,
) -> Result<Vec<RawRecord>, StoreError> {
    let mut reader = log.read_ranges(stretches).await?;
    let mut records: Vec<RawRecord> = Vec::new();
    loop {
        let more = reader.next_records(most).await?;
        if more.is_empty() {
            assert!(reader.next_records(most).await?.is_empty(), "the end stays the end");
            return Ok(records);
        }
        assert!(more.len() <= most, "{} records, where {most} were asked for", more.len());
        records.extend(more);
    }
}

fn new_read_range(partition: u32, from: u64, to: u64) -> ReadRange {
    ReadRange { partition, first_offset: from, end_offset: to, previous_record: None }
}

async fn first_offsets(log: &dyn EventLog) -> Vec<u64> {
    answered(async || log.first_offsets().await).await.expect("a log knows where it begins")
}

async fn ranges_of_whole_log(log: &dyn EventLog) -> Vec<ReadRange> {
    let (begin, end) = (first_offsets(log).await, end_offsets(log).await);
    (0..).zip(begin.into_iter().zip(end)).map(|(at, (from, to))| new_read_range(at, from, to)).collect()
}

pub async fn ranges_are_read_without_a_group(log: &dyn EventLog) {
    assert_eq!(
        first_offsets(log).await,
        vec![0; CREATED_PARTITION_COUNT as usize],
        "a fresh log begins at 0"
    );
    assert_eq!(read_all_of(log, &ranges_of_whole_log(log).await, 10).await.unwrap(), []);
    assert_eq!(read_all_of(log, &[], 10).await.unwrap(), []);
    let one = async |at: usize| {
        let (key, value) = (format!("k{}", at % 30), at.to_string());
        (append_text(log, &key, &value).await, (key, value))
    };
    let written: BTreeMap<(u32, u64), (String, String)> = join_all((0..500).map(one))
        .await
        .into_iter()
        .map(|(place, record)| ((place.partition, place.offset), record))
        .collect();
    let stretches = ranges_of_whole_log(log).await;
    for most in [7, 10_000] {
        let records = read_all_of(log, &stretches, most).await.unwrap();
        for partition in 0..CREATED_PARTITION_COUNT {
            let offsets: Vec<u64> =
                records.iter().filter(|it| it.partition == partition).map(|it| it.offset).collect();
            assert!(offsets.is_sorted_by(|a, b| a < b), "in the order of offsets: {offsets:?}");
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let read: BTreeMap<(u32, u64), (String, String)> = records
            .iter()
            .map(|it| ((it.partition, it.offset), (text(it.key.as_ref().unwrap()), text(&it.value))))
            .collect();
        assert!(read == written, "{} of {} records", read.len(), written.len());
    }
    // Records appended after the requested end are not read, and a part of a range is read as such.
    let place = append_text(log, "k0", "later").await;
    assert_eq!(read_all_of(log, &stretches, 100).await.unwrap().len(), 500);
    let part = read_all_of(log, &[new_read_range(place.partition, 2, 5)], 2).await.unwrap();
    assert_eq!(part.iter().map(|it| it.offset).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(read_all_of(log, &[new_read_range(place.partition, 2, 2)], 2).await.unwrap(), []);
    let marked =
        ReadRange { previous_record: Some(part[0].fingerprint()), ..new_read_range(place.partition, 3, 5) };
    assert_eq!(read_all_of(log, &[marked], 9).await.unwrap(), part[1..], "after a record that is as it was");
}

pub async fn missing_ranges_are_refused(log: &dyn EventLog) {
    for at in 0..5 {
        append_text(log, "k", &at.to_string()).await;
    }
    let partition = append_text(log, "k", "5").await.partition;
    let other = RecordFingerprint { broker_time: 1, digest: 2 };
    for wrong in [
        new_read_range(partition, 0, 7),
        new_read_range(partition, 8, 9),
        new_read_range(CREATED_PARTITION_COUNT + 5, 0, 1),
        ReadRange { previous_record: Some(other), ..new_read_range(partition, 2, 4) },
    ] {
        let error = read_all_of(log, &[wrong], 10).await.expect_err("it is not there");
        assert!(is_final(&error), "{wrong:?}: {error}");
    }
    let first = ReadRange { previous_record: Some(other), ..new_read_range(partition, 0, 6) };
    assert_eq!(read_all_of(log, &[first], 10).await.unwrap().len(), 6, "nothing stands before the first one");
}

async fn read_dead_letters(
    log: &dyn EventLog,
    only: Option<RecordPosition>,
    most: usize,
) -> Vec<StoredDeadLetter> {
    let read = answered(async || {
        let mut reader = log.read_dead_letters(only).await?;
        let mut letters = Vec::new();
        loop {
            let more = reader.next_dead_letters(most).await?;
            assert!(more.len() <= most);
            if more.is_empty() {
                return Ok(letters);
            }
            letters.extend(more);
        }
    });
    read.await.expect("a log has its dead letters")
}

async fn append_dead_letter(log: &dyn EventLog, letter: &DeadLetter) {
    wait_until_writable(log).await;
    log.append_dead_letter(letter).await.expect("a letter becomes a dead letter");
}

pub async fn dead_letters_are_removed_one_by_one(log: &dyn EventLog) {
    let letter = |offset: u64, value: &str| DeadLetter {
        record: RawRecord {
            partition: 3,
            offset,
            broker_time: 1_700_000_000_000,
            key: Some("key".into()),
            value: value.as_bytes().to_vec().into(),
            trace: None,
        },
        reason: "body: is not JSON".to_owned(),
    };
    for (offset, value) in (0..).zip(["stays", "goes", "stays too", "goes", "comes last"]) {
        append_dead_letter(log, &letter(offset, value)).await;
    }
    let whole = DeadLetter {
        record: RawRecord { value: vec![b'x'; 3 << 20].into(), ..letter(0, "").record },
        ..letter(0, "")
    };
    append_dead_letter(log, &whole).await;
    assert_eq!(log.remove_dead_letters(&|letter| letter.value == "nothing").await.unwrap(), 0);
    assert_eq!(read_dead_letters(log, None, 10).await.len(), 6);
    assert_eq!(log.remove_dead_letters(&|letter| letter.value == "goes").await.unwrap(), 2);
    let mut left = read_dead_letters(log, None, 10).await;
    left.sort_by_key(|letter| (letter.origin.map(|origin| origin.log_position.offset), letter.value.len()));
    let values: Vec<&[u8]> = left.iter().map(|letter| &letter.value[..letter.value.len().min(10)]).collect();
    assert_eq!(values, [&b"stays"[..], b"xxxxxxxxxx", b"stays too", b"comes last"]);
    assert_eq!(left[1].truncated_from, Some(3 << 20), "that it was cut is still known");
    for letter in &left {
        let origin = letter.origin.expect("where it came from is still known");
        assert_eq!((origin.log_position.partition, origin.broker_time), (3, 1_700_000_000_000));
        assert_eq!((letter.reason.as_str(), letter.key.as_deref()), ("body: is not JSON", Some(&b"key"[..])));
    }
    append_dead_letter(log, &letter(9, "another")).await;
    assert_eq!(read_dead_letters(log, None, 10).await.len(), 5, "it takes letters as before");
}

pub async fn dead_letters_stay_out_of_the_log_and_are_found_again(log: &dyn EventLog) {
    let letter = |offset: u64, size: usize, key: Option<&'static [u8]>| DeadLetter {
        record: RawRecord {
            partition: 3,
            offset,
            broker_time: 1_700_000_000_000,
            key: key.map(Into::into),
            value: vec![0xFF; size].into(),
            trace: None,
        },
        reason: "body: is not JSON: ümlauts\nand a second line".to_owned(),
    };
    assert_eq!(read_dead_letters(log, None, 10).await, []);
    let before = append_text(log, "k", "x").await;
    append_dead_letter(log, &letter(7, 10, Some(b"key"))).await;
    // A tombstone without a key.
    append_dead_letter(log, &letter(8, 0, None)).await;
    // A letter beyond the log's limit is truncated, not refused.
    append_dead_letter(log, &letter(9, 3 << 20, Some(b"key"))).await;
    append_dead_letter(log, &letter(7, 10, Some(b"key"))).await;
    assert_eq!(end_offsets(log).await.iter().sum::<u64>(), 1, "letters are not in the log itself");

    let mut found = read_dead_letters(log, None, 3).await;
    assert_eq!(found.len(), 4);
    for letter in &found {
        let alone = read_dead_letters(log, Some(letter.letter_position), 10).await;
        assert_eq!(alone, std::slice::from_ref(letter), "the one at its place");
    }
    let nowhere = RecordPosition { partition: found[0].letter_position.partition, offset: 1000 };
    assert_eq!(read_dead_letters(log, Some(nowhere), 10).await, []);
    found.sort_by_key(|letter| letter.origin.map(|origin| origin.log_position.offset));
    let now = read_all_of(log, &[new_read_range(before.partition, before.offset, before.offset + 1)], 1)
        .await
        .unwrap()[0]
        .broker_time;
    for (letter, (offset, size, key, cut)) in found.iter().zip([
        (7, 10, Some(&b"key"[..]), None),
        (7, 10, Some(b"key"), None),
        (8, 0, None, None),
        (9, 0, Some(b"key"), Some(3 << 20)),
    ]) {
        let place = RecordPosition { partition: 3, offset };
        assert_eq!(
            letter.origin,
            Some(DeadLetterOrigin { log_position: place, broker_time: 1_700_000_000_000 })
        );
        assert_eq!(letter.reason, "body: is not JSON: ümlauts\nand a second line");
        assert_eq!(letter.key.as_deref(), key);
        assert_eq!(letter.truncated_from, cut);
        assert!(letter.value.iter().all(|byte| *byte == 0xFF));
        assert!(if cut.is_some() { letter.value.len() > 400_000 } else { letter.value.len() == size });
        assert!(
            (letter.dead_lettered_at - now).abs() < 60_000,
            "when it became a dead letter: {}, not {now}",
            letter.dead_lettered_at
        );
    }
}
