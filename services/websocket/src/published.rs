//! One state of a list, encoded once for all who get it.

use std::sync::OnceLock;

use bytes::Bytes;
use liverank_core::VideoId;
use liverank_core::ranking::{Delta, Ranked};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::frame;

/// What a list looks like to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The whole list, each time.
    List,
    /// A snapshot, then changes of it.
    Delta,
    /// The whole list without its owner, whom everyone knows who asked for it.
    Owned,
}

/// A list at a version of its own: 1, 2, 3, … while somebody watches it.
pub(crate) struct Published {
    pub(crate) version: u64,
    shape: Shape,
    lines: Vec<Ranked>,
    whole: OnceLock<Bytes>,
    /// The change from the version before this one.
    delta: Option<Bytes>,
    encodes: Counter,
}

impl Published {
    /// The list after `before`; `None` where nothing changed.
    pub(crate) fn after(
        before: Option<&Self>,
        lines: Vec<Ranked>,
        shape: Shape,
        encodes: &Counter,
    ) -> Option<Self> {
        let (version, delta) = match before {
            None => (1, None),
            Some(before) if before.lines == lines => return None,
            Some(before) => {
                let version = before.version + 1;
                let delta = (shape == Shape::Delta).then(|| {
                    encodes.inc();
                    encode_delta(version, &Delta::between(&before.lines, &lines))
                });
                (version, delta)
            }
        };
        let next = Self { version, shape, lines, whole: OnceLock::new(), delta, encodes: encodes.clone() };
        if next.delta.is_none() {
            // Everyone gets it: better here than in a connection's task, for it may be long.
            next.whole();
        }
        Some(next)
    }

    /// What a client gets who holds the version `held`, or nothing.
    pub(crate) fn frame_for(&self, held: Option<u64>) -> Bytes {
        match &self.delta {
            Some(delta) if held == Some(self.version - 1) => delta.clone(),
            _ => self.whole().clone(),
        }
    }

    fn whole(&self) -> &Bytes {
        self.whole.get_or_init(|| {
            self.encodes.inc();
            match self.shape {
                Shape::List => encode(&self.lines),
                Shape::Delta => {
                    let (kind, version, videos) = ("snapshot", self.version, &self.lines[..]);
                    encode(&SnapshotJson { r#type: kind, version, videos })
                }
                Shape::Owned => encode(&self.lines.iter().map(OwnedJson::of).collect::<Vec<_>>()),
            }
        })
    }
}

/// A line of an owner's list.
#[derive(Serialize)]
struct OwnedJson<'a> {
    video_id: &'a VideoId,
    score: f64,
}

impl<'a> OwnedJson<'a> {
    const fn of(line: &'a Ranked) -> Self {
        Self { video_id: &line.video_id, score: line.score }
    }
}

#[derive(Serialize)]
struct SnapshotJson<'a> {
    r#type: &'static str,
    version: u64,
    videos: &'a [Ranked],
}

#[derive(Serialize)]
struct DeltaJson<'a> {
    r#type: &'static str,
    base: u64,
    version: u64,
    #[serde(flatten)]
    delta: &'a Delta,
}

fn encode_delta(version: u64, delta: &Delta) -> Bytes {
    encode(&DeltaJson { r#type: "delta", base: version - 1, version, delta })
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    frame::text(|frame| {
        serde_json::to_writer(frame, value).expect("strings and numbers always serialise to memory");
    })
}

#[cfg(test)]
mod tests {
    use liverank_core::UserId;

    use super::*;

    fn line(id: &str, score: f64) -> Ranked {
        Ranked { video_id: VideoId::parse(id).unwrap(), score, user_id: UserId::parse("o").unwrap() }
    }

    /// The text of a short frame.
    fn text(frame: &Bytes) -> &str {
        let header = if frame[1] < 126 { 2 } else { 4 };
        str::from_utf8(&frame[header..]).unwrap()
    }

    #[test]
    fn a_list_is_encoded_once_however_many_get_it_and_not_at_all_where_nothing_changed() {
        let encodes = Counter::default();
        let first = Published::after(None, vec![line("a", 1.0)], Shape::List, &encodes).unwrap();
        let one = first.frame_for(None);
        let other = first.frame_for(Some(9));
        assert_eq!(one.as_ptr(), other.as_ptr());
        assert_eq!(text(&one), r#"[{"video_id":"a","score":1.0,"user_id":"o"}]"#);
        assert!(Published::after(Some(&first), vec![line("a", 1.0)], Shape::List, &encodes).is_none());
        assert_eq!(encodes.get(), 1);
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let empty =
            |shape| Published::after(None, vec![], shape, &Counter::default()).unwrap().frame_for(None);
        assert_eq!(text(&empty(Shape::List)), "[]");
        assert_eq!(text(&empty(Shape::Owned)), "[]");
        assert_eq!(text(&empty(Shape::Delta)), r#"{"type":"snapshot","version":1,"videos":[]}"#);
    }

    #[test]
    fn who_holds_the_version_before_gets_the_change_and_everyone_else_a_snapshot() {
        let encodes = Counter::default();
        let first =
            Published::after(None, vec![line("b", 2.0), line("a", 1.0)], Shape::Delta, &encodes).unwrap();
        let second =
            Published::after(Some(&first), vec![line("c", 3.0), line("b", 2.0)], Shape::Delta, &encodes)
                .unwrap();
        assert_eq!(encodes.get(), 2);
        let delta = r#"{"type":"delta","base":1,"version":2,"remove":["a"],"set":[{"video_id":"c","score":3.0,"user_id":"o"}]}"#;
        assert_eq!(text(&second.frame_for(Some(1))), delta);
        let third = Published::after(Some(&second), vec![line("c", 3.0)], Shape::Delta, &encodes).unwrap();
        for held in [None, Some(1)] {
            let snapshot = third.frame_for(held);
            assert!(text(&snapshot).starts_with(r#"{"type":"snapshot","version":3,"#), "{held:?}");
        }
        assert_eq!(encodes.get(), 4);
    }

    #[test]
    fn an_owner_s_list_leaves_the_owner_out() {
        let list = Published::after(None, vec![line("a", 1.0)], Shape::Owned, &Counter::default()).unwrap();
        assert_eq!(text(&list.frame_for(None)), r#"[{"video_id":"a","score":1.0}]"#);
    }
}
