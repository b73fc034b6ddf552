//! The five most performance-critical code paths, each run on a fixed input: `bench/instructions` counts the processor
//! instructions that they execute. Each run measures one path: `hot_paths count|stream|list|plan|route` prints the
//! number of operations.
//!
//! Only the instructions of the functions `measure_…` are counted, not those that make the functions' input.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Context, bail};
use liverank_adapters::archive::ArchivePosition;
use liverank_adapters::event_log::RawRecord;
use liverank_consumer::batches::{GatheredBatch, OptionalCounting};
use liverank_core::comment::{Comment, CommentEpoch, EntryKind};
use liverank_core::counting::{self, CountingRules, UniqueKinds};
use liverank_core::handover::coordinator::{ClusterView, ReaderStatus, readers_to_join};
use liverank_core::handover::{AssignedReaders, HeldVideo, ReaderShare};
use liverank_core::placement::{
    PlacementReader, PlacementVideo, PlanLimits, ReaderAvailability, Situation, VideoPart, ViewerMoveBudget,
    make_plan,
};
use liverank_core::ranking::RankedVideo;
use liverank_core::{CommentId, ReaderId, UserId, VideoId};
use liverank_reader::entry::EncodedEntry;
use liverank_reader::ring::{CommentRing, NextEvents};
use liverank_websocket::measure::ListEncoder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const EVENT_COUNT: usize = 5_000;
const COMMENT_COUNT: u64 = 50;
const VIEWER_COUNT: usize = 500;
const LIST_LINE_COUNT: usize = 100;
const LIST_UPDATE_COUNT: usize = 200;
const ROUTE_COUNT: u32 = 20_000;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("name a path: count, stream, list, plan or route")?;
    let operations = match path.as_str() {
        "count" => measured_count(&example_events()),
        "stream" => measured_stream(&example_comments()?),
        "list" => measured_list(ListEncoder::new(), example_lists()?),
        "plan" => measured_plan(&example_planner_situation()?),
        "route" => measured_route(&ExampleCluster::new()?),
        other => bail!("there is no path {other:?}: count, stream, list, plan or route"),
    };
    println!("{operations}");
    Ok(())
}

/// Returns records of events of 2,000 videos as the log returns them; the first videos occur more often.
fn example_events() -> Vec<RawRecord> {
    let mut random = StdRng::seed_from_u64(1);
    let kinds = [r#""view""#, r#""view""#, r#""like""#, r#""share""#, r#""watch_time","watch_time":3.5"#];
    let record = |offset: u64| {
        let video = (2_000_f64.powf(random.random_range(0.0..1.0))) as u32;
        let kind = kinds[offset as usize % kinds.len()];
        let user = random.random_range(0..100_000);
        let value = format!(r#"{{"video_id":"video-{video}","user_id":"user-{user}","type":{kind}}}"#);
        RawRecord {
            partition: 0,
            offset,
            broker_time: 1_800_000_000_000,
            key: None,
            value: value.into_bytes().into(),
            trace: None,
        }
    };
    (0..EVENT_COUNT as u64).map(record).collect()
}

/// Measures counting: from the bytes of the log to the effects that a commit writes. One operation of this measurement
/// is an event.
#[inline(never)]
fn measured_count(records: &[RawRecord]) -> usize {
    let owned = BTreeMap::from([(0, ArchivePosition { next_offset: 0, last_record: None })]);
    let mut gathered = GatheredBatch::default();
    let sorted = gathered.classify(records, &owned, |_| true);
    gathered.append_classified(
        sorted,
        UniqueKinds::default(),
        OptionalCounting { window_kind_count: 0, half_life_count: 0, identity_documents: true },
    );
    let batch = gathered.batch;
    black_box(batch.first_record_of_each_video().count());
    let effects = counting::apply_batch(&batch.records, [], [], &CountingRules::default());
    black_box(&effects.videos);
    effects.counted_event_count as usize
}

fn example_comments() -> anyhow::Result<Vec<Comment>> {
    let comment = |seq| {
        Ok(Comment {
            id: CommentId::parse(&format!("comment-{seq}"))?,
            user_id: UserId::parse(&format!("user-{seq}"))?,
            video_id: VideoId::parse("video")?,
            text: "What a goal that was, from so far away!".to_owned(),
            timestamp: 1_800_000_000_000,
            seq,
            entry: EntryKind::Comment,
            reply_to: None,
        })
    };
    (1..=COMMENT_COUNT).map(comment).collect()
}

/// Measures the delivery of comments: from comments of the bus, in portions of five, to the bytes for each viewer. One
/// operation is a delivery to one viewer.
#[inline(never)]
fn measured_stream(comments: &[Comment]) -> usize {
    let numbering = CommentEpoch::from_bits(1);
    let mut ring = CommentRing::new(100, 4 << 20);
    ring.begin_epoch(numbering.clone(), 0);
    let mut viewers = vec![ring.cursor_from_now(); VIEWER_COUNT];
    let (mut given, mut sink) = (0, Vec::with_capacity(64 * 1024));
    for portion in comments.chunks(5) {
        for comment in portion {
            ring.push(comment.seq, EncodedEntry::encode(&numbering, comment));
        }
        ring.reveal_all();
        for viewer in &mut viewers {
            while let NextEvents::Events { bytes, count } = ring.take_next_comments(viewer) {
                sink.clear();
                sink.extend_from_slice(&bytes);
                given += count as usize;
            }
        }
    }
    black_box(&sink);
    given
}

/// Returns successive states of the best hundred videos of a board; three scores change from one to the next.
fn example_lists() -> anyhow::Result<Vec<Vec<RankedVideo>>> {
    let mut random = StdRng::seed_from_u64(2);
    let line = |at: usize| {
        let (video, owner) = (format!("video-{at}"), format!("owner-{}", at % 7));
        let (video_id, user_id) = (VideoId::parse(&video)?, UserId::parse(&owner)?);
        anyhow::Ok(RankedVideo { video_id, score: (LIST_LINE_COUNT - at) as f64 * 10.0, user_id })
    };
    let mut list = (0..LIST_LINE_COUNT).map(line).collect::<anyhow::Result<Vec<_>>>()?;
    let mut update = || {
        for _ in 0..3 {
            list[random.random_range(0..LIST_LINE_COUNT)].score += f64::from(random.random_range(1..30_i32));
        }
        list.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.video_id.cmp(&b.video_id)));
        list.clone()
    };
    Ok((0..LIST_UPDATE_COUNT).map(|_| update()).collect())
}

