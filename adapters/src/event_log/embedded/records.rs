//! The tables of the log's file, and the encoding of their rows.
//!
//! The parts of a record are: version (1 byte), the log's time (8, little endian), length of the key (4; all ones: no
//! key), key, value. The parts of a dead letter are: partition (4), offset (8), length of the reason (4), reason,
//! record.

use bytes::Bytes;
use liverank_core::Millis;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::super::{
    CREATED_PARTITION_COUNT, DeadLetter, DeadLetterOrigin, RawRecord, RecordPosition, StoredDeadLetter,
};
use super::shared::{MAX_RECORD_BYTES, PART_NAME};
use crate::redb_file::{FileFailure, FileKind, begin_durable};

/// The records, by partition and offset.
pub const RECORDS_TABLE: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("records");
/// The dead letters, by number from 0.
pub const DEAD_LETTERS_TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("dead_letters");
/// The time at which a record became a dead letter, and the size of its whole value in bytes if it was truncated; by
/// the letter's number. The table is separate so that releases that do not know it can still read the letters.
pub const DEAD_LETTER_DETAILS_TABLE: TableDefinition<u64, (Millis, Option<u64>)> =
    TableDefinition::new("dead_letter_notes");

pub const LOG_FILE_KIND: FileKind = FileKind { store_name: PART_NAME, version: 1, create_tables };

/// The one partition of all dead letters.
pub const DEAD_LETTER_PARTITION: u32 = 0;

/// The version of a single record's encoding; older ones must stay readable while newer ones are appended.
const RECORD_VERSION: u8 = 1;
const NO_KEY_LENGTH: u32 = u32::MAX;
/// The largest number of bytes in one read, whatever the number of records: it bounds a consumer's memory.
const MAX_READ_BYTES: usize = 16 << 20;

fn create_tables(transaction: &WriteTransaction) -> Result<(), FileFailure> {
    transaction.open_table(RECORDS_TABLE)?;
    transaction.open_table(DEAD_LETTERS_TABLE)?;
    transaction.open_table(DEAD_LETTER_DETAILS_TABLE)?;
    Ok(())
}

/// Returns the partition of a key: FNV-1a, folded. The result must stay the same for as long as logs exist, because
/// the order of a key's records depends on it.
pub fn partition_of(key: &[u8]) -> u32 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % u64::from(CREATED_PARTITION_COUNT)) as u32
}

pub fn encode_record(time: Millis, key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(13 + key.map_or(0, <[u8]>::len) + value.len());
    bytes.push(RECORD_VERSION);
    bytes.extend_from_slice(&time.to_le_bytes());
    bytes.extend_from_slice(&key.map_or(NO_KEY_LENGTH, |key| key.len() as u32).to_le_bytes());
    bytes.extend_from_slice(key.unwrap_or_default());
    bytes.extend_from_slice(value);
    bytes
}

/// A record's time, key and value.
type RecordParts<'a> = (Millis, Option<&'a [u8]>, &'a [u8]);

/// Splits a record into its parts; `None` if the bytes are not a record.
fn decode_parts(bytes: &[u8]) -> Option<RecordParts<'_>> {
    let (version, rest) = bytes.split_first()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    if *version != RECORD_VERSION {
        return None;
    }
    let length = u32::from_le_bytes(*length);
    let key_bytes = if length == NO_KEY_LENGTH { 0 } else { length as usize };
    let (key, value) = rest.split_at_checked(key_bytes)?;
    Some((Millis::from_le_bytes(*time), (length != NO_KEY_LENGTH).then_some(key), value))
}

fn decode_record(partition: u32, offset: u64, bytes: &[u8]) -> Result<RawRecord, FileFailure> {
    let (broker_time, key, value) = decode_parts(bytes).ok_or_else(|| {
        FileFailure::Damaged(format!("offset {offset} of partition {partition} is not a record"))
    })?;
    let (key, value) = (key.map(Bytes::copy_from_slice), Bytes::copy_from_slice(value));
    Ok(RawRecord { partition, offset, broker_time, key, value, trace: None })
}

/// A range of offsets of one partition: from `first_offset` (inclusive) to `end_offset` (exclusive).
#[derive(Debug, Clone, Copy)]
pub struct StoredRange {
    pub partition: u32,
    pub first_offset: u64,
    pub end_offset: u64,
}

