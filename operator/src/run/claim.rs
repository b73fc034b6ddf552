//! The claim on a cluster: the operator that holds the cluster's Lease, in the cluster's own namespace, manages the
//! cluster.
//!
//! The operator's own Leases ([`super::lease`]) choose among the replicas of one installation. Two installations of one
//! class, for example one for the whole Kubernetes cluster and one for a namespace, do not know each other's Leases;
//! both would roll the same pods in turn. So each cluster has a Lease of its own, which an installation's
//! [shard](Shard) holds, whichever replica leads that shard. An operator that does not hold it writes nothing about the
//! cluster, and gives its managers no orders.
//!
//! While the number of shards changes, replicas with the old and with the new number disagree about the shard of a
//! cluster, and so about the Lease whose holder leads it. The claim keeps two such leaders apart: the new shard takes
//! the claim when the old shard's Lease belongs to nobody or is held for another number of shards. A replica that leads
//! the old shard after that has to write the claim before anything else, and one of the two writes fails.
//!
//! Times in other operators' Leases are not trusted: a Lease that did not change for [`CLAIM_LASTS`] on our own clock
//! belongs to nobody.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use super::lanes::RequestLimit;
use super::lease::{LEASE_LASTS, record};
use super::metrics::OperatorMetrics;
use super::shard::{self, Installation, Shard};
use super::store::ClusterKey;
use crate::build::names;

/// The time for which a claim lasts without being renewed.
pub const CLAIM_LASTS: Duration = Duration::from_mins(3);
/// The time between two renewals of a claim: one write a minute for each cluster.
const RENEW_EVERY: Duration = Duration::from_mins(1);
/// The time of failed renewals after which an operator stops acting. The time is shorter than `CLAIM_LASTS`, after
/// which another operator may begin, by more than one reconcile takes.
const STOP_UNRENEWED_AFTER: Duration = Duration::from_mins(2);
/// The time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of an attempt to take or renew the claim on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimState {
    /// This shard holds the claim.
    Held,
    /// Another installation, whose name is given, holds the claim.
    HeldByInstallation(String),
    /// Another shard of this installation holds the claim, from before the number of shards was changed, and still
    /// works.
    HeldByShard(Shard),
    /// It is not known who holds the claim, because it could not be read or written; with the reason.
    Unknown(String),
}

/// The next action on the Lease of a cluster.
#[derive(Debug, PartialEq, Eq)]
enum LeaseAction {
    /// Write the Lease: it has no holder, its holder is this shard, or its holder has not renewed it.
    Write,
    /// Leave the Lease to its holder, another installation or shard, whose name is given.
    LeaveToHolder(String),
}

/// The claim of this shard on one cluster.
pub struct Claim {
    api: Api<Lease>,
    request_limit: RequestLimit,
    metrics: OperatorMetrics,
    name: String,
    installation: Installation,
    /// The name of this shard of the installation as the holder of a claim.
    claimant: String,
    /// The API for the installation's own Leases.
    leases: Api<Lease>,
    owner: OwnerReference,
    foreign_lease_age: UnchangedSince,
    shard_lease_age: UnchangedSince,
    renewed_at: Option<Instant>,
}

