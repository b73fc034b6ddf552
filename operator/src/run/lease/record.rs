//! The content of a Lease, and how a candidate finds out from it whether the holder lives. Nothing here sends requests.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use super::LEASE_LASTS;

/// The annotation by which another replica requests the Lease; its value is that replica's name as a holder.
pub(super) const ASKED_BY_ANNOTATION: &str = "liverank.dev/asked-by";
/// The longest duration that is trusted in another holder's Lease: a typing error must not stop everything for a day.
const MAX_FOREIGN_DURATION: Duration = Duration::from_mins(1);

/// The Lease as a candidate has observed it, with times of the candidate's own clock.
#[derive(Debug, Default)]
pub(super) struct SeenLease {
    pub(super) lease: Option<(Lease, Instant)>,
}

impl SeenLease {
    /// Notes the Lease that was read or written at `now`; `None` if there is none.
    pub(super) fn note_lease(&mut self, lease: Option<Lease>, now: Instant) {
        let since = match (&self.lease, &lease) {
            // Only a new write shows that the holder lives; the same write may be seen several times. A replica that
            // asks for the Lease writes it, too, but leaves its spec as it is.
            (Some((before, since)), Some(after))
                if before.metadata.resource_version == after.metadata.resource_version
                    || before.spec == after.spec =>
            {
                *since
            }
            _ => now,
        };
        self.lease = lease.map(|lease| (lease, since));
    }

    /// Returns the time from which the Lease belongs to nobody if it does not change; `None` if there is no Lease.
    pub(super) fn free_from(&self) -> Option<Instant> {
        let (lease, since) = self.lease.as_ref()?;
        if holder(lease).is_empty() {
            return Some(*since);
        }
        let stated = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let stated = u64::try_from(stated).ok().filter(|it| *it > 0).map_or(LEASE_LASTS, Duration::from_secs);
        Some(*since + stated.min(MAX_FOREIGN_DURATION))
    }
}

/// Returns the holder that a Lease names; empty if it has none.
pub fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

pub(super) fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0)
}

/// Returns the name of the replica that requests the Lease; `None` if there is none.
pub(super) fn asked_by(lease: &Lease) -> Option<&str> {
    lease.metadata.annotations.as_ref()?.get(ASKED_BY_ANNOTATION).map(String::as_str)
}

/// Returns `lease` with `me` as its new holder. The number of transitions grows with every period of leadership, even
/// if the holder is the same as before.
pub(super) fn take_lease(mut lease: Lease, me: &str, now: Timestamp) -> Lease {
    let transitions = transitions(&lease).saturating_add(1);
    if let Some(annotations) = &mut lease.metadata.annotations {
        annotations.remove(ASKED_BY_ANNOTATION);
    }
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

pub(super) fn renew_lease(mut lease: Lease, now: Timestamp) -> Lease {
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
    lease
}

/// Returns `lease` with the request of the replica `me` that the holder gives it up.
pub(super) fn ask_for_lease(mut lease: Lease, me: &str) -> Lease {
    lease.metadata.annotations.get_or_insert_default().insert(ASKED_BY_ANNOTATION.to_owned(), me.to_owned());
    lease
}

/// Returns `lease` without a holder, so that it is free at once; the number of transitions stays.
pub(super) fn release_lease(mut lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = None;
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;

    fn lease(version: &str, holder: &str, transitions: i32, seconds: i32) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: (!holder.is_empty()).then(|| holder.into()),
                lease_duration_seconds: Some(seconds),
                // A clock that is a day ahead must not matter.
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
        let mut sight = SeenLease::default();
        assert_eq!(sight.free_from(), None);
        sight.note_lease(Some(lease("1", "other", 3, 15)), start);
        assert_eq!(sight.free_from(), Some(after(15)));
        sight.note_lease(Some(lease("1", "other", 3, 15)), after(14));
        assert_eq!(sight.free_from(), Some(after(15)), "the same write seen again shows no life");
        sight.note_lease(Some(lease("2", "other", 3, 15)), after(14));
        assert_eq!(sight.free_from(), Some(after(29)));
        sight.note_lease(None, after(16));
        assert_eq!(sight.free_from(), None);
    }

    #[test]
    fn a_released_lease_is_taken_at_once_and_no_lease_holds_for_long() {
        let now = Instant::now();
        let mut sight = SeenLease::default();
        sight.note_lease(Some(release_lease(lease("1", "other", 3, 15), Timestamp::now())), now);
        assert_eq!(sight.free_from(), Some(now));
        sight.note_lease(Some(lease("2", "other", 3, 86_400)), now);
        assert_eq!(sight.free_from(), Some(now + MAX_FOREIGN_DURATION));
        sight.note_lease(Some(lease("3", "other", 3, -1)), now);
        assert_eq!(sight.free_from(), Some(now + LEASE_LASTS));
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

    #[test]
    fn who_asks_shows_no_life_of_the_holder_and_who_takes_has_the_answer() {
        let start = Instant::now();
        let mut sight = SeenLease::default();
        let held = lease("1", "other", 3, 15);
        sight.note_lease(Some(held.clone()), start);
        let mut asked = ask_for_lease(held, "me");
        asked.metadata.resource_version = Some("2".into());
        assert_eq!((asked_by(&asked), holder(&asked)), (Some("me"), "other"));
        sight.note_lease(Some(asked.clone()), start + Duration::from_secs(9));
        assert_eq!(sight.free_from(), Some(start + Duration::from_secs(15)));
        let released = release_lease(asked, Timestamp::now());
        assert_eq!(asked_by(&released), Some("me"), "it is left to who asked");
        assert_eq!(asked_by(&take_lease(released, "me", Timestamp::now())), None);
    }
}
