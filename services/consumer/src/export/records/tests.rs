use std::collections::BTreeMap;

use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, NameDigest, RuleName};
use liverank_core::{CommentId, Millis, UserId, VideoId};
use proptest::prelude::*;

use super::super::fixtures;
use super::*;

const TIME: Millis = 1_700_000_000_250;

fn comment(seq: u64, entry: EntryKind) -> Comment {
    let id = |id: &str| CommentId::parse(id).unwrap();
    Comment {
        id: id(&format!("c-{seq}")),
        user_id: UserId::parse("ann").unwrap(),
        video_id: VideoId::parse("cats").unwrap(),
        text: "hé".to_owned(),
        timestamp: TIME,
        seq,
        reply_to: Some(id("c-1")),
        entry,
    }
}

fn entry(offset: u64, entry: EntryKind) -> NumberedComment {
    NumberedComment { comment: comment(offset + 1, entry), partition: 4, offset }
}

fn held_at(offset: u64) -> HeldComment {
    let Comment { id, video_id: video, user_id: user, text, reply_to, timestamp, .. } =
        comment(9, EntryKind::Comment);
    let (rule, place) = (RuleName::Words.into(), (TIME + 1, 4, offset));
    HeldComment { id, video, user, text, reply_to, timestamp, rule, place }
}

fn action_at(offset: u64) -> StoredAuditEntry {
    let action = ModerationAction::Delete { comment_id: "c-1".parse().unwrap() };
    let done = Moderation { action, role: ActorRole::Moderator, reason: Some("spam".to_owned()) };
    let (user, video) = ("mia".parse().unwrap(), "cats".parse().unwrap());
    let record = done.into_record(user, Some(video), "m-1".parse().unwrap(), TIME);
    StoredAuditEntry { position: AuditPosition { time: TIME + 1, partition: 4, offset }, record: Ok(record) }
}

fn epoch() -> CommentEpoch {
    CommentEpoch::parse("e1").unwrap()
}

fn json_of(record: &ExportRecord) -> Value {
    serde_json::from_str(&record.value).unwrap()
}

/// Everything that a partition holds, in log order; an archive returns parts of it.
struct Partition(ArchiveEntries);

impl Partition {
    /// Returns a partition with entries at each of these offsets: an entry of each kind whose bit is set.
    fn of(offsets: &BTreeMap<u64, u8>) -> Self {
        let mut found = ArchiveEntries::default();
        for (offset, kinds) in offsets {
            if kinds & 1 > 0 {
                found.entries.push(entry(*offset, EntryKind::Comment));
            }
            if kinds & 2 > 0 {
                found.held_comments.push(held_at(*offset));
            }
            if kinds & 4 > 0 {
                found.audit.push(action_at(*offset));
            }
        }
        Self(found)
    }

    fn from(&self, offset: u64, limit: usize) -> ArchiveEntries {
        fn part<T: Clone>(all: &[T], from: u64, limit: usize, at: impl Fn(&T) -> u64) -> Vec<T> {
            all.iter().filter(|it| at(it) >= from).take(limit).cloned().collect()
        }
        ArchiveEntries {
            entries: part(&self.0.entries, offset, limit, |it| it.offset),
            audit: part(&self.0.audit, offset, limit, |it| it.position.offset),
            held_comments: part(&self.0.held_comments, offset, limit, |it| it.place.2),
        }
    }

    /// Returns all records before each of these ends, page by page, as an exporter asks for them.
    fn export(&self, limit: usize, ends: &[u64]) -> Vec<ExportRecord> {
        let (mut records, mut from) = (Vec::new(), 0);
        for end in ends {
            while from < *end {
                let page = build_page(&epoch(), self.from(from, limit), limit, *end);
                assert!(page.next > from && page.next <= *end, "{page:?} from {from} to {end}");
                records.extend(page.records);
                from = page.next;
            }
        }
        records
    }
}

