//! The part of this service that `bench/instructions` measures: encoding the states of one list for its watchers.

use bytes::Bytes;
use liverank_core::ranking::RankedVideo;
use prometheus_client::metrics::counter::Counter;

use crate::boards::BoardPart;
use crate::published::{ListFormat, PublishedList};

/// Encodes the states of one list, both whole and as changes.
#[derive(Default)]
pub struct ListEncoder {
    whole: Option<PublishedList>,
    changes: Option<PublishedList>,
}

impl ListEncoder {
    /// Makes an encoder of a list without a state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes the list's next state. Returns the frames for clients who watch the whole list and for those who watch
    /// its changes; `None` if nothing changed.
    pub fn encode_next(&mut self, lines: Vec<RankedVideo>) -> Option<[Bytes; 2]> {
        let (encodes, total) = (Counter::default(), lines.len());
        let part = |lines| BoardPart { lines, first_rank: 1, total, metadata: None, logged_at: None };
        let whole =
            PublishedList::next_list(self.whole.as_ref(), part(lines.clone()), ListFormat::List, &encodes)?;
        let changes =
            PublishedList::next_list(self.changes.as_ref(), part(lines), ListFormat::Delta, &encodes)?;
        let frames = [whole.frame_for(None), changes.frame_for(Some(changes.list_version - 1))];
        (self.whole, self.changes) = (Some(whole), Some(changes));
        Some(frames)
    }
}
