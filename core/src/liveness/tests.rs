use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::handover::HeldVideo;
use crate::handover::coordinator::ReaderStatus;
use crate::handover::local_health::LATE_THRESHOLD;
use crate::{ReaderId, VideoId};

const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[expect(clippy::disallowed_methods, reason = "times are counted from it; which one it is changes nothing")]
fn any_time() -> Instant {
    Instant::now()
}

fn reader_id(name: &str) -> ReaderId {
    ReaderId::parse(name).unwrap()
}

/// A reader's record, with what a manager judges it by.
#[derive(Debug, Clone)]
struct TestRecord {
    id: ReaderId,
    beat: u64,
    incarnation: u64,
    draining: bool,
    viewers: u64,
    videos: Vec<HeldVideo>,
}

impl ReaderReport for TestRecord {
    fn reader_id(&self) -> &ReaderId {
        &self.id
    }

    fn beat(&self) -> u64 {
        self.beat
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn is_leaving(&self) -> bool {
        self.draining
    }

    fn viewers(&self) -> u64 {
        self.viewers
    }

    fn highest_epoch(&self) -> u64 {
        0
    }

    fn held_videos(&self) -> &[HeldVideo] {
        &self.videos
    }

    fn held_videos_mut(&mut self) -> &mut Vec<HeldVideo> {
        &mut self.videos
    }
}

type TestWatch = ReaderWatch<TestRecord>;

fn record(name: &str, beat: u64) -> TestRecord {
    TestRecord { id: reader_id(name), beat, incarnation: 1, draining: false, viewers: 0, videos: Vec::new() }
}

/// A simulation of a manager that polls a store twice a second, to which readers send a heartbeat once a second.
struct SimulatedCluster {
    watch: TestWatch,
    now: Instant,
    readers: Vec<(&'static str, u64)>,
    dead: BTreeSet<&'static str>,
    draining: BTreeSet<&'static str>,
    ticks: u64,
}

impl SimulatedCluster {
    fn new(names: &[&'static str]) -> Self {
        let mut world = Self {
            watch: TestWatch::default(),
            now: any_time(),
            readers: names.iter().map(|name| (*name, 0)).collect(),
            dead: BTreeSet::new(),
            draining: BTreeSet::new(),
            ticks: 0,
        };
        world.run_for(Duration::from_secs(10));
        world
    }

    /// Lets time pass in which the manager does not poll.
    fn pass_without_polls(&mut self, time: Duration) {
        self.now += time;
    }

    fn run_for(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / POLL_INTERVAL.as_millis() {
            self.now += POLL_INTERVAL;
            self.ticks += 1;
            for (name, beat) in &mut self.readers {
                if self.ticks.is_multiple_of(2) && !self.dead.contains(name) {
                    *beat += 1;
                }
            }
            self.poll_store();
        }
    }

    fn poll_store(&mut self) {
        self.watch.note_poll_begun(self.now);
        let draining = &self.draining;
        let records = self
            .readers
            .iter()
            .map(|(name, beat)| TestRecord { draining: draining.contains(name), ..record(name, *beat) });
        self.watch.note_records(self.now, records.collect());
    }

    /// Probes all readers for which a probe is due, and returns their names; readers that are dead do not answer.
    fn probe_due(&mut self) -> Vec<String> {
        let due: Vec<(ReaderId, u64)> = self
            .watch
            .readers_to_probe(self.now)
            .into_iter()
            .map(|sighting| (sighting.last_record.id.clone(), sighting.last_record.beat))
            .collect();
        for (reader, beat) in &due {
            let outcome =
                if self.dead.contains(reader.as_str()) { ProbeOutcome::Late } else { ProbeOutcome::Answered };
            self.watch.note_probe(self.now, reader, *beat, outcome);
        }
        due.into_iter().map(|(reader, _)| reader.to_string()).collect()
    }

    fn status_of(&self, name: &str) -> ReaderStatus {
        self.watch.reader_status(&reader_id(name)).unwrap()
    }

    fn leaving_readers(&self) -> Vec<String> {
        self.verdict().readers_to_replace.iter().map(ToString::to_string).collect()
    }

    fn verdict(&self) -> ReadersVerdict {
        self.watch.decide_about_readers(self.now, |_| true, |_| false)
    }

    fn open_reader_names(&self) -> Vec<&str> {
        self.watch.open_readers().map(|sighting| sighting.last_record.id.as_str()).collect()
    }
}

#[test]
fn a_silent_reader_is_suspect_and_gone_only_when_it_does_not_answer_either() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_millis(2_500));
    assert_eq!(world.status_of("a"), ReaderStatus::Alive);
    assert!(world.probe_due().is_empty());
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.status_of("a"), ReaderStatus::Suspect);
    assert_eq!(world.open_reader_names(), ["b", "c"]);
    assert_eq!(world.leaving_readers(), [""; 0]);
    assert_eq!(world.probe_due(), ["a"]);
    assert_eq!(world.status_of("a"), ReaderStatus::Gone);
    assert_eq!(world.leaving_readers(), ["a"]);
}

