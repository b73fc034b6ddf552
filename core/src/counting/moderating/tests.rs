use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::{Batch, CountingRules, CountingSetup, UniqueMark, apply_batch, apply_moderated_batch};
use super::*;
use crate::decays::CountedDecays;
use crate::moderation::{Moderation, Restriction, ReviewOutcome, RuleBook, RuleScope};
use crate::windows::CountedWindows;
use crate::{Metadata, Millis};

mod reports;

fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn record_at(offset: u64, event: Interaction) -> LogRecord {
    LogRecord { partition: 0, offset, broker_time: 1_700_000_000_000 + offset as Millis, event }
}

fn comment_record(offset: u64, on: &str, id: &str, by: &str) -> LogRecord {
    let value =
        json!({"video_id": on, "user_id": by, "type": "comment", "comment_id": id, "comment": "words"});
    record_at(offset, Interaction::parse(&value, 1).unwrap())
}

fn moderation_record(
    offset: u64,
    on: Option<&str>,
    by: &str,
    role: ActorRole,
    action: ModerationAction,
) -> LogRecord {
    let id = format!("m{offset}").parse().unwrap();
    let moderation = Moderation { action, role, reason: Some("why".into()) };
    record_at(offset, moderation.into_record(user(by), on.map(video), id, 1))
}

fn delete_record(offset: u64, on: &str, id: &str, by: &str, role: ActorRole) -> LogRecord {
    moderation_record(
        offset,
        Some(on),
        by,
        role,
        ModerationAction::Delete { comment_id: id.parse().unwrap() },
    )
}

/// What an archive holds after these records were committed in these pieces.
#[derive(Debug, Default, PartialEq)]
struct ModelArchive {
    videos: BTreeMap<VideoId, VideoState>,
    comments: BTreeMap<(VideoId, u64), Comment>,
    sightings: BTreeMap<String, Millis>,
    revision: u64,
    rules: BTreeMap<String, RuleChange>,
    held: BTreeMap<(VideoId, CommentId), HeldComment>,
    reports: BTreeMap<(VideoId, CommentId), ReportedComment>,
    audit: Vec<AuditEntry>,
}

impl ModelArchive {
    fn commit(&mut self, records: &[LogRecord]) {
        let newest = |(on, id): (&VideoId, &CommentId)| {
            let of_video = self.comments.range((on.clone(), 0)..=(on.clone(), u64::MAX));
            of_video.rev().map(|(_, comment)| comment).find(|comment| comment.id == *id).cloned()
        };
        let by_number = |(on, seq): (&VideoId, u64)| self.comments.get(&(on.clone(), seq)).cloned();
        let found =
            target_comments(records).filter_map(newest).chain(targets_by_seq(records).filter_map(by_number));
        let batch = Batch { offset_ranges: vec![], records: records.to_vec() };
        let reported = batch.reported_comments().into_iter();
        let reported = reported.filter_map(|(on, id)| self.reports.get(&(on.clone(), id.clone())).cloned());
        let reports = reported.collect();
        let moderated = StoredModeration {
            target_entries: found.collect(),
            rules_revision: self.revision,
            stored_reports: reports,
        };
        let (known, seen) = (self.videos.clone().into_values(), self.sightings.clone());
        let in_force = CountingSetup {
            rules: &CountingRules::default(),
            windows: &CountedWindows::default(),
            decays: &CountedDecays::default(),
        };
        let effects = apply_moderated_batch(records, known, seen, moderated, [], in_force);
        self.videos.extend(effects.videos.into_iter().map(|state| (state.video_id.clone(), state)));
        self.sightings.extend(effects.new_identities);
        for NumberedComment { comment, .. } in effects.comments {
            self.comments.insert((comment.video_id.clone(), comment.seq), comment);
        }
        for removal in effects.removals {
            let place = (removal.video.clone(), removal.seq);
            let comment = self.comments.remove(&place).unwrap();
            self.comments.insert(place, removal.apply_to(comment));
        }
        for change in effects.rule_changes {
            self.revision = change.revision;
            self.rules.insert(change.key.clone(), change);
        }
        for HeldChange { video, id, held } in effects.held_comment_changes {
            match held {
                Some(held) => self.held.insert((video, id), held),
                None => self.held.remove(&(video, id)),
            };
        }
        let reported = effects.changed_reports.into_iter();
        self.reports.extend(reported.map(|it| ((it.video.clone(), it.id.clone()), it)));
        self.audit.extend(effects.audit_entries);
    }

