//! Viewers who come back by a gateway are sent to readers of the gateway's zone, while readers of all zones lack viewers of
//! their shares; and nobody is moved for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use super::zoned::{
    SPREAD_TIMEOUT, ZONES, ZoneByReader, ZonedGateway, fetch_metrics, fetch_route, readers_of,
    viewers_by_reader,
};
use crate::agent::WantedCrowd;
use crate::agent::viewer::ConnectMode;
use crate::audience::{self, ARRIVALS_A_SECOND};
use crate::kube;
use crate::wait::wait_until_some;
use crate::world::{CLUSTER_NAME, ClusterWorld, NAMESPACE_NAME, SETTLE_TIMEOUT};

/// The viewers by each gateway with which the crowd's video is spread over the readers: they fit into one reader.
const FIRST_STAYING: usize = 120;
/// The viewers by each gateway that stay, that leave, and that come back. A gateway prefers a reader for at most a
/// fortieth of its viewers there in a second, so it needs some hundreds for the preference to be seen. More than a fifth
/// leave, because a reader may have a tenth more than its share; and fewer come back than left: all readers lack viewers
/// the whole time.
const STAYING: usize = 350;
const LEAVING: usize = 100;
const RETURNING: usize = 24;
/// The arrivals a second by each gateway: of those that stay, of those that leave again (they come beside the others, so
/// that they are at all readers), and of those that come back. The last ones come within 8 s, because what readers lack
/// is forgotten after 10 s.
const STAYING_PACE: usize = 25;
const LEAVING_PACE: usize = 10;
const RETURNING_PACE: usize = 3;
/// The time for which managers know what readers lack. The last viewers have to come within it.
const LACK_KNOWN_FOR: Duration = Duration::from_secs(10);
/// The most times that viewers come back, where they come too slowly.
const RETURNING_TRIES: usize = 3;
/// The least part of those who come back, in percent, that are to be at readers of their gateway's zone. By chance it
/// would be half of them; so many of 48 come once in 250 times.
const LEAST_NEAR_PERCENT: usize = 70;

/// The kinds of crowds, of each of which there is one by each gateway.
pub(super) const CROWD_KINDS: [&str; 3] = ["staying", "leaving", "returning"];

pub(super) fn crowd_of_zone(kind: &str, gateway: &ZonedGateway) -> String {
    format!("zones-{kind}-{}", gateway.zone)
}

/// Sets the size of the crowd `kind` by each gateway, with the arrivals a second by each.
async fn set_crowds(
    world: &ClusterWorld,
    gateways: &[ZonedGateway],
    video: &str,
    kind: &str,
    viewers: usize,
    arrivals: usize,
) -> anyhow::Result<()> {
    for gateway in gateways {
        let crowd = WantedCrowd {
            video: video.to_owned(),
            viewers,
            way: ConnectMode::FrontDoor,
            arrivals,
            gateway: Some(gateway.address),
        };
        audience::put_crowd(world, &crowd_of_zone(kind, gateway), &crowd).await?;
    }
    Ok(())
}

