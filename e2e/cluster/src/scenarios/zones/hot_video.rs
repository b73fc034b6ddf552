//! A hot video gets its next reader in another zone, and managers tell gateways the zones of its readers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::zoned::{READERS, SPREAD_TIMEOUT, ZONES, ZoneByReader, fetch_route, readers_of};
use crate::agent::viewer::ConnectMode;
use crate::audience;
use crate::kube;
use crate::wait::wait_until_some;
use crate::world::ClusterWorld;

/// The viewers of the hot video: more than a reader's fair share and the least tolerance of the planner (25 viewers),
/// and so few that one more reader takes all that are too many.
const HOT_VIEWERS: usize = 50;

fn quiet_crowd(nth: usize) -> String {
    format!("zones-{nth}")
}

/// The name of the `nth` quiet video. Each run has its own: a video keeps its readers for an hour.
fn quiet_video(world: &ClusterWorld, nth: usize) -> String {
    format!("zones-{}-{nth}", world.run)
}

/// Makes one of some quiet videos hot, and checks that its readers are in both zones. Returns the time until it had more
/// than one reader, and one of the other videos, which had its only reader for all that time.
pub(super) async fn check_hot_video(
    world: &ClusterWorld,
    readers: &ZoneByReader,
) -> anyhow::Result<(Duration, String)> {
    // A new video goes to the reader with the fewest viewers and videos, so each of these goes to another one.
    for nth in 0..READERS {
        audience::set_crowd(world, &quiet_crowd(nth), &quiet_video(world, nth), 1, ConnectMode::FrontDoor)
            .await?;
        audience::wait_until_complete(world).await?;
    }
    let only_readers = wait_for_only_readers(world).await?;
    let hot = video_that_shows_zones(&only_readers, readers).context("no quiet video has a reader")?;
    let video = quiet_video(world, hot);
    let start = Instant::now();
    audience::set_crowd(world, &quiet_crowd(hot), &video, HOT_VIEWERS, ConnectMode::FrontDoor).await?;
    // The time limit is for the planner, and begins when all viewers are there.
    audience::wait_until_complete(world).await?;
    let look = async || {
        let on = readers_of(&world.manager_load().await?, &video);
        Ok(if on.len() >= 2 { Ok(on) } else { Err(format!("it is on {on:?}")) })
    };
    let what = format!("{video} with {HOT_VIEWERS} viewers gets a second reader");
    let (on, _) = wait_until_some(&what, SPREAD_TIMEOUT, look).await?;
    let zones: BTreeSet<&String> = on.iter().filter_map(|reader| readers.get(reader)).collect();
    ensure!(
        zones.len() == ZONES.len(),
        "the readers of the hot video {video} are {on:?}, all in {zones:?}: expected are readers in both zones; the readers' \
         zones are {readers:?}"
    );
    let took = start.elapsed();
    for nth in 0..READERS {
        audience::set_crowd(world, &quiet_crowd(nth), "", 0, ConnectMode::FrontDoor).await?;
    }
    Ok((took, quiet_video(world, (hot + 1) % READERS)))
}

/// Waits until a manager knows the only reader of each quiet video; returns the readers by the number of the video. Each
/// manager hears of an assignment in its own time.
async fn wait_for_only_readers(world: &ClusterWorld) -> anyhow::Result<Vec<(usize, String)>> {
    let look = async || {
        let load = world.manager_load().await?;
        let on: Vec<Vec<String>> =
            (0..READERS).map(|nth| readers_of(&load, &quiet_video(world, nth))).collect();
        let only = on.iter().enumerate().filter_map(|(nth, on)| match on.as_slice() {
            [reader] => Some((nth, reader.clone())),
            _ => None,
        });
        let only: Vec<(usize, String)> = only.collect();
        Ok(if only.len() == READERS { Ok(only) } else { Err(format!("the videos are on {on:?}")) })
    };
    Ok(wait_until_some("each quiet video has one reader", SPREAD_TIMEOUT, look).await?.0)
}

/// Returns the video whose spread shows whether zones count: the first one that is on a reader of the same zone as the
/// first other reader by name. Of equally empty readers a planner that knows no zones takes that one. If there is no such
/// video, returns the first one of all. Videos have one reader each.
fn video_that_shows_zones(videos: &[(usize, String)], readers: &ZoneByReader) -> Option<usize> {
    let shows = |on: &String| {
        let first_other = readers.iter().find(|(reader, _)| *reader != on);
        first_other.is_some_and(|(_, zone)| readers.get(on) == Some(zone))
    };
    let found = videos.iter().find(|(_, on)| shows(on)).or_else(|| videos.first());
    found.map(|(nth, _)| *nth)
}

/// Checks that managers tell gateways each reader's zone, as the reader reported it: the manager that is asked may have
/// heard of the reader's former pod last.
pub(super) async fn check_told_zones(world: &ClusterWorld, readers: &ZoneByReader) -> anyhow::Result<()> {
    let look = async || {
        let route = fetch_route(world, &quiet_video(world, 0)).await?;
        let told = route["readers"].as_array().cloned().unwrap_or_default();
        let wrong = told.iter().find_map(|reader| {
            let (name, zone) = (kube::text_at(reader, "/id"), kube::text_at(reader, "/zone"));
            let expected = readers.get(name).map_or("no zone, for it has no pod", String::as_str);
            (zone != expected)
                .then(|| format!("a manager says that {name} is in {zone:?}, and its pod is in {expected:?}"))
        });
        Ok(match wrong {
            Some(wrong) => Err(wrong),
            None if told.is_empty() => Err(format!("a manager names no reader: {route}")),
            None => Ok(()),
        })
    };
    wait_until_some("managers tell the readers' zones", SPREAD_TIMEOUT, look).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_zones(zones: &[&str]) -> ZoneByReader {
        zones.iter().enumerate().map(|(nth, zone)| (format!("r{nth}"), (*zone).to_owned())).collect()
    }

    fn on_each_reader() -> Vec<(usize, String)> {
        (0..4).map(|nth| (nth, format!("r{nth}"))).collect()
    }

    #[test]
    fn the_chosen_video_is_in_the_zone_of_the_first_other_reader() {
        assert_eq!(video_that_shows_zones(&on_each_reader(), &in_zones(&["a", "a", "b", "b"])), Some(0));
        assert_eq!(video_that_shows_zones(&on_each_reader(), &in_zones(&["a", "b", "a", "b"])), Some(2));
        assert_eq!(video_that_shows_zones(&on_each_reader(), &in_zones(&["a", "b", "b", "a"])), Some(3));
        assert_eq!(
            video_that_shows_zones(&on_each_reader()[1..2], &in_zones(&["a", "b", "a", "b"])),
            Some(1)
        );
        assert_eq!(video_that_shows_zones(&[], &in_zones(&["a"])), None);
    }
}
