//! The state of the simulated system, as the planner's own [`Situation`]; it is kept in the same way for every policy.

use liverank_core::placement::{
    PlacementReader, PlacementVideo, ReaderAvailability, Situation, VideoPart, WHOLE_SHARE,
};
use liverank_core::{Millis, ReaderId, VideoId};

use crate::scenario::Scenario;
use crate::traffic::ViewerChange;

/// The readers and videos of a simulation, with the viewers of each video on each reader.
#[derive(Debug, Clone)]
pub struct World {
    /// The situation as the planner sees it. Dead readers are not in it.
    pub situation: Situation,
    capacity: u64,
}

impl World {
    /// Creates the world at the beginning of a scenario, with all viewers waiting for a reader.
    pub fn new(scenario: &Scenario) -> Self {
        let readers =
            (0..scenario.reader_count).map(|number| new_reader(number, scenario.capacity)).collect();
        let videos = (0..scenario.video_audiences.len())
            .map(|number| PlacementVideo {
                id: VideoId::parse(&scenario.video_name(number)).expect("a scenario's names are ids"),
                epoch: 0,
                changed: Millis::MIN / 2,
                waiting: scenario.video_audiences[number],
                moving: false,
                parts: Vec::new(),
            })
            .collect();
        Self { situation: Situation { now: 0, readers, videos }, capacity: scenario.capacity }
    }

    /// Returns the number of viewers of each reader.
    pub fn reader_loads(&self) -> Vec<u64> {
        let mut loads = vec![0; self.situation.readers.len()];
        for part in self.situation.videos.iter().flat_map(|video| &video.parts) {
            loads[part.reader] += part.viewers;
        }
        loads
    }

    /// Gives a video with all its viewers to one reader. Returns the number of viewers that had to change readers.
    pub fn give_video(&mut self, video: usize, to: usize) -> u64 {
        let video = &mut self.situation.videos[video];
        let stay: u64 = video.parts.iter().filter(|part| part.reader == to).map(|part| part.viewers).sum();
        let moved = video.viewers() - video.waiting - stay;
        video.parts = vec![VideoPart { reader: to, viewers: video.viewers(), share: WHOLE_SHARE }];
        video.waiting = 0;
        moved
    }

    /// Applies the viewers that come and leave. Viewers leave from each reader in proportion to its viewers. Viewers
    /// who come go to the readers that are furthest below their share of the video. Viewers who come to full readers,
    /// or to a video without readers, wait.
    pub fn apply_changes(&mut self, changes: &[ViewerChange]) {
        let mut room: Vec<u64> =
            self.reader_loads().iter().map(|load| self.capacity.saturating_sub(*load)).collect();
        for change in changes {
            self.apply_change(*change, &mut room);
        }
    }

    fn apply_change(&mut self, change: ViewerChange, room: &mut [u64]) {
        let video = &mut self.situation.videos[change.video];
        let mut leave = change.leaving_viewers;
        let mut before = video.viewers();
        for part in &mut video.parts {
            // In proportion to the viewers on each reader, and exact in the sum.
            let gone = (u128::from(part.viewers) * u128::from(leave))
                .checked_div(u128::from(before))
                .unwrap_or(0) as u64;
            before -= part.viewers;
            part.viewers -= gone;
            leave -= gone;
        }
        let gone = leave.min(video.waiting);
        video.waiting -= gone;
        leave -= gone;
        for part in &mut video.parts {
            let gone = leave.min(part.viewers);
            part.viewers -= gone;
            leave -= gone;
        }
        add_viewers(video, change.arriving_viewers, room);
    }

