//! A line of a list as it is sent to clients.

use std::collections::{HashMap, HashSet};

use liverank_core::ranking::RankedVideo;
use liverank_core::{Metadata, UserId, VideoId};
use serde::Serialize;
use serde_json::value::RawValue;

/// One video's line in a list, as it is encoded for clients.
#[derive(Debug, Serialize)]
pub(crate) struct LineJson<'a> {
    video_id: &'a VideoId,
    score: f64,
    user_id: &'a UserId,
    /// The video's metadata; absent if the client did not ask for metadata, and in a delta if they have not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataJson<'a>>,
}

/// The metadata of a line; encoded as null if the video has none.
#[derive(Debug, Serialize)]
struct MetadataJson<'a>(Option<&'a RawValue>);

impl<'a> LineJson<'a> {
    fn new(line: &'a RankedVideo, metadata: Option<&'a Option<Metadata>>) -> Self {
        let RankedVideo { video_id, score, user_id } = line;
        let metadata = metadata.map(|it| MetadataJson(it.as_ref().and_then(raw_metadata)));
        Self { video_id, score: *score, user_id, metadata }
    }
}

/// Returns the metadata's JSON text as it is, without parsing it into values and encoding them again.
fn raw_metadata(metadata: &Metadata) -> Option<&RawValue> {
    serde_json::from_str(metadata.as_str()).ok()
}

/// The lines of a list, with their metadata if these are asked for.
#[derive(Clone, Copy)]
pub(crate) struct ListLines<'a> {
    pub(crate) ranked: &'a [RankedVideo],
    pub(crate) metadata: Option<&'a [Option<Metadata>]>,
}

impl<'a> ListLines<'a> {
    /// Returns each line with its metadata; `None` for the metadata if the list was asked for without.
    fn pairs(self) -> impl ExactSizeIterator<Item = (&'a RankedVideo, Option<&'a Option<Metadata>>)> {
        let metadata = move |at: usize| self.metadata.and_then(|all| all.get(at));
        self.ranked.iter().enumerate().map(move |(at, line)| (line, metadata(at)))
    }

    /// Returns the lines as they are encoded for clients.
    pub(crate) fn json(self) -> impl ExactSizeIterator<Item = LineJson<'a>> {
        self.pairs().map(|(line, metadata)| LineJson::new(line, metadata))
    }

    /// Returns the number of lines at the beginning that are the same as those of another list, metadata included.
    pub(crate) fn common_prefix_len(self, other: ListLines<'_>) -> usize {
        self.pairs().zip(other.pairs()).take_while(|(one, other)| one == other).count()
    }

    /// Returns the changes from the list `before` to this one: the videos that are no longer in it, and the lines that
    /// are new or changed. A changed line includes metadata only if the client does not have the same metadata already.
    pub(crate) fn changes(self, before: ListLines<'a>) -> (Vec<VideoId>, Vec<LineJson<'a>>) {
        let kept: HashSet<&VideoId> = self.ranked.iter().map(|line| &line.video_id).collect();
        let gone = before.ranked.iter().map(|line| &line.video_id).filter(|id| !kept.contains(id));
        let old: HashMap<&VideoId, _> = before.pairs().map(|pair| (&pair.0.video_id, pair)).collect();
        let changed = |(line, metadata): (&'a RankedVideo, Option<&'a Option<Metadata>>)| {
            let was = old.get(&line.video_id);
            let is_other = was.is_none_or(|(_, was)| *was != metadata);
            let is_changed = is_other || was.is_none_or(|(was, _)| *was != line);
            is_changed.then(|| LineJson::new(line, metadata.filter(|_| is_other)))
        };
        (gone.cloned().collect(), self.pairs().filter_map(changed).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Makes a list of videos, each given as the number of its id, a score, and the number of a title (0: no metadata).
    fn list(of: &[(u8, u8, u8)]) -> (Vec<RankedVideo>, Vec<Option<Metadata>>) {
        let line = |&(id, score, _): &(u8, u8, u8)| RankedVideo {
            video_id: VideoId::parse(&format!("v{id}")).unwrap(),
            score: f64::from(score),
            user_id: UserId::parse("o").unwrap(),
        };
        let metadata = |&(_, _, title): &(u8, u8, u8)| {
            (title > 0).then(|| Metadata::from_value(&json!({ "title": format!("t{title}") })).unwrap())
        };
        (of.iter().map(line).collect(), of.iter().map(metadata).collect())
    }

    fn by_id(lines: &Value) -> std::collections::BTreeMap<String, Value> {
        let line = |line: &Value| (line["video_id"].as_str().unwrap().to_owned(), line.clone());
        lines.as_array().unwrap().iter().map(line).collect()
    }

    proptest! {
        /// A client that has a list and applies the changes to it, member by member, has the next list. Metadata that
        /// did not change are not sent again.
        #[test]
        fn changes_lead_from_list_to_list(
            lists in proptest::collection::vec(proptest::collection::btree_map(0..6_u8, (0..3_u8, 0..3_u8), 0..6), 2..6),
        ) {
            let lists: Vec<_> = lists
                .iter()
                .map(|lines| list(&lines.iter().map(|(id, (score, title))| (*id, *score, *title)).collect::<Vec<_>>()))
                .collect();
            let lines = |(ranked, metadata): &'_ (Vec<RankedVideo>, Vec<Option<Metadata>>)| {
                (ranked.clone(), metadata.clone())
            };
            let mut held = std::collections::BTreeMap::new();
            let mut before = lines(&(vec![], vec![]));
            for list in &lists {
                let now = ListLines { ranked: &list.0, metadata: Some(&list.1) };
                let was = ListLines { ranked: &before.0, metadata: Some(&before.1) };
                let (remove, set) = now.changes(was);
                for id in &remove {
                    prop_assert!(held.remove(id.as_str()).is_some());
                }
                for line in &set {
                    let told = serde_json::to_value(line).unwrap();
                    let old: &mut Value = held.entry(line.video_id.to_string()).or_insert_with(|| json!({}));
                    prop_assert!(old.get("metadata") != told.get("metadata"), "told again: {}", told);
                    let members = told.as_object().unwrap().clone();
                    old.as_object_mut().unwrap().extend(members);
                }
                let whole = serde_json::to_value(now.json().collect::<Vec<_>>()).unwrap();
                prop_assert_eq!(&held, &by_id(&whole));
                before = lines(list);
            }
        }
    }

    #[test]
    fn metadata_come_as_they_are_and_only_where_they_are_asked_for() {
        let (ranked, metadata) = list(&[(1, 5, 2), (2, 4, 0)]);
        let text = |metadata| {
            serde_json::to_string(&ListLines { ranked: &ranked, metadata }.json().collect::<Vec<_>>())
        };
        assert_eq!(
            text(Some(&metadata)).unwrap(),
            r#"[{"video_id":"v1","score":5.0,"user_id":"o","metadata":{"title":"t2"}},{"video_id":"v2","score":4.0,"user_id":"o","metadata":null}]"#
        );
        assert!(!text(None).unwrap().contains("metadata"));
        // A change of a title alone makes the lists different.
        let (_, other) = list(&[(1, 5, 2), (2, 4, 1)]);
        let (one, two) = (Some(&metadata[..]), Some(&other[..]));
        let lines = |metadata| ListLines { ranked: &ranked, metadata };
        assert_eq!(
            (lines(one).common_prefix_len(lines(two)), lines(one).common_prefix_len(lines(one))),
            (1, 2)
        );
    }
}