    fn from_one_batch(records: &[LogRecord]) -> Self {
        let mut archive = Self::default();
        archive.commit(records);
        archive
    }

    fn archived_texts(&self) -> Vec<(u64, &str, &EntryKind)> {
        self.comments
            .iter()
            .map(|((_, seq), comment)| (*seq, comment.text.as_str(), &comment.entry))
            .collect()
    }
}

#[test]
fn a_deletion_takes_a_number_and_leaves_nothing_of_the_comment() {
    let log = [
        comment_record(0, "v", "a", "ann"),
        comment_record(1, "v", "b", "ben"),
        delete_record(2, "v", "a", "mod", ActorRole::Moderator),
    ];
    let archive = ModelArchive::from_one_batch(&log);
    let deleted = EntryKind::Deleted { comment_id: "a".parse().unwrap(), of: 1, role: ActorRole::Moderator };
    assert_eq!(
        archive.archived_texts(),
        [(1, "", &EntryKind::Removed), (2, "words", &EntryKind::Comment), (3, "", &deleted)]
    );
    assert_eq!(archive.videos[&video("v")].counters.comments, 2, "what was counted stays counted");
    assert_eq!(archive.audit.len(), 1);
}

#[test]
fn an_author_deletes_its_own_comment_and_no_other() {
    let posted = [comment_record(0, "v", "a", "ann"), comment_record(1, "v", "b", "ben")];
    let own = delete_record(2, "v", "a", "ann", ActorRole::Author);
    let other = delete_record(3, "v", "b", "ann", ActorRole::Author);
    let unknown = delete_record(4, "v", "c", "ann", ActorRole::Author);
    let archive = ModelArchive::from_one_batch(&[&posted[..], &[own, other, unknown]].concat());
    let texts: Vec<&str> = archive.archived_texts().iter().map(|(_, text, _)| *text).collect();
    assert_eq!(texts, ["", "words", "", "", ""]);
    assert_eq!(
        [3, 4, 5].map(|seq| archive.comments[&(video("v"), seq)].entry.removed_seq()),
        [Some(1), None, None]
    );
}

#[test]
fn deleting_an_unknown_comment_changes_nothing() {
    let archive = ModelArchive::from_one_batch(&[
        delete_record(0, "nobody", "a", "mod", ActorRole::Moderator),
        comment_record(1, "v", "a", "ann"),
        delete_record(2, "v", "other", "mod", ActorRole::Service),
        delete_record(3, "v", "a", "mod", ActorRole::Moderator),
        delete_record(4, "v", "a", "mod", ActorRole::Moderator),
    ]);
    assert!(!archive.videos.contains_key(&video("nobody")), "nothing has happened to that video");
    let removes: Vec<_> = archive.comments.values().map(|comment| comment.entry.removed_seq()).collect();
    assert_eq!(removes, [None, None, Some(1), Some(1)]);
    assert_eq!(archive.audit.len(), 4, "all of it was done");
}

fn shadowed_comment(offset: u64, on: &str, id: &str, by: &str) -> LogRecord {
    let (comment_id, text) = (id.parse().unwrap(), "hidden".to_owned());
    moderation_record(
        offset,
        Some(on),
        by,
        ActorRole::Author,
        ModerationAction::Shadow { comment_id, text, reply_to: None },
    )
}

