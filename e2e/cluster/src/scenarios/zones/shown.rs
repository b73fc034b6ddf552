//! Zones are shown: in the managers' load, in readers' metrics and in the resource's status, and all three say the same.

use std::collections::BTreeMap;

use serde_json::Value;

use super::READER_LABEL;
use super::near::{CROWD_KINDS, crowd_of_zone};
use super::zoned::{ZONES, ZoneByReader, ZonedGateway, fetch_metrics, readers_in_load};
use crate::audience;
use crate::kube;
use crate::wait::wait_until_some;
use crate::world::{ClusterWorld, SETTLE_TIMEOUT};

/// A reader's viewers who came by a gateway of the reader's zone, and by a gateway of another zone.
type SameAndOther = (u64, u64);

/// Waits until load and metrics agree about each reader's viewers by zone, and have all viewers of the crowds; then until
/// the status sums the readers up by zone. Returns figures.
///
/// Where a viewer of a crowd is, the audience knows as of the viewer's connection only: gateways take viewers to another
/// reader without a word.
pub(super) async fn check_shown_zones(
    world: &ClusterWorld,
    readers: &ZoneByReader,
    gateways: &[ZonedGateway],
) -> anyhow::Result<String> {
    let crowd = crowd_size(world, gateways).await?;
    let look = async || {
        let load = world.manager_load().await?;
        let in_metrics = viewers_in_metrics(world).await?;
        Ok(disagreement(&load, &in_metrics, readers, crowd).map_or(Ok(()), Err))
    };
    wait_until_some("load and metrics show viewers by zone", SETTLE_TIMEOUT, look).await?;
    let look = async || Ok(status_problem(&world.live_cluster().await?, readers).map_or(Ok(()), Err));
    wait_until_some("the status has the readers by zone", SETTLE_TIMEOUT, look).await?;
    let other: u64 = viewers_in_metrics(world).await?.values().map(|viewers| viewers.1).sum();
    Ok(format!("{other} of {crowd} viewers are shown as of other zones"))
}

/// Returns the number of viewers of all crowds.
async fn crowd_size(world: &ClusterWorld, gateways: &[ZonedGateway]) -> anyhow::Result<u64> {
    let mut viewers = 0;
    for gateway in gateways {
        for kind in CROWD_KINDS {
            let readers = audience::crowd_by_reader(world, &crowd_of_zone(kind, gateway)).await?;
            viewers += readers.values().sum::<usize>() as u64;
        }
    }
    Ok(viewers)
}

async fn viewers_in_metrics(world: &ClusterWorld) -> anyhow::Result<BTreeMap<String, SameAndOther>> {
    let mut found = BTreeMap::new();
    for pod in world.pods_of("reader").await? {
        let metrics = fetch_metrics(world, &pod).await?;
        let reader = pod["metadata"]["labels"][READER_LABEL].as_str().unwrap_or_default();
        found.insert(
            reader.to_owned(),
            (viewers_of_zone(&metrics, "same"), viewers_of_zone(&metrics, "other")),
        );
    }
    Ok(found)
}

