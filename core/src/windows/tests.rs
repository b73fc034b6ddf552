use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Interaction;
use crate::counting::{
    BatchEffects, CountingRules, CountingSetup, LogRecord, StoredModeration, apply_moderated_batch, mark_key,
};
use crate::decays::CountedDecays;
use crate::score::Counters;

/// Time zones, among them some whose clocks change at midnight or by half an hour, or that have left out a day.
const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Havana",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
];
const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;
/// The tested times: 1971 to 2100.
const TIMES: std::ops::Range<Millis> = 31_536_000_000..4_102_444_800_000;

fn kind(unit: WindowUnit, zone: &str) -> WindowKind {
    WindowKind::new(unit, zone).unwrap()
}

fn at(text: &str) -> Millis {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn hours(window: Window) -> Millis {
    assert_eq!((window.end - window.start) % HOUR, 0);
    (window.end - window.start) / HOUR
}

#[test]
fn a_day_in_which_the_clocks_change_has_23_or_25_hours() {
    let days = kind(WindowUnit::Day, "Europe/Berlin");
    for (noon, name, long) in [
        ("2026-03-29T10:00:00Z", "2026-03-29", 23),
        ("2026-10-25T10:00:00Z", "2026-10-25", 25),
        ("2026-11-28T10:00:00Z", "2026-11-28", 24),
    ] {
        let window = days.window_of(at(noon));
        assert_eq!((days.window_name(&window).as_str(), hours(window)), (name, long));
    }
    assert_eq!(days.window_of(at("2026-11-27T23:00:00Z")).start, at("2026-11-27T23:00:00Z"));
    assert_eq!(days.window_of(at("2026-11-27T22:59:59.999Z")).end, at("2026-11-27T23:00:00Z"));
    let weeks = kind(WindowUnit::Week, "Europe/Berlin");
    let window = weeks.window_of(at("2026-10-25T10:00:00Z"));
    assert_eq!((weeks.window_name(&window).as_str(), hours(window)), ("2026-W43", 7 * 24 + 1));
    assert_eq!(weeks.window_name(&weeks.window_of(at("2027-01-02T10:00:00Z"))), "2026-W53");
}

#[test]
fn an_hour_that_comes_twice_is_two_windows() {
    let hours_of = kind(WindowUnit::Hour, "Europe/Berlin");
    let names: Vec<String> = (0..4)
        .map(|hour| hours_of.window_name(&hours_of.window_of(at("2026-10-24T23:30:00Z") + hour * HOUR)))
        .collect();
    assert_eq!(names, ["2026-10-25T01", "2026-10-25T02", "2026-10-25T02~2", "2026-10-25T03"]);
    let india = kind(WindowUnit::Hour, "Asia/Kolkata");
    assert_eq!(india.window_of(at("2026-11-28T10:29:00Z")).end, at("2026-11-28T10:30:00Z"));
}

#[test]
fn a_name_of_no_window_is_refused() {
    for (unit, wrong) in [
        (WindowUnit::Day, "2026-02-30"),
        (WindowUnit::Day, "2026-11-28T10"),
        (WindowUnit::Day, "today"),
        (WindowUnit::Day, ""),
        (WindowUnit::Week, "2026-W54"),
        (WindowUnit::Week, "2026-W00"),
        (WindowUnit::Week, "2026-11-28"),
        (WindowUnit::Hour, "2026-11-28"),
        (WindowUnit::Hour, "2026-11-28T24"),
        (WindowUnit::Hour, "2026-11-28T14~2"),
        (WindowUnit::Hour, "2026-03-29T02"),
    ] {
        let error = kind(unit, "Europe/Berlin").window_named(wrong).unwrap_err();
        assert_eq!(error.field, "window", "{wrong}");
    }
    assert!(
        kind(WindowUnit::Day, "Pacific/Apia").window_named("2011-12-30").is_err(),
        "a day that was left out"
    );
}

#[test]
fn a_kind_is_read_as_it_is_written() {
    for (unit, zone) in [(WindowUnit::Hour, "UTC"), (WindowUnit::Week, "America/Argentina/Buenos_Aires")] {
        let kind = kind(unit, zone);
        assert_eq!(WindowKind::parse(&kind.to_string()), Ok(kind));
    }
    assert_eq!(
        WindowKind::new(WindowUnit::Day, "europe/berlin").unwrap().to_string(),
        "day of Europe/Berlin"
    );
    for (wrong, field) in
        [("month of UTC", "window"), ("day of Europe/Bonn", "timeZone"), ("day", "timeZone")]
    {
        assert_eq!(WindowKind::parse(wrong).unwrap_err().field, field);
    }
}

#[test]
fn kept_windows_are_those_before_the_running_one() {
    let days = kind(WindowUnit::Day, "UTC");
    let kept = days.running_and_kept_windows(at("2026-11-28T10:00:00Z"), 2);
    let names: Vec<String> = kept.iter().map(|window| days.window_name(window)).collect();
    assert_eq!(names, ["2026-11-28", "2026-11-27", "2026-11-26"]);
}

#[test]
fn a_partition_that_lags_keeps_windows_open_and_a_silent_one_does_not() {
    let now = 100 * DAY;
    let progress = |last_counted_time, is_at_end| PartitionProgress { last_counted_time, is_at_end };
    let before = |partitions: &[PartitionProgress]| windows_final_until(now, partitions);
    let lag = MAX_LATENESS_MS + MAX_BROKER_CLOCK_SKEW_MS;
    assert_eq!(before(&[progress(Some(now), false), progress(Some(now - DAY), false)]), now - DAY - lag);
    let silent = now - MAX_LATENESS_MS - MAX_CALLER_CLOCK_SKEW_MS;
    assert_eq!(before(&[progress(Some(now), true), progress(Some(now - DAY), true)]), silent);
    assert_eq!(before(&[progress(Some(now), true), progress(None, true)]), silent);
    assert_eq!(before(&[progress(Some(now), true), progress(None, false)]), Millis::MIN);
    assert_eq!(before(&[]), Millis::MIN);
}

fn record(offset: u64, broker_time: Millis, event_time: Millis, who: &str, kind: &str) -> LogRecord {
    let value = json!({"video_id": "v", "user_id": who, "type": kind, "watch_time": 1.5});
    let mut event = Interaction::parse(&value, broker_time).unwrap();
    event.timestamp = event_time;
    LogRecord { partition: 0, offset, broker_time, event }
}

fn counted(kinds: &[WindowKind], complete_after: Option<Millis>) -> CountedWindows {
    kinds.iter().map(|kind| CountedWindowKind { kind: kind.clone(), complete_after }).collect()
}

fn unique() -> CountingRules {
    CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() }
}

