//! The part of a resource that is in force now, if that is not the whole of its spec. Pure.
//!
//! The status contains what was last in force, for the next leader.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::crd::{DeferrableWork, RankingCluster, RankingClusterStatus, RebalanceMode, ScaleIn, ScalingMode};
use crate::maintenance;

/// Returns the resource with the values that are in force: `restartAt` only once that time has come, the number of
/// readers from `Auto` until somebody sets another one, and nothing that waits for a maintenance window.
pub fn resource_in_force(cluster: &RankingCluster, now: Timestamp) -> RankingCluster {
    let mut cluster = cluster.clone();
    cluster.spec.restart_at = restart_in_force(&cluster, now);
    if let Some(readers) = kept_reader_count(&cluster) {
        cluster.spec.readers.replicas = readers;
    }
    let waits = |what| maintenance::must_wait(&cluster.spec.maintenance, what, now);
    let (stays, keeps) = (waits(DeferrableWork::Rebalancing), waits(DeferrableWork::ScaleIn));
    let readers = &mut cluster.spec.readers;
    if stays && readers.rebalance.mode == RebalanceMode::Auto {
        readers.rebalance.mode = RebalanceMode::Paused;
    }
    if keeps {
        readers.scaling.scale_in = ScaleIn::Paused;
    }
    cluster
}

/// Returns the builder revision in force. The newest revision comes into force when the spec changes; if the resource
/// defers operator updates to maintenance windows, it comes into force in the next window instead.
pub fn revision_in_force(cluster: &RankingCluster, newest: u32, now: Timestamp) -> u32 {
    let status = last_status(cluster);
    let maintenance = &cluster.spec.maintenance;
    let windows =
        maintenance.holds.contains(&DeferrableWork::OperatorUpdates) && !maintenance.windows.is_empty();
    let keeps = if windows {
        maintenance::must_wait(maintenance, DeferrableWork::OperatorUpdates, now)
    } else {
        status.is_some_and(|status| status.observed_generation == Some(cluster.generation()))
    };
    let kept = status.and_then(|status| status.builder_revision.as_ref()?.parse().ok());
    // This operator cannot build the revision of a later one.
    kept.filter(|_| keeps).map_or(newest, |kept: u32| kept.min(newest))
}

/// Returns the restart in force: the latest restart whose time has come. A restart that is removed, or set to an
/// earlier time, undoes nothing.
pub fn restart_in_force(cluster: &RankingCluster, now: Timestamp) -> Option<Time> {
    let before = cluster.status.as_ref().and_then(|status| status.restarted_at.clone());
    let asked = cluster.spec.restart_at.clone().filter(|at| at.0 <= now);
    [before, asked].into_iter().flatten().max_by_key(|time| time.0)
}

/// Returns the time of a restart that is set and has not come yet; `None` if there is none.
pub fn scheduled_restart(cluster: &RankingCluster, now: Timestamp) -> Option<Timestamp> {
    cluster.spec.restart_at.as_ref().map(|time| time.0).filter(|at| *at > now)
}

/// Returns the value of `spec.readers.replicas` for the status if it is ignored, because it is from before the scaler
/// decided; `None` if it is followed.
pub fn ignored_replicas(cluster: &RankingCluster) -> Option<i32> {
    let replicas = cluster.spec.readers.replicas;
    match cluster.spec.readers.scaling.mode {
        ScalingMode::Auto | ScalingMode::Proposal => Some(replicas),
        ScalingMode::Manual | ScalingMode::DryRun => {
            last_status(cluster)?.readers.as_ref()?.unheeded_replicas.filter(|unheeded| *unheeded == replicas)
        }
    }
}

/// Returns the number of readers that is kept after a change from `Auto` to another mode; `None` if
/// `spec.readers.replicas` is followed.
fn kept_reader_count(cluster: &RankingCluster) -> Option<i32> {
    if matches!(cluster.spec.readers.scaling.mode, ScalingMode::Auto | ScalingMode::Proposal) {
        return None;
    }
    ignored_replicas(cluster)?;
    Some(last_status(cluster)?.readers.as_ref()?.desired)
}

