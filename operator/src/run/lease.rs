//! Who leads: one process at a time, the holder of a Lease.
//!
//! Clocks of others are never believed: a holder is gone when its Lease has not changed for [`LEASE_LASTS`] on *our* clock.
//! Every write is guarded by the resource version of what was decided on, so of two who take over one fails. A holder that
//! could not renew for [`RENEW_WITHIN`] stops its work, well before anybody else may begin; what it had ordered is fenced
//! by the number of transitions, which only ever grows while the Lease exists.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::OperatorMetrics;

/// How long a Lease holds without being renewed.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// How often its holder renews it: two may fail.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A holder that has not renewed for this long stops.
pub const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How long its work may take to stop: with [`RENEW_WITHIN`] less than [`LEASE_LASTS`].
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// How long one request may take: two fit between two renewals.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a request that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest duration believed of another holder's Lease: a slip of the hand must not stop everything for a day.
const MAX_FOREIGN_DURATION: Duration = Duration::from_mins(1);
/// Watches end after this long, in seconds: below the 240 s after which load balancers cut idle connections.
const WATCH_SECONDS: u32 = 200;

/// A Lease that is held: what fences the orders of this time in office.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The Lease's own id: another one counts anew.
    pub uid: String,
    /// How often its holder has changed.
    pub transitions: i32,
}

/// The next action on the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Take,
    /// Somebody holds it: nothing, unless it does not change for this long.
    Wait(Duration),
}

/// What a candidate has seen of the Lease, on its own clock.
#[derive(Debug, Default)]
struct ClusterView {
    lease: Option<(Lease, Instant)>,
}

impl ClusterView {
    fn note_lease(&mut self, lease: Option<Lease>, now: Instant) {
        let since = match (&self.lease, &lease) {
            // Only a new write shows that its holder lives: the same one may come several times.
            (Some((before, since)), Some(after))
                if before.metadata.resource_version == after.metadata.resource_version =>
            {
                *since
            }
            _ => now,
        };
        self.lease = lease.map(|lease| (lease, since));
    }

    fn decide(&self, now: Instant) -> Act {
        let Some((lease, since)) = &self.lease else { return Act::Create };
        if holder(lease).is_empty() {
            return Act::Take;
        }
        let stated = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let stated = u64::try_from(stated).ok().filter(|it| *it > 0).map_or(LEASE_LASTS, Duration::from_secs);
        let left = stated.min(MAX_FOREIGN_DURATION).saturating_sub(now.saturating_duration_since(*since));
        if left.is_zero() { Act::Take } else { Act::Wait(left) }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0)
}

