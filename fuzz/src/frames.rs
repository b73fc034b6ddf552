//! What goes by piece by piece: WebSocket frames of a client, and the events of a reader's stream.

use bytes::Bytes;
use liverank_gateway::parsers::{MAX_EVENT_BYTES, Scanner, TooLong, last_id};
use liverank_runtime::websocket::{Frames, is_close_status};
use liverank_websocket::frame::{ReadError, Reader, Said};

use crate::connections::block_on;

/// Where to cut the rest: the first byte says.
fn split_by_first_byte(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(*first).min(rest.len()))
}

pub(crate) fn websocket(bytes: &[u8]) {
    let (one, other) = split_by_first_byte(bytes);
    let whole = [one, other].concat();
    let (mut at_once, mut in_pieces) = (Frames::default(), Frames::default());
    at_once.all(&whole);
    in_pieces.all(one);
    in_pieces.all(other);
    let state = |frames: &Frames| (frames.is_between(), frames.is_closed());
    assert_eq!(state(&at_once), state(&in_pieces), "it matters where they are cut");
    block_on(read_along(&whole));
}

/// What follows frames as they go by and what reads them agree about where each ends.
async fn read_along(bytes: &[u8]) {
    let (mut rest, mut frames, mut at) = (bytes, Frames::default(), 0);
    loop {
        // A reader for each frame: which frames make a message is another question than where they end.
        let said = Reader::new(&mut rest).next().await;
        let read = bytes.len() - rest.len() - at;
        match said {
            Err(ReadError::Gone(_)) => return,
            Err(ReadError::Wrong(status)) => return assert!(is_close_status(status), "{status}"),
            Ok(said) => {
                assert_eq!(frames.one(&bytes[at..]), read, "a frame ends in one place");
                assert!(frames.is_between());
                match said {
                    Said::Ping(payload) => assert!(payload.len() <= 125),
                    Said::Close(status) => return assert!(is_close_status(status) && frames.is_closed()),
                    Said::Something => {}
                }
            }
        }
        at += read;
    }
}

pub(crate) fn stream(bytes: &[u8]) {
    let (one, other) = split_by_first_byte(bytes);
    let (mut whole, mut pieces) = (Scanner::default(), Scanner::default());
    let came = Bytes::from([one, other].concat());
    let expected = whole.feed(&came);
    let events = pieces.feed(&Bytes::copy_from_slice(one)).and_then(|first| {
        let second = pieces.feed(&Bytes::copy_from_slice(other))?;
        Ok([first, second].concat())
    });
    let (Ok(expected), Ok(events)) = (&expected, &events) else {
        assert!(came.len() > MAX_EVENT_BYTES, "only what is too long is refused");
        return assert!(matches!(expected, Err(TooLong)) || matches!(events, Err(TooLong)));
    };
    assert_eq!(expected, events, "it matters where they are cut");
    assert!(came.starts_with(expected) && (expected.is_empty() || expected.ends_with(b"\n")));
    let id = last_id(expected);
    assert!(id.is_none_or(|id| !id.contains(&b'\n')));
}
