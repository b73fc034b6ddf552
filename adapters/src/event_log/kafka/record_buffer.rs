//! Copies records out of the client library, many into one piece of memory.

use bytes::{Bytes, BytesMut};
use rdkafka::message::{BorrowedMessage, Message};

use super::super::RawRecord;
use super::traceparent;

/// The size of a chunk of memory in bytes: some hundred records of usual size. A chunk is freed when the last of its
/// records is dropped, so a single record must not be kept for long ([`RawRecord::owned_copy`]).
const CHUNK_BYTES: usize = 64 << 10;

/// A buffer for copies of the records that are read next.
#[derive(Default)]
pub(super) struct RecordBuffer(BytesMut);

/// Returns a copy of a message as a record with memory of its own.
pub(super) fn copy_record(message: &BorrowedMessage<'_>) -> RawRecord {
    RecordBuffer(BytesMut::with_capacity(message.key_len() + message.payload_len())).copy_record(message)
}

impl RecordBuffer {
    /// Returns a copy of a message as a record, in the buffer's memory.
    pub(super) fn copy_record(&mut self, message: &BorrowedMessage<'_>) -> RawRecord {
        RawRecord {
            partition: message.partition() as u32,
            offset: message.offset() as u64,
            // The time is absent only from message formats before Kafka 0.10.
            broker_time: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().map(|key| self.copy_bytes(key)),
            value: self.copy_bytes(message.payload().unwrap_or_default()),
            trace: traceparent::trace_of_headers(message.headers()),
        }
    }

    fn copy_bytes(&mut self, bytes: &[u8]) -> Bytes {
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(bytes.len().max(CHUNK_BYTES));
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_memory_until_it_is_full_and_stay_what_they_were() {
        let mut buffer = RecordBuffer::default();
        let texts: Vec<Vec<u8>> = [3, 0, CHUNK_BYTES - 4, 2, CHUNK_BYTES + 1, 5]
            .iter()
            .zip(b'a'..)
            .map(|(&length, letter)| vec![letter; length])
            .collect();
        let copies: Vec<Bytes> = texts.iter().map(|text| buffer.copy_bytes(text)).collect();
        assert!(copies.iter().zip(&texts).all(|(copy, text)| copy == text));
        let follows =
            |at: usize| copies[at].as_ptr() == copies[at - 1].as_ptr().wrapping_add(copies[at - 1].len());
        assert!(follows(2) && !follows(3), "one piece, and then another");
    }
}
