//! Checks of moderation: comments that are removed, restrictions, and the audit log.

use liverank_core::comment::EntryKind;
use liverank_core::counting::{Batch, CountingRules};
use liverank_core::moderation::{
    ActorRole, ChangedRule, CommentRules, Moderation, ModerationAction, Restriction, ReviewOutcome,
    RuleChange, RuleName, RuleScope, UserRestriction,
};
use liverank_core::{CommentId, Interaction};

use super::log::{LOG_START_TIME, SimulatedLog, comment, user, video};
use liverank_adapters::Archive;
use liverank_adapters::archive::{AuditPosition, CommentPage, CommitError, ReplayFinish, pinned_comment};

fn moderation_event(on: Option<&str>, id: &str, action: ModerationAction) -> Interaction {
    let moderation = Moderation { action, role: ActorRole::Moderator, reason: Some("spam".into()) };
    moderation.into_record(user("mod"), on.map(video), id.parse().unwrap(), LOG_START_TIME)
}

fn deletion_event(on: &str, comment: &str, id: &str) -> Interaction {
    moderation_event(Some(on), id, ModerationAction::Delete { comment_id: comment.parse().unwrap() })
}

fn restriction_event(name: &str, id: &str, until: Option<i64>) -> Interaction {
    let (kind, scope) = (Restriction::Mute, RuleScope::Video(video("v")));
    moderation_event(None, id, ModerationAction::Restrict { userid: user(name), kind, scope, until })
}

fn restriction_lift_event(name: &str, id: &str) -> Interaction {
    let (kind, scope) = (Restriction::Mute, RuleScope::Video(video("v")));
    moderation_event(None, id, ModerationAction::Lift { userid: user(name), kind, scope })
}

fn rule_change_event(scope: RuleScope, slow: Option<u32>, id: &str) -> Interaction {
    let rules = slow.map(|slow| CommentRules { slow_seconds: Some(slow), ..CommentRules::default() });
    moderation_event(None, id, ModerationAction::SetRules { scope, rules })
}

/// Returns the user and the restriction of a change; panics for comment rules.
fn restriction_of(change: &RuleChange) -> (&str, Option<&UserRestriction>) {
    match &change.changed_rule {
        ChangedRule::Restriction { userid, rule } => (userid.as_str(), rule.as_ref()),
        ChangedRule::CommentRules { .. } => panic!("no restriction: {change:?}"),
    }
}

/// Returns the entries of a video's channel: the text, and the sequence number that an entry removes.
async fn channel_entries(archive: &dyn Archive, id: &str) -> Vec<(String, Option<u64>)> {
    let held = archive.comments(&video(id), CommentPage::After(0), 100).await.unwrap();
    assert!(held.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "numbered without a hole");
    held.into_iter().map(|entry| (entry.text, entry.entry.removed_seq())).collect()
}

fn expected_entries(expected: &[(&str, Option<u64>)]) -> Vec<(String, Option<u64>)> {
    expected.iter().map(|(text, removes)| ((*text).to_owned(), *removes)).collect()
}

/// Returns batches with comments, and with deletions in the same batch and in a later one.
fn deletion_batches(log: &mut SimulatedLog) -> Vec<Batch> {
    vec![
        log.batch_on_partition_0([
            comment("v", "a", "one"),
            comment("v", "b", "two"),
            deletion_event("v", "b", "m1"),
        ]),
        log.batch([(0, comment("v", "c", "three")), (1, comment("w", "d", "another video's"))]),
        log.batch([
            (0, deletion_event("v", "a", "m2")),
            (0, deletion_event("v", "a", "m2")),
            (2, restriction_event("ann", "m3", None)),
        ]),
        log.batch([
            (0, deletion_event("v", "nobody", "m4")),
            (2, restriction_event("ben", "m5", Some(7))),
            (2, restriction_lift_event("ann", "m6")),
        ]),
    ]
}

const EXPECTED_CHANNEL: [(&str, Option<u64>); 6] =
    [("", None), ("", None), ("", Some(2)), ("three", None), ("", Some(1)), ("", None)];

