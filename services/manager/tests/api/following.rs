//! A manager reads all assignments once, follows their changes, and reads all again only if it missed some.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use liverank_adapters::assignment_store::{AssignmentStore, SwapOutcome};
use liverank_core::handover::ReaderShare;
use liverank_core::{ReaderId, VideoId};
use liverank_manager::{Config, Manager, follow};
use liverank_runtime::ServiceContext;

use crate::support::{StoreWithSwitch, until};

async fn assign(store: &StoreWithSwitch, video: &str) {
    let readers = [ReaderShare { reader: ReaderId::parse("r").unwrap(), weight: 1 }];
    let assigned =
        store.assign_video(&VideoId::parse(video).unwrap(), None, &readers, 0, None).await.unwrap();
    assert!(matches!(assigned, SwapOutcome::Stored(_)), "{assigned:?}");
}

/// Time is virtual: it passes while all tasks wait.
#[tokio::test(start_paused = true)]
async fn all_assignments_are_read_again_only_if_changes_were_missed() {
    let store = StoreWithSwitch::new();
    assign(&store, "before").await;
    let shell = ServiceContext::new(Duration::from_secs(1));
    let manager = Manager::new(Config::default(), Arc::clone(&store) as Arc<dyn AssignmentStore>, &shell);
    tokio::spawn(follow::follow_assignments(Arc::clone(&manager)));
    let known = || manager.cluster().assignment_view.len();
    until("what was there is known", async || known() == 1).await;
    for number in 0..20 {
        assign(&store, &format!("video-{number}")).await;
    }
    until("changes are followed", async || known() == 21).await;
    let loads = store.loads.load(Relaxed);
    assert!(loads <= 2, "{loads} at the beginning");
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(store.loads.load(Relaxed), loads, "nothing was missed");

    store.lose_news.store(true, Relaxed);
    assign(&store, "missed").await;
    until("what was missed is known", async || known() == 22).await;
    assert_eq!(store.loads.load(Relaxed), loads + 1);
    store.lose_news.store(false, Relaxed);
    assign(&store, "next").await;
    until("changes are followed again", async || known() == 23).await;
    assert_eq!(store.loads.load(Relaxed), loads + 1);
}

/// No change is lost that happens while a long answer is read, such as that with a million assignments.
#[tokio::test(start_paused = true)]
async fn changes_that_come_while_all_assignments_are_read_are_applied() {
    let store = StoreWithSwitch::new();
    assign(&store, "before").await;
    store.slow_loads.store(true, Relaxed);
    let shell = ServiceContext::new(Duration::from_secs(1));
    let manager = Manager::new(Config::default(), Arc::clone(&store) as Arc<dyn AssignmentStore>, &shell);
    tokio::spawn(follow::follow_assignments(Arc::clone(&manager)));
    until("all are being read", async || store.loads.load(Relaxed) == 1).await;
    // More than a subscription holds.
    for number in 0..1_500 {
        assign(&store, &format!("video-{number}")).await;
    }
    until("all are known", async || manager.cluster().assignment_view.len() == 1_501).await;
    assert!(
        store.loads.load(Relaxed) <= 2,
        "they were read once, or once more because the subscription began"
    );
}

/// A store that breaks off each load is asked less and less often, however many changes come.
#[tokio::test(start_paused = true)]
async fn loads_that_fail_are_spread_and_what_is_known_stays() {
    let store = StoreWithSwitch::new();
    assign(&store, "before").await;
    let shell = ServiceContext::new(Duration::from_secs(1));
    let manager = Manager::new(Config::default(), Arc::clone(&store) as Arc<dyn AssignmentStore>, &shell);
    tokio::spawn(follow::follow_assignments(Arc::clone(&manager)));
    let known = || manager.cluster().assignment_view.len();
    until("what was there is known", async || known() == 1).await;
    store.lose_news.store(true, Relaxed);
    assign(&store, "missed").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.lose_news.store(false, Relaxed);
    store.failing_loads.store(true, Relaxed);
    let loads = store.loads.load(Relaxed);
    for number in 0..600 {
        assign(&store, &format!("video-{number}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let tried = store.loads.load(Relaxed) - loads;
    assert!((5..=12).contains(&tried), "{tried} loads in a minute");
    assert_eq!(known(), 1, "what was known is served");
    store.failing_loads.store(false, Relaxed);
    until("all are known", async || known() == 602).await;
    assert!(store.loads.load(Relaxed) - loads <= tried + 2);
}
