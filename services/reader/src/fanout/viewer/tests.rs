use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::{CommentId, UserId, VideoId};
use proptest::prelude::*;

use super::*;
use crate::fanout::tests::hub;
use crate::viewer_zone::ViewerZone;

/// A socket that accepts as many bytes in each write as the test says, then none; it keeps the bytes accepted.
#[derive(Clone, Default)]
struct ScriptedSocket(Arc<Mutex<(VecDeque<usize>, Vec<u8>)>>);

impl Read for ScriptedSocket {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for ScriptedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        match state.0.pop_front() {
            None | Some(0) => Err(io::ErrorKind::WouldBlock.into()),
            Some(takes) => {
                let count = takes.min(bytes.len());
                state.1.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn comment(seq: u64) -> Comment {
    Comment {
        id: CommentId::parse(&format!("c{seq}")).unwrap(),
        user_id: UserId::parse("u").unwrap(),
        video_id: VideoId::parse("v").unwrap(),
        text: "x".repeat(seq as usize % 7),
        timestamp: 0,
        seq,
        entry: liverank_core::comment::EntryKind::Comment,
        reply_to: None,
    }
}

/// Runs a viewer of a ring of `ring` comments through steps, each of which posts comments and then lets the socket
/// accept so many bytes. Returns the stream that the viewer got, the number of comments posted, and the number counted
/// as written.
fn stream_after_steps(ring: usize, steps: &[(u64, Vec<usize>)]) -> (String, u64, u64) {
    let numbering = CommentEpoch::parse("n").unwrap();
    let hub = hub(ring);
    let seat = hub.add_viewer(&VideoId::parse("v").unwrap(), None, ViewerZone::Unknown).unwrap();
    let room = Arc::clone(&seat.channel);
    room.note_head(&numbering, 0);
    let socket = ScriptedSocket::default();
    let mut viewer = ConnectedViewer::new(
        seat,
        room.cursor_from_now(),
        StreamForm::Resuming,
        Bytes::from_static(b"HEAD\n\n"),
    )
    .with_socket(socket.clone());
    let mut seq = 0;
    for (comments, takes) in steps.iter().chain([&(0, vec![usize::MAX; 100])]) {
        for _ in 0..*comments {
            seq += 1;
            room.push(&numbering, &comment(seq));
        }
        room.show_due(Instant::now());
        assert_ne!(viewer.write_turn(), StateAfterTurn::Gone);
        socket.0.lock().unwrap().0.extend(takes);
        // A full socket reports later that it can be written to again.
        for _ in 0..=takes.len() {
            while viewer.on_writable() == StateAfterTurn::HasMore {}
        }
    }
    let text = String::from_utf8(socket.0.lock().unwrap().1.clone()).unwrap();
    (text, seq, hub.metrics.messages_written.get())
}

/// Returns the sequence numbers in a stream, with gaps as negative ones (`-from`, `-to`); checks that each event is
/// whole.
fn numbers_in_stream(text: &str) -> Vec<i64> {
    let events = text.strip_prefix("HEAD\n\n").unwrap().strip_suffix("\n\n").unwrap_or_default();
    let mut numbers = Vec::new();
    for event in events.split("\n\n").filter(|event| !event.is_empty()) {
        let lines: Vec<&str> = event.lines().collect();
        match lines[..] {
            [id, data] => {
                let seq = id.strip_prefix("id: n-").unwrap();
                let json: serde_json::Value =
                    serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(json["seq"].to_string(), seq);
                numbers.push(seq.parse().unwrap());
            }
            ["event: gap", _, data] => {
                let json: serde_json::Value =
                    serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                numbers.extend([-json["from"].as_i64().unwrap(), -json["to"].as_i64().unwrap()]);
            }
            _ => panic!("half an event: {event:?}"),
        }
    }
    numbers
}

proptest! {
    #[test]
    fn events_arrive_whole_and_in_order_on_a_slow_socket(
        steps in proptest::collection::vec(
            (0u64..20, proptest::collection::vec(0usize..400, 0..12)), 0..12),
        ring in 4usize..40,
    ) {
        let (text, last, messages) = stream_after_steps(ring, &steps);
        let (mut at, mut comments) = (0, 0);
        let mut items = numbers_in_stream(&text).into_iter();
        while let Some(item) = items.next() {
            prop_assert_eq!(item.abs(), at + 1);
            if item < 0 {
                at = -items.next().unwrap();
            } else {
                at = item;
                comments += 1;
            }
        }
        prop_assert_eq!(at, last as i64);
        prop_assert_eq!(comments, messages);
    }
}

#[test]
fn a_full_socket_keeps_no_more_than_the_rest_of_one_event_waiting() {
    let numbering = CommentEpoch::parse("n").unwrap();
    let hub = hub(100);
    let seat = hub.add_viewer(&VideoId::parse("v").unwrap(), None, ViewerZone::Unknown).unwrap();
    let room = Arc::clone(&seat.channel);
    room.note_head(&numbering, 0);
    let socket = ScriptedSocket::default();
    socket.0.lock().unwrap().0.extend([10]);
    let mut viewer = ConnectedViewer::new(seat, room.cursor_from_now(), StreamForm::Resuming, Bytes::new())
        .with_socket(socket);
    for seq in 1..=50 {
        room.push(&numbering, &comment(seq));
    }
    room.show_due(Instant::now());
    assert_eq!(viewer.write_turn(), StateAfterTurn::Waits);
    let first = sse::comment_event(&numbering, &comment(1));
    assert_eq!(viewer.unwritten_bytes, first[10..]);
    assert!(matches!(viewer.cursor, RingCursor::At { seen: 1, .. }));
    assert_eq!(hub.metrics.messages_written.get(), 1);
}

#[test]
fn the_event_in_which_writing_stopped_is_found() {
    let events = b"ab\n\nc\n\n";
    let ends: Vec<usize> = (0..=events.len()).map(|written| event_end(events, written)).collect();
    assert_eq!(ends, [0, 4, 4, 4, 4, 7, 7, 7]);
}