fn last_status(cluster: &RankingCluster) -> Option<&RankingClusterStatus> {
    cluster.status.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::ReadersStatus;

    fn cluster(mode: ScalingMode, replicas: i32, status: Option<ReadersStatus>) -> RankingCluster {
        let mut cluster: RankingCluster =
            serde_yaml::from_str(include_str!("../../tests/build/clusters/minimal.yaml")).unwrap();
        cluster.spec.readers.scaling.mode = mode;
        cluster.spec.readers.replicas = replicas;
        cluster.status = Some(RankingClusterStatus { readers: status, ..RankingClusterStatus::default() });
        cluster
    }

    /// Returns the status that is written after a look.
    fn after(cluster: &RankingCluster, desired: i32) -> ReadersStatus {
        let unheeded_replicas = ignored_replicas(cluster);
        ReadersStatus { desired, unheeded_replicas, ..ReadersStatus::default() }
    }

    fn wanted(cluster: &RankingCluster) -> i32 {
        resource_in_force(cluster, Timestamp::UNIX_EPOCH).spec.readers.replicas
    }

    #[test]
    fn what_the_scaler_came_to_stays_until_somebody_says_another_number() {
        let auto = cluster(ScalingMode::Auto, 2, None);
        let status = Some(after(&auto, 7));
        let mut manual = cluster(ScalingMode::Manual, 2, status);
        for _ in 0..3 {
            assert_eq!(wanted(&manual), 7, "whoever leads");
            manual.status.as_mut().unwrap().readers = Some(after(&manual, 7));
        }
        manual.spec.readers.replicas = 5;
        assert_eq!(wanted(&manual), 5);
        manual.status.as_mut().unwrap().readers = Some(after(&manual, 5));
        manual.spec.readers.replicas = 2;
        assert_eq!(wanted(&manual), 2, "said now, and not from before");
        // Mode and number are changed at once, or were set from the beginning.
        assert_eq!(wanted(&cluster(ScalingMode::Manual, 4, Some(after(&auto, 7)))), 4);
        assert_eq!(wanted(&cluster(ScalingMode::Manual, 2, None)), 2);
        assert_eq!(wanted(&cluster(ScalingMode::DryRun, 2, Some(after(&auto, 7)))), 7);
    }

    #[test]
    fn what_can_wait_waits_for_a_window_and_what_somebody_says_does_not() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (noon, night) = (at("2026-01-10T12:00:00Z"), at("2026-01-11T02:30:00Z"));
        let mut cluster = cluster(ScalingMode::Auto, 2, None);
        cluster.metadata.generation = Some(5);
        let status = cluster.status.as_mut().unwrap();
        (status.builder_revision, status.observed_generation) = (Some("1".into()), Some(4));
        assert_eq!(revision_in_force(&cluster, 2, noon), 2, "with a change of the spec");
        let window = json!({"windows": [{"from": "02:00", "to": "03:00"}]});
        cluster.spec.maintenance = serde_json::from_value(window).unwrap();
        assert_eq!((revision_in_force(&cluster, 2, noon), revision_in_force(&cluster, 2, night)), (1, 2));
        assert_eq!(revision_in_force(&cluster, 1, night), 1);
        cluster.status.as_mut().unwrap().builder_revision = Some("2".into());
        assert_eq!(revision_in_force(&cluster, 2, noon), 2, "what began in a window is finished");
        cluster.status.as_mut().unwrap().builder_revision = None;
        assert_eq!(revision_in_force(&cluster, 2, noon), 2, "a new one waits for nothing");
        cluster.spec.restart_at = Some(Time(noon));
        cluster.spec.maintenance.holds = vec![DeferrableWork::Rebalancing, DeferrableWork::ScaleIn];
        let in_force = resource_in_force(&cluster, noon).spec;
        assert_eq!(in_force.restart_at, Some(Time(noon)));
        assert_eq!(in_force.readers.rebalance.mode, RebalanceMode::Paused);
        assert_eq!(in_force.readers.scaling.scale_in, ScaleIn::Paused);
        let in_force = resource_in_force(&cluster, night).spec;
        assert_eq!(in_force.readers, cluster.spec.readers);
    }

    #[test]
    fn a_restart_comes_when_it_is_time_and_once() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut cluster = cluster(ScalingMode::Auto, 2, None);
        let mut look = |asked: Option<i64>, now: i64| {
            cluster.spec.restart_at = asked.map(|seconds| Time(at(seconds)));
            let restarted = restart_in_force(&cluster, at(now));
            cluster.status.as_mut().unwrap().restarted_at.clone_from(&restarted);
            (
                restarted.map(|time| time.0.as_second()),
                scheduled_restart(&cluster, at(now)).map(Timestamp::as_second),
            )
        };
        assert_eq!(look(None, 100), (None, None));
        assert_eq!(look(Some(200), 100), (None, Some(200)), "in the future");
        assert_eq!(look(Some(200), 200), (Some(200), None));
        assert_eq!(look(None, 300), (Some(200), None), "taken back: nothing restarts again");
        assert_eq!(look(Some(150), 300), (Some(200), None));
        assert_eq!(look(Some(250), 300), (Some(250), None));
    }
}
