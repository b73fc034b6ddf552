//! The checks that every [`CommentBus`] must pass; each panics if it fails.

// Checks are tests: they panic with the reason.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use liverank_core::comment::{Comment, CommentEpoch, EntryKind};
use liverank_core::moderation::ActorRole;
use liverank_core::trace::TraceContext;
use liverank_core::{CommentId, UserId, VideoId};
use tokio::sync::mpsc;

use liverank_adapters::comment_bus::{
    ChannelHead, CommentBus, DELIVERY_QUEUE_LENGTH, Delivery, KEPT_BYTES_PER_VIDEO, KEPT_COMMENTS_PER_VIDEO,
};

type SharedBus = Arc<dyn CommentBus>;

/// The longest wait for a delivery: deliveries arrive within a fraction of it, on a machine that is not overloaded.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Identifiers that expose code which mistakes them for patterns, hash tags, separators or ASCII.
const UNUSUAL_IDS: [&str; 14] =
    ["a b", "{", "}", "a}b{c", "{}", "*", "?", "[a-z]", "\\", "\"", "ä", "日本", "🎬", "0-0"];

/// Runs all checks; `fresh` returns a new, empty bus for each.
pub async fn suite<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = SharedBus>,
{
    an_empty_bus_returns_nothing(fresh().await).await;
    subscribers_get_comments_in_order(fresh().await).await;
    a_trace_comes_with_its_comment_and_with_no_other(fresh().await).await;
    only_subscribed_videos_are_delivered(fresh().await).await;
    unusual_ids_are_accepted(fresh().await).await;
    kept_comments_are_read_from_any_seq(fresh().await).await;
    publishing_again_changes_nothing(fresh().await).await;
    a_gap_in_kept_comments_is_reported(fresh().await).await;
    removed_comments_are_not_returned(fresh().await).await;
    a_new_comment_epoch_replaces_the_old(fresh().await).await;
    only_the_last_comments_are_kept(fresh().await).await;
    long_comments_are_bounded_by_bytes(fresh().await).await;
    heads_come_in_the_order_asked_for(fresh().await).await;
    a_slow_subscriber_gets_a_reset(fresh().await).await;
    a_dropped_subscription_ends(fresh().await).await;
    many_subscriptions_at_once(fresh().await).await;
}

fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

fn comment_epoch() -> CommentEpoch {
    CommentEpoch::parse("n1").unwrap()
}

fn comment(id: &str, seq: u64) -> Comment {
    Comment {
        id: CommentId::parse(&format!("c{seq}")).unwrap(),
        user_id: UserId::parse("ü \"user\"").unwrap(),
        video_id: video(id),
        text: format!("comment {seq} on {id}: \"\\ \u{1f3ac} \n"),
        timestamp: 1_800_000_000_000 + seq as i64,
        seq,
        entry: EntryKind::Comment,
        reply_to: seq.is_multiple_of(2).then(|| CommentId::parse("c1").unwrap()),
    }
}

fn comments(id: &str, seqs: impl IntoIterator<Item = u64>) -> Vec<Comment> {
    seqs.into_iter().map(|seq| comment(id, seq)).collect()
}

fn channel_head(seq: u64) -> ChannelHead {
    ChannelHead { comment_epoch: comment_epoch(), seq }
}

async fn publish_all(bus: &SharedBus, comments: &[Comment]) {
    bus.publish_comments(&comment_epoch(), comments).await.unwrap();
}

async fn recent_of(bus: &SharedBus, id: &str, after: u64, limit: usize) -> Option<Vec<Comment>> {
    bus.recent_comments(&comment_epoch(), &video(id), after, limit).await.unwrap()
}

async fn next_delivery(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
    tokio::time::timeout(DELIVERY_TIMEOUT, deliveries.recv())
        .await
        .expect("is delivered in time")
        .expect("goes on")
}

/// Receives comments up to `last` and returns them without repeats; fails at a reset.
async fn receive_until(deliveries: &mut mpsc::Receiver<Delivery>, last: &Comment) -> Vec<Comment> {
    receive_until_all(deliveries, std::slice::from_ref(last)).await
}

