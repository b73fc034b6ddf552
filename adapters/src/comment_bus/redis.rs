//! The comment bus on Redis: a channel for each video to deliver its comments, and a stream for each video to keep the
//! last ones.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `comments:<video>` | stream | entry `<seq>-0`: `n` the comment epoch, `c` the comment as JSON, `b` the bytes of all comments up to it |
//! | `video:<video>` | channel, sharded on a cluster | the same JSON |

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::trace::{TraceContext, lenient};
use liverank_core::{CommentId, VideoId};
use redis::{Pipeline, cmd};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    ChannelHead, CommentBus, DELIVERY_QUEUE_LENGTH, Delivery, KEPT_BYTES_PER_VIDEO, KEPT_COMMENTS_PER_VIDEO,
    KEPT_SECONDS, Subscription, trace_of,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;
use crate::redis_link::{Listener, PART_NAME, RedisLink};

/// The number of comments published in one round trip, so that a large batch stays well within the response timeout.
const COMMENTS_A_PUBLISH: usize = 1000;
/// The number of channel heads read in one round trip.
const HEADS_A_REQUEST: usize = 500;
/// The format version of what is stored and published.
const WIRE_FORMAT: u32 = 1;

const PUBLISH_LUA: &str = include_str!("redis/publish.lua");

/// The comment bus on Redis.
pub struct RedisBus {
    link: Arc<RedisLink>,
    /// The digest under which Redis stores [`PUBLISH_LUA`].
    script_digest: String,
}

impl RedisBus {
    /// Returns the bus on the Redis of `link`.
    pub fn new(link: Arc<RedisLink>) -> Self {
        Self { link, script_digest: redis::Script::new(PUBLISH_LUA).get_hash().to_owned() }
    }

    async fn publish_chunk(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError> {
        let mut order: Vec<&VideoId> = Vec::new();
        let mut videos: HashMap<&VideoId, Vec<&Comment>> = HashMap::new();
        for comment in comments {
            let of_video = videos.entry(&comment.video_id).or_default();
            if of_video.is_empty() {
                order.push(&comment.video_id);
            }
            of_video.push(comment);
        }
        let mut pipeline = Pipeline::new();
        // The script is sent along each time: it is small beside a batch, and a restarted Redis needs no second
        // attempt.
        pipeline.cmd("SCRIPT").arg("LOAD").arg(PUBLISH_LUA).ignore();
        for video in order {
            pipeline.cmd("EVALSHA").arg(&self.script_digest).arg(1);
            pipeline.arg(self.link.keys().comment_stream(video)).arg(self.link.keys().video_channel(video));
            pipeline
                .arg(numbering.as_str())
                .arg(KEPT_COMMENTS_PER_VIDEO)
                .arg(KEPT_SECONDS)
                .arg(self.link.publish_command_name());
            pipeline.arg(KEPT_BYTES_PER_VIDEO);
            for comment in &videos[video] {
                let trace = trace_of(traces, comment);
                let wire = PublishedComment { format: WIRE_FORMAT, numbering, trace, comment: *comment };
                pipeline.arg(comment.seq).arg(wire.encode());
                pipeline.arg(comment.entry.removed_seq().unwrap_or(0));
            }
            pipeline.ignore();
        }
        self.link.pipeline(&pipeline).await
    }
}

/// A comment as it is kept and published: the JSON that clients see, and the comment epoch of its sequence number.
#[derive(Serialize, Deserialize)]
struct PublishedComment<N, C> {
    format: u32,
    /// The comment epoch of the comment's sequence number.
    numbering: N,
    /// The trace span that published the comment. Releases without traces ignore this field.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::read_one")]
    trace: Option<TraceContext>,
    #[serde(flatten)]
    comment: C,
}

impl PublishedComment<&CommentEpoch, &Comment> {
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and whole numbers always serialise")
    }
}

fn parse_published(payload: &[u8]) -> Option<PublishedComment<CommentEpoch, Comment>> {
    let wire: PublishedComment<CommentEpoch, Comment> = serde_json::from_slice(payload).ok()?;
    (wire.format == WIRE_FORMAT).then_some(wire)
}

fn decode_comment(payload: &[u8]) -> Option<(CommentEpoch, Comment)> {
    parse_published(payload).map(|wire| (wire.numbering, wire.comment))
}

