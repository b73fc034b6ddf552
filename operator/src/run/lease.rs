//! The election of a shard's leader: one process at a time, the holder of the shard's Lease. [`super::spread`] decides
//! which Leases a process tries to hold.
//!
//! Other processes' clocks are never trusted: a holder counts as gone when its Lease has not changed for
//! [`LEASE_LASTS`] on *our* clock. Every write is guarded by the resource version that the decision was based on, so
//! that of two processes that take over one fails. A holder that could not renew for [`RENEW_WITHIN`] stops its work,
//! well before anybody else may begin. Its orders are fenced by the number of transitions, which only grows while the
//! Lease exists.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::OperatorMetrics;
use super::shard::{self, Shard};
use super::spread::{LeaseStep, OwnState, ReplicaCandidates};
use record::{SeenLease, asked_by, holder, release_lease, renew_lease, take_lease, transitions};

pub mod record;

/// The time for which a Lease is held without being renewed.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// The time between two renewals of a Lease by its holder: two of them may fail.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// The time without a successful renewal after which a holder stops its work.
pub const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// The time limit within which the leader's work must stop: together with [`RENEW_WITHIN`] less than [`LEASE_LASTS`].
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// The time limit of one request: two requests fit between two renewals.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a request that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The duration of a watch in seconds: below the 240 s after which load balancers cut idle connections.
const WATCH_SECONDS: u32 = 200;

/// A held Lease, which fences the orders of one period of leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// The Lease's uid: the transitions of another Lease are counted separately.
    pub uid: String,
    /// Number of changes of the Lease's holder.
    pub transitions: i32,
}

/// A candidate for the Lease of a shard.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    shard: Shard,
    /// The candidate's name as a holder of the Lease; no other process ever has the same.
    holder_name: String,
    replica_candidates: Arc<ReplicaCandidates>,
    metrics: OperatorMetrics,
}

/// The reason why this process does not hold a Lease any more.
enum LossReason {
    Stopped,
    HandedOver,
    Overtaken(String),
    NotRenewed,
}

impl Candidate {
    /// Creates the candidates of the process `identity`, one for each of `shards` shards, whose first Lease is
    /// `namespace/name`; and the state that the candidates share.
    pub fn for_shards(
        client: &Client,
        (namespace, name): (&str, &str),
        shards: u32,
        identity: &str,
        metrics: &OperatorMetrics,
    ) -> (Vec<Self>, Arc<ReplicaCandidates>) {
        let me = shard::lease_holder(identity, shards);
        let spread = Arc::new(ReplicaCandidates::new(&me, shards));
        let candidate = |index| {
            let shard = Shard { index, shard_count: shards };
            Self {
                api: Api::namespaced(client.clone(), namespace),
                name: shard.lease_name(name),
                shard,
                holder_name: me.clone(),
                replica_candidates: Arc::clone(&spread),
                metrics: metrics.clone(),
            }
        };
        ((0..shards).map(candidate).collect(), spread)
    }