#[test]
fn a_shadowed_comment_is_archived_also_as_a_video_s_first_event() {
    let archive = ModelArchive::from_one_batch(&[
        shadowed_comment(0, "new", "s", "troll"),
        comment_record(1, "new", "a", "ann"),
    ]);
    let entries: Vec<_> = archive.comments.values().map(|entry| (entry.seq, entry.id.as_str())).collect();
    assert_eq!(entries, [(1, "s"), (2, "a")]);
    let state = &archive.videos[&video("new")];
    assert_eq!((state.counters.comments, state.last_seq), (1, 2), "it counts for nothing");
}

fn pin_record(offset: u64, on: &str, id: Option<&str>) -> LogRecord {
    let comment_id = id.map(|id| id.parse().unwrap());
    moderation_record(offset, Some(on), "mod", ActorRole::Moderator, ModerationAction::Pin { comment_id })
}

fn held_record(offset: u64, on: &str, id: &str, by: &str) -> LogRecord {
    let (comment_id, text) = (id.parse().unwrap(), "held".to_owned());
    let action = ModerationAction::Hold { comment_id, text, reply_to: None, rule: RuleName::Words };
    moderation_record(offset, Some(on), by, ActorRole::Author, action)
}

fn release_record(offset: u64, on: &str, id: &str) -> LogRecord {
    let action = ModerationAction::Review { comment_id: id.parse().unwrap(), outcome: ReviewOutcome::Reject };
    moderation_record(offset, Some(on), "mod", ActorRole::Moderator, action)
}

#[test]
fn only_a_shown_comment_is_pinned() {
    let log = [
        comment_record(0, "v", "a", "ann"),
        shadowed_comment(1, "v", "s", "troll"),
        pin_record(2, "v", Some("a")),
        pin_record(3, "v", Some("s")),
        pin_record(4, "v", Some("other")),
        delete_record(5, "v", "a", "mod", ActorRole::Moderator),
        pin_record(6, "v", Some("a")),
        pin_record(7, "v", None),
    ];
    let archive = ModelArchive::from_one_batch(&log);
    let pinned =
        |id: Option<&str>, of| EntryKind::Pinned { comment_id: id.map(|id| id.parse().unwrap()), of };
    let entries: Vec<_> = archive.archived_texts().into_iter().map(|(_, _, entry)| entry.clone()).collect();
    assert_eq!(entries[1], EntryKind::Shadowed);
    assert_eq!(entries[2], pinned(Some("a"), 1));
    assert_eq!(
        [&entries[3], &entries[4], &entries[6]],
        [&EntryKind::Removed; 3],
        "each has a number all the same"
    );
    assert_eq!(entries[7], pinned(None, 0));
    assert_eq!(archive.audit.len(), 6, "a shadowed comment is no moderator's doing");
}

#[test]
fn a_held_comment_takes_no_number_in_the_channel() {
    let log = [
        comment_record(0, "v", "a", "ann"),
        held_record(1, "v", "h", "ann"),
        held_record(2, "w", "i", "ann"),
        release_record(3, "w", "i"),
    ];
    let archive = ModelArchive::from_one_batch(&log);
    assert_eq!(archive.comments.len(), 1);
    assert_eq!(archive.videos.keys().collect::<Vec<_>>(), [&video("v")], "it makes nobody an owner");
    let held: Vec<_> =
        archive.held.values().map(|held| (held.id.as_str(), held.text.as_str(), held.place)).collect();
    assert_eq!(held, [("h", "held", (1_700_000_000_001, 0, 1))]);
    assert_eq!(archive.audit.len(), 1);
    let released = archive.held.into_values().next().unwrap().release_record(7);
    let event = Interaction::from_log(&released.to_json(), 0).unwrap();
    assert_eq!((event.kind, event.user_id, event.timestamp), (Kind::Comment, user("ann"), 7));
    assert_eq!(event.comment.unwrap().text, "held");
}