pub async fn deleted_comments_are_gone(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    for batch in deletion_batches(&mut log) {
        archive.commit_batch(&batch).await.unwrap();
    }
    assert_eq!(channel_entries(archive, "v").await, expected_entries(&EXPECTED_CHANNEL));
    assert_eq!(
        channel_entries(archive, "w").await,
        expected_entries(&[("another video's", None)]),
        "of its video only"
    );
    assert_eq!(archive.last_seqs(&[video("v")]).await.unwrap(), [6]);
    let id = |id: &str| CommentId::parse(id).unwrap();
    let gone =
        archive.newest_comment(&video("v"), &id("a")).await.unwrap().expect("that it was there is known");
    assert_eq!((gone.text.as_str(), gone.entry, gone.seq), ("", EntryKind::Removed, 1));
    let from_log = archive.comments_from(0, 0, 100).await.unwrap();
    let texts: Vec<&str> = from_log.iter().map(|numbered| numbered.comment.text.as_str()).collect();
    assert_eq!(texts, ["", "", "", "three", "", ""], "what is published again is without them, too");
}

pub async fn restrictions_are_followed_by_revision(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    assert_eq!(archive.moderation_archive().rules_since(0, 10).await.unwrap(), []);
    for batch in deletion_batches(&mut log) {
        archive.commit_batch(&batch).await.unwrap();
    }
    let all = archive.moderation_archive().rules_since(0, 10).await.unwrap();
    let told: Vec<_> = all
        .iter()
        .map(|change| {
            (restriction_of(change).0, change.revision, restriction_of(change).1.map(|rule| rule.until))
        })
        .collect();
    assert_eq!(told, [("ben", 2, Some(Some(7))), ("ann", 3, None)], "each as it is now, in order");
    assert_eq!(archive.moderation_archive().rules_since(0, 1).await.unwrap(), all[..1]);
    assert_eq!(archive.moderation_archive().rules_since(2, 10).await.unwrap(), all[1..]);
    assert_eq!(archive.moderation_archive().rules_since(3, 10).await.unwrap(), []);
    archive.commit_batch(&log.batch([(2, restriction_event("ann", "m7", Some(9)))])).await.unwrap();
    let again = archive.moderation_archive().rules_since(3, 10).await.unwrap();
    assert_eq!((again.len(), again[0].revision), (1, 4));
    let rule = restriction_of(&again[0]).1.unwrap();
    assert_eq!((rule.by.as_str(), rule.reason.as_deref(), rule.at), ("mod", Some("spam"), LOG_START_TIME));
}

/// A revision, with the scope and the slow mode (in seconds) of comment rules.
type RuleRevision = (u64, Option<(RuleScope, Option<u32>)>);

pub async fn rules_of_comments_are_in_the_order_of_restrictions(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let on_v = || RuleScope::Video(video("v"));
    let batch = log.batch([
        (2, rule_change_event(RuleScope::Everywhere, Some(1), "m1")),
        (2, restriction_event("ann", "m2", None)),
        (2, rule_change_event(on_v(), Some(2), "m3")),
        (2, rule_change_event(RuleScope::Owner(user("o")), Some(3), "m4")),
    ]);
    archive.commit_batch(&batch).await.unwrap();
    let told = |changes: Vec<RuleChange>| -> Vec<RuleRevision> {
        let what = |change: &RuleChange| match &change.changed_rule {
            ChangedRule::Restriction { .. } => None,
            ChangedRule::CommentRules { scope, rules } => {
                Some((scope.clone(), rules.as_ref().and_then(|rules| rules.rules.slow_seconds)))
            }
        };
        changes.iter().map(|change| (change.revision, what(change))).collect()
    };
    let (all, owner) = (Some((RuleScope::Everywhere, Some(1))), Some((RuleScope::Owner(user("o")), Some(3))));
    let video_v = Some((on_v(), Some(2)));
    let held = archive.moderation_archive();
    let expected = [(1, all.clone()), (2, None), (3, video_v.clone()), (4, owner.clone())];
    assert_eq!(told(held.rules_since(0, 10).await.unwrap()), expected);
    assert_eq!(
        told(held.comment_rules_since(0, 10).await.unwrap()),
        [(1, all), (3, video_v), (4, owner.clone())]
    );
    assert_eq!(told(held.comment_rules_since(3, 10).await.unwrap()), [(4, owner.clone())]);
    assert_eq!(
        (held.comment_rules_since(0, 2).await.unwrap().len(), held.count_comment_rules().await.unwrap()),
        (2, 3)
    );
    let batch = log.batch([
        (2, rule_change_event(RuleScope::Everywhere, None, "m5")),
        (2, rule_change_event(on_v(), Some(9), "m6")),
        (2, restriction_lift_event("ann", "m7")),
    ]);
    archive.commit_batch(&batch).await.unwrap();
    let (gone, video_v) = (Some((RuleScope::Everywhere, None)), Some((on_v(), Some(9))));
    assert_eq!(
        told(held.rules_since(0, 10).await.unwrap()),
        [(4, owner.clone()), (5, gone), (6, video_v.clone()), (7, None)]
    );
    assert_eq!(told(held.comment_rules_since(0, 10).await.unwrap()), [(4, owner), (6, video_v)]);
    assert_eq!(held.count_comment_rules().await.unwrap(), 2);
    let change = held.comment_rules_since(4, 1).await.unwrap().remove(0);
    let ChangedRule::CommentRules { rules: Some(rules), .. } = change.changed_rule else {
        panic!("they are in force")
    };
    assert_eq!((rules.by.as_str(), rules.reason.as_deref(), rules.at), ("mod", Some("spam"), LOG_START_TIME));
}