/// `lease` as its new holder `me` writes it: transitions count every time in office, also one after another of the same.
fn take_lease(mut lease: Lease, me: &str, now: Timestamp) -> Lease {
    let transitions = transitions(&lease).saturating_add(1);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(LEASE_LASTS.as_secs() as i32),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

fn renew_lease(mut lease: Lease, now: Timestamp) -> Lease {
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
    lease
}

/// Makes the Lease free at once for the next holder; the count of transitions stays.
fn release_lease(mut lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = None;
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// A candidate for the Lease.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    /// Its name, which no other process ever has.
    pub me: String,
    metrics: OperatorMetrics,
}

/// Why a Lease is not held any more.
enum Lost {
    Asked,
    Overtaken(String),
    Late,
}

impl Candidate {
    /// A candidate `me` for the Lease `namespace/name`.
    pub fn new(client: Client, namespace: &str, name: &str, me: String, metrics: OperatorMetrics) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), me, metrics }
    }

    /// Runs `work` whenever this process holds the Lease, until `stop`; `work` has to end soon when its token is
    /// cancelled, and has ended before the Lease is given up.
    ///
    /// # Errors
    /// Work that failed, or did not stop in time: then the process must end, for another may lead already.
    pub async fn run_while_leading<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        &self,
        stop: CancellationToken,
        work: impl Fn(Held, CancellationToken) -> F,
    ) -> anyhow::Result<()> {
        while let Some((lease, since)) = self.wait_for_lease(&stop).await {
            let uid = lease.metadata.uid.clone().unwrap_or_default();
            let held = Held { uid, transitions: transitions(&lease) };
            tracing::info!(identity = self.me, transitions = held.transitions, "leading");
            self.metrics.leader.set(1);
            let lost = stop.child_token();
            let mut working = tokio::spawn(end_within(lost.clone(), work(held, lost.clone())));
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
            self.metrics.leader.set(0);
            let (lease, why) = kept;
            match why {
                Lost::Asked => self.write_release(lease).await,
                Lost::Overtaken(by) => tracing::warn!(by, "not leading any more: the Lease is another's"),
                Lost::Late => tracing::warn!("not leading any more: the Lease could not be renewed in time"),
            }
        }
        Ok(())
    }

    /// Whether the Lease still is as it was when `held` began: asked when somebody else seems to lead.
    pub async fn is_unchanged(&self, held: &Held) -> anyhow::Result<bool> {
        let lease =
            timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await.context("no answer in time")??;
        Ok(lease.is_some_and(|lease| {
            let same = lease.metadata.uid.as_deref() == Some(&held.uid);
            same && holder(&lease) == self.me && transitions(&lease) == held.transitions
        }))
    }

    /// Waits until the Lease is ours; `None`: asked to stop. With the time that it surely holds from.
    async fn wait_for_lease(&self, stop: &CancellationToken) -> Option<(Lease, Instant)> {
        let mut sight = ClusterView::default();
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
    async fn wait_and_take_lease(&self, sight: &mut ClusterView) -> anyhow::Result<(Lease, Instant)> {
        let found =
            timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await.context("no answer in time")??;
        sight.note_lease(found, Instant::now());
        loop {
            // One that we hold still, from a time in office that ended, is ours alone to take: no other has our name.
            let mine = sight.lease.as_ref().is_some_and(|(lease, _)| holder(lease) == self.me);
            match sight.decide(Instant::now()) {
                Act::Wait(left) if !mine => self.watch_until_free(sight, left).await?,
                _ => match self.take(sight).await {
                    Ok(won) => return Ok(won),
                    Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                        let found = timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await??;
                        sight.note_lease(found, Instant::now());
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    async fn take(&self, sight: &ClusterView) -> kube::Result<(Lease, Instant)> {
        let began = Instant::now();
        let parameters = PostParams::default();
        let written = match &sight.lease {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let new = take_lease(Lease { metadata, spec: None }, &self.me, Timestamp::now());
                timeout(REQUEST_TIMEOUT, self.api.create(&parameters, &new)).await
            }
            Some((lease, _)) => {
                let mine = take_lease(lease.clone(), &self.me, Timestamp::now());
                timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine)).await
            }
        };
        written.unwrap_or_else(|_| Err(no_answer())).map(|lease| (lease, began))
    }

    /// Watches until the Lease may be taken; `left`: when that is if it does not change. A watch that broke without a word
    /// does no harm: the Lease then seems to stand still, and the guarded write fails.
    async fn watch_until_free(&self, sight: &mut ClusterView, left: Duration) -> anyhow::Result<()> {
        let version = sight.lease.as_ref().and_then(|(lease, _)| lease.metadata.resource_version.clone());
        let field = format!("metadata.name={}", self.name);
        let parameters = WatchParams::default().fields(&field).timeout(WATCH_SECONDS);
        let opened = timeout(left, self.api.watch(&parameters, version.as_deref().unwrap_or("0"))).await;
        let Ok(opened) = opened else { return Ok(()) };
        let mut events = opened?.boxed();
        while let Act::Wait(left) = sight.decide(Instant::now()) {
            let Ok(event) = timeout(left, events.next()).await else { return Ok(()) };
            // The API server ends every watch after some minutes.
            let Some(event) = event else {
                sleep(RETRY_AFTER).await;
                return Ok(());
            };
            match event? {
                WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                    sight.note_lease(Some(lease), Instant::now());
                }
                WatchEvent::Deleted(_) => sight.note_lease(None, Instant::now()),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => bail!("the watch of the Lease failed: {status}"),
            }
        }
        Ok(())
    }

    /// Renews the Lease until no try has succeeded for [`RENEW_WITHIN`], another holds it, or `lost` is cancelled. Returns the last Lease and why it was lost.
    async fn keep_renewing(
        &self,
        mut lease: Lease,
        since: Instant,
        lost: &CancellationToken,
    ) -> (Lease, Lost) {
        let mut good = since;
        let mut next = RENEW_EVERY;
        loop {
            let late = (good + RENEW_WITHIN).saturating_duration_since(Instant::now());
            if late.is_zero() {
                return (lease, Lost::Late);
            }
            tokio::select! {
                () = lost.cancelled() => return (lease, Lost::Asked),
                () = sleep(next.min(late)) => {}
            }
            let began = Instant::now();
            let late = (good + RENEW_WITHIN).saturating_duration_since(began);
            match timeout(late, self.write_renewal(&lease)).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(Ok(written)) => (lease, good, next) = (written, began, RENEW_EVERY),
                Ok(Err(by)) => return (lease, Lost::Overtaken(by)),
                Err(error) => {
                    self.metrics.renewals_failed.inc();
                    tracing::debug!(error = format!("{error:#}"), "the Lease was not renewed");
                    next = RETRY_AFTER;
                }
            }
        }
    }

    /// The Lease renewed; `Ok(Err(…))`: who has it instead.
    async fn write_renewal(&self, lease: &Lease) -> anyhow::Result<Result<Lease, String>> {
        let parameters = PostParams::default();
        let mine = renew_lease(lease.clone(), Timestamp::now());
        let tried = timeout(REQUEST_TIMEOUT, self.api.replace(&self.name, &parameters, &mine)).await?;
        match tried {
            Ok(written) => return Ok(Ok(written)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        // Somebody wrote it: another holder, or a hand that changed a label.
        let found = timeout(REQUEST_TIMEOUT, self.api.get_opt(&self.name)).await??;
        let Some(found) = found else { return Ok(Err("nobody: it was deleted".into())) };
        let same = found.metadata.uid == lease.metadata.uid && transitions(&found) == transitions(lease);
        if !same || holder(&found) != self.me {
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

/// Work that may end only when it is told to.
async fn end_within(
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
mod tests {
    use super::*;

    fn lease(version: &str, holder: &str, transitions: i32, seconds: i32) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: (!holder.is_empty()).then(|| holder.into()),
                lease_duration_seconds: Some(seconds),
                // A clock that is a day ahead: nobody may care.
                renew_time: Some(MicroTime(Timestamp::now() + jiff::SignedDuration::from_hours(24))),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_holder_is_gone_when_its_lease_stands_still_on_our_clock() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut sight = ClusterView::default();
        assert_eq!(sight.decide(start), Act::Create);
        sight.note_lease(Some(lease("1", "other", 3, 15)), start);
        assert_eq!(sight.decide(after(10)), Act::Wait(Duration::from_secs(5)));
        sight.note_lease(Some(lease("1", "other", 3, 15)), after(14));
        assert_eq!(sight.decide(after(15)), Act::Take, "the same write seen again shows no life");
        sight.note_lease(Some(lease("2", "other", 3, 15)), after(14));
        assert_eq!(sight.decide(after(15)), Act::Wait(Duration::from_secs(14)));
        sight.note_lease(None, after(16));
        assert_eq!(sight.decide(after(16)), Act::Create);
    }

    #[test]
    fn a_released_lease_is_taken_at_once_and_no_lease_holds_for_long() {
        let now = Instant::now();
        let mut sight = ClusterView::default();
        sight.note_lease(Some(release_lease(lease("1", "other", 3, 15), Timestamp::now())), now);
        assert_eq!(sight.decide(now), Act::Take);
        sight.note_lease(Some(lease("2", "other", 3, 86_400)), now);
        assert_eq!(sight.decide(now), Act::Wait(MAX_FOREIGN_DURATION));
        sight.note_lease(Some(lease("3", "other", 3, -1)), now);
        assert_eq!(sight.decide(now), Act::Wait(LEASE_LASTS));
    }

    #[test]
    fn transitions_only_grow_and_count_changes_of_holder() {
        let now = Timestamp::now();
        let first = take_lease(Lease::default(), "a", now);
        assert_eq!((holder(&first), transitions(&first)), ("a", 1));
        let second = take_lease(release_lease(first, now), "b", now);
        assert_eq!((holder(&second), transitions(&second)), ("b", 2));
        let again = renew_lease(second, now);
        assert_eq!((holder(&again), transitions(&again)), ("b", 2));
        let same = release_lease(again, now);
        assert_eq!(transitions(&take_lease(same, "b", now)), 3, "a time in office that ended is over");
    }
}