#[test]
fn a_comment_posted_again_after_a_day_is_another_one() {
    let mut again = comment_record(2, "v", "a", "ann");
    again.broker_time += super::super::REPEAT_WINDOW_MS;
    let log =
        [comment_record(0, "v", "a", "ann"), delete_record(1, "v", "a", "ann", ActorRole::Author), again];
    let archive = ModelArchive::from_one_batch(&log);
    assert_eq!(archive.archived_texts()[0].1, "");
    assert_eq!(archive.archived_texts()[2].1, "words");
}

#[derive(Debug, Clone)]
enum RandomStep {
    Post(u8, u8, u8),
    Delete(u8, u8, u8, bool),
    Restrict(u8, bool),
    Lift(u8),
    Shadow(u8, u8, u8),
    Pin(u8, Option<u8>),
    Hold(u8, u8, u8),
    Review(u8, u8),
}

fn step() -> impl Strategy<Value = RandomStep> {
    prop_oneof![
        4 => (0..2u8, 0..6u8, 0..3u8).prop_map(|(on, id, by)| RandomStep::Post(on, id, by)),
        3 => (0..2u8, 0..6u8, 0..3u8, any::<bool>()).prop_map(|(on, id, by, own)| RandomStep::Delete(on, id, by, own)),
        1 => (0..3u8, any::<bool>()).prop_map(|(who, ban)| RandomStep::Restrict(who, ban)),
        1 => (0..3u8).prop_map(RandomStep::Lift),
        1 => (0..2u8, 0..6u8, 0..3u8).prop_map(|(on, id, by)| RandomStep::Shadow(on, id, by)),
        2 => (0..2u8, proptest::option::of(0..6u8)).prop_map(|(on, id)| RandomStep::Pin(on, id)),
        1 => (0..2u8, 0..6u8, 0..3u8).prop_map(|(on, id, by)| RandomStep::Hold(on, id, by)),
        1 => (0..2u8, 0..6u8).prop_map(|(on, id)| RandomStep::Review(on, id)),
    ]
}

fn record(offset: u64, step: &RandomStep) -> LogRecord {
    match step {
        RandomStep::Post(on, id, by) => {
            comment_record(offset, &format!("v{on}"), &format!("c{id}"), &format!("u{by}"))
        }
        RandomStep::Delete(on, id, by, own) => {
            let role = if *own { ActorRole::Author } else { ActorRole::Moderator };
            delete_record(offset, &format!("v{on}"), &format!("c{id}"), &format!("u{by}"), role)
        }
        RandomStep::Shadow(on, id, by) => {
            shadowed_comment(offset, &format!("v{on}"), &format!("c{id}"), &format!("u{by}"))
        }
        RandomStep::Pin(on, id) => {
            pin_record(offset, &format!("v{on}"), id.map(|id| format!("c{id}")).as_deref())
        }
        RandomStep::Hold(on, id, by) => {
            held_record(offset, &format!("v{on}"), &format!("c{id}"), &format!("u{by}"))
        }
        RandomStep::Review(on, id) => release_record(offset, &format!("v{on}"), &format!("c{id}")),
        RandomStep::Restrict(who, ban) => {
            let kind = if *ban { Restriction::Ban } else { Restriction::Mute };
            let userid = user(&format!("u{who}"));
            let action =
                ModerationAction::Restrict { userid, kind, scope: RuleScope::Everywhere, until: None };
            moderation_record(offset, None, "mod", ActorRole::Moderator, action)
        }
        RandomStep::Lift(who) => {
            let userid = user(&format!("u{who}"));
            let action =
                ModerationAction::Lift { userid, kind: Restriction::Ban, scope: RuleScope::Everywhere };
            moderation_record(offset, None, "mod", ActorRole::Moderator, action)
        }
    }
}