/// Receives comments up to all of `lasts` and returns them without repeats: different videos come in any order.
async fn receive_until_all(deliveries: &mut mpsc::Receiver<Delivery>, lasts: &[Comment]) -> Vec<Comment> {
    let mut heard: Vec<Comment> = Vec::new();
    let mut missing: Vec<&Comment> = lasts.iter().collect();
    loop {
        match next_delivery(deliveries).await {
            Delivery::Comment { numbering: told, comment, .. } => {
                assert_eq!(told, comment_epoch());
                missing.retain(|last| **last != comment);
                if !heard.contains(&comment) {
                    heard.push(comment);
                }
                if missing.is_empty() {
                    return heard;
                }
            }
            Delivery::Reset => panic!("nothing was lost"),
        }
    }
}

async fn an_empty_bus_returns_nothing(bus: SharedBus) {
    assert_eq!(bus.channel_heads(&[video("v"), video("w")]).await.unwrap(), [None, None]);
    assert_eq!(bus.channel_heads(&[]).await.unwrap(), []);
    assert_eq!(recent_of(&bus, "v", 0, 10).await, None);
    publish_all(&bus, &[]).await;
}

async fn subscribers_get_comments_in_order(bus: SharedBus) {
    let (one, mut first) = bus.new_subscription().await.unwrap();
    let (two, mut second) = bus.new_subscription().await.unwrap();
    one.subscribe(&video("v")).await.unwrap();
    two.subscribe(&video("v")).await.unwrap();
    two.subscribe(&video("w")).await.unwrap();
    for seq in 1..=50 {
        publish_all(&bus, &[comment("v", 2 * seq - 1), comment("w", seq), comment("v", 2 * seq)]).await;
    }
    publish_all(&bus, &[comment("w", 51), comment("v", 101)]).await;
    assert_eq!(receive_until(&mut first, &comment("v", 101)).await, comments("v", 1..=101));
    let both = receive_until_all(&mut second, &[comment("v", 101), comment("w", 51)]).await;
    let of =
        |id: &str| both.iter().filter(|comment| comment.video_id == video(id)).cloned().collect::<Vec<_>>();
    assert_eq!((of("v"), of("w")), (comments("v", 1..=101), comments("w", 1..=51)));
}

async fn a_trace_comes_with_its_comment_and_with_no_other(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    let trace = TraceContext { trace_id: [1; 16], span_id: [2; 8], sampled: true };
    let three = comments("v", 1..=3);
    bus.publish_traced(&comment_epoch(), &three, &[(three[1].id.clone(), trace)]).await.unwrap();
    for (seq, expected) in [(1, None), (2, Some(trace)), (3, None)] {
        let heard = next_delivery(&mut deliveries).await;
        let comment = comment("v", seq);
        let trace = expected.map(Box::new);
        assert_eq!(heard, Delivery::Comment { numbering: comment_epoch(), comment, trace });
    }
    assert_eq!(recent_of(&bus, "v", 0, 10).await, Some(three), "what is kept is the comments");
}

async fn only_subscribed_videos_are_delivered(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    publish_all(&bus, &comments("v", 1..=1)).await;
    // To subscribe twice is the same as once.
    subscription.subscribe(&video("v")).await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    subscription.subscribe(&video("end")).await.unwrap();
    subscription.unsubscribe(&video("never")).await.unwrap();
    publish_all(&bus, &[comment("v", 2), comment("other", 1), comment("end", 1)]).await;
    let mut heard = receive_until_all(&mut deliveries, &[comment("v", 2), comment("end", 1)]).await;
    heard.sort_by_key(|comment| comment.seq);
    assert_eq!(heard, [comment("end", 1), comment("v", 2)]);
    subscription.unsubscribe(&video("v")).await.unwrap();
    publish_all(&bus, &[comment("v", 3), comment("end", 2)]).await;
    assert_eq!(receive_until(&mut deliveries, &comment("end", 2)).await, [comment("end", 2)]);
    subscription.subscribe(&video("v")).await.unwrap();
    publish_all(&bus, &comments("v", 4..=4)).await;
    assert_eq!(receive_until(&mut deliveries, &comment("v", 4)).await, [comment("v", 4)]);
}

