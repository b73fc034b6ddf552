//! One state of a list, encoded once for all clients who get it.

use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use liverank_core::ranking::RankedVideo;
use liverank_core::{Metadata, Millis, VideoId};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::boards::BoardPart;
use crate::frame;
use crate::line::{LineJson, ListLines};

/// The form in which a list is sent to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ListFormat {
    /// The whole list, each time it changes.
    List,
    /// A snapshot, then the changes of the list.
    Delta,
    /// The whole list of one owner, without the owner in each line, because who asked for the list knows the owner.
    OfOwner,
    /// A part of a board with the rank of its first line, each time it changes.
    Around,
}

/// One state of a list. Each state has a version: 1, 2, 3, … while somebody watches the list.
pub(crate) struct PublishedList {
    pub(crate) list_version: u64,
    format: ListFormat,
    lines: Vec<RankedVideo>,
    /// The metadata of each line; `None` if the list was asked for without.
    metadata: Option<Vec<Option<Metadata>>>,
    /// The rank of the first line, from 1.
    first_rank: usize,
    /// The number of videos on the board. If only this number changes, the list is not sent.
    total: usize,
    /// The time at which the log took the newest record of the change that the list shows; `None` if it is not known.
    pub(crate) logged_at: Option<Millis>,
    whole_frame: OnceLock<WholeFrame>,
    /// The number of lines at the beginning that are the same as in the previous version.
    unchanged_lines: usize,
    /// Frames of shorter lists that were cut from this one, each with its number of lines.
    truncated_frames: Mutex<Vec<(usize, Bytes)>>,
    /// The encoded changes from the previous version; `None` for the first version and for formats without deltas.
    delta: Option<Bytes>,
    encoded_lists: Counter,
}

/// An encoded frame of a whole list, and the offsets in its payload at which the lines end.
struct WholeFrame {
    frame: Bytes,
    line_ends: Vec<u32>,
}

/// The maximum number of frames of shortened lists that are kept, so that other clients with the same limit can be sent
/// them.
const MAX_TRUNCATED_FRAMES: usize = 32;

impl PublishedList {
    /// Makes the state that follows `before`; `None` if nothing changed.
    pub(crate) fn next_list(
        before: Option<&Self>,
        stretch: BoardPart,
        format: ListFormat,
        encodes: &Counter,
    ) -> Option<Self> {
        let BoardPart { lines, first_rank, total, metadata, logged_at } = stretch;
        let now = ListLines { ranked: &lines, metadata: metadata.as_deref() };
        let same = before.map_or(0, |before| now.common_prefix_len(before.lines()));
        let (version, delta) = match before {
            None => (1, None),
            Some(before) => {
                let is_same = same == lines.len() && before.len() == lines.len();
                if is_same && before.first_rank == first_rank {
                    return None;
                }
                let version = before.list_version + 1;
                let delta = (format == ListFormat::Delta).then(|| {
                    encodes.inc();
                    encode_delta(version, total, now.changes(before.lines()))
                });
                (version, delta)
            }
        };
        let (whole_frame, truncated_frames) = (OnceLock::new(), Mutex::default());
        let encoded_lists = encodes.clone();
        let next = Self {
            list_version: version,
            format,
            lines,
            metadata,
            first_rank,
            total,
            logged_at,
            whole_frame,
            unchanged_lines: same,
            truncated_frames,
            delta,
            encoded_lists,
        };
        if next.delta.is_none() {
            // Every watcher gets this frame: it is encoded here and not in a connection's task, because it may be long.
            next.whole_frame();
        }
        Some(next)
    }

    /// Returns the frame for a client that has the list's version `held` (`None`: no version): the changes if they
    /// follow that version, otherwise the whole list.
    pub(crate) fn frame_for(&self, held: Option<u64>) -> Bytes {
        match &self.delta {
            Some(delta) if held == Some(self.list_version - 1) => delta.clone(),
            _ => self.whole_frame().frame.clone(),
        }
    }