pub async fn everything_that_was_done_is_in_the_audit_log(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    assert_eq!(archive.moderation_archive().audit_log(None, 10).await.unwrap(), []);
    for batch in deletion_batches(&mut log) {
        archive.commit_batch(&batch).await.unwrap();
    }
    let all = archive.moderation_archive().audit_log(None, 10).await.unwrap();
    let records: Vec<_> = all.iter().map(|line| line.record.as_ref().unwrap()).collect();
    let ids: Vec<&str> = records.iter().map(|record| record.event_id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["m6", "m5", "m4", "m3", "m2", "m1"], "newest first, and a repeat is no second action");
    assert_eq!(*records[5], deletion_event("v", "b", "m1"), "all of it");
    let second = archive.moderation_archive().audit_log(Some(all[1].position), 2).await.unwrap();
    assert_eq!(second, all[2..4], "page by page");
}

fn pinning_event(on: &str, comment: Option<&str>, id: &str) -> Interaction {
    let comment_id = comment.map(|id| id.parse().unwrap());
    moderation_event(Some(on), id, ModerationAction::Pin { comment_id })
}

fn shadowed_comment_event(on: &str, comment: &str, text: &str) -> Interaction {
    let (comment_id, text) = (comment.parse().unwrap(), text.to_owned());
    let action = ModerationAction::Shadow { comment_id, text, reply_to: None };
    let moderation = Moderation { action, role: ActorRole::Author, reason: None };
    moderation.into_record(user("troll"), Some(video(on)), comment.parse().unwrap(), LOG_START_TIME)
}

pub async fn the_last_pin_is_in_force_while_its_comment_is(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let pinned = async || pinned_comment(archive, &video("v")).await.unwrap().map(|comment| comment.text);
    assert_eq!(pinned().await, None);
    let commit = async |batch: Batch| archive.commit_batch(&batch).await.unwrap();
    commit(log.batch_on_partition_0([
        comment("v", "a", "one"),
        comment("v", "b", "two"),
        pinning_event("v", Some("a"), "m1"),
    ]))
    .await;
    assert_eq!(pinned().await.as_deref(), Some("one"), "in the batch of its comment");
    commit(log.batch_on_partition_0([pinning_event("v", Some("b"), "m2"), comment("w", "c", "other")])).await;
    assert_eq!(pinned().await.as_deref(), Some("two"));
    // A comment that does not exist, or belongs to another video, cannot be pinned.
    commit(
        log.batch_on_partition_0([pinning_event("v", Some("x"), "m3"), pinning_event("v", Some("c"), "m4")]),
    )
    .await;
    assert_eq!(pinned().await.as_deref(), Some("two"));
    commit(log.batch_on_partition_0([deletion_event("v", "b", "m5")])).await;
    assert_eq!(pinned().await, None, "it was removed");
    commit(log.batch_on_partition_0([pinning_event("v", Some("a"), "m6"), pinning_event("v", None, "m7")]))
        .await;
    assert_eq!(pinned().await, None);
    assert_eq!(archive.last_seqs(&[video("v")]).await.unwrap(), [9], "each has a number");
}

