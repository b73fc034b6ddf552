//! Assignments and heartbeats in memory, and also in a file if one is given.
//!
//! The file holds the assignments, the peaks of viewers, and the addresses of the readers: after a restart a video is served by the same
//! readers as before, and they can be named before the first heartbeat. Terms and cordons last for one run only: with
//! embedded stores the planner is in the same process. The memory decides: if the disk cannot be written, the next
//! start lacks the latest assignments, but no call fails.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use liverank_core::epoch::mint_epoch;
use liverank_core::handover::{AssignedReaders, PlannerLease, ReaderShare};
use liverank_core::{ReaderId, VideoId};
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::mpsc;

use super::{
    AssignmentChange, AssignmentSnapshot, AssignmentStore, CHANGE_QUEUE_LENGTH, MAX_VIEWER_PEAKS,
    PlannerOrders, PlannerTerm, ReaderCordon, ReaderRecord, SwapOutcome, TermGrant, VideoAssignment,
    ZonedViewers, check_epoch_is_possible, now_micros,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;
use crate::redb_file::{FileFailure, FileKind, RedbFile, begin_durable};

/// The name of this store in errors.
const PART_NAME: &str = "assignments";

/// The name of the assignments' file.
const FILE_NAME: &str = "assignments.redb";
/// The table of assignments by video, as JSON.
const ASSIGNMENTS_TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("assigned");
/// The table of peaks of viewers by video, as JSON.
const PEAKS_TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("viewer_peaks");
/// The table of readers by name, as JSON: their names and addresses, without viewers and videos.
const READERS_TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("readers");

const ASSIGNMENTS_FILE_KIND: FileKind = FileKind {
    store_name: PART_NAME,
    version: 1,
    create_tables: |transaction| {
        transaction.open_table(ASSIGNMENTS_TABLE)?;
        transaction.open_table(READERS_TABLE)?;
        transaction.open_table(PEAKS_TABLE)?;
        Ok(())
    },
};

/// The assignment store in memory, for `liverank up`. Assignments and readers' addresses are also written to a file,
/// if one is given.
#[derive(Default)]
pub struct EmbeddedAssignments {
    inner: Arc<Mutex<EmbeddedState>>,
    /// True if changes are written to a file, which blocks.
    is_durable: bool,
}

#[derive(Default)]
struct EmbeddedState {
    version: u64,
    last_epoch: u64,
    assignments: HashMap<VideoId, VideoAssignment>,
    readers: HashMap<ReaderId, ReaderRecord>,
    viewer_peaks: HashMap<VideoId, u64>,
    term: Option<PlannerTerm>,
    cordons: BTreeMap<ReaderId, ReaderCordon>,
    subscribers: Vec<Arc<LossyChannel<AssignmentChange>>>,
    file: Option<RedbFile>,
}

impl EmbeddedState {
    /// Reads the state from the file. A row that cannot be read is left out: its video is assigned anew on request.
    fn from_file(file: RedbFile) -> Result<Self, StoreError> {
        let mut inner = Self::default();
        let (assignments, readers, peaks) = file.with_database(|database, _| {
            let transaction = database.begin_read()?;
            Ok((
                parse_rows(&transaction.open_table(ASSIGNMENTS_TABLE)?)?,
                parse_rows(&transaction.open_table(READERS_TABLE)?)?,
                parse_rows(&transaction.open_table(PEAKS_TABLE)?)?,
            ))
        })?;
        for (name, assigned) in assignments {
            let Ok(video_id) = VideoId::parse(&name) else { continue };
            let Ok(assigned) = serde_json::from_slice::<AssignedReaders>(&assigned) else { continue };
            inner.last_epoch = inner.last_epoch.max(assigned.epoch);
            inner
                .assignments
                .insert(video_id.clone(), VideoAssignment { video_id, assigned_readers: assigned });
        }
        let readers = readers.iter().filter_map(|(_, json)| serde_json::from_slice(json).ok());
        inner.readers = readers.map(|record: ReaderRecord| (record.id.clone(), record)).collect();
        let peak = |(name, json): &(String, Vec<u8>)| {
            Some((VideoId::parse(name).ok()?, serde_json::from_slice(json).ok()?))
        };
        inner.viewer_peaks = peaks.iter().filter_map(peak).collect();
        inner.file = Some(file);
        Ok(inner)
    }

    /// Raises peaks of viewers, and writes those that have changed in one transaction. Does not wait for the disk,
    /// because others wait for this lock: the peaks reach the disk with the next assignment, and may be lost if the
    /// power fails before. Blocks the thread.
    fn raise_peaks(&mut self, peaks: Vec<(VideoId, u64)>) {
        let is_raised = |(video, viewers): &(VideoId, u64)| {
            self.viewer_peaks.get(video).is_none_or(|peak| peak < viewers)
        };
        let raised: Vec<(VideoId, u64)> = peaks.into_iter().filter(is_raised).collect();
        self.viewer_peaks.extend(raised.iter().cloned());
        let forgotten = lowest_peaks(&self.viewer_peaks, MAX_VIEWER_PEAKS);
        for video in &forgotten {
            self.viewer_peaks.remove(video);
        }
        if let Some(file) = self.file.as_ref().filter(|_| !raised.is_empty()) {
            let written = file.with_database(|database, _| {
                let mut transaction = database.begin_write()?;
                transaction.set_durability(Durability::None)?;
                {
                    let mut table = transaction.open_table(PEAKS_TABLE)?;
                    for (video, viewers) in &raised {
                        table.insert(video.as_str(), viewers.to_string().as_bytes())?;
                    }
                    for video in &forgotten {
                        table.remove(video.as_str())?;
                    }
                }
                Ok(transaction.commit()?)
            });
            if let Err(error) = written {
                tracing::debug!(%error, "peaks of viewers are in memory only");
            }
        }
    }

    /// Writes a row (`None`: removes it), and blocks the thread until the change is on the disk.
    fn write_row(
        &self,
        table: TableDefinition<'static, &'static str, &'static [u8]>,
        key: &str,
        row: Option<&[u8]>,
    ) {
        let Some(file) = &self.file else { return };
        let written = file.with_database(|database, _| {
            let transaction = begin_durable(database)?;
            match row {
                Some(row) => drop(transaction.open_table(table)?.insert(key, row)?),
                None => drop(transaction.open_table(table)?.remove(key)?),
            }
            Ok(transaction.commit()?)
        });
        if let Err(error) = written {
            tracing::debug!(%error, key, "an assignment is in memory only");
        }
    }

    /// Stores a heartbeat in memory. Only readers that are new or have another address or capacity are written to the
    /// file: the rest of a record is outdated with the next heartbeat.
    fn record_heartbeat(&mut self, record: ReaderRecord) {
        let known = self.readers.get(&record.id);
        let is_known = known.is_some_and(|known| lasting_fields(known) == lasting_fields(&record));
        if self.file.is_some() && !is_known {
            let absent = ReaderRecord {
                viewers: 0,
                viewers_by_zone: ZonedViewers::default(),
                videos: Vec::new(),
                draining: false,
                ..record.clone()
            };
            let json = serde_json::to_vec(&absent).expect("a record is plain data");
            self.write_row(READERS_TABLE, record.id.as_str(), Some(&json));
        }
        self.readers.insert(record.id.clone(), record);
    }

    fn notify_subscribers(&mut self, change: &AssignmentChange) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            subscriber.send_or_mark_lost(change.clone());
        }
    }

    /// Returns `lease`, or else the lease that was shown last.
    fn lease_or_last_shown(&self, lease: Option<&PlannerLease>) -> Option<PlannerLease> {
        lease.or_else(|| self.term.as_ref()?.lease.as_ref()).cloned()
    }

    fn epoch_of(&self, video: &VideoId) -> Option<u64> {
        self.assignments.get(video).map(VideoAssignment::epoch)
    }

    fn conflict_of(&self, video: &VideoId) -> SwapOutcome {
        SwapOutcome::Conflict(self.assignments.get(video).cloned())
    }

    /// Returns the term in force if `term` is over. If `term` is later than the stored term, this store had lost it,
    /// and it is put in force.
    fn refuse_older_term(&mut self, term: u64) -> Option<u64> {
        let in_force = self.term.as_ref().map_or(0, |term| term.term);
        if term > in_force {
            self.term = Some(PlannerTerm {
                term,
                holder: String::new(),
                lease: self.lease_or_last_shown(None),
                beat: 0,
            });
        }
        (term < in_force).then_some(in_force)
    }
}

