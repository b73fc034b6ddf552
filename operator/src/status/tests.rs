use super::*;
use crate::readers::ConditionFact;

const MINIMAL_CLUSTER: &str = "
apiVersion: liverank.dev/v1alpha1
kind: RankingCluster
metadata: {name: live, namespace: tv, uid: u-1, generation: 3}
spec:
  image: registry.example.org/liverank:1
  kafka: {bootstrapServers: 'kafka:9092'}
  redis: {urlSecret: {name: redis, key: url}}
  mongodb: {uriSecret: {name: mongodb, key: uri}}
  auth: {enabled: false}
";

fn cluster() -> RankingCluster {
    serde_yaml::from_str(MINIMAL_CLUSTER).unwrap()
}

fn fact(ok: bool, reason: &str) -> ConditionFact {
    ConditionFact { ok, reason: reason.into(), message: format!("about {reason}") }
}

fn facts() -> ReaderFacts {
    ReaderFacts {
        desired: 2,
        ready: 2,
        updated: 2,
        draining: 0,
        viewers: Some(12_345),
        imbalance_percent: Some(7),
        load_as_of: Some(1_000),
        zones: vec![ZoneFacts {
            name: "eu-1a".parse().unwrap(),
            readers: 2,
            viewers: 12_345,
            other_zone_viewers: 678,
        }],
        autoscaling: fact(true, "Steady"),
        degraded: Vec::new(),
        progressing: Vec::new(),
    }
}

fn states() -> Vec<RolloutState> {
    let state = |component| RolloutState {
        component,
        desired: 2,
        ready: 2,
        updated: 2,
        is_rolled_out: true,
        available: true,
        failure: None,
    };
    Component::ROLL_OUT_ORDER.into_iter().map(state).collect()
}

/// A test's changes to a cluster without problems.
pub(super) struct StatusCase {
    pub(super) cluster: RankingCluster,
    pub(super) problems: Vec<FieldProblem>,
    pub(super) states: Vec<RolloutState>,
    pub(super) facts: ReaderFacts,
    pub(super) troubles: Vec<ReportedProblem>,
    pub(super) contested: Vec<String>,
    pub(super) pending: BTreeSet<Component>,
    pub(super) unwritten: bool,
    pub(super) awake: BTreeSet<Component>,
    pub(super) now: i64,
}

impl Default for StatusCase {
    fn default() -> Self {
        let (problems, troubles, contested, pending, unwritten) = Default::default();
        let awake = Component::ROLL_OUT_ORDER.into();
        let (cluster, states, facts, now) = (cluster(), states(), facts(), 100);
        Self { cluster, problems, states, facts, troubles, contested, pending, unwritten, awake, now }
    }
}

impl StatusCase {
    pub(super) fn status(&self, before: &RankingClusterStatus) -> RankingClusterStatus {
        let report = StatusInput {
            cluster: &self.cluster,
            now: Timestamp::from_millisecond(self.now * 1000 + 7).unwrap(),
            identity: "operator-0",
            revision: 1,
            spec_problems: &self.problems,
            rollout_states: &self.states,
            active_reader_count: 2,
            unheeded_replicas: None,
            reader_facts: Some(&self.facts),
            last_decision: None,
            history: &[],
            proposals: &[],
            other_problems: &self.troubles,
            contested_fields: &self.contested,
            components_to_restart: &self.pending,
            has_unwritten_objects: self.unwritten,
            components_with_pods: &self.awake,
        };
        make_status(&report, before)
    }

    fn condition_lines(&self) -> Vec<String> {
        let status = self.status(&RankingClusterStatus::default());
        let said = |it: &Condition| format!("{} {} {}", it.type_, it.status, it.reason);
        status.conditions.iter().map(said).collect()
    }
}

