//! The cursor of a page as text for a URL: the bits of the score and the bytes of the video's id, in hexadecimal
//! digits.
//!
//! A cursor only tells at which place of a list the next page begins. So any text of the right form is accepted, even
//! if no page ended there: the page then begins at the place that the text names.

use liverank_adapters::ranking_store::BoardCursor;
use liverank_core::comment::to_hex;
use liverank_core::ids::MAX_ID_BYTES;
use liverank_core::ranking::{RankedVideo, Score};
use liverank_core::{Invalid, VideoId};

/// Number of bytes of the score in a cursor.
const SCORE_BYTES: usize = 8;

/// Returns the cursor of the page after the page that ends with `last`.
pub fn cursor_after(last: &RankedVideo) -> String {
    let mut bytes = Vec::with_capacity(SCORE_BYTES + last.video_id.as_str().len());
    bytes.extend_from_slice(&last.score.to_bits().to_be_bytes());
    bytes.extend_from_slice(last.video_id.as_str().as_bytes());
    to_hex(&bytes)
}

/// Parses a cursor; returns an error if it does not have the form of one.
pub fn parse_cursor(text: &str) -> Result<BoardCursor, Invalid> {
    let wrong = || Invalid::new("cursor", "must be the `next` of an earlier page");
    let bytes = from_hex(text).ok_or_else(wrong)?;
    let (score, id) = bytes.split_first_chunk::<SCORE_BYTES>().ok_or_else(wrong)?;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(wrong());
    }
    let score = Score::new(f64::from_bits(u64::from_be_bytes(*score))).get();
    Ok(BoardCursor { score, video_id: VideoId::parse(&readable_id(id)).map_err(|_| wrong())? })
}

/// Returns the id as text. Bytes that are not UTF-8, which no cursor from this gateway has, are replaced, and the id
/// does not become longer than an id may be.
fn readable_id(id: &[u8]) -> String {
    let text = String::from_utf8_lossy(id);
    let mut text = text.replace(|c: char| c.is_control(), "?");
    text.truncate(text.floor_char_boundary(MAX_ID_BYTES));
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use liverank_core::UserId;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_round_trip(score: f64, id in "\\PC{1,64}") {
            let Ok(video_id) = VideoId::parse(&id) else { return Ok(()) };
            let last = RankedVideo { video_id, score, user_id: UserId::parse("o").unwrap() };
            let cursor = parse_cursor(&cursor_after(&last)).unwrap();
            prop_assert_eq!(cursor.video_id, last.video_id);
            prop_assert_eq!(Score::new(cursor.score), Score::new(score));
        }

        #[test]
        fn any_well_formed_cursor_is_accepted(bytes in proptest::collection::vec(any::<u8>(), 9..=264)) {
            prop_assert!(parse_cursor(&to_hex(&bytes)).is_ok());
        }
    }

    #[test]
    fn a_malformed_cursor_is_refused_by_name() {
        let long = "61".repeat(8 + 257);
        for bad in ["", "a", "zz", "3FF0000000000000aa", "3ff0000000000000", "3ff0000000000000a", &long, "ü"]
        {
            assert_eq!(parse_cursor(bad).unwrap_err().field, "cursor", "{bad:?}");
        }
    }
}
