//! Which heartbeats a manager refuses.

use std::time::Instant;

use super::report::{ReaderReport, is_later};
use super::time_limits::{HEARTBEAT_EVERY, SUSPECT_AFTER_SILENCE};
use super::watch::ReaderWatch;

/// The reason for which a process may not send heartbeats under a reader's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRefusal {
    /// The previous process of that name still has viewers, who are being handed over.
    #[error("the process before this one has viewers still: wait until it has none")]
    StillLeaving,
    /// A later process of that name sends heartbeats.
    #[error("a later process reports itself under this name: leave")]
    Overtaken,
}

impl<R: ReaderReport> ReaderWatch<R> {
    /// Whether this process was suspended a moment ago. A heartbeat that arrives then may have waited for the process,
    /// and its reader may have died meanwhile; so the heartbeat must be neither trusted nor shared with the other
    /// managers.
    pub fn was_suspended(&self, now: Instant) -> bool {
        let went_on = |at: Instant| now.saturating_duration_since(at) <= HEARTBEAT_EVERY;
        self.has_not_polled(now) || self.resumed_at.is_some_and(went_on)
    }

    /// Returns the reason for which the process that sends `record` may not use its name; `None` if it may. A pod that
    /// is told to end is replaced at once under the same name: two processes with one record would look like a reader
    /// that leaves and comes back every second.
    pub fn name_refusal(&self, record: &R) -> Option<NameRefusal> {
        let known = self.get(record.reader_id())?;
        let (before, now) = (known.last_record.incarnation(), record.incarnation());
        if before == now || before == 0 || now == 0 || self.silence_of(known) >= SUSPECT_AFTER_SILENCE {
            return None;
        }
        let has_viewers = known.last_record.is_leaving() && known.last_record.viewers() > 0;
        match () {
            () if now < before => Some(NameRefusal::Overtaken),
            () if has_viewers => Some(NameRefusal::StillLeaving),
            () => None,
        }
    }

    /// Whether a later heartbeat of the same process is known. A heartbeat that its reader gave up may arrive after
    /// the next one; it must not bring back what the reader said before. A reader of which nothing later has been heard for
    /// [`SUSPECT_AFTER_SILENCE`] is heard again: the later heartbeat may have been somebody else's, or the reader may have
    /// been restored from a copy of its memory.
    pub fn is_outdated(&self, record: &R) -> bool {
        self.get(record.reader_id()).is_some_and(|known| {
            known.last_record.incarnation() == record.incarnation()
                && record.incarnation() != 0
                && is_later(&known.last_record, record)
                && self.silence_of(known) < SUSPECT_AFTER_SILENCE
        })
    }
}