    /// Returns the shard of this candidate's Lease.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    fn shard_index(&self) -> usize {
        self.shard.index as usize
    }

    /// Runs `work` whenever this process holds the Lease, until `stop` is cancelled. `work` has to end soon after its
    /// token is cancelled, and has ended before the Lease is given up.
    ///
    /// # Errors
    /// Returns an error if the work failed or did not stop in time: then the process must end, because another one may
    /// lead already.
    pub async fn run_while_leading<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        &self,
        stop: CancellationToken,
        work: impl Fn(HeldLease, CancellationToken) -> F,
    ) -> anyhow::Result<()> {
        while let Some((lease, since)) = self.wait_for_lease(&stop).await {
            let uid = lease.metadata.uid.clone().unwrap_or_default();
            let held = HeldLease { uid, transitions: transitions(&lease) };
            tracing::info!(identity = self.holder_name, shard = %self.shard, transitions = held.transitions, "leading");
            self.replica_candidates.note_own_state(self.shard_index(), OwnState::Holding);
            self.metrics.note_leading(self.shard.index, true);
            let lost = stop.child_token();
            let mut working = tokio::spawn(run_work_until_told(lost.clone(), work(held, lost.clone())));
            let mut keeping = pin!(self.keep_renewing(lease, since, &lost));
            let kept = tokio::select! {
                kept = &mut keeping => {
                    lost.cancel();
                    let stopped = timeout(STOP_WITHIN, working).await;
                    stopped.context("the leader's work did not stop in time")?.context("the leader's work broke")??;
                    kept
                }
                ended = &mut working => {
                    ended.context("the leader's work broke")??;
                    keeping.await
                }
            };
            self.metrics.note_leading(self.shard.index, false);
            let (lease, why) = kept;
            match why {
                LossReason::Stopped | LossReason::HandedOver => self.write_release(lease).await,
                LossReason::Overtaken(by) => {
                    tracing::warn!(by, "not leading any more: the Lease is another's");
                }
                LossReason::NotRenewed => {
                    tracing::warn!("not leading any more: the Lease could not be renewed in time");
                }
            }
            self.replica_candidates.note_own_state(self.shard_index(), OwnState::Waiting);
        }
        Ok(())
    }

    /// Returns whether the Lease is still as it was when `held` began; used when another process seems to lead.
    pub async fn still_holds_lease(&self, held: &HeldLease) -> anyhow::Result<bool> {
        let lease =
            timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await.context("no answer in time")??;
        Ok(lease.is_some_and(|lease| {
            let same = lease.metadata.uid.as_deref() == Some(&held.uid);
            same && holder(&lease) == self.holder_name && transitions(&lease) == held.transitions
        }))
    }

    /// Waits until this candidate holds the Lease. Returns the Lease and the time from which it is certainly held;
    /// `None` if `stop` was cancelled.
    async fn wait_for_lease(&self, stop: &CancellationToken) -> Option<(Lease, Instant)> {
        let mut sight = SeenLease::default();
        let mut failing = false;
        loop {
            let tried = tokio::select! {
                () = stop.cancelled() => return None,
                tried = self.wait_and_take_lease(&mut sight) => tried,
            };
            match tried {
                Ok(won) => return Some(won),
                Err(error) if !failing => {
                    tracing::warn!(error = format!("{error:#}"), "the Lease cannot be read or taken");
                    failing = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(RETRY_AFTER) => {}
            }
        }
    }

    /// Reads the Lease, watches it until it can be taken, and takes it.
    async fn wait_and_take_lease(&self, sight: &mut SeenLease) -> anyhow::Result<(Lease, Instant)> {
        self.read_lease(sight).await?;
        loop {
            let written = match self.replica_candidates.next_step(self.shard_index()) {
                LeaseStep::WaitUntil(_) | LeaseStep::HandOver => {
                    self.watch_until_due(sight).await?;
                    continue;
                }
                LeaseStep::Ask => self.request_release(sight).await,
                LeaseStep::Take => match self.take_lease(sight).await {
                    Ok(won) => return Ok(won),
                    Err(error) => {
                        self.replica_candidates.note_own_state(self.shard_index(), OwnState::Waiting);
                        Err(error)
                    }
                },
            };
            match written {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                    self.read_lease(sight).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn read_lease(&self, sight: &mut SeenLease) -> anyhow::Result<()> {
        let found =
            timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await.context("no answer in time")??;
        self.note_lease(sight, found);
        Ok(())
    }

    fn note_lease(&self, sight: &mut SeenLease, found: Option<Lease>) {
        let now = Instant::now();
        sight.note_lease(found, now);
        let lease = sight.lease.as_ref();
        // If the Lease still names this process, from an earlier leadership, it is free for this process alone: no
        // other has its name.
        let is_mine = lease.is_some_and(|(lease, _)| holder(lease) == self.holder_name);
        let free_from = sight.free_from().filter(|_| !is_mine).unwrap_or(now);
        let name = lease.map(|(lease, _)| holder(lease)).filter(|name| !name.is_empty());
        let asked = lease.and_then(|(lease, _)| asked_by(lease));
        self.replica_candidates.note_lease(self.shard_index(), name, free_from, asked);
    }

    /// Requests, by an annotation of the Lease, that the holder gives the Lease up.
    async fn request_release(&self, sight: &mut SeenLease) -> kube::Result<()> {
        let Some((lease, _)) = &sight.lease else { return Ok(()) };
        let mine = record::ask_for_lease(lease.clone(), &self.holder_name);
        let parameters = PostParams::default();
        let written = timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine));
        let lease = written.await.unwrap_or_else(|_| Err(no_answer()))?;
        tracing::info!(shard = %self.shard, holder = holder(&lease), "asked for the Lease: its holder has more");
        self.note_lease(sight, Some(lease));
        self.replica_candidates.note_asked(self.shard_index());
        Ok(())
    }

    async fn take_lease(&self, sight: &SeenLease) -> kube::Result<(Lease, Instant)> {
        let began = Instant::now();
        let parameters = PostParams::default();
        let written = match &sight.lease {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let new = take_lease(Lease { metadata, spec: None }, &self.holder_name, Timestamp::now());
                timeout(REQUEST_TIMEOUT, self.api.create(&parameters, &new)).await
            }
            Some((lease, _)) => {
                let mine = take_lease(lease.clone(), &self.holder_name, Timestamp::now());
                timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine)).await
            }
        };
        written.unwrap_or_else(|_| Err(no_answer())).map(|lease| (lease, began))
    }

    /// Watches the Lease until its candidate has a step to do. A watch that broke silently does no harm: the Lease then
    /// seems not to change, and the guarded write fails.
    async fn watch_until_due(&self, sight: &mut SeenLease) -> anyhow::Result<()> {
        let mut others = self.replica_candidates.changes();
        let version = sight.lease.as_ref().and_then(|(lease, _)| lease.metadata.resource_version.clone());
        let field = format!("metadata.name={}", self.name);
        let parameters = WatchParams::default().fields(&field).timeout(WATCH_SECONDS);
        let LeaseStep::WaitUntil(at) = self.replica_candidates.peek_step(self.shard_index()) else {
            return Ok(());
        };
        let opening = self.api.watch(&parameters, version.as_deref().unwrap_or("0"));
        let Ok(opened) = tokio::time::timeout_at(at, opening).await else { return Ok(()) };
        let mut events = opened?.boxed();
        loop {
            let LeaseStep::WaitUntil(at) = self.replica_candidates.peek_step(self.shard_index()) else {
                return Ok(());
            };
            let event = tokio::select! {
                event = events.next() => event,
                _ = others.changed() => continue,
                () = sleep_until(at) => continue,
            };
            // The API server ends every watch after some minutes.
            let Some(event) = event else {
                sleep(RETRY_AFTER).await;
                return Ok(());
            };
            match event? {
                WatchEvent::Added(lease) | WatchEvent::Modified(lease) => self.note_lease(sight, Some(lease)),
                WatchEvent::Deleted(_) => self.note_lease(sight, None),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => bail!("the watch of the Lease failed: {status}"),
            }
        }
    }

    /// Renews the Lease until no try has succeeded for [`RENEW_WITHIN`], another process holds it, it is handed over,
    /// or `lost` is cancelled. Returns the last Lease and the reason why it was lost.
    async fn keep_renewing(
        &self,
        mut lease: Lease,
        since: Instant,
        lost: &CancellationToken,
    ) -> (Lease, LossReason) {
        let mut good = since;
        let mut next = RENEW_EVERY;
        loop {
            let late = (good + RENEW_WITHIN).saturating_duration_since(Instant::now());
            if late.is_zero() {
                return (lease, LossReason::NotRenewed);
            }
            tokio::select! {
                () = lost.cancelled() => return (lease, LossReason::Stopped),
                () = sleep(next.min(late)) => {}
            }
            let began = Instant::now();
            let late = (good + RENEW_WITHIN).saturating_duration_since(began);
            match timeout(late, self.write_renewal(&lease)).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(Ok(written)) => {
                    (lease, good, next) = (written, began, RENEW_EVERY);
                    self.replica_candidates.note_lease(
                        self.shard_index(),
                        Some(&self.holder_name),
                        began + LEASE_LASTS,
                        asked_by(&lease),
                    );
                    if self.replica_candidates.next_step(self.shard_index()) == LeaseStep::HandOver {
                        return (lease, LossReason::HandedOver);
                    }
                }
                Ok(Err(by)) => return (lease, LossReason::Overtaken(by)),
                Err(error) => {
                    self.metrics.renewals_failed.inc();
                    tracing::debug!(error = format!("{error:#}"), "the Lease was not renewed");
                    next = RETRY_AFTER;
                }
            }
        }
    }

    /// Renews the Lease and returns it; `Ok(Err(…))` with the holder's name if another process holds the Lease.
    async fn write_renewal(&self, lease: &Lease) -> anyhow::Result<Result<Lease, String>> {
        let parameters = PostParams::default();
        let mine = renew_lease(lease.clone(), Timestamp::now());
        let tried = timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine)).await?;
        match tried {
            Ok(written) => return Ok(Ok(written)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        // Somebody wrote the Lease: another holder, or a person who changed a label.
        let found = timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await??;
        let Some(found) = found else { return Ok(Err("nobody: it was deleted".into())) };
        let same = found.metadata.uid == lease.metadata.uid && transitions(&found) == transitions(lease);
        if !same || holder(&found) != self.holder_name {
            return Ok(Err(holder(&found).to_owned()));
        }
        let mine = renew_lease(found, Timestamp::now());
        Ok(Ok(timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine)).await??))
    }

    async fn write_release(&self, lease: Lease) {
        let free = release_lease(lease, Timestamp::now());
        let written =
            timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &PostParams::default(), &free)).await;
        match written.unwrap_or_else(|_| Err(no_answer())) {
            Ok(_) => tracing::info!("the Lease is released"),
            Err(error) => tracing::warn!(%error, "the Lease could not be released: it runs out by itself"),
        }
    }
}

/// Runs the leader's work; returns an error if the work ends before `told` is cancelled, which stops the work.
async fn run_work_until_told(
    told: CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    work.await?;
    anyhow::ensure!(told.is_cancelled(), "the leader's work ended by itself");
    Ok(())
}

fn no_answer() -> kube::Error {
    kube::Error::Service("no answer in time".into())
}

#[cfg(test)]
mod tests;
