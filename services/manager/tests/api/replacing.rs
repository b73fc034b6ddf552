//! Tests of what managers do without orders: agree with each other, replace readers, and change nothing while they do
//! not reach the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::support::{Manager, Reader, StoreWithSwitch, until};
use futures::future::join_all;
use liverank_adapters::AssignmentStore;
use liverank_core::handover::HandOver;
use liverank_manager::liveness::PROBE_INTERVAL;
use serde_json::Value;

#[tokio::test]
async fn two_managers_on_one_store_agree() {
    let store = StoreWithSwitch::new();
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let readers = [Reader::start("reader-1", &[&one]).await, Reader::start("reader-2", &[&two]).await];
    one.knows(readers.len()).await;
    two.knows(readers.len()).await;
    let names: Vec<String> = (0..50).map(|number| format!("v{number}")).collect();
    let (one, two) = (&one, &two);
    let at_once = names.iter().map(|name| async move {
        let ((url, action), (other_url, other_action)) = tokio::join!(one.register(name), two.register(name));
        assert_eq!(url, other_url, "{name}");
        let mut actions = [action, other_action];
        actions.sort();
        assert_eq!(actions, ["existing", "registered"], "{name}");
        url
    });
    let urls = join_all(at_once).await;
    for (name, url) in names.iter().zip(&urls) {
        assert_eq!(one.resolve(name).await.as_ref(), Some(url));
        assert_eq!(two.resolve(name).await.as_ref(), Some(url));
    }
    assert_eq!(store.assigned.load(Relaxed), 50);
}

#[tokio::test]
async fn what_one_manager_registers_the_other_resolves_before_it_hears_of_it() {
    let store = StoreWithSwitch::new();
    store.slow_news.store(true, Relaxed);
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let reader = Reader::start("reader-1", &[&one]).await;
    one.knows(1).await;
    two.knows(1).await;
    until("the other is loaded", async || two.get("/resolve/nobody").await.status() == 404).await;
    for number in 0..20 {
        let name = format!("v{number}");
        one.register(&name).await;
        assert_eq!(two.resolve(&name).await.as_ref(), Some(&reader.url), "{name}");
    }
}

/// Returns the address of the reader of each of `count` videos.
async fn places_of_videos(manager: &Manager, count: usize) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    for number in 0..count {
        let name = format!("v{number}");
        let url = manager.resolve(&name).await.unwrap();
        places.insert(name, url);
    }
    places
}

async fn start_three_readers(managers: &[&Manager]) -> [Reader; 3] {
    let readers = [
        Reader::start("reader-1", managers).await,
        Reader::start("reader-2", managers).await,
        Reader::start("reader-3", managers).await,
    ];
    managers[0].knows(3).await;
    readers
}

/// The time within which a dead reader is replaced.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);

/// Calls `replace`, which returns the time that a replacement took, until one was in time. Some take long on a busy
/// machine; a manager that waits too long is late each time.
async fn check_time(replace: impl AsyncFn() -> Duration) {
    let mut took = Vec::new();
    while took.last().is_none_or(|last| *last >= REPLACED_WITHIN) {
        assert!(took.len() < 4, "a reader was replaced after {took:?}");
        took.push(replace().await);
    }
}

/// Checks that the videos of one of three readers, which ends by `end`, move to others not before `at_least`, and that no
/// other video moves. Returns the time that it took.
async fn replace_one_of_three(at_least: Duration, end: impl AsyncFn(&mut Reader)) -> Duration {
    let store = StoreWithSwitch::new();
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let mut readers = start_three_readers(&[&one, &two]).await;
    for number in 0..30 {
        one.register(&format!("v{number}")).await;
    }
    let before = places_of_videos(&one, 30).await;
    let dead = readers[1].url.clone();
    // The silence counts from the last heartbeat, which is long ago where this process stood still.
    let answers = || readers[1].told.lock().unwrap().answers;
    let known = answers();
    until("another heartbeat", async || answers() > known).await;
    let ends = Instant::now();
    end(&mut readers[1]).await;
    until("its videos are elsewhere", async || {
        places_of_videos(&one, 30).await.values().all(|url| *url != dead)
            && places_of_videos(&two, 30).await.values().all(|url| *url != dead)
    })
    .await;
    let took = ends.elapsed();
    assert!(took >= at_least, "a reader was given up after {took:?}");
    let after = places_of_videos(&two, 30).await;
    for (name, url) in &before {
        assert!(*url == dead || after[name] == *url, "{name} moved without need");
    }
    // The other manager may have noticed first.
    until("both know that it is gone", async || {
        one.state_of(&readers[1].id).await.as_deref() == Some("gone")
            && two.state_of(&readers[1].id).await.as_deref() == Some("gone")
    })
    .await;
    assert_eq!(store.assigned.load(Relaxed), 30 + before.values().filter(|url| **url == dead).count() as u64);
    took
}

