//! The traces of a batch: for some of its records, the spans that record when the records were counted and shown. Each
//! span belongs to the trace of the request that appended its record, whatever other records are in the batch.

use liverank_adapters::event_log::RawRecord;
use liverank_core::CommentId;
use liverank_core::counting::{NumberedComment, OffsetRange};
use liverank_core::trace::{MAX_TRACES_PER_BATCH, TraceContext};
use liverank_protocol::roles::Role;
use liverank_runtime::Tracer;
use liverank_runtime::traces::RecordedSpan;

/// A record of the log for which a span is recorded.
pub struct TracedRecord {
    partition: u32,
    offset: u64,
    span: RecordedSpan,
}

/// The positions and trace contexts of records that were read, before it is known which of the records the batch
/// covers.
pub struct FoundTraces(Vec<(u32, u64, TraceContext)>);

impl FoundTraces {
    /// Finds the traced ones among `records`. `so_far` is the number of traced records that the batch has already; only
    /// as many are returned as the batch has room for.
    pub fn find_among(records: &[RawRecord], so_far: usize, tracer: &Tracer) -> Self {
        if !tracer.is_on() {
            return Self(Vec::new());
        }
        let with_place =
            |record: &RawRecord| Some((record.partition, record.offset, **record.trace.as_ref()?));
        Self(
            records.iter().filter_map(with_place).take(MAX_TRACES_PER_BATCH.saturating_sub(so_far)).collect(),
        )
    }

    /// Begins a span for each found record that the batch covers.
    pub fn begin_spans(self, covered: &[OffsetRange], tracer: &Tracer) -> Vec<TracedRecord> {
        let is_covered = |partition: u32, offset: u64| {
            covered
                .iter()
                .any(|span| span.partition == partition && (span.first..span.next).contains(&offset))
        };
        let of_batch = self.0.into_iter().filter(|(partition, offset, _)| is_covered(*partition, *offset));
        of_batch
            .filter_map(|(partition, offset, parent)| {
                let mut span = tracer.continue_trace(Role::Consumer.name(), "consumer count", &parent)?;
                span.set_attribute("messaging.destination.partition.id", i64::from(partition));
                span.set_attribute("messaging.kafka.offset", offset as i64);
                Some(TracedRecord { partition, offset, span })
            })
            .collect()
    }
}

/// Marks the spans of a batch as failed, because the batch was not committed. Records that are read again get new
/// spans.
pub fn mark_failed(traced: &mut [TracedRecord]) {
    for record in traced {
        record.span.set_failed("the batch was not committed");
    }
}

/// Ends the counting spans of a committed batch of `events` events. Returns the records with the spans of their
/// projection, which begin now.
pub fn end_counting_spans(traced: Vec<TracedRecord>, events: usize) -> Vec<TracedRecord> {
    let project = |mut record: TracedRecord| {
        record.span.set_attribute("messaging.batch.message_count", events as i64);
        let span = record.span.begin_child("consumer project");
        TracedRecord { span, ..record }
    };
    traced.into_iter().map(project).collect()
}

/// Removes the traced records of these partitions.
pub fn drop_partitions(traced: &mut Vec<TracedRecord>, partitions: &[u32]) {
    traced.retain(|record| !partitions.contains(&record.partition));
}

/// Returns the trace contexts that are sent with a change of the boards, at most `MAX_TRACES_PER_BATCH`.
pub fn contexts_for_boards(traced: &[TracedRecord]) -> Vec<TraceContext> {
    traced.iter().map(|record| record.span.trace_context()).take(MAX_TRACES_PER_BATCH).collect()
}

/// Returns the trace context for each comment whose record is traced; the services that show the comment continue the
/// trace.
pub fn contexts_for_comments(
    traced: &[TracedRecord],
    comments: &[NumberedComment],
) -> Vec<(CommentId, TraceContext)> {
    if traced.is_empty() {
        return Vec::new();
    }
    let trace = |numbered: &NumberedComment| {
        let is_its = |record: &&TracedRecord| {
            (record.partition, record.offset) == (numbered.partition, numbered.offset)
        };
        Some((numbered.comment.id.clone(), traced.iter().find(is_its)?.span.trace_context()))
    };
    comments.iter().filter_map(trace).collect()
}
