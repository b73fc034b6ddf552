//! Reads along in a stream of server-sent events, without taking it apart.
//!
//! Only whole events leave the scanner: after half an event the next reader's first line would be taken for the rest of
//! it. What leaves is what came, byte for byte, mostly without a copy. Lines end with `\n` alone, as our readers write
//! them.

use bytes::{Bytes, BytesMut};
use memchr::{memmem, memrchr};

/// The longest event: a comment of 4,096 characters and three identifiers of 256 bytes, each escaped as badly as JSON can
/// be, fit into half of it.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// An event that is longer than any event of ours: whatever sends it is not a reader.
#[derive(Debug, PartialEq, Eq)]
pub struct EventTooLong;

/// What has come of an event that is not whole yet.
#[derive(Debug, Default)]
pub struct EventScanner {
    begun_event: BytesMut,
}

impl EventScanner {
    /// Takes what came and gives back the whole events that there are now; none where it is empty.
    pub fn take_bytes(&mut self, came: &Bytes) -> Result<Bytes, EventTooLong> {
        if self.begun_event.is_empty() {
            let end = whole_events_length(came, 0);
            self.begin_partial(&came[end..])?;
            return Ok(came.slice(..end));
        }
        // The two newlines between events may have come one by one.
        let from = self.begun_event.len() - 1;
        self.begun_event.extend_from_slice(came);
        let end = whole_events_length(&self.begun_event, from);
        if end == 0 {
            self.begin_partial(&[])?;
            return Ok(Bytes::new());
        }
        let events = self.begun_event.split_to(end).freeze();
        // The rest moves to memory of its own size, so that the large buffer goes with the events.
        let rest = std::mem::take(&mut self.begun_event);
        self.begin_partial(&rest)?;
        Ok(events)
    }

    fn begin_partial(&mut self, rest: &[u8]) -> Result<(), EventTooLong> {
        self.begun_event.extend_from_slice(rest);
        if self.begun_event.len() > MAX_EVENT_BYTES { Err(EventTooLong) } else { Ok(()) }
    }
}

/// How many bytes of `text`, which begins where an event does, are whole events. Nothing before `from` ends one.
fn whole_events_length(text: &[u8], from: usize) -> usize {
    match memmem::rfind(&text[from..], b"\n\n") {
        Some(at) => from + at + 2,
        // Blank lines where an event would begin belong to none.
        None => text.iter().take_while(|byte| **byte == b'\n').count(),
    }
}

/// The id of the last of these whole events that has one.
pub fn last_event_id(events: &[u8]) -> Option<&[u8]> {
    let mut end = events.len();
    while end > 0 {
        let start = memrchr(b'\n', &events[..end - 1]).map_or(0, |at| at + 1);
        if let Some(id) = events[start..end].strip_prefix(b"id:") {
            return Some(id.trim_ascii());
        }
        end = start;
    }
    None
}

/// Splits whole events after the first.
pub(super) fn first(events: &Bytes) -> (Bytes, Bytes) {
    let at = memmem::find(events, b"\n\n").map_or(events.len(), |at| at + 2);
    (events.slice(..at), events.slice(at..))
}

/// What an event is to one who passes it on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The greeting of a reader.
    Connected,
    /// A comment, a gap, or anything else that carries data.
    Data,
    /// A heartbeat or another line without data.
    Silent,
}

/// Which sort this event is.
pub(super) fn sort(event: &[u8]) -> Sort {
    let mut data = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    match data.next().map(<[u8]>::trim_ascii_start) {
        None => Sort::Silent,
        Some(data) if data.starts_with(br#"{"type":"connected""#) => Sort::Connected,
        Some(_) => Sort::Data,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE_STREAM: &str = "\n: hello\n\nretry: 1000\nid: n-0\ndata: {\"type\":\"connected\",\"userid\":\"u\"}\n\n\
                          id: n-1\ndata: {\"comment\":\"ü\"}\n\n\n\n: beat\n\nid:n-2\nevent: gap\ndata: {}\n\nid: n-3\nda";

    /// Feeds the stream in pieces; what came out, and the last id.
    fn feed_in_pieces(pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut scanner = EventScanner::default();
        let (mut out, mut id) = (Vec::new(), None);
        for piece in pieces {
            let events = scanner.take_bytes(&Bytes::copy_from_slice(piece)).unwrap();
            assert!(events.is_empty() || events.ends_with(b"\n"), "an event was split");
            id = last_event_id(&events).map(<[u8]>::to_vec).or(id);
            out.extend_from_slice(&events);
        }
        (out, id)
    }

    #[test]
    fn whole_events_pass_and_partial_ones_are_kept() {
        let (out, id) = feed_in_pieces(&[EXAMPLE_STREAM.as_bytes()]);
        assert_eq!(out, EXAMPLE_STREAM.as_bytes()[..EXAMPLE_STREAM.len() - "id: n-3\nda".len()]);
        assert_eq!(id.unwrap(), b"n-2");
    }

    #[test]
    fn a_stream_split_in_two_scans_the_same() {
        let bytes = EXAMPLE_STREAM.as_bytes();
        let expected = feed_in_pieces(&[bytes]);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(feed_in_pieces(&[a, b]), expected, "split at {at}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_split_anywhere_scans_the_same(
            lines in proptest::collection::vec("(id: ?[a-z0-9]{1,3}-[0-9]|data: [a-z\\\\:]{0,9}|: |)", 0..24),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let text = lines.join("\n");
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let (out, id) = feed_in_pieces(&pieces);
            prop_assert_eq!(&(out.clone(), id), &feed_in_pieces(&[bytes]));
            prop_assert!(bytes.starts_with(&out));
        }

        #[test]
        fn the_last_id_is_that_of_a_plain_reading(
            lines in proptest::collection::vec("(id: ?[a-z]{1,3}|data: id: x|: id: y|)", 0..16),
        ) {
            let text = lines.join("\n") + "\n\n";
            let plain = lines.iter().filter_map(|line| line.strip_prefix("id:")).next_back();
            prop_assert_eq!(last_event_id(text.as_bytes()), plain.map(|id| id.trim().as_bytes()));
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut scanner = EventScanner::default();
        let piece = Bytes::from(vec![b'x'; MAX_EVENT_BYTES]);
        assert_eq!(scanner.take_bytes(&piece), Ok(Bytes::new()));
        assert_eq!(scanner.take_bytes(&piece), Err(EventTooLong));
        assert_eq!(
            EventScanner::default().take_bytes(&Bytes::from(vec![b'x'; MAX_EVENT_BYTES + 1])),
            Err(EventTooLong)
        );
    }

    #[test]
    fn greetings_are_told_from_comments_that_quote_them() {
        assert_eq!(sort(b"id: n-1\ndata: {\"type\":\"connected\",\"userid\":\"u\"}\n\n"), Sort::Connected);
        assert_eq!(
            sort(b"data: {\"id\":\"a\",\"comment\":\"{\\\"type\\\":\\\"connected\\\"\"}\n\n"),
            Sort::Data
        );
        assert_eq!(sort(b": beat\n\n"), Sort::Silent);
        assert_eq!(sort(b"retry: 5\n\n"), Sort::Silent);
    }

    #[test]
    fn the_first_event_is_split_off() {
        let (head, tail) = first(&Bytes::from_static(b"a\n\nb\n\n"));
        assert_eq!((&head[..], &tail[..]), (&b"a\n\n"[..], &b"b\n\n"[..]));
        assert_eq!(first(&Bytes::from_static(b"\n")).0, "\n");
    }
}
