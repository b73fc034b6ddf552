//! Bounded parsing of answers from managers and readers. Parsed, an answer of many small arrays would take some ten
//! times its length in memory, so the items of each array are counted before anything is kept: an array over its bound
//! is refused where the bound is passed.

use std::fmt;
use std::marker::PhantomData;

use liverank_core::VideoId;
use liverank_core::handover::ReaderShare;
use liverank_protocol::{AssignedVideoState, ClusterLoad, CordonRequest, CordonsAnswer, ReaderState};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

/// Maximal number of readers in an answer: four times the maximum of a resource, because readers that have just left
/// may still be listed.
pub const MAX_READERS: usize = 2_000;
/// Maximal number of videos of one reader, and of assignments: more do not fit into the longest answer.
pub const MAX_VIDEOS: usize = 200_000;
/// Maximal number of readers of one video, which may be spread over all readers.
pub const MAX_SHARES: usize = MAX_READERS;
/// Maximal number of cordons in an answer: as many as a manager accepts.
pub const MAX_CORDONS: usize = 10_000;
/// The memory that a text takes beside its letters, in bytes: two reference counters, and what the allocator adds and
/// rounds up.
const BYTES_PER_TEXT: usize = 48;
/// Maximal memory of one parsed answer, in bytes: about twice that of 30,000 videos and 500 readers with ids of usual
/// length.
pub const MAX_REPORT_BYTES: usize = 32 * 1024 * 1024;

/// The reason why an answer is not parsed.
#[derive(Debug, thiserror::Error)]
pub enum UnusableAnswer {
    /// The answer is no JSON of the expected form, or an array of it has too many items.
    #[error("no answer that can be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The answer would take too much memory.
    #[error("the answer would take {0} bytes of memory, more than {MAX_REPORT_BYTES}")]
    TooHeavy(usize),
}

/// An answer of a manager or reader whose array items are counted before the answer is parsed.
pub trait Bounded: for<'de> Deserialize<'de> {
    /// The type that is parsed first to measure the answer: it counts the items of the answer's arrays and keeps none
    /// of them.
    type Shape: for<'de> Deserialize<'de> + MemoryWeight;
}

/// Returns how many bytes of memory an answer takes once it is parsed, without parsing it.
///
/// # Errors
/// Returns an error if an array has too many items, or if the answer takes more than [`MAX_REPORT_BYTES`].
pub fn parsed_size<T: Bounded>(body: &[u8]) -> Result<usize, UnusableAnswer> {
    let shape: T::Shape = serde_json::from_slice(body)?;
    // The letters of texts are no more in memory than in the answer.
    let weight = size_of::<T>() + shape.weight() + body.len();
    if weight > MAX_REPORT_BYTES { Err(UnusableAnswer::TooHeavy(weight)) } else { Ok(weight) }
}

/// A part of an answer whose memory can be computed without keeping the part's content.
pub trait MemoryWeight {
    /// Returns the bytes of memory that the arrays in the part would take, without the part's own size.
    fn weight(&self) -> usize;
}

/// An item of a measured array, with the size in bytes of the parsed item and the number of its texts.
trait Item: MemoryWeight {
    /// The size of the parsed item, in bytes.
    const BYTES: usize;
    /// The number of texts in an item.
    const TEXTS: usize;
}

/// The memory of an array with at most `MAX` items, none of which is kept.
struct WeighedArray<T, const MAX: usize> {
    weight: usize,
    items: PhantomData<T>,
}

impl<T, const MAX: usize> Default for WeighedArray<T, MAX> {
    fn default() -> Self {
        Self { weight: 0, items: PhantomData }
    }
}

impl<T, const MAX: usize> MemoryWeight for WeighedArray<T, MAX> {
    fn weight(&self) -> usize {
        self.weight
    }
}

impl<'de, T: Deserialize<'de> + Item, const MAX: usize> Deserialize<'de> for WeighedArray<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(WeighedArrayVisitor::<T, MAX>(PhantomData))
    }
}