/// Reads up to `limit` records of these ranges, in their order. All records of the ranges exist, because they were
/// durable when the ranges were made: a missing record is an error.
pub fn read_records(
    database: &Database,
    extents: &[StoredRange],
    limit: usize,
) -> Result<Vec<RawRecord>, FileFailure> {
    let table = database.begin_read()?.open_table(RECORDS_TABLE)?;
    let mut records = Vec::new();
    let mut bytes = 0;
    for StoredRange { partition, first_offset: from, end_offset } in extents.iter().copied() {
        let mut expected = from;
        for entry in table.range((partition, from)..(partition, end_offset))? {
            if records.len() >= limit || bytes >= MAX_READ_BYTES {
                return Ok(records);
            }
            let (key, value) = entry?;
            let offset = key.value().1;
            if offset != expected {
                return Err(missing_record_failure(partition, expected));
            }
            expected += 1;
            bytes += value.value().len();
            records.push(decode_record(partition, offset, value.value())?);
        }
        if expected != end_offset && records.len() < limit {
            return Err(missing_record_failure(partition, expected));
        }
    }
    Ok(records)
}

fn missing_record_failure(partition: u32, offset: u64) -> FileFailure {
    FileFailure::Damaged(format!("offset {offset} of partition {partition} is not there any more"))
}

/// The ends of the log: the next offset and the last time of each partition, and the next dead letter.
#[derive(Debug, Clone, Default)]
pub struct LogEnds {
    /// The next offset of each partition.
    pub next_offsets: [u64; CREATED_PARTITION_COUNT as usize],
    /// The time of the last record of each partition.
    pub last_times: [Millis; CREATED_PARTITION_COUNT as usize],
    /// The number of the next dead letter.
    pub next_dead_letter_number: u64,
}

impl LogEnds {
    pub fn load_ends(database: &Database) -> Result<Self, FileFailure> {
        let transaction = database.begin_read()?;
        let table = transaction.open_table(RECORDS_TABLE)?;
        let mut heads = Self::default();
        for partition in 0..CREATED_PARTITION_COUNT {
            if let Some(entry) = table.range((partition, 0)..=(partition, u64::MAX))?.next_back() {
                let (key, value) = entry?;
                let offset = key.value().1;
                heads.next_offsets[partition as usize] = offset + 1;
                heads.last_times[partition as usize] =
                    decode_record(partition, offset, value.value())?.broker_time;
            }
        }
        heads.next_dead_letter_number =
            transaction.open_table(DEAD_LETTERS_TABLE)?.last()?.map_or(0, |(key, _)| key.value() + 1);
        Ok(heads)
    }
}

/// Returns the letter as it is stored: reason, key and value truncated so that together they stay within the log's
/// limit. Also returns the size of the whole value in bytes if the value or the key was truncated.
pub fn truncate_dead_letter(letter: &DeadLetter) -> (DeadLetter, Option<u64>) {
    const MAX_REASON_BYTES: usize = 4096;
    let sizes = |letter: &DeadLetter| (letter.record.key.as_ref().map(Bytes::len), letter.record.value.len());
    let whole = sizes(letter);
    let mut letter = letter.clone();
    letter.reason.truncate(letter.reason.floor_char_boundary(MAX_REASON_BYTES));
    // The key gets half of the limit at most, so that a part of the value is always stored.
    let key = letter.record.key.take().map(|key| key.slice(..key.len().min(MAX_RECORD_BYTES / 2)));
    let room = MAX_RECORD_BYTES - letter.reason.len() - key.as_ref().map_or(0, Bytes::len);
    letter.record.value.truncate(room);
    letter.record.key = key;
    let cut = sizes(&letter) != whole;
    (letter, cut.then_some(whole.1 as u64))
}

pub fn encode_dead_letter(letter: &DeadLetter) -> Vec<u8> {
    let record = &letter.record;
    let mut bytes = Vec::with_capacity(64 + letter.reason.len() + record.value.len());
    bytes.extend_from_slice(&record.partition.to_le_bytes());
    bytes.extend_from_slice(&record.offset.to_le_bytes());
    bytes.extend_from_slice(&(letter.reason.len() as u32).to_le_bytes());
    bytes.extend_from_slice(letter.reason.as_bytes());
    bytes.extend_from_slice(&encode_record(record.broker_time, record.key.as_deref(), &record.value));
    bytes
}