#[test]
fn a_healthy_cluster_is_ready() {
    let given = StatusCase::default();
    assert_eq!(
        given.condition_lines(),
        [
            "Ready True Serving",
            "Reconciling False Done",
            "Degraded False AsExpected",
            "Contested False Alone",
            "Autoscaling True Steady",
            "UpdatePending False UpToDate",
            "Stalled False NotStalled",
        ]
    );
    let status = given.status(&RankingClusterStatus::default());
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|it| it.observed_generation == Some(3)));
    let readers = status.readers.unwrap();
    assert_eq!((readers.viewers, readers.replicas), (Some(12_000), 2));
    assert!(readers.selector.contains("app.kubernetes.io/component=reader"), "{}", readers.selector);
    let zone = ZoneStatus { name: "eu-1a".into(), readers: 2, viewers: 12_000, other_zone_viewers: 670 };
    assert_eq!(readers.zones, [zone]);
}

#[test]
fn too_few_pods_and_missing_components_are_not_ready() {
    let mut given = StatusCase::default();
    given.states[0].available = false;
    given.states[0].is_rolled_out = false;
    assert_eq!(given.condition_lines()[..2], ["Ready False Unavailable", "Reconciling True RollingOut"]);
    given = StatusCase::default();
    given.facts.ready = 1;
    assert_eq!(given.condition_lines()[0], "Ready False Unavailable");
    given = StatusCase::default();
    given.states.pop();
    assert_eq!(given.condition_lines()[0], "Ready False Starting");
}

#[test]
fn lasting_troubles_stall_and_passing_ones_only_degrade() {
    let mut given = StatusCase::default();
    given.troubles.push(ReportedProblem {
        reason: "Unschedulable".into(),
        message: "no node".into(),
        needs_action: false,
        is_failed_write: false,
    });
    assert_eq!(
        (&*given.condition_lines()[2], &*given.condition_lines()[6]),
        ("Degraded True Unschedulable", "Stalled False NotStalled")
    );
    given.states[2].failure = Some(("RolloutFailed", "deadline".into()));
    assert_eq!(
        (&*given.condition_lines()[2], &*given.condition_lines()[6]),
        ("Degraded True Unschedulable", "Stalled True RolloutFailed")
    );
    given = StatusCase::default();
    given.problems.push(FieldProblem { path: "spec.image".into(), message: "name one".into() });
    assert_eq!(
        (&*given.condition_lines()[1], &*given.condition_lines()[6]),
        ("Reconciling False Invalid", "Stalled True Invalid")
    );
    let message = given.status(&RankingClusterStatus::default()).conditions[2].message.clone();
    assert_eq!(message, "spec.image: name one");
    given = StatusCase::default();
    given.facts.degraded.push(fact(true, "UpgradeHalted"));
    assert_eq!(given.condition_lines()[6], "Stalled True UpgradeHalted");
}

#[test]
fn transition_times_change_with_the_status_and_not_with_the_message() {
    let mut given = StatusCase::default();
    let first = given.status(&RankingClusterStatus::default());
    given.now = 200;
    given.facts.load_as_of = Some(99_000);
    let second = given.status(&first);
    assert!(!is_different(&first, &second), "a later look that finds the same writes nothing");
    given.facts.progressing.push(fact(true, "ScalingUp"));
    let third = given.status(&second);
    assert!(is_worth_writing_now(&second, &third));
    let times: Vec<i64> = third.conditions.iter().map(|it| it.last_transition_time.0.as_second()).collect();
    assert_eq!(times, [100, 200, 100, 100, 100, 100, 100]);
    given.facts.progressing[0].reason = "Draining".into();
    let fourth = given.status(&third);
    assert!(is_worth_writing_now(&third, &fourth), "another reason is news");
    assert_eq!(fourth.conditions[1].last_transition_time, third.conditions[1].last_transition_time);
}