struct WeighedArrayVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Item, const MAX: usize> Visitor<'de> for WeighedArrayVisitor<T, MAX> {
    type Value = WeighedArray<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (mut count, mut below) = (0_usize, 0_usize);
        while let Some(item) = items.next_element::<T>()? {
            count += 1;
            below += item.weight();
            if count > MAX || below > MAX_REPORT_BYTES {
                return Err(A::Error::invalid_length(count, &self));
            }
        }
        // An array that grows doubles its room, and begins with room for four.
        let room = if count == 0 { 0 } else { count.next_power_of_two().max(4) };
        let own = room * T::BYTES + count * T::TEXTS * BYTES_PER_TEXT;
        Ok(WeighedArray { weight: below + own, items: PhantomData })
    }
}

/// Defines types of array items that contain no arrays themselves.
macro_rules! plain_items {
    ($($name:ident: $kept:ty, $texts:literal texts);+) => {$(
        #[derive(Deserialize)]
        struct $name(IgnoredAny);

        impl MemoryWeight for $name {
            fn weight(&self) -> usize {
                let Self(IgnoredAny) = self;
                0
            }
        }

        impl Item for $name {
            const BYTES: usize = size_of::<$kept>();
            const TEXTS: usize = $texts;
        }
    )+};
}

plain_items!(
    Share: ReaderShare, 1 texts;
    VideoViewers: (VideoId, u64), 1 texts;
    Cordon: CordonRequest, 3 texts
);

/// Measures a [`ReaderState`]: its only array has the videos of the reader.
#[derive(Deserialize)]
struct ReaderShape {
    #[serde(default)]
    videos: WeighedArray<VideoViewers, MAX_VIDEOS>,
}

impl MemoryWeight for ReaderShape {
    fn weight(&self) -> usize {
        self.videos.weight()
    }
}

impl Item for ReaderShape {
    const BYTES: usize = size_of::<ReaderState>();
    // Its id, two addresses, its zone, and what an unknown state or cordon is called.
    const TEXTS: usize = 6;
}

/// Measures an [`AssignedVideoState`]: its only array has the readers of the assignment.
#[derive(Deserialize)]
struct VideoShape {
    #[serde(default)]
    readers: WeighedArray<Share, MAX_SHARES>,
}

impl MemoryWeight for VideoShape {
    fn weight(&self) -> usize {
        self.readers.weight()
    }
}

impl Item for VideoShape {
    const BYTES: usize = size_of::<AssignedVideoState>();
    const TEXTS: usize = 1;
}

/// Measures `UnlistedVideos`: its only array has the viewers of the left-out videos at each reader.
#[derive(Deserialize)]
struct UnlistedShape {
    #[serde(default)]
    viewers: WeighedArray<VideoViewers, MAX_READERS>,
}

/// Measures a [`ClusterLoad`], which has several arrays.
#[derive(Deserialize)]
pub struct LoadShape {
    #[serde(default)]
    readers: WeighedArray<ReaderShape, MAX_READERS>,
    #[serde(default)]
    assignments: Option<WeighedArray<VideoShape, MAX_VIDEOS>>,
    #[serde(default)]
    cordons: WeighedArray<Cordon, MAX_CORDONS>,
    #[serde(default)]
    unlisted: Option<UnlistedShape>,
}

impl MemoryWeight for LoadShape {
    fn weight(&self) -> usize {
        let Self { readers, assignments, cordons, unlisted } = self;
        let assignments = assignments.as_ref().map_or(0, MemoryWeight::weight);
        let unlisted = unlisted.as_ref().map_or(0, |it| it.viewers.weight());
        readers.weight() + assignments + cordons.weight() + unlisted
    }
}

impl Bounded for ClusterLoad {
    type Shape = LoadShape;
}

/// Measures a [`CordonsAnswer`]: its only array has the cordons.
#[derive(Deserialize)]
pub struct CordonsShape {
    #[serde(default)]
    cordons: WeighedArray<Cordon, MAX_CORDONS>,
}

impl MemoryWeight for CordonsShape {
    fn weight(&self) -> usize {
        self.cordons.weight()
    }
}

impl Bounded for CordonsAnswer {
    type Shape = CordonsShape;
}

/// The shape of an answer without arrays: such an answer takes no more memory than its length.
#[derive(Deserialize)]
pub struct FlatAnswer(IgnoredAny);

impl MemoryWeight for FlatAnswer {
    fn weight(&self) -> usize {
        let Self(IgnoredAny) = self;
        0
    }
}

impl Bounded for liverank_protocol::TermState {
    type Shape = FlatAnswer;
}

impl Bounded for IgnoredAny {
    type Shape = FlatAnswer;
}
