//! Readers that come in the place of evicted ones, and whether they stay.

use super::scene::{actions, memory, scene, settings, words};
use crate::readers::{Rebalance, Scaling, Settings, step};

fn replicas(replicas: u32) -> Settings {
    Settings { replicas, ..settings() }
}

#[test]
fn an_evicted_reader_has_a_stand_in_where_the_others_have_no_room() {
    let evicted = |viewers: &[u64]| {
        let mut seen = scene(replicas(3), viewers);
        seen.readers[2].pod.as_mut().unwrap().terminating = true;
        seen
    };
    // A reader takes 900 of 1,000.
    assert!(words(&evicted(&[750, 750, 300]).first()).is_empty(), "the others have room for 300");
    let (mut seen, mut memory) = (evicted(&[750, 751, 300]), memory());
    let first = step(&seen, &mut memory);
    assert_eq!((words(&first), actions(&first)), (vec!["create x-reader-3".to_owned()], vec!["ScaleUp"]));
    assert!(first.decisions[0].reason.contains("leaves by itself"), "{}", first.decisions[0].reason);
    seen.later(2_000);
    assert_eq!(words(&step(&seen, &mut memory)), ["create x-reader-3"], "until it is seen");
    // It is there and takes viewers; nobody goes, and nobody else comes.
    let mut there = scene(replicas(3), &[750, 751, 200, 100]);
    there.readers[2].pod.as_mut().unwrap().terminating = true;
    there.later(4_000);
    assert!(words(&step(&there, &mut memory)).is_empty());
    // The next pod of the one that was evicted is there: one is too many, the cheapest.
    let mut back = scene(replicas(3), &[750, 751, 0, 300]);
    back.later(60_000);
    assert_eq!(words(&step(&back, &mut memory))[0], "empty x-reader-2 (scale-down)");
    // Nobody knows how many viewers there are.
    let mut unknown = evicted(&[750, 751, 300]);
    unknown.managers.clear();
    assert!(words(&unknown.first()).is_empty());
}

#[test]
fn what_is_there_is_wanted_while_taking_readers_away_is_paused() {
    let paused = |settings: Settings| Settings { scale_in: false, rebalance: Rebalance::Paused, ..settings };
    for settings in [replicas(3), Settings { scaling: Scaling::Auto, ..replicas(3) }] {
        let mut memory = memory();
        let mut evicted = scene(paused(settings.clone()), &[750, 751, 300]);
        evicted.readers[2].pod.as_mut().unwrap().terminating = true;
        assert_eq!(words(&step(&evicted, &mut memory)), ["create x-reader-3"]);
        // The reader that was evicted is back, and the one that came for it is no hurry to anybody.
        let mut back = scene(paused(settings.clone()), &[750, 751, 0, 300]);
        back.later(60_000);
        let outcome = step(&back, &mut memory);
        assert_eq!((words(&outcome), outcome.facts.desired), (Vec::new(), 4), "{settings:?}");
        assert!(outcome.facts.progressing.is_empty(), "{:?}", outcome.facts.progressing);
        // A new leader says the same.
        assert_eq!(back.first().facts.desired, 4);
        // All of them are replaced, one at a time, and as many are there afterwards.
        let mut upgraded = back.clone();
        upgraded.template = "another".to_owned();
        upgraded.later(62_000);
        let outcome = step(&upgraded, &mut memory);
        assert_eq!((words(&outcome)[0].as_str(), outcome.facts.desired), ("create x-reader-4", 4));
    }
    // Where it is not paused any more, the resource's number counts again.
    let mut on = scene(replicas(3), &[750, 751, 0, 300]);
    on.later(60_000);
    assert_eq!(words(&on.first())[0], "empty x-reader-2 (scale-down)");
}