async fn unusual_ids_are_accepted(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    let (long, other) = ("ß".repeat(128), format!("{}x", "ß".repeat(127)));
    let ids: Vec<&str> =
        UNUSUAL_IDS.iter().copied().chain([long.as_str(), other.as_str(), "v", "vv"]).collect();
    for id in &ids {
        subscription.subscribe(&video(id)).await.unwrap();
    }
    for (at, id) in ids.iter().enumerate() {
        // Each video has another number of comments, so that none is taken for another.
        publish_all(&bus, &comments(id, 1..=at as u64 + 1)).await;
        let heard = receive_until(&mut deliveries, &comment(id, at as u64 + 1)).await;
        assert_eq!(heard, comments(id, 1..=at as u64 + 1), "{id:?}");
    }
    let videos: Vec<VideoId> = ids.iter().map(|id| video(id)).collect();
    let expected: Vec<_> = (1..=ids.len() as u64).map(|seq| Some(channel_head(seq))).collect();
    assert_eq!(bus.channel_heads(&videos).await.unwrap(), expected);
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(recent_of(&bus, id, 0, 100).await, Some(comments(id, 1..=at as u64 + 1)), "{id:?}");
    }
}

async fn kept_comments_are_read_from_any_seq(bus: SharedBus) {
    publish_all(&bus, &comments("v", 5..=30)).await;
    assert_eq!(recent_of(&bus, "v", 4, 100).await, Some(comments("v", 5..=30)));
    assert_eq!(recent_of(&bus, "v", 10, 3).await, Some(comments("v", 11..=13)));
    assert_eq!(recent_of(&bus, "v", 10, 0).await, Some(vec![]));
    assert_eq!(recent_of(&bus, "v", 29, 100).await, Some(comments("v", 30..=30)));
    assert_eq!(recent_of(&bus, "v", 30, 100).await, Some(vec![]), "there is nothing after the last one");
    assert_eq!(recent_of(&bus, "v", 31, 100).await, None, "who is ahead is not told that nothing is missing");
    assert_eq!(recent_of(&bus, "v", u64::MAX, 1).await, None);
    assert_eq!(recent_of(&bus, "v", 3, 100).await, None, "the first one is not kept");
    let other = CommentEpoch::parse("n2").unwrap();
    assert_eq!(bus.recent_comments(&other, &video("v"), 10, 100).await.unwrap(), None);
    assert_eq!(bus.recent_comments(&other, &video("v"), 30, 100).await.unwrap(), None);
}

async fn publishing_again_changes_nothing(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    publish_all(&bus, &comments("v", 1..=20)).await;
    publish_all(&bus, &comments("v", 1..=20)).await;
    publish_all(&bus, &comments("v", 15..=25)).await;
    publish_all(&bus, &comments("v", 3..=3)).await;
    publish_all(&bus, &comments("v", 26..=26)).await;
    assert_eq!(recent_of(&bus, "v", 0, 100).await, Some(comments("v", 1..=26)));
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [Some(channel_head(26))]);
    assert_eq!(receive_until(&mut deliveries, &comment("v", 26)).await, comments("v", 1..=26));
}

async fn a_gap_in_kept_comments_is_reported(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    publish_all(&bus, &comments("v", 1..=5)).await;
    publish_all(&bus, &comments("v", 8..=9)).await;
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [Some(channel_head(9))]);
    for after in 3..=6 {
        assert_eq!(recent_of(&bus, "v", after, 100).await, None, "6 and 7 are missing after {after}");
    }
    assert_eq!(recent_of(&bus, "v", 7, 100).await, Some(comments("v", 8..=9)));
    // The missing comments come late: subscribers receive them all the same.
    publish_all(&bus, &comments("v", 6..=7)).await;
    publish_all(&bus, &comments("v", 10..=10)).await;
    let heard = receive_until(&mut deliveries, &comment("v", 10)).await;
    assert_eq!(heard, comments("v", [1, 2, 3, 4, 5, 8, 9, 6, 7, 10]));
    if let Some(kept) = recent_of(&bus, "v", 5, 100).await {
        assert_eq!(kept, comments("v", 6..=10), "without a hole or not at all");
    }
    assert_eq!(recent_of(&bus, "v", 7, 100).await, Some(comments("v", 8..=10)));
}

