//! What of a resource is in force now, where that is not what its spec says at once. Pure.
//!
//! What was in force last stands in the status, for whoever leads next.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::crd::{RankingCluster, RankingClusterStatus, ScalingMode};

/// The resource with the values that are in force: `restartAt` once that moment has come, and the number of readers that
/// there were in `Auto` until somebody says another one.
pub fn of(cluster: &RankingCluster, now: Timestamp) -> RankingCluster {
    let mut cluster = cluster.clone();
    cluster.spec.restart_at = restarted_at(&cluster, now);
    if let Some(readers) = held_readers(&cluster) {
        cluster.spec.readers.replicas = readers;
    }
    cluster
}

/// The restart in force: the latest that has come. One that is taken back, or set to an earlier moment, undoes nothing.
pub fn restarted_at(cluster: &RankingCluster, now: Timestamp) -> Option<Time> {
    let before = cluster.status.as_ref().and_then(|status| status.restarted_at.clone());
    let asked = cluster.spec.restart_at.clone().filter(|at| at.0 <= now);
    [before, asked].into_iter().flatten().max_by_key(|time| time.0)
}

/// When a restart that is asked for is to come.
pub fn restarts_at(cluster: &RankingCluster, now: Timestamp) -> Option<Timestamp> {
    cluster.spec.restart_at.as_ref().map(|time| time.0).filter(|at| *at > now)
}

/// `spec.readers.replicas` where that is not followed, because it is from before the scaler decided: what the status is to
/// say of it.
pub fn unheeded_replicas(cluster: &RankingCluster) -> Option<i32> {
    let replicas = cluster.spec.readers.replicas;
    match cluster.spec.readers.scaling.mode {
        ScalingMode::Auto | ScalingMode::Proposal => Some(replicas),
        ScalingMode::Manual | ScalingMode::DryRun => {
            last(cluster)?.readers.as_ref()?.unheeded_replicas.filter(|unheeded| *unheeded == replicas)
        }
    }
}

/// The readers that stay as they are, outside of `Auto`.
fn held_readers(cluster: &RankingCluster) -> Option<i32> {
    if matches!(cluster.spec.readers.scaling.mode, ScalingMode::Auto | ScalingMode::Proposal) {
        return None;
    }
    unheeded_replicas(cluster)?;
    Some(last(cluster)?.readers.as_ref()?.desired)
}

fn last(cluster: &RankingCluster) -> Option<&RankingClusterStatus> {
    cluster.status.as_ref()
}

#[cfg(test)]
mod tests {
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

    /// The status that is written after a look.
    fn after(cluster: &RankingCluster, desired: i32) -> ReadersStatus {
        let unheeded_replicas = unheeded_replicas(cluster);
        ReadersStatus { desired, unheeded_replicas, ..ReadersStatus::default() }
    }

    fn wanted(cluster: &RankingCluster) -> i32 {
        of(cluster, Timestamp::UNIX_EPOCH).spec.readers.replicas
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
        // Both at once, and from the beginning.
        assert_eq!(wanted(&cluster(ScalingMode::Manual, 4, Some(after(&auto, 7)))), 4);
        assert_eq!(wanted(&cluster(ScalingMode::Manual, 2, None)), 2);
        assert_eq!(wanted(&cluster(ScalingMode::DryRun, 2, Some(after(&auto, 7)))), 7);
    }

    #[test]
    fn a_restart_comes_when_it_is_time_and_once() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut cluster = cluster(ScalingMode::Auto, 2, None);
        let mut look = |asked: Option<i64>, now: i64| {
            cluster.spec.restart_at = asked.map(|seconds| Time(at(seconds)));
            let restarted = restarted_at(&cluster, at(now));
            cluster.status.as_mut().unwrap().restarted_at.clone_from(&restarted);
            (
                restarted.map(|time| time.0.as_second()),
                restarts_at(&cluster, at(now)).map(Timestamp::as_second),
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
