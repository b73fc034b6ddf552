//! Checks of the erasure of users.

use std::collections::BTreeSet;

use liverank_core::comment::NOBODY_ID;
use liverank_core::counting::{CountingRules, mark_keys};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, NameDigest, RuleName};
use liverank_core::{CommentId, Interaction, Kind};

use super::log::{LOG_START_TIME, SimulatedLog, comment, event_of_kind, user, video};
use liverank_adapters::Archive;
use liverank_adapters::archive::{CommentPage, ENTRIES_READ_PER_CALL, EntryPosition, ReplayFinish};

fn comment_id(text: &str) -> CommentId {
    CommentId::parse(text).unwrap()
}

fn event_by_user(name: &str, event: Interaction) -> Interaction {
    Interaction { user_id: user(name), ..event }
}

fn moderation_record(
    on: &str,
    event_id: &str,
    who: &str,
    role: ActorRole,
    action: ModerationAction,
) -> Interaction {
    let moderation = Moderation { action, role, reason: None };
    moderation.into_record(user(who), Some(video(on)), event_id.parse().unwrap(), LOG_START_TIME)
}

fn erasure_record(on: &str, comment: &str, seq: Option<u64>, event_id: &str) -> Interaction {
    let action = ModerationAction::Erase {
        comment_id: comment_id(comment),
        seq,
        user: NameDigest::of_user(&user("ann")),
    };
    moderation_record(on, event_id, "ops", ActorRole::Service, action)
}

/// Returns all entries of a user, and the number of parts in which they were found.
async fn all_entries_of(archive: &dyn Archive, name: &str) -> (BTreeSet<EntryPosition>, usize) {
    let (mut found, mut from, mut parts) = (BTreeSet::new(), None, 0);
    loop {
        let part = archive.moderation_archive().entries_of_user(&user(name), from.as_deref()).await.unwrap();
        let count = part.entries.len();
        assert!(count <= ENTRIES_READ_PER_CALL, "a part is bounded");
        found.extend(part.entries);
        parts += 1;
        from = part.next_part;
        if from.is_none() {
            return (found, parts);
        }
    }
}

pub async fn a_user_s_entries_are_found_part_by_part_and_erased(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    // After more than a day the same identity is another comment: both belong to the user.
    archive
        .commit_batch(&log.batch_on_partition_0([event_by_user("ann", comment("v", "again", "once"))]))
        .await
        .unwrap();
    log.advance_clock(liverank_core::counting::REPEAT_WINDOW_MS + 1);
    let delete = ModerationAction::Delete { comment_id: comment_id("gone") };
    let few = [
        event_by_user("ann", comment("v", "again", "twice")),
        event_by_user("ann", comment("v", "gone", "deleted by its author")),
        moderation_record("v", "m1", "ann", ActorRole::Author, delete),
        event_by_user("ben", comment("v", "b", "ben's")),
    ];
    archive.commit_batch(&log.batch_on_partition_0(few)).await.unwrap();
    let others =
        (0..ENTRIES_READ_PER_CALL).map(|at| event_by_user("ben", comment("w", &format!("w{at}"), "words")));
    archive.commit_batch(&log.batch_on_partition_0(others)).await.unwrap();
    archive
        .commit_batch(&log.batch_on_partition_0([event_by_user("ann", comment("x", "last", "words"))]))
        .await
        .unwrap();

    let place = |on: &str, seq, name: &str| EntryPosition { video: video(on), seq, id: comment_id(name) };
    let own = BTreeSet::from([
        place("v", 1, "again"),
        place("v", 2, "again"),
        place("v", 3, "gone"),
        place("x", 1, "last"),
    ]);
    let (found, parts) = all_entries_of(archive, "ann").await;
    assert_eq!(found, own);
    assert!(parts > 1, "in parts");
    assert_eq!(all_entries_of(archive, "nobody").await.0, BTreeSet::new());

    let records = own.iter().zip(0..).map(|(EntryPosition { video, seq, id }, at)| {
        erasure_record(video.as_str(), id.as_str(), Some(*seq), &format!("e{at}"))
    });
    archive.commit_batch(&log.batch_on_partition_0(records)).await.unwrap();
    assert_eq!(all_entries_of(archive, "ann").await.0, BTreeSet::new(), "none is left");
    let entries = archive.comments(&video("v"), CommentPage::After(0), 100).await.unwrap();
    let left: Vec<_> =
        entries.iter().map(|it| (it.user_id.as_str(), it.text.as_str(), it.entry.removed_seq())).collect();
    let expected = [
        (NOBODY_ID, "", None),
        (NOBODY_ID, "", None),
        (NOBODY_ID, "", None),
        (NOBODY_ID, "", Some(3)),
        ("ben", "ben's", None),
        (NOBODY_ID, "", Some(1)),
        (NOBODY_ID, "", Some(2)),
        (NOBODY_ID, "", None),
    ];
    assert_eq!(
        left, expected,
        "texts and names are gone, numbers stay, and viewers are told of what they saw"
    );
}