/// Measures the encoding of a list of a hundred videos and of its changes. One operation of this measurement is an
/// update of the list.
#[inline(never)]
fn measured_list(mut encoder: ListEncoder, lists: Vec<Vec<RankedVideo>>) -> usize {
    let operations = lists.len();
    for list in lists {
        black_box(encoder.encode_next(list));
    }
    operations
}

/// Returns a situation for the planner: 2,000 videos on 20 readers, one of which is draining.
fn example_planner_situation() -> anyhow::Result<Situation> {
    let mut random = StdRng::seed_from_u64(3);
    let reader = |at: usize| {
        let standing = if at == 7 { ReaderAvailability::Draining } else { ReaderAvailability::Open };
        anyhow::Ok(PlacementReader {
            id: ReaderId::parse(&format!("reader-{at:02}"))?,
            capacity: 20_000,
            standing,
        })
    };
    let mut video = |at: usize| {
        let viewers = (5_000_f64.powf(random.random_range(0.0..1.0))) as u64;
        let part = VideoPart {
            reader: random.random_range(0..20),
            viewers,
            share: liverank_core::placement::WHOLE_SHARE,
        };
        let id = VideoId::parse(&format!("video-{at:04}"))?;
        anyhow::Ok(PlacementVideo { id, epoch: 1, changed: 0, waiting: 0, moving: false, parts: vec![part] })
    };
    Ok(Situation {
        now: 1_800_000_000_000,
        readers: (0..20).map(reader).collect::<anyhow::Result<_>>()?,
        videos: (0..2_000).map(&mut video).collect::<anyhow::Result<_>>()?,
    })
}

/// Measures the planner: one plan for the whole situation. One operation of this measurement is a video.
#[inline(never)]
fn measured_plan(situation: &Situation) -> usize {
    let limits = PlanLimits { budget: ViewerMoveBudget::without_limit(), ..PlanLimits::default() };
    black_box(make_plan(situation, &limits));
    situation.videos.len()
}

/// A manager's view of one video that four readers share.
struct ExampleCluster {
    video: VideoId,
    assigned: AssignedReaders,
    held_by_reader: BTreeMap<ReaderId, HeldVideo>,
}

impl ExampleCluster {
    fn new() -> anyhow::Result<Self> {
        let video = VideoId::parse("video")?;
        let mut readers = Vec::new();
        let mut held_by_reader = BTreeMap::new();
        for (at, viewers) in [900, 1_000, 1_100, 700].into_iter().enumerate() {
            let reader = ReaderId::parse(&format!("reader-{at}"))?;
            readers.push(ReaderShare { reader: reader.clone(), weight: 250_000 });
            held_by_reader.insert(
                reader,
                HeldVideo { video: video.clone(), viewers, epoch: 3, ready: true, shedding: false },
            );
        }
        Ok(Self { video, assigned: AssignedReaders { epoch: 3, readers }, held_by_reader })
    }
}

impl ClusterView for ExampleCluster {
    fn assigned_readers(&self, _: &VideoId) -> Option<&AssignedReaders> {
        Some(&self.assigned)
    }

    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        self.held_by_reader.contains_key(reader).then_some(ReaderStatus::Alive)
    }

    fn viewer_url(&self, reader: &ReaderId) -> Option<String> {
        Some(format!("http://{reader}"))
    }

    fn held_video(&self, reader: &ReaderId, _: &VideoId) -> Option<&HeldVideo> {
        self.held_by_reader.get(reader)
    }

    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        self.held_by_reader.get(reader).map_or(0, |held| held.viewers / 2)
    }

    fn room(&self, _: &ReaderId) -> u64 {
        u64::MAX
    }

    fn reported_usage(&self, _: &ReaderId) -> (u64, u64) {
        (u64::MAX, 0)
    }

    fn is_open(&self, _: &ReaderId) -> bool {
        true
    }

    fn viewers(&self, _: &VideoId) -> u64 {
        self.held_by_reader.values().map(|held| held.viewers).sum()
    }
}

/// Measures the choice of a reader for a new viewer. One operation of this measurement is a viewer.
#[inline(never)]
fn measured_route(cluster: &ExampleCluster) -> usize {
    for lot in 0..ROUTE_COUNT {
        let lots = [lot.wrapping_mul(2_654_435_761), lot];
        black_box(readers_to_join(cluster, &cluster.video, &cluster.assigned, lots));
    }
    ROUTE_COUNT as usize
}
