//! The scanner of server-sent events: finds whole events in a stream's bytes without parsing them.
//!
//! Only whole events leave the scanner: after half an event, a client would read the first line of the next reader's
//! stream as the rest of that event. The bytes that leave are those that came, mostly without a copy. Lines end with
//! `\n` alone, as our readers write them.

use bytes::{Bytes, BytesMut};
use memchr::{memmem, memrchr};

/// Maximum size of an event in bytes. A comment of 4,096 characters and three identifiers of 256 bytes, with the
/// longest escapes of JSON, need half of it.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// The error that an event is longer than any event of our readers, so its sender is not one of them.
#[derive(Debug, PartialEq, Eq)]
pub struct EventTooLong;

/// Cuts a stream into whole events; keeps the bytes of an event that is not whole yet.
#[derive(Debug, Default)]
pub struct EventScanner {
    partial_event: BytesMut,
}

impl EventScanner {
    /// Adds bytes of the stream and returns the events that are whole now; empty if there are none. Returns an error
    /// if an event is too long.
    pub fn push_bytes(&mut self, came: &Bytes) -> Result<Bytes, EventTooLong> {
        if self.partial_event.is_empty() {
            let end = whole_events_length(came, 0);
            self.keep_partial_event(&came[end..])?;
            return Ok(came.slice(..end));
        }
        // The two newlines at the end of an event may have come one by one.
        let from = self.partial_event.len() - 1;
        self.partial_event.extend_from_slice(came);
        let end = whole_events_length(&self.partial_event, from);
        if end == 0 {
            self.keep_partial_event(&[])?;
            return Ok(Bytes::new());
        }
        let events = self.partial_event.split_to(end).freeze();
        // The rest is copied to a buffer of its own size, so that the large buffer is freed with the events.
        let rest = std::mem::take(&mut self.partial_event);
        self.keep_partial_event(&rest)?;
        Ok(events)
    }

    fn keep_partial_event(&mut self, rest: &[u8]) -> Result<(), EventTooLong> {
        self.partial_event.extend_from_slice(rest);
        if self.partial_event.len() > MAX_EVENT_BYTES { Err(EventTooLong) } else { Ok(()) }
    }
}

/// Returns how many bytes at the start of `text` are whole events. `text` begins at the start of an event, and no
/// event ends before `from`.
fn whole_events_length(text: &[u8], from: usize) -> usize {
    match memmem::rfind(&text[from..], b"\n\n") {
        Some(at) => from + at + 2,
        // Blank lines at the start of an event belong to no event.
        None => text.iter().take_while(|byte| **byte == b'\n').count(),
    }
}

/// Returns the last id in these whole events; `None` if no event has one.
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

/// Splits off the first of these whole events. Returns the first event and the rest.
pub(super) fn split_first_event(events: &Bytes) -> (Bytes, Bytes) {
    let at = memmem::find(events, b"\n\n").map_or(events.len(), |at| at + 2);
    (events.slice(..at), events.slice(at..))
}

/// The kind of an event, as far as a gateway that passes events on needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// The greeting with which a reader begins a stream.
    Connected,
    /// An event with data: a comment, a gap or another.
    Data,
    /// An event without data: a heartbeat, for example.
    WithoutData,
}

/// Returns the kind of an event.
pub(super) fn event_kind(event: &[u8]) -> EventKind {
    let mut data = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    match data.next().map(<[u8]>::trim_ascii_start) {
        None => EventKind::WithoutData,
        Some(data) if data.starts_with(br#"{"type":"connected""#) => EventKind::Connected,
        Some(_) => EventKind::Data,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE_STREAM: &str = "\n: hello\n\nretry: 1000\nid: n-0\ndata: {\"type\":\"connected\",\"userid\":\"u\"}\n\n\
                          id: n-1\ndata: {\"comment\":\"ü\"}\n\n\n\n: beat\n\nid:n-2\nevent: gap\ndata: {}\n\nid: n-3\nda";

    /// Scans the stream piece by piece. Returns the bytes that left the scanner, and the last event id.
    fn feed_in_pieces(pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut scanner = EventScanner::default();
        let (mut out, mut id) = (Vec::new(), None);
        for piece in pieces {
            let events = scanner.push_bytes(&Bytes::copy_from_slice(piece)).unwrap();
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
        assert_eq!(scanner.push_bytes(&piece), Ok(Bytes::new()));
        assert_eq!(scanner.push_bytes(&piece), Err(EventTooLong));
        assert_eq!(
            EventScanner::default().push_bytes(&Bytes::from(vec![b'x'; MAX_EVENT_BYTES + 1])),
            Err(EventTooLong)
        );
    }

    #[test]
    fn greetings_are_told_from_comments_that_quote_them() {
        assert_eq!(
            event_kind(b"id: n-1\ndata: {\"type\":\"connected\",\"userid\":\"u\"}\n\n"),
            EventKind::Connected
        );
        assert_eq!(
            event_kind(b"data: {\"id\":\"a\",\"comment\":\"{\\\"type\\\":\\\"connected\\\"\"}\n\n"),
            EventKind::Data
        );
        assert_eq!(event_kind(b": beat\n\n"), EventKind::WithoutData);
        assert_eq!(event_kind(b"retry: 5\n\n"), EventKind::WithoutData);
    }

    #[test]
    fn the_first_event_is_split_off() {
        let (head, tail) = split_first_event(&Bytes::from_static(b"a\n\nb\n\n"));
        assert_eq!((&head[..], &tail[..]), (&b"a\n\n"[..], &b"b\n\n"[..]));
        assert_eq!(split_first_event(&Bytes::from_static(b"\n")).0, "\n");
    }
}