pub async fn owned_marked_and_held_data_is_erased(archive: &dyn Archive) {
    let rules = CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() };
    archive.open(&rules).await.unwrap();
    let mut log = SimulatedLog::new();
    let hold = ModerationAction::Hold {
        comment_id: comment_id("h"),
        text: "waits".into(),
        reply_to: None,
        rule: RuleName::HoldAll,
    };
    let before = [
        event_by_user("ann", event_of_kind("v", Kind::Like)),
        event_by_user("ben", event_of_kind("v", Kind::Like)),
        moderation_record("v", "h", "ann", ActorRole::Author, hold),
    ];
    archive.commit_batch(&log.batch_on_partition_0(before)).await.unwrap();
    let keys = |name: &str| mark_keys(&video("v"), &user(name), rules.unique).collect::<Vec<_>>();
    let set = async |name: &str| archive.rebuild_archive().read_marks(None, &keys(name)).await.unwrap().len();
    assert_eq!(
        (
            set("ann").await,
            set("ben").await,
            archive.moderation_archive().count_held_comments().await.unwrap()
        ),
        (1, 1, 1)
    );

    let marks = keys("ann").into_iter().map(NameDigest::of_mark).collect();
    let forget = ModerationAction::Forget { user: NameDigest::of_user(&user("ann")), marks };
    let records =
        [moderation_record("v", "f", "ops", ActorRole::Service, forget), erasure_record("v", "h", None, "e")];
    archive.commit_batch(&log.batch_on_partition_0(records)).await.unwrap();
    assert_eq!((set("ann").await, set("ben").await), (0, 1), "the user's marks, and no others");
    assert_eq!(
        archive.moderation_archive().held_comments(None, 10).await.unwrap(),
        [],
        "what waited is gone"
    );
    let state = archive.video(&video("v")).await.unwrap().unwrap();
    assert_eq!(
        (state.owner.as_str(), state.counters.likes),
        (NOBODY_ID, 2),
        "what was counted stays counted"
    );
}

pub async fn a_replay_erases_again(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let batches = [
        log.batch_on_partition_0([
            event_by_user("ann", comment("v", "a", "one")),
            event_by_user("ben", comment("v", "b", "two")),
        ]),
        log.batch_on_partition_0([
            erasure_record("v", "a", Some(1), "e1"),
            erasure_record("v", "a", Some(1), "e2"),
        ]),
    ];
    for batch in &batches {
        archive.commit_batch(batch).await.unwrap();
    }
    let before = archive.comments(&video("v"), CommentPage::After(0), 10).await.unwrap();
    let replay =
        archive.rebuild_archive().begin_replay(&CountingRules::default(), None, &|_, _| ()).await.unwrap();
    for batch in &batches {
        replay.archive().commit_batch(batch).await.unwrap();
    }
    let finished = replay.swap_in(false, &|_, _| ()).await.unwrap();
    assert!(matches!(finished, ReplayFinish::Done { .. }), "{finished:?}");
    assert_eq!(archive.comments(&video("v"), CommentPage::After(0), 10).await.unwrap(), before);
    assert_eq!(all_entries_of(archive, "ann").await.0, BTreeSet::new(), "what was erased does not come back");
}