#[test]
fn a_new_generation_is_written_at_once_and_viewer_counts_are_not() {
    let mut given = StatusCase::default();
    let first = given.status(&RankingClusterStatus::default());
    given.facts.viewers = Some(20_000);
    let second = given.status(&first);
    assert!(is_different(&first, &second) && !is_worth_writing_now(&first, &second));
    given.cluster.metadata.generation = Some(4);
    assert!(is_worth_writing_now(&second, &given.status(&second)));
}

#[test]
fn the_maintenance_window_condition_says_whether_one_is_open() {
    let mut given = StatusCase::default();
    given.pending.insert(Component::Gateway);
    let window = serde_json::json!({"windows": [{"from": "02:00", "to": "03:00"}]});
    given.cluster.spec.maintenance = serde_json::from_value(window).unwrap();
    let status = given.status(&RankingClusterStatus::default());
    let told = &status.conditions[7];
    assert_eq!((&*told.type_, &*told.status, &*told.reason), ("MaintenanceWindow", "False", "Closed"));
    assert_eq!(told.message, "these wait until 1970-01-01T02:00:00Z: OperatorUpdates");
    assert!(status.conditions[5].message.contains("in the next maintenance window"));
    given.now = 2 * 3_600;
    let status = given.status(&status);
    assert_eq!((&*status.conditions[7].status, &*status.conditions[7].reason), ("True", "Open"));
    assert!(status.conditions[5].message.contains("with the next change"));
}

#[test]
fn a_newer_builder_says_what_it_would_restart() {
    let mut given = StatusCase::default();
    given.pending.extend([Component::Gateway, Component::Manager]);
    let status = given.status(&RankingClusterStatus::default());
    let condition = &status.conditions[5];
    assert_eq!((&*condition.status, &*condition.reason), ("True", "NewerBuilder"));
    assert!(condition.message.ends_with("manager, gateway"), "{}", condition.message);
}

#[test]
fn managers_are_told_the_last_decision_with_its_reasons_and_those_before_it() {
    let decision = Decision {
        id: "ScaleUp-12".into(),
        time: 1_760_000_000_000,
        action: crate::readers::DecisionAction::ScaleUp,
        reason: "5 readers are wanted,\nand 4 are there".into(),
        inputs: crate::readers::DecisionNumbers::default(),
        bound_by: vec!["maxReaders".into()],
        chosen: (0..30).map(|reader| format!("reader-{reader}")).collect(),
        rejected: vec!["ä".repeat(1_000)],
        inputs_hash: "0".into(),
    };
    let past = |number: usize| PastDecision {
        id: format!("Hold-{number}"),
        time: api_time_of_millis(1_000 * number as i64),
        action: "Hold".into(),
        reason: "enough".into(),
    };
    let mut history: Vec<PastDecision> = (0..20).map(past).collect();
    history.push(past_decision(&decision));
    let told = outside_decisions(Some(&decision), &history);
    assert_eq!(told.len(), MAX_OUTSIDE_DECISIONS);
    let ids: Vec<&str> = told.iter().map(|decision| decision.id.as_str()).collect();
    assert_eq!(ids[..3], ["ScaleUp-12", "Hold-19", "Hold-18"], "the latest first, and each once");
    assert_eq!(told[0].reason, "5 readers are wanted, and 4 are there", "managers refuse control characters");
    assert_eq!((told[0].at, told[0].action.as_str()), (1_760_000_000_000, "ScaleUp"));
    assert_eq!((told[0].chosen.len(), &told[0].bound_by[0][..]), (MAX_DECISION_LINES, "maxReaders"));
    assert_eq!(told[0].rejected[0].len(), Decision::MAX_REASON_BYTES, "managers refuse longer texts");
    assert_eq!((told[1].at, told[1].rejected.len()), (19_000, 0));
    // A new leader has decided nothing yet, and tells what the one before did.
    assert_eq!(outside_decisions(None, &history)[0].id, "ScaleUp-12");
    assert!(outside_decisions(None, &[]).is_empty());
}