proptest! {
    /// For any split of a log into batches, the same is stored, and no deleted comment is left.
    #[test]
    fn splitting_moderation_into_other_batches_gives_the_same_result(
        steps in proptest::collection::vec(step(), 1..40),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let log: Vec<_> = steps.iter().zip(0..).map(|(step, offset)| record(offset, step)).collect();
        let whole = ModelArchive::from_one_batch(&log);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len())).collect();
        cuts.extend([0, log.len()]);
        cuts.sort_unstable();
        let mut pieces = ModelArchive::default();
        for ends in cuts.windows(2) {
            pieces.commit(&log[ends[0]..ends[1]]);
        }
        prop_assert_eq!(&pieces, &whole);
        // Sequence numbers do not depend on what is stored: an archive that holds no comments has the same ones.
        let tally = super::super::apply_batch(&log, [], Vec::new(), &CountingRules::default());
        prop_assert_eq!(tally.videos, whole.videos.values().cloned().collect::<Vec<_>>());
        for comment in whole.comments.values().filter(|comment| comment.entry.is_comment()) {
            let gone = whole.comments.values().any(|other| other.video_id == comment.video_id
                && other.entry.removed_seq() == Some(comment.seq));
            prop_assert!(!gone && !comment.text.is_empty());
        }
        let mut book = RuleBook::default();
        whole.rules.into_values().for_each(|change| book.apply_change(change));
        prop_assert_eq!(book.revision(), whole.revision);
    }
}

fn put_record(offset: u64, by: &str, role: ActorRole, title: &str, owner: Option<&str>) -> LogRecord {
    let metadata = Metadata::from_value(&json!({ "title": title })).unwrap();
    let owner_id = owner.map(|owner| UserId::parse(owner).unwrap());
    moderation_record(offset, Some("v"), by, role, ModerationAction::PutVideo { metadata, owner_id })
}

#[test]
fn a_video_is_described_removed_and_described_again() {
    let view = |offset, by: &str| {
        let value = json!({"video_id": "v", "user_id": by, "type": "view"});
        record_at(offset, Interaction::parse(&value, 0).unwrap())
    };
    let mut known: Vec<VideoState> = Vec::new();
    let mut revision = 0;
    let mut then = |record: LogRecord| {
        let rules = CountingRules::default();
        let effects = apply_batch(&[record], known.clone(), Vec::new(), &rules);
        if let Some(state) = effects.videos.first() {
            assert!(state.revision() >= revision);
            revision = state.revision();
            known = effects.videos;
        }
        let state = known.first()?;
        let title =
            state.metadata.as_ref().map(|metadata| metadata.to_value()["title"].as_str().unwrap().to_owned());
        Some((
            title.unwrap_or_default(),
            state.removed_by.is_some(),
            state.owner.to_string(),
            state.counters.views,
        ))
    };
    let is =
        |title: &str, removed, owner: &str, views| Some((title.to_owned(), removed, owner.to_owned(), views));
    let remove = |offset, by: &str, role| {
        moderation_record(offset, Some("v"), by, role, ModerationAction::RemoveVideo)
    };
    assert_eq!(then(remove(0, "app", ActorRole::Service)), None, "there is nothing to remove");
    assert_eq!(
        then(put_record(1, "eve", ActorRole::Owner, "x", None)),
        None,
        "nobody owns what is not there"
    );
    assert_eq!(then(put_record(2, "app", ActorRole::Service, "Cats", None)), is("Cats", false, "app", 0));
    assert_eq!(then(view(3, "ana")), is("Cats", false, "app", 1));
    assert_eq!(
        then(put_record(4, "app", ActorRole::Owner, "x", None)),
        is("Cats", false, "app", 1),
        "it was not given"
    );
    assert_eq!(
        then(put_record(5, "app", ActorRole::Service, "Cats!", Some("ben"))),
        is("Cats!", false, "ben", 1)
    );
    assert_eq!(then(remove(6, "eve", ActorRole::Owner)), is("Cats!", false, "ben", 1));
    assert_eq!(then(remove(7, "ben", ActorRole::Owner)), is("Cats!", true, "ben", 1));
    assert_eq!(then(view(8, "ana")), is("Cats!", true, "ben", 2), "what happens does not bring it back");
    assert_eq!(then(put_record(9, "ben", ActorRole::Owner, "Back", None)), is("Back", false, "ben", 2));
    then(remove(10, "mod", ActorRole::Moderator));
    then(remove(11, "ben", ActorRole::Owner));
    let still = then(put_record(12, "ben", ActorRole::Owner, "Again", None));
    assert_eq!(still, is("Back", true, "ben", 2), "an owner does not undo what a moderator did");
    assert_eq!(then(put_record(13, "app", ActorRole::Service, "New", None)), is("New", false, "ben", 2));
}

