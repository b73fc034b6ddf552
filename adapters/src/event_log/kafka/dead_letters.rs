//! Dead letters as Kafka records: origin and reason are in the headers.

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use super::super::{DeadLetter, DeadLetterOrigin, RawRecord, RecordPosition, StoredDeadLetter};
use super::record_buffer::copy_record;

const REASON_HEADER: &str = "reason";
const PARTITION_HEADER: &str = "partition";
const OFFSET_HEADER: &str = "offset";
const BROKER_TIME_HEADER: &str = "broker_time";
const TRUNCATED_FROM_HEADER: &str = "truncated_from";

/// The number of bytes reserved in a dead letter for its headers; the reason is truncated to half of it.
pub(super) const LETTER_HEADER_BYTES: usize = 2048;

/// Returns key, value and headers of the record that stores a dead letter, truncated to fit into `limit` bytes.
pub(super) fn encode_letter(letter: &DeadLetter, limit: usize) -> (Option<&[u8]>, &[u8], OwnedHeaders) {
    let record = &letter.record;
    let room = limit.saturating_sub(LETTER_HEADER_BYTES);
    let key = record.key.as_ref().map(|key| &key[..key.len().min(room / 2)]);
    let value = &record.value[..record.value.len().min(room - key.map_or(0, <[u8]>::len))];
    let reason = &letter.reason[..letter.reason.floor_char_boundary(LETTER_HEADER_BYTES / 2)];
    let mut headers = OwnedHeaders::new_with_capacity(5);
    for (name, text) in [
        (REASON_HEADER, reason),
        (PARTITION_HEADER, &record.partition.to_string()),
        (OFFSET_HEADER, &record.offset.to_string()),
        (BROKER_TIME_HEADER, &record.broker_time.to_string()),
    ] {
        headers = headers.insert(Header { key: name, value: Some(text) });
    }
    if value.len() < record.value.len() || key.map(<[u8]>::len) < record.key.as_ref().map(Bytes::len) {
        let whole = record.value.len().to_string();
        headers = headers.insert(Header { key: TRUNCATED_FROM_HEADER, value: Some(&whole) });
    }
    (key, value, headers)
}

/// Returns the headers of a letter that is written again unchanged.
pub(super) fn headers_of(letter: &StoredDeadLetter) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(5);
    let mut insert = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            headers = std::mem::take(&mut headers).insert(Header { key: name, value: Some(&text) });
        }
    };
    insert(REASON_HEADER, Some(letter.reason.clone()).filter(|reason| !reason.is_empty()));
    insert(PARTITION_HEADER, letter.origin.map(|origin| origin.log_position.partition.to_string()));
    insert(OFFSET_HEADER, letter.origin.map(|origin| origin.log_position.offset.to_string()));
    insert(BROKER_TIME_HEADER, letter.origin.map(|origin| origin.broker_time.to_string()));
    insert(TRUNCATED_FROM_HEADER, letter.truncated_from.map(|bytes| bytes.to_string()));
    headers
}

/// Reads a letter from its record; any program may have written it, with any headers.
pub(super) fn decode_letter(message: &BorrowedMessage<'_>) -> StoredDeadLetter {
    letter_from_record(copy_record(message), message.headers())
}

fn letter_from_record(record: RawRecord, headers: Option<&impl Headers>) -> StoredDeadLetter {
    let text = |name: &str| {
        let header = headers?.iter().find(|header| header.key == name)?;
        std::str::from_utf8(header.value?).ok().map(str::to_owned)
    };
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    let origin = || {
        let partition = u32::try_from(number(PARTITION_HEADER)?).ok()?;
        let broker_time = text(BROKER_TIME_HEADER)?.parse().ok()?;
        Some(DeadLetterOrigin {
            log_position: RecordPosition { partition, offset: number(OFFSET_HEADER)? },
            broker_time,
        })
    };
    StoredDeadLetter {
        letter_position: RecordPosition { partition: record.partition, offset: record.offset },
        dead_lettered_at: record.broker_time,
        origin: origin(),
        reason: text(REASON_HEADER).unwrap_or_default(),
        key: record.key,
        value: record.value,
        truncated_from: number(TRUNCATED_FROM_HEADER),
    }
}

#[cfg(test)]
mod fixtures {
    use serde_json::{Map, Value};

    use super::*;
    use crate::fixtures::check_json_fixture;

    fn dead_record(key: &'static [u8], value: &'static [u8]) -> RawRecord {
        let (key, value) = (Some(Bytes::from_static(key)), Bytes::from_static(value));
        RawRecord { partition: 0, offset: 7, broker_time: 1_700_000_060_250, key, value, trace: None }
    }

    fn headers_of(json: &Value) -> OwnedHeaders {
        let members = json.as_object().expect("headers");
        members.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            headers.insert(Header { key, value: Some(&value) })
        })
    }

    /// The fixture is the headers; the record itself is the unreadable one, truncated to fit.
    #[test]
    fn dead_letter_records_have_fixtures() {
        let record = RawRecord {
            partition: 4,
            offset: 99,
            broker_time: 1_700_000_000_250,
            ..dead_record(b"cats", b"{{{{")
        };
        let poison = DeadLetter { record, reason: "body: no JSON".to_owned() };
        let (key, value, _) = encode_letter(&poison, LETTER_HEADER_BYTES + 6);
        assert_eq!((key, value), (Some(&b"cat"[..]), &b"{{{"[..]));
        let today = letter_from_record(
            dead_record(b"cat", b"{{{"),
            Some(&encode_letter(&poison, LETTER_HEADER_BYTES + 6).2),
        );
        assert_eq!(today.truncated_from, Some(4));
        let written = |_: &StoredDeadLetter| {
            let (_, _, headers) = encode_letter(&poison, LETTER_HEADER_BYTES + 6);
            let text = |header: Header<'_, &[u8]>| {
                let value = std::str::from_utf8(header.value.expect("a value")).expect("text");
                (header.key.to_owned(), Value::from(value))
            };
            Value::Object(headers.iter().map(text).collect::<Map<_, _>>())
        };
        let read = |json: &Value| {
            Ok::<_, String>(letter_from_record(dead_record(b"cat", b"{{{"), Some(&headers_of(json))))
        };
        check_json_fixture("kafka-dead-letter", &today, written, read);
    }
}
