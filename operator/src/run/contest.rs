//! Detects other writers of the operator's objects. Pure: time is an argument.
//!
//! A change by hand is repaired at once. If an object is changed again as soon as it is repaired, it has another
//! writer: somebody's autoscaler, an admission webhook, another operator. Then each repair waits longer than the one
//! before, and the status names the field and its other writers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::cache::{FIELD_MANAGER, HANDOVER_FIELD_MANAGER};

/// Number of repairs of one object that are made without a pause: somebody may try something by hand.
const REPAIRS_WITHOUT_PAUSE: u32 = 3;
/// The pause before the first repair that waits, doubled by each further repair up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two repairs: a contest costs the API server one write in this time, and pods are rolled no
/// more often.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The time, in addition to twice its pause, for which a repair has to last to end the contest.
const FIGHT_OVER_AFTER: Duration = Duration::from_mins(1);
/// Maximal number of other writers that are named.
const MAX_WRITERS_NAMED: usize = 3;

/// The repairs that were made to one object.
#[derive(Debug, Clone)]
struct ObjectRepairs {
    repairs: u32,
    last_repair: Instant,
    /// The contested field and its other writers, in words.
    description: String,
}

impl ObjectRepairs {
    /// Returns the time for which the next repair has to wait.
    fn pause_before_repair(&self) -> Duration {
        match self.repairs.checked_sub(REPAIRS_WITHOUT_PAUSE) {
            None => Duration::ZERO,
            Some(more) => liverank_core::backoff::wait_after_failures(more, FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    fn is_fight_over(&self, now: Instant) -> bool {
        now >= self.fight_over_at()
    }

    fn fight_over_at(&self) -> Instant {
        self.last_repair + 2 * self.pause_before_repair() + FIGHT_OVER_AFTER
    }
}

/// The repairs of all objects of one cluster.
#[derive(Debug)]
pub struct RepairHistory<N>(HashMap<N, ObjectRepairs>);

impl<N> Default for RepairHistory<N> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<N: Ord + Clone + std::hash::Hash> RepairHistory<N> {
    /// Returns the time until which a repair of this object has to wait; `None` if it may be made now.
    pub fn repair_waits_until(&self, name: &N, now: Instant) -> Option<Instant> {
        let contest = self.0.get(name)?;
        Some(contest.last_repair + contest.pause_before_repair()).filter(|until| now < *until)
    }

    /// Returns whether the object was repaired so often that its other writers should be looked up.
    pub fn is_suspicious(&self, name: &N) -> bool {
        self.0.get(name).is_some_and(|contest| contest.repairs + 1 >= REPAIRS_WITHOUT_PAUSE)
    }

    /// Notes a repair of an object; `about` describes the field and its other writers.
    pub fn note_repair(&mut self, name: &N, about: String, now: Instant) {
        self.0.retain(|_, contest| !contest.is_fight_over(now));
        let contest = self.0.entry(name.clone()).or_insert(ObjectRepairs {
            repairs: 0,
            last_repair: now,
            description: String::new(),
        });
        contest.repairs += 1;
        contest.last_repair = now;
        contest.description = about;
    }

    /// Describes the contested fields, in words that stay the same as long as they are contested.
    pub fn describe_contested(&self, now: Instant) -> Vec<String> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .filter(|(_, it)| it.repairs > REPAIRS_WITHOUT_PAUSE && !it.is_fight_over(now))
            .collect();
        all.sort_by_key(|(name, _)| (*name).clone());
        all.into_iter().map(|(_, contest)| contest.description.clone()).collect()
    }

    /// Returns the time at which the next waiting repair is due, or a contest ends; `None` if there is neither.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let times =
            self.0.values().flat_map(|it| [it.last_repair + it.pause_before_repair(), it.fight_over_at()]);
        times.filter(|at| *at > now).min()
    }
}

/// Returns the other owners of the field at `path` (`spec.template.spec.containers.0.image`) by `managedFields`, at
/// most `MAX_WRITERS_NAMED`. List items are identified by their keys there, so that a number in `path` matches any
/// item.
pub fn other_writers(managed: &[ManagedFieldsEntry], path: &str) -> Vec<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let mut names: Vec<String> = managed
        .iter()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns_path(&fields.0, &parts)))
        .filter_map(|entry| entry.manager.clone())
        .filter(|name| name != FIELD_MANAGER && name != HANDOVER_FIELD_MANAGER)
        .collect();
    names.sort();
    names.dedup();
    names.truncate(MAX_WRITERS_NAMED);
    names
}