impl Claim {
    /// Creates the claim of a shard of `installation` on the cluster `key`; `owner` is the cluster's resource.
    pub fn new(
        client: Client,
        request_limit: RequestLimit,
        metrics: OperatorMetrics,
        key: &ClusterKey,
        owner: OwnerReference,
        (installation, shard): (&Installation, Shard),
    ) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), &installation.namespace),
            api: Api::namespaced(client, &key.namespace),
            request_limit,
            metrics,
            name: names::claim_lease_name(&key.name),
            claimant: installation.claimant(shard),
            installation: installation.clone(),
            owner,
            foreign_lease_age: UnchangedSince::default(),
            shard_lease_age: UnchangedSince::default(),
            renewed_at: None,
        }
    }

    /// Takes the claim, or renews it if a renewal is due. Returns which operator holds the claim.
    pub async fn take_or_renew(&mut self) -> ClaimState {
        let age = |at: Instant| at.elapsed();
        if self.renewed_at.is_some_and(|at| age(at) < RENEW_EVERY) {
            return ClaimState::Held;
        }
        match self.write_lease().await {
            Ok(ClaimState::Held) => ClaimState::Held,
            Ok(other) => {
                self.renewed_at = None;
                other
            }
            Err(_) if self.renewed_at.is_some_and(|at| age(at) < STOP_UNRENEWED_AFTER) => ClaimState::Held,
            Err(error) => ClaimState::Unknown(error),
        }
    }

    async fn write_lease(&mut self) -> Result<ClaimState, String> {
        let began = Instant::now();
        let found = self.request_limit.run(timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name))).await;
        let found = found.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        if let LeaseAction::LeaveToHolder(holder) = self.decide(found.as_ref(), began) {
            match self.installation.shard_of_claimant(&holder) {
                None => return Ok(ClaimState::HeldByInstallation(holder)),
                Some(shard) if !self.has_no_leader(shard).await => return Ok(ClaimState::HeldByShard(shard)),
                Some(_) => {}
            }
        }
        let mine = self.lease_as_ours(found.clone(), Timestamp::now());
        let parameters = PostParams::default();
        let written = match found {
            None => {
                self.request_limit.run(timeout(REQUEST_TIMEOUT, self.api.create(&parameters, &mine))).await
            }
            Some(_) => {
                self.request_limit
                    .run(timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine)))
                    .await
            }
        };
        self.metrics.count_write("Lease", "claim");
        written.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        // The claim is counted from before it was written.
        self.renewed_at = Some(began);
        Ok(ClaimState::Held)
    }

    /// Returns whether another shard of this installation has no leader, so that nobody works under its claims.
    async fn has_no_leader(&mut self, shard: Shard) -> bool {
        let name = shard.lease_name(&self.installation.lease_name);
        let found = self.request_limit.run(timeout(REQUEST_TIMEOUT, self.leases.get_opt(&name))).await;
        // A Lease that cannot be read may be held, and one that is gone may have been deleted while it was held.
        let Ok(Ok(Some(lease))) = found else { return false };
        let holder = record::holder(&lease);
        if holder.is_empty() || shard::shards_of_holder(holder) != shard.shard_count {
            return true;
        }
        self.shard_lease_age.note_and_age(&lease, Instant::now()) >= LEASE_LASTS
    }

    fn decide(&mut self, found: Option<&Lease>, now: Instant) -> LeaseAction {
        let Some(lease) = found else { return LeaseAction::Write };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder.is_empty() || holder == self.claimant {
            self.foreign_lease_age = UnchangedSince::default();
            return LeaseAction::Write;
        }
        if self.foreign_lease_age.note_and_age(lease, now) >= CLAIM_LASTS {
            LeaseAction::Write
        } else {
            LeaseAction::LeaveToHolder(holder.to_owned())
        }
    }

    /// Returns the Lease with this shard as its holder; the version of the Lease that was found guards the write.
    fn lease_as_ours(&self, found: Option<Lease>, now: Timestamp) -> Lease {
        let before = found.unwrap_or_default();
        let spec = before.spec.unwrap_or_default();
        let is_mine = spec.holder_identity.as_deref() == Some(&self.claimant);
        let took = if is_mine { spec.acquire_time } else { Some(MicroTime(now)) };
        let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(!is_mine));
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                // The owner is replaced, too: otherwise the Lease of a deleted cluster of that name would be deleted
                // with that cluster.
                owner_references: Some(vec![self.owner.clone()]),
                labels: Some(names::pod_selector(&self.owner.name, None)),
                resource_version: before.metadata.resource_version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.claimant.clone()),
                lease_duration_seconds: Some(CLAIM_LASTS.as_secs() as i32),
                acquire_time: took,
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// The version of another holder's Lease, and the time since which that version has not changed, on this process's own
/// clock.
#[derive(Default)]
struct UnchangedSince(Option<(String, Instant)>);