#[test]
fn a_reader_that_answers_the_probe_keeps_its_videos() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.readers.remove(0); // It still lives, but its heartbeats reach no manager.
    world.run_for(Duration::from_secs(30));
    for _ in 0..10 {
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.probe_due(), ["a"]);
        assert_eq!(world.status_of("a"), ReaderStatus::Suspect);
        assert_eq!(world.leaving_readers(), [""; 0]);
    }
}

#[test]
fn a_probe_is_not_repeated_at_once() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.probe_due(), ["a"]);
    assert!(world.probe_due().is_empty());
    world.run_for(POLL_INTERVAL);
    assert!(world.probe_due().is_empty());
    world.run_for(POLL_INTERVAL);
    assert_eq!(world.probe_due(), ["a"]);
}

#[test]
fn a_reader_that_beats_again_is_alive_despite_an_old_probe() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    let beat = world.watch.get(&reader_id("a")).unwrap().last_record.beat;
    world.dead.clear();
    world.run_for(Duration::from_secs(1));
    world.watch.note_probe(world.now, &reader_id("a"), beat, ProbeOutcome::Late);
    assert_eq!(world.status_of("a"), ReaderStatus::Alive);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.status_of("a"), ReaderStatus::Suspect);
}

#[test]
fn a_direct_heartbeat_counts_when_the_store_is_outdated() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    for beat in 1_000..1_020 {
        world.run_for(POLL_INTERVAL);
        world.watch.note_heartbeat(world.now, record("a", beat));
    }
    assert_eq!(world.status_of("a"), ReaderStatus::Alive);
    assert_eq!(world.watch.get(&reader_id("a")).unwrap().last_record.beat, 1_019);
}

#[test]
fn a_stale_view_moves_nothing() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    assert_eq!(world.leaving_readers(), ["a"]);
    world.pass_without_polls(VIEW_STALE_AFTER + Duration::from_millis(1));
    assert_eq!(
        world.verdict(),
        ReadersVerdict { readers_to_replace: BTreeSet::new(), hold_reason: Some(HoldReason::Stale) }
    );
    assert!(world.watch.readers_to_forget(world.now, |_| false).is_empty());
}

#[test]
fn time_without_polls_is_not_counted_as_silence() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    // The store is unavailable for a minute, and comes back with the beats from before.
    world.pass_without_polls(Duration::from_mins(1));
    world.poll_store();
    for reader in ["a", "b", "c"] {
        assert_eq!(world.status_of(reader), ReaderStatus::Alive);
    }
    assert!(world.probe_due().is_empty());
    assert!(!world.watch.is_settled(world.now));
    // One reader did not come back.
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.status_of("a"), ReaderStatus::Suspect);
    assert_eq!(world.probe_due(), ["a"]);
}

/// Returns the time from a reader's death until the manager counts it as gone, if the manager polls as `look` does.
fn time_until_gone(look: impl Fn(&mut SimulatedCluster)) -> Duration {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    let died = world.now;
    while world.status_of("a") != ReaderStatus::Gone {
        look(&mut world);
        world.probe_due();
        assert!(world.now - died < Duration::from_secs(30), "it is never gone");
    }
    world.now - died
}

#[test]
fn a_manager_that_is_late_itself_waits_longer_within_bounds() {
    let at_once = time_until_gone(|world| world.run_for(POLL_INTERVAL));
    let late = time_until_gone(|world| {
        world.pass_without_polls(POLL_INTERVAL * 2);
        world.run_for(POLL_INTERVAL);
    });
    assert!(at_once <= SUSPECT_AFTER_SILENCE + POLL_INTERVAL * 2, "{at_once:?}");
    // Two thirds of the time do not count as silence, and of the rest three times as much is waited for.
    assert!(
        late > SUSPECT_AFTER_SILENCE * 6 && late <= SUSPECT_AFTER_SILENCE * 9 + POLL_INTERVAL * 4,
        "{late:?}"
    );
}