pub async fn a_shadowed_comment_is_numbered_and_counts_for_nothing(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let batch = log.batch_on_partition_0([
        comment("v", "a", "one"),
        shadowed_comment_event("v", "s", "hidden"),
        shadowed_comment_event("v", "s", "hidden"),
        pinning_event("v", Some("s"), "m1"),
    ]);
    archive.commit_batch(&batch).await.unwrap();
    let held = archive.comments(&video("v"), CommentPage::After(0), 10).await.unwrap();
    let told: Vec<_> = held.iter().map(|entry| (entry.seq, entry.text.as_str(), &entry.entry)).collect();
    assert_eq!(
        told,
        [(1, "one", &EntryKind::Comment), (2, "hidden", &EntryKind::Shadowed), (3, "", &EntryKind::Removed)],
        "a repeat is none, and what nobody sees cannot be pinned"
    );
    assert_eq!(held[1].user_id, user("troll"));
    let state = archive.video(&video("v")).await.unwrap().unwrap();
    assert_eq!((state.counters.comments, state.last_seq), (1, 3));
    let done = archive.moderation_archive().audit_log(None, 10).await.unwrap();
    assert_eq!(done.len(), 1, "it is no moderator's doing");
    archive.commit_batch(&log.batch_on_partition_0([deletion_event("v", "s", "m2")])).await.unwrap();
    let gone = archive.newest_comment(&video("v"), &"s".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((gone.text.as_str(), gone.entry), ("", EntryKind::Removed));
}

fn held_comment_event(on: &str, comment: &str, text: &str) -> Interaction {
    let (comment_id, text) = (comment.parse().unwrap(), text.to_owned());
    let action = ModerationAction::Hold { comment_id, text, reply_to: None, rule: RuleName::Words };
    let moderation = Moderation { action, role: ActorRole::Author, reason: None };
    moderation.into_record(user("ann"), Some(video(on)), comment.parse().unwrap(), LOG_START_TIME)
}

fn review_event(on: &str, comment: &str, outcome: ReviewOutcome, id: &str) -> Interaction {
    moderation_event(Some(on), id, ModerationAction::Review { comment_id: comment.parse().unwrap(), outcome })
}

pub async fn moderation_is_read_in_partition_order(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    for nth in 0..2 {
        let id = |name: &str| format!("{name}-{nth}");
        let batch = log.batch([
            (0, held_comment_event("v", &id("h"), "waits")),
            (1, held_comment_event("w", &id("g"), "elsewhere")),
            (0, deletion_event("v", "nobody", &id("m"))),
            (0, deletion_event("v", "nobody", &id("m"))),
            (0, review_event("v", "h-0", ReviewOutcome::Reject, &id("r"))),
            (2, restriction_event("ann", &id("s"), None)),
        ]);
        archive.commit_batch(&batch).await.unwrap();
    }
    let stored = archive.moderation_archive();
    let held = async |partition, offset, limit| -> Vec<(String, u64)> {
        let held = stored.held_comments_from(partition, offset, limit).await.unwrap();
        held.into_iter().map(|held| (held.id.to_string(), held.place.2)).collect()
    };
    let done = async |partition, offset, limit| -> Vec<u64> {
        let lines = stored.audit_entries_from(partition, offset, limit).await.unwrap();
        assert!(lines.iter().all(|line| line.position.partition == partition && line.record.is_ok()));
        lines.into_iter().map(|line| line.position.offset).collect()
    };
    let all = stored.audit_log(None, 100).await.unwrap();
    let mut of_0: Vec<u64> =
        all.iter().filter(|line| line.position.partition == 0).map(|line| line.position.offset).collect();
    of_0.sort_unstable();
    assert_eq!(of_0.len(), 4, "repeats are none");
    assert_eq!(done(0, 0, 100).await, of_0);
    assert_eq!(done(0, of_0[1], 2).await, of_0[1..3], "the offset itself is included");
    assert_eq!(done(0, of_0[3] + 1, 10).await, [0; 0]);
    assert_eq!((done(2, 0, 10).await.len(), done(1, 0, 10).await.len()), (2, 0));
    let waiting = held(0, 0, 10).await;
    assert_eq!((waiting.len(), waiting[0].0.as_str()), (1, "h-1"), "one was rejected");
    assert_eq!(held(0, waiting[0].1, 10).await, waiting);
    assert_eq!(held(0, waiting[0].1 + 1, 10).await, []);
    assert_eq!((held(1, 0, 10).await.len(), held(1, 0, 1).await.len()), (2, 1));
}

pub async fn a_held_comment_waits_beside_the_channel(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let held = archive.moderation_archive();
    let commit = async |batch: Batch| archive.commit_batch(&batch).await.unwrap();
    let committed = commit(log.batch([
        (0, held_comment_event("v", "h1", "one")),
        (1, held_comment_event("w", "h2", "two")),
        (0, held_comment_event("v", "h1", "again")),
        (0, comment("v", "c", "shown")),
    ]))
    .await;
    assert_eq!(committed.batch_effects.comments.len(), 1, "nobody is told of what waits");
    assert_eq!(channel_entries(archive, "v").await, expected_entries(&[("shown", None)]));
    assert_eq!(archive.last_seqs(&[video("v"), video("w")]).await.unwrap(), [1, 0]);
    assert!(archive.video(&video("w")).await.unwrap().is_none(), "it makes nobody an owner");
    let texts = async |after, limit| -> Vec<String> {
        held.held_comments(after, limit).await.unwrap().into_iter().map(|held| held.text).collect()
    };
    assert_eq!(texts(None, 10).await, ["one", "two"], "oldest first, and a repeat is none");
    assert_eq!(held.count_held_comments().await.unwrap(), 2);
    let first = held.held_comments(None, 1).await.unwrap().remove(0);
    assert_eq!(
        (first.user.as_str(), first.rule.known_value(), first.timestamp),
        ("ann", Some(RuleName::Words), LOG_START_TIME)
    );
    assert_eq!(texts(Some(AuditPosition::of_held_comment(&first)), 10).await, ["two"]);
    let id: CommentId = "h1".parse().unwrap();
    assert_eq!(held.held_comment(&video("v"), &id).await.unwrap(), Some(first.clone()));
    assert_eq!(held.held_comment(&video("w"), &id).await.unwrap(), None);
    // The comment is released by two moderators at once, and is one comment.
    commit(log.batch_on_partition_0([
        first.release_record(LOG_START_TIME + 9),
        review_event("v", "h1", ReviewOutcome::Release, "m1"),
        first.release_record(LOG_START_TIME + 10),
        review_event("v", "h1", ReviewOutcome::Release, "m2"),
    ]))
    .await;
    assert_eq!(channel_entries(archive, "v").await, expected_entries(&[("shown", None), ("one", None)]));
    assert_eq!(archive.video(&video("v")).await.unwrap().unwrap().counters.comments, 2);
    // A comment that is held and rejected in the same batch.
    commit(log.batch_on_partition_0([
        held_comment_event("v", "h3", "three"),
        review_event("v", "h3", ReviewOutcome::Reject, "m3"),
    ]))
    .await;
    commit(log.batch_on_partition_0([review_event("w", "h2", ReviewOutcome::Reject, "m4")])).await;
    assert_eq!(texts(None, 10).await, Vec::<String>::new());
    assert_eq!(held.count_held_comments().await.unwrap(), 0);
    assert_eq!(channel_entries(archive, "v").await.len(), 2);
    let done: Vec<_> = held.audit_log(None, 10).await.unwrap();
    assert_eq!(done.len(), 4, "reviews, and nobody's comments");
}

pub async fn a_replay_removes_again(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let batches = deletion_batches(&mut log);
    for batch in &batches {
        archive.commit_batch(batch).await.unwrap();
    }
    let rules = archive.moderation_archive().rules_since(0, 10).await.unwrap();
    let audit = archive.moderation_archive().audit_log(None, 10).await.unwrap();
    let replay =
        archive.rebuild_archive().begin_replay(&CountingRules::default(), None, &|_, _| ()).await.unwrap();
    // In other batches than the first time.
    let mut whole = Batch::default();
    for batch in batches {
        whole.append(batch);
    }
    match replay.archive().commit_batch(&whole).await {
        Ok(_) | Err(CommitError::PositionMismatch { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let ReplayFinish::Done { renumbered, .. } = replay.swap_in(false, &|_, _| ()).await.unwrap() else {
        panic!("it was not behind")
    };
    assert!(!renumbered, "viewers go on where they are");
    assert_eq!(channel_entries(archive, "v").await, expected_entries(&EXPECTED_CHANNEL));
    assert_eq!(archive.moderation_archive().rules_since(0, 10).await.unwrap(), rules);
    assert_eq!(archive.moderation_archive().audit_log(None, 10).await.unwrap(), audit);
    archive.commit_batch(&log.batch([(2, restriction_event("cy", "m8", None))])).await.unwrap();
    assert_eq!(
        archive.moderation_archive().rules_since(3, 10).await.unwrap()[0].revision,
        4,
        "and counts on"
    );
}