/// Three heartbeats have to be missing, less the part of one that had passed when the reader fell silent.
#[tokio::test]
async fn a_silent_reader_s_videos_move_within_seconds_and_no_other_does() {
    let freeze = async |reader: &mut Reader| reader.freeze();
    check_time(async || replace_one_of_three(Duration::from_millis(2_500), freeze).await).await;
}

/// The dead reader's address refuses connections: two refused probes, a second apart, are enough, and one is not.
#[tokio::test]
async fn a_killed_reader_s_videos_move_within_seconds_and_no_other_does() {
    let kill = async |reader: &mut Reader| reader.kill().await;
    check_time(async || replace_one_of_three(PROBE_INTERVAL, kill).await).await;
}

#[tokio::test]
async fn a_second_reader_that_dies_later_is_replaced_too() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let mut readers = start_three_readers(&[&manager]).await;
    for number in 0..9 {
        manager.register(&format!("v{number}")).await;
    }
    for victim in &mut readers[..2] {
        let dead = victim.url.clone();
        victim.kill().await;
        until("its videos are elsewhere", async || {
            places_of_videos(&manager, 9).await.values().all(|url| *url != dead)
        })
        .await;
    }
    let last = readers[2].url.clone();
    assert!(places_of_videos(&manager, 9).await.values().all(|url| *url == last));
}

#[tokio::test]
async fn a_reader_that_is_cut_off_from_managers_but_answers_keeps_its_videos() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let readers = start_three_readers(&[&manager]).await;
    for number in 0..9 {
        manager.register(&format!("v{number}")).await;
    }
    let before = places_of_videos(&manager, 9).await;
    readers[0].connected.store(false, Relaxed);
    until("it is suspect", async || manager.state_of("reader-1").await.as_deref() == Some("suspect")).await;
    for number in 9..18 {
        assert_ne!(manager.register(&format!("v{number}")).await.0, readers[0].url, "it takes no new videos");
    }
    let suspect_since = store.assigned.load(Relaxed);
    until("it was probed a few times", async || {
        let load: Value = manager.get("/load").await.json().await.unwrap();
        load["readers"][0]["silent_ms"].as_u64().unwrap() > 7_000
    })
    .await;
    assert_eq!(manager.state_of("reader-1").await.as_deref(), Some("suspect"));
    assert_eq!(places_of_videos(&manager, 9).await, before);
    assert_eq!(store.assigned.load(Relaxed), suspect_since);
}

#[tokio::test]
async fn a_stale_manager_moves_nothing() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let mut readers = start_three_readers(&[&manager]).await;
    for number in 0..9 {
        manager.register(&format!("v{number}")).await;
    }
    let before = places_of_videos(&manager, 9).await;
    store.blind.store(true, Relaxed);
    readers[0].kill().await;
    // Twice as long as it takes to replace a reader: 20 polls, half a second apart.
    until("it looked in vain for long enough", async || store.vain_polls.load(Relaxed) >= 20).await;
    assert_eq!(places_of_videos(&manager, 9).await, before);
    assert_eq!(store.assigned.load(Relaxed), 9);
    // Once the manager reaches the store again, it acts, but not before it has seen the silence itself.
    store.blind.store(false, Relaxed);
    let dead = readers[0].url.clone();
    let took = until("the dead reader's videos move", async || {
        places_of_videos(&manager, 9).await.values().all(|url| *url != dead)
    })
    .await;
    assert!(took >= Duration::from_secs(1), "moved after {took:?} of seeing again");
}