#[test]
fn a_store_that_answers_late_is_not_the_manager_s_delay() {
    let (mut watch, mut now) = (TestWatch::default(), any_time());
    for _ in 0..10 {
        watch.note_poll_begun(now);
        now += POLL_INTERVAL * 2;
        watch.note_poll_ended(now);
    }
    assert_eq!(watch.scaled_wait(SUSPECT_AFTER_SILENCE), SUSPECT_AFTER_SILENCE);
    now += LATE_THRESHOLD * 2;
    watch.note_poll_begun(now);
    assert!(watch.scaled_wait(SUSPECT_AFTER_SILENCE) > SUSPECT_AFTER_SILENCE, "what comes after that is");
}

#[test]
fn a_store_that_does_not_answer_is_not_the_manager_s_delay() {
    let looks = std::cell::Cell::new(0_u32);
    let unanswered = time_until_gone(|world| {
        looks.set(looks.get() + 1);
        match looks.get() {
            2 | 3 => {
                world.pass_without_polls(POLL_INTERVAL);
                world.watch.note_poll_begun(world.now);
            }
            _ => world.run_for(POLL_INTERVAL),
        }
    });
    let most = SUSPECT_AFTER_SILENCE + POLL_INTERVAL * 4;
    assert!(unanswered <= most, "only the two looks that failed are nobody's silence: {unanswered:?}");
}

#[test]
fn a_probe_from_before_a_polling_gap_does_not_count() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    world.pass_without_polls(Duration::from_secs(10));
    world.poll_store();
    assert_eq!(world.status_of("a"), ReaderStatus::Suspect);
    assert_eq!(world.leaving_readers(), [""; 0]);
}

#[test]
fn when_more_than_a_third_seem_gone_nothing_is_moved() {
    let mut world = SimulatedCluster::new(&["a", "b", "c", "d", "e"]);
    world.dead.extend(["a", "b"]);
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    let verdict = world.verdict();
    assert!(verdict.readers_to_replace.is_empty());
    assert_eq!(verdict.hold_reason, Some(HoldReason::TooManyGone { missing: 2, readers: 5 }));
    // One of the two comes back: a single missing reader may always be acted on.
    world.dead.remove("b");
    world.run_for(Duration::from_secs(2));
    world.probe_due();
    assert_eq!(world.leaving_readers(), ["a"]);
}

#[test]
fn up_to_a_third_of_the_readers_may_be_gone() {
    let mut world = SimulatedCluster::new(&["a", "b", "c", "d", "e", "f"]);
    world.dead.extend(["a", "b"]);
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    assert_eq!(world.leaving_readers(), ["a", "b"]);
}

#[test]
fn readers_about_to_be_suspect_count_as_missing() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(1));
    world.dead.extend(["b", "c"]);
    while world.probe_due().is_empty() {
        world.run_for(POLL_INTERVAL);
    }
    assert_eq!((world.status_of("a"), world.status_of("b")), (ReaderStatus::Gone, ReaderStatus::Alive));
    assert_eq!(world.leaving_readers(), [""; 0]);
}

#[test]
fn a_replaced_reader_does_not_delay_the_next() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    world.dead.insert("b");
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    assert_eq!(world.leaving_readers(), [""; 0], "while a still has videos, two of three are gone");
    let verdict = world.watch.decide_about_readers(world.now, |reader| reader.as_str() != "a", |_| false);
    assert!(verdict.readers_to_replace.contains(&reader_id("b")) && verdict.hold_reason.is_none());
}

#[test]
fn a_draining_reader_gives_its_videos_away_and_its_end_is_no_surprise() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.draining.insert("a");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.status_of("a"), ReaderStatus::Draining);
    assert_eq!((world.leaving_readers(), world.open_reader_names()), (vec!["a".to_owned()], vec!["b", "c"]));
    world.dead.insert("a");
    world.run_for(Duration::from_secs(4));
    world.dead.insert("b");
    world.run_for(Duration::from_secs(4));
    world.probe_due();
    assert_eq!(world.leaving_readers(), ["a", "b"], "only b's end is one");
}

#[test]
fn long_gone_readers_are_forgotten_and_silent_ones_are_not() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(FORGET_GONE_READER_AFTER.saturating_sub(POLL_INTERVAL));
    world.probe_due();
    assert!(world.watch.readers_to_forget(world.now, |_| false).is_empty());
    world.run_for(Duration::from_secs(2));
    let beat = world.readers[0].1;
    assert_eq!(world.watch.readers_to_forget(world.now, |_| false), [(reader_id("a"), beat)]);
    world.watch.forget_reader(&reader_id("a"));
    world.watch.forget_reader(&reader_id("b"));
    assert_eq!(world.watch.all_readers().count(), 2);
}