/// Applies records one by one, each with the marks that the records before it have left.
fn one_by_one(records: &[LogRecord], rules: &CountingRules, windows: &CountedWindows) -> Vec<BatchEffects> {
    let (mut videos, mut marks) = (Vec::new(), std::collections::BTreeMap::new());
    let one = |record: &LogRecord| {
        let key = mark_key(&record.event, rules.unique);
        let set: Vec<_> = key.and_then(|key| Some((key, marks.get(&key).cloned()?))).into_iter().collect();
        let one = std::slice::from_ref(record);
        let in_force = CountingSetup { rules, windows, decays: &CountedDecays::default() };
        let effects = apply_moderated_batch(
            one,
            std::mem::take(&mut videos),
            [],
            StoredModeration::default(),
            set,
            in_force,
        );
        videos.clone_from(&effects.videos);
        for change in &effects.mark_changes {
            match change.new_value.clone() {
                Some(mark) => marks.insert(change.key, mark),
                None => marks.remove(&change.key),
            };
        }
        effects
    };
    records.iter().map(one).collect()
}

fn likes_by_window(effects: &[BatchEffects]) -> Vec<(Millis, i64)> {
    let changes = effects.iter().flat_map(|effects| &effects.window_changes);
    changes.map(|change| (change.window.start, change.counters.likes)).collect()
}