#[tokio::test]
async fn when_most_readers_seem_gone_nothing_is_moved() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let mut readers = start_three_readers(&[&manager]).await;
    for number in 0..9 {
        manager.register(&format!("v{number}")).await;
    }
    let before = places_of_videos(&manager, 9).await;
    readers[0].kill().await;
    readers[1].kill().await;
    until("both are gone", async || {
        manager.state_of("reader-1").await.as_deref() == Some("gone")
            && manager.state_of("reader-2").await.as_deref() == Some("gone")
    })
    .await;
    until("they have been gone for a while", async || {
        let load: Value = manager.get("/load").await.json().await.unwrap();
        load["readers"][0]["silent_ms"].as_u64().unwrap() > 6_000
    })
    .await;
    assert_eq!(places_of_videos(&manager, 9).await, before);
    assert_eq!(store.assigned.load(Relaxed), 9);
}

#[tokio::test]
async fn watched_videos_that_the_store_lost_are_given_back_to_their_readers() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let readers = start_three_readers(&[&manager]).await;
    let mut home = BTreeMap::new();
    for number in 0..9 {
        let name = format!("v{number}");
        let url = manager.register(&name).await.0;
        readers.iter().find(|reader| reader.url == url).unwrap().watch(&name, 2);
        home.insert(name, url);
    }
    until("the viewers are known", async || {
        let viewers: Value = manager.get("/viewers/v8").await.json().await.unwrap();
        viewers["viewers"] == 2
    })
    .await;
    let epochs =
        store.load_assignments().await.unwrap().assignments.into_iter().map(|assignment| assignment.epoch());
    let highest = epochs.max().unwrap();
    store.lose_everything();
    until("all are assigned again", async || store.load_assignments().await.unwrap().assignments.len() == 9)
        .await;
    assert_eq!(places_of_videos(&manager, 9).await, home);
    let lowest = store
        .load_assignments()
        .await
        .unwrap()
        .assignments
        .into_iter()
        .map(|assignment| assignment.epoch())
        .min();
    assert!(lowest.unwrap() > highest, "an epoch went back");
}

/// Hides the reader of a video, and returns the time until who asks for the video gets another reader.
async fn replace_hidden() -> Duration {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let readers = start_three_readers(&[&manager]).await;
    let home = manager.register("v").await.0;
    let reader = readers.iter().find(|reader| reader.url == home).unwrap();
    reader.hide();
    // A viewer who found nobody at the reader asks the manager again and again.
    let took = until("another has it", async || manager.register("v").await.0 != home).await;
    assert_eq!(manager.state_of(&reader.id).await.as_deref(), Some("suspect"));
    assert!(manager.resolve("v").await.is_some_and(|url| url != home));
    took
}

#[tokio::test]
async fn who_asks_for_a_video_whose_reader_cannot_be_reached_gets_another_within_five_seconds() {
    check_time(replace_hidden).await;
}

#[tokio::test]
async fn a_removed_reader_is_not_given_out_by_managers_that_begin_later() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let readers = start_three_readers(&[&manager]).await;
    let home = manager.register("v").await.0;
    let reader = readers.iter().find(|reader| reader.url == home).unwrap();
    let term = manager.term("operator").await;
    let cordon = serde_json::json!({"reader": reader.id, "cordon": "removed", "why": "it goes"});
    let (status, _) =
        manager.order("/cordons", &serde_json::json!({"term": term, "cordons": [cordon]})).await;
    assert_eq!(status, 200);
    assert_ne!(manager.register("v").await.0, home, "at once");
    // The reader continues to send heartbeats, also to a manager that starts now.
    manager.kill();
    let later = Manager::start(&store).await;
    until("the later one knows the readers", async || later.state_of(&reader.id).await.is_some()).await;
    for nth in 0..30 {
        let (status, body) =
            later.post("/register", &serde_json::json!({"videoid": format!("later-{nth}")})).await;
        assert!(status != 200 || body["readerUrl"] != home.as_str(), "{body}");
    }
}

/// Waits until `times` more heartbeats of a reader were answered.
async fn until_answered(reader: &Reader, times: u64) {
    let answers = || reader.told.lock().unwrap().answers;
    let before = answers();
    until("its heartbeats are answered", async || answers() >= before + times).await;
}

/// Starts a reader with 300 viewers of `v`, and another one that is full.
async fn start_crowded_readers(manager: &Manager) -> [Reader; 2] {
    let leaving = Reader::start("reader-1", &[manager]).await;
    manager.knows(1).await;
    assert_eq!(manager.register("v").await.0, leaving.url);
    leaving.watch("v", 300);
    let full = Reader::start("reader-2", &[manager]).await;
    full.watch("w", 1_000);
    until("their viewers are known", async || {
        manager.json("/viewers/v").await["viewers"] == 300
            && manager.json("/viewers/w").await["viewers"] == 1_000
    })
    .await;
    [leaving, full]
}