#[test]
fn readers_found_at_the_start_take_videos_only_where_no_other_is_seen_alive() {
    let mut watch = TestWatch::default();
    let start = any_time();
    watch.note_records(start, vec![record("dead", 7), record("live", 1)]);
    assert_eq!(watch.open_readers().count(), 2);
    watch.note_records(start + POLL_INTERVAL, vec![record("dead", 7), record("live", 2)]);
    assert_eq!(
        watch.open_readers().map(|sighting| sighting.last_record.id.as_str()).collect::<Vec<_>>(),
        ["live"]
    );
    watch.note_records(
        start + 2 * POLL_INTERVAL,
        vec![record("dead", 7), record("live", 2), record("new", 9)],
    );
    assert_eq!(watch.open_readers().count(), 2, "one that was not there before was written just now");
}

#[test]
fn a_manager_settles_after_uninterrupted_polling() {
    let mut world = SimulatedCluster::new(&["a"]);
    assert!(world.watch.is_settled(world.now));
    world.pass_without_polls(VIEW_STALE_AFTER * 2);
    assert!(!world.watch.is_settled(world.now));
    world.poll_store();
    world.run_for(SETTLED_AFTER_WATCHING.saturating_sub(POLL_INTERVAL));
    assert!(!world.watch.is_settled(world.now));
    world.run_for(POLL_INTERVAL);
    assert!(world.watch.is_settled(world.now));
}

#[test]
fn a_reader_found_at_the_start_that_does_not_answer_takes_nobody() {
    let (mut watch, start) = (TestWatch::default(), any_time());
    watch.note_records(start, vec![record("dead", 7), record("live", 1)]);
    assert_eq!(watch.readers_to_probe(start).len(), 2);
    watch.note_probe(start, &reader_id("dead"), 7, ProbeOutcome::Late);
    watch.note_probe(start, &reader_id("live"), 1, ProbeOutcome::Answered);
    assert_eq!(
        watch.open_readers().map(|sighting| sighting.last_record.id.as_str()).collect::<Vec<_>>(),
        ["live"]
    );
    // The reader was only overloaded.
    watch.note_records(start + POLL_INTERVAL, vec![record("dead", 8), record("live", 1)]);
    assert_eq!(watch.reader_status(&reader_id("dead")), Some(ReaderStatus::Alive));
}

#[test]
fn a_probe_that_failed_counts_once_the_store_was_seen_after_it() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    let refused = |world: &mut SimulatedCluster| {
        let beat = world.readers[0].1;
        world.watch.note_probe(world.now, &reader_id("a"), beat, ProbeOutcome::Unreachable);
    };
    // While the store is unavailable, the readers may be cut off for the same reason.
    for _ in 0..10 {
        world.pass_without_polls(PROBE_INTERVAL);
        refused(&mut world);
    }
    world.run_for(POLL_INTERVAL);
    assert_eq!(world.status_of("a"), ReaderStatus::Alive);
    assert_eq!(world.leaving_readers(), [""; 0]);
    // The manager reaches the store, and the reader's address refuses the connection.
    refused(&mut world);
    world.run_for(PROBE_INTERVAL);
    assert_eq!(world.leaving_readers(), [""; 0], "once may be a mishap");
    refused(&mut world);
    assert_eq!(world.leaving_readers(), [""; 0], "not seen yet");
    world.run_for(POLL_INTERVAL);
    assert_eq!(
        (world.status_of("a"), world.leaving_readers()),
        (ReaderStatus::Suspect, vec!["a".to_owned()])
    );
    world.watch.note_probe(world.now, &reader_id("a"), world.readers[0].1, ProbeOutcome::Answered);
    assert_eq!((world.status_of("a"), world.leaving_readers()), (ReaderStatus::Alive, vec![]));
}