/// Returns the fields of a reader that stay the same from one heartbeat to the next.
fn lasting_fields(record: &ReaderRecord) -> (&str, &str, u64) {
    (&record.public_url, &record.internal_url, record.capacity)
}

fn parse_rows(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<(String, Vec<u8>)>, FileFailure> {
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        rows.push((key.value().to_owned(), value.value().to_owned()));
    }
    Ok(rows)
}

impl EmbeddedAssignments {
    /// Returns a store without assignments and readers, in memory only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the store in `directory`; creates the directory and the file if they are absent.
    ///
    /// # Errors
    /// The file is in use by another process, cannot be written, is damaged or of another format; the error says
    /// which.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let inner = EmbeddedState::from_file(RedbFile::open(ASSIGNMENTS_FILE_KIND, directory, FILE_NAME)?)?;
        Ok(Self { inner: Arc::new(Mutex::new(inner)), is_durable: true })
    }

    /// Runs `work`, which may write to the file, on a thread on which it may block.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut EmbeddedState) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.is_durable {
            return Ok(work(&mut self.lock_inner()));
        }
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.map_err(|error| StoreError::unavailable(PART_NAME, format!("its thread ended: {error}")))
    }

    fn lock_inner(&self) -> MutexGuard<'_, EmbeddedState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AssignmentStore for EmbeddedAssignments {
    async fn assignments_version(&self) -> Result<u64, StoreError> {
        Ok(self.lock_inner().version)
    }

    async fn load_assignments(&self) -> Result<AssignmentSnapshot, StoreError> {
        let inner = self.lock_inner();
        Ok(AssignmentSnapshot {
            version: inner.version,
            assignments: inner.assignments.values().cloned().collect(),
        })
    }

    async fn assign_video(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderShare],
        seen: u64,
        term: Option<u64>,
    ) -> Result<SwapOutcome, StoreError> {
        check_epoch_is_possible(PART_NAME, seen)?;
        check_epoch_is_possible(PART_NAME, term.unwrap_or(0))?;
        let (video_id, readers) = (video.clone(), readers.to_vec());
        self.run_blocking(move |inner| {
            if let Some(in_force) = term.and_then(|term| inner.refuse_older_term(term)) {
                return SwapOutcome::Fenced(in_force);
            }
            if inner.epoch_of(&video_id) != expected {
                return inner.conflict_of(&video_id);
            }
            inner.last_epoch = mint_epoch(inner.last_epoch, seen, now_micros(), None);
            inner.version += 1;
            let (epoch, version) = (inner.last_epoch, inner.version);
            let assignment =
                VideoAssignment { video_id, assigned_readers: AssignedReaders { epoch, readers } };
            let json = serde_json::to_vec(&assignment.assigned_readers).expect("an assignment is plain data");
            inner.write_row(ASSIGNMENTS_TABLE, assignment.video_id.as_str(), Some(&json));
            inner.assignments.insert(assignment.video_id.clone(), assignment.clone());
            inner.notify_subscribers(&AssignmentChange::Assigned { version, assignment: assignment.clone() });
            SwapOutcome::Stored(assignment)
        })
        .await
    }

    async fn remove_assignment(&self, video: &VideoId, expected: u64) -> Result<SwapOutcome, StoreError> {
        let video_id = video.clone();
        self.run_blocking(move |inner| {
            if inner.epoch_of(&video_id) != Some(expected) {
                return inner.conflict_of(&video_id);
            }
            let Some(removed) = inner.assignments.remove(&video_id) else {
                return SwapOutcome::Conflict(None);
            };
            inner.write_row(ASSIGNMENTS_TABLE, video_id.as_str(), None);
            inner.version += 1;
            let version = inner.version;
            inner.notify_subscribers(&AssignmentChange::Removed { version, video_id });
            SwapOutcome::Stored(removed)
        })
        .await
    }

    async fn note_heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError> {
        let record = reader.clone();
        self.run_blocking(move |inner| inner.record_heartbeat(record)).await
    }

    async fn reader_records(&self) -> Result<Vec<ReaderRecord>, StoreError> {
        Ok(self.lock_inner().readers.values().cloned().collect())
    }

    async fn raise_viewer_peaks(&self, peaks: &[(VideoId, u64)]) -> Result<(), StoreError> {
        let peaks = peaks.to_vec();
        self.run_blocking(move |inner| inner.raise_peaks(peaks)).await
    }

    async fn viewer_peaks(&self, videos: &[VideoId]) -> Result<Vec<Option<u64>>, StoreError> {
        let inner = self.lock_inner();
        Ok(videos.iter().map(|video| inner.viewer_peaks.get(video).copied()).collect())
    }

    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError> {
        let reader = reader.clone();
        self.run_blocking(move |inner| {
            if inner.readers.get(&reader).is_some_and(|record| record.beat == beat) {
                inner.readers.remove(&reader);
                inner.write_row(READERS_TABLE, reader.as_str(), None);
            }
        })
        .await
    }

    async fn planner_orders(&self) -> Result<PlannerOrders, StoreError> {
        let inner = self.lock_inner();
        Ok(PlannerOrders {
            planner_term: inner.term.clone(),
            cordons: inner.cordons.values().cloned().collect(),
        })
    }

    async fn mint_term(
        &self,
        holder: &str,
        lease: Option<&PlannerLease>,
        expected: u64,
        seen: u64,
    ) -> Result<TermGrant, StoreError> {
        check_epoch_is_possible(PART_NAME, seen)?;
        let mut inner = self.lock_inner();
        let in_force = inner.term.as_ref().map_or(0, |term| term.term);
        if in_force != expected {
            return Ok(TermGrant::Lost(inner.term.clone()));
        }
        let term = mint_epoch(in_force, seen, now_micros(), None);
        let term =
            PlannerTerm { term, holder: holder.to_owned(), lease: inner.lease_or_last_shown(lease), beat: 0 };
        inner.term = Some(term.clone());
        Ok(TermGrant::Held(term))
    }

    async fn renew_term(&self, term: &PlannerTerm) -> Result<TermGrant, StoreError> {
        check_epoch_is_possible(PART_NAME, term.term)?;
        let mut inner = self.lock_inner();
        if inner.refuse_older_term(term.term).is_some() {
            return Ok(TermGrant::Lost(inner.term.clone()));
        }
        let term = PlannerTerm { lease: inner.lease_or_last_shown(term.lease.as_ref()), ..term.clone() };
        inner.term = Some(term.clone());
        Ok(TermGrant::Held(term))
    }

    async fn set_cordon(
        &self,
        term: u64,
        reader: &ReaderId,
        cordon: Option<&ReaderCordon>,
    ) -> Result<Option<u64>, StoreError> {
        check_epoch_is_possible(PART_NAME, term)?;
        let mut inner = self.lock_inner();
        if let Some(in_force) = inner.refuse_older_term(term) {
            return Ok(Some(in_force));
        }
        match cordon {
            Some(cordon) => drop(inner.cordons.insert(reader.clone(), cordon.clone())),
            None => drop(inner.cordons.remove(reader)),
        }
        Ok(None)
    }

    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<AssignmentChange>, StoreError> {
        let (outlet, receiver) = LossyChannel::bounded(CHANGE_QUEUE_LENGTH, AssignmentChange::Reset);
        let mut inner = self.lock_inner();
        outlet.send_or_mark_lost(AssignmentChange::Reset);
        inner.subscribers.retain(|subscriber| !subscriber.is_closed());
        inner.subscribers.push(outlet);
        Ok(receiver)
    }
}