fn erase_record(offset: u64, on: &str, id: &str, seq: Option<u64>, whom: &str) -> LogRecord {
    let user = NameDigest::of_user(&user(whom));
    let action = ModerationAction::Erase { comment_id: id.parse().unwrap(), seq, user };
    moderation_record(offset, Some(on), "ops", ActorRole::Service, action)
}

#[test]
fn an_erased_comment_leaves_its_number_and_no_name() {
    let log = [
        comment_record(0, "v", "a", "ann"),
        comment_record(1, "v", "b", "ben"),
        comment_record(2, "v", "c", "ann"),
        delete_record(3, "v", "c", "ann", ActorRole::Author),
        erase_record(4, "v", "a", Some(1), "ann"),
        erase_record(5, "v", "c", Some(3), "ann"),
    ];
    let archive = ModelArchive::from_one_batch(&log);
    let deleted = |id: &str, of, role| EntryKind::Deleted { comment_id: id.parse().unwrap(), of, role };
    assert_eq!(
        archive.archived_texts(),
        [
            (1, "", &EntryKind::Removed),
            (2, "words", &EntryKind::Comment),
            (3, "", &EntryKind::Removed),
            (4, "", &deleted("c", 3, ActorRole::Author)),
            (5, "", &deleted("a", 1, ActorRole::Service)),
            (6, "", &EntryKind::Removed),
        ]
    );
    let named: Vec<&str> = archive.comments.values().map(|entry| entry.user_id.as_str()).collect();
    assert_eq!(named, [NOBODY_ID, "ben", NOBODY_ID, NOBODY_ID, NOBODY_ID, NOBODY_ID]);
    assert_eq!(archive.audit.len(), 1, "the erasure of a user is audited as one");
    assert!(
        !format!("{:?}", erase_record(4, "v", "a", Some(1), "ann")).contains("ann"),
        "the log has no name of it"
    );
}

#[test]
fn an_erasure_takes_one_entry_of_its_user_by_number_or_else_by_id() {
    let day = super::super::REPEAT_WINDOW_MS as u64 + 1;
    let posted = [comment_record(0, "v", "a", "ann"), comment_record(day, "v", "a", "ann")];
    let left = |record: LogRecord| {
        let mut archive = ModelArchive::from_one_batch(&posted);
        archive.commit(&[record]);
        [1, 2].map(|seq| archive.comments[&(video("v"), seq)].entry.has_text())
    };
    assert_eq!(left(erase_record(day + 1, "v", "a", Some(1), "ann")), [false, true]);
    assert_eq!(left(erase_record(day + 1, "v", "a", Some(9), "ann")), [true, false], "numbered anew since");
    assert_eq!(left(erase_record(day + 1, "v", "a", None, "ann")), [true, false]);
    assert_eq!(left(erase_record(day + 1, "v", "a", Some(1), "ben")), [true, true], "it is another's");
    assert_eq!(left(erase_record(day + 1, "w", "a", Some(1), "ann")), [true, true], "another video's");
}