#[test]
fn a_process_waits_for_its_name_until_the_one_before_it_has_nobody() {
    let (mut watch, now) = (TestWatch::default(), any_time());
    let process = |incarnation, draining, viewers| TestRecord {
        incarnation,
        draining,
        viewers,
        ..record("a", incarnation)
    };
    watch.note_records(now, vec![]);
    watch.note_heartbeat(now, process(5, true, 3));
    let next = process(6, false, 0);
    assert_eq!(watch.name_refusal(&next), Some(NameRefusal::StillLeaving));
    assert_eq!(watch.name_refusal(&process(5, true, 2)), None);
    watch.note_heartbeat(now, process(5, true, 0));
    assert_eq!(watch.name_refusal(&next), None);
    watch.note_heartbeat(now, next);
    assert_eq!(watch.name_refusal(&process(5, true, 0)), Some(NameRefusal::Overtaken));
    // A process that does not say when it began is of an earlier release.
    assert_eq!(watch.name_refusal(&process(0, false, 0)), None);
    // The name is free again after a long silence.
    (1..=6).for_each(|poll| watch.note_records(now + poll * POLL_INTERVAL, vec![]));
    assert_eq!(watch.name_refusal(&process(5, true, 0)), None);
}

/// Returns a record that says that the reader keeps video `v` ready.
fn ready_record(name: &str, beat: u64) -> TestRecord {
    let video = VideoId::parse("v").unwrap();
    let held = HeldVideo { video, viewers: 3, epoch: 1, ready: true, shedding: false };
    TestRecord { videos: vec![held], ..record(name, beat) }
}

fn held_of(watch: &TestWatch, name: &str) -> (u64, bool) {
    let held = watch.get(&reader_id(name)).unwrap().held_video(&VideoId::parse("v").unwrap()).unwrap();
    (held.viewers, held.ready)
}

#[test]
fn a_reader_is_ready_by_what_it_was_seen_to_say_and_not_by_what_was_found_or_may_have_waited() {
    let (mut watch, start) = (TestWatch::default(), any_time());
    watch.note_poll_begun(start);
    watch.note_records(start, vec![ready_record("a", 1)]);
    assert_eq!(held_of(&watch, "a"), (3, false), "found at the start");
    watch.note_heartbeat(start + POLL_INTERVAL, ready_record("a", 2));
    assert_eq!(held_of(&watch, "a"), (3, false), "it may have waited for this manager to begin");
    watch.note_video_ready(&reader_id("a"), &VideoId::parse("v").unwrap());
    assert_eq!(held_of(&watch, "a"), (3, true), "it was asked and answered");
    let mut now = start + HEARTBEAT_EVERY + POLL_INTERVAL;
    watch.note_poll_begun(now);
    watch.note_heartbeat(now, ready_record("a", 3));
    assert_eq!(held_of(&watch, "a"), (3, true));
    // The manager is suspended, then receives a heartbeat that was sent before, and polls the store.
    now += VIEW_STALE_AFTER + POLL_INTERVAL;
    watch.note_heartbeat(now, ready_record("a", 4));
    assert_eq!(held_of(&watch, "a"), (3, false));
    watch.note_poll_begun(now);
    watch.note_heartbeat(now + POLL_INTERVAL, ready_record("a", 5));
    assert_eq!(held_of(&watch, "a"), (3, false));
    watch.note_records(now, vec![ready_record("a", 6)]);
    assert_eq!(held_of(&watch, "a"), (3, false), "written at any time since the last look");
    watch.note_poll_begun(now + POLL_INTERVAL);
    watch.note_records(now + POLL_INTERVAL, vec![ready_record("a", 7), ready_record("b", 1)]);
    assert_eq!((held_of(&watch, "a"), held_of(&watch, "b")), ((3, true), (3, false)));
}

#[test]
fn a_manager_that_stood_still_takes_no_heartbeats_for_a_moment() {
    let (mut watch, mut now) = (TestWatch::default(), any_time());
    assert!(!watch.was_suspended(now), "one that has just begun has kept nobody waiting");
    watch.note_poll_begun(now);
    assert!(!watch.was_suspended(now + MAX_POLL_TIME), "it waits for the store");
    watch.note_poll_ended(now + MAX_POLL_TIME);
    now += MAX_POLL_TIME + VIEW_STALE_AFTER;
    assert!(!watch.was_suspended(now));
    now += POLL_INTERVAL;
    assert!(watch.was_suspended(now));
    watch.note_poll_begun(now);
    watch.note_poll_ended(now);
    assert!(watch.was_suspended(now + HEARTBEAT_EVERY));
    watch.note_poll_begun(now + HEARTBEAT_EVERY);
    watch.note_poll_ended(now + HEARTBEAT_EVERY);
    assert!(!watch.was_suspended(now + HEARTBEAT_EVERY + POLL_INTERVAL));
}

