//! The traces of the last records. They are kept in memory only: the readers of this log are in the process that
//! writes it, the format of the file stays readable for every release, and a trace that a restart cuts off is no loss.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use liverank_core::trace::TraceContext;

use super::super::{RawRecord, RecordPosition};

/// The number of traces kept: those of some minutes, at the highest rate of recording. The oldest are dropped first.
const MAX_KEPT_TRACES: usize = 4_096;

/// The traces of the last appended records, by position.
#[derive(Default)]
pub struct RecordTraces(Mutex<KeptTraces>);

#[derive(Default)]
struct KeptTraces {
    by_position: HashMap<(u32, u64), TraceContext>,
    positions_oldest_first: VecDeque<(u32, u64)>,
}

impl RecordTraces {
    fn lock_traces(&self) -> MutexGuard<'_, KeptTraces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the traces of records that have just been appended.
    pub fn keep_traces(&self, records: impl Iterator<Item = (RecordPosition, TraceContext)>) {
        let mut kept = None;
        for (place, trace) in records {
            let KeptTraces { by_position, positions_oldest_first } =
                &mut **kept.get_or_insert_with(|| self.lock_traces());
            let place = (place.partition, place.offset);
            by_position.insert(place, trace);
            positions_oldest_first.push_back(place);
            if positions_oldest_first.len() > MAX_KEPT_TRACES
                && let Some(oldest) = positions_oldest_first.pop_front()
            {
                by_position.remove(&oldest);
            }
        }
    }

    /// Sets the trace of each record for which one is stored. The traces stay stored: a record may be read again.
    pub fn attach_to(&self, records: &mut [RawRecord]) {
        let kept = self.lock_traces();
        if kept.by_position.is_empty() {
            return;
        }
        for record in records {
            let trace = kept.by_position.get(&(record.partition, record.offset));
            record.trace = trace.copied().map(Box::new);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: u64) -> RawRecord {
        RawRecord { partition: 1, offset, broker_time: 1, key: None, value: Bytes::new(), trace: None }
    }

    #[test]
    fn only_the_latest_traces_are_kept() {
        let traces = RecordTraces::default();
        let trace =
            |offset: u64| TraceContext { trace_id: [1; 16], span_id: offset.to_be_bytes(), sampled: true };
        let more = MAX_KEPT_TRACES as u64 + 5;
        for offset in 1..=more {
            traces.keep_traces([(RecordPosition { partition: 1, offset }, trace(offset))].into_iter());
        }
        let mut records = [record(5), record(6), record(more), record(more + 1)];
        traces.attach_to(&mut records);
        let found = records.map(|record| record.trace.map(|trace| *trace));
        assert_eq!(found, [None, Some(trace(6)), Some(trace(more)), None]);
        assert_eq!(traces.lock_traces().positions_oldest_first.len(), MAX_KEPT_TRACES);
    }
}