/// Returns the value of `liverank_reader_viewers_by_zone` with this label; 0 if there is none.
fn viewers_of_zone(metrics: &str, zone: &str) -> u64 {
    let sample = format!("liverank_reader_viewers_by_zone{{zone=\"{zone}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
}

/// Returns the first reader about which load and metrics differ, or how many viewers of the crowds are missing; `None` if
/// all is as expected.
fn disagreement(
    load: &Value,
    in_metrics: &BTreeMap<String, SameAndOther>,
    readers: &ZoneByReader,
    crowd: u64,
) -> Option<String> {
    let (mut same, mut other) = (0, 0);
    for (reader, zone) in readers {
        let Some(state) = readers_in_load(load).find(|state| state["id"] == reader.as_str()) else {
            return Some(format!("the load has no {reader}"));
        };
        let count = |name: &str| state["viewers_by_zone"][name].as_u64().unwrap_or(0);
        let in_load = (count("same"), count("other"));
        let in_metrics = in_metrics.get(reader).copied().unwrap_or_default();
        if state["zone"] != zone.as_str() || in_load != in_metrics {
            let shown = &state["zone"];
            return Some(format!(
                "{reader} is in {zone}; the load says {shown} and {in_load:?}, its metrics say {in_metrics:?}"
            ));
        }
        same += in_load.0;
        other += in_load.1;
    }
    let is_shown = same + other >= crowd && same > 0 && other > 0;
    (!is_shown).then(|| format!("the crowds have {crowd} viewers; {same} and {other} are shown"))
}

/// Returns how the status differs from the readers' zones; `None` if it has them all.
fn status_problem(cluster: &Value, readers: &ZoneByReader) -> Option<String> {
    let shown = cluster["status"]["readers"]["zones"].as_array().cloned().unwrap_or_default();
    let counts: BTreeMap<&str, u64> = shown
        .iter()
        .map(|zone| (kube::text_at(zone, "/name"), zone["readers"].as_u64().unwrap_or(0)))
        .collect();
    let expected =
        BTreeMap::from(ZONES.map(|zone| (zone, readers.values().filter(|it| *it == zone).count() as u64)));
    let other: u64 = shown.iter().filter_map(|zone| zone["otherZoneViewers"].as_u64()).sum();
    (counts != expected || other == 0).then(|| {
        format!("expected are the readers {expected:?} and viewers from other zones; it has {shown:?}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn readers() -> ZoneByReader {
        ["r0", "r1"]
            .into_iter()
            .zip(ZONES)
            .map(|(reader, zone)| (reader.to_owned(), zone.to_owned()))
            .collect()
    }

    #[test]
    fn a_sample_is_found_by_its_zone() {
        let metrics = "liverank_reader_viewers_by_zone{zone=\"same\"} 3\nliverank_reader_viewers_by_zone{zone=\"other\"} 4\n";
        assert_eq!((viewers_of_zone(metrics, "same"), viewers_of_zone(metrics, "other")), (3, 4));
        assert_eq!(viewers_of_zone("liverank_reader_viewers 9\n", "other"), 0);
    }

    #[test]
    fn load_metrics_and_crowds_have_to_agree() {
        let load = json!({"readers": [
            {"id": "r0", "zone": ZONES[0], "viewers_by_zone": {"same": 5, "other": 2}}, {"id": "r1", "zone": ZONES[1]},
        ]});
        let counts = |same, other| BTreeMap::from([("r0".to_owned(), (same, other))]);
        let problem = |in_metrics, crowd| disagreement(&load, &in_metrics, &readers(), crowd);
        assert_eq!(problem(counts(5, 2), 7), None);
        assert!(problem(counts(5, 1), 6).unwrap().contains("r0 is in"), "other metrics");
        assert!(problem(counts(5, 2), 8).unwrap().contains("8 viewers"), "a larger crowd");
        let moved = ZoneByReader::from([("r1".to_owned(), ZONES[0].to_owned())]);
        assert!(disagreement(&load, &counts(5, 2), &moved, 0).is_some(), "another zone");
    }

    #[test]
    fn the_status_has_every_zone_with_its_readers() {
        let zone = |name: &str, readers: u64, other: u64| json!({"name": name, "readers": readers, "otherZoneViewers": other});
        let cluster = |zones: &[Value]| json!({"status": {"readers": {"zones": zones}}});
        let both = [zone(ZONES[0], 1, 7), zone(ZONES[1], 1, 0)];
        assert_eq!(status_problem(&cluster(&both), &readers()), None);
        assert!(status_problem(&cluster(&both[..1]), &readers()).is_some());
        assert!(
            status_problem(&cluster(&[zone(ZONES[0], 1, 0), zone(ZONES[1], 1, 0)]), &readers()).is_some()
        );
    }
}