proptest! {
    /// For any cut into pages, and any progress of the archive meanwhile.
    #[test]
    fn every_record_is_exported_once_and_in_log_order(
        offsets in proptest::collection::btree_map(0..40_u64, 1..8_u8, 0..30),
        limit in 1..6_usize,
        mut ends in proptest::collection::vec(0..45_u64, 0..6),
    ) {
        ends.sort_unstable();
        ends.push(45);
        let partition = Partition::of(&offsets);
        let all = partition.export(1000, &[45]);
        let count = |kind: u8| offsets.values().filter(|kinds| *kinds & kind > 0).count();
        prop_assert_eq!(all.len(), count(1) + count(2) + count(4));
        prop_assert!(all.iter().map(|record| json_of(record)["offset"].as_u64()).is_sorted());
        prop_assert_eq!(partition.export(limit, &ends), all);
    }
}

#[test]
fn a_page_ends_where_more_may_lie_and_never_beyond_the_end_asked_for() {
    let partition = Partition::of(&[(3, 1), (5, 7), (8, 4)].into());
    let next = |limit, to| build_page(&epoch(), partition.from(0, limit), limit, to).next;
    assert_eq!(next(10, 20), 20, "nothing is left out");
    assert_eq!(next(1, 20), 4, "there may be another entry behind the first one");
    assert_eq!(next(2, 20), 6);
    assert_eq!(next(10, 5), 5);
    let before = build_page(&epoch(), partition.from(0, 10), 10, 5);
    assert_eq!(before.records.len(), 1, "what the archive took meanwhile is the next page's");
}

#[test]
fn what_was_removed_before_it_was_exported_goes_out_without_text_and_name() {
    let gone = NumberedComment {
        comment: comment(3, EntryKind::Comment).into_removed(),
        ..entry(2, EntryKind::Comment)
    };
    let record = entry_record(&epoch(), &gone);
    assert!(!record.value.contains("hé") && !record.value.contains("ann"), "{record:?}");
    let value = json_of(&record);
    assert_eq!((&value["type"], &value["id"]), (&json!("removed"), &json!("e1-3")));
    assert_eq!(value["data"]["seq"], 3);
}

#[test]
fn actions_on_users_have_the_key_of_moderation_and_no_video() {
    let action = ModerationAction::EraseUser { user: NameDigest::of_user(&"ann".parse().unwrap()) };
    let done = Moderation { action, role: ActorRole::Service, reason: None };
    let record = done.into_record("ops".parse().unwrap(), None, "m-1".parse().unwrap(), TIME);
    let record = action_record(StoredAuditEntry { record: Ok(record), ..action_at(1) });
    assert_eq!(record.key, RECORDS_KEY);
    let value = json_of(&record);
    assert_eq!((value["data"].get("videoid"), &value["data"]["action"]), (None, &json!("erase_user")));
    let later = StoredAuditEntry { record: Err(UnknownRecord { version: Some(9) }), ..action_at(1) };
    assert_eq!(json_of(&action_record(later))["data"]["unknown_version"], 9);
}

/// The members of an envelope that a reader uses; it ignores the others.
type Read = (Value, Value, Value, Value);

fn read(value: &Value) -> Result<Read, String> {
    let data = value.get("data").ok_or("no data")?;
    let id = data.get("id").or_else(|| data.get("action_id")).ok_or("no id")?;
    Ok((value["version"].clone(), value["type"].clone(), value["offset"].clone(), id.clone()))
}

#[test]
fn exported_records_have_fixtures() {
    let deleted =
        EntryKind::Deleted { comment_id: "c-1".parse().unwrap(), of: 1, role: ActorRole::Moderator };
    let pinned = EntryKind::Pinned { comment_id: Some("c-1".parse().unwrap()), of: 1 };
    let of = |kind| entry_record(&epoch(), &entry(99, kind));
    let records = [
        ("export-comment", of(EntryKind::Comment)),
        ("export-shadowed", of(EntryKind::Shadowed)),
        ("export-removed", of(EntryKind::Removed)),
        ("export-deleted", of(deleted)),
        ("export-pinned", of(pinned)),
        ("export-held", held_record(held_at(99))),
        ("export-moderation", action_record(action_at(99))),
    ];
    for (name, record) in records {
        assert_eq!(record.key, "cats");
        let written = json_of(&record);
        let today = read(&written).unwrap();
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let write = |_: &Read| written.clone();
        fixtures::check(&fixtures::Format { directory, name, write, read }, &today);
    }
}