    /// Makes a reader fail: its viewers wait for another. Returns the number of these viewers.
    pub fn fail_reader(&mut self, number: usize) -> u64 {
        let id = reader_name(number);
        let Some(at) = self.situation.readers.iter().position(|reader| reader.id == id) else { return 0 };
        self.situation.readers.remove(at);
        let mut lost = 0;
        for video in &mut self.situation.videos {
            video.parts.retain_mut(|part| {
                let dead = part.reader == at;
                if dead {
                    video.waiting += part.viewers;
                    lost += part.viewers;
                } else if part.reader > at {
                    part.reader -= 1;
                }
                !dead
            });
        }
        lost
    }

    /// Brings back a reader, without viewers. Readers stay in the order of their names.
    pub fn restore_reader(&mut self, number: usize) {
        let back = new_reader(number, self.capacity);
        let Err(at) = self.situation.readers.binary_search_by(|reader| reader.id.cmp(&back.id)) else {
            return;
        };
        self.situation.readers.insert(at, back);
        for part in self.situation.videos.iter_mut().flat_map(|video| &mut video.parts) {
            part.reader += usize::from(part.reader >= at);
        }
    }
}

fn add_viewers(video: &mut PlacementVideo, come: u64, room: &mut [u64]) {
    let shares: u128 = video.parts.iter().map(|part| u128::from(part.share)).sum();
    let all = u128::from(video.viewers() + come);
    let mut left = come;
    let mut enter = |part: &mut VideoPart, wanted: u64| {
        let more = wanted.min(left).min(room[part.reader]);
        part.viewers += more;
        room[part.reader] -= more;
        left -= more;
    };
    for part in &mut video.parts {
        let wanted = (all * u128::from(part.share)).checked_div(shares).unwrap_or(0) as u64;
        enter(part, wanted.saturating_sub(part.viewers));
    }
    // Viewers that rounding left over, and viewers for whom other readers had no room.
    for part in &mut video.parts {
        enter(part, u64::MAX);
    }
    video.waiting += left;
}

/// Returns the name of reader `number`. The names sort like their numbers.
fn reader_name(number: usize) -> ReaderId {
    ReaderId::parse(&format!("reader-{number:03}")).expect("it is short and plain")
}

fn new_reader(number: usize, capacity: u64) -> PlacementReader {
    PlacementReader { id: reader_name(number), capacity, standing: ReaderAvailability::Open }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::scenario::ScenarioName;

    fn world() -> World {
        let mut world = World::new(&Scenario::built_in(ScenarioName::Seed, Duration::ZERO));
        for video in 0..100 {
            world.give_video(video, video % 5);
        }
        world
    }

    #[test]
    fn round_robin_placement_is_what_the_seed_does() {
        assert_eq!(world().reader_loads(), [275, 280, 312, 233, 1400]);
    }

    #[test]
    fn the_dead_leave_their_viewers_waiting_and_come_back_empty() {
        let mut world = world();
        assert_eq!(world.fail_reader(1), 280);
        assert_eq!(world.reader_loads(), [275, 312, 233, 1400]);
        assert_eq!(world.situation.videos.iter().map(|video| video.waiting).sum::<u64>(), 280);
        world.restore_reader(1);
        assert_eq!(world.reader_loads(), [275, 0, 312, 233, 1400]);
        assert_eq!(world.fail_reader(9), 0);
    }

    proptest! {
        #[test]
        fn viewers_are_neither_lost_nor_created(viewers in proptest::collection::vec(0u64..500, 1..5), waiting in 0u64..9, arriving_viewers in 0u64..900, leave in 0u64..900) {
            let mut world = world();
            let video = &mut world.situation.videos[0];
            video.parts = viewers.iter().enumerate().map(|(reader, viewers)| VideoPart { reader, viewers: *viewers, share: WHOLE_SHARE / viewers.max(&1).ilog2().max(1) }).collect();
            video.waiting = waiting;
            let before = video.viewers();
            let leaving_viewers = leave.min(before);
            world.apply_changes(&[ViewerChange { video: 0, arriving_viewers, leaving_viewers }]);
            prop_assert_eq!(world.situation.videos[0].viewers(), before - leaving_viewers + arriving_viewers);
        }
    }
}