#[test]
fn an_erasure_removes_held_comments_and_the_owner_s_name() {
    let hold = ModerationAction::Hold {
        comment_id: "h".parse().unwrap(),
        text: "waits".into(),
        reply_to: None,
        rule: RuleName::HoldAll,
    };
    let forget =
        |whom: &str| ModerationAction::Forget { user: NameDigest::of_user(&user(whom)), marks: vec![] };
    let mut archive = ModelArchive::from_one_batch(&[
        comment_record(0, "v", "a", "ann"),
        moderation_record(1, Some("v"), "ann", ActorRole::Author, hold),
        moderation_record(2, Some("v"), "ops", ActorRole::Service, forget("ben")),
    ]);
    assert_eq!((archive.held.len(), archive.videos[&video("v")].owner.as_str()), (1, "ann"));
    let before = archive.videos[&video("v")].revision();
    archive.commit(&[
        erase_record(3, "v", "h", None, "ann"),
        moderation_record(4, Some("v"), "ops", ActorRole::Service, forget("ann")),
    ]);
    let state = &archive.videos[&video("v")];
    assert_eq!((archive.held.len(), state.owner.as_str()), (0, NOBODY_ID));
    assert!(state.revision() > before);
    // A user with the id that stands for "nobody" owns nothing by it.
    archive.commit(&[moderation_record(
        5,
        Some("v"),
        NOBODY_ID,
        ActorRole::Owner,
        ModerationAction::RemoveVideo,
    )]);
    assert_eq!(archive.videos[&video("v")].removed_by, None);
}

#[test]
fn an_erasure_removes_unique_marks() {
    let rules = CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() };
    let like = |offset| {
        record_at(
            offset,
            Interaction::parse(&json!({"video_id": "v", "user_id": "ann", "type": "like"}), 1).unwrap(),
        )
    };
    let key = super::super::mark_key(&like(0).event, rules.unique).unwrap();
    let forget = ModerationAction::Forget {
        user: NameDigest::of_user(&user("ann")),
        marks: vec![NameDigest::of_mark(key)],
    };
    let forget = moderation_record(1, Some("v"), "ops", ActorRole::Service, forget);
    let batch = super::super::Batch { offset_ranges: vec![], records: vec![forget.clone()] };
    assert_eq!(
        batch.affected_marks(rules.unique).into_iter().collect::<Vec<_>>(),
        [key],
        "it asks for the mark"
    );
    let (windows, decays) = (&CountedWindows::default(), &CountedDecays::default());
    let mark = UniqueMark { trending_log2: 0.0, counted_at: None, decay_contributions: Vec::new() };
    let in_force = CountingSetup { rules: &rules, windows, decays };
    let effects =
        apply_moderated_batch(&[forget], [], [], StoredModeration::default(), [(key, mark)], in_force);
    assert_eq!(effects.mark_changes.len(), 1);
    assert_eq!((effects.mark_changes[0].key, &effects.mark_changes[0].new_value), (key, &None));
}

proptest! {
    /// For any split of the log into batches, and for a rebuild, what is left is the same.
    #[test]
    fn splitting_an_erasure_into_other_batches_gives_the_same_result(
        steps in proptest::collection::vec((0..4_u8, 0..4_u8, proptest::option::of(1..9_u64)), 1..20),
        cuts in proptest::collection::vec(1..4_usize, 20),
    ) {
        let names = ["ann", "ben"];
        let log: Vec<LogRecord> = steps.iter().zip(0..).map(|((what, which, seq), offset)| {
            let id = format!("c{which}");
            match what {
                0 | 1 => comment_record(offset, "v", &id, names[usize::from(which % 2)]),
                2 => delete_record(offset, "v", &id, "mod", ActorRole::Moderator),
                _ => erase_record(offset, "v", &id, *seq, "ann"),
            }
        }).collect();
        let whole = ModelArchive::from_one_batch(&log);
        let (mut cut, mut rest) = (ModelArchive::default(), &log[..]);
        for at in cuts {
            let (now, later) = rest.split_at(at.min(rest.len()));
            cut.commit(now);
            rest = later;
        }
        prop_assert_eq!(cut, whole);
    }
}
