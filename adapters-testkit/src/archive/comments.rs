//! Checks of comments: numbered, paged, and found again.

use liverank_core::counting::{CountingRules, REPEAT_WINDOW_MS};
use liverank_core::{Comment, CommentId};

use super::log::{Model, SimulatedLog, comment, video, view};
use liverank_adapters::Archive;
use liverank_adapters::archive::CommentPage;

const NO_SEQS: [u64; 0] = [];

fn seqs_of(comments: &[Comment]) -> Vec<u64> {
    comments.iter().map(|comment| comment.seq).collect()
}

pub async fn comments_are_numbered_without_a_hole(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let mut made = 0;
    for size in [1, 5, 0, 2, 17] {
        let events: Vec<_> = (0..size)
            .flat_map(|_| {
                made += 1;
                [
                    (made % 3, comment("v", &format!("v{made}"), "for v")),
                    (5, comment("w", &format!("w{made}"), "ẅ\n\"'")),
                ]
            })
            .collect();
        model.commit(archive, &log.batch(events), &CountingRules::default()).await;
    }
    model.check(archive).await;
    for id in ["v", "w"] {
        let all = archive.comments(&video(id), CommentPage::After(0), 100).await.unwrap();
        assert_eq!(seqs_of(&all), (1..=25).collect::<Vec<_>>(), "numbers of {id}");
    }
}

pub async fn comments_are_read_in_pages(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    // Videos whose keys are next to each other in any order: a page must not contain comments of a neighbour.
    let batch = log.batch_on_partition_0((1..=20).flat_map(|at| {
        ["u", "v", "v ", "v!", "w"].map(|id| comment(id, &format!("{id}-{at}"), &format!("{id} says {at}")))
    }));
    archive.commit_batch(&batch).await.unwrap();
    let page = async |page, limit| -> Vec<u64> {
        let comments = archive.comments(&video("v"), page, limit).await.unwrap();
        for comment in &comments {
            assert_eq!(
                comment.text,
                format!("v says {}", comment.seq),
                "the right comment of the right video"
            );
        }
        seqs_of(&comments)
    };
    assert_eq!(page(CommentPage::Before(u64::MAX), 3).await, [20, 19, 18], "the newest, newest first");
    assert_eq!(page(CommentPage::Before(18), 3).await, [17, 16, 15]);
    assert_eq!(page(CommentPage::Before(3), 10).await, [2, 1]);
    assert_eq!(page(CommentPage::Before(1), 10).await, NO_SEQS);
    assert_eq!(page(CommentPage::Before(0), 10).await, NO_SEQS);
    assert_eq!(page(CommentPage::After(0), 3).await, [1, 2, 3], "the oldest, oldest first");
    assert_eq!(page(CommentPage::After(17), 10).await, [18, 19, 20]);
    assert_eq!(page(CommentPage::After(20), 10).await, NO_SEQS);
    assert_eq!(page(CommentPage::After(u64::MAX), 10).await, NO_SEQS);
    assert_eq!(page(CommentPage::After(0), 0).await, NO_SEQS);
    assert_eq!(page(CommentPage::Before(u64::MAX), 1000).await.len(), 20);
}

pub async fn a_reply_is_kept_with_what_it_replies_to(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let replied = CommentId::parse("c 1/ü").unwrap();
    let mut reply = comment("v", "c2", "and so am I");
    reply.comment.as_mut().unwrap().reply_to = Some(replied.clone());
    let batch = log.batch_on_partition_0([comment("v", replied.as_str(), "I am here"), reply]);
    let effects = archive.commit_batch(&batch).await.unwrap().batch_effects;
    let expected = [None, Some(replied)];
    let told: Vec<_> = effects.comments.iter().map(|numbered| numbered.comment.reply_to.clone()).collect();
    assert_eq!(told, expected, "for the publishing");
    let page = archive.comments(&video("v"), CommentPage::After(0), 10).await.unwrap();
    assert_eq!(page.into_iter().map(|comment| comment.reply_to).collect::<Vec<_>>(), expected);
    let again = archive.comments_from(0, 0, 10).await.unwrap();
    assert_eq!(again.into_iter().map(|numbered| numbered.comment.reply_to).collect::<Vec<_>>(), expected);
}

pub async fn comments_are_found_by_where_they_came_from(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut events = Vec::new();
    for at in 0..30 {
        events.push((at % 3, comment(&format!("v{}", at % 4), &format!("c{at}"), "text")));
        events.push((at % 3, view("v0")));
    }
    for chunk in events.chunks(7) {
        archive.commit_batch(&log.batch(chunk.to_vec())).await.unwrap();
    }
    let all = archive.comments_from(1, 0, 100).await.unwrap();
    assert_eq!(
        all.iter().map(|one| one.offset).collect::<Vec<_>>(),
        (0..20).step_by(2).collect::<Vec<u64>>()
    );
    assert!(all.iter().all(|one| one.partition == 1), "those of the partition only");
    let texts: Vec<_> = all.iter().map(|one| one.comment.id.as_str()).collect();
    assert_eq!(texts, ["c1", "c4", "c7", "c10", "c13", "c16", "c19", "c22", "c25", "c28"], "in log order");
    assert_eq!(archive.comments_from(1, 5, 2).await.unwrap(), all[3..5], "from an offset between two");
    assert_eq!(archive.comments_from(1, 18, 10).await.unwrap(), all[9..], "the offset itself is included");
    assert_eq!(archive.comments_from(1, 19, 10).await.unwrap(), []);
    assert_eq!(archive.comments_from(11, 0, 10).await.unwrap(), []);
}

pub async fn newest_comment_of_an_id_is_returned(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let rules = CountingRules::default();
    let id = CommentId::parse("same").unwrap();
    assert_eq!(archive.newest_comment(&video("v"), &id).await.unwrap(), None);
    model
        .commit(
            archive,
            &log.batch_on_partition_0([comment("v", "same", "first"), comment("v", "same", "repeat")]),
            &rules,
        )
        .await;
    let held = archive.newest_comment(&video("v"), &id).await.unwrap().expect("an archived comment");
    assert_eq!((held.text.as_str(), held.seq), ("first", 1), "the first body wins");
    log.advance_clock(REPEAT_WINDOW_MS);
    model.commit(archive, &log.batch_on_partition_0([comment("v", "same", "a day later")]), &rules).await;
    let held = archive.newest_comment(&video("v"), &id).await.unwrap().expect("an archived comment");
    assert_eq!((held.text.as_str(), held.seq), ("a day later", 2), "the newest is answered");
    assert_eq!(archive.newest_comment(&video("w"), &id).await.unwrap(), None, "it is another video's");
    model.check(archive).await;
}
