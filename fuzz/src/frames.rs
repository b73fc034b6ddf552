//! Targets for data that arrive in pieces: a client's WebSocket frames, and the events of a reader's stream.

use bytes::Bytes;
use liverank_gateway::parsers::{EventScanner, EventTooLong, MAX_EVENT_BYTES, last_event_id};
use liverank_runtime::websocket::{FrameFollower, is_close_status};
use liverank_websocket::frame::{ClientMessage, FrameReader, ReadError};

use crate::connections::block_on;

/// Splits the rest of the bytes at the position that the first byte names.
fn split_by_first_byte(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(*first).min(rest.len()))
}

pub(crate) fn websocket(bytes: &[u8]) {
    let (one, other) = split_by_first_byte(bytes);
    let whole = [one, other].concat();
    let (mut at_once, mut in_pieces) = (FrameFollower::default(), FrameFollower::default());
    at_once.pass_all(&whole);
    in_pieces.pass_all(one);
    in_pieces.pass_all(other);
    let state = |frames: &FrameFollower| (frames.is_between_frames(), frames.has_close_frame());
    assert_eq!(state(&at_once), state(&in_pieces), "it matters where they are cut");
    block_on(read_along(&whole));
}

/// Checks that the follower of passing frames and the reader of frames agree where each frame ends.
async fn read_along(bytes: &[u8]) {
    let (mut rest, mut frames, mut at) = (bytes, FrameFollower::default(), 0);
    loop {
        // Each frame gets a new reader: the check is where frames end, not which frames make a message.
        let said = FrameReader::new(&mut rest).next_message().await;
        let read = bytes.len() - rest.len() - at;
        match said {
            Err(ReadError::Gone(_)) => return,
            Err(ReadError::ProtocolError(status)) => return assert!(is_close_status(status), "{status}"),
            Ok(said) => {
                assert_eq!(frames.pass_one_frame(&bytes[at..]), read, "a frame ends in one place");
                assert!(frames.is_between_frames());
                match said {
                    ClientMessage::Ping(payload) => assert!(payload.len() <= 125),
                    ClientMessage::Close(status) => {
                        return assert!(is_close_status(status) && frames.has_close_frame());
                    }
                    ClientMessage::OtherMessage => {}
                }
            }
        }
        at += read;
    }
}

pub(crate) fn stream(bytes: &[u8]) {
    let (one, other) = split_by_first_byte(bytes);
    let (mut whole, mut pieces) = (EventScanner::default(), EventScanner::default());
    let came = Bytes::from([one, other].concat());
    let expected = whole.push_bytes(&came);
    let events = pieces.push_bytes(&Bytes::copy_from_slice(one)).and_then(|first| {
        let second = pieces.push_bytes(&Bytes::copy_from_slice(other))?;
        Ok([first, second].concat())
    });
    let (Ok(expected), Ok(events)) = (&expected, &events) else {
        assert!(came.len() > MAX_EVENT_BYTES, "only what is too long is refused");
        return assert!(matches!(expected, Err(EventTooLong)) || matches!(events, Err(EventTooLong)));
    };
    assert_eq!(expected, events, "it matters where they are cut");
    assert!(came.starts_with(expected) && (expected.is_empty() || expected.ends_with(b"\n")));
    let id = last_event_id(expected);
    assert!(id.is_none_or(|id| !id.contains(&b'\n')));
}