#[tokio::test]
async fn viewers_of_a_leaving_reader_stay_until_another_has_room_for_them() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let [leaving, _full] = start_crowded_readers(&manager).await;
    leaving.told.lock().unwrap().grace_ms = 60_000;
    leaving.drain();
    until_answered(&leaving, 12).await;
    assert_eq!(manager.state_of("reader-1").await.as_deref(), Some("draining"));
    assert_eq!((leaving.viewers("v"), leaving.hand_over()), (300, vec![]));
    assert_eq!(leaving.told.lock().unwrap().room_elsewhere, Some(0));
    // Viewers who come meanwhile are sent to the reader of the other viewers.
    assert_eq!(manager.resolve("v").await, Some(leaving.url.clone()));
    let place_taker = Reader::start("reader-3", &[&manager]).await;
    leaving.told.lock().unwrap().heir = Some(Arc::clone(&place_taker.told));
    until("they have gone there", async || leaving.viewers("v") == 0).await;
    assert_eq!(place_taker.viewers("v"), 300);
    assert_eq!(manager.resolve("v").await, Some(place_taker.url.clone()));
    assert!(leaving.told.lock().unwrap().room_elsewhere.is_some_and(|room| room > 0));
}

#[tokio::test]
async fn viewers_stay_where_a_video_was_taken_from_while_its_new_reader_is_full() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let [from, full] = start_crowded_readers(&manager).await;
    from.watch("x", 700);
    until("it is known to be full, too", async || manager.json("/viewers/x").await["viewers"] == 700).await;
    // A planner that did not notice that the reader is full orders a move to it.
    let term = manager.term("operator").await;
    let readers = serde_json::json!([{"reader": full.id, "weight": 1}]);
    let moved = serde_json::json!({"videoid": "v", "expected": manager.epoch("v").await, "readers": readers});
    let (status, answer) =
        manager.order("/moves", &serde_json::json!({"term": term, "moves": [moved]})).await;
    assert_eq!(status, 202, "{answer}");
    until("it is in force", async || manager.resolve("v").await.as_ref() == Some(&full.url)).await;
    until_answered(&from, 12).await;
    assert_eq!((from.viewers("v"), from.hand_over()), (300, vec![]));
    // A reader with free capacity is added as soon as it exists, whether or not anybody asks for the video.
    let room = Reader::start("reader-3", &[&manager]).await;
    from.told.lock().unwrap().heir = Some(Arc::clone(&room.told));
    until("they have gone there", async || from.viewers("v") == 0).await;
    // The new reader takes viewers of the full one as well, and the full one may be sent as many viewers of `v` as it
    // has lost.
    let handed = std::mem::take(&mut from.told.lock().unwrap().handed);
    assert_eq!(handed[0].0.to, room.url, "{handed:?}");
    let moved = |(order, held): &(HandOver, u64)| u64::from(order.pace).min(held.saturating_sub(order.keep));
    let to_full: u64 = handed.iter().filter(|(order, _)| order.to == full.url).map(moved).sum();
    let lost = 1_000 - full.viewers("w");
    assert!(to_full <= lost, "{to_full} were sent to a reader that has lost {lost}: {handed:?}");
}

#[tokio::test]
async fn who_asks_for_a_video_whose_reader_is_full_is_named_another() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let [full, other] =
        [Reader::start("reader-1", &[&manager]).await, Reader::start("reader-2", &[&manager]).await];
    manager.knows(2).await;
    let home = manager.register("v").await.0;
    let (full, other) = if home == full.url { (full, other) } else { (other, full) };
    full.watch("v", 1_000);
    until("its viewers are known", async || manager.json("/viewers/v").await["viewers"] == 1_000).await;
    // Viewers without a gateway who were refused at the full reader resolve the video again.
    assert_eq!(manager.resolve("v").await, Some(other.url.clone()));
    let (_, route) = manager.post("/route", &serde_json::json!({"videoid": "v"})).await;
    let takes = |reader: &Reader| {
        let readers = route["readers"].as_array().unwrap();
        readers.iter().find(|it| it["id"] == reader.id.as_str()).map(|it| it["takes"].as_bool().unwrap())
    };
    assert_eq!((takes(&full), takes(&other)), (Some(false), Some(true)));
}