async fn removed_comments_are_not_returned(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    publish_all(&bus, &comments("v", 1..=5)).await;
    let of = CommentId::parse("c3").unwrap();
    let entry = EntryKind::Deleted { comment_id: of, of: 3, role: ActorRole::Moderator };
    let deletion = Comment { text: String::new(), entry, ..comment("v", 6) };
    // The deletion again, as from a publisher that is not sure that it was done; and the comment, as from one that is
    // late.
    for _ in 0..2 {
        publish_all(&bus, std::slice::from_ref(&deletion)).await;
        publish_all(&bus, &comments("v", 3..=3)).await;
    }
    publish_all(&bus, &comments("v", 7..=7)).await;
    let heard = receive_until(&mut deliveries, &comment("v", 7)).await;
    assert_eq!(heard[5], deletion, "whoever listens is told");
    assert_eq!(heard.len(), 7);
    for after in 0..3 {
        let kept = recent_of(&bus, "v", after, 100).await.unwrap_or_default();
        assert!(kept.iter().all(|kept| kept.seq != 3 || *kept == comment("v", 3).into_removed()), "{kept:?}");
    }
    let rest = vec![comment("v", 4), comment("v", 5), deletion, comment("v", 7)];
    assert_eq!(recent_of(&bus, "v", 3, 100).await, Some(rest));
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [Some(channel_head(7))]);
}

async fn a_new_comment_epoch_replaces_the_old(bus: SharedBus) {
    let new = CommentEpoch::parse("n2").unwrap();
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    publish_all(&bus, &comments("v", 1..=5)).await;
    bus.publish_comments(&new, &comments("v", 1..=2)).await.unwrap();
    assert_eq!(
        bus.channel_heads(&[video("v")]).await.unwrap(),
        [Some(ChannelHead { comment_epoch: new.clone(), seq: 2 })]
    );
    assert_eq!(bus.recent_comments(&new, &video("v"), 0, 100).await.unwrap(), Some(comments("v", 1..=2)));
    assert_eq!(recent_of(&bus, "v", 1, 100).await, None);
    let mut told = Vec::new();
    while told.len() < 7 {
        let Delivery::Comment { numbering, comment, .. } = next_delivery(&mut deliveries).await else {
            panic!("nothing was lost")
        };
        told.push((numbering, comment.seq));
    }
    let expected = (1..=5).map(|seq| (comment_epoch(), seq)).chain((1..=2).map(|seq| (new.clone(), seq)));
    assert_eq!(told, expected.collect::<Vec<_>>());
}

async fn only_the_last_comments_are_kept(bus: SharedBus) {
    let count = 3 * KEPT_COMMENTS_PER_VIDEO as u64;
    publish_all(&bus, &comments("v", 1..=count)).await;
    let first = count - KEPT_COMMENTS_PER_VIDEO as u64;
    let kept = recent_of(&bus, "v", first, 2 * KEPT_COMMENTS_PER_VIDEO).await;
    assert_eq!(kept, Some(comments("v", first + 1..=count)));
    assert_eq!(recent_of(&bus, "v", 0, 10).await, None, "memory is bounded");
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [Some(channel_head(count))]);
}

async fn long_comments_are_bounded_by_bytes(bus: SharedBus) {
    const LONG_TEXT_CHARS: usize = 16 * 1024;
    let count = 2 * KEPT_BYTES_PER_VIDEO as u64 / LONG_TEXT_CHARS as u64;
    let long = |seq| Comment { text: "x".repeat(LONG_TEXT_CHARS), ..comment("v", seq) };
    let all: Vec<Comment> = (1..=count).map(long).collect();
    // In growing numbers: one comment, a few, and many at a time.
    let (one, rest) = all.split_at(1);
    publish_all(&bus, one).await;
    for few in rest.chunks(50) {
        publish_all(&bus, few).await;
    }
    let near = |after| recent_of(&bus, "v", after, KEPT_COMMENTS_PER_VIDEO);
    // The other fields of a comment take little space beside the text.
    let fit = (KEPT_BYTES_PER_VIDEO / LONG_TEXT_CHARS) as u64 * 9 / 10;
    assert_eq!(
        near(count - fit).await.as_deref(),
        Some(&all[(count - fit) as usize..]),
        "there is room for these"
    );
    assert_eq!(
        near(count - (KEPT_BYTES_PER_VIDEO / LONG_TEXT_CHARS) as u64 - 1).await,
        None,
        "and not for these"
    );
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [Some(channel_head(count))]);
    // Short comments fit again, up to their largest number.
    publish_all(&bus, &comments("v", count + 1..=count + 2 * KEPT_COMMENTS_PER_VIDEO as u64)).await;
    let after = count + KEPT_COMMENTS_PER_VIDEO as u64;
    let kept = recent_of(&bus, "v", after, KEPT_COMMENTS_PER_VIDEO).await;
    assert_eq!(kept, Some(comments("v", after + 1..=after + KEPT_COMMENTS_PER_VIDEO as u64)));
}