fn owns_path(fields: &Value, parts: &[&str]) -> bool {
    let Some(fields) = fields.as_object() else { return false };
    let Some(part) = parts.first() else { return true };
    if part.parse::<usize>().is_ok() {
        let items = fields.iter().filter(|(key, _)| key.starts_with("k:") || key.starts_with("v:"));
        return items.into_iter().any(|(_, inside)| owns_path(inside, &parts[1..]));
    }
    // Keys of annotations and labels contain dots.
    (1..=parts.len()).any(|length| {
        let name = format!("f:{}", parts[..length].join("."));
        let Some(inside) = fields.get(&name) else { return false };
        let is_leaf = inside.as_object().is_none_or(serde_json::Map::is_empty);
        is_leaf || owns_path(inside, &parts[length..])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, fields: &Value) -> ManagedFieldsEntry {
        serde_json::from_value(json!({"manager": manager, "operation": "Update", "fieldsV1": fields}))
            .unwrap()
    }

    #[test]
    fn whose_field_it_is_stands_in_managed_fields() {
        let template = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"liverank\"}": {"f:image": {}}}}}}});
        let managed = [
            entry("kube-controller-manager", &json!({"f:spec": {"f:replicas": {}}, "f:status": {}})),
            entry("keda", &json!({"f:spec": {"f:replicas": {}}})),
            entry("kubectl-edit", &template),
            entry("tagger", &json!({"f:metadata": {"f:annotations": {"f:example.org/a": {}}}})),
            entry(FIELD_MANAGER, &json!({"f:spec": {"f:replicas": {}}})),
        ];
        assert_eq!(other_writers(&managed, "spec.replicas"), ["keda", "kube-controller-manager"]);
        assert_eq!(other_writers(&managed, "spec.template.spec.containers.0.image"), ["kubectl-edit"]);
        assert_eq!(other_writers(&managed, "metadata.annotations.example.org/a"), ["tagger"]);
        assert!(other_writers(&managed, "spec.paused").is_empty());
    }

    #[test]
    fn a_hand_is_answered_at_once_and_a_fight_is_told_and_over() {
        let (mut contests, start) = (RepairHistory::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..REPAIRS_WITHOUT_PAUSE {
            assert_eq!(contests.repair_waits_until(&"d", start), None);
            contests.note_repair(&"d", "Deployment d: spec.replicas".into(), start);
            assert!(contests.describe_contested(start).is_empty());
        }
        assert_eq!(contests.repair_waits_until(&"d", start), Some(at(1)));
        assert_eq!(contests.repair_waits_until(&"other", start), None, "each object for itself");
        contests.note_repair(&"d", "Deployment d: spec.replicas".into(), at(1));
        assert_eq!(contests.describe_contested(at(1)), ["Deployment d: spec.replicas"]);
        assert_eq!(contests.repair_waits_until(&"d", at(1)), Some(at(3)));
        // Nobody changes the object any more.
        assert!(!contests.describe_contested(at(60)).is_empty());
        assert!(contests.describe_contested(at(66)).is_empty());
        contests.note_repair(&"d", "again".into(), at(100));
        assert_eq!(contests.repair_waits_until(&"d", at(100)), None, "what is over is forgotten");
    }

    proptest! {
        /// However fast somebody writes, an hour of it costs a few dozen repairs, and it is reported all the time.
        #[test]
        fn an_endless_fight_costs_little_and_is_not_silent(answer_ms in 10_u64..20_000) {
            let (mut contests, start) = (RepairHistory::default(), Instant::now());
            let (mut now, mut repairs) = (start, 0);
            while now < start + Duration::from_hours(1) {
                if contests.repair_waits_until(&0, now).is_none() {
                    contests.note_repair(&0, "about".into(), now);
                    repairs += 1;
                }
                if repairs > REPAIRS_WITHOUT_PAUSE {
                    prop_assert!(!contests.describe_contested(now).is_empty());
                }
                let next = contests.repair_waits_until(&0, now);
                now = next.unwrap_or(now).max(now + Duration::from_millis(answer_ms));
            }
            prop_assert!(repairs < 30, "{repairs} repairs");
        }
    }
}