/// Returns the videos with the lowest peaks whose removal leaves one sixteenth of `most` free; none if there are at
/// most `most` peaks. The peaks are therefore sorted only now and then.
fn lowest_peaks(peaks: &HashMap<VideoId, u64>, most: usize) -> Vec<VideoId> {
    if peaks.len() <= most {
        return Vec::new();
    }
    let mut videos: Vec<(&VideoId, u64)> = peaks.iter().map(|(video, viewers)| (video, *viewers)).collect();
    let excess = peaks.len() - (most - most / 16);
    videos.sort_unstable_by_key(|(_, viewers)| *viewers);
    videos.into_iter().take(excess).map(|(video, _)| video.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, beat: u64, url: &str) -> ReaderRecord {
        ReaderRecord {
            id: ReaderId::parse(name).unwrap(),
            public_url: url.to_owned(),
            internal_url: url.to_owned(),
            beat,
            incarnation: 0,
            capacity: 10,
            viewers: 7,
            draining: true,
            grace_ms: 0,
            highest_epoch: 3,
            videos: Vec::new(),
            messages_sent: 0,
            reconnects: 0,
            reconnect_errors: 0,
            zone: None,
            viewers_by_zone: ZonedViewers::default(),
            ticket: None,
        }
    }

    #[tokio::test]
    async fn assignments_and_readers_addresses_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let [kept, gone] = ["kept", "gone"].map(|id| VideoId::parse(id).unwrap());
        let share = ReaderShare { reader: ReaderId::parse("r").unwrap(), weight: 1 };
        let store = EmbeddedAssignments::open(directory.path()).unwrap();
        store.assign_video(&kept, None, std::slice::from_ref(&share), 0, None).await.unwrap();
        let SwapOutcome::Stored(removed) =
            store.assign_video(&gone, None, std::slice::from_ref(&share), 0, None).await.unwrap()
        else {
            panic!("nobody else was there")
        };
        store.remove_assignment(&gone, removed.epoch()).await.unwrap();
        for (name, beat, url) in [("r", 1, "http://a"), ("r", 2, "http://b"), ("left", 5, "http://c")] {
            store.note_heartbeat(&record(name, beat, url)).await.unwrap();
        }
        store.forget_reader(&ReaderId::parse("left").unwrap(), 5).await.unwrap();
        let before = store.load_assignments().await.unwrap().assignments;
        drop(store);

        let store = EmbeddedAssignments::open(directory.path()).unwrap();
        assert_eq!(store.load_assignments().await.unwrap().assignments, before);
        let readers = store.reader_records().await.unwrap();
        let seen: Vec<_> =
            readers.iter().map(|it| (it.public_url.as_str(), it.viewers, it.draining)).collect();
        assert_eq!(seen, [("http://b", 0, false)], "its viewers are not there any more");
        let SwapOutcome::Stored(next) = store.assign_video(&gone, None, &[share], 0, None).await.unwrap()
        else {
            panic!("it was removed")
        };
        assert!(next.epoch() > before[0].epoch(), "epochs go on above those of the last run");
    }

    #[test]
    fn rows_of_the_assignments_file_have_fixtures() {
        let readers = vec![ReaderShare { reader: ReaderId::parse("reader-1").unwrap(), weight: 2 }];
        let write = |assigned: &AssignedReaders| serde_json::to_value(assigned).unwrap();
        let read = |json: &serde_json::Value| serde_json::from_str::<AssignedReaders>(&json.to_string());
        crate::fixtures::check_json_fixture(
            "embedded-assignment",
            &AssignedReaders { epoch: 7, readers },
            write,
            read,
        );
    }

    #[test]
    fn the_lowest_peaks_are_forgotten_where_there_are_too_many() {
        let peaks =
            |count: u64| (0..count).map(|at| (VideoId::parse(&at.to_string()).unwrap(), at)).collect();
        assert_eq!(lowest_peaks(&peaks(32), 32), []);
        let mut forgotten: Vec<u64> =
            lowest_peaks(&peaks(33), 32).iter().map(|video| video.as_str().parse().unwrap()).collect();
        forgotten.sort_unstable();
        assert_eq!(forgotten, [0, 1, 2]);
    }
}