/// Spreads `video` over readers of both zones, lets some of its viewers leave and fewer come back by the same gateways, and
/// checks that most of these are at readers of their gateway's zone, and that nobody was moved for it. Returns figures.
pub(super) async fn check_near_readers(
    world: &ClusterWorld,
    readers: &ZoneByReader,
    gateways: &[ZonedGateway],
    video: &str,
) -> anyhow::Result<String> {
    set_crowds(world, gateways, video, "staying", FIRST_STAYING, ARRIVALS_A_SECOND).await?;
    // The time limit is for the planner, and begins when all viewers are there.
    audience::wait_until_complete(world).await?;
    let look = async || {
        let on = readers_of(&world.manager_load().await?, video);
        let zones: BTreeSet<&String> = on.iter().filter_map(|reader| readers.get(reader)).collect();
        Ok(if zones.len() == ZONES.len() { Ok(()) } else { Err(format!("it is on {on:?}, in {zones:?}")) })
    };
    wait_until_some(&format!("{video} is on readers of both zones"), SPREAD_TIMEOUT, look).await?;
    set_crowds(world, gateways, video, "staying", STAYING, STAYING_PACE).await?;
    set_crowds(world, gateways, video, "leaving", LEAVING, LEAVING_PACE).await?;
    let everybody = (STAYING + LEAVING) * gateways.len();
    wait_until_calm(world, video, everybody).await?;
    // From here on viewers are moved only where a reader was sent more than its share.
    world.change_spec(json!({"readers": {"rebalance": {"mode": "Paused"}}})).await?;
    world.wait_until_ready(NAMESPACE_NAME, CLUSTER_NAME).await?;
    wait_until_calm(world, video, everybody).await?;
    let moved_before = viewers_handed_over(world).await?;
    let by_chance = wait_for_parts(world, video, readers).await?;
    set_crowds(world, gateways, video, "leaving", 0, LEAVING_PACE).await?;
    bring_back_in_time(world, gateways, video, readers).await?;
    let (mut near, mut all, mut told) = (0, 0, Vec::new());
    for gateway in gateways {
        let at = audience::crowd_by_reader(world, &crowd_of_zone("returning", gateway)).await?;
        near += at
            .iter()
            .filter(|(reader, _)| readers.get(*reader).is_some_and(|it| it == gateway.zone))
            .map(|it| it.1)
            .sum::<usize>();
        all += at.values().sum::<usize>();
        told.push(format!("by the gateway in {}: {at:?}", gateway.zone));
    }
    ensure!(
        near * 100 >= all * LEAST_NEAR_PERCENT,
        "of {all} viewers who came back, {near} are at readers of their gateway's zone: expected are {LEAST_NEAR_PERCENT} % or more, \
         and half by chance; {}; the readers' zones are {readers:?}; before, the viewers were in the zones as {by_chance:?}",
        told.join("; ")
    );
    let moved = viewers_handed_over(world).await?.saturating_sub(moved_before);
    ensure!(
        moved == 0,
        "{moved} viewers were moved while others came back: expected is that nobody is moved for a zone"
    );
    Ok(format!(
        "{near} of {all} viewers came back to their gateway's zone (half by chance), and nobody was moved"
    ))
}

/// Lets viewers come back once readers of all zones lack some. What readers lack is forgotten after a while: where the
/// machine brings the viewers back more slowly than that, they leave and come again. The last try counts as it is.
async fn bring_back_in_time(
    world: &ClusterWorld,
    gateways: &[ZonedGateway],
    video: &str,
    readers: &ZoneByReader,
) -> anyhow::Result<()> {
    for tries_left in (0..RETURNING_TRIES).rev() {
        wait_until_lacking(world, video, readers).await?;
        let start = Instant::now();
        set_crowds(world, gateways, video, "returning", RETURNING, RETURNING_PACE).await?;
        audience::wait_until_complete(world).await?;
        if start.elapsed() <= LACK_KNOWN_FOR {
            break;
        }
        if tries_left > 0 {
            set_crowds(world, gateways, video, "returning", 0, RETURNING_PACE).await?;
        }
    }
    Ok(())
}

/// Waits until a manager tells the load; returns the part of a video's viewers that is in each zone.
async fn wait_for_parts(
    world: &ClusterWorld,
    video: &str,
    readers: &ZoneByReader,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let look = async || Ok(Ok(part_of_each_zone(&world.manager_load().await?, video, readers)));
    Ok(wait_until_some("a manager tells the load", SPREAD_TIMEOUT, look).await?.0)
}

/// Waits until all viewers are there, and no viewer is being moved.
async fn wait_until_calm(world: &ClusterWorld, video: &str, viewers: usize) -> anyhow::Result<()> {
    let look = async || {
        let report = audience::report(world).await?;
        let load = world.manager_load().await?;
        let at: BTreeMap<&str, u64> = viewers_by_reader(&load, video).collect();
        let counted: u64 = at.values().sum();
        let is_calm = load["in_flight"] == 0 && counted == viewers as u64 && report.connected == viewers;
        let told = format!(
            "{} of {viewers} viewers are connected, {counted} are reported, {} are to be moved; {at:?}",
            report.connected, load["in_flight"]
        );
        Ok(if is_calm { Ok(()) } else { Err(told) })
    };
    wait_until_some("everybody is there, and nobody is moved", SETTLE_TIMEOUT, look).await.map(|_| ())
}