#[test]
fn what_is_taken_back_is_taken_from_the_window_that_it_counted_in_until_that_ends() {
    let days = counted(&[kind(WindowUnit::Day, "UTC")], None);
    let log = |unlike: Millis| [(DAY + HOUR, "like"), (unlike, "unlike")];
    let run = |log: [(Millis, &str); 2], windows: &CountedWindows| {
        let records: Vec<_> =
            log.iter().zip(0..).map(|((at, kind), offset)| record(offset, *at, *at, "ana", kind)).collect();
        one_by_one(&records, &unique(), windows)
    };
    assert_eq!(likes_by_window(&run(log(DAY + 2 * HOUR), &days)), [(DAY, 1), (DAY, -1)]);
    let later = run(log(2 * DAY + HOUR), &days);
    assert_eq!(likes_by_window(&later), [(DAY, 1)], "its window has ended: the result stays");
    assert_eq!(later[1].videos[0].counters.likes, 0, "all time has it no more");
    // A kind of windows that was added in between has not counted the like.
    let added = counted(&[kind(WindowUnit::Day, "UTC")], Some(DAY + HOUR));
    assert_eq!(likes_by_window(&run(log(DAY + 2 * HOUR), &added)), [(DAY, 1)]);
    assert_eq!(likes_by_window(&run(log(DAY + 2 * HOUR), &CountedWindows::default())), []);
}

#[test]
fn without_windows_marks_have_no_time_and_nothing_is_restated() {
    let records = [record(0, DAY, DAY, "ana", "like")];
    let effects = one_by_one(&records, &unique(), &CountedWindows::default()).pop().unwrap();
    assert_eq!(
        (
            effects.mark_changes[0].new_value.as_ref().unwrap().counted_at,
            effects.videos_changed_beyond_counters.len()
        ),
        (None, 0)
    );
    let windows = counted(&[kind(WindowUnit::Hour, "UTC")], None);
    let effects = one_by_one(&records, &unique(), &windows).pop().unwrap();
    assert_eq!(effects.mark_changes[0].new_value.as_ref().unwrap().counted_at, Some(DAY));
}

#[test]
fn a_gap_and_a_new_kind_make_windows_that_are_not_whole() {
    let [days, weeks] = [WindowUnit::Day, WindowUnit::Week].map(|unit| kind(unit, "UTC"));
    let first = CountedWindows::default().with_wanted_kinds(std::slice::from_ref(&days), None);
    assert!(first.find(&days).unwrap().is_complete(0));
    let both = first.with_wanted_kinds(&[days.clone(), weeks.clone()], Some(5));
    assert_eq!(both.find(&days), first.find(&days), "it is counted on");
    assert!(!both.find(&weeks).unwrap().is_complete(5) && both.find(&weeks).unwrap().is_complete(6));
    let gap = both.with_counting_gap(Some(3));
    assert_eq!(
        (gap.find(&days).unwrap().complete_after, gap.find(&weeks).unwrap().complete_after),
        (Some(3), Some(5))
    );
    assert_eq!(both.with_counting_gap(None), both);
}

#[test]
fn a_video_within_a_window_has_its_counts_and_the_revision_of_the_whole() {
    let records = [record(0, DAY, DAY, "ana", "like"), record(1, DAY, DAY, "ben", "view")];
    let effects = one_by_one(&records, &CountingRules::default(), &CountedWindows::default()).pop().unwrap();
    let whole = effects.videos[0].clone();
    let counters = Counters { views: 1, ..Counters::default() };
    let within = whole.clone().with_window_counters(counters);
    assert_eq!((within.counters, within.revision()), (counters, whole.revision()));
}