    fn lines(&self) -> ListLines<'_> {
        ListLines { ranked: &self.lines, metadata: self.metadata.as_deref() }
    }

    /// Returns the number of lines in the list.
    pub(crate) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns whether the first `lines` lines differ, or may differ, from those of the version `held`.
    pub(crate) fn differs_from_version(&self, held: Option<u64>, lines: usize) -> bool {
        held != Some(self.list_version - 1) || lines > self.unchanged_lines
    }

    /// Returns the frame with the first `lines` of the list: copied from the whole list, not encoded again. Must not be
    /// called for lists of the format [`ListFormat::Delta`].
    pub(crate) fn truncated_frame(&self, lines: usize) -> Bytes {
        let whole = self.whole_frame();
        let Some(end) = lines.checked_sub(1).and_then(|last| whole.line_ends.get(last)) else {
            return whole.frame.clone();
        };
        if lines >= whole.line_ends.len() {
            return whole.frame.clone();
        }
        let mut cuts = self.truncated_frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = cuts.iter().find(|(length, _)| *length == lines) {
            return frame.clone();
        }
        let payload = &whole.frame[frame::header_length(&whole.frame)..][..*end as usize];
        let frame = frame::encode_text(|frame| {
            frame.extend_from_slice(payload);
            frame.push(b']');
        });
        if cuts.len() < MAX_TRUNCATED_FRAMES {
            cuts.push((lines, frame.clone()));
        }
        frame
    }

    fn whole_frame(&self) -> &WholeFrame {
        self.whole_frame.get_or_init(|| {
            self.encoded_lists.inc();
            match self.format {
                ListFormat::List => encode_lines(self.lines().json()),
                ListFormat::Delta => {
                    let (kind, version, videos) =
                        ("snapshot", self.list_version, self.lines().json().collect());
                    let frame = encode(&SnapshotJson { r#type: kind, version, total: self.total, videos });
                    WholeFrame { frame, line_ends: Vec::new() }
                }
                ListFormat::Around => {
                    let (first_rank, total) = (self.first_rank, self.total);
                    let videos: Vec<_> = self.lines().json().collect();
                    let first_rank = (!videos.is_empty()).then_some(first_rank);
                    WholeFrame {
                        frame: encode(&AroundJson { first_rank, total, videos }),
                        line_ends: Vec::new(),
                    }
                }
                ListFormat::OfOwner => encode_lines(self.lines.iter().map(OwnerLineJson::of)),
            }
        })
    }
}

/// A line of an owner's list, as it is encoded for clients.
#[derive(Serialize)]
struct OwnerLineJson<'a> {
    video_id: &'a VideoId,
    score: f64,
}

impl<'a> OwnerLineJson<'a> {
    const fn of(line: &'a RankedVideo) -> Self {
        Self { video_id: &line.video_id, score: line.score }
    }
}

#[derive(Serialize)]
struct SnapshotJson<'a> {
    r#type: &'static str,
    version: u64,
    total: usize,
    videos: Vec<LineJson<'a>>,
}

/// A part of a board around a video, as it is encoded for clients.
#[derive(Serialize)]
struct AroundJson<'a> {
    /// The rank of the first line, from 1; null if there are no lines.
    first_rank: Option<usize>,
    total: usize,
    videos: Vec<LineJson<'a>>,
}

#[derive(Serialize)]
struct DeltaJson<'a> {
    r#type: &'static str,
    base: u64,
    version: u64,
    total: usize,
    remove: Vec<VideoId>,
    set: Vec<LineJson<'a>>,
}

