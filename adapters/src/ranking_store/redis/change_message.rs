//! Parses the values of the boards' keys and the messages of their channel.

use liverank_core::trace::{TraceContext, lenient};
use liverank_core::{Invalid, Millis, UserId, VideoId};
use serde::Deserialize;

use super::super::{BoardChange, BoardEntry};
use super::{FORMAT, PART_NAME};
use crate::StoreError;

pub(super) fn damaged_message(what: impl std::fmt::Display) -> StoreError {
    StoreError::unusable(PART_NAME, format!("the boards hold {what}: remove them, they are made again"))
}

pub(super) fn parse_video_id(text: &str) -> Result<VideoId, StoreError> {
    VideoId::parse(text).map_err(|error: Invalid| damaged_message(format!("a wrong id ({error})")))
}

pub(super) fn parse_owner(video: &str, text: &str) -> Result<UserId, StoreError> {
    UserId::parse(text).map_err(|error: Invalid| damaged_message(format!("no owner of {video:?} ({error})")))
}

pub(super) fn parse_score(text: &str) -> Result<f64, StoreError> {
    text.parse().map_err(|_| damaged_message(format!("{text:?} for a score")))
}

pub(super) fn parse_number(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| damaged_message(format!("{text:?} for a whole number")))
}

/// A published change. Scores are texts, because JSON readers differ in how they round numbers of 17 digits.
#[derive(Deserialize)]
struct ChangeMessage {
    format: u32,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    entries: Vec<(VideoId, UserId, String, String)>,
    /// The revision of each entry. Releases without revisions send none, and ignore them.
    #[serde(default)]
    revisions: Vec<u64>,
    /// The videos that have other metadata now. Releases without metadata ignore this member.
    #[serde(default)]
    described: Vec<VideoId>,
    /// The trace spans of the events that made the change. Releases without traces ignore this member.
    #[serde(default, deserialize_with = "lenient::read_some")]
    traces: Vec<TraceContext>,
    /// The time at which the log appended the newest record of the change. Releases that do not measure the age of
    /// lists ignore this member.
    #[serde(default)]
    logged_at: Option<Millis>,
    #[serde(default)]
    reset: bool,
}

pub(super) fn decode_change(payload: &[u8]) -> Option<BoardChange> {
    let told: ChangeMessage = serde_json::from_slice(payload).ok()?;
    if told.format != FORMAT {
        return None;
    }
    if told.reset {
        return Some(BoardChange::Reset);
    }
    let revisions = told.revisions.into_iter().chain(std::iter::repeat(0));
    let entries = told
        .entries
        .into_iter()
        .zip(revisions)
        .map(|((video_id, owner, score, trending), revision)| {
            let trending = if trending.is_empty() { None } else { Some(trending.parse().ok()?) };
            // A video that was taken off the boards has no score.
            let removed = score.is_empty();
            let score = if removed { 0.0 } else { score.parse().ok()? };
            Some(BoardEntry { video_id, owner, score, trending, revision, removed })
        })
        .collect::<Option<Vec<_>>>()?;
    let ChangeMessage { version, described, traces, logged_at, .. } = told;
    Some(BoardChange::Changed { version, entries, described, traces, logged_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_to_the_last_digit_and_anything_else_is_not() {
        let payload = br#"{"format":1,"version":7,"entries":[["v\/1","u","12.345000000000001","0.1"],["w","u","1e+20",""]]}"#;
        let Some(BoardChange::Changed { version: 7, entries, described, traces, logged_at: None }) =
            decode_change(payload)
        else {
            panic!("is a change")
        };
        assert_eq!((described, traces), (vec![], vec![]));
        assert_eq!(
            (entries[0].score.to_bits(), entries[0].trending),
            ("12.345000000000001".parse::<f64>().unwrap().to_bits(), Some(0.1))
        );
        assert_eq!((entries[1].score, entries[1].trending), (1e20, None));
        assert_eq!((entries[1].revision, entries[1].removed), (0, false));
        let payload =
            br#"{"format":1,"version":8,"entries":[["v","u","",""],["w","u","1","2"]],"revisions":[7,9]}"#;
        let Some(BoardChange::Changed { version: 8, entries, .. }) = decode_change(payload) else {
            panic!("is a change")
        };
        assert_eq!((entries[0].revision, entries[0].removed), (7, true));
        assert_eq!((entries[1].revision, entries[1].removed), (9, false));
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let payload = format!(r#"{{"format":1,"version":9,"entries":[],"traces":["{trace}","nonsense",7]}}"#);
        let Some(BoardChange::Changed { traces, .. }) = decode_change(payload.as_bytes()) else {
            panic!("is a change")
        };
        assert_eq!(traces.iter().map(ToString::to_string).collect::<Vec<_>>(), [trace]);
        assert_eq!(decode_change(br#"{"format":1,"reset":true}"#), Some(BoardChange::Reset));
        for other in [&b"{}"[..], b"", b"null", br#"{"format":2,"reset":true}"#] {
            assert_eq!(decode_change(other), None);
        }
    }
}
