//! Tests of readers that replace evicted ones, and whether they stay.

use super::scene::{decided_actions, input_with_viewers, memory, settings, steps_in_words};
use crate::readers::{ReaderSettings, RebalanceSetting, ScalingSetting, decide_round};

fn replicas(replicas: u32) -> ReaderSettings {
    ReaderSettings { replicas, ..settings() }
}

#[test]
fn an_evicted_reader_is_replaced_first_where_others_have_no_room() {
    let evicted = |viewers: &[u64]| {
        let mut seen = input_with_viewers(replicas(3), viewers);
        seen.readers[2].pod.as_mut().unwrap().terminating = true;
        seen
    };
    // A reader is filled up to 900 of 1,000 viewers.
    assert!(
        steps_in_words(&evicted(&[750, 750, 300]).first_round()).is_empty(),
        "the others have room for 300"
    );
    let (mut seen, mut memory) = (evicted(&[750, 751, 300]), memory());
    let first = decide_round(&seen, &mut memory);
    assert_eq!(
        (steps_in_words(&first), decided_actions(&first)),
        (vec!["create x-reader-3".to_owned()], vec!["ScaleUp"])
    );
    assert!(first.decisions[0].reason.contains("leaves by itself"), "{}", first.decisions[0].reason);
    seen.advance(2_000);
    assert_eq!(steps_in_words(&decide_round(&seen, &mut memory)), ["create x-reader-3"], "until it is seen");
    // The stand-in is there and gets viewers; no reader is removed, and no other one is added.
    let mut there = input_with_viewers(replicas(3), &[750, 751, 200, 100]);
    there.readers[2].pod.as_mut().unwrap().terminating = true;
    there.advance(4_000);
    assert!(steps_in_words(&decide_round(&there, &mut memory)).is_empty());
    // The next pod of the evicted reader is there: one reader is surplus, the cheapest one.
    let mut back = input_with_viewers(replicas(3), &[750, 751, 0, 300]);
    back.advance(60_000);
    assert_eq!(steps_in_words(&decide_round(&back, &mut memory))[0], "empty x-reader-2 (scale-down)");
    // The number of viewers is unknown.
    let mut unknown = evicted(&[750, 751, 300]);
    unknown.managers.clear();
    assert!(steps_in_words(&unknown.first_round()).is_empty());
}

#[test]
fn what_is_there_is_wanted_while_taking_readers_away_is_paused() {
    let paused = |settings: ReaderSettings| ReaderSettings {
        scale_in: false,
        rebalance: RebalanceSetting::Paused,
        ..settings
    };
    for settings in [replicas(3), ReaderSettings { scaling: ScalingSetting::Auto, ..replicas(3) }] {
        let mut memory = memory();
        let mut evicted = input_with_viewers(paused(settings.clone()), &[750, 751, 300]);
        evicted.readers[2].pod.as_mut().unwrap().terminating = true;
        assert_eq!(steps_in_words(&decide_round(&evicted, &mut memory)), ["create x-reader-3"]);
        // The evicted reader is back, and the stand-in is not removed.
        let mut back = input_with_viewers(paused(settings.clone()), &[750, 751, 0, 300]);
        back.advance(60_000);
        let outcome = decide_round(&back, &mut memory);
        assert_eq!((steps_in_words(&outcome), outcome.facts.desired), (Vec::new(), 4), "{settings:?}");
        assert!(outcome.facts.progressing.is_empty(), "{:?}", outcome.facts.progressing);
        // A new leader comes to the same result.
        assert_eq!(back.first_round().facts.desired, 4);
        // All readers are replaced, one at a time, and their number is the same afterwards.
        let mut upgraded = back.clone();
        upgraded.template = "another".to_owned();
        upgraded.advance(62_000);
        let outcome = decide_round(&upgraded, &mut memory);
        assert_eq!((steps_in_words(&outcome)[0].as_str(), outcome.facts.desired), ("create x-reader-4", 4));
    }
    // If scaling in is not paused any more, the resource's number counts again.
    let mut on = input_with_viewers(replicas(3), &[750, 751, 0, 300]);
    on.advance(60_000);
    assert_eq!(steps_in_words(&on.first_round())[0], "empty x-reader-2 (scale-down)");
}