fn encode_delta(version: u64, total: usize, changes: (Vec<VideoId>, Vec<LineJson<'_>>)) -> Bytes {
    let (remove, set) = changes;
    encode(&DeltaJson { r#type: "delta", base: version - 1, version, total, remove, set })
}

fn encode_lines<T: Serialize>(lines: impl ExactSizeIterator<Item = T>) -> WholeFrame {
    let mut ends = Vec::with_capacity(lines.len());
    let frame = frame::encode_text(|frame| {
        let start = frame.len();
        frame.push(b'[');
        for (at, line) in lines.enumerate() {
            if at > 0 {
                frame.push(b',');
            }
            serde_json::to_writer(&mut *frame, &line)
                .expect("strings and numbers always serialise to memory");
            ends.push((frame.len() - start) as u32);
        }
        frame.push(b']');
    });
    WholeFrame { frame, line_ends: ends }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    frame::encode_text(|frame| {
        serde_json::to_writer(frame, value).expect("strings and numbers always serialise to memory");
    })
}

#[cfg(test)]
mod tests {
    use liverank_core::UserId;

    use super::*;

    fn ranked_line(id: &str, score: f64) -> RankedVideo {
        RankedVideo { video_id: VideoId::parse(id).unwrap(), score, user_id: UserId::parse("o").unwrap() }
    }

    /// Makes the part with the best lines of a board of 7 videos.
    fn best_part(lines: Vec<RankedVideo>) -> BoardPart {
        BoardPart { lines, first_rank: 1, total: 7, ..BoardPart::default() }
    }

    /// Returns the text of a short frame.
    fn frame_text(frame: &Bytes) -> &str {
        let header = if frame[1] < 126 { 2 } else { 4 };
        str::from_utf8(&frame[header..]).unwrap()
    }

    #[test]
    fn a_list_is_encoded_once_however_many_get_it_and_not_at_all_where_nothing_changed() {
        let encodes = Counter::default();
        let first = PublishedList::next_list(
            None,
            best_part(vec![ranked_line("a", 1.0)]),
            ListFormat::List,
            &encodes,
        )
        .unwrap();
        let one = first.frame_for(None);
        let other = first.frame_for(Some(9));
        assert_eq!(one.as_ptr(), other.as_ptr());
        assert_eq!(frame_text(&one), r#"[{"video_id":"a","score":1.0,"user_id":"o"}]"#);
        assert!(
            PublishedList::next_list(
                Some(&first),
                best_part(vec![ranked_line("a", 1.0)]),
                ListFormat::List,
                &encodes
            )
            .is_none()
        );
        assert_eq!(encodes.get(), 1);
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let empty = |shape| {
            PublishedList::next_list(None, best_part(vec![]), shape, &Counter::default())
                .unwrap()
                .frame_for(None)
        };
        assert_eq!(frame_text(&empty(ListFormat::List)), "[]");
        assert_eq!(frame_text(&empty(ListFormat::OfOwner)), "[]");
        assert_eq!(
            frame_text(&empty(ListFormat::Delta)),
            r#"{"type":"snapshot","version":1,"total":7,"videos":[]}"#
        );
    }

    #[test]
    fn a_client_one_version_behind_gets_a_delta_and_others_a_snapshot() {
        let encodes = Counter::default();
        let first = PublishedList::next_list(
            None,
            best_part(vec![ranked_line("b", 2.0), ranked_line("a", 1.0)]),
            ListFormat::Delta,
            &encodes,
        )
        .unwrap();
        let second = PublishedList::next_list(
            Some(&first),
            best_part(vec![ranked_line("c", 3.0), ranked_line("b", 2.0)]),
            ListFormat::Delta,
            &encodes,
        )
        .unwrap();
        assert_eq!(encodes.get(), 2);
        let delta = r#"{"type":"delta","base":1,"version":2,"total":7,"remove":["a"],"set":[{"video_id":"c","score":3.0,"user_id":"o"}]}"#;
        assert_eq!(frame_text(&second.frame_for(Some(1))), delta);
        let third = PublishedList::next_list(
            Some(&second),
            best_part(vec![ranked_line("c", 3.0)]),
            ListFormat::Delta,
            &encodes,
        )
        .unwrap();
        for held in [None, Some(1)] {
            let snapshot = third.frame_for(held);
            assert!(frame_text(&snapshot).starts_with(r#"{"type":"snapshot","version":3,"#), "{held:?}");
        }
        assert_eq!(encodes.get(), 4);
    }

    #[test]
    fn a_cut_list_is_the_beginning_of_the_long_one_and_news_only_where_it_differs() {
        let encodes = Counter::default();
        let lines = |scores: [f64; 3]| {
            best_part(["a", "b", "c"].iter().zip(scores).map(|(id, score)| ranked_line(id, score)).collect())
        };
        let first =
            PublishedList::next_list(None, lines([9.0, 8.0, 7.0]), ListFormat::List, &encodes).unwrap();
        for length in 0..5 {
            let kept = PublishedList::next_list(
                None,
                best_part(first.lines[..length.min(3)].to_vec()),
                ListFormat::List,
                &Counter::default(),
            );
            let expected = kept.unwrap().frame_for(None);
            if length > 0 {
                assert_eq!(first.truncated_frame(length), expected, "{length}");
                assert_eq!(
                    first.truncated_frame(length).as_ptr(),
                    first.truncated_frame(length).as_ptr(),
                    "shared"
                );
            }
        }
        assert_eq!(encodes.get(), 1, "cut, not encoded");
        let second =
            PublishedList::next_list(Some(&first), lines([9.0, 8.0, 6.0]), ListFormat::List, &encodes)
                .unwrap();
        assert_eq!([1, 2, 3].map(|lines| second.differs_from_version(Some(1), lines)), [false, false, true]);
        assert!(second.differs_from_version(None, 1));
    }

    #[test]
    fn an_owner_s_list_leaves_the_owner_out() {
        let list = PublishedList::next_list(
            None,
            best_part(vec![ranked_line("a", 1.0)]),
            ListFormat::OfOwner,
            &Counter::default(),
        )
        .unwrap();
        assert_eq!(frame_text(&list.frame_for(None)), r#"[{"video_id":"a","score":1.0}]"#);
    }

    #[test]
    fn a_board_part_is_sent_when_its_place_or_its_lines_change() {
        let part = |first_rank, score, total| BoardPart {
            lines: vec![ranked_line("a", score)],
            first_rank,
            total,
            ..BoardPart::default()
        };
        let encodes = Counter::default();
        let after = |before, stretch| PublishedList::next_list(before, stretch, ListFormat::Around, &encodes);
        let first = after(None, part(4, 1.0, 7)).unwrap();
        let expected = r#"{"first_rank":4,"total":7,"videos":[{"video_id":"a","score":1.0,"user_id":"o"}]}"#;
        assert_eq!(frame_text(&first.frame_for(None)), expected);
        assert!(after(Some(&first), part(4, 1.0, 8)).is_none(), "nothing of it changed");
        assert!(after(Some(&first), part(4, 2.0, 7)).is_some());
        let moved = after(Some(&first), part(3, 1.0, 8)).unwrap();
        assert!(frame_text(&moved.frame_for(Some(1))).starts_with(r#"{"first_rank":3,"total":8,"#));
        let gone = after(Some(&first), BoardPart { total: 6, ..BoardPart::default() }).unwrap();
        assert_eq!(frame_text(&gone.frame_for(Some(1))), r#"{"first_rank":null,"total":6,"videos":[]}"#);
    }
}