#[test]
fn an_old_copy_of_the_store_is_no_sign_of_life() {
    let mut world = SimulatedCluster::new(&["a", "b", "c"]);
    world.dead.insert("a");
    world.run_for(SUSPECT_AFTER_SILENCE + POLL_INTERVAL);
    world.probe_due();
    assert_eq!(world.status_of("a"), ReaderStatus::Gone);
    let beat = world.watch.get(&reader_id("a")).unwrap().last_record.beat;
    for (incarnation, beat) in [(1, beat - 3), (0, beat), (1, beat)] {
        world.now += POLL_INTERVAL / 5;
        world.watch.note_records(world.now, vec![TestRecord { incarnation, ..record("a", beat) }]);
        assert_eq!(world.status_of("a"), ReaderStatus::Gone, "{incarnation} {beat}");
    }
    // A process that begins on a machine whose clock was set back counts as alive from its second heartbeat on.
    let process = |beat| TestRecord { incarnation: 5, ..record("d", beat) };
    let earlier = |beat| TestRecord { incarnation: 3, ..record("d", beat) };
    world.watch.note_records(world.now, vec![process(1)]);
    let look = |world: &mut SimulatedCluster, nth: u32| {
        world.watch.note_records(world.now + POLL_INTERVAL * nth, vec![earlier(70 + u64::from(nth))]);
        world.status_of("d")
    };
    for nth in 1..=5 {
        assert_eq!(look(&mut world, nth), ReaderStatus::Alive, "not silent for long enough");
    }
    assert_eq!(look(&mut world, 6), ReaderStatus::Suspect);
    assert_eq!(
        look(&mut world, 7),
        ReaderStatus::Suspect,
        "it is taken for what it is, and is no sign of life"
    );
    assert_eq!(look(&mut world, 8), ReaderStatus::Alive);
}

#[test]
fn an_excuse_for_own_delay_does_not_take_back_what_a_reader_said_meanwhile() {
    let mut world = SimulatedCluster::new(&["a", "b"]);
    let asked = world.now + POLL_INTERVAL;
    // The store's answer takes long, and a reader's heartbeat arrives before it.
    world.watch.note_poll_begun(asked);
    let heard = asked + POLL_INTERVAL;
    world.watch.note_heartbeat(heard, record("a", 1_000));
    world.watch.note_records(asked, Vec::new());
    for looks in 1..=6 {
        world.watch.note_poll_begun(asked + POLL_INTERVAL * looks);
        world.watch.note_records(asked + POLL_INTERVAL * looks, Vec::new());
    }
    let silence = world.watch.silence_of(world.watch.get(&reader_id("a")).unwrap());
    assert!(silence < SUSPECT_AFTER_SILENCE, "{silence:?}");
}

#[test]
fn a_heartbeat_that_comes_after_a_later_one_of_its_process_is_outdated() {
    let (mut watch, now) = (TestWatch::default(), any_time());
    let sent = |incarnation, beat| TestRecord { incarnation, ..record("a", beat) };
    assert!(!watch.is_outdated(&sent(4, 7)), "the reader is not known");
    watch.note_heartbeat(now, sent(4, 7));
    assert!(watch.is_outdated(&sent(4, 6)));
    assert!(!watch.is_outdated(&sent(4, 7)), "the same heartbeat is sent to the next manager");
    assert!(!watch.is_outdated(&sent(4, 8)));
    assert!(!watch.is_outdated(&sent(5, 1)), "another process counts from another number");
    watch.note_heartbeat(now, sent(0, 7));
    assert!(!watch.is_outdated(&sent(0, 6)), "the heartbeats of earlier releases are not counted up");
}

#[test]
fn an_earlier_heartbeat_counts_again_once_nothing_later_has_been_heard_for_a_while() {
    let (mut watch, now) = (TestWatch::default(), any_time());
    let sent = |beat| TestRecord { incarnation: 4, ..record("a", beat) };
    watch.note_heartbeat(now, sent(1 << 40));
    for looks in 1..=12 {
        let at = now + POLL_INTERVAL * looks;
        watch.note_poll_begun(at);
        watch.note_records(at, vec![sent(1 << 40)]);
        let silence = watch.silence_of(watch.get(&reader_id("a")).unwrap());
        assert_eq!(watch.is_outdated(&sent(7)), silence < SUSPECT_AFTER_SILENCE, "{silence:?}");
    }
    assert!(!watch.is_outdated(&sent(7)), "the reader is not refused for ever");
}