async fn heads_come_in_the_order_asked_for(bus: SharedBus) {
    let id = |at: u64| format!("v{at}");
    let all: Vec<Comment> = (0..1500).filter(|at| at % 3 > 0).map(|at| comment(&id(at), at)).collect();
    publish_all(&bus, &all).await;
    let asked: Vec<VideoId> = (0..1500).rev().map(|at| video(&id(at))).collect();
    let expected: Vec<_> = (0..1500).rev().map(|at| (at % 3 > 0).then(|| channel_head(at))).collect();
    assert_eq!(bus.channel_heads(&asked).await.unwrap(), expected);
}

async fn a_slow_subscriber_gets_a_reset(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    let count = 2 * DELIVERY_QUEUE_LENGTH as u64 + 100;
    publish_all(&bus, &comments("v", 1..=count)).await;
    let mut heard = 0;
    while let Delivery::Comment { comment, .. } = next_delivery(&mut deliveries).await {
        heard += 1;
        assert_eq!(comment.seq, heard, "what is heard before the loss has no hole");
        assert!(heard < count, "the loss is told");
    }
    // A subscriber that compares heads now and goes on receiving misses nothing.
    assert_eq!(bus.channel_heads(&[video("v")]).await.unwrap(), [Some(channel_head(count))]);
    let mut last = count + 1;
    publish_all(&bus, &comments("v", last..=last)).await;
    loop {
        match next_delivery(&mut deliveries).await {
            Delivery::Comment { comment, .. } if comment.seq == last => break,
            // A comment that was still on its way.
            Delivery::Comment { comment, .. } => assert!(comment.seq < last),
            // The queue overflowed once more, meanwhile.
            Delivery::Reset => {
                last += 1;
                publish_all(&bus, &comments("v", last..=last)).await;
            }
        }
    }
}

async fn a_dropped_subscription_ends(bus: SharedBus) {
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    publish_all(&bus, &comments("v", 1..=1)).await;
    assert_eq!(receive_until(&mut deliveries, &comment("v", 1)).await.len(), 1);
    drop(subscription);
    let end = tokio::time::timeout(DELIVERY_TIMEOUT, deliveries.recv()).await.expect("ends in time");
    assert_eq!(end, None);
    // A subscription whose deliveries nobody receives any more blocks nothing.
    let (subscription, deliveries) = bus.new_subscription().await.unwrap();
    subscription.subscribe(&video("v")).await.unwrap();
    drop(deliveries);
    publish_all(&bus, &comments("v", 2..=3)).await;
    assert_eq!(recent_of(&bus, "v", 0, 10).await, Some(comments("v", 1..=3)));
}

async fn many_subscriptions_at_once(bus: SharedBus) {
    const SUBSCRIBED_VIDEO_COUNT: u64 = 3000;
    let (subscription, mut deliveries) = bus.new_subscription().await.unwrap();
    let ids: Vec<String> = (0..SUBSCRIBED_VIDEO_COUNT).map(|at| format!("v{at}")).collect();
    let videos: Vec<VideoId> = ids.iter().map(|id| video(id)).collect();
    let all = videos.iter().map(|video| subscription.subscribe(video));
    futures::future::try_join_all(all).await.unwrap();
    let all: Vec<Comment> = ids.iter().map(|id| comment(id, 1)).collect();
    publish_all(&bus, &all).await;
    let heard = receive_until_all(&mut deliveries, &all).await;
    assert_eq!(heard.len(), ids.len());
    let odd = videos.iter().skip(1).step_by(2).map(|video| subscription.unsubscribe(video));
    futures::future::try_join_all(odd).await.unwrap();
    let all: Vec<Comment> = ids.iter().map(|id| comment(id, 2)).collect();
    publish_all(&bus, &all).await;
    let even: Vec<Comment> = all.iter().step_by(2).cloned().collect();
    let heard = receive_until_all(&mut deliveries, &even).await;
    assert_eq!(heard.len(), ids.len() / 2);
}