proptest! {
    #[test]
    fn windows_follow_each_other_without_a_hole(zone in 0..ZONES.len(), unit in 0..3usize, time in TIMES) {
        let kind = kind(WindowUnit::ALL[unit], ZONES[zone]);
        let window = kind.window_of(time);
        prop_assert!(window.contains(time), "{window:?}");
        prop_assert_eq!(kind.window_of(window.start), window);
        prop_assert_eq!(kind.window_of(window.end - 1), window);
        prop_assert_eq!(kind.window_of(window.end).start, window.end);
        prop_assert_eq!(kind.previous(&window).end, window.start);
        let long = window.end - window.start;
        let (least, most) = match kind.unit() {
            WindowUnit::Hour => (1, HOUR),
            WindowUnit::Day => (23 * HOUR, 25 * HOUR),
            WindowUnit::Week => (6 * DAY - HOUR, 7 * DAY + HOUR),
        };
        prop_assert!((least..=most).contains(&long), "{long}");
        prop_assert_eq!(kind.window_named(&kind.window_name(&window)), Ok(window));
    }

    /// Hours have distinct names, also near clock changes.
    #[test]
    fn hours_around_a_change_of_the_clocks_have_names_of_their_own(
        zone in 0..ZONES.len(), time in TIMES, steps in 0..60i64,
    ) {
        let kind = kind(WindowUnit::Hour, ZONES[zone]);
        let change = kind.time_zone.rules.following(to_timestamp(time)).next();
        let around = change.map_or(time, |change| change.timestamp().as_millisecond());
        let window = kind.window_of(around + (steps - 30) * 10 * 60_000);
        prop_assert_eq!(kind.window_named(&kind.window_name(&window)), Ok(window), "{}", kind.window_name(&window));
        let shown = |at| kind.time_zone.rules.to_offset(to_timestamp(at));
        prop_assert_eq!(shown(window.start), shown(window.end - 1), "one offset");
    }

    /// In a log whose brokers' clocks differ by no more than the bound, no later record is in a window that was final.
    #[test]
    fn nothing_comes_into_a_window_that_is_final(
        counted in 0..DAY, later in 0..DAY, clock in -MAX_BROKER_CLOCK_SKEW_MS..=0, event in -DAY..2 * DAY,
    ) {
        let progress = PartitionProgress { last_counted_time: Some(counted), is_at_end: false };
        let broker = counted + later + clock;
        prop_assert!(counted_time(event, broker) >= windows_final_until(0, &[progress]));
        let silent = PartitionProgress { last_counted_time: None, is_at_end: true };
        // The broker's clock may be behind the caller's.
        let broker = counted - MAX_CALLER_CLOCK_SKEW_MS + later;
        prop_assert!(counted_time(event, broker) >= windows_final_until(counted, &[silent]));
    }

    #[test]
    fn an_event_is_in_the_window_of_its_time_unless_that_is_long_gone(event in 0..DAY, broker in 0..DAY) {
        let at = counted_time(event, broker);
        prop_assert!(at <= broker && at >= broker - MAX_LATENESS_MS);
        prop_assert!(at == event || event > broker || event < broker - MAX_LATENESS_MS);
    }

    /// Each event is in one window of each kind: the windows together have the video's counts, without what was taken
    /// back after its window had ended.
    #[test]
    fn windows_add_up_to_the_whole(
        events in proptest::collection::vec((0..4usize, 0..3usize, 0..DAY, -HOUR..2 * MAX_LATENESS_MS), 1..40),
    ) {
        let mut broker = 50 * DAY;
        let kinds = ["view", "like", "share", "watch_time"];
        let records: Vec<_> = events.iter().zip(0..).map(|((what, who, pause, late), offset)| {
            broker += pause;
            record(offset, broker, broker - late, &format!("u{who}"), kinds[*what])
        }).collect();
        let windows: Vec<_> = WindowUnit::ALL.into_iter().zip(["UTC", "Europe/Berlin", "Asia/Kolkata"])
            .map(|(unit, zone)| kind(unit, zone)).collect();
        let counted = counted(&windows, None);
        let in_force = CountingSetup { rules: &unique(), windows: &counted, decays: &CountedDecays::default() };
        let whole = apply_moderated_batch(&records, [], [], StoredModeration::default(), [], in_force);
        for kind in &windows {
            let mut sum = Counters::default();
            for change in whole.window_changes.iter().filter(|change| change.window.kind == *kind) {
                prop_assert_eq!(kind.window_of(change.window.start).start, change.window.start);
                sum.merge(&change.counters);
            }
            prop_assert_eq!(sum, whole.videos[0].counters);
        }
        // The result is the same for any split of the log into batches.
        let mut parts = std::collections::BTreeMap::<_, Counters>::new();
        for change in one_by_one(&records, &unique(), &counted).into_iter().flat_map(|effects| effects.window_changes) {
            let key = (change.window.kind.to_string(), change.window.start);
            parts.entry(key).or_default().merge(&change.counters);
        }
        let of_whole: std::collections::BTreeMap<_, _> = whole.window_changes.iter()
            .map(|change| ((change.window.kind.to_string(), change.window.start), change.counters)).collect();
        prop_assert_eq!(parts, of_whole);
    }
}