/// Returns the part of a video's viewers, in percent, that is at readers of each zone.
fn part_of_each_zone(load: &Value, video: &str, readers: &ZoneByReader) -> BTreeMap<String, u64> {
    let mut parts = BTreeMap::new();
    let all: u64 = viewers_by_reader(load, video).map(|it| it.1).sum();
    for (reader, viewers) in viewers_by_reader(load, video) {
        let zone = readers.get(reader).map_or("no zone", String::as_str);
        *parts.entry(zone.to_owned()).or_default() += viewers;
    }
    for part in parts.values_mut() {
        *part = *part * 100 / all.max(1);
    }
    parts
}

/// Waits until readers of each zone are told to lack as many viewers as are to come back to the zone.
async fn wait_until_lacking(world: &ClusterWorld, video: &str, readers: &ZoneByReader) -> anyhow::Result<()> {
    let look = async || {
        let route = fetch_route(world, video).await?;
        let told = route["readers"].as_array().into_iter().flatten();
        let mut lacking = BTreeMap::from(ZONES.map(|zone| (zone, 0)));
        for reader in told {
            let zone = readers.get(kube::text_at(reader, "/id")).map_or("", String::as_str);
            *lacking.entry(zone).or_default() += reader["wanted"].as_u64().unwrap_or(0);
        }
        let enough = ZONES.iter().all(|zone| lacking[zone] >= RETURNING as u64);
        Ok(if enough { Ok(()) } else { Err(format!("they lack {lacking:?}")) })
    };
    let what = format!("readers of each zone lack {RETURNING} of {} viewers who left", LEAVING * ZONES.len());
    wait_until_some(&what, SPREAD_TIMEOUT, look).await.map(|_| ())
}

/// Returns the number of viewers that readers have sent to other readers since they started, by their metrics.
async fn viewers_handed_over(world: &ClusterWorld) -> anyhow::Result<u64> {
    let mut all = 0;
    for pod in world.pods_of("reader").await? {
        all += handed_over(&fetch_metrics(world, &pod).await?);
    }
    Ok(all)
}

/// Returns the sum of the samples of `liverank_reader_handed_over_total`.
fn handed_over(metrics: &str) -> u64 {
    let samples = metrics.lines().filter(|line| line.starts_with("liverank_reader_handed_over_total"));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Removes the viewers of all crowds that came by a gateway of a zone.
pub(super) async fn remove_crowds(world: &ClusterWorld, gateways: &[ZonedGateway]) -> anyhow::Result<()> {
    for kind in CROWD_KINDS {
        set_crowds(world, gateways, "", kind, 0, ARRIVALS_A_SECOND).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_zones(zones: &[&str]) -> ZoneByReader {
        zones.iter().enumerate().map(|(nth, zone)| (format!("r{nth}"), (*zone).to_owned())).collect()
    }

    #[test]
    fn handed_over_viewers_are_summed_over_all_labels() {
        let metrics = "# TYPE liverank_reader_handed_over counter\nliverank_reader_handed_over_total{why=\"a\"} 3\n\
                       liverank_reader_handed_over_total{why=\"b\"} 4\nliverank_reader_messages_total 9\n";
        assert_eq!(handed_over(metrics), 7);
    }

    #[test]
    fn parts_of_zones_are_of_this_video_alone() {
        let load = json!({"readers": [
            {"id": "r0", "videos": [["v", 30], ["w", 500]]}, {"id": "r1", "videos": [["v", 10]]}, {"id": "r2", "videos": []},
        ]});
        let parts = part_of_each_zone(&load, "v", &in_zones(&["a", "b", "b"]));
        assert_eq!(parts, BTreeMap::from([("a".to_owned(), 75), ("b".to_owned(), 25)]));
    }
}