impl UnchangedSince {
    /// Notes the Lease as it is at `now`. Returns the time for which the Lease has not changed.
    fn note_and_age(&mut self, lease: &Lease, now: Instant) -> Duration {
        let id = |value: &Option<String>| value.clone().unwrap_or_default();
        let version = id(&lease.metadata.uid) + "/" + &id(&lease.metadata.resource_version);
        let since = match &self.0 {
            Some((before, since)) if *before == version => *since,
            _ => now,
        };
        self.0 = Some((version, since));
        now.saturating_duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use liverank_runtime::Metrics;

    use super::*;

    fn claim_of_installation(installation: &str) -> Claim {
        // No request is sent.
        let nobody = |_: http::Request<Body>| async {
            Err::<http::Response<Body>, std::io::Error>(std::io::Error::other("nobody"))
        };
        let metrics = OperatorMetrics::new(&Metrics::default());
        let client = Client::new(tower::service_fn(nobody), "ns");
        let owner = OwnerReference { name: "live".into(), ..OwnerReference::default() };
        let lanes = RequestLimit::new(metrics.clone());
        let (namespace, lease_name) = installation.split_once('/').unwrap();
        let installation = Installation { namespace: namespace.into(), lease_name: lease_name.into() };
        let ours = (&installation, Shard::WHOLE);
        Claim::new(client, lanes, metrics, &ClusterKey::new("tv", "live"), owner, ours)
    }

    /// Gives a Lease a new version, as the API server does for each write.
    fn stored(mut lease: Lease, version: u64) -> Lease {
        lease.metadata.resource_version = Some(version.to_string());
        lease
    }

    #[tokio::test]
    async fn one_of_two_installations_has_it_and_the_other_when_it_is_left() {
        let (mut a, mut b) = (claim_of_installation("system/liverank"), claim_of_installation("tv/liverank"));
        let (start, now) = (Instant::now(), Timestamp::UNIX_EPOCH);
        assert_eq!(a.decide(None, start), LeaseAction::Write);
        let mut lease = stored(a.lease_as_ours(None, now), 1);
        // The claim is respected as long as it is renewed.
        for minute in 0..10 {
            let at = start + minute * RENEW_EVERY;
            assert_eq!(b.decide(Some(&lease), at), LeaseAction::LeaveToHolder("system/liverank".into()));
            assert_eq!(a.decide(Some(&lease), at), LeaseAction::Write, "its own");
            lease = stored(a.lease_as_ours(Some(lease), now), u64::from(minute) + 2);
        }
        let left = start + 10 * RENEW_EVERY;
        assert_eq!(b.decide(Some(&lease), left), LeaseAction::LeaveToHolder("system/liverank".into()));
        assert_eq!(
            b.decide(Some(&lease), left + CLAIM_LASTS / 2),
            LeaseAction::LeaveToHolder("system/liverank".into())
        );
        assert_eq!(b.decide(Some(&lease), left + CLAIM_LASTS), LeaseAction::Write);
        lease = stored(b.lease_as_ours(Some(lease), now), 99);
        let spec = lease.spec.clone().unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("tv/liverank"), Some(2)));
        assert_eq!(
            a.decide(Some(&lease), left + CLAIM_LASTS),
            LeaseAction::LeaveToHolder("tv/liverank".into())
        );
    }

    #[tokio::test]
    async fn who_cannot_renew_stops_before_another_may_begin() {
        let mut held = claim_of_installation("system/liverank");
        held.renewed_at = Some(Instant::now().checked_sub(RENEW_EVERY).unwrap());
        assert_eq!(
            held.take_or_renew().await,
            ClaimState::Held,
            "a write that failed may succeed the next time"
        );
        held.renewed_at = Some(Instant::now().checked_sub(STOP_UNRENEWED_AFTER).unwrap());
        assert!(matches!(held.take_or_renew().await, ClaimState::Unknown(_)));
        assert!(STOP_UNRENEWED_AFTER < CLAIM_LASTS);
    }
}