fn decode_delivery(payload: &[u8]) -> Option<Delivery> {
    let PublishedComment { numbering, comment, trace, format: _ } = parse_published(payload)?;
    Some(Delivery::Comment { numbering, comment, trace: trace.map(Box::new) })
}

/// An entry of a stream as Redis answers it: the entry's id, and its fields and values in turn.
type StreamEntry = (String, Vec<Vec<u8>>);

fn parse_head((id, fields): &StreamEntry) -> Result<ChannelHead, StoreError> {
    let foreign =
        || StoreError::unusable(PART_NAME, format!("a stream of comments holds a foreign entry {id}"));
    let seq = id.strip_suffix("-0").and_then(|seq| seq.parse().ok()).ok_or_else(foreign)?;
    let numbering = fields.get(1).and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(foreign)?;
    Ok(ChannelHead { comment_epoch: CommentEpoch::parse(numbering).map_err(|_| foreign())?, seq })
}

/// Returns the comments of these entries if they are those that follow `after` in this comment epoch without a gap;
/// else `None`.
fn comments_without_gap(
    entries: &[StreamEntry],
    numbering: &CommentEpoch,
    after: u64,
) -> Result<Option<Vec<Comment>>, StoreError> {
    let mut comments = Vec::with_capacity(entries.len());
    for (entry, seq) in entries.iter().zip(after + 1..) {
        let head = parse_head(entry)?;
        // An entry in the format of another release counts as not kept.
        let comment = entry.1.get(3).and_then(|payload| decode_comment(payload));
        match comment {
            Some((_, comment)) if head.seq == seq && head.comment_epoch == *numbering => {
                comments.push(comment);
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(comments))
}

#[async_trait]
impl CommentBus for RedisBus {
    async fn publish_traced(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError> {
        for chunk in comments.chunks(COMMENTS_A_PUBLISH) {
            self.publish_chunk(numbering, chunk, traces).await?;
        }
        Ok(())
    }

    async fn new_subscription(
        &self,
    ) -> Result<(Box<dyn Subscription>, mpsc::Receiver<Delivery>), StoreError> {
        let (outlet, receiver) = LossyChannel::bounded(DELIVERY_QUEUE_LENGTH, Delivery::Reset);
        let listener = self.link.start_subscription(outlet, decode_delivery);
        Ok((Box::new(RedisSubscription { link: Arc::clone(&self.link), listener }), receiver))
    }

    async fn recent_comments(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<Comment>>, StoreError> {
        let stream = self.link.keys().comment_stream(video);
        let mut pipeline = Pipeline::new();
        pipeline.cmd("XREVRANGE").arg(&stream).arg("+").arg("-").arg("COUNT").arg(1);
        let from = format!("{}-0", after.saturating_add(1));
        pipeline.cmd("XRANGE").arg(&stream).arg(from).arg("+").arg("COUNT").arg(limit.max(1));
        let (newest, mut entries): (Vec<StreamEntry>, Vec<StreamEntry>) =
            self.link.pipeline(&pipeline).await?;
        if entries.is_empty() {
            let head = newest.first().map(parse_head).transpose()?;
            let up_to_date = head.is_some_and(|head| head.comment_epoch == *numbering && head.seq == after);
            return Ok(up_to_date.then(Vec::new));
        }
        entries.truncate(limit);
        comments_without_gap(&entries, numbering, after)
    }

    async fn channel_heads(&self, videos: &[VideoId]) -> Result<Vec<Option<ChannelHead>>, StoreError> {
        let mut heads = Vec::with_capacity(videos.len());
        for chunk in videos.chunks(HEADS_A_REQUEST) {
            let mut pipeline = Pipeline::new();
            for video in chunk {
                let stream = self.link.keys().comment_stream(video);
                pipeline
                    .add_command(cmd("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").arg(1).clone());
            }
            let newest: Vec<Vec<StreamEntry>> = self.link.pipeline(&pipeline).await?;
            for entries in newest {
                heads.push(entries.first().map(parse_head).transpose()?);
            }
        }
        Ok(heads)
    }
}

struct RedisSubscription {
    link: Arc<RedisLink>,
    listener: Listener,
}

#[async_trait]
impl Subscription for RedisSubscription {
    async fn subscribe(&self, video: &VideoId) -> Result<(), StoreError> {
        self.listener.subscribe(self.link.keys().video_channel(video)).await
    }

    async fn unsubscribe(&self, video: &VideoId) -> Result<(), StoreError> {
        self.listener.unsubscribe(self.link.keys().video_channel(video)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment_epoch() -> CommentEpoch {
        CommentEpoch::parse("abc").unwrap()
    }

    fn comment(seq: u64) -> Comment {
        let json = format!(
            r#"{{"id":"c{seq}","userid":"u","videoid":"v","comment":"h\u00e9","timestamp":5,"seq":{seq}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn entry(seq: u64, numbering: &CommentEpoch) -> StreamEntry {
        let payload =
            PublishedComment { format: WIRE_FORMAT, numbering, trace: None, comment: &comment(seq) }.encode();
        let fields = [b"n".to_vec(), numbering.as_str().into(), b"c".to_vec(), payload];
        (format!("{seq}-0"), fields.into())
    }

    #[test]
    fn a_published_comment_has_its_client_json_and_its_comment_epoch() {
        let payload = PublishedComment {
            format: WIRE_FORMAT,
            numbering: &comment_epoch(),
            trace: None,
            comment: &comment(7),
        }
        .encode();
        let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(
            (&json["numbering"], &json["videoid"], &json["seq"]),
            (&"abc".into(), &"v".into(), &7.into())
        );
        assert_eq!(decode_comment(&payload), Some((comment_epoch(), comment(7))));
        let other = String::from_utf8(payload).unwrap().replace("\"format\":1", "\"format\":2");
        assert_eq!(decode_comment(other.as_bytes()), None);
        assert_eq!(decode_comment(b"{}"), None);
    }

    #[test]
    fn a_published_trace_is_delivered_and_a_malformed_one_is_ignored() {
        let (numbering, comment) = (&comment_epoch(), &comment(7));
        let trace = TraceContext { trace_id: [7; 16], span_id: [9; 8], sampled: true };
        let payload =
            PublishedComment { format: WIRE_FORMAT, numbering, trace: Some(trace), comment }.encode();
        assert_eq!(
            decode_comment(&payload),
            Some((numbering.clone(), comment.clone())),
            "as releases before read it"
        );
        let heard = |payload: &[u8]| match decode_delivery(payload) {
            Some(Delivery::Comment { comment, trace, .. }) => (comment.seq, trace.map(|trace| *trace)),
            other => panic!("{other:?}"),
        };
        assert_eq!(heard(&payload), (7, Some(trace)));
        let text = String::from_utf8(payload).unwrap();
        let written = trace.to_string();
        for other in ["\"nonsense\"", "null", "7", "{\"a\":[]}"] {
            assert_eq!(
                heard(text.replace(&format!("\"{written}\""), other).as_bytes()),
                (7, None),
                "{other}"
            );
        }
    }

    #[test]
    fn a_gap_or_another_comment_epoch_gives_no_recent_comments() {
        let entries = |seqs: &[u64]| seqs.iter().map(|seq| entry(*seq, &comment_epoch())).collect::<Vec<_>>();
        let read =
            |seqs: &[u64], after| comments_without_gap(&entries(seqs), &comment_epoch(), after).unwrap();
        assert_eq!(read(&[4, 5], 3), Some(vec![comment(4), comment(5)]));
        assert_eq!(read(&[4, 6], 3), None);
        assert_eq!(read(&[5], 3), None);
        assert_eq!(
            comments_without_gap(&entries(&[4]), &CommentEpoch::parse("xyz").unwrap(), 3).unwrap(),
            None
        );
        assert!(parse_head(&("7-1".to_owned(), vec![])).is_err());
    }

    #[test]
    fn streams_and_channels_have_fixtures() {
        type DecodedComment = (CommentEpoch, Comment);
        for (name, comment) in [
            ("redis-comment", crate::fixtures::fixture_comment()),
            ("redis-deletion", crate::fixtures::fixture_deletion()),
            ("redis-pin", crate::fixtures::fixture_pin()),
            ("redis-shadowed", crate::fixtures::fixture_shadowed_comment()),
        ] {
            let write = |(numbering, comment): &DecodedComment| {
                crate::fixtures::parse_json(
                    &PublishedComment { format: WIRE_FORMAT, numbering, trace: None, comment }.encode(),
                )
            };
            let read =
                |value: &serde_json::Value| decode_comment(value.to_string().as_bytes()).ok_or("is not read");
            crate::fixtures::check_json_fixture(name, &(comment_epoch(), comment), write, read);
        }
    }
}