fn decode_dead_letter(bytes: &[u8]) -> Option<DeadLetter> {
    let (partition, rest) = bytes.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (reason, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let record = decode_record(u32::from_le_bytes(*partition), u64::from_le_bytes(*offset), rest).ok()?;
    Some(DeadLetter { record, reason: std::str::from_utf8(reason).ok()?.to_owned() })
}

/// Reads up to `limit` dead letters with numbers from `from` on and below `to`.
pub fn read_dead_letters(
    database: &Database,
    from: u64,
    to: u64,
    limit: usize,
) -> Result<Vec<StoredDeadLetter>, FileFailure> {
    let transaction = database.begin_read()?;
    let letters = transaction.open_table(DEAD_LETTERS_TABLE)?;
    let notes = transaction.open_table(DEAD_LETTER_DETAILS_TABLE)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    for entry in letters.range(from..to)? {
        if found.len() >= limit || bytes >= MAX_READ_BYTES {
            break;
        }
        let (number, encoded) = entry?;
        let number = number.value();
        bytes += encoded.value().len();
        let letter = decode_dead_letter(encoded.value())
            .ok_or_else(|| FileFailure::Damaged(format!("dead letter {number} is not one")))?;
        let DeadLetter { record, reason } = letter;
        // Earlier releases wrote no notes.
        let note = notes.get(number)?.map(|kept| kept.value());
        let (dead_lettered_at, truncated_from) = note.unwrap_or((record.broker_time, None));
        let origin = RecordPosition { partition: record.partition, offset: record.offset };
        found.push(StoredDeadLetter {
            letter_position: RecordPosition { partition: DEAD_LETTER_PARTITION, offset: number },
            dead_lettered_at,
            origin: Some(DeadLetterOrigin { log_position: origin, broker_time: record.broker_time }),
            reason,
            key: record.key,
            value: record.value,
            truncated_from,
        });
    }
    Ok(found)
}

/// Removes dead letters by their numbers, in one transaction.
pub fn remove_dead_letters(database: &Database, numbers: &[u64]) -> Result<(), FileFailure> {
    let transaction = begin_durable(database)?;
    {
        let mut letters = transaction.open_table(DEAD_LETTERS_TABLE)?;
        let mut notes = transaction.open_table(DEAD_LETTER_DETAILS_TABLE)?;
        for number in numbers {
            letters.remove(number)?;
            notes.remove(number)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_encoding() {
        for key in [None, Some(&b""[..]), Some(b"key")] {
            for value in [&b""[..], b"value", &[0xFF; 300]] {
                let bytes = encode_record(-5, key, value);
                assert_eq!(decode_parts(&bytes), Some((-5, key, value)));
            }
        }
        let mut cut = encode_record(1, Some(b"key"), b"");
        cut.pop();
        assert_eq!(decode_parts(&cut), None, "a cut record is not one");
        assert_eq!(decode_parts(&[2; 40]), None, "a record of another version is not one");
    }

    #[test]
    fn the_partition_of_a_key_never_changes() {
        let partitions: Vec<u32> =
            ["a", "v1", "video-7", "日本"].iter().map(|key| partition_of(key.as_bytes())).collect();
        assert_eq!(partitions, EXPECTED_PARTITIONS, "logs that exist were written with these");
    }

    const EXPECTED_PARTITIONS: [u32; 4] = [4, 7, 1, 4];

    #[test]
    fn dead_letters_are_truncated_to_the_limit_and_round_trip() {
        let record = RawRecord {
            partition: 3,
            offset: 9,
            broker_time: 77,
            key: Some(Bytes::from(vec![b'k'; 3 << 20])),
            value: Bytes::from(vec![b'v'; 3 << 20]),
            trace: None,
        };
        let (letter, cut) = truncate_dead_letter(&DeadLetter { record, reason: "ü".repeat(5000) });
        assert_eq!(cut, Some(3 << 20));
        let bytes = encode_dead_letter(&letter);
        assert!(bytes.len() <= MAX_RECORD_BYTES + 64, "{}", bytes.len());
        assert_eq!(decode_dead_letter(&bytes), Some(letter));
    }

    /// The records are lines of hexadecimal digits. Nothing in them is optional: a record is read as it was, or has
    /// another version.
    #[test]
    fn records_and_letters_of_the_release_before_are_read() {
        let lines = include_str!("../../../tests/fixtures/previous/embedded-log.txt").lines();
        let bytes = |line: &str| -> Vec<u8> {
            line.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let [with_key, without, letter] = lines.map(bytes).collect::<Vec<_>>().try_into().unwrap();
        let time = 1_700_000_000_250;
        assert_eq!(decode_parts(&with_key), Some((time, Some(&b"cats"[..]), &b"{}"[..])));
        assert_eq!(encode_record(time, Some(b"cats"), b"{}"), with_key);
        assert_eq!(decode_parts(&without), Some((time, None, &b"{}"[..])));
        assert_eq!(encode_record(time, None, b"{}"), without);
        let (key, value) = (Some(Bytes::from_static(b"cats")), Bytes::from_static(b"{"));
        let record = RawRecord { partition: 4, offset: 99, broker_time: time, key, value, trace: None };
        let expected = DeadLetter { record, reason: "body: no JSON".to_owned() };
        assert_eq!(decode_dead_letter(&letter), Some(expected.clone()));
        assert_eq!(encode_dead_letter(&expected), letter);
    }
}
